package sqlguard

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"github.com/sallyport-dev/sallyport/policies"
)

func (a *analysis) unsupported(what string) {
	a.refuse("unsupported_statement", "%s is not supported; write it with plain SELECT, INSERT, UPDATE or DELETE", what)
}

// visitBelow is visit for use with children.
func (a *analysis) visitBelow(m any) { a.visit(m) }

// visit understands one node of a query and everything below it. It is an
// allow-list: a node that is not named here refuses the text.
func (a *analysis) visit(m any) {
	if a.refusal != nil {
		return
	}
	switch n := m.(type) {
	case *pg.SelectStmt:
		a.selectStmt(n, false)
	case *pg.InsertStmt:
		a.insert(n)
	case *pg.UpdateStmt:
		a.update(n)
	case *pg.DeleteStmt:
		a.delete(n)
	case *pg.MergeStmt:
		a.merge(n)
	case *pg.RangeVar:
		a.read(n)
	case *pg.WithClause:
		// withQueries has been there.
	case *pg.ColumnRef:
		a.columnRef(n)
	case *pg.ParamRef:
		a.facts.params = append(a.facts.params, int(n.Number))
	case *pg.FuncCall:
		a.funcCall(n)
		children(n, a.visitBelow)
	case *pg.A_Indirection:
		a.fieldSelection(n)
		children(n, a.visitBelow)
	case *pg.A_Expr:
		a.operator(stringsOf(n.Name))
		switch n.Kind {
		case pg.A_Expr_Kind_AEXPR_BETWEEN, pg.A_Expr_Kind_AEXPR_NOT_BETWEEN, pg.A_Expr_Kind_AEXPR_BETWEEN_SYM, pg.A_Expr_Kind_AEXPR_NOT_BETWEEN_SYM:
			a.operator([]string{"<="})
			a.operator([]string{">="})
			a.operator([]string{"<"})
			a.operator([]string{">"})
		}
		children(n, a.visitBelow)
	case *pg.SubLink:
		a.operator(stringsOf(n.OperName))
		if n.SubLinkType == pg.SubLinkType_ANY_SUBLINK && len(n.OperName) == 0 { // IN
			a.operator([]string{"="})
		}
		children(n, a.visitBelow)
	case *pg.SortBy:
		a.operator(stringsOf(n.UseOp))
		children(n, a.visitBelow)
	case *pg.TypeName:
		a.typeName(n)
		a.types++ // whose modifiers are constants that decide what type it is
		children(n, a.visitBelow)
		a.types--
	case *pg.A_Const:
		a.constant(n)
	case *pg.JoinExpr:
		a.facts.natural = a.facts.natural || n.IsNatural
		a.alias(n.Alias)
		a.alias(n.JoinUsingAlias)
		a.facts.joinAlias = a.facts.joinAlias || n.Alias != nil
		if n.IsNatural || len(n.UsingClause) > 0 {
			a.operator([]string{"="})
		}
		for _, name := range stringsOf(n.UsingClause) {
			a.facts.columns = append(a.facts.columns, columnRef{names: []string{name}, location: -1})
		}
		children(n, a.visitBelow)
	case *pg.RangeSubselect:
		a.alias(n.Alias)
		children(n, a.visitBelow)
		a.derived(n)
	case *pg.RangeFunction:
		a.alias(n.Alias)
		for _, col := range n.Coldeflist { // that no name stands twice in
			a.facts.derived[[2]string{n.GetAlias().GetAliasname(), col.GetColumnDef().GetColname()}]++
		}
		if !a.allSettings(n) {
			children(n, a.visitBelow)
		}
	case *pg.RangeTableFunc:
		a.alias(n.Alias)
		children(n, a.visitBelow)
	case *pg.JsonTable:
		a.alias(n.Alias)
		a.sqlFunctions("json_table")
		children(n, a.visitBelow)
	case *pg.RangeTableSample:
		a.sample(n)
	case *pg.JsonFuncExpr:
		a.sqlFunctions("json_exists", "json_query", "json_value")
		children(n, a.visitBelow)
	case *pg.JsonParseExpr, *pg.JsonScalarExpr, *pg.JsonSerializeExpr, *pg.JsonObjectConstructor, *pg.JsonArrayConstructor,
		*pg.JsonArrayQueryConstructor, *pg.JsonObjectAgg, *pg.JsonArrayAgg:
		a.sqlFunctions("json", "json_scalar", "json_serialize", "json_object", "json_array", "json_objectagg", "json_arrayagg")
		children(m, a.visitBelow)
	case *pg.MergeSupportFunc:
		a.sqlFunctions("merge_action")
	case *pg.CaseExpr:
		if n.Arg != nil {
			a.operator([]string{"="})
		}
		children(n, a.visitBelow)
	case *pg.Alias, *pg.A_Star, *pg.A_Indices, *pg.A_ArrayExpr, *pg.ResTarget, *pg.MultiAssignRef,
		*pg.BoolExpr, *pg.CaseWhen, *pg.CoalesceExpr, *pg.MinMaxExpr, *pg.NullTest, *pg.BooleanTest,
		*pg.RowExpr, *pg.GroupingSet, *pg.GroupingFunc, *pg.CollateClause, *pg.NamedArgExpr, *pg.SQLValueFunction,
		*pg.TypeCast, *pg.XmlExpr, *pg.XmlSerialize, *pg.SetToDefault, *pg.CurrentOfExpr, *pg.WindowDef,
		*pg.RangeTableFuncCol, *pg.ColumnDef, *pg.InferClause, *pg.IndexElem, *pg.OnConflictClause, *pg.MergeWhenClause,
		*pg.List, *pg.String, *pg.Integer, *pg.Float, *pg.Boolean, *pg.BitString,
		*pg.JsonOutput, *pg.JsonReturning, *pg.JsonFormat, *pg.JsonValueExpr, *pg.JsonKeyValue, *pg.JsonAggConstructor,
		*pg.JsonIsPredicate, *pg.JsonArgument, *pg.JsonBehavior, *pg.JsonTableColumn, *pg.JsonTablePathSpec,
		*pg.CTESearchClause, *pg.CTECycleClause:
		children(m, a.visitBelow)
	default:
		a.unsupported("a part of this statement")
	}
}

func (a *analysis) alias(alias *pg.Alias) {
	if alias == nil {
		return
	}
	a.facts.aliases[alias.Aliasname]++
	a.renames(alias)
}

// renames notes the column names of an alias, which it surely has then. It says whether there are any.
func (a *analysis) renames(alias *pg.Alias) bool {
	names := alias.GetColnames()
	for i, n := range names {
		if !slices.ContainsFunc(names[:i], func(m *pg.Node) bool { return m.GetString_().GetSval() == n.GetString_().GetSval() }) {
			a.facts.derived[[2]string{alias.Aliasname, n.GetString_().GetSval()}]++
		}
	}
	a.facts.aliasColumns = a.facts.aliasColumns || len(names) > 0
	return len(names) > 0
}

// derived notes the column names of a sub-select in FROM.
func (a *analysis) derived(n *pg.RangeSubselect) {
	if n.Alias == nil || len(n.Alias.Colnames) > 0 {
		return
	}
	for name := range a.columnsOf(n.Subquery) {
		a.facts.derived[[2]string{n.Alias.Aliasname, name}]++
	}
}

// columnsOf are columns that the result of a query surely has.
func (a *analysis) columnsOf(n *pg.Node) map[string]bool {
	q := n.GetSelectStmt()
	if q == nil {
		return nil
	}
	for q.Larg != nil { // which names the columns of a set operation
		q = q.Larg
	}
	names := make(map[string]bool)
	for _, item := range q.TargetList {
		r := item.GetResTarget()
		ref := stringsOf(r.GetVal().GetColumnRef().GetFields())
		switch {
		case r.GetName() != "":
			names[r.Name] = true
		case isStar(r.GetVal()):
			for _, from := range q.FromClause {
				if len(ref) == 1 || len(ref) == 2 && knownAs(from) == ref[0] {
					a.columnsFrom(from, names)
				}
			}
		case len(ref) > 0:
			names[ref[len(ref)-1]] = true
		}
	}
	return names
}

// knownAs is the alias of an item of FROM, "" where it has none or is a join.
func knownAs(n *pg.Node) string {
	switch m := inner(n).(type) {
	case *pg.RangeVar:
		return aliasOf(m)
	case *pg.RangeSubselect:
		return m.Alias.GetAliasname()
	}
	return ""
}

// columnsFrom adds the columns that an item of FROM surely has.
func (a *analysis) columnsFrom(n *pg.Node, names map[string]bool) {
	switch m := inner(n).(type) {
	case *pg.RangeVar:
		if m.Alias != nil && len(m.Alias.Colnames) > 0 {
			return
		}
		if m.Schemaname == "" && a.isWithQuery(m.Relname) {
			for name := range a.facts.withColumns[m.Relname] {
				names[name] = true
			}
			return
		}
		for _, u := range a.facts.uses {
			if u.start == int(m.Location) && u.rel != nil {
				for _, c := range u.rel.Columns {
					names[c.Name] = true
				}
			}
		}
	case *pg.RangeSubselect:
		if m.Alias == nil || len(m.Alias.Colnames) == 0 {
			for name := range a.columnsOf(m.Subquery) {
				names[name] = true
			}
		}
	case *pg.JoinExpr:
		if m.Alias == nil {
			a.columnsFrom(m.Larg, names)
			a.columnsFrom(m.Rarg, names)
		}
	}
}

// selectStmt understands a SELECT, VALUES or TABLE. into allows INTO, for the outermost one.
func (a *analysis) selectStmt(n *pg.SelectStmt, outermost bool) {
	if n.IntoClause != nil && !outermost {
		a.unsupported("SELECT INTO inside another statement")
		return
	}
	if n.Op != pg.SetOperation_SETOP_NONE {
		a.facts.setOperation = true
	}
	a.withQueries(n.WithClause, func() {
		before := len(a.facts.uses)
		level := &selectLevel{node: n}
		a.facts.levels = append(a.facts.levels, level)
		a.selectList(n.TargetList, outermost)
		for _, list := range [][]*pg.Node{n.DistinctClause, n.FromClause, n.GroupClause, n.WindowClause, n.ValuesLists, n.SortClause} {
			a.visitAll(list)
		}
		for _, one := range []*pg.Node{n.WhereClause, n.HavingClause, n.LimitOffset, n.LimitCount} {
			a.visitNode(one)
		}
		if n.Larg != nil {
			a.selectStmt(n.Larg, false)
		}
		if n.Rarg != nil {
			a.selectStmt(n.Rarg, false)
		}
		level.uses = a.facts.usesOf(n.FromClause)
		s := &site{anchor: leftmost(nodes(n.FromClause)...), words: []string{"from", "table"}, uses: level.uses}
		if outermost && plainLevel(n) {
			s.top = n
		}
		a.facts.sites = append(a.facts.sites, s)
		a.locks(n, a.facts.uses[before:])
		a.groupByKey(n)
		a.tableCommand(n)
	})
}

func (a *analysis) visitAll(list []*pg.Node) {
	for _, n := range list {
		a.visitNode(n)
	}
}

func (a *analysis) visitNode(n *pg.Node) {
	if in := inner(n); in != nil {
		a.visit(in)
	}
}

// selectList visits a select list and notes where its stars are.
func (a *analysis) selectList(list []*pg.Node, outermost bool) {
	for _, n := range list {
		if isStar(n.GetResTarget().GetVal()) {
			if outermost {
				a.facts.topStar = true
			} else {
				a.facts.star = true
			}
		}
		a.visitNode(n)
	}
}

func isStar(n *pg.Node) bool {
	fields := n.GetColumnRef().GetFields()
	return len(fields) > 0 && fields[len(fields)-1].GetAStar() != nil
}

// locks adds the effect of FOR UPDATE and its like to every relation below the
// SELECT: which ones are meant is not worth resolving, and none goes missing.
func (a *analysis) locks(n *pg.SelectStmt, uses []*use) {
	for _, l := range n.LockingClause {
		for _, r := range l.GetLockingClause().GetLockedRels() {
			a.bare[int(r.GetRangeVar().GetLocation())] = true
		}
		for _, u := range uses {
			if u.object != "" && !u.locked {
				u.locked = true
				u.verbs = append(u.verbs, policies.Effect{Verb: "lock", Object: u.object})
			}
		}
	}
}

// columnRef notes a column reference and refuses function calls that are written as one.
func (a *analysis) columnRef(n *pg.ColumnRef) {
	names := make([]string, len(n.Fields))
	for i, f := range n.Fields {
		if s := f.GetString_(); s != nil {
			names[i] = s.Sval
		}
	}
	if len(names) == 0 {
		a.unsupported("this column reference")
		return
	}
	ref := columnRef{names: names, location: int(n.Location)}
	a.facts.columns = append(a.facts.columns, ref)
	if len(names) > 1 && ref.last() != "" {
		a.fieldName(ref.qualifier(), ref.last())
	}
}

// fieldSelection notes (expression).field, which may also call a function of that name.
func (a *analysis) fieldSelection(n *pg.A_Indirection) {
	qualifier := ""
	if names := stringsOf(n.Arg.GetColumnRef().GetFields()); len(names) == 1 && len(n.Indirection) == 1 {
		qualifier = names[0] // (alias).field
	}
	for _, f := range n.Indirection {
		if s := f.GetString_(); s != nil {
			a.facts.indirection = true
			a.fieldName(qualifier, s.Sval)
			a.facts.columns = append(a.facts.columns, columnRef{names: []string{s.Sval}, location: -1})
		} else if f.GetAStar() != nil {
			a.facts.indirection, a.facts.star = true, true
		}
	}
}
