package sqlguard

import (
	_ "embed"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// systemCatalogs lists the relations of pg_catalog that hold no data of tables
// and no secrets, one per line. Everything of information_schema may be read
// but the views of user mappings, which show passwords.
//
//go:embed system_catalogs.txt
var systemCatalogsText string

var systemCatalogs = wordSet(systemCatalogsText)

// wordSet reads a list of words; a line that starts with # is a comment.
func wordSet(text string) map[string]bool {
	set := make(map[string]bool)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		for _, w := range strings.Fields(line) {
			set[w] = true
		}
	}
	return set
}

// target is what a relation name was resolved to.
type target struct {
	schema, name string
	rel          *Relation
	temp, system bool
}

func (t target) object() string {
	if t.system {
		return ""
	}
	return t.schema + "." + t.name
}

// withQueries makes the queries of a WITH clause visible while body runs, and
// visits them in order. PostgreSQL shows them only to what follows, unless the
// clause is RECURSIVE.
func (a *analysis) withQueries(w *pg.WithClause, body func()) {
	if w == nil {
		body()
		return
	}
	scope := make(map[string]bool)
	a.ctes = append(a.ctes, scope)
	if w.Recursive {
		for _, n := range w.Ctes {
			scope[n.GetCommonTableExpr().GetCtename()] = true
		}
	}
	for _, n := range w.Ctes {
		cte := n.GetCommonTableExpr()
		if cte == nil {
			a.unsupported("this WITH clause")
			continue
		}
		if len(cte.Aliascolnames) > 0 {
			a.facts.aliasColumns = true
		}
		children(cte, a.visitBelow)
		scope[cte.Ctename] = true
		_, twice := a.facts.withColumns[cte.Ctename]
		switch {
		case twice:
			a.facts.withColumns[cte.Ctename] = nil
		case len(cte.Aliascolnames) > 0:
			names := make(map[string]bool)
			for _, name := range stringsOf(cte.Aliascolnames) {
				names[name] = true
			}
			a.facts.withColumns[cte.Ctename] = names
		default:
			a.facts.withColumns[cte.Ctename] = a.columnsOf(cte.Ctequery)
		}
	}
	body()
	a.ctes = a.ctes[:len(a.ctes)-1]
}

func (a *analysis) isWithQuery(name string) bool {
	return slices.ContainsFunc(a.ctes, func(scope map[string]bool) bool { return scope[name] })
}

// resolve says what an existing relation's name means, as PostgreSQL would:
// the session's temporary relations, the system catalogs, then the search path.
func (a *analysis) resolve(r *pg.RangeVar) (target, bool) {
	if r.Catalogname != "" {
		a.refuse("unknown_relation", "%s.%s.%s names a database; write it as schema.table", r.Catalogname, r.Schemaname, r.Relname)
		return target{}, false
	}
	if r.Schemaname != "" {
		return a.resolveIn(r.Schemaname, r.Relname)
	}
	if a.temp[r.Relname] && !slices.Contains(a.path, "pg_temp") {
		return target{schema: "pg_temp", name: r.Relname, temp: true}, true
	}
	if systemCatalogs[r.Relname] && !slices.Contains(a.path, "pg_catalog") {
		return a.resolveIn("pg_catalog", r.Relname)
	}
	for _, schema := range a.path {
		switch {
		case schema == "pg_temp" && a.temp[r.Relname],
			schema == "pg_catalog" && systemCatalogs[r.Relname],
			schema == "information_schema" && allowedInformationSchema(r.Relname),
			a.g.catalog.Relation(schema, r.Relname) != nil:
			return a.resolveIn(schema, r.Relname)
		}
	}
	if strings.HasPrefix(r.Relname, "pg_") {
		return a.resolveIn("pg_catalog", r.Relname)
	}
	a.refuse("unknown_relation", "relation %q is not in any schema of the search path (%s); write it as schema.table, or pull the catalog again if it is new",
		r.Relname, strings.Join(a.path, ", "))
	return target{}, false
}

func (a *analysis) resolveIn(schema, name string) (target, bool) {
	switch {
	case schema == "pg_temp":
		return target{schema: schema, name: name, temp: true}, true
	case schema == "pg_catalog":
		if !systemCatalogs[name] {
			a.refuse("system_catalog", "pg_catalog.%s can show data, secrets or other sessions and is not readable here; the other system catalogs and information_schema are", name)
			return target{}, false
		}
		return target{schema: schema, name: name, rel: a.g.catalog.Relation(schema, name), system: true}, true
	case schema == "information_schema":
		if !allowedInformationSchema(name) {
			a.refuse("system_catalog", "information_schema.%s can show secrets and is not readable here", name)
			return target{}, false
		}
		return target{schema: schema, name: name, system: true}, true
	case strings.HasPrefix(schema, "pg_"):
		a.refuse("system_catalog", "schema %s holds raw storage or other sessions' data and is not readable here", schema)
		return target{}, false
	}
	rel := a.g.catalog.Relation(schema, name)
	if rel == nil {
		a.refuse("unknown_relation", "relation %s.%s is not in the catalog; check the name, or pull the catalog again if it is new", schema, name)
		return target{}, false
	}
	if (rel.Kind == "v" || rel.Kind == "m") && a.g.catalog.showsOthers(rel, make(map[*Relation]bool)) {
		a.refuse("system_catalog", "%s.%s shows the statements of other sessions, which come to the database as the same role, and is not readable here", schema, name)
		return target{}, false
	}
	return target{schema: schema, name: name, rel: rel}, true
}

func allowedInformationSchema(name string) bool {
	return !strings.HasPrefix(name, "_pg") && !strings.HasPrefix(name, "user_mapping")
}

// resolveNew says where a new relation will be: temporary, in the named schema,
// or in the first schema of the search path.
func (a *analysis) resolveNew(r *pg.RangeVar) (target, bool) {
	schema := r.Schemaname
	switch {
	case r.Catalogname != "":
		a.refuse("unknown_relation", "%s.%s.%s names a database; write it as schema.table", r.Catalogname, schema, r.Relname)
		return target{}, false
	case r.Relpersistence == "t" || schema == "pg_temp":
		if schema != "" && schema != "pg_temp" {
			a.refuse("unsupported_statement", "a temporary relation has no schema; write it without one")
			return target{}, false
		}
		return target{schema: "pg_temp", name: r.Relname, temp: true}, true
	case schema == "":
		i := slices.IndexFunc(a.path, func(s string) bool { return s == "pg_temp" || a.g.catalog.schemas[s] })
		if i < 0 {
			a.refuse("unknown_relation", "no schema of the search path exists to create %q in; write it as schema.name", r.Relname)
			return target{}, false
		}
		if schema = a.path[i]; schema == "pg_temp" {
			return target{schema: schema, name: r.Relname, temp: true}, true
		}
	case strings.HasPrefix(schema, "pg_") || schema == "information_schema":
		a.refuse("system_catalog", "nothing may be created in schema %s", schema)
		return target{}, false
	case !a.g.catalog.schemas[schema]:
		a.refuse("unknown_relation", "schema %q is not in the catalog; check the name, or pull the catalog again if it is new", schema)
		return target{}, false
	}
	return target{schema: schema, name: r.Relname}, true
}

// locate finds the bytes of a relation's name in the text.
func (a *analysis) locate(r *pg.RangeVar) (start, end int, ok bool) {
	n := 1
	if r.Schemaname != "" {
		n++
	}
	if r.Catalogname != "" {
		n++
	}
	start = int(r.Location)
	end, ok = nameEnd(a.text, start, n)
	if !ok {
		a.refuse("rewrite_failed", "the name %s could not be found in the text; write it plainly as schema.table", r.Relname)
	}
	return start, end, ok
}

// aliasOf is the name by which the rest of the statement knows a relation.
func aliasOf(r *pg.RangeVar) string {
	if r.Alias != nil {
		return r.Alias.Aliasname
	}
	return r.Relname
}

// refer resolves and locates a relation and notes it as used.
func (a *analysis) refer(r *pg.RangeVar) *use {
	t, ok := a.resolve(r)
	if !ok {
		return nil
	}
	return a.note(r, t)
}

func (a *analysis) note(r *pg.RangeVar, t target) *use {
	start, end, ok := a.locate(r)
	if !ok {
		return nil
	}
	u := &use{rel: t.rel, object: t.object(), alias: aliasOf(r), start: start, end: end, from: start, to: end, hasAlias: r.Alias != nil}
	if !t.temp {
		u.masked = a.g.masked[key(t.schema, t.name)]
	}
	if t.system && u.masked == nil && secretSystemColumns[t.name] != nil {
		a.refuse("system_catalog", "the catalog does not describe pg_catalog.%s, part of which is hidden; pull the catalog again", t.name)
	}
	u.qualified = r.Schemaname != ""
	u.schema, u.name = t.schema, t.name
	u.renamed = a.renames(r.Alias)
	a.facts.aliases[u.alias]++
	a.facts.uses = append(a.facts.uses, u)
	return u
}

// read is a reference in FROM or its like.
func (a *analysis) read(r *pg.RangeVar) *use {
	if r.Schemaname == "" && r.Catalogname == "" && a.isWithQuery(r.Relname) {
		a.bare[int(r.Location)] = true
		a.facts.aliases[aliasOf(r)]++
		if a.renames(r.Alias) {
			return nil
		}
		for name := range a.facts.withColumns[r.Relname] {
			a.facts.derived[[2]string{aliasOf(r), name}]++
		}
		return nil
	}
	u := a.refer(r)
	if u == nil {
		return nil
	}
	u.read, u.replaced = true, u.masked != nil
	if reason, blocked := a.g.blocked[key(u.schema, u.name)]; blocked {
		a.refuse("masked_view", "%s", reason)
	}
	if u.replaced {
		u.widen(a, r.Inh)
	}
	return u
}
