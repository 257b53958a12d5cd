package sqlguard

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// IdentityQuery is one SQL statement that returns one row with one text column:
// the JSON that ParseIdentities reads. It has to run in one statement with
// PullQuery, so that both see the same schema.
//
//go:embed identity.sql
var IdentityQuery string

// Identities say which objects of a server the names of a catalog meant. They are
// of one server only, and no part of the catalog that people review.
type Identities struct {
	relations map[string]*identity
	raw       string
}

// identity is a relation as the server itself tells it from others.
type identity struct {
	relation uint32
	columns  []string // in attribute order, dropped ones left out
	numbers  []int16  // of the columns
	rule     uint32   // of a view or materialized view, else 0
	written  string   // the transaction that wrote the rule
}

// Origin is a column of a relation as the description of an answer names it.
type Origin struct {
	Relation  uint32
	Attribute uint16
}

// ParseIdentities reads what IdentityQuery returned.
func ParseIdentities(b []byte) (*Identities, error) {
	var list []struct {
		Schema, Name string
		Relation     uint32
		Columns      []string
		Numbers      []int16
		Rule         uint32
		Written      string
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("identities of relations: %w", err)
	}
	ids := &Identities{relations: make(map[string]*identity, len(list)), raw: string(b)}
	for _, r := range list {
		if len(r.Columns) != len(r.Numbers) || r.Relation == 0 {
			return nil, fmt.Errorf("identities of relations: %s.%s is malformed", r.Schema, r.Name)
		}
		ids.relations[key(r.Schema, r.Name)] = &identity{r.Relation, r.Columns, r.Numbers, r.Rule, r.Written}
	}
	return ids, nil
}

// Fingerprint is equal for equal identities.
func (ids *Identities) Fingerprint() string { return ids.raw }

// identity is what a relation of the catalog is on the server, nil when that is not known.
func (g *Guard) identity(r *Relation) *identity {
	id := g.identities.relations[key(r.Schema, r.Name)]
	if id == nil || !slices.EqualFunc(r.Columns, id.columns, func(c Column, name string) bool { return c.Name == name }) {
		return nil
	}
	return id
}

// Hidden are the masked columns as the description of an answer would name them,
// with their names: none of them may ever be named there.
func (g *Guard) Hidden() map[Origin]string {
	hidden := make(map[Origin]string)
	if g.identities == nil {
		return hidden
	}
	for _, m := range g.masked {
		if m.system || m.rel == nil {
			continue
		}
		id := g.identity(m.rel)
		if id == nil {
			continue
		}
		for i, col := range m.rel.Columns {
			if m.with[col.Name] != "" {
				hidden[Origin{id.relation, uint16(id.numbers[i])}] = m.rel.qualified() + "." + col.Name
			}
		}
	}
	return hidden
}

// rules are the rewrite rules that reading a view runs, its own and those of the
// views below it, each as "oid:transaction", by oid. ok is false when one is not known.
func (g *Guard) rules(r *Relation) (rules []string, ok bool) {
	found := make(map[uint32]string)
	seen := make(map[*Relation]bool)
	var below func(r *Relation) bool
	below = func(r *Relation) bool {
		if r == nil || seen[r] || r.Kind != "v" || r.Schema == "pg_catalog" {
			return true
		}
		seen[r] = true
		id := g.identity(r)
		if id == nil || id.rule == 0 {
			return false
		}
		found[id.rule] = id.written
		return !slices.ContainsFunc(r.Reads, func(name string) bool { return !below(g.catalog.related(name)) })
	}
	if !below(r) {
		return nil, false
	}
	oids := make([]uint32, 0, len(found))
	for oid := range found {
		oids = append(oids, oid)
	}
	slices.Sort(oids)
	for _, oid := range oids {
		rules = append(rules, strconv.FormatUint(uint64(oid), 10)+":"+found[oid])
	}
	return rules, true
}

// isRelation asks whether a name still means the relation that it did. PostgreSQL
// answers while it plans: the answer costs the statement nothing when it runs.
func (id *identity) isRelation(schema, name string) string {
	return quoteLiteral(quoteQualified(schema, name)) + "::pg_catalog.regclass operator(pg_catalog.=) " + id.oid()
}

func (id *identity) oid() string {
	return "'" + strconv.FormatUint(uint64(id.relation), 10) + "'::pg_catalog.oid"
}

// hasColumn asks whether the i-th column is still there. It reads the system
// caches, which show what others have committed also when the snapshot does not.
func (id *identity) hasColumn(i int) string {
	return "pg_catalog.has_column_privilege(" + id.oid() + ", '" + strconv.Itoa(int(id.numbers[i])) + "'::pg_catalog.int2, 'select') is not null"
}

// isNamed asks whether the i-th column still has its name. It reads the system caches, too.
func (id *identity) isNamed(schema, name string, i int) string {
	bare := strings.ReplaceAll(schema+"."+name+"."+id.columns[i], `"`, "")
	return "pg_catalog.replace((pg_catalog.pg_identify_object('1259'::pg_catalog.oid, " + id.oid() + ", " + strconv.Itoa(int(id.numbers[i])) + ")).identity, '\"', '') operator(pg_catalog.=) " + quoteLiteral(bare)
}
