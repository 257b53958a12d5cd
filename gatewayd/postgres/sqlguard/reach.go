package sqlguard

import (
	"strings"
)

// reached lists the columns of a relation that the statement could read. ok is
// false when that could be all of them. Names are judged without their scopes.
func (f *facts) reached(u *use) (columns map[string]bool, ok bool) {
	if u.rel == nil || f.star || f.topStar || f.natural || f.aliasColumns || f.indirection || f.joinAlias {
		return nil, false
	}
	columns = make(map[string]bool)
	for _, c := range f.columns {
		last := c.last()
		switch {
		case last == "", last == u.alias, last == "old", last == "new":
			return nil, false // a star or a whole row
		case c.qualifier() == u.alias && u.rel.Column(last) == nil && !systemColumns[last]:
			return nil, false // a function of the whole row, written like a column
		}
		for _, name := range c.names {
			columns[name] = true
		}
	}
	return columns, true
}

// unmaskedRead leaves a masked relation of which no masked column is reached in its
// place, with its columns named by position, so that a concurrent rename cannot
// put a masked one under another's name. It reports false when it cannot.
func (a *analysis) unmaskedRead(u *use) bool {
	reached, ok := a.facts.reached(u)
	if !ok || u.masked.system || !u.masked.columnwise() {
		return false
	}
	u.reached = reached
	for column := range u.masked.with {
		if reached[column] {
			return false
		}
	}
	if u.sample != "" || u.fence != "" {
		return false
	}
	columns := make([]string, len(u.rel.Columns))
	for i, col := range u.rel.Columns {
		columns[i] = quoteIdent(col.Name)
	}
	list := "(" + strings.Join(columns, ", ") + ")"
	name := quoteQualified(u.schema, u.name)
	if u.only {
		name = "only " + name
	}
	if u.hasAlias {
		end, ok := a.aliasEnd(u)
		if !ok {
			return false
		}
		a.edits = append(a.edits, edit{start: end, end: end, text: list})
	} else {
		name += " as " + quoteIdent(u.alias) + list
	}
	a.kept[u.from] = true
	a.edits = append(a.edits, edit{start: u.from, end: u.to, text: name, names: true})
	return true
}

// aliasEnd finds the end of the alias behind a relation's name.
func (a *analysis) aliasEnd(u *use) (int, bool) {
	l := lexer{s: a.text, at: u.to}
	t, more := l.next()
	if more && a.word(t) == "as" {
		t, more = l.next()
	}
	if !more || t.kind != tokWord {
		return 0, false
	}
	parts, end, ok := nameParts(a.text, t.start, 1)
	if !ok || strings.HasPrefix(a.word(t), `u&"`) || foldIdent(a.text[parts[0].start:parts[0].end]) != u.alias {
		return 0, false
	}
	return end, true
}
