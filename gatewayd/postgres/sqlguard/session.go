package sqlguard

import (
	"slices"
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"

	"github.com/sallyport-dev/sallyport/policies"
)

// topLevel understands a statement that stands by itself. It is the statement
// allow-list: what is not named is refused.
func (a *analysis) topLevel(m any) {
	f := a.facts
	switch n := m.(type) {
	case *pg.SelectStmt:
		f.part.Kind = KindSelect
		a.topSelect(n)
	case *pg.InsertStmt, *pg.UpdateStmt, *pg.DeleteStmt, *pg.MergeStmt:
		f.part.Kind = dmlKind(m)
		a.visit(m)
	case *pg.CopyStmt:
		a.copyStmt(n)
	case *pg.ExplainStmt:
		a.explain(n)
	case *pg.PrepareStmt:
		a.prepare(n)
	case *pg.ExecuteStmt:
		a.execute(n)
	case *pg.DeallocateStmt:
		f.part = Part{Kind: KindDeallocate, Name: n.Name}
		if n.Isall {
			f.part.Name = ""
		}
	case *pg.DeclareCursorStmt:
		f.part = Part{Kind: KindDeclare, Name: n.Portalname}
		a.query(n.Query, false)
		a.lookups(n.Query.GetSelectStmt())
	case *pg.FetchStmt:
		f.part = Part{Kind: KindFetch, Name: n.Portalname, ScrubErrors: false}
	case *pg.ClosePortalStmt:
		f.part = Part{Kind: KindClose, Name: n.Portalname}
	case *pg.TransactionStmt:
		a.transaction(n)
	case *pg.ConstraintsSetStmt:
		f.part = Part{Kind: KindSet, Name: "constraints", ScrubErrors: a.g.hasMask}
		for _, c := range n.Constraints {
			a.bare[int(c.GetRangeVar().GetLocation())] = true
		}
	case *pg.VariableSetStmt:
		a.variableSet(n)
	case *pg.VariableShowStmt:
		f.part = Part{Kind: KindShow, Name: strings.ToLower(n.Name)}
		if f.part.Name == "all" {
			a.showAll()
			return
		}
		a.showSetting(f.part.Name)
	case *pg.DiscardStmt:
		f.part = Part{Kind: KindDiscard, Name: discardName(n.Target)}
	case *pg.NotifyStmt:
		f.part = Part{Kind: KindNotify, Name: n.Conditionname}
		f.verbs = append(f.verbs, policies.Effect{Verb: "notify"})
	case *pg.ListenStmt:
		f.part = Part{Kind: KindNotify, Name: n.Conditionname}
		f.verbs = append(f.verbs, policies.Effect{Verb: "listen"})
	case *pg.UnlistenStmt:
		f.part = Part{Kind: KindNotify, Name: n.Conditionname}
	default:
		a.definition(m)
	}
}

func dmlKind(m any) Kind {
	switch m.(type) {
	case *pg.InsertStmt:
		return KindInsert
	case *pg.UpdateStmt:
		return KindUpdate
	case *pg.DeleteStmt:
		return KindDelete
	}
	return KindMerge
}

func discardName(t pg.DiscardMode) string {
	switch t {
	case pg.DiscardMode_DISCARD_ALL:
		return "all"
	case pg.DiscardMode_DISCARD_PLANS:
		return "plans"
	case pg.DiscardMode_DISCARD_SEQUENCES:
		return "sequences"
	}
	return "temp"
}

// topSelect understands an outermost SELECT, with or without INTO.
func (a *analysis) topSelect(n *pg.SelectStmt) {
	a.onlyCall = onlyCall(n)
	into := n.IntoClause
	leftmost := n
	for into == nil && leftmost.Larg != nil {
		leftmost = leftmost.Larg
		into = leftmost.IntoClause
	}
	if into != nil && leftmost != n {
		a.unsupported("SELECT INTO inside UNION")
		return
	}
	if into != nil {
		a.into(into)
	}
	a.selectStmt(n, true)
	a.onlyCall = false
	if into == nil {
		a.lookups(n)
	}
	if into != nil {
		a.storedResult()
	}
}

// onlyCall says whether a SELECT is one function call and nothing else.
func onlyCall(n *pg.SelectStmt) bool {
	return len(n.TargetList) == 1 && n.TargetList[0].GetResTarget().GetVal().GetFuncCall() != nil &&
		len(n.FromClause) == 0 && n.WhereClause == nil && n.Op == pg.SetOperation_SETOP_NONE && n.WithClause == nil &&
		n.IntoClause == nil && len(n.GroupClause) == 0 && n.HavingClause == nil && n.LimitCount == nil && n.LimitOffset == nil &&
		len(n.SortClause) == 0 && len(n.DistinctClause) == 0
}

// into notes the relation that a result is stored in.
func (a *analysis) into(n *pg.IntoClause) {
	if n.ViewQuery != nil || n.Rel == nil {
		a.unsupported("this INTO")
		return
	}
	a.creates(n.Rel, KindDDL)
}

// storedResult refuses to keep masked values where others would take them for data.
func (a *analysis) storedResult() {
	if a.facts.part.Temp != nil || a.refusal != nil {
		return
	}
	for _, u := range a.facts.uses {
		if u.replaced && !u.masked.system {
			a.refuse("masked_copy", "masked columns of %s may not be stored in a permanent relation; use CREATE TEMP TABLE", u.rel.qualified())
		}
	}
}

// creates notes a new relation.
func (a *analysis) creates(r *pg.RangeVar, kind Kind) *use {
	t, ok := a.resolveNew(r)
	if !ok {
		return nil
	}
	start, end, ok := a.locate(r)
	if !ok {
		return nil
	}
	u := &use{object: t.object(), alias: r.Relname, start: start, end: end, qualified: r.Schemaname != "", schema: t.schema, name: t.name}
	u.verbs = []policies.Effect{{Verb: "create", Object: t.object()}}
	a.facts.uses = append(a.facts.uses, u)
	a.facts.part.Kind = kind
	if t.temp {
		a.facts.part.Kind, a.facts.part.Temp = KindCreateTemp, &TempRelation{Name: t.name}
	}
	return u
}

// query understands the statement inside another one.
func (a *analysis) query(n *pg.Node, outermost bool) {
	switch m := inner(n).(type) {
	case *pg.SelectStmt:
		if m.IntoClause != nil {
			a.unsupported("SELECT INTO inside another statement")
			return
		}
		a.selectStmt(m, outermost)
	case *pg.InsertStmt, *pg.UpdateStmt, *pg.DeleteStmt, *pg.MergeStmt:
		a.visit(m)
	default:
		a.unsupported("this inner statement")
	}
}

func (a *analysis) explain(n *pg.ExplainStmt) {
	switch m := inner(n.Query).(type) {
	case *pg.ExecuteStmt:
		if a.execute(m); a.facts.lookups > 0 {
			a.refuse("masked_lookup", "the plan of a statement that looks up values of masked columns would tell how many rows have them; explain the SELECT itself, which is shown with the masks")
		}
	case *pg.CreateTableAsStmt:
		a.definition(m)
	case *pg.DeclareCursorStmt:
		a.query(m.Query, false)
	default:
		a.query(n.Query, true)
	}
	a.facts.part.Kind = KindExplain
	a.facts.planOnly = !slices.ContainsFunc(n.Options, func(o *pg.Node) bool { return o.GetDefElem().GetDefname() == "analyze" })
}

func (a *analysis) prepare(n *pg.PrepareStmt) {
	a.facts.part = Part{Kind: KindPrepare, Name: n.Name, Prepared: &PreparedEffects{}}
	for _, t := range n.Argtypes {
		a.visitNode(t)
	}
	a.query(n.Query, true)
	a.lookups(n.Query.GetSelectStmt())
}

func (a *analysis) execute(n *pg.ExecuteStmt) {
	p, ok := a.prepared[n.Name]
	if !ok {
		a.refuse("unknown_prepared", "prepared statement %q is not known in this session; PREPARE it first", n.Name)
		return
	}
	f := a.facts
	f.part.Kind, f.part.Name, f.part.ScrubErrors = KindExecute, n.Name, p.ScrubErrors
	f.verbs = append(f.verbs, p.Effects...)
	f.executesMasked = f.executesMasked || p.Masked
	f.secret = f.secret || p.Sensitive
	f.lookups += p.Lookups
	a.visitAll(n.Params)
}

func (a *analysis) transaction(n *pg.TransactionStmt) {
	f := a.facts
	switch n.Kind {
	case pg.TransactionStmtKind_TRANS_STMT_BEGIN, pg.TransactionStmtKind_TRANS_STMT_START:
		f.part.Kind = KindBegin
	case pg.TransactionStmtKind_TRANS_STMT_COMMIT:
		f.part.Kind, f.part.ScrubErrors = KindCommit, a.g.hasMask // deferred constraints speak here
	case pg.TransactionStmtKind_TRANS_STMT_ROLLBACK:
		f.part.Kind = KindRollback
	case pg.TransactionStmtKind_TRANS_STMT_SAVEPOINT:
		f.part.Kind, f.part.Name = KindSavepoint, n.SavepointName
	case pg.TransactionStmtKind_TRANS_STMT_RELEASE:
		f.part.Kind, f.part.Name = KindRelease, n.SavepointName
	case pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_TO:
		f.part.Kind, f.part.Name = KindRollbackTo, n.SavepointName
	default:
		a.refuse("unsupported_statement", "prepared transactions are not supported; use BEGIN and COMMIT")
	}
}

func (a *analysis) variableSet(n *pg.VariableSetStmt) {
	name := strings.ToLower(n.Name)
	part := &a.facts.part
	part.Kind, part.Name, part.Local = KindSet, name, n.IsLocal
	switch n.Kind {
	case pg.VariableSetKind_VAR_SET_MULTI:
		if name != "transaction" && name != "session characteristics" && name != "transaction snapshot" {
			a.refuseSetting(name)
		}
	case pg.VariableSetKind_VAR_RESET_ALL:
		part.Name, part.Reset = "all", true
	case pg.VariableSetKind_VAR_RESET, pg.VariableSetKind_VAR_SET_DEFAULT:
		part.Reset = true
		if name == "role" || name == "session_authorization" {
			a.resetRole(n.Kind)
			return
		}
		if _, known := settableSettings[name]; !known {
			a.refuseSetting(name)
		}
	case pg.VariableSetKind_VAR_SET_VALUE:
		values, ok := settingValues(n.Args)
		if !ok {
			a.refuse("setting_not_allowed", "the value of %s is not understood; write a constant", name)
			return
		}
		if name == "role" && len(values) == 1 && values[0] == "none" {
			part.Reset = true
			a.resetRole(pg.VariableSetKind_VAR_SET_DEFAULT)
			return
		}
		a.setting(name, strings.Join(values, ", "), values, n.IsLocal)
	default:
		a.refuseSetting(name)
	}
}

// resetRole lets pools of connections put the role back. The role of the login
// is what a session has all the time, so that it becomes a statement that keeps it:
// SET SESSION AUTHORIZATION DEFAULT would also leave a role that the login was given.
func (a *analysis) resetRole(kind pg.VariableSetKind) {
	text := "reset role"
	if kind == pg.VariableSetKind_VAR_SET_DEFAULT {
		text = "set role to default"
	}
	l := lexer{s: a.text, at: a.facts.start}
	var first, last token
	for {
		t, more := l.next()
		if !more || t.start >= a.facts.end {
			break
		}
		if first.end == 0 {
			first = t
		}
		last = t
	}
	a.edits = append(a.edits, edit{start: first.start, end: last.end, text: text})
}

// settingValues are the constants of a SET.
func settingValues(args []*pg.Node) ([]string, bool) {
	values := make([]string, 0, len(args))
	for _, n := range args {
		if n.GetTypeCast() != nil { // SET TIME ZONE INTERVAL '…'
			n = n.GetTypeCast().Arg
		}
		c := n.GetAConst()
		switch {
		case c == nil:
			return nil, false
		case c.GetSval() != nil:
			values = append(values, c.GetSval().Sval)
		case c.GetFval() != nil:
			values = append(values, c.GetFval().Fval)
		case c.GetIval() != nil:
			values = append(values, strconv.Itoa(int(c.GetIval().Ival)))
		case c.GetBoolval() != nil:
			values = append(values, map[bool]string{true: "on", false: "off"}[c.GetBoolval().Boolval])
		default:
			return nil, false
		}
	}
	return values, true
}

// setting notes that a setting gets a value, or refuses it.
func (a *analysis) setting(name, value string, list []string, local bool) {
	if !SettingAllowed(name, value) {
		a.refuseSetting(name)
		return
	}
	part := &a.facts.part
	part.Kind, part.Name, part.Value, part.Local, part.Reset = KindSet, name, value, local, false
	if name == "search_path" {
		part.SearchPath = append([]string{}, list...)
	}
}

func (a *analysis) refuseSetting(name string) {
	if _, some := settableSettings[name]; some {
		a.refuse("setting_not_allowed", "%s may not be set to this value: the gateway relies on it; leave it as it is", name)
		return
	}
	a.refuse("setting_not_allowed", "setting %s may not be changed here; leave it as it is", name)
}

// showSetting refuses to show settings that name files, commands or secrets.
func (a *analysis) showSetting(name string) {
	_, settable := settableSettings[name]
	if settable || shownSettings[name] || name == "transaction isolation level" || name == "time zone" {
		return
	}
	a.refuse("setting_not_allowed", "setting %s may not be shown here; name another one, or query pg_catalog.pg_settings", name)
}

// showAll turns SHOW ALL into a query of the settings that may be shown.
func (a *analysis) showAll() {
	l := lexer{s: a.text, at: a.facts.start}
	show, _ := l.next()
	all, more := l.next()
	if !more || a.word(show) != "show" || a.word(all) != "all" {
		a.refuse("rewrite_failed", "this SHOW ALL could not be understood; query pg_catalog.pg_settings")
		return
	}
	a.edits = append(a.edits, edit{start: show.start, end: all.end, reads: 1, text: `select s.name, pg_catalog.current_setting(s.name) as setting, s.short_desc as description from ` +
		secretSettings + ` as s order by pg_catalog.lower(s.name) collate pg_catalog."C"`})
}

// splitSearchPath takes the text of a search path apart.
func splitSearchPath(s string) []string {
	var names []string
	l := lexer{s: s}
	for {
		t, more := l.next()
		if !more {
			return names
		}
		if t.kind == tokWord {
			names = append(names, foldIdent(s[t.start:t.end]))
		}
	}
}

// copyStmt understands COPY from and to the client. COPY of a masked table
// becomes COPY of a query.
func (a *analysis) copyStmt(n *pg.CopyStmt) {
	f := a.facts
	if n.IsProgram || n.Filename != "" {
		a.refuse("copy_file", "COPY from or to files and programs of the server is not allowed; use STDIN or STDOUT")
		return
	}
	f.part.Kind = KindCopyOut
	if n.Query != nil {
		a.query(n.Query, true)
		return
	}
	columns := stringsOf(n.Attlist)
	if n.IsFrom {
		f.part.Kind = KindCopyIn
		u := a.written(n.Relation)
		if u == nil {
			return
		}
		if len(columns) == 0 {
			columns = allColumns(u)
		}
		a.writes(u, "insert", columns)
		a.visitNode(n.WhereClause)
		return
	}
	u := a.read(n.Relation)
	if u == nil || a.refusal != nil {
		return
	}
	for _, c := range columns {
		f.columns = append(f.columns, columnRef{names: []string{c}, location: -1})
	}
	if len(columns) == 0 {
		u.rowRead, f.topStar = true, true
	}
	var asked []string
	if a.fencing() {
		asked = a.questions(u, &site{})
	}
	switch {
	case u.replaced:
		if len(asked) > 0 {
			u.fence = fence(asked)
		}
		a.copyQuery(u, columns, "", "")
	case len(asked) > 0 && u.rel.Kind == "r": // whose children COPY leaves out
		a.copyQuery(u, columns, "only ", " where "+fence(asked))
	case len(asked) > 0:
		a.copyQuery(u, columns, "", " where "+fence(asked))
	}
}

// copyQuery turns "name (columns)" of COPY … TO into "(select columns from name)",
// with more before and after the name.
func (a *analysis) copyQuery(u *use, columns []string, before, after string) {
	end := u.end
	if len(columns) > 0 {
		l := lexer{s: a.text, at: end}
		for {
			t, more := l.next()
			if !more {
				a.refuse("rewrite_failed", "the columns of this COPY could not be found; write copy (select …) to stdout")
				return
			}
			if t.kind == tokClose {
				end = t.end
				break
			}
		}
	}
	if len(columns) == 0 {
		for _, c := range u.rel.Columns { // COPY leaves generated columns out
			if c.Generated == "" {
				columns = append(columns, c.Name)
			}
		}
	}
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = quoteIdent(c)
	}
	list := strings.Join(quoted, ", ")
	u.hasAlias = false
	a.edits = append(a.edits, edit{start: u.start, end: u.start, text: "(select " + list + " from " + before})
	a.edits = append(a.edits, edit{start: u.end, end: end, text: after + ")"})
}
