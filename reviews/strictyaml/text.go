package strictyaml

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxProblems bounds how many problems one file can produce: a person fixes
// the first few, and a hostile file must not be able to buy unbounded output.
const maxProblems = 100

// CheckText refuses bytes that people and programs may read differently:
// anything but UTF-8, a byte order mark, carriage returns and other line breaks
// besides "\n", control characters, and characters that are invisible or change
// the direction of text. It serves every signed text file, not only YAML.
func CheckText(path string, b []byte, maxBytes int) Problems {
	c := textCheck{path: path}
	if len(b) > maxBytes {
		c.add(0, 0, fmt.Sprintf("the file has %d bytes, at most %d are allowed", len(b), maxBytes), "split it or make it shorter")
		return c.problems
	}
	line, column := 1, 1
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size == 1 {
			c.add(line, column, fmt.Sprintf("byte 0x%02x is not UTF-8", b[i]), "save the file as UTF-8")
		} else if what := forbidden(r); what != "" && !c.known(b[i:]) {
			c.add(line, column, fmt.Sprintf("%s (U+%04X) is not allowed", what, r), fixForRune(r))
		}
		i += size
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
		if len(c.problems) >= maxProblems {
			break
		}
	}
	return c.problems
}

type textCheck struct {
	path     string
	problems Problems
	windows  bool // a line that ends as on Windows was reported
}

// known reports whether b begins with another line end of a file that was saved
// on Windows: one is enough. A carriage return in the middle of a line is always reported.
func (c *textCheck) known(b []byte) bool {
	if !bytes.HasPrefix(b, []byte("\r\n")) {
		return false
	}
	before := c.windows
	c.windows = true
	return before
}

func (c *textCheck) add(line, column int, message, fix string) {
	c.problems = append(c.problems, Problem{Position{c.path, line, column}, message, fix})
}

// forbidden names what is wrong with a character, "" when nothing is.
func forbidden(r rune) string {
	switch {
	case r == '\n' || r == '\t':
		return ""
	case r == '\r':
		return "a carriage return"
	case r == '\uFEFF':
		return "a byte order mark"
	case r == '\u0085' || r == '\u2028' || r == '\u2029':
		return "a line break other than \\n"
	case unicode.Is(unicode.Bidi_Control, r):
		return "a character that changes the direction of text"
	case unicode.IsControl(r):
		return "a control character"
	case unicode.Is(unicode.Cf, r), unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r), unicode.Is(unicode.Variation_Selector, r), r == '\u2800':
		return "an invisible character"
	case unicode.Is(unicode.Noncharacter_Code_Point, r), unicode.Is(unicode.Co, r):
		return "a character without a meaning of its own"
	}
	return ""
}

func fixForRune(r rune) string {
	switch r {
	case '\r':
		return "save the file with Unix line endings (git: put \"* -text\" into .gitattributes)"
	case '\uFEFF':
		return "save the file as UTF-8 without a byte order mark"
	}
	return "delete it"
}

// checkLines refuses what only a look at whole lines shows: tabs as indentation,
// directives, and a second document or the end of the first.
func checkLines(path string, b []byte) Problems {
	c := textCheck{path: path}
	sawContent, sawMarker := false, false
	number := 0
	for line := range bytes.SplitSeq(b, []byte("\n")) {
		number++
		if len(c.problems) >= maxProblems {
			break
		}
		indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
		if tab := bytes.IndexByte(indent, '\t'); tab >= 0 && len(indent) < len(line) {
			c.add(number, tab+1, "a tab is used as indentation", "use spaces")
		}
		switch text := string(line); {
		case strings.HasPrefix(text, "%"):
			c.add(number, 1, "YAML directives are not allowed", "delete this line")
		case isMarker(text, "..."):
			c.add(number, 1, "an end-of-document mark is not allowed", "delete this line; a file holds exactly one document")
		case isMarker(text, "---") && (sawContent || sawMarker):
			c.add(number, 1, "a second document is not allowed", "put it into a file of its own; a file holds exactly one document")
		case isMarker(text, "---"):
			sawMarker = true
			if rest := strings.TrimLeft(text[3:], " \t"); rest != "" && rest[0] != '#' {
				c.add(number, 4, "content behind --- is not allowed", "start the document on the next line")
			}
		case len(indent) < len(line) && line[len(indent)] != '#':
			sawContent = true
		}
	}
	return c.problems
}

func isMarker(line, marker string) bool {
	rest, ok := strings.CutPrefix(line, marker)
	return ok && (rest == "" || rest[0] == ' ' || rest[0] == '\t')
}
