package sqlguard

// computingExtensions are extensions of which every function computes from its
// arguments alone: it reads no relation, file or other session, and runs no
// text. Their functions may be called without being listed.
var computingExtensions = wordSet(`btree_gin btree_gist citext cube earthdistance fuzzystrmatch hstore intarray isn ltree
	pg_trgm pgcrypto seg unaccent uuid-ossp vector`)

// computes says whether every function of that name in that schema belongs to such an extension.
func (c *Catalog) computes(schema, name string) bool {
	found := false
	for _, f := range c.functions[name] {
		if f.Schema != schema {
			continue
		}
		if !computingExtensions[f.Extension] {
			return false
		}
		found = true
	}
	return found
}
