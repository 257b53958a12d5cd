package sqlguard

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// widen makes the place of a masked relation cover what belongs to its name and
// cannot stand beside a sub-select: ONLY, with or without parentheses, and "*".
func (u *use) widen(a *analysis, inherits bool) {
	after := lexer{s: a.text, at: u.to}
	next, more := after.next()
	if inherits {
		if more && a.text[next.start:next.end] == "*" {
			u.to = next.end
		}
		return
	}
	u.only = true
	before := a.tokensBefore(u.start, 2)
	switch {
	case len(before) > 0 && a.word(before[0]) == "only":
		u.from = before[0].start
	case len(before) == 2 && a.word(before[0]) == "(" && a.word(before[1]) == "only" && more && next.kind == tokClose:
		u.from, u.to = before[1].start, next.end
	default:
		a.refuse("rewrite_failed", "ONLY could not be found before %s.%s; write from only schema.table", u.schema, u.name)
	}
}

func (a *analysis) word(t token) string { return strings.ToLower(a.text[t.start:t.end]) }

// tokensBefore are the last n tokens of the statement before a place, the nearest first.
func (a *analysis) tokensBefore(at, n int) []token {
	l := lexer{s: a.text, at: a.facts.start}
	var last []token
	for {
		t, more := l.next()
		if !more || t.start >= at {
			slices.Reverse(last)
			return last
		}
		if last = append(last, t); len(last) > n {
			last = last[1:]
		}
	}
}

// sample understands TABLESAMPLE, which only tables have: that of a masked
// table moves into its sub-select.
func (a *analysis) sample(n *pg.RangeTableSample) {
	before := len(a.facts.uses)
	children(n, a.visitBelow)
	if method := stringsOf(n.Method); !slices.Equal(method, []string{"system"}) && !slices.Equal(method, []string{"bernoulli"}) {
		a.refuse("function_not_allowed", "only the sampling methods system and bernoulli are allowed")
	}
	if a.refusal != nil || len(a.facts.uses) != before+1 || !a.facts.uses[before].replaced {
		return
	}
	u := a.facts.uses[before]
	start, end, ok := a.sampleClause(int(n.Location), n.Repeatable != nil)
	if !ok || !constants(n.Args) || !constants([]*pg.Node{n.Repeatable}) {
		a.refuse("masked_tablesample", "TABLESAMPLE on %s.%s, which has masked columns, takes constants only; or use WHERE random() < 0.01", u.schema, u.name)
		return
	}
	u.sample = " " + a.text[start:end]
	a.exact = true
	a.edits = append(a.edits, edit{start: start, end: end})
}

// constants says whether each node is a constant or a parameter, or nothing.
func constants(list []*pg.Node) bool {
	return !slices.ContainsFunc(list, func(n *pg.Node) bool {
		return n != nil && n.GetAConst() == nil && n.GetParamRef() == nil
	})
}

// sampleClause finds "tablesample method (…) repeatable (…)" around the place of the method's name.
func (a *analysis) sampleClause(method int, repeatable bool) (start, end int, ok bool) {
	before := a.tokensBefore(method, 1)
	if len(before) == 0 || a.word(before[0]) != "tablesample" {
		return 0, 0, false
	}
	l := lexer{s: a.text, at: method}
	l.next()
	if end, ok = l.parentheses(); ok && repeatable {
		if t, more := l.next(); !more || a.word(t) != "repeatable" {
			return 0, 0, false
		}
		end, ok = l.parentheses()
	}
	return before[0].start, end, ok
}

// parentheses skips one pair of parentheses, which must come next, and says where it ends.
func (l *lexer) parentheses() (end int, ok bool) {
	depth := 0
	for {
		t, more := l.next()
		if !more || depth == 0 && t.kind != tokOpen {
			return 0, false
		}
		switch t.kind {
		case tokOpen:
			depth++
		case tokClose:
			if depth--; depth == 0 {
				return t.end, true
			}
		}
	}
}
