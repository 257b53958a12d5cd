package policies

import (
	"encoding/json"
	"strings"
	"sync"

	_ "embed"

	"github.com/open-policy-agent/opa/v1/ast"
)

// schemaJSON describes `input`. A policy that reads a misspelled field of it does
// not compile: undefined, its deny rule would silently never deny.
//
//go:embed library/input.schema.json
var schemaJSON string

var parseSchema = sync.OnceValue(func() any {
	dec := json.NewDecoder(strings.NewReader(schemaJSON))
	dec.UseNumber()
	var schema any
	if err := dec.Decode(&schema); err != nil {
		panic(err) // a test compiles with it
	}
	return schema
})

func inputSchema() *ast.SchemaSet {
	set := ast.NewSchemaSet()
	set.Put(ast.SchemaRootRef, parseSchema())
	return set
}
