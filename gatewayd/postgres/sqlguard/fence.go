package sqlguard

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// Others may change the schema between the look at the catalog from which the
// guard decides and the moment at which the server reads a statement. Columns of
// masked relations are bound by position, so that a rename moves no mask. What that
// does not catch (a table or view in the place of another, a column dropped and one
// added) is caught in one of two ways:
//
//   - The description of the answer, which comes before its first row, names tables
//     and columns by number. Where the statement shows the last of the columns that it
//     reads as it is, this proves all of them, and costs the server nothing: Origins.
//   - Everything else carries a fence: a condition in WHERE that is true, or an
//     error, never false. It holds for the tables that the server has locked by the
//     time it looks, so nothing can change behind it.
//
// A fence asks the system caches, since a snapshot may be older than what the
// server reads a statement with. Only what a view means has no such question: its
// rule is read from the catalog, and refused where the snapshot is not new.

// The texts by which the error of a fence is known.
const (
	changedMark  = "sallyport_schema_changed"
	snapshotMark = "sallyport_old_snapshot"
)

// FenceError says what an error of the server's means when a fence raised it, "" when none did.
func FenceError(sqlstate, message string) string {
	switch {
	case sqlstate != "22P02":
		return ""
	case strings.Contains(message, changedMark):
		return "the schema was being changed while this statement was on its way, so its masks could not be trusted; run it again"
	case strings.Contains(message, snapshotMark):
		return "a view cannot be read in a transaction that is REPEATABLE READ or SERIALIZABLE on a connection with masks, since a change of its definition would go unnoticed there; use READ COMMITTED, or read the tables"
	}
	return ""
}

// fence is a condition that is true when all the questions are, and an error otherwise.
func fence(questions []string) string {
	return "(case when " + strings.Join(questions, " and ") + " then 't' else '" + changedMark + "' end)::pg_catalog.bool"
}

// site is the clause of a statement that takes a fence: WHERE, or ON of a MERGE.
type site struct {
	anchor int      // a place at or behind the start of FROM, or its like
	words  []string // with one of which that starts
	merge  bool
	uses   []*use
	top    *pg.SelectStmt // when this is the outermost SELECT of the statement, and a plain one
}

// fences sees to it that every relation that the statement reads is proved or fenced.
func (a *analysis) fences() {
	if !a.fencing() || a.facts.planOnly || a.refusal != nil {
		return
	}
	for _, s := range a.facts.sites {
		var questions []string
		reads := 0
		for _, u := range s.uses {
			asked := a.questions(u, s)
			switch {
			case len(asked) == 0:
			case u.replaced:
				u.fence = fence(asked)
			default:
				questions = append(questions, asked...)
				if u.isView() {
					reads++
				}
			}
		}
		if len(questions) > 0 {
			a.conjunct(s, fence(questions), reads)
		}
	}
}

// fencing says whether statements are fenced at all.
func (a *analysis) fencing() bool { return a.g.hasMask && a.g.identities != nil }

func (u *use) isView() bool { return u.rel != nil && u.rel.Kind == "v" }

// questions are those that have to be true for what a statement reads of a relation.
func (a *analysis) questions(u *use, s *site) []string {
	if u.rel == nil || u.object == "" || !u.read && !u.rowRead || u.masked != nil && (u.masked.system || u.masked.source != "") {
		return nil // nothing of it is read, or by its spliced definition, which has its own fences
	}
	last := a.lastRead(u)
	if last < 0 && !u.isView() {
		return nil
	}
	id := a.g.identity(u.rel)
	if id == nil {
		a.refuse("unknown_relation", "%s is being changed at this moment; run the statement again", u.rel.qualified())
		return nil
	}
	if !u.target && !u.isView() && s.top != nil && a.proved(u, s, last, id) {
		return nil
	}
	asked := []string{id.isRelation(u.schema, u.name)}
	if u.isView() {
		rules, ok := a.g.rules(u.rel)
		if !ok {
			a.refuse("unknown_relation", "%s is being changed at this moment; run the statement again", u.rel.qualified())
			return nil
		}
		asked = append([]string{snapshotIsNew}, append(asked, haveRules(rules))...)
	}
	if u.masked == nil {
		return asked
	}
	if u.target { // whose conditions name its columns
		last = len(u.rel.Columns) - 1
	}
	for i := range last + 1 {
		asked = append(asked, id.hasColumn(i))
		if u.target && a.facts.names(u.rel.Columns[i].Name) {
			asked = append(asked, id.isNamed(u.schema, u.name, i))
		}
	}
	return asked
}

// names says whether any column reference has a name among its parts.
func (f *facts) names(column string) bool {
	return slices.ContainsFunc(f.columns, func(c columnRef) bool { return slices.Contains(c.names, column) })
}

// lastRead is the position of the last column that the statement reads as it is, -1 for none.
func (a *analysis) lastRead(u *use) int {
	reached, ok := a.facts.reached(u)
	last := -1
	for i, col := range u.rel.Columns {
		if ok && !reached[col.Name] {
			continue
		}
		if !u.isMasked(col.Name) || !slices.Contains([]string{"redact", "null"}, u.masked.with[col.Name]) || u.masked.lookup[col.Name] {
			last = i
		}
	}
	return last
}

// proved says whether the description of the answer shows that a relation and its
// columns are those that they were, and notes what it has to show.
func (a *analysis) proved(u *use, s *site, last int, id *identity) bool {
	if a.inner || a.facts.part.Kind != KindSelect {
		return false
	}
	for i := len(u.rel.Columns) - 1; i >= 0; i-- {
		if u.masked != nil && i != last || u.isMasked(u.rel.Columns[i].Name) || !a.showsPlainly(u, s, u.rel.Columns[i].Name) {
			continue
		}
		a.origins = append(a.origins, Origin{id.relation, uint16(id.numbers[i])})
		return true
	}
	return false
}

// showsPlainly says whether the select list surely has a column of a relation as it is.
func (a *analysis) showsPlainly(u *use, s *site, column string) bool {
	f := a.facts
	if f.aliases[u.alias] != 1 {
		return false
	}
	return slices.ContainsFunc(s.top.TargetList, func(item *pg.Node) bool {
		names := stringsOf(item.GetResTarget().GetVal().GetColumnRef().GetFields())
		switch len(names) {
		case 1:
			if names[0] == "" {
				return true
			}
			return names[0] == column && f.allKnown() && !f.otherHas(u, column)
		case 2:
			return names[0] == u.alias && (names[1] == column || names[1] == "")
		}
		return false
	})
}

// plainLevel says whether the columns of a SELECT's answer are, where its list
// names columns, those of its relations.
func plainLevel(n *pg.SelectStmt) bool {
	if n.Op != pg.SetOperation_SETOP_NONE || n.WithClause != nil || n.IntoClause != nil || len(n.FromClause) == 0 {
		return false
	}
	plain := true
	for _, item := range n.FromClause {
		descend(inner(item), func(m any) bool {
			if j, ok := m.(*pg.JoinExpr); ok && (j.IsNatural || len(j.UsingClause) > 0 || j.Alias != nil || j.JoinUsingAlias != nil) {
				plain = false
			}
			return plain
		})
	}
	return plain
}

// snapshotIsNew asks whether the statement's snapshot was taken for itself.
const snapshotIsNew = "(case when pg_catalog.current_setting('transaction_isolation') operator(pg_catalog.~~) 'read %' then 't' else '" + snapshotMark + "' end)::pg_catalog.bool"

// haveRules asks whether rules of views are those that they were.
func haveRules(rules []string) string {
	oids := make([]string, len(rules))
	for i, r := range rules {
		oids[i], _, _ = strings.Cut(r, ":")
	}
	return "pg_catalog.array_to_string(array(select pg_catalog.concat(sallyport_rule.oid, ':', sallyport_rule.xmin) from pg_catalog.pg_rewrite as sallyport_rule" +
		" where sallyport_rule.oid operator(pg_catalog.=) any ('{" + strings.Join(oids, ",") + "}'::pg_catalog.oid[]) order by sallyport_rule.oid), ' ') operator(pg_catalog.=) '" + strings.Join(rules, " ") + "'"
}

// conjunct adds a condition to the clause of a site. reads is how many relations the condition reads.
func (a *analysis) conjunct(s *site, condition string, reads int) {
	tokens := a.statementTokens()
	at := slices.IndexFunc(tokens, func(t token) bool { return t.start >= s.anchor })
	begin := -1
	for i := at; i >= 0 && begin < 0; i-- {
		if slices.Contains(s.words, a.word(tokens[i])) && !(i > 0 && (tokens[i-1].kind == tokDot || a.word(tokens[i-1]) == "rows")) {
			begin = i
		}
	}
	if begin < 0 {
		a.refuse("rewrite_failed", "the clauses of this statement could not be told apart; write it more plainly")
		return
	}
	if a.word(tokens[begin]) == "table" {
		a.edits = append(a.edits, edit{start: tokens[begin].start, end: tokens[begin].end, text: "select * from"})
	}
	where, last := a.clause(tokens, begin, s.merge)
	switch {
	case where >= 0:
		a.edits = append(a.edits,
			edit{start: tokens[where].end, end: tokens[where].end, text: " " + condition + " and (", reads: reads},
			edit{start: tokens[last].end, end: tokens[last].end, text: ")"})
	case s.merge:
		a.refuse("rewrite_failed", "the condition of this MERGE could not be found; write it more plainly")
	default:
		a.edits = append(a.edits, edit{start: tokens[last].end, end: tokens[last].end, text: " where " + condition, reads: reads})
	}
}

// clauseEnds are reserved words that end FROM and WHERE.
var clauseEnds = wordSet("group having window order limit offset fetch for union intersect except returning")

// clause finds WHERE, -1 without one, and the last token of it or of what comes
// before its place. With merge it is ON that is sought.
func (a *analysis) clause(tokens []token, begin int, merge bool) (where, last int) {
	where, last = -1, begin
	depth := 0
	next := func(i int) string {
		if i+1 < len(tokens) {
			return a.word(tokens[i+1])
		}
		return ""
	}
	for i := begin + 1; i < len(tokens); i++ {
		t := tokens[i]
		switch t.kind {
		case tokOpen:
			depth++
		case tokClose:
			depth--
		case tokSemicolon:
			return where, last
		}
		if depth < 0 {
			return where, last
		}
		if t.kind == tokWord && tokens[i-1].kind != tokDot {
			switch word := a.word(t); {
			case word == "case":
				depth++
			case word == "end" && depth > 0:
				depth--
			case depth > 0:
			case merge && word == "on" && where < 0, !merge && word == "where" && where < 0:
				where = i
			case merge && word == "when", !merge && clauseEnds[word],
				word == "on" && next(i) == "conflict",
				word == "with" && slices.Contains([]string{"data", "no", "check", "cascaded", "local"}, next(i)):
				return where, last
			}
		}
		last = i
	}
	return where, last
}

// statementTokens are those of the statement at hand.
func (a *analysis) statementTokens() []token {
	if a.facts.tokens == nil {
		for l := (lexer{s: a.text[:a.facts.end], at: a.facts.start}); ; {
			t, more := l.next()
			if !more {
				break
			}
			a.facts.tokens = append(a.facts.tokens, t)
		}
	}
	return a.facts.tokens
}

// leftmost is the first place that any of some nodes names, -1 for none.
func leftmost(list ...any) int {
	at := -1
	for _, m := range list {
		descend(m, func(m any) bool {
			if located, ok := m.(interface{ GetLocation() int32 }); ok && located.GetLocation() >= 0 && (at < 0 || int(located.GetLocation()) < at) {
				at = int(located.GetLocation())
			}
			return true
		})
	}
	return at
}
