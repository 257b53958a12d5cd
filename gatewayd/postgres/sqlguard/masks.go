package sqlguard

import (
	"fmt"
	"strings"
)

// MaskProblem is a mask that a catalog cannot carry.
type MaskProblem struct {
	Column string // as it was written
	Reason string
}

func (p MaskProblem) Error() string { return "mask " + p.Column + ": " + p.Reason }

// CheckMasks says which masks the catalog cannot carry: an unknown column, a
// mask that its type has no entry for, a column that another one reveals.
func CheckMasks(cat *Catalog, masks []Mask) []MaskProblem {
	var problems []MaskProblem
	seen := make(map[string]bool)
	for _, m := range masks {
		r, col, err := cat.splitColumn(m.Column)
		switch {
		case err != nil:
			problems = append(problems, MaskProblem{m.Column, err.Error()})
			continue
		case seen[m.Column]:
			problems = append(problems, MaskProblem{m.Column, "it is masked twice; keep one"})
		case !strings.Contains("rpvmf", r.Kind):
			problems = append(problems, MaskProblem{m.Column, "only columns of tables and views can be masked"})
		default:
			if _, err := maskExpression(cat, *col, m.With, "c"); err != nil {
				problems = append(problems, MaskProblem{m.Column, err.Error()})
			}
		}
		seen[m.Column] = true
	}
	for _, m := range masks {
		r, col, err := cat.splitColumn(m.Column)
		if err != nil {
			continue
		}
		for _, other := range r.Columns {
			for _, from := range other.From {
				if from == col.Name && !seen[r.qualified()+"."+other.Name] {
					problems = append(problems, MaskProblem{m.Column, fmt.Sprintf("column %s is generated from it and would reveal it; mask %s.%s too", other.Name, r.qualified(), other.Name)})
				}
			}
		}
	}
	return problems
}

// maskExpression is the SQL that stands for a masked column whose raw value is
// the column reference raw. It keeps the column's type (of a domain: its base
// type, which is also what the protocol reports), never raises an error, and
// for redact and null does not read the column.
//
//	            text, varchar(n), char(n), name   int, numeric   float          date, timestamps, time, interval
//	redact      ****                              0              0              1970-01-01, 00:00:00
//	null        null for every type
//	email       a***@***                          -              -              -
//	first       a***                              -              -              -
//	last4       ****6789                          remainder      -              -
//
// redact also has an entry for uuid, bool, bytea, bit strings, json, inet, cidr,
// macaddr, money, xml, tsvector, enums (their first label), ranges (empty) and arrays (empty).
// email, first and last4 keep NULL as NULL.
func maskExpression(cat *Catalog, col Column, with, raw string) (string, error) {
	typ, err := castType(col)
	if err != nil {
		return "", err
	}
	text := isText(col)
	var expr string
	switch {
	case with == "null":
		expr = "null"
	case with == "redact":
		expr, err = redaction(cat, col)
	case with == "email" && text:
		expr = "case when " + raw + " is null then null when pg_catalog.strpos(" + raw + "::pg_catalog.text, '@') operator(pg_catalog.>) 1 then pg_catalog.left(" +
			raw + "::pg_catalog.text, 1) operator(pg_catalog.||) '***@***' else '****' end"
	case with == "first" && text:
		expr = "case when " + raw + " is null then null else pg_catalog.left(" + raw + "::pg_catalog.text, 1) operator(pg_catalog.||) '***' end"
	case with == "last4" && text:
		expr = "case when " + raw + " is null then null when pg_catalog.length(" + raw + "::pg_catalog.text) operator(pg_catalog.>=) 8 then '****' operator(pg_catalog.||) pg_catalog.right(" +
			raw + "::pg_catalog.text, 4) else '****' end"
	case with == "last4" && (col.Base == "int8" || col.Base == "numeric") && col.Schema == "pg_catalog":
		expr = "case when " + raw + " is null then null when " + raw + " operator(pg_catalog.>=) 10000000 then pg_catalog.mod(" + raw + ", 10000) else 0 end"
	case with == "email" || with == "first" || with == "last4":
		return "", fmt.Errorf("%s has no form for type %s; use redact or null", with, col.Type)
	default:
		return "", fmt.Errorf("mask %q is not known; use redact, null, email, first or last4", with)
	}
	if err != nil {
		return "", err
	}
	return "(" + expr + ")::" + typ, nil
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
	with   map[string]string // column to the name of its mask
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
	if m.source != "" && m.rel.Barrier {
		b.WriteString(" offset 0") // keeps the reader's conditions out of the definition
	}
	b.WriteString(")")
	return b.String()
}

// spread says which relations are masked, and which cannot be read soundly at
// all. A mask holds on partitions and inheritance children of its table, and on
// the parents, through which the same rows are read.
func (g *Guard) spread(masks []Mask) {
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
			}
		}
	}
	s := &viewSettler{g: g, with: with, settled: make(map[*Relation]bool)}
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
	maskSystem(cat, g.masked)
	if len(masks) > 0 {
		for _, r := range cat.Relations {
			s.settle(r)
		}
	}
}
