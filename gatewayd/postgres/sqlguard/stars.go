package sqlguard

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// selectLevel is one SELECT and the relations of its own FROM.
type selectLevel struct {
	node *pg.SelectStmt
	uses []*use
}

// usesOf are the uses of the relations that a FROM clause itself names.
func (f *facts) usesOf(from []*pg.Node) []*use {
	var uses []*use
	for _, item := range from {
		descend(inner(item), func(m any) bool {
			switch m := m.(type) {
			case *pg.RangeVar:
				for _, u := range f.uses {
					if u.start == int(m.Location) {
						uses = append(uses, u)
					}
				}
			case *pg.SelectStmt, *pg.SubLink:
				return false
			}
			return true
		})
	}
	return uses
}

// systemColumns adds to the sub-selects of masked tables the system columns
// that the statement names. A star would show them as ordinary columns, so the
// stars that would are written out; where that cannot be done they stay away.
func (a *analysis) systemColumns() {
	for _, level := range a.facts.levels {
		wanted := false
		for _, u := range level.uses {
			if u.replaced && u.masked.columnwise() && strings.Contains("rpm", u.masked.rel.Kind) {
				u.system = a.systemColumnsOf(u, level)
				wanted = wanted || len(u.system) > 0
			}
		}
		if wanted && !a.writeStarsOut(level) {
			for _, u := range level.uses {
				u.system = nil
			}
		}
	}
}

// systemColumnsOf lists the system columns of a masked table that the statement names.
func (a *analysis) systemColumnsOf(u *use, level *selectLevel) []string {
	f := a.facts
	if f.natural || f.aliasColumns {
		return nil
	}
	own := make(map[int]bool) // stars of this SELECT's list
	for _, item := range level.node.TargetList {
		if v := item.GetResTarget().GetVal(); isStar(v) {
			own[int(v.GetColumnRef().GetLocation())] = true
		}
	}
	found := make(map[string]bool)
	for _, c := range f.columns {
		switch {
		case c.last() == u.alias, c.last() == "" && c.qualifier() == u.alias && !own[c.location]:
			return nil // the whole row
		case systemColumns[c.last()] && (c.qualifier() == "" || c.qualifier() == u.alias) && u.rel.Column(c.last()) == nil:
			found[c.last()] = true
		}
	}
	return sortedKeys(found)
}

// writeStarsOut replaces the stars of a SELECT's list that reach a relation with
// system columns. It reports false, and changes nothing, when it cannot.
func (a *analysis) writeStarsOut(level *selectLevel) bool {
	var edits []edit
	for _, item := range level.node.TargetList {
		v := item.GetResTarget().GetVal()
		if !isStar(v) {
			continue
		}
		ref := v.GetColumnRef()
		names := stringsOf(ref.Fields)
		start, end, ok := a.starPlace(int(ref.Location), len(names))
		if !ok {
			return false
		}
		list, changed, ok := level.listFor(names)
		if !ok {
			return false
		}
		if changed {
			edits = append(edits, edit{start: start, end: end, text: list})
		}
	}
	for _, e := range edits {
		a.facts.writtenOut[e.start] = true
	}
	a.edits = append(a.edits, edits...)
	return true
}

// starPlace finds a star of n parts: *, c.*, app.customers.*.
func (a *analysis) starPlace(at, n int) (start, end int, ok bool) {
	if at < 0 {
		return 0, 0, false
	}
	l := lexer{s: a.text, at: at}
	if n > 1 {
		if end, ok = nameEnd(a.text, at, n-1); !ok {
			return 0, 0, false
		}
		l.at = end
		if t, more := l.next(); !more || t.kind != tokDot {
			return 0, 0, false
		}
	}
	t, more := l.next()
	if !more || a.text[t.start:t.end] != "*" || n == 1 && t.start != at {
		return 0, 0, false
	}
	return at, t.end, true
}

// listFor is what a star of a SELECT's list stands for, with the columns of
// relations that have system columns named one by one.
func (level *selectLevel) listFor(names []string) (list string, changed, ok bool) {
	items, ok := fromAliases(level.node.FromClause)
	if !ok {
		return "", false, false
	}
	if len(names) > 1 {
		items = []string{names[len(names)-2]}
	}
	var parts []string
	seen := make(map[string]bool)
	for _, alias := range items {
		if seen[alias] {
			return "", false, false
		}
		seen[alias] = true
		i := slices.IndexFunc(level.uses, func(u *use) bool { return u.alias == alias && len(u.system) > 0 })
		if i < 0 {
			parts = append(parts, quoteIdent(alias)+".*")
			continue
		}
		changed = true
		parts = append(parts, columnList(level.uses[i].rel, alias)...)
	}
	return strings.Join(parts, ", "), changed, true
}

// columnList names every column of a relation.
func columnList(rel *Relation, alias string) []string {
	parts := make([]string, len(rel.Columns))
	for i, col := range rel.Columns {
		parts[i] = quoteIdent(alias) + "." + quoteIdent(col.Name)
	}
	return parts
}

// fromAliases lists the names of a FROM clause's items in the order that a star
// shows them; ok is false when an item has no name or joins merge columns.
func fromAliases(list []*pg.Node) (aliases []string, ok bool) {
	for _, n := range list {
		switch m := inner(n).(type) {
		case *pg.RangeVar:
			aliases = append(aliases, aliasOf(m))
		case *pg.RangeTableSample:
			more, ok := fromAliases([]*pg.Node{m.Relation})
			if !ok {
				return nil, false
			}
			aliases = append(aliases, more...)
		case *pg.RangeSubselect:
			if m.Alias == nil {
				return nil, false
			}
			aliases = append(aliases, m.Alias.Aliasname)
		case *pg.RangeFunction:
			if m.Alias == nil {
				return nil, false
			}
			aliases = append(aliases, m.Alias.Aliasname)
		case *pg.JoinExpr:
			if m.IsNatural || len(m.UsingClause) > 0 || m.Alias != nil {
				return nil, false
			}
			more, ok := fromAliases([]*pg.Node{m.Larg, m.Rarg})
			if !ok {
				return nil, false
			}
			aliases = append(aliases, more...)
		default:
			return nil, false
		}
	}
	return aliases, true
}
