package sqlguard

import (
	"slices"
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// A lookup finds rows by the raw value of a masked column, where a mask allows it:
//
//	select … from app.customers where email = $1 and country = 'nl'
//
// The condition moves into the sub-select that masks the table. In the place
// where it stood the column is replaced by the value itself, which leaves it
// true for the rows that remain. Only a condition that stands for itself counts:
// at the top level of the outermost WHERE, the whole column, "=" or IN, and
// constants or parameters. In all others the column is its mask, as ever. What a lookup
// tells is whether a value exists and in which rows, once per guess; guesses are counted.

// maxLookupValues bounds the values that one statement looks up.
const maxLookupValues = 20

// lookable says whether rows can be looked up by a value of the column: its
// type has an equality that computes with the two values and nothing else.
func lookable(col Column) bool {
	return isText(col) || isBuiltIn(col, "int2", "int4", "int8", "numeric", "uuid", "date")
}

// lookups understands the conditions of an outermost SELECT that look rows up.
func (a *analysis) lookups(n *pg.SelectStmt) {
	if a.refusal != nil || n == nil || n.Op != pg.SetOperation_SETOP_NONE || n.WithClause != nil || n.WhereClause == nil || a.facts.aliasColumns {
		return
	}
	var from []*use
	for _, item := range n.FromClause {
		from = append(from, a.keptBy(inner(item))...)
	}
	for _, condition := range conjuncts(n.WhereClause) {
		if len(from) > 0 {
			a.lookup(condition, from, len(n.FromClause) == 1 && n.FromClause[0].GetRangeVar() != nil)
		}
	}
	if a.facts.lookups > maxLookupValues {
		a.refuse("masked_lookup", "a statement may look up at most %d values of masked columns; send several", maxLookupValues)
	}
}

// keptBy are the masked relations of FROM of which a condition in WHERE removes
// rows: those that no outer join adds NULLs for.
func (a *analysis) keptBy(m any) []*use {
	switch m := m.(type) {
	case *pg.RangeVar:
		for _, u := range a.facts.uses {
			if u.start == int(m.Location) && u.replaced && u.masked.columnwise() && len(u.masked.lookup) > 0 && a.facts.aliases[u.alias] == 1 {
				return []*use{u}
			}
		}
	case *pg.JoinExpr:
		left, right := a.keptBy(inner(m.Larg)), a.keptBy(inner(m.Rarg))
		switch {
		case m.Alias != nil || m.JoinUsingAlias != nil:
		case m.Jointype == pg.JoinType_JOIN_INNER:
			return append(left, right...)
		case m.Jointype == pg.JoinType_JOIN_LEFT:
			return left
		case m.Jointype == pg.JoinType_JOIN_RIGHT:
			return right
		}
	}
	return nil
}

// conjuncts are what AND joins at the top of a condition.
func conjuncts(n *pg.Node) []*pg.Node {
	b := n.GetBoolExpr()
	if b == nil || b.Boolop != pg.BoolExprType_AND_EXPR {
		return []*pg.Node{n}
	}
	var all []*pg.Node
	for _, arg := range b.Args {
		all = append(all, conjuncts(arg)...)
	}
	return all
}

// lookup moves one condition into its sub-select, when it is one that may.
func (a *analysis) lookup(n *pg.Node, from []*use, alone bool) {
	e := n.GetAExpr()
	if e == nil || !slices.Equal(stringsOf(e.Name), []string{"="}) {
		return
	}
	ref, values := e.Lexpr.GetColumnRef(), []*pg.Node{e.Rexpr}
	switch {
	case e.Kind == pg.A_Expr_Kind_AEXPR_IN:
		values = e.Rexpr.GetList().GetItems()
	case e.Kind != pg.A_Expr_Kind_AEXPR_OP:
		return
	case ref == nil:
		ref, values = e.Rexpr.GetColumnRef(), []*pg.Node{e.Lexpr}
	}
	names := stringsOf(ref.GetFields())
	if len(names) == 0 || len(names) > 2 || len(names) == 1 && !alone || len(values) == 0 {
		return
	}
	column := names[len(names)-1]
	i := slices.IndexFunc(from, func(u *use) bool { return len(names) == 1 || names[0] == u.alias })
	if i < 0 || !from[i].masked.lookup[column] {
		return
	}
	written := make([]string, len(values))
	for k, v := range values {
		text, ok := a.clientValue(v)
		if !ok {
			return
		}
		written[k] = text
	}
	end, ok := nameEnd(a.text, int(ref.Location), len(names))
	if !ok {
		return
	}
	u := from[i]
	position := slices.IndexFunc(u.rel.Columns, func(c Column) bool { return c.Name == column })
	u.filter = append(u.filter, "c"+strconv.Itoa(position+1)+" in ("+strings.Join(written, ", ")+")")
	a.edits = append(a.edits, edit{start: int(ref.Location), end: end, text: "(" + written[0] + ")", names: true})
	a.facts.lookups += len(values)
	a.facts.part.ScrubErrors = true
}

// valueTypes are those that a looked up value may be cast to: their input functions look at nothing else.
var valueTypes = wordSet("text varchar bpchar name int2 int4 int8 numeric uuid date")

// clientValue writes a constant or parameter of the client's anew.
func (a *analysis) clientValue(n *pg.Node) (string, bool) {
	if c := n.GetTypeCast(); c != nil {
		names := stringsOf(c.TypeName.GetNames())
		value, ok := a.clientValue(c.Arg)
		last := ""
		if len(names) > 0 {
			last = names[len(names)-1]
		}
		if !ok || c.Arg.GetTypeCast() != nil || !valueTypes[last] || len(c.TypeName.Typmods) > 0 || len(c.TypeName.ArrayBounds) > 0 || c.TypeName.Setof ||
			len(names) == 2 && names[0] != "pg_catalog" || len(names) > 2 {
			return "", false
		}
		return value + "::pg_catalog." + last, true
	}
	if p := n.GetParamRef(); p != nil && p.Number > 0 {
		return "$" + strconv.Itoa(int(p.Number)), true
	}
	c := n.GetAConst()
	a.matters(c)
	switch {
	case c == nil || c.Isnull:
		return "", false
	case c.GetSval() != nil:
		a.sought[c.GetSval().Sval] = true
		return quoteLiteral(c.GetSval().Sval), true
	case c.GetIval() != nil:
		text := strconv.Itoa(int(c.GetIval().Ival))
		a.sought[strings.TrimPrefix(text, "-")] = true
		return "(" + text + ")", true
	case c.GetFval() != nil:
		a.sought[strings.TrimPrefix(c.GetFval().Fval, "-")] = true
		return "(" + c.GetFval().Fval + ")", true
	}
	return "", false
}
