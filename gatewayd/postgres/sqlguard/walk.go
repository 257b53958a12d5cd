package sqlguard

import (
	"reflect"
	"sync"

	pg "github.com/pganalyze/pg_query_go/v6"
)

var (
	nodeType = reflect.TypeFor[*pg.Node]()
	// plans caches, per parse tree struct, which of its fields can hold
	// further nodes: reflection is then a few field reads per node, and no
	// field that holds a node can be forgotten.
	plans sync.Map // reflect.Type → []int
)

// inner is what a node wraps: *pg.SelectStmt, *pg.RangeVar …; nil for an empty node.
func inner(n *pg.Node) any {
	if n == nil || n.Node == nil {
		return nil
	}
	return reflect.ValueOf(n.Node).Elem().Field(0).Interface()
}

// children calls visit with each parse tree message directly below m, unwrapped.
func children(m any, visit func(any)) {
	if ref, ok := m.(*pg.MultiAssignRef); ok && ref.Colno > 1 {
		return // (a, b) = (select …) stands once in the text and once for each column in the tree
	}
	v := reflect.ValueOf(m)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return
	}
	v = v.Elem()
	for _, i := range plan(v.Type()) {
		f := v.Field(i)
		if f.Kind() == reflect.Slice {
			for j := range f.Len() {
				visitField(f.Index(j), visit)
			}
			continue
		}
		visitField(f, visit)
	}
}

func visitField(f reflect.Value, visit func(any)) {
	if f.IsNil() {
		return
	}
	if f.Kind() == reflect.Interface { // the one-of of A_Const
		f = f.Elem().Elem().Field(0)
		if f.Kind() == reflect.Pointer && !f.IsNil() {
			visit(f.Interface())
		}
		return
	}
	if f.Type() == nodeType {
		if in := inner(f.Interface().(*pg.Node)); in != nil {
			visit(in)
		}
		return
	}
	visit(f.Interface())
}

// plan lists the fields of a struct type that can hold nodes.
func plan(t reflect.Type) []int {
	if p, ok := plans.Load(t); ok {
		return p.([]int)
	}
	fields := []int{}
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		ft := f.Type
		if ft.Kind() == reflect.Slice {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Pointer && ft.Elem().Kind() == reflect.Struct || ft.Kind() == reflect.Interface {
			fields = append(fields, i)
		}
	}
	plans.Store(t, fields)
	return fields
}

// descend calls visit with m and everything below it; visit returns false to stay out of a subtree.
func descend(m any, visit func(any) bool) {
	if m == nil || !visit(m) {
		return
	}
	children(m, func(c any) { descend(c, visit) })
}

// stringsOf lists the String nodes of a name list; "" stands for anything else.
func stringsOf(nodes []*pg.Node) []string {
	names := make([]string, len(nodes))
	for i, n := range nodes {
		if s := n.GetString_(); s != nil {
			names[i] = s.Sval
		}
	}
	return names
}
