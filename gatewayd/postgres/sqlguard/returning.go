package sqlguard

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// returning understands a RETURNING list. others are the further relations that
// a star of it shows after the target's columns, or before them.
func (a *analysis) returning(u *use, list []*pg.Node, others ...*pg.Node) {
	if len(list) == 0 {
		return
	}
	u.read = true
	for _, n := range list {
		if isStar(n.GetResTarget().GetVal()) {
			u.rowRead = true
		}
	}
	a.visitAll(list)
	if u.masked == nil || a.refusal != nil {
		return
	}
	for _, n := range list {
		item := n.GetResTarget()
		if isStar(item.GetVal()) {
			a.returnStar(u, item.GetVal().GetColumnRef(), others)
			continue
		}
		descend(inner(item.GetVal()), func(m any) bool {
			switch m := m.(type) {
			case *pg.ColumnRef:
				a.returnColumn(u, m)
				return false
			case *pg.SubLink:
				a.maskedTarget(u, false, m)
				a.bindBelow(u, m)
				return false
			}
			return a.refusal == nil
		})
	}
}

// returnColumn puts the mask where RETURNING names a masked column of the target,
// and binds its other columns by position.
func (a *analysis) returnColumn(u *use, ref *pg.ColumnRef) {
	names := stringsOf(ref.Fields)
	shown, reads := u.readsMasked(a.facts, names, false)
	if last := names[len(names)-1]; reads && (!u.isMasked(last) || last == u.alias) {
		a.refuseMaskedRead(u, shown)
		return
	}
	if reads || u.isTargets(a.facts, names) {
		a.bindColumn(u, ref)
	}
}

// bindTarget binds by position what expressions of a write read of its target, in
// which no masked column was found: a concurrent rename could put one there.
func (a *analysis) bindTarget(u *use, below ...any) {
	for _, m := range below {
		descend(m, func(m any) bool {
			switch m := m.(type) {
			case *pg.ColumnRef:
				if u.isTargets(a.facts, stringsOf(m.Fields)) {
					a.bindColumn(u, m)
				}
				return false
			case *pg.SubLink:
				a.bindBelow(u, m)
				return false
			}
			return a.refusal == nil
		})
	}
}

// bindBelow is bindTarget for a sub-select, whose own relations come first for names without an alias.
func (a *analysis) bindBelow(u *use, below *pg.SubLink) {
	descend(below, func(m any) bool {
		ref, ok := m.(*pg.ColumnRef)
		if !ok {
			return a.refusal == nil
		}
		names := stringsOf(ref.Fields)
		switch last := names[len(names)-1]; {
		case !u.isTargets(a.facts, names):
		case len(names) > 1 && a.facts.aliases[u.alias] > 1, len(names) == 1 && a.facts.otherHas(u, last): // of the sub-select's own
		case len(names) > 1 || a.facts.allKnown():
			a.bindColumn(u, ref)
		default:
			a.refuse("masked_read", "whether %s in this sub-select means %s is not clear; give its relation an alias and write alias.%s", last, u.rel.qualified(), last)
		}
		return false
	})
}

// otherHas says whether a relation beside the target surely has a column of that name.
func (f *facts) otherHas(target *use, column string) bool {
	return slices.ContainsFunc(f.uses, func(u *use) bool { return u != target && u.rel != nil && u.rel.Column(column) != nil })
}

// allKnown says whether the catalog has the columns of all that the statement reads from.
func (f *facts) allKnown() bool {
	items := 0
	for _, n := range f.aliases {
		items += n
	}
	return items == len(f.uses) && !slices.ContainsFunc(f.uses, func(u *use) bool { return u.rel == nil })
}

// isTargets says whether a name outside of sub-selects means a column of the target.
func (u *use) isTargets(f *facts, names []string) bool {
	if u.rel.Column(names[len(names)-1]) == nil {
		return false
	}
	if len(names) == 1 {
		return true
	}
	q := names[len(names)-2]
	return q == u.alias || q != "excluded" && f.aliases[q] == 0
}

// bindColumn replaces a column of the target.
func (a *analysis) bindColumn(u *use, ref *pg.ColumnRef) {
	names := stringsOf(ref.Fields)
	last, start := names[len(names)-1], int(ref.Location)
	if a.facts.writtenOut[start] {
		return // (a, b) = row is in the tree once for each of its columns
	}
	end, ok := nameEnd(a.text, start, len(names))
	row := quoteIdent(u.alias)
	if ok && len(names) > 1 {
		var rowEnd int
		rowEnd, ok = nameEnd(a.text, start, len(names)-1)
		row = a.text[start:rowEnd]
	}
	if !ok {
		a.refuse("rewrite_failed", "the column %s could not be found in the text; write it as alias.column", last)
		return
	}
	a.facts.writtenOut[start] = true
	a.edits = append(a.edits, edit{start: start, end: end, text: u.byPosition(row, last), names: true})
}

// byPosition is the column of a row, or its mask. The row's columns are bound by
// position, so that a concurrent rename cannot put a masked one in its place, and all
// of them, so that a dropped one is an error.
func (u *use) byPosition(row, column string) string {
	list, expr := make([]string, len(u.rel.Columns)), ""
	for i, col := range u.rel.Columns {
		list[i] = fmt.Sprintf("c%d", i+1)
		if col.Name == column {
			expr = list[i]
			if u.isMasked(column) {
				expr = cmp.Or(u.masked.masks[column], "null") // a relation that lacks a mask is not written to
			}
		}
	}
	return "(select " + expr + " as " + quoteIdent(column) + " from (select " + row + ".*) as " + sourceAlias + "(" + strings.Join(list, ", ") + "))"
}

// returnStar writes a star of RETURNING out when it shows the target.
func (a *analysis) returnStar(u *use, ref *pg.ColumnRef, others []*pg.Node) {
	names := stringsOf(ref.Fields)
	start, end, ok := a.starPlace(int(ref.Location), len(names))
	items := []string{u.alias}
	if len(names) > 1 {
		if q := names[len(names)-2]; q != u.alias {
			if q == "old" || q == "new" || a.facts.aliases[q] == 0 {
				a.refuseMaskedRead(u, q+".*")
			}
			return
		}
	} else if ok {
		var more []string
		more, ok = fromAliases(others)
		items = append(items, more...)
	}
	if !ok || slices.Contains(items[1:], u.alias) || u.name == u.alias && !u.hasAlias && a.facts.aliases[u.alias] > 1 {
		a.refuseMaskedRead(u, "RETURNING *")
		return
	}
	var parts []string
	for _, col := range u.rel.Columns {
		parts = append(parts, u.byPosition(quoteIdent(u.alias), col.Name))
	}
	for _, alias := range items[1:] {
		parts = append(parts, quoteIdent(alias)+".*")
	}
	a.facts.writtenOut[start] = true
	a.edits = append(a.edits, edit{start: start, end: end, text: strings.Join(parts, ", ")})
}
