package sqlguard

import (
	"fmt"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// splice replaces one relation name: by its qualified name, or by the
// sub-select that masks it where the statement reads a masked column of it.
func (a *analysis) splice(u *use) {
	if u.masked == nil || !u.replaced {
		if u.masked != nil {
			a.kept[u.start] = true
		}
		// A name that is written plainly stays; nobody needs to know how the server reads any other.
		if !u.qualified || a.text[u.start:u.end] != u.schema+"."+u.name || !plainName(u.schema) || !plainName(u.name) {
			a.edits = append(a.edits, edit{start: u.start, end: u.end, text: quoteQualified(u.schema, u.name), names: true})
		}
		return
	}
	if a.unmaskedRead(u) {
		return
	}
	text := u.masked.sub(u)
	if !u.hasAlias {
		text += " as " + quoteIdent(u.alias)
	}
	reads := u.masked.reads()
	if u.fence != "" && u.isView() {
		reads++ // the rules of views
	}
	a.edits = append(a.edits, edit{start: u.from, end: u.to, text: text, reads: reads})
}

// plainName says whether an identifier means itself without quotes.
func plainName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '_' && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) < 63
}

// qualifyColumns drops the schema from schema.table.column where the table
// became a sub-select, which has no schema.
func (a *analysis) qualifyColumns() {
	for _, c := range a.facts.columns {
		if len(c.names) != 3 || c.location < 0 || a.facts.writtenOut[c.location] {
			continue
		}
		for _, u := range a.facts.uses {
			if !u.replaced || u.hasAlias || u.schema != c.names[0] || u.name != c.names[1] {
				continue
			}
			end, ok := nameEnd(a.text, c.location, 2)
			if !ok {
				a.refuse("rewrite_failed", "the column %s could not be found in the text; write it as alias.column", strings.Join(c.names, "."))
				return
			}
			a.edits = append(a.edits, edit{start: c.location, end: end, text: quoteIdent(u.name), names: true})
			break
		}
	}
}

// ungroupable are types without equality, which GROUP BY cannot list.
var ungroupable = map[string]bool{"json": true, "xml": true, "point": true, "line": true, "lseg": true, "box": true, "path": true, "polygon": true, "circle": true}

// groupByKey keeps GROUP BY of a primary key working: a table's other columns
// depend on its key, a sub-select's do not, so they are listed beside it.
// Listing them changes no group.
func (a *analysis) groupByKey(n *pg.SelectStmt) {
	if len(n.GroupClause) == 0 || a.refusal != nil {
		return
	}
	for _, from := range n.FromClause {
		descend(inner(from), func(m any) bool {
			if r, ok := m.(*pg.RangeVar); ok {
				a.groupByKeyOf(n, r)
			}
			switch m.(type) {
			case *pg.SelectStmt, *pg.SubLink:
				return false
			}
			return true
		})
	}
}

func (a *analysis) groupByKeyOf(n *pg.SelectStmt, r *pg.RangeVar) {
	i := slices.IndexFunc(a.facts.uses, func(u *use) bool { return u.start == int(r.Location) && u.replaced })
	if i < 0 || r.Alias != nil && len(r.Alias.Colnames) > 0 {
		return
	}
	u := a.facts.uses[i]
	if u.rel == nil || len(u.rel.PrimaryKey) == 0 {
		return
	}
	grouped := make(map[string]int) // column to where its group item starts
	for _, item := range n.GroupClause {
		at := groupItem(item)
		ref := item
		a.matters(item.GetAConst())
		if p := item.GetAConst().GetIval(); p != nil && int(p.Ival) >= 1 && int(p.Ival) <= len(n.TargetList) {
			ref = n.TargetList[p.Ival-1].GetResTarget().GetVal()
		}
		names := stringsOf(ref.GetColumnRef().GetFields())
		switch {
		case len(names) == 1, len(names) >= 2 && names[len(names)-2] == u.alias:
			grouped[names[len(names)-1]] = at
		}
	}
	at := -1
	for _, k := range u.rel.PrimaryKey {
		where, ok := grouped[k]
		if !ok || where < 0 {
			return
		}
		at = where
	}
	var b strings.Builder
	for _, col := range u.rel.Columns {
		if _, done := grouped[col.Name]; done || ungroupable[col.Base] || !mentions(n, col.Name) {
			continue
		}
		fmt.Fprintf(&b, "%s.%s, ", quoteIdent(u.alias), quoteIdent(col.Name))
	}
	if b.Len() > 0 {
		a.edits = append(a.edits, edit{start: at, end: at, text: b.String()})
	}
}

// groupItem is where a group item starts, -1 when it is not a plain one.
func groupItem(n *pg.Node) int {
	if c := n.GetColumnRef(); c != nil {
		return int(c.Location)
	}
	if c := n.GetAConst(); c != nil {
		return int(c.Location)
	}
	return -1
}

// mentions says whether the lists of a SELECT name a column, or have a star.
func mentions(n *pg.SelectStmt, column string) bool {
	found := false
	look := func(m any) bool {
		switch c := m.(type) {
		case *pg.ColumnRef:
			names := stringsOf(c.Fields)
			found = found || names[len(names)-1] == column || names[len(names)-1] == ""
		}
		return !found
	}
	for _, list := range [][]*pg.Node{n.TargetList, n.SortClause, n.DistinctClause, {n.HavingClause}, n.WindowClause} {
		for _, item := range list {
			descend(inner(item), look)
		}
	}
	return found
}

// tableCommand turns TABLE name into a SELECT where the name becomes a sub-select.
func (a *analysis) tableCommand(n *pg.SelectStmt) {
	if len(n.TargetList) != 1 || len(n.FromClause) != 1 || n.TargetList[0].GetResTarget().GetLocation() >= 0 {
		return
	}
	r := n.FromClause[0].GetRangeVar()
	if r == nil {
		return
	}
	i := slices.IndexFunc(a.facts.uses, func(u *use) bool { return u.start == int(r.Location) && u.replaced })
	if i < 0 {
		return
	}
	l := lexer{s: a.text}
	var before token
	for {
		t, more := l.next()
		if !more || t.start >= int(r.Location) {
			break
		}
		before = t
	}
	if !strings.EqualFold(a.text[before.start:before.end], "table") {
		a.refuse("rewrite_failed", "this TABLE command could not be understood; write select * from %s", r.Relname)
		return
	}
	a.edits = append(a.edits, edit{start: before.start, end: before.end, text: "select * from"})
}
