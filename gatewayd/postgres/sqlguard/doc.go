// Package sqlguard understands SQL text before a PostgreSQL server sees it.
//
// It parses a statement with PostgreSQL's own parser, resolves every relation
// name against a catalog, says what the statement would do as policy effects,
// and splices the text by byte offset: each relation name becomes the qualified
// name it was resolved to, and each reference to a relation with masked columns
// becomes a sub-select that computes the masks inside PostgreSQL. The result is
// parsed again and compared with what was intended.
//
// The invariant: what is not understood is refused. No masked column is
// readable by any expression of the text that comes out, and whatever that text
// can do is named by the effects.
//
// The package opens no connection and holds no session state. It gets a Catalog
// (PullQuery makes one) and, per statement, a Scope that its caller tracks. It
// does not decide: effects go to a policy.
package sqlguard
