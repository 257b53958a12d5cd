package sqlguard

import (
	"strings"
	"unicode/utf8"
)

const (
	maxText    = 16 << 20 // bytes of one text; bulk data belongs in COPY or parameters
	maxNesting = 200      // open parentheses and brackets, CASE … END included
	// maxChain bounds how many tokens can add to one chain of operators, of
	// UNIONs or of joins: each may be one level of the parse tree, and the
	// parser prints that tree recursively.
	maxChain = 5000
)

// prescan refuses text that the parser must not see: not UTF-8, or nested so
// deeply that its recursion could exhaust the stack. It is linear and allocates
// nothing to speak of. The empty string means it may be parsed.
func prescan(s string) (reason string) {
	switch {
	case len(s) > maxText:
		return "the text is larger than 16 MiB; send bulk data with COPY or in several statements"
	case strings.IndexByte(s, 0) >= 0:
		return "the text contains a NUL byte; remove it"
	case !utf8.ValidString(s):
		return "the text is not valid UTF-8; set client_encoding to UTF8 and send UTF-8"
	}
	var d depthMeter
	l := lexer{s: s}
	for {
		t, more := l.next()
		if !more {
			return ""
		}
		if reason := d.add(t, s[t.start:t.end]); reason != "" {
			return reason
		}
	}
}

// depthMeter bounds the depth of the tree that a text can parse into, without knowing the grammar.
type depthMeter struct {
	levels []depthLevel
	cases  int
	label  bool // the token before was a dot or AS: a keyword behind it is a name
}

// depthLevel is what one pair of parentheses holds.
type depthLevel struct {
	run    int // tokens since the last comma, and what the deepest pair inside adds
	inside int // the deepest pair since the last comma
	chain  int // set operations and joins, which commas do not interrupt
	most   int // the most that any element came to
	cases  []caseRun
}

// caseRun is a CASE … END in one pair of parentheses. Its branches stand beside
// each other in the tree, as elements between commas do.
type caseRun struct {
	before int // run at CASE
	most   int // the most that any branch came to
}

func (l depthLevel) depth() int { return max(l.most, l.run+l.inside) + l.chain }

func (d *depthMeter) add(t token, text string) string {
	if len(d.levels) == 0 {
		d.levels = append(make([]depthLevel, 0, 8), depthLevel{})
	}
	top := &d.levels[len(d.levels)-1]
	label := d.label
	d.label = t.kind == tokDot || t.kind == tokWord && strings.EqualFold(text, "as")
	switch t.kind {
	case tokOpen:
		top.run++
		if len(d.levels)+d.cases > maxNesting {
			return "it nests more than 200 levels deep; write it flatter, with WITH queries or temporary tables"
		}
		d.levels = append(d.levels, depthLevel{})
		return ""
	case tokClose:
		if len(d.levels) > 1 {
			inner := top.depth()
			d.levels = d.levels[:len(d.levels)-1]
			top = &d.levels[len(d.levels)-1]
			top.inside = max(top.inside, inner)
		}
	case tokComma:
		top.most = max(top.most, top.run+top.inside)
		top.run, top.inside = 0, 0
		top.cases = top.cases[:0]
	case tokSemicolon:
		d.levels = d.levels[:1]
		d.levels[0] = depthLevel{}
		d.cases = 0
		return ""
	case tokWord:
		top.run++
		d.word(top, text, label)
		if len(d.levels)+d.cases > maxNesting {
			return "it nests more than 200 levels deep; write it flatter, with WITH queries or temporary tables"
		}
	default:
		top.run++
	}
	total := 0
	if top.depth() > maxChain/len(d.levels) {
		for _, l := range d.levels {
			total += l.depth()
		}
	}
	if total > maxChain {
		return "one chain of operators, conditions or UNIONs is longer than 5000 words; use IN (…), VALUES or a temporary table"
	}
	return ""
}

// word counts the keywords that build a tree of their own.
func (d *depthMeter) word(top *depthLevel, text string, label bool) {
	if len(text) < 3 || len(text) > 9 {
		return
	}
	switch strings.ToLower(text) {
	case "union", "intersect", "except", "join":
		top.chain += 2
	case "case":
		d.cases++
		if !label {
			top.cases = append(top.cases, caseRun{before: top.run, most: top.run})
		}
	case "when":
		if n := len(top.cases); n > 0 && !label {
			top.most = max(top.most, top.run+top.inside)
			top.cases[n-1].most = max(top.cases[n-1].most, top.run)
			top.run = top.cases[n-1].before + 1
		}
	case "end":
		d.cases = max(0, d.cases-1)
		if n := len(top.cases); n > 0 && !label {
			top.run = max(top.run, top.cases[n-1].most)
			top.cases = top.cases[:n-1]
		}
	}
}
