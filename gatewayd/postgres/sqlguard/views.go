package sqlguard

import (
	"fmt"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// A view that reads masked columns is masked in one of two ways. Where its
// definition does nothing with them but list them, the same masks go on the
// view's own columns, and the view stays a view. Everything else is expanded:
// the definition, spliced like any statement, stands in the view's place, so
// that none of its expressions sees a raw value. What a materialized view has
// stored was computed from raw values: its columns that were computed from a
// masked one are hidden, and it is blocked when masked values decide its rows.
type viewSettler struct {
	g       *Guard
	with    map[*Relation]map[string]string
	settled map[*Relation]bool
}

// settle decides how a view is masked, those that it reads first.
func (s *viewSettler) settle(r *Relation) {
	if s.settled[r] {
		return
	}
	s.settled[r] = true
	if r.Kind != "v" && r.Kind != "m" || r.Schema == "pg_catalog" {
		return
	}
	k := key(r.Schema, r.Name)
	reads := false
	for _, name := range r.Reads {
		base := s.g.catalog.related(name)
		if base == nil {
			continue
		}
		s.settle(base)
		m := s.g.masked[key(base.Schema, base.Name)]
		reads = reads || m != nil && !m.system
	}
	if reason := s.blockReason(r); reason != "" {
		s.g.blocked[k] = reason
		return
	}
	if reads {
		s.mask(r)
	}
}

// blockReason says why a view cannot be read at all.
func (s *viewSettler) blockReason(r *Relation) string {
	for _, name := range r.Reads {
		base := s.g.catalog.related(name)
		catalog, isCatalog := strings.CutPrefix(name, "pg_catalog.")
		switch {
		case base != nil && s.g.blocked[key(base.Schema, base.Name)] != "":
			return fmt.Sprintf("view %s reads %s, which cannot be read here: %s", r.qualified(), name, s.g.blocked[key(base.Schema, base.Name)])
		case base != nil:
		case isCatalog && !systemCatalogs[catalog]:
			return fmt.Sprintf("view %s reads %s, which can show data or secrets; query the tables directly", r.qualified(), name)
		case !isCatalog && !strings.HasPrefix(name, "information_schema."):
			return fmt.Sprintf("view %s reads %s, which the catalog does not know; query the tables directly", r.qualified(), name)
		}
	}
	for _, name := range r.Calls {
		schema, fn, _ := strings.Cut(name, ".")
		if !s.g.listed[key(schema, fn)] && !s.g.catalog.computes(schema, fn) {
			return fmt.Sprintf("view %s calls function %s, which could read masked columns; query the tables directly, or have the function listed under functions in the connection", r.qualified(), name)
		}
	}
	return ""
}

// mask masks a view that reads masked relations.
func (s *viewSettler) mask(r *Relation) {
	k := key(r.Schema, r.Name)
	tree, err := parse(r.Definition)
	var n *pg.SelectStmt
	if err == nil && len(tree.Stmts) == 1 {
		n = tree.Stmts[0].Stmt.GetSelectStmt()
	}
	if n == nil {
		s.g.blocked[k] = fmt.Sprintf("the catalog has no readable definition of view %s; query the tables directly", r.qualified())
		return
	}
	if masks, ok := s.lineage(r, n); ok {
		with := s.with[r]
		if with == nil {
			with = make(map[string]string)
		}
		for column, mask := range masks {
			if with[column] == "" {
				with[column] = s.fitting(*r.Column(column), mask)
			}
		}
		if len(with) > 0 {
			s.g.masked[k] = s.relation(r, with)
		}
		return
	}
	if r.Kind == "m" {
		s.g.blocked[k] = fmt.Sprintf("materialized view %s was computed from masked columns, which decide what rows it has; query the tables directly, where they are masked", r.qualified())
		return
	}
	s.expand(r)
}

// fitting is the mask that a column of a view can carry, for one that masks what it was made from.
func (s *viewSettler) fitting(col Column, mask string) string {
	for _, with := range []string{mask, "redact"} {
		if _, err := s.g.masker.expression(col, with, "c"); err == nil {
			return with
		}
	}
	return "null"
}

// expand makes the view's own definition stand in its place.
func (s *viewSettler) expand(r *Relation) {
	k := key(r.Schema, r.Name)
	st := s.g.understand(strings.TrimRight(strings.TrimSpace(r.Definition), ";"), Scope{}, true)
	if st.Command.Refusal != nil {
		s.g.blocked[k] = fmt.Sprintf("view %s computes with masked columns and cannot be expanded: %s", r.qualified(), st.Command.Refusal.Reason)
		return
	}
	m := s.relation(r, s.with[r])
	m.source = "(" + st.Rewritten + ")"
	if tree, err := parse(st.Rewritten); err == nil {
		descend(inner(tree.Stmts[0].Stmt), func(n any) bool {
			if _, ok := n.(*pg.RangeVar); ok {
				m.inside++
			}
			return true
		})
	}
	s.g.masked[k] = m
}

// relation makes the masks of a relation; a column without a form for its mask blocks it.
func (s *viewSettler) relation(r *Relation, with map[string]string) *maskedRelation {
	m := &maskedRelation{rel: r, masks: make(map[string]string), with: with, lookup: make(map[string]bool)}
	for i, col := range r.Columns {
		if with[col.Name] == "" {
			continue
		}
		expr, err := s.g.masker.expression(col, with[col.Name], fmt.Sprintf("c%d", i+1))
		if err != nil {
			s.g.blocked[key(r.Schema, r.Name)] = fmt.Sprintf("column %s of %s cannot be masked: %v", col.Name, r.qualified(), err)
			continue
		}
		m.masks[col.Name] = expr
	}
	return m
}

// lineage says which columns of a view need which mask. ok is false when masked
// columns are used for anything but being listed, or, in a materialized view,
// for computing what is listed.
func (s *viewSettler) lineage(r *Relation, n *pg.SelectStmt) (masks map[string]string, ok bool) {
	if n.Op != pg.SetOperation_SETOP_NONE || n.WithClause != nil || len(n.TargetList) != len(r.Columns) {
		return nil, false
	}
	l := lineage{s: s, from: make(map[string]*Relation), ok: true}
	for _, item := range n.FromClause {
		l.fromItem(item)
	}
	masks = make(map[string]string)
	items := make(map[*pg.ColumnRef]bool)
	for i, t := range n.TargetList {
		value := t.GetResTarget().GetVal()
		if ref := value.GetColumnRef(); ref != nil {
			if mask := l.maskOf(ref); mask != "" {
				masks[r.Columns[i].Name] = mask
				items[ref] = true
			}
			continue
		}
		if r.Kind != "m" {
			continue
		}
		descend(inner(value), func(m any) bool {
			switch ref := m.(type) {
			case *pg.SubLink:
				return false
			case *pg.ColumnRef:
				if l.maskOf(ref) != "" {
					masks[r.Columns[i].Name] = "redact"
					items[ref] = true
				}
			}
			return true
		})
	}
	if len(n.DistinctClause) > 0 && len(masks) > 0 {
		return nil, false
	}
	descend(n, func(m any) bool {
		switch m := m.(type) {
		case *pg.RangeVar:
			if base := s.base(m); base != nil && l.from[aliasOf(m)] != base {
				l.ok = false // a masked relation below the outermost FROM
			}
		case *pg.ColumnRef:
			if !items[m] && l.maskOf(m) != "" {
				l.ok = false
			}
		}
		return l.ok
	})
	return masks, l.ok
}

// lineage is one view's outermost FROM.
type lineage struct {
	s    *viewSettler
	from map[string]*Relation // masked relations by alias
	ok   bool
}

// base is the masked relation that a definition's name means, nil when it is none.
func (s *viewSettler) base(n *pg.RangeVar) *Relation {
	if m := s.g.masked[key(n.Schemaname, n.Relname)]; m != nil && !m.system {
		return m.rel
	}
	return nil
}

func (l *lineage) fromItem(n *pg.Node) {
	switch m := inner(n).(type) {
	case *pg.RangeVar:
		base := l.s.base(m)
		if base == nil {
			return
		}
		alias := aliasOf(m)
		if l.from[alias] != nil || m.Alias != nil && len(m.Alias.Colnames) > 0 || !l.s.g.masked[key(base.Schema, base.Name)].columnwise() {
			l.ok = false
		}
		l.from[alias] = base
	case *pg.JoinExpr:
		l.fromItem(m.Larg)
		l.fromItem(m.Rarg)
		if m.Alias != nil || m.IsNatural {
			l.ok = false
		}
		for _, name := range stringsOf(m.UsingClause) {
			l.ok = l.ok && l.maskNamed(name) == ""
		}
	}
}

// maskNamed is the mask of any masked column of that name.
func (l *lineage) maskNamed(name string) string {
	for _, alias := range sortedKeys(l.from) {
		base := l.from[alias]
		if mask := l.s.g.masked[key(base.Schema, base.Name)].with[name]; mask != "" {
			return mask
		}
	}
	return ""
}

// maskOf is the mask of what a column reference means. Stars and whole rows of
// masked relations end the lineage.
func (l *lineage) maskOf(ref *pg.ColumnRef) string {
	names := stringsOf(ref.Fields)
	last := names[len(names)-1]
	if len(names) == 1 {
		if l.from[last] != nil || last == "" && len(l.from) > 0 {
			l.ok = false
		}
		return l.maskNamed(last)
	}
	base := l.from[names[len(names)-2]]
	if base == nil {
		return ""
	}
	if last == "" || base.Column(last) == nil && !systemColumns[last] {
		l.ok = false
	}
	return l.s.g.masked[key(base.Schema, base.Name)].with[last]
}
