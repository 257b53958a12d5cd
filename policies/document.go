package policies

import (
	"fmt"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Document is a JSON document that many decisions get as input. It is turned
// into Rego's own form once, when first used, and is safe for concurrent use.
type Document struct {
	json  func() map[string]any
	once  sync.Once
	value ast.Value
	err   error
}

// NewDocument wraps a JSON-shaped value: map[string]any, []any, string,
// json.Number, float64, bool and nil. The caller must not change it afterwards.
func NewDocument(json map[string]any) *Document {
	return &Document{json: func() map[string]any { return json }}
}

// DocumentOf is NewDocument for a value that is made, equal each time, only when
// somebody asks: most of many documents never are.
func DocumentOf(json func() map[string]any) *Document { return &Document{json: json} }

// JSON is the value itself. It must not be changed.
func (d *Document) JSON() map[string]any { return d.json() }

// term is the document in Rego's form; a nil document is an error, so that a
// decision without its review or connection is a denial.
func (d *Document) term() (*ast.Term, error) {
	if d == nil {
		return nil, fmt.Errorf("no document")
	}
	d.once.Do(func() { d.value, d.err = ast.InterfaceToValue(d.json()) })
	return ast.NewTerm(d.value), d.err
}
