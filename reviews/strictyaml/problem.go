package strictyaml

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Position is a place in a file. Line and Column count from 1, columns in
// characters; 0 is unknown.
type Position struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// String is "file:line:column" as far as it is known, the form editors jump to.
func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Problem is one thing that is wrong with a file, and what to do about it.
type Problem struct {
	Position
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"` // the next step; may be empty when Message says it
}

// Error is "file:line:column: message; fix".
func (p Problem) Error() string {
	text := p.Message
	if p.Fix != "" {
		text += "; " + p.Fix
	}
	if p.File == "" && p.Line == 0 {
		return text
	}
	return p.Position.String() + ": " + text
}

// String is Error, so that a printed Problem never shows only its position.
func (p Problem) String() string { return p.Error() }

// Problems are all the things that are wrong, one per line when printed.
type Problems []Problem

// Error prints one problem per line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Err is nil when there are no problems, otherwise the problems as an error.
// It avoids the typed nil that returning an empty Problems would make.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// Sort orders problems by file, line and column; equal positions keep their order.
func (ps Problems) Sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(
			strings.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
		)
	})
}

// Lines says where in a file each value stands. Keys are paths such as
// "spec.allow[0].verbs[1]".
type Lines map[string]Position

// Has reports whether the file has a value at that path.
func (l Lines) Has(path string) bool {
	_, ok := l[path]
	return ok
}

// At is the position of the value at path, or of the closest value around it
// when the file has none there, so that "field x is missing" points somewhere useful.
func (l Lines) At(path string) Position {
	for {
		if p, ok := l[path]; ok {
			return p
		}
		if path == "" {
			return Position{}
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

// shorten makes text from a file safe and short enough to be quoted in a message.
func shorten(s string) string {
	const most = 48
	runes := []rune(s)
	if len(runes) > most {
		s = string(runes[:most]) + "…"
	}
	return fmt.Sprintf("%+q", s)
}
