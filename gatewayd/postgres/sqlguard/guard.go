package sqlguard

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sallyport-dev/sallyport/policies"
)

// Mask hides one column. Column is schema.table.column.
type Mask struct {
	Column, With string
	Lookup       bool // rows may be found by the raw value
}

// Options says what a Guard guards beside the catalog.
type Options struct {
	Masks []Mask
	// Functions outside pg_catalog that statements may call, "schema.name".
	Functions []string
	// HashFunction is the function "schema.name" that makes stable hashes. "": hashes are under the key of each session.
	HashFunction string
	// Reviewed is the catalog that the people knew who wrote the masks. Columns
	// of masked relations that it does not have are masked. Nil: nobody knows.
	Reviewed *Catalog
	// Identities are those of the catalog's relations on the server that statements go
	// to. Nil: no statement is sent, so none is fenced.
	Identities *Identities
	// Digest replaces a literal in recorded text. Nil replaces every one by "redacted".
	Digest func(string) string
}

// Guard understands statements against one catalog and one set of masks. It is
// immutable and safe for concurrent use.
type Guard struct {
	catalog    *Catalog
	masked     map[string]*maskedRelation // by key(schema, name)
	blocked    map[string]string          // relations that cannot be read soundly, and why
	listed     map[string]bool            // functions, by key(schema, name)
	byName     map[string][]string        // schemas of listed functions, by name
	digest     func(string) string
	hasMask    bool
	masker     masker
	identities *Identities
	// problems are the masks that make their relations unreadable.
	problems []MaskProblem
}

// New makes a guard. A mask that its relation cannot carry makes the relation
// unreadable, see Problems. An error names one of which even that cannot be
// said, such as one of a relation that may have been renamed; a connection with
// such a mask must not be opened.
func New(cat *Catalog, opt Options) (*Guard, error) {
	if cat == nil {
		return nil, fmt.Errorf("sqlguard: no catalog; pull one first")
	}
	problems := CheckMasks(cat, opt)
	for _, p := range problems {
		if p.relation == nil {
			return nil, p
		}
	}
	g := &Guard{
		catalog: cat, digest: opt.Digest, hasMask: len(opt.Masks) > 0, masker: masker{cat, opt.HashFunction}, problems: problems, identities: opt.Identities,
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
	if g.listed[hashKey(opt.HashFunction)] {
		return nil, fmt.Errorf("function %s makes the hashes of masks and may not be called by statements; take it out of functions", opt.HashFunction)
	}
	g.spread(opt.Masks, opt.Reviewed)
	return g, nil
}

func hashKey(function string) string {
	schema, name, _ := strings.Cut(function, ".")
	return key(schema, name)
}

// Problems are the masks that make their relations unreadable.
func (g *Guard) Problems() []MaskProblem { return slices.Clone(g.problems) }

// Masked says whether any column is masked on this connection.
func (g *Guard) Masked() bool { return g.hasMask }

// Understand says what a text would do in a scope, and rewrites it so that it can do nothing else.
func (g *Guard) Understand(text string, scope Scope) Statement {
	return g.understand(text, scope, false)
}

// understand is Understand; inner says that the text will be a part of another one.
func (g *Guard) understand(text string, scope Scope, inner bool) Statement {
	if reason := prescan(text); reason != "" {
		return g.refused(text, "unparsable_text", "this statement cannot be examined: "+reason)
	}
	tree, err := parse(text)
	if err != nil {
		return g.refused(text, "syntax_error", "syntax error: "+parseErrorText(err))
	}
	a := newAnalysis(g, text, scope)
	a.inner = inner || len(tree.Stmts) != 1
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
