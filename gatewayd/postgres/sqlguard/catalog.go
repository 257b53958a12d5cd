package sqlguard

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// PullQuery is one SQL statement that returns one row with one text column: the
// JSON that ParseCatalog reads. It reads the schema only, no data, and runs on
// PostgreSQL 15 to 18 under any role. Run it with search_path set to
// pg_catalog, so that type and view texts come out qualified.
//
//go:embed pull.sql
var PullQuery string

// catalogFormat is the one format of catalog JSON there is.
const catalogFormat = 1

// Catalog is the schema of one database: what names can mean. It is immutable.
type Catalog struct {
	Format    int         `json:"format"`
	Server    int         `json:"server"` // major version
	Schemas   []string    `json:"schemas"`
	Relations []*Relation `json:"relations"`
	Types     []UserType  `json:"types"`
	Functions []Object    `json:"functions"` // outside pg_catalog and information_schema
	Operators []Object    `json:"operators"` // outside pg_catalog
	Casts     []Object    `json:"casts"`     // target types of casts whose function is outside pg_catalog

	raw         []byte
	fingerprint string
	relations   map[string]*Relation
	schemas     map[string]bool
	functions   map[string][]Object // by name
	operators   map[string][]Object
	casts       map[string][]Object
	types       map[string][]UserType
	columnNames map[string]bool
}

// Object is a named thing outside pg_catalog. Extension is what it belongs to, if anything.
type Object struct {
	Schema    string `json:"schema"`
	Name      string `json:"name"`
	Extension string `json:"extension,omitempty"`
}

// UserType is an enum, domain, range or base type outside pg_catalog.
type UserType struct {
	Schema    string   `json:"schema"`
	Name      string   `json:"name"`
	Class     string   `json:"class"` // pg_type.typtype: e enum, d domain, r range, m multirange, b base
	Labels    []string `json:"labels,omitempty"`
	Extension string   `json:"extension,omitempty"`
}

// Relation is a table, view, materialized view, foreign table, sequence, index or composite type.
type Relation struct {
	Schema     string     `json:"schema"`
	Name       string     `json:"name"`
	Kind       string     `json:"kind"`              // pg_class.relkind
	Columns    []Column   `json:"columns,omitempty"` // in attribute order, dropped ones left out
	PrimaryKey []string   `json:"primaryKey,omitempty"`
	Unique     [][]string `json:"unique,omitempty"` // columns that each further unique or exclusion index touches
	// Keys are the columns that each unique or exclusion index touches, by the index's name, the primary key's included.
	Keys       map[string][]string `json:"keys,omitempty"`
	Reads      []string            `json:"reads,omitempty"`      // relations that a view's definition names, "schema.name"
	Calls      []string            `json:"calls,omitempty"`      // functions outside pg_catalog that it names
	Definition string              `json:"definition,omitempty"` // of a view or materialized view
	Barrier    bool                `json:"barrier,omitempty"`    // a security_barrier view
	Parents    []string            `json:"parents,omitempty"`    // inheritance and partition parents
	Rules      bool                `json:"rules,omitempty"`      // has rewrite rules of its own
}

// Column is one column of a relation. Base names the type below any domains.
type Column struct {
	Name      string   `json:"name"`
	Type      string   `json:"type"`     // as format_type prints it
	Class     string   `json:"class"`    // pg_type.typtype of Type: b base, e enum, d domain, c composite, r range, m multirange
	Schema    string   `json:"schema"`   // of Base
	Base      string   `json:"base"`     // pg_type.typname
	BaseType  string   `json:"baseType"` // as format_type prints it, with the type modifier
	BaseClass string   `json:"baseClass"`
	Category  string   `json:"category"` // pg_type.typcategory of Base: A array, E enum, S string …
	NotNull   bool     `json:"notNull,omitempty"`
	Generated string   `json:"generated,omitempty"` // s stored, v virtual
	From      []string `json:"from,omitempty"`      // columns that a generated column reads
}

// ParseCatalog reads what PullQuery returned.
func ParseCatalog(b []byte) (*Catalog, error) {
	c := &Catalog{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("catalog: not the JSON that a pull makes: %w; pull it again", err)
	}
	if c.Format != catalogFormat {
		return nil, fmt.Errorf("catalog: format %d is not supported, this program reads format %d; pull it again", c.Format, catalogFormat)
	}
	canonical, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	c.raw = append(canonical, '\n')
	sum := sha256.Sum256(c.raw)
	c.fingerprint = hex.EncodeToString(sum[:])
	return c, c.index()
}

// index builds the lookups and refuses a catalog that names one relation twice.
func (c *Catalog) index() error {
	c.relations = make(map[string]*Relation, len(c.Relations))
	c.schemas = make(map[string]bool, len(c.Schemas))
	c.columnNames = make(map[string]bool)
	for _, s := range c.Schemas {
		c.schemas[s] = true
	}
	for _, r := range c.Relations {
		if r == nil || r.Schema == "" || r.Name == "" {
			return fmt.Errorf("catalog: a relation has no name; pull it again")
		}
		if c.relations[key(r.Schema, r.Name)] != nil {
			return fmt.Errorf("catalog: relation %s.%s is listed twice; pull it again", r.Schema, r.Name)
		}
		c.relations[key(r.Schema, r.Name)] = r
		for _, col := range r.Columns {
			c.columnNames[col.Name] = true
		}
	}
	c.functions = byName(c.Functions)
	c.operators = byName(c.Operators)
	c.casts = byName(c.Casts)
	c.types = make(map[string][]UserType)
	for _, t := range c.Types {
		c.types[t.Name] = append(c.types[t.Name], t)
	}
	return nil
}

func byName(objects []Object) map[string][]Object {
	m := make(map[string][]Object, len(objects))
	for _, o := range objects {
		m[o.Name] = append(m[o.Name], o)
	}
	return m
}

// key joins a schema and a name so that no dot inside either can be mistaken for the joint.
func key(schema, name string) string { return schema + "\x00" + name }

// JSON is the catalog in its canonical form, ready for connections/<name>.catalog.json.
func (c *Catalog) JSON() []byte { return append([]byte(nil), c.raw...) }

// Fingerprint is the SHA-256 of JSON in hex: equal fingerprints mean equal schemas.
func (c *Catalog) Fingerprint() string { return c.fingerprint }

// Relation finds a relation by schema and name, nil when there is none.
func (c *Catalog) Relation(schema, name string) *Relation { return c.relations[key(schema, name)] }

// Column finds a column, nil when there is none.
func (r *Relation) Column(name string) *Column {
	for i := range r.Columns {
		if r.Columns[i].Name == name {
			return &r.Columns[i]
		}
	}
	return nil
}

func (r *Relation) qualified() string { return r.Schema + "." + r.Name }

// related finds the relation that a "schema.name" of the catalog itself means.
// The catalog joins them with a dot, so a dot inside a name is tried both ways.
func (c *Catalog) related(joined string) *Relation {
	for i := range joined {
		if joined[i] != '.' {
			continue
		}
		if r := c.Relation(joined[:i], joined[i+1:]); r != nil {
			return r
		}
	}
	return nil
}

// hasColumnNamed says whether any relation of the catalog has such a column.
func (c *Catalog) hasColumnNamed(name string) bool { return c.columnNames[name] }

// splitColumn takes "schema.table.column" apart with the catalog's help. With an
// error about the column, the relation is there.
func (c *Catalog) splitColumn(s string) (*Relation, *Column, error) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return nil, nil, fmt.Errorf("column %q is not of the form schema.table.column", s)
	}
	r := c.Relation(parts[0], parts[1])
	if r == nil {
		return nil, nil, fmt.Errorf("relation %s.%s is not in the catalog", parts[0], parts[1])
	}
	col := r.Column(parts[2])
	if col == nil {
		return r, nil, fmt.Errorf("relation %s.%s has no column %q; name one that it has, or delete the mask", parts[0], parts[1], parts[2])
	}
	return r, col, nil
}
