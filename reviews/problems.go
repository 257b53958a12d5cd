package reviews

import (
	"fmt"

	"github.com/sallyport-dev/sallyport/reviews/strictyaml"
)

// Position is a place in a file; Line and Column count from 1, 0 is unknown.
type Position = strictyaml.Position

// Problem is one thing that is wrong with a file of the access repo and what to
// do about it. It prints as "file:line:column: message; fix".
type Problem = strictyaml.Problem

// Problems are several of them; as an error they print one per line.
type Problems = strictyaml.Problems

// problemf makes a problem with a whole file.
func problemf(path, fix, format string, args ...any) Problem {
	return Problem{Position: Position{File: path}, Message: fmt.Sprintf(format, args...), Fix: fix}
}
