package sqlguard

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"

	"github.com/sallyport-dev/sallyport/policies"
)

// written notes the relation that a statement changes. WITH queries are not
// considered: PostgreSQL does not write to them either.
func (a *analysis) written(r *pg.RangeVar) *use {
	u := a.refer(r)
	if u == nil {
		return nil
	}
	a.facts.writes, u.target = true, true
	if u.schema == "pg_catalog" || u.schema == "information_schema" {
		a.refuse("system_catalog", "system catalogs may not be written to")
		return nil
	}
	k := key(u.schema, u.name)
	if a.g.hasMask {
		if reason := a.g.blocked[k]; reason != "" {
			a.refuse("masked_view", "%s", reason)
		}
		if u.masked != nil && !u.masked.columnwise() {
			a.refuse("masked_view", "view %s.%s computes with masked columns and may not be written to; write to its tables", u.schema, u.name)
		}
		if u.rel != nil && u.rel.Rules {
			a.refuse("masked_rules", "%s.%s has rewrite rules, which could reach masked columns; write to another table", u.schema, u.name)
		}
	}
	return u
}

// columnsOf lists the columns that a list of targets names.
func columnsOf(list []*pg.Node) []string {
	names := make([]string, 0, len(list))
	for _, n := range list {
		if r := n.GetResTarget(); r != nil {
			names = append(names, r.Name)
		}
	}
	return names
}

func (a *analysis) writes(u *use, verb string, columns []string) {
	if name := u.hashedFrom(columns); name != "" {
		a.refuse("masked_hash", "column %s of %s is masked with hash: who could write values there could find out by their hashes what others are; name columns that are not, or have it masked with redact",
			name, u.rel.qualified())
	}
	for _, c := range columns {
		a.facts.written[c] = true
	}
	u.verbs = append(u.verbs, policies.Effect{Verb: verb, Object: u.object, Columns: columns})
}

// hashedFrom is a column among those to be written whose value a hash would show, "" for none.
func (u *use) hashedFrom(columns []string) string {
	if u.masked == nil || u.rel == nil {
		return ""
	}
	for _, col := range u.rel.Columns {
		if u.masked.with[col.Name] != "hash" {
			continue
		}
		for _, name := range columns {
			if name == col.Name || slices.Contains(col.From, name) {
				return name
			}
		}
	}
	return ""
}

// allColumns are the columns that an INSERT without a list fills; nil when unknown.
func allColumns(u *use) []string {
	if u.rel == nil {
		return nil
	}
	names := make([]string, 0, len(u.rel.Columns))
	for _, c := range u.rel.Columns {
		names = append(names, c.Name)
	}
	return names
}

func (a *analysis) insert(n *pg.InsertStmt) {
	a.withQueries(n.WithClause, func() {
		u := a.written(n.Relation)
		if u == nil {
			return
		}
		columns := columnsOf(n.Cols)
		if len(n.Cols) == 0 {
			columns = allColumns(u)
		}
		a.writes(u, "insert", columns)
		a.visitAll(n.Cols)
		a.visitNode(n.SelectStmt)
		if c := n.OnConflictClause; c != nil {
			a.onConflict(u, c)
		}
		if u.masked != nil {
			a.maskedTarget(u, true, n.OnConflictClause)
		}
		a.returning(u, n.ReturningList)
		if c := n.OnConflictClause; c != nil && c.Action == pg.OnConflictAction_ONCONFLICT_UPDATE {
			a.facts.sites = append(a.facts.sites, &site{anchor: leftmost(nodes(c.TargetList)...), words: []string{"set"}, uses: []*use{u}})
		}
	})
}

func (a *analysis) onConflict(u *use, c *pg.OnConflictClause) {
	before := len(a.facts.columns)
	children(c, a.visitBelow)
	if c.Action == pg.OnConflictAction_ONCONFLICT_UPDATE {
		a.writes(u, "update", columnsOf(c.TargetList))
		a.readsTarget(u, before)
	}
	if u.masked == nil {
		return
	}
	a.bindTarget(u, nodes(c.TargetList)...)
	if u.conflictTells(c) {
		a.refuse("masked_on_conflict", "ON CONFLICT on a unique key of %s with masked columns would tell whether a value exists; name the columns of another key", u.rel.qualified())
	}
}

// conflictTells says whether an ON CONFLICT could tell that a masked value exists.
func (u *use) conflictTells(c *pg.OnConflictClause) bool {
	if !strings.Contains("rp", u.rel.Kind) {
		return true // the keys are those of the tables below the view
	}
	some := slices.ContainsFunc(append([][]string{u.rel.PrimaryKey}, u.rel.Unique...), func(key []string) bool { return slices.ContainsFunc(key, u.isMasked) })
	switch infer := c.Infer; {
	case infer == nil:
		return some
	case infer.Conname != "":
		columns, known := u.rel.Keys[infer.Conname]
		return !known && some || slices.ContainsFunc(columns, u.isMasked)
	case infer.WhereClause != nil && some:
		return true // the condition of a partial index
	default:
		told := false
		for _, e := range infer.IndexElems {
			told = told || u.isMasked(e.GetIndexElem().GetName())
			descend(inner(e.GetIndexElem().GetExpr()), func(m any) bool {
				if ref, ok := m.(*pg.ColumnRef); ok {
					told = told || slices.ContainsFunc(stringsOf(ref.Fields), u.isMasked)
				}
				return true
			})
		}
		return told
	}
}

func (u *use) isMasked(column string) bool { return u.masked != nil && u.masked.with[column] != "" }

func (a *analysis) update(n *pg.UpdateStmt) {
	a.withQueries(n.WithClause, func() {
		u := a.written(n.Relation)
		if u == nil {
			return
		}
		a.writes(u, "update", columnsOf(n.TargetList))
		before := len(a.facts.columns)
		a.visitAll(n.FromClause)
		a.visitAll(n.TargetList)
		a.visitNode(n.WhereClause)
		a.readsTarget(u, before)
		if u.masked != nil {
			a.maskedTarget(u, false, nodes(n.FromClause)...)
			a.maskedTarget(u, false, nodes(n.TargetList)...)
			a.maskedTarget(u, false, inner(n.WhereClause))
			a.bindTarget(u, nodes(n.TargetList)...)
		}
		a.returning(u, n.ReturningList, n.FromClause...)
		a.writeSite(u, "update", n.WhereClause, n.FromClause)
	})
}

func (a *analysis) delete(n *pg.DeleteStmt) {
	a.withQueries(n.WithClause, func() {
		u := a.written(n.Relation)
		if u == nil {
			return
		}
		a.writes(u, "delete", nil)
		before := len(a.facts.columns)
		a.visitAll(n.UsingClause)
		a.visitNode(n.WhereClause)
		a.readsTarget(u, before)
		if u.masked != nil {
			a.maskedTarget(u, false, nodes(n.UsingClause)...)
			a.maskedTarget(u, false, inner(n.WhereClause))
		}
		a.returning(u, n.ReturningList, n.UsingClause...)
		a.writeSite(u, "delete", n.WhereClause, n.UsingClause)
	})
}

func (a *analysis) merge(n *pg.MergeStmt) {
	a.withQueries(n.WithClause, func() {
		u := a.written(n.Relation)
		if u == nil {
			return
		}
		u.read = true
		for _, w := range n.MergeWhenClauses {
			m := w.GetMergeWhenClause()
			switch m.GetCommandType() {
			case pg.CmdType_CMD_INSERT:
				columns := columnsOf(m.TargetList)
				if len(columns) == 0 {
					columns = allColumns(u)
				}
				a.writes(u, "insert", columns)
			case pg.CmdType_CMD_UPDATE:
				a.writes(u, "update", columnsOf(m.TargetList))
			case pg.CmdType_CMD_DELETE:
				a.writes(u, "delete", nil)
			case pg.CmdType_CMD_NOTHING:
			default:
				a.unsupported("this action of MERGE")
			}
		}
		a.visitNode(n.SourceRelation)
		a.visitNode(n.JoinCondition)
		a.visitAll(n.MergeWhenClauses)
		if u.masked != nil {
			a.maskedTarget(u, false, inner(n.SourceRelation), inner(n.JoinCondition))
			a.maskedTarget(u, false, nodes(n.MergeWhenClauses)...)
			for _, w := range n.MergeWhenClauses {
				a.bindTarget(u, nodes(w.GetMergeWhenClause().GetTargetList())...)
			}
			if slices.ContainsFunc(n.ReturningList, func(item *pg.Node) bool { return isStar(item.GetResTarget().GetVal()) }) {
				a.refuseMaskedRead(u, "RETURNING *")
			}
		}
		a.returning(u, n.ReturningList)
		a.facts.sites = append(a.facts.sites, &site{anchor: u.start, words: []string{"into"}, merge: true, uses: append(a.facts.usesOf([]*pg.Node{n.SourceRelation}), u)})
	})
}

// writeSite notes where UPDATE or DELETE can be fenced. WHERE CURRENT OF stands alone,
// and needs no fence: the cursor has the table locked.
func (a *analysis) writeSite(u *use, word string, where *pg.Node, from []*pg.Node) {
	if where.GetCurrentOfExpr() == nil {
		a.facts.sites = append(a.facts.sites, &site{anchor: u.start, words: []string{word}, uses: append(a.facts.usesOf(from), u)})
	}
}

func nodes(list []*pg.Node) []any {
	out := make([]any, 0, len(list))
	for _, n := range list {
		out = append(out, inner(n))
	}
	return out
}

// readsTarget marks the target of a write as read when any expression since
// before could name a column of it.
func (a *analysis) readsTarget(u *use, before int) {
	for _, c := range a.facts.columns[before:] {
		if q := c.qualifier(); q == "" || q == u.alias || a.facts.aliases[q] == 0 {
			if q == "" && u.rel != nil && u.rel.Column(c.last()) == nil && c.last() != u.alias {
				continue
			}
			if q == "excluded" {
				continue
			}
			u.read = true
			return
		}
	}
}

func (a *analysis) refuseMaskedRead(u *use, what string) {
	a.refuse("masked_read", "%s would read masked columns of %s, which a statement that writes to it may not; name only columns that are not masked (masked: %s)",
		what, u.rel.qualified(), joinAnd(sortedKeys(u.masked.with)))
}

func joinAnd(names []string) string {
	s := ""
	for i, n := range names {
		if i > 0 {
			s += ", "
		}
		s += n
	}
	return s
}

// maskedTarget refuses every expression that could read a masked column of the
// relation that the statement writes to: there it is the real relation. Names
// are judged alone, so that no scope can be argued about.
func (a *analysis) maskedTarget(u *use, excluded bool, below ...any) {
	for _, m := range below {
		if m == nil {
			continue
		}
		if c, ok := m.(*pg.OnConflictClause); ok && c == nil {
			continue
		}
		descend(m, func(m any) bool {
			ref, ok := m.(*pg.ColumnRef)
			if !ok {
				return a.refusal == nil
			}
			names := stringsOf(ref.Fields)
			if name, reads := u.readsMasked(a.facts, names, excluded); reads {
				a.refuseMaskedRead(u, name)
			}
			return false
		})
	}
}

// readsMasked says whether a column reference may reach a masked column, or the whole row, of the target.
func (u *use) readsMasked(f *facts, names []string, excluded bool) (string, bool) {
	last := names[len(names)-1]
	if len(names) == 1 {
		if last == "" {
			return "", false // a star of a sub-select, which does not contain the target
		}
		return last, last == u.alias || last == "old" || last == "new" || u.isMasked(last)
	}
	q := names[len(names)-2]
	ofTarget := q == u.alias || q == "old" || q == "new" || q == "excluded" || f.aliases[q] == 0
	shown := q + "." + last
	switch {
	case last == u.alias:
		return shown, true
	case q == "excluded" && excluded && len(names) == 2 && u.rel.Column(last) != nil:
		return shown, false // the row that the client proposes itself
	case !ofTarget && f.aliases[q] > 0:
		return shown, false
	case u.isMasked(last), last == "":
		return shown, true
	}
	// alias.name where name is no column calls a function on the whole row.
	return shown, u.rel.Column(last) == nil && !systemColumns[last]
}
