package sqlguard

import (
	"slices"
	"strings"
	"unicode/utf8"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// A Shape is a statement that was understood, as far as it does not depend on its
// constants: those of its text that stand in expressions and that nothing the
// guard decided looked at. Texts that differ in these alone have the same tree,
// because a constant is replaced only by one that every grammar rule treats
// alike: '…' by '…', an integer of up to nine digits by another, digits.digits likewise.
type Shape struct {
	guard     *Guard
	statement Statement
	skeleton  Skeleton
	free      []bool // which of its constants may differ
}

// Skeleton is a text with its plain constants taken out, for finding its Shape.
type Skeleton struct {
	// Key is the text without them: equal keys mean texts that differ in these
	// constants alone. "" for a text that has none, or that cannot have a shape.
	Key       string
	constants []token
}

// maxSkeleton bounds the texts that have one, in bytes.
const maxSkeleton = 16 << 10

// SkeletonOf takes the plain constants out of a text.
func SkeletonOf(text string) Skeleton {
	if len(text) > maxSkeleton || strings.IndexByte(text, 0) >= 0 || !utf8.ValidString(text) {
		return Skeleton{}
	}
	out := make([]byte, 0, len(text))
	var k Skeleton
	at := 0
	for l := (lexer{s: text}); ; {
		t, more := l.next()
		if !more {
			break
		}
		class := constantClass(t, text)
		if class == 0 {
			continue
		}
		out = append(append(out, text[at:t.start]...), 0, class)
		k.constants = append(k.constants, t)
		at = t.end
	}
	if len(k.constants) > 0 {
		k.Key = string(append(out, text[at:]...))
	}
	return k
}

// constantClass says which constants a constant may be replaced by, 0 for none.
func constantClass(t token, text string) byte {
	s := text[t.start:t.end]
	switch {
	case t.kind == tokString && s[0] == '\'':
		return 's'
	case t.kind != tokNumber:
		return 0
	}
	point := -1
	for i := range len(s) {
		switch {
		case isDigit(s[i]):
		case s[i] == '.' && point < 0 && i > 0 && i < len(s)-1:
			point = i
		default:
			return 0
		}
	}
	switch {
	case point >= 0:
		return 'f'
	case len(s) <= 9:
		return 'i'
	}
	return 0
}

// Shape is the statement's, nil when it has none: it is refused, it is no single
// query, or all of its constants matter.
func (g *Guard) Shape(st Statement) *Shape {
	if st.Command.Refusal != nil || len(st.free) == 0 || len(st.Parts) != 1 {
		return nil
	}
	switch st.Parts[0].Kind {
	case KindSelect, KindInsert, KindUpdate, KindDelete:
	default:
		return nil
	}
	k := SkeletonOf(st.input)
	s := &Shape{guard: g, statement: st, skeleton: k, free: make([]bool, len(k.constants))}
	for i, c := range k.constants {
		touched := slices.ContainsFunc(st.edits, func(e edit) bool { return e.start < c.end && c.start < e.end })
		s.free[i] = st.free[c.start] && !touched
	}
	if !slices.Contains(s.free, true) {
		return nil
	}
	return s
}

// Understand is Guard.Understand of a text whose skeleton is k, in the same
// scope. It reports false when the texts differ in more than what may.
func (s *Shape) Understand(text string, k Skeleton) (Statement, bool) {
	was := &s.statement
	if k.Key != s.skeleton.Key {
		return Statement{}, false
	}
	for i, c := range k.constants {
		if old := s.skeleton.constants[i]; !s.free[i] && text[c.start:c.end] != was.input[old.start:old.end] {
			return Statement{}, false
		}
	}
	moves := mover{from: s.skeleton.constants, to: k.constants}
	st := *was
	st.Command.Statement, st.input, st.Rewritten, st.Secrets = text, text, text, nil
	st.secret = slices.Clone(was.secret)
	for i, t := range was.secret {
		st.secret[i].start, st.secret[i].end = moves.place(t.start), moves.place(t.end)
	}
	st.free = make(map[int]bool, len(was.free))
	for at := range was.free {
		st.free[moves.place(at)] = true
	}
	if len(was.edits) > 0 {
		st.edits = slices.Clone(was.edits)
		for i, e := range was.edits {
			st.edits[i].start, st.edits[i].end = moves.place(e.start), moves.place(e.end)
		}
		var err error
		if st.Rewritten, st.edits, err = apply(text, st.edits); err != nil {
			return Statement{}, false
		}
	}
	s.guard.record(&st)
	return st, true
}

// mover finds places of one text in another with the same skeleton.
type mover struct{ from, to []token }

// place moves a place that is not inside a constant.
func (m mover) place(at int) int {
	for i := len(m.from) - 1; i >= 0; i-- {
		if m.from[i].end <= at {
			return at - m.from[i].end + m.to[i].end
		}
	}
	return at
}

// constant notes a constant that stands in an expression.
func (a *analysis) constant(c *pg.A_Const) {
	if a.types == 0 {
		a.free[a.constantPlace(c)] = true
	}
}

// matters notes that what the guard makes of the text depends on a constant's value.
func (a *analysis) matters(c *pg.A_Const) {
	if c != nil {
		a.fixed[a.constantPlace(c)] = true
	}
}

// constantPlace is where a constant starts. Of a minus and a number the grammar
// makes one, which starts at the minus.
func (a *analysis) constantPlace(c *pg.A_Const) int {
	at := int(c.Location)
	if at < 0 || at >= len(a.text) || a.text[at] != '-' {
		return at
	}
	l := lexer{s: a.text, at: at}
	l.next()
	number, _ := l.next()
	return number.start
}

// freeConstants are the constants that nothing depends on.
func (a *analysis) freeConstants() map[int]bool {
	if a.exact {
		return nil
	}
	for at := range a.fixed {
		delete(a.free, at)
	}
	return a.free
}
