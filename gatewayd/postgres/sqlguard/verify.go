package sqlguard

import (
	"fmt"
	"reflect"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// verify parses the rewritten text and compares it with what was intended: as
// many statements of the same kinds, every relation qualified or a name that
// was understood to be bare, and no masked relation but inside the generated
// sub-selects or where it is written to.
func (a *analysis) verify(tree *pg.ParseResult, rewritten string, edits []edit) error {
	if reason := prescan(rewritten); reason != "" {
		return fmt.Errorf("the masks make the text too deep: %s", reason)
	}
	again, err := outlines(rewritten)
	if err != nil {
		return fmt.Errorf("the result does not parse (%s)", parseErrorText(err))
	}
	if len(again) != len(tree.Stmts) {
		return fmt.Errorf("the result has %d statements instead of %d", len(again), len(tree.Stmts))
	}
	generated := generatedRanges(edits)
	splices := make(map[int32]bool) // by place: the tree repeats what stands on the right of (a, b) = (select …)
	for i, is := range again {
		was := inner(tree.Stmts[i].Stmt)
		show, ok := was.(*pg.VariableShowStmt)
		if all := ok && show.Name == "all"; !all && (is.kind == nil || is.kind != reflect.TypeOf(was)) {
			return fmt.Errorf("statement %d changed its kind", i+1)
		}
		for _, r := range is.relations {
			inside, at := a.origin(int(r.Location), generated, edits)
			if inside {
				splices[r.Location] = true
				continue
			}
			if err := a.verifyRelation(r, at); err != nil {
				return err
			}
		}
	}
	want := 0
	for _, e := range edits {
		want += e.reads
	}
	if len(splices) != want {
		return fmt.Errorf("%d reads of masked relations were written and %d arrived", want, len(splices))
	}
	return nil
}

// origin says whether a place of the result is inside a generated sub-select, else where it was in the input.
func (a *analysis) origin(at int, generated []token, edits []edit) (inside bool, was int) {
	shift := 0
	for i, g := range generated {
		if at < g.start {
			break
		}
		if at < g.end && at >= g.start && g.start != g.end {
			if edits[i].reads > 0 {
				return true, 0
			}
			return false, edits[i].start
		}
		shift += len(edits[i].text) - (edits[i].end - edits[i].start)
	}
	return false, at - shift
}

func (a *analysis) verifyRelation(r *pg.RangeVar, at int) error {
	switch {
	case r.Schemaname == "" && a.bare[at]:
		return nil
	case r.Schemaname == "":
		return fmt.Errorf("relation %q is left without a schema", r.Relname)
	case a.kept[at]:
		return nil
	}
	k := key(r.Schemaname, r.Relname)
	if a.g.masked[k] != nil || a.g.blocked[k] != "" && !a.kept[at] {
		return fmt.Errorf("relation %s.%s would be read without its masks", r.Schemaname, r.Relname)
	}
	return nil
}
