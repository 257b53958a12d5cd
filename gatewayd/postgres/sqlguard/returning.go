package sqlguard

import (
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
		if ref := item.GetVal().GetColumnRef(); ref != nil && item.Name == "" {
			a.returnColumn(u, ref, true)
			continue
		}
		descend(inner(item.GetVal()), func(m any) bool {
			switch m := m.(type) {
			case *pg.ColumnRef:
				a.returnColumn(u, m, false)
				return false
			case *pg.SubLink:
				a.maskedTarget(u, false, m)
				return false
			}
			return a.refusal == nil
		})
	}
}

// returnColumn puts the mask where RETURNING names a masked column of the target.
func (a *analysis) returnColumn(u *use, ref *pg.ColumnRef, named bool) {
	names := stringsOf(ref.Fields)
	shown, reads := u.readsMasked(a.facts, names, false)
	if !reads {
		return
	}
	last := names[len(names)-1]
	end, ok := nameEnd(a.text, int(ref.Location), len(names))
	if !u.isMasked(last) || last == u.alias || !ok {
		a.refuseMaskedRead(u, shown)
		return
	}
	text, ok := a.maskOf(u, last, a.text[ref.Location:end])
	if !ok {
		return
	}
	text += " as " + quoteIdent(last)
	if !named {
		text = "(select " + text + ")" // an expression around it takes its name from the column
	}
	a.facts.writtenOut[int(ref.Location)] = true
	a.edits = append(a.edits, edit{start: int(ref.Location), end: end, text: text})
}

// maskOf is the mask of a column of the target whose value is raw.
func (a *analysis) maskOf(u *use, column, raw string) (string, bool) {
	expr, err := a.g.masker.expression(*u.rel.Column(column), u.masked.with[column], raw)
	if err != nil {
		a.refuseMaskedRead(u, column)
		return "", false
	}
	return "(" + expr + ")", true
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
		raw := quoteIdent(u.alias) + "." + quoteIdent(col.Name)
		if u.isMasked(col.Name) {
			text, ok := a.maskOf(u, col.Name, raw)
			if !ok {
				return
			}
			raw = text + " as " + quoteIdent(col.Name)
		}
		parts = append(parts, raw)
	}
	for _, alias := range items[1:] {
		parts = append(parts, quoteIdent(alias)+".*")
	}
	a.facts.writtenOut[start] = true
	a.edits = append(a.edits, edit{start: start, end: end, text: strings.Join(parts, ", ")})
}
