package sqlguard

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sallyport-dev/sallyport/policies"
)

// Mask hides one column. Column is schema.table.column.
type Mask struct{ Column, With string }

// Options says what a Guard guards beside the catalog.
type Options struct {
	Masks []Mask
	// Functions outside pg_catalog that statements may call, "schema.name".
	Functions []string
	// Digest replaces a literal in recorded text. Nil replaces every one by "redacted".
	Digest func(string) string
}

// Guard understands statements against one catalog and one set of masks. It is
// immutable and safe for concurrent use.
type Guard struct {
	catalog *Catalog
	masked  map[string]*maskedRelation // by key(schema, name)
	blocked map[string]string          // relations that cannot be read soundly, and why
	listed  map[string]bool            // functions, by key(schema, name)
	byName  map[string][]string        // schemas of listed functions, by name
	digest  func(string) string
	hasMask bool
}

// New makes a guard. An error names the mask that the catalog cannot carry; a
// connection with such a mask must not be opened.
func New(cat *Catalog, opt Options) (*Guard, error) {
	if cat == nil {
		return nil, fmt.Errorf("sqlguard: no catalog; pull one first")
	}
	if problems := CheckMasks(cat, opt.Masks); len(problems) > 0 {
		return nil, problems[0]
	}
	g := &Guard{
		catalog: cat, digest: opt.Digest, hasMask: len(opt.Masks) > 0,
		listed: make(map[string]bool), byName: make(map[string][]string),
	}
	if g.digest == nil {
		g.digest = func(string) string { return "redacted" }
	}
	for _, name := range opt.Functions {
		schema, fn, ok := strings.Cut(name, ".")
		if !ok || schema == "" || fn == "" {
			return nil, fmt.Errorf("function %q is not of the form schema.name", name)
		}
		g.listed[key(schema, fn)] = true
		g.byName[fn] = append(g.byName[fn], schema)
	}
	g.spread(opt.Masks)
	return g, nil
}

// Masked says whether any column is masked on this connection.
func (g *Guard) Masked() bool { return g.hasMask }

// Understand says what a text would do in a scope, and rewrites it so that it can do nothing else.
func (g *Guard) Understand(text string, scope Scope) Statement {
	if reason := prescan(text); reason != "" {
		return g.refused(text, "unparsable_text", "this statement cannot be examined: "+reason)
	}
	tree, err := parse(text)
	if err != nil {
		return g.refused(text, "syntax_error", "syntax error: "+parseErrorText(err))
	}
	a := newAnalysis(g, text, scope)
	for _, raw := range tree.Stmts {
		a.statement(raw)
		if a.refusal != nil {
			break
		}
	}
	return a.finish(tree)
}

// refused is the statement that nobody may send: nothing of its literals is recorded.
func (g *Guard) refused(text, rule, reason string) Statement {
	return Statement{
		Command: policies.Command{
			Protocol: "postgres", Statement: text,
			Refusal: &policies.Refusal{Rule: rule, Reason: reason},
		},
		Recorded: g.digestLiterals(text, func(token) bool { return true }),
		input:    text,
	}
}

// parseErrorText keeps the parser's own words but not the token it quotes, which may be a secret.
func parseErrorText(err error) string {
	message := err.Error()
	if before, _, found := strings.Cut(message, " at or near "); found {
		return before + "; the parser is that of PostgreSQL 17"
	}
	return message + "; the parser is that of PostgreSQL 17"
}

// sortedKeys lists a set in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
