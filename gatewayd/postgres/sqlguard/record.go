package sqlguard

import "strings"

// digestLiterals replaces the literals of a text that secret picks. Numbers
// count as literals; so does the rest of a text behind a quote without an end.
func (g *Guard) digestLiterals(text string, secret func(token) bool) string {
	var b strings.Builder
	l := lexer{s: text}
	at := 0
	for {
		t, more := l.next()
		if !more {
			break
		}
		if t.kind != tokString && t.kind != tokNumber && t.kind != tokUnfinished || !secret(t) {
			continue
		}
		b.WriteString(text[at:t.start])
		b.WriteString("'" + g.digest(literalValue(text[t.start:t.end])) + "'")
		at = t.end
	}
	b.WriteString(text[at:])
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// literalValue is what a plain literal stands for, so that equal values have
// equal digests however they are written; other literals stand for their text.
func literalValue(s string) string {
	if len(s) >= 2 && s[0] == '\'' && s[len(s)-1] == '\'' {
		return strings.ReplaceAll(s[1:len(s)-1], "''", "'")
	}
	return s
}
