package postgres

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
	"github.com/sallyport-dev/sallyport/reviews"
)

var (
	//go:embed harden.sql
	hardenRole string
	//go:embed harden_functions.sql
	hardenFunctions string
	//go:embed harden_hash.sql
	hardenHash string
	//go:embed harden_check.sql
	hardenCheck string
)

// longest is how long a statement may run where a review does not bound it.
const longest = time.Hour

// hardening gathers what the reviews of a connection need of its target role.
type hardening struct {
	doc     *reviews.Connection
	catalog *sqlguard.Catalog
	grants  map[string]map[string]map[string]bool // relation, privilege, columns; a column "" is all of them
	creates map[string]bool                       // schemas
	temp    bool
	writes  bool
	notes   map[string]bool
	longest time.Duration
}

// Harden is the SQL of a least-privilege role for a connection: the role that its
// target names, allowed what the given reviews need and nothing else. It is the
// same for the same documents, runs in one transaction, and may be run again.
func Harden(doc *reviews.Connection, given []*reviews.Review) (string, error) {
	catalog, err := sqlguard.ParseCatalog(doc.Catalog)
	if err != nil {
		return "", err
	}
	h := &hardening{doc: doc, catalog: catalog, grants: map[string]map[string]map[string]bool{},
		creates: map[string]bool{}, notes: map[string]bool{}}
	given = slices.Clone(given)
	slices.SortFunc(given, func(a, b *reviews.Review) int { return strings.Compare(a.Metadata.Name, b.Metadata.Name) })
	for _, r := range given {
		if err := h.review(r); err != nil {
			return "", fmt.Errorf("%s: %w", r.Source.Path, err)
		}
	}
	return h.text(given), nil
}

// review adds what one review needs.
func (h *hardening) review(r *reviews.Review) error {
	options := GuardOptions(h.doc, r.Masks(h.doc))
	options.HashFunction = "" // which is yet to be made
	guard, err := sqlguard.New(h.catalog, options)
	if err != nil {
		return err
	}
	limit := r.Spec.Limits.Statement.Std()
	if limit == 0 {
		limit = longest
	}
	h.longest = max(h.longest, limit)
	for _, rule := range slices.Concat(r.Spec.Allow, r.Spec.Hold) {
		for _, verb := range rule.Verbs {
			for _, on := range rule.On {
				h.rule(guard, verb, on, rule.Columns)
			}
		}
	}
	return nil
}

func (h *hardening) rule(guard *sqlguard.Guard, verb, on string, columns []string) {
	schema, name, _ := strings.Cut(on, ".")
	h.writes = h.writes || verb != "select"
	if verb == "create" {
		if h.temp = true; schema != "pg_temp" && h.hasSchema(schema) {
			h.creates[schema] = true
		}
		return
	}
	for _, rel := range h.catalog.Relations {
		if rel.Schema != schema || name != "*" && rel.Name != name || !strings.Contains("rpvmfS", rel.Kind) {
			continue
		}
		object := rel.Schema + "." + rel.Name
		switch {
		case rel.Kind != "S":
		case verb == "select", verb == "update":
			h.grant(object, verb, nil)
			continue
		default:
			continue
		}
		switch verb {
		case "select":
			h.reads(guard, rel, columns)
		case "insert", "update", "delete", "truncate":
			if verb == "delete" || verb == "truncate" {
				columns = nil
			}
			h.grant(object, verb, columns)
		case "lock": // SELECT … FOR UPDATE needs to be able to update some column
			if len(rel.Columns) > 0 && strings.Contains("rp", rel.Kind) {
				h.grant(object, "update", []string{rel.Columns[0].Name})
			}
		default:
			h.notes[verb+" on "+on] = true
		}
	}
}

func (h *hardening) hasSchema(name string) bool { return slices.Contains(h.catalog.Schemas, name) }

// reads grants what the guard reads in place of a relation.
func (h *hardening) reads(guard *sqlguard.Guard, rel *sqlguard.Relation, only []string) {
	object := rel.Schema + "." + rel.Name
	for _, needed := range slices.Sorted(maps.Keys(guard.Needs(rel.Schema, rel.Name))) {
		columns := guard.Needs(rel.Schema, rel.Name)[needed]
		schema, name, _ := strings.Cut(needed, ".")
		all := h.catalog.Relation(schema, name)
		if all == nil {
			continue
		}
		if needed == object && len(only) > 0 {
			columns = slices.DeleteFunc(slices.Clone(columns), func(c string) bool { return !slices.Contains(only, c) })
		}
		if len(columns) == len(all.Columns) {
			columns = nil
		} else if len(columns) == 0 {
			continue
		}
		h.grant(needed, "select", columns)
	}
}

// grant notes a privilege on columns of a relation, or with nil on all of it.
func (h *hardening) grant(object, privilege string, columns []string) {
	if h.grants[object] == nil {
		h.grants[object] = map[string]map[string]bool{}
	}
	if h.grants[object][privilege] == nil {
		h.grants[object][privilege] = map[string]bool{}
	}
	if columns == nil {
		columns = []string{""}
	}
	for _, c := range columns {
		h.grants[object][privilege][c] = true
	}
}

func ident(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func objectName(joined string) string {
	schema, name, _ := strings.Cut(joined, ".")
	return ident(schema) + "." + ident(name)
}

// text writes it all down.
func (h *hardening) text(given []*reviews.Review) string {
	role := h.doc.Spec.Target.User
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	fill := func(text string, more ...string) {
		b.WriteString(strings.NewReplacer(append(more, "'{{role}}'", literal(role), "{{role}}", ident(role))...).Replace(text) + "\n")
	}
	line("-- Made by `sallyport harden %s`: the role %s with what the gateway needs for the reviews of today, and no more.", h.doc.Metadata.Name, ident(role))
	line("-- Run it in database %s as a superuser, or as the owner of the database and its tables; it may be run again, and has to", ident(h.doc.Spec.Target.Database))
	line("-- be when reviews, masks or the schema change. It sets no password: \\password %s in psql does.", ident(role))
	for _, r := range given {
		line("-- review %s", r.Metadata.Name)
	}
	line("\nbegin;\nset local search_path = pg_catalog;\n")
	fill(hardenRole)
	h.settings(line, role)
	schemas := map[string]bool{}
	for object := range h.grants {
		schema, _, _ := strings.Cut(object, ".")
		schemas[schema] = true
	}
	for schema := range h.creates {
		schemas[schema] = true
	}
	if h.temp {
		line("-- Reviews allow CREATE, which CREATE TEMP TABLE is, too.")
		line("do $sallyport$ begin execute pg_catalog.format('grant temporary on database %%I to %%I', pg_catalog.current_database(), %s); end $sallyport$;", literal(role))
	}
	for _, schema := range slices.Sorted(maps.Keys(schemas)) {
		privileges := "usage"
		if h.creates[schema] {
			privileges = "usage, create"
		}
		line("grant %s on schema %s to %s;", privileges, ident(schema), ident(role))
	}
	withheld := h.relations(line, role)
	h.sequences(line, role)
	h.functions(line, role)
	for _, note := range slices.Sorted(maps.Keys(h.notes)) {
		line("-- Not granted: %s. Only owners can do that, and no grant makes one.", note)
	}
	b.WriteString("\n")
	fill(hardenFunctions)
	if f := h.doc.Spec.HashFunction; f != "" {
		schema, _, _ := strings.Cut(f, ".")
		fill(hardenHash, "{{schema}}", ident(schema), "{{function}}", objectName(f))
	}
	creates := []string{"''"}
	for _, schema := range slices.Sorted(maps.Keys(h.creates)) {
		creates = append(creates, literal(schema))
	}
	fill(hardenCheck, "{{withheld}}", strings.Join(withheld, ", "), "{{creates}}", strings.Join(creates, ", "))
	line("commit;")
	return b.String()
}

// settings pins what statements are read by, and bounds how long one may run.
func (h *hardening) settings(line func(string, ...any), role string) {
	if h.longest == 0 {
		h.longest = longest
	}
	line("-- The gateway sets these for each session; here they also hold for whoever gets hold of the password.")
	list := [][2]string{
		{"standard_conforming_strings", "on"}, {"backslash_quote", "safe_encoding"}, {"transform_null_equals", "off"}, {"client_encoding", "UTF8"}, {"row_security", "on"},
		{"statement_timeout", fmt.Sprint((h.longest + 5*time.Second).Milliseconds())}, {"idle_in_transaction_session_timeout", fmt.Sprint(longest.Milliseconds())},
	}
	if !h.writes {
		list = append(list, [2]string{"default_transaction_read_only", "on"})
	}
	for _, s := range list {
		line("alter role %s in database %s set %s = %s;", ident(role), ident(h.doc.Spec.Target.Database), s[0], literal(s[1]))
	}
	line("")
}

// relations writes the grants, and says which columns the role must not read after them.
func (h *hardening) relations(line func(string, ...any), role string) (withheld []string) {
	withheld = []string{"('', '')"}
	for _, object := range slices.Sorted(maps.Keys(h.grants)) {
		schema, name, _ := strings.Cut(object, ".")
		rel := h.catalog.Relation(schema, name)
		kind := ""
		if rel.Kind == "S" {
			kind = "sequence "
		}
		for _, privilege := range slices.Sorted(maps.Keys(h.grants[object])) {
			columns := h.grants[object][privilege]
			if columns[""] {
				line("grant %s on %s%s to %s;", privilege, kind, objectName(object), ident(role))
				continue
			}
			var in, out []string // in the relation's order
			for _, col := range rel.Columns {
				if columns[col.Name] {
					in = append(in, ident(col.Name))
				} else if out = append(out, ident(col.Name)); privilege == "select" {
					withheld = append(withheld, "("+literal(objectName(object))+", "+literal(col.Name)+")")
				}
			}
			if privilege == "select" {
				line("-- Masked without being read, or not reviewed: %s. System columns such as ctid go with them.", strings.Join(out, ", "))
			}
			line("grant %s (%s) on %s to %s;", privilege, strings.Join(in, ", "), objectName(object), ident(role))
		}
	}
	if len(h.grants) == 0 {
		line("-- No review is there that would need anything.")
	}
	return withheld
}

// sequences lets inserts take their keys.
func (h *hardening) sequences(line func(string, ...any), role string) {
	var tables []string
	for _, object := range slices.Sorted(maps.Keys(h.grants)) {
		if h.grants[object]["insert"] != nil {
			tables = append(tables, literal(objectName(object))+"::pg_catalog.regclass")
		}
	}
	if len(tables) == 0 {
		return
	}
	line("-- The sequences of serial columns belong to their tables.")
	line(`do $sallyport$
declare
	s record;
begin
	for s in select d.objid::pg_catalog.regclass as name from pg_catalog.pg_depend d join pg_catalog.pg_class c on c.oid = d.objid and c.relkind = 'S'
		where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.deptype in ('a', 'i')
			and d.refobjid in (%s) order by 1 loop
		execute pg_catalog.format('grant usage on sequence %%s to %%I', s.name, %s);
	end loop;
end
$sallyport$;`, strings.Join(tables, ", "), literal(role))
}

// functions grants those that the connection lists, whatever their arguments.
func (h *hardening) functions(line func(string, ...any), role string) {
	for _, f := range slices.Sorted(slices.Values(h.doc.Spec.Functions)) {
		schema, name, _ := strings.Cut(f, ".")
		line("grant usage on schema %s to %s;", ident(schema), ident(role))
		line(`do $sallyport$
declare
	f record;
begin
	for f in select p.oid::pg_catalog.regprocedure as name from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
		where n.nspname = %s and p.proname = %s order by p.oid::pg_catalog.regprocedure::text loop
		execute pg_catalog.format('grant execute on routine %%s to %%I', f.name, %s);
	end loop;
end
$sallyport$;`, literal(schema), literal(name), literal(role))
	}
}
