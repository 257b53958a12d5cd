package sqlguard

import "slices"

// Needs says what a role has to be able to select for statements that read a
// relation: columns by relation, "schema.name". Columns whose masks do not read
// them are not among them. Nothing is needed of what cannot be read.
func (g *Guard) Needs(schema, name string) map[string][]string {
	needs := make(map[string][]string)
	g.needs(g.catalog.Relation(schema, name), needs)
	return needs
}

func (g *Guard) needs(r *Relation, into map[string][]string) {
	if r == nil || into[r.qualified()] != nil || r.Schema == "pg_catalog" || g.blocked[key(r.Schema, r.Name)] != "" {
		return
	}
	m := g.masked[key(r.Schema, r.Name)]
	if m != nil && !m.columnwise() { // its definition stands in its place
		for _, name := range r.Reads {
			g.needs(g.catalog.related(name), into)
		}
		return
	}
	columns := []string{}
	for _, col := range r.Columns {
		if m == nil || m.lookup[col.Name] || !slices.Contains([]string{"redact", "null"}, m.with[col.Name]) {
			columns = append(columns, col.Name)
		}
	}
	into[r.qualified()] = columns
}
