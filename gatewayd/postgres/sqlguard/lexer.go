package sqlguard

import "strings"

// tokenKind says what a token is, as coarsely as the guard needs.
type tokenKind int

const (
	tokWord       tokenKind = iota // identifier or keyword, also "quoted" and U&"…"
	tokString                      // any string literal: '…', E'…', U&'…', B'…', X'…', N'…', $tag$…$tag$
	tokNumber                      //
	tokParam                       // $1
	tokOpen                        // ( or [
	tokClose                       // ) or ]
	tokComma                       //
	tokSemicolon                   //
	tokDot                         //
	tokOperator                    // one operator or any other character
	tokUnfinished                  // a literal, quoted name or comment without an end
)

// token is input[start:end].
type token struct {
	kind       tokenKind
	start, end int
}

// lexer splits SQL text the way PostgreSQL does with standard_conforming_strings on.
// It never fails: what has no end becomes one tokUnfinished up to the end of the text.
// The parser is the authority on what a text means; the lexer only bounds its
// nesting beforehand and finds the ends of tokens whose starts the parser reported.
type lexer struct {
	s  string
	at int
}

// next returns the next token and false at the end of the text. White space and comments are skipped.
func (l *lexer) next() (token, bool) {
	if start, open := l.skipBlank(); open {
		return token{tokUnfinished, start, len(l.s)}, true
	}
	if l.at >= len(l.s) {
		return token{}, false
	}
	start := l.at
	kind := l.scan()
	return token{kind, start, l.at}, true
}

// skipBlank skips white space and comments; open reports a comment without an end, which starts at start.
func (l *lexer) skipBlank() (start int, open bool) {
	for l.at < len(l.s) {
		switch c := l.s[l.at]; {
		case c == ' ' || c >= '\t' && c <= '\r':
			l.at++
		case strings.HasPrefix(l.s[l.at:], "--"):
			l.skipLine()
		case strings.HasPrefix(l.s[l.at:], "/*"):
			start := l.at
			if !l.skipBlock() {
				return start, true
			}
		default:
			return l.at, false
		}
	}
	return l.at, false
}

func (l *lexer) skipLine() {
	for l.at < len(l.s) && l.s[l.at] != '\n' && l.s[l.at] != '\r' {
		l.at++
	}
}

// skipBlock skips a /* … */, which nests.
func (l *lexer) skipBlock() bool {
	depth := 0
	for l.at < len(l.s) {
		switch {
		case strings.HasPrefix(l.s[l.at:], "/*"):
			depth++
			l.at += 2
		case strings.HasPrefix(l.s[l.at:], "*/"):
			depth--
			l.at += 2
			if depth == 0 {
				return true
			}
		default:
			l.at++
		}
	}
	return false
}

func (l *lexer) scan() tokenKind {
	c := l.s[l.at]
	switch {
	case c == '\'':
		return l.quoted('\'', false, tokString)
	case c == '"':
		return l.quoted('"', false, tokWord)
	case c == '$':
		return l.dollar()
	case isDigit(c) || c == '.' && l.at+1 < len(l.s) && isDigit(l.s[l.at+1]):
		return l.number()
	case isIdentStart(c):
		return l.word()
	}
	l.at++
	switch c {
	case '(', '[':
		return tokOpen
	case ')', ']':
		return tokClose
	case ',':
		return tokComma
	case ';':
		return tokSemicolon
	case '.':
		return tokDot
	}
	return tokOperator
}

// word scans an identifier, or the literal or quoted name that a one-letter prefix introduces.
func (l *lexer) word() tokenKind {
	rest := l.s[l.at:]
	if len(rest) >= 2 && rest[1] == '\'' {
		switch rest[0] {
		case 'e', 'E':
			l.at++
			return l.quoted('\'', true, tokString)
		case 'b', 'B', 'x', 'X', 'n', 'N':
			l.at++
			return l.quoted('\'', false, tokString)
		}
	}
	if len(rest) >= 3 && (rest[0] == 'u' || rest[0] == 'U') && rest[1] == '&' && (rest[2] == '\'' || rest[2] == '"') {
		l.at += 2
		if rest[2] == '"' {
			return l.quoted('"', false, tokWord)
		}
		return l.quoted('\'', false, tokString)
	}
	for l.at < len(l.s) && isIdentPart(l.s[l.at]) {
		l.at++
	}
	return tokWord
}

// quoted scans from an opening quote to its end; a doubled quote is part of it.
// Literals that continue after a line break come out as two tokens, which is harmless here.
func (l *lexer) quoted(q byte, backslash bool, kind tokenKind) tokenKind {
	l.at++
	for l.at < len(l.s) {
		c := l.s[l.at]
		switch {
		case backslash && c == '\\':
			l.at += 2
		case c != q:
			l.at++
		case l.at+1 < len(l.s) && l.s[l.at+1] == q:
			l.at += 2
		default:
			l.at++
			if backslash {
				l.continued()
			}
			return kind
		}
	}
	l.at = len(l.s)
	return tokUnfinished
}

// continued scans on when an E'…' literal goes on in another line: there, too, backslashes escape.
func (l *lexer) continued() {
	for i := l.at; i < len(l.s); i++ {
		switch c := l.s[i]; {
		case c == ' ' || c >= '\t' && c <= '\r':
		case c == '-' && strings.HasPrefix(l.s[i:], "--"):
			for i < len(l.s) && l.s[i] != '\n' && l.s[i] != '\r' {
				i++
			}
			i--
		case c == '\'' && strings.ContainsAny(l.s[l.at:i], "\n\r"):
			l.at = i
			l.quoted('\'', true, tokString)
			return
		default:
			return
		}
	}
}

// dollar scans $1 or $tag$…$tag$.
func (l *lexer) dollar() tokenKind {
	start := l.at
	l.at++
	if l.at < len(l.s) && isDigit(l.s[l.at]) {
		for l.at < len(l.s) && isDigit(l.s[l.at]) {
			l.at++
		}
		return tokParam
	}
	end := l.at
	for end < len(l.s) && isIdentPart(l.s[end]) && l.s[end] != '$' {
		end++
	}
	if end >= len(l.s) || l.s[end] != '$' {
		return tokOperator
	}
	tag := l.s[start : end+1]
	body := strings.Index(l.s[end+1:], tag)
	if body < 0 {
		l.at = len(l.s)
		return tokUnfinished
	}
	l.at = end + 1 + body + len(tag)
	return tokString
}

// number scans digits, radix prefixes, fractions and exponents, and letters that stick to them.
func (l *lexer) number() tokenKind {
	for l.at < len(l.s) {
		c := l.s[l.at]
		switch {
		case isDigit(c) || isIdentStart(c):
		case c == '.' && !strings.HasPrefix(l.s[l.at:], ".."):
		case (c == '+' || c == '-') && (l.s[l.at-1] == 'e' || l.s[l.at-1] == 'E') && l.at+1 < len(l.s) && isDigit(l.s[l.at+1]):
		default:
			return tokNumber
		}
		l.at++
	}
	return tokNumber
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isIdentStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}

func isIdentPart(c byte) bool { return isIdentStart(c) || isDigit(c) || c == '$' }

// nameEnd finds where a dotted name of n parts ends that starts at byte start.
// ok is false when the text does not have that shape there.
func nameEnd(s string, start, n int) (end int, ok bool) {
	_, end, ok = nameParts(s, start, n)
	return end, ok
}

// nameParts finds the n parts of a dotted name that starts at byte start.
func nameParts(s string, start, n int) (parts []token, end int, ok bool) {
	if start < 0 || start >= len(s) {
		return nil, 0, false
	}
	l := lexer{s: s, at: start}
	for i := range n {
		if i > 0 {
			if t, more := l.next(); !more || t.kind != tokDot {
				return nil, 0, false
			}
		}
		t, more := l.next()
		if !more || t.kind != tokWord || i == 0 && t.start != start {
			return nil, 0, false
		}
		l.uescape(&t)
		parts = append(parts, t)
	}
	return parts, parts[n-1].end, true
}

// uescape extends a U&"…" by the UESCAPE '…' that may follow it.
func (l *lexer) uescape(t *token) {
	if !strings.HasPrefix(strings.ToLower(l.s[t.start:t.end]), `u&"`) {
		return
	}
	ahead := *l
	word, more := ahead.next()
	if !more || word.kind != tokWord || !strings.EqualFold(l.s[word.start:word.end], "uescape") {
		return
	}
	if lit, more := ahead.next(); more && lit.kind == tokString {
		t.end = lit.end
		*l = ahead
	}
}
