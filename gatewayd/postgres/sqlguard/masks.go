package sqlguard

import (
	"fmt"
	"slices"
	"strings"
)

// MaskProblem is a mask that a catalog cannot carry.
type MaskProblem struct {
	Column   string // as it was written
	Reason   string
	Revealed bool // by another column, which is generated from it; the mask itself fits

	relation *Relation // that cannot be read because of it; nil: nothing may be opened
}

func (p MaskProblem) Error() string { return "mask " + p.Column + ": " + p.Reason }

// CheckMasks says which masks of the options the catalog cannot carry: an unknown
// column, a mask that its type has no entry for, a column that another one reveals.
func CheckMasks(cat *Catalog, opt Options) []MaskProblem {
	var problems []MaskProblem
	seen := make(map[string]bool)
	masker := masker{cat, opt.HashFunction}
	for _, m := range opt.Masks {
		r, col, err := cat.splitColumn(m.Column)
		add := func(r *Relation, reason string) {
			problems = append(problems, MaskProblem{Column: m.Column, Reason: reason, relation: r})
		}
		_, unknown := parseForm(m.With)
		switch {
		case unknown != nil:
			add(nil, unknown.Error())
		case err != nil:
			add(r, err.Error())
		case seen[m.Column]:
			add(nil, "it is masked twice; keep one")
		case !strings.Contains("rpvmf", r.Kind):
			add(nil, "only columns of tables and views can be masked")
		default:
			if _, err := masker.expression(*col, m.With, "c"); err != nil {
				add(r, err.Error())
			} else if m.Lookup && !lookable(*col) {
				add(r, "lookup has no form for type "+col.Type+"; delete lookup")
			}
		}
		seen[m.Column] = true
	}
	for _, m := range opt.Masks {
		r, col, err := cat.splitColumn(m.Column)
		if err != nil {
			continue
		}
		for _, other := range r.Columns {
			if slices.Contains(other.From, col.Name) && !seen[r.qualified()+"."+other.Name] {
				problems = append(problems, MaskProblem{Column: m.Column, Revealed: true, relation: r, Reason: fmt.Sprintf("column %s is generated from it and would reveal it; mask %s.%s too", other.Name, r.qualified(), other.Name)})
			}
		}
	}
	return problems
}

func isText(col Column) bool {
	if col.Base == "citext" {
		return true
	}
	switch {
	case col.Schema != "pg_catalog":
		return false
	case col.Base == "text", col.Base == "varchar", col.Base == "bpchar", col.Base == "name":
		return true
	}
	return false
}

// castType is the qualified type of a column, with its modifier.
func castType(col Column) (string, error) {
	if col.Base == "" || col.Schema == "" {
		return "", fmt.Errorf("the catalog says nothing about its type; pull the catalog again")
	}
	if col.Schema == "pg_catalog" && strings.HasPrefix(col.BaseType, "interval") && !strings.HasSuffix(col.BaseType, "[]") {
		return col.BaseType, nil // a keyword type, whose modifier has no other spelling
	}
	modifier := ""
	if open := strings.IndexByte(col.BaseType, '('); open >= 0 && col.Schema == "pg_catalog" {
		if end := strings.IndexByte(col.BaseType[open:], ')'); end > 0 {
			modifier = col.BaseType[open : open+end+1]
		}
	}
	for _, c := range modifier {
		if !strings.ContainsRune("(),-0123456789", c) {
			return "", fmt.Errorf("type %s has a modifier that is not understood; use another type", col.Type)
		}
	}
	return quoteQualified(col.Schema, col.Base) + modifier, nil
}

// redactions are constants by type of pg_catalog.
var redactions = map[string]string{
	"text": "****", "varchar": "****", "bpchar": "****", "name": "****", "char": "*",
	"int2": "0", "int4": "0", "int8": "0", "numeric": "0", "float4": "0", "float8": "0", "money": "0", "oid": "0",
	"bool": "false", "bytea": "", "uuid": "00000000-0000-0000-0000-000000000000",
	"date": "1970-01-01", "timestamp": "1970-01-01 00:00:00", "timestamptz": "1970-01-01 00:00:00+00",
	"time": "00:00:00", "timetz": "00:00:00+00", "interval": "0",
	"json": "{}", "jsonb": "{}", "xml": "", "jsonpath": "$", "tsvector": "", "tsquery": "",
	"inet": "0.0.0.0", "cidr": "0.0.0.0/32", "macaddr": "00:00:00:00:00:00", "macaddr8": "00:00:00:00:00:00:00:00",
	"point": "(0,0)", "box": "(0,0),(0,0)", "circle": "<(0,0),0>", "pg_lsn": "0/0", "bit": "0", "varbit": "",
}

func redaction(cat *Catalog, col Column) (string, error) {
	switch {
	case col.Category == "A":
		return "'{}'", nil
	case col.BaseClass == "e":
		for _, t := range cat.types[col.Base] {
			if t.Schema == col.Schema && len(t.Labels) > 0 {
				return quoteLiteral(t.Labels[0]), nil
			}
		}
	case col.BaseClass == "r":
		return "'empty'", nil
	case col.BaseClass == "m":
		return "'{}'", nil
	case col.Base == "citext":
		return "'****'", nil
	case col.Base == "hstore":
		return "''", nil
	case col.Schema == "pg_catalog":
		if text, ok := redactions[col.Base]; ok {
			if col.Base == "bit" {
				return "B'0'", nil
			}
			return quoteLiteral(text), nil
		}
	}
	return "", fmt.Errorf("redact has no form for type %s; use null", col.Type)
}

// maskedRelation is a relation with masked columns.
type maskedRelation struct {
	rel    *Relation
	masks  map[string]string // column to the SQL that stands for it
	with   map[string]string // column to its mask, as documents write it
	lookup map[string]bool   // columns whose raw values may be looked up
	system bool              // a system catalog: masked everywhere, and no reason to hide anything else
	query  string            // stands for the relation as it is
	source string            // of an expanded view: its definition, spliced
	inside int               // how many relations source reads
}

// sourceAlias names the real relation inside a generated sub-select.
const sourceAlias = "sallyport_source"

// columnwise says that the relation is read itself and masked column by column.
func (m *maskedRelation) columnwise() bool { return m.query == "" && m.source == "" }

// reads is how many relations the sub-select names.
func (m *maskedRelation) reads() int {
	if m.source != "" {
		return m.inside
	}
	return 1
}

// sub is the sub-select that stands for one use of the relation. Columns are
// bound by position, so that a concurrent rename cannot move a mask.
func (m *maskedRelation) sub(u *use) string {
	if m.query != "" {
		return m.query
	}
	var b strings.Builder
	var list []string
	for i, col := range m.rel.Columns {
		if u.reached != nil && !u.reached[col.Name] {
			continue
		}
		expr, masked := m.masks[col.Name]
		if !masked {
			expr = fmt.Sprintf("c%d", i+1)
		}
		list = append(list, expr+" as "+quoteIdent(col.Name))
	}
	for _, name := range u.system {
		list = append(list, sourceAlias+"."+name+" as "+name)
	}
	b.WriteString("(select " + strings.Join(list, ", ") + " from ")
	if u.only {
		b.WriteString("only ")
	}
	if m.source != "" {
		b.WriteString(m.source)
	} else {
		b.WriteString(quoteQualified(m.rel.Schema, m.rel.Name))
	}
	b.WriteString(" as " + sourceAlias + "(")
	for i := range m.rel.Columns {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "c%d", i+1)
	}
	b.WriteString(")" + u.sample)
	conditions := u.filter
	if u.fence != "" {
		conditions = append([]string{u.fence}, conditions...)
	}
	if len(conditions) > 0 {
		b.WriteString(" where " + strings.Join(conditions, " and "))
	}
	if m.source != "" && m.rel.Barrier {
		b.WriteString(" offset 0") // keeps the reader's conditions out of the definition
	}
	b.WriteString(")")
	return b.String()
}

// spread says which relations are masked, and which cannot be read soundly at
// all. A mask holds on partitions and inheritance children of its table, and on
// the parents, through which the same rows are read.
func (g *Guard) spread(masks []Mask, reviewed *Catalog) {
	cat := g.catalog
	g.masked, g.blocked = make(map[string]*maskedRelation), make(map[string]string)
	with := make(map[*Relation]map[string]string)
	put := func(r *Relation, column, mask string) bool {
		if r.Column(column) == nil || with[r][column] != "" {
			return false
		}
		if with[r] == nil {
			with[r] = make(map[string]string)
		}
		with[r][column] = mask
		return true
	}
	for _, m := range masks {
		if r, col, err := cat.splitColumn(m.Column); err == nil {
			put(r, col.Name, m.With)
		}
	}
	for _, p := range g.problems {
		g.blocked[key(p.relation.Schema, p.relation.Name)] = p.Error()
	}
	for changed := true; changed && len(masks) > 0; {
		changed = false
		for _, r := range cat.Relations {
			for _, p := range r.Parents {
				parent := cat.related(p)
				if parent == nil {
					continue
				}
				for column, mask := range with[parent] {
					changed = put(r, column, mask) || changed
				}
				for column, mask := range with[r] {
					changed = put(parent, column, mask) || changed
				}
				changed = g.blockTogether(parent, r) || changed
			}
		}
	}
	s := &viewSettler{g: g, with: with, settled: make(map[*Relation]bool)}
	s.maskUnreviewed(reviewed)
	for r, columns := range with {
		for _, col := range r.Columns {
			for _, from := range col.From {
				if columns[from] != "" && columns[col.Name] == "" {
					g.blocked[key(r.Schema, r.Name)] = fmt.Sprintf("column %s of %s is generated from a masked column and is not masked itself; have it masked too", col.Name, r.qualified())
				}
			}
		}
		g.masked[key(r.Schema, r.Name)] = s.relation(r, columns)
	}
	for _, m := range masks {
		if r, col, err := cat.splitColumn(m.Column); err == nil && m.Lookup {
			g.masked[key(r.Schema, r.Name)].lookup[col.Name] = true
		}
	}
	maskSystem(cat, g.masked)
	if len(masks) > 0 {
		for _, r := range cat.Relations {
			s.settle(r)
		}
	}
}

// blockTogether blocks both of a parent and its child when one is: the same rows are read through each.
func (g *Guard) blockTogether(parent, child *Relation) bool {
	p, c := key(parent.Schema, parent.Name), key(child.Schema, child.Name)
	switch {
	case g.blocked[p] != "" && g.blocked[c] == "":
		g.blocked[c] = g.blocked[p]
	case g.blocked[c] != "" && g.blocked[p] == "":
		g.blocked[p] = g.blocked[c]
	default:
		return false
	}
	return true
}

// maskUnreviewed masks the columns of masked relations that are not in the catalog
// that people reviewed: nobody has said yet that they may be seen.
func (s *viewSettler) maskUnreviewed(reviewed *Catalog) {
	if reviewed == nil {
		return
	}
	for r, columns := range s.with {
		for _, col := range r.Columns {
			if columns[col.Name] == "" && !s.reviewed(reviewed, r, col.Name) {
				columns[col.Name] = s.fitting(col, "redact")
			}
		}
	}
}

// reviewed says whether a column is in the reviewed catalog, by itself or by a parent of its relation.
func (s *viewSettler) reviewed(catalog *Catalog, r *Relation, column string) bool {
	if known := catalog.Relation(r.Schema, r.Name); known != nil && known.Column(column) != nil {
		return true
	}
	return slices.ContainsFunc(r.Parents, func(name string) bool {
		parent := s.g.catalog.related(name)
		return parent != nil && s.reviewed(catalog, parent, column)
	})
}
