package sqlguard

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"

	"github.com/sallyport-dev/sallyport/policies"
)

// definition understands statements that define, maintain or grant. On a
// connection with masks fewer of them are understood: what could move a mask or
// run code later is refused.
func (a *analysis) definition(m any) {
	f := a.facts
	f.part.Kind = KindDDL
	switch n := m.(type) {
	case *pg.CreateStmt:
		a.createTable(n)
	case *pg.CreateTableAsStmt:
		a.createTableAs(n)
	case *pg.ViewStmt:
		a.createView(n)
	case *pg.IndexStmt:
		a.createIndex(n)
	case *pg.CreateSeqStmt:
		if a.creates(n.Sequence, KindDDL) != nil {
			a.options(n.Options)
		}
	case *pg.CreateSchemaStmt:
		if len(n.SchemaElts) > 0 || n.Schemaname == "" {
			a.unsupported("CREATE SCHEMA with elements or without a name")
			return
		}
		f.verbs = append(f.verbs, policies.Effect{Verb: "create", Object: n.Schemaname + ".*"})
	case *pg.CreateEnumStmt:
		a.createEnum(n)
	case *pg.CompositeTypeStmt:
		if a.unmaskedOnly("CREATE TYPE") {
			if a.creates(n.Typevar, KindDDL) != nil {
				children(&pg.CompositeTypeStmt{Coldeflist: n.Coldeflist}, a.visitDefinition)
			}
		}
	case *pg.CreateDomainStmt:
		a.createType(n.Domainname)
		children(&pg.CreateDomainStmt{TypeName: n.TypeName, Constraints: n.Constraints, CollClause: n.CollClause}, a.visitDefinition)
	case *pg.AlterTableStmt:
		a.alterTable(n)
	case *pg.RenameStmt:
		a.rename(n)
	case *pg.AlterObjectSchemaStmt:
		if a.alters(n.Relation, "ALTER … SET SCHEMA") != nil {
			f.verbs = append(f.verbs, policies.Effect{Verb: "create", Object: n.Newschema + "." + n.Relation.Relname})
			a.schemaKnown(n.Newschema)
		}
	case *pg.AlterSeqStmt:
		if a.alters(n.Sequence, "ALTER SEQUENCE") != nil {
			a.options(n.Options)
		}
	case *pg.AlterEnumStmt:
		if names := stringsOf(n.TypeName); n.OldVal == "" || a.unmaskedOnly("ALTER TYPE … RENAME VALUE") {
			a.changesType(names, "alter")
		}
	case *pg.DropStmt:
		a.drop(n)
	default:
		a.maintenance(m)
	}
}

// maintenance understands statements that change no definition.
func (a *analysis) maintenance(m any) {
	f := a.facts
	f.part.Kind = KindMaintenance
	switch n := m.(type) {
	case *pg.TruncateStmt:
		for _, r := range n.Relations {
			if u := a.written(r.GetRangeVar()); u != nil {
				u.verbs = append(u.verbs, policies.Effect{Verb: "truncate", Object: u.object})
			}
		}
	case *pg.LockStmt:
		a.lock(n)
	case *pg.VacuumStmt:
		a.vacuum(n)
	case *pg.ReindexStmt:
		if n.Relation == nil {
			a.unsupported("REINDEX of a schema or database")
			return
		}
		a.acts(n.Relation, "reindex")
		a.options(n.Params)
	case *pg.RefreshMatViewStmt:
		if u := a.acts(n.Relation, "refresh"); u != nil {
			if reason := a.g.blocked[key(u.schema, u.name)]; reason != "" {
				a.refuse("masked_view", "%s", reason)
			}
		}
	case *pg.CommentStmt:
		a.comment(n)
	case *pg.GrantStmt:
		a.grant(n)
	case *pg.CallStmt:
		a.call(n)
	default:
		a.refuseStatement(m)
	}
}

// refuseStatement says what a refused statement is, where its kind has a name worth saying.
func (a *analysis) refuseStatement(m any) {
	what := "this statement"
	switch m.(type) {
	case *pg.DoStmt:
		what = "DO, whose code cannot be examined,"
	case *pg.CreateFunctionStmt, *pg.AlterFunctionStmt:
		what = "CREATE or ALTER FUNCTION"
	case *pg.CreateTrigStmt, *pg.RuleStmt, *pg.CreateEventTrigStmt:
		what = "CREATE TRIGGER or RULE"
	case *pg.CreateRoleStmt, *pg.AlterRoleStmt, *pg.AlterRoleSetStmt, *pg.DropRoleStmt, *pg.GrantRoleStmt:
		what = "a change of roles"
	case *pg.CreateExtensionStmt, *pg.AlterExtensionStmt, *pg.LoadStmt:
		what = "a change of extensions"
	case *pg.AlterSystemStmt, *pg.AlterDatabaseStmt, *pg.AlterDatabaseSetStmt, *pg.CreatedbStmt, *pg.DropdbStmt:
		what = "a change of the server or its databases"
	case *pg.ClusterStmt:
		what = "CLUSTER"
	case *pg.CheckPointStmt:
		what = "CHECKPOINT"
	}
	a.refuse("unsupported_statement", "%s is not supported; have it done by someone with direct access", what)
}

func (a *analysis) unmaskedOnly(what string) bool {
	if a.g.hasMask {
		a.refuse("masked_definition", "%s is not supported on a connection with masked columns", what)
		return false
	}
	return true
}

// visitDefinition visits the parts of a definition that hold expressions, types and references.
func (a *analysis) visitDefinition(m any) {
	if a.refusal != nil {
		return
	}
	switch n := m.(type) {
	case *pg.Constraint:
		if n.Pktable != nil {
			a.references(n.Pktable, stringsOf(n.PkAttrs))
		}
		children(&pg.Constraint{RawExpr: n.RawExpr, Exclusions: n.Exclusions, WhereClause: n.WhereClause, Options: n.Options}, a.visitDefinition)
	case *pg.ColumnDef:
		if n.Fdwoptions != nil {
			a.unsupported("this column")
			return
		}
		children(n, a.visitDefinition)
	case *pg.TableLikeClause:
		if u := a.refer(n.Relation); u != nil { // takes the columns, not their values
			u.read = true
		}
	case *pg.PartitionSpec, *pg.PartitionElem, *pg.PartitionBoundSpec, *pg.PartitionRangeDatum, *pg.List, *pg.IndexElem:
		if e, ok := m.(*pg.PartitionElem); ok && e.Expr == nil {
			return
		}
		children(m, a.visitDefinition)
	case *pg.DefElem:
		a.visitNode(nil)
		children(&pg.DefElem{Arg: n.Arg}, a.visitDefinition)
	case *pg.String, *pg.Integer, *pg.Float, *pg.Boolean, *pg.RoleSpec:
	default:
		a.visit(m)
	}
}

// references notes the relation of a foreign key. One to masked columns would tell which values exist.
func (a *analysis) references(r *pg.RangeVar, columns []string) {
	u := a.refer(r)
	if u == nil {
		return
	}
	u.verbs = append(u.verbs, policies.Effect{Verb: "alter", Object: u.object})
	if u.masked == nil {
		return
	}
	if len(columns) == 0 {
		columns = u.rel.PrimaryKey
	}
	if slices.ContainsFunc(columns, u.isMasked) {
		a.refuse("masked_definition", "a foreign key to masked columns of %s is not supported; refer to another key", u.rel.qualified())
	}
}

// alters notes a relation whose definition changes. Masked ones, and views of them, stay as they are.
func (a *analysis) alters(r *pg.RangeVar, what string) *use {
	if r == nil {
		a.unsupported(what + " of this kind of object")
		return nil
	}
	u := a.acts(r, "alter")
	if u == nil {
		return nil
	}
	if u.masked != nil || a.g.blocked[key(u.schema, u.name)] != "" {
		a.refuse("masked_definition", "%s on %s.%s, which has masked columns, is not supported: it could move a mask", what, u.schema, u.name)
		return nil
	}
	return u
}

// acts notes a relation that a verb is done to.
func (a *analysis) acts(r *pg.RangeVar, verb string) *use {
	u := a.refer(r)
	if u == nil {
		return nil
	}
	if u.schema == "pg_catalog" || u.schema == "information_schema" {
		a.refuse("system_catalog", "system catalogs may not be changed")
		return nil
	}
	u.verbs = append(u.verbs, policies.Effect{Verb: verb, Object: u.object})
	a.facts.writes = true
	return u
}

// options understands a list of plain name = value options.
func (a *analysis) options(list []*pg.Node) {
	for _, n := range list {
		d := n.GetDefElem()
		if d == nil {
			a.unsupported("this option")
			return
		}
		if d.Defname == "owned_by" {
			a.unsupported("OWNED BY")
			return
		}
		if in := inner(d.Arg); in != nil {
			a.visitDefinition(in)
		}
	}
}

func (a *analysis) createTable(n *pg.CreateStmt) {
	u := a.creates(n.Relation, KindDDL)
	if u == nil {
		return
	}
	if n.OfTypename != nil {
		a.unsupported("CREATE TABLE OF")
		return
	}
	for _, p := range n.InhRelations {
		if a.alters(p.GetRangeVar(), "INHERITS or PARTITION OF") == nil {
			return
		}
	}
	rest := &pg.CreateStmt{TableElts: n.TableElts, Partbound: n.Partbound, Partspec: n.Partspec, Constraints: n.Constraints, Options: n.Options}
	children(rest, a.visitDefinition)
}

func (a *analysis) createTableAs(n *pg.CreateTableAsStmt) {
	if n.Into == nil || n.Into.Rel == nil || n.Into.ViewQuery != nil {
		a.unsupported("this CREATE TABLE AS")
		return
	}
	if a.creates(n.Into.Rel, KindDDL) == nil {
		return
	}
	a.options(n.Into.Options)
	part := a.facts.part
	switch q := inner(n.Query).(type) {
	case *pg.ExecuteStmt:
		a.execute(q)
		part.ScrubErrors = a.facts.part.ScrubErrors
		a.facts.part = part
		if a.facts.executesMasked && part.Temp == nil {
			a.refuse("masked_copy", "masked columns may not be stored in a permanent relation; use CREATE TEMP TABLE")
		}
	default:
		a.query(n.Query, true)
	}
	a.storedResult()
}

func (a *analysis) createView(n *pg.ViewStmt) {
	u := a.creates(n.View, KindDDL)
	if u == nil {
		return
	}
	if n.Replace && u.schema != "pg_temp" {
		u.verbs = append(u.verbs, policies.Effect{Verb: "alter", Object: u.object})
		if a.g.masked[key(u.schema, u.name)] != nil {
			a.refuse("masked_definition", "CREATE OR REPLACE VIEW %s.%s, which has masked columns, is not supported", u.schema, u.name)
		}
	}
	a.options(n.Options)
	a.query(n.Query, true)
	a.storedResult()
}

func (a *analysis) createIndex(n *pg.IndexStmt) {
	if a.alters(n.Relation, "CREATE INDEX") == nil {
		return
	}
	rest := &pg.IndexStmt{IndexParams: n.IndexParams, IndexIncludingParams: n.IndexIncludingParams, Options: n.Options, WhereClause: n.WhereClause}
	children(rest, a.visitDefinition)
}

// createEnum notes a new enum type, whose name the parser reports no place of: it stands behind CREATE TYPE.
func (a *analysis) createEnum(n *pg.CreateEnumStmt) {
	names := stringsOf(n.TypeName)
	l := lexer{s: a.text, at: a.facts.start}
	l.next()
	l.next()
	at, _ := l.next()
	if len(names) == 0 || len(names) > 2 {
		a.unsupported("this name of a type")
		return
	}
	r := &pg.RangeVar{Relname: names[len(names)-1], Location: int32(at.start)} // texts are at most 16 MiB
	if len(names) == 2 {
		r.Schemaname = names[0]
	}
	if u := a.creates(r, KindDDL); u != nil && u.schema == "pg_temp" {
		a.unsupported("a temporary type")
	}
}

// changesType notes what is done to a type. Without a schema the server takes
// the first of the search path that has it, so that the review has to allow each.
func (a *analysis) changesType(names []string, verb string) {
	schemas := a.path
	if len(names) > 1 {
		if !a.qualifiedName(names, "type") {
			return
		}
		schemas = names[:1]
	}
	for _, schema := range schemas {
		if schema != "pg_temp" {
			a.facts.verbs = append(a.facts.verbs, policies.Effect{Verb: verb, Object: schema + "." + names[len(names)-1]})
		}
	}
	if len(a.facts.verbs) == 0 {
		a.refuse("unqualified_name", "the name of this type must be written as schema.name")
	}
}

func (a *analysis) createType(name []*pg.Node) {
	names := stringsOf(name)
	if !a.unmaskedOnly("CREATE TYPE") || !a.qualifiedName(names, "type") {
		return
	}
	a.facts.verbs = append(a.facts.verbs, policies.Effect{Verb: "create", Object: strings.Join(names, ".")})
}

// qualifiedName asks for schema.name where the parser reports no place to qualify it at.
func (a *analysis) qualifiedName(names []string, what string) bool {
	if len(names) != 2 {
		a.refuse("unqualified_name", "the name of this %s must be written as schema.name", what)
		return false
	}
	return a.schemaKnown(names[0])
}

func (a *analysis) schemaKnown(schema string) bool {
	if !a.g.catalog.schemas[schema] {
		a.refuse("unknown_relation", "schema %q is not in the catalog; check the name, or pull the catalog again if it is new", schema)
		return false
	}
	return true
}

func (a *analysis) alterTable(n *pg.AlterTableStmt) {
	if n.Objtype == pg.ObjectType_OBJECT_TYPE && !a.unmaskedOnly("ALTER TYPE") {
		return
	}
	if a.alters(n.Relation, "ALTER TABLE") == nil {
		return
	}
	for _, c := range n.Cmds {
		cmd := c.GetAlterTableCmd()
		switch cmd.GetSubtype() {
		case pg.AlterTableType_AT_AddInherit, pg.AlterTableType_AT_DropInherit, pg.AlterTableType_AT_AddOf:
			a.unsupported("ALTER TABLE … INHERIT or OF")
			return
		case pg.AlterTableType_AT_AttachPartition, pg.AlterTableType_AT_DetachPartition, pg.AlterTableType_AT_DetachPartitionFinalize:
			p := cmd.GetDef().GetPartitionCmd()
			if p == nil || a.alters(p.Name, "ATTACH or DETACH PARTITION") == nil {
				return
			}
			if p.Bound != nil {
				a.visitDefinition(p.Bound)
			}
			continue
		}
		children(cmd, a.visitDefinition)
	}
}

func (a *analysis) rename(n *pg.RenameStmt) {
	what := "ALTER … RENAME"
	if n.RenameType == pg.ObjectType_OBJECT_SCHEMA {
		a.unsupported("renaming a schema")
		return
	}
	u := a.alters(n.Relation, what)
	if u == nil {
		return
	}
	switch n.RenameType {
	case pg.ObjectType_OBJECT_TABLE, pg.ObjectType_OBJECT_VIEW, pg.ObjectType_OBJECT_MATVIEW, pg.ObjectType_OBJECT_SEQUENCE, pg.ObjectType_OBJECT_FOREIGN_TABLE:
		a.facts.verbs = append(a.facts.verbs, policies.Effect{Verb: "create", Object: u.schema + "." + n.Newname})
		if u.schema == "pg_temp" {
			a.facts.part.Temp, a.facts.part.DropsTemp = &TempRelation{Name: n.Newname}, []string{u.name}
			return
		}
		if a.g.masked[key(u.schema, n.Newname)] != nil {
			a.refuse("masked_definition", "nothing may be renamed to %s.%s, which has masked columns", u.schema, n.Newname)
		}
	case pg.ObjectType_OBJECT_COLUMN, pg.ObjectType_OBJECT_INDEX, pg.ObjectType_OBJECT_TABCONSTRAINT:
	default:
		a.unsupported("renaming this kind of object")
	}
}

var droppable = map[pg.ObjectType]bool{
	pg.ObjectType_OBJECT_TABLE: true, pg.ObjectType_OBJECT_VIEW: true, pg.ObjectType_OBJECT_MATVIEW: true,
	pg.ObjectType_OBJECT_INDEX: true, pg.ObjectType_OBJECT_SEQUENCE: true, pg.ObjectType_OBJECT_FOREIGN_TABLE: true,
}

// drop understands DROP. The parser reports no places for its names, so they
// are found behind the keywords and compared.
func (a *analysis) drop(n *pg.DropStmt) {
	switch {
	case n.RemoveType == pg.ObjectType_OBJECT_SCHEMA:
		for _, o := range n.Objects {
			a.facts.verbs = append(a.facts.verbs, policies.Effect{Verb: "drop", Object: o.GetString_().GetSval() + ".*"})
		}
		return
	case n.RemoveType == pg.ObjectType_OBJECT_TYPE, n.RemoveType == pg.ObjectType_OBJECT_DOMAIN:
		for _, o := range n.Objects {
			a.changesType(stringsOf(o.GetTypeName().GetNames()), "drop")
		}
		return
	case !droppable[n.RemoveType]:
		a.unsupported("DROP of this kind of object")
		return
	}
	places := a.dropPlaces(n)
	for i, o := range n.Objects {
		names := stringsOf(o.GetList().GetItems())
		if places == nil || len(names) == 0 || len(names) > 2 {
			a.refuse("rewrite_failed", "the names of this DROP could not be found in the text; write drop table schema.table")
			return
		}
		r := &pg.RangeVar{Relname: names[len(names)-1], Location: int32(places[i]), Inh: true} // texts are at most 16 MiB
		if len(names) == 2 {
			r.Schemaname = names[0]
		}
		a.dropOne(r, n.MissingOk)
		if a.refusal != nil {
			return
		}
	}
}

func (a *analysis) dropOne(r *pg.RangeVar, missingOk bool) {
	if missingOk && !a.exists(r) {
		if r.Schemaname == "" { // what somebody else may have made by now is dropped where the review allows it
			if u := a.creates(r, KindDDL); u != nil {
				u.verbs[0].Verb = "drop"
				a.facts.part.Kind, a.facts.part.Temp = KindDDL, nil
			}
			return
		}
		a.facts.verbs = append(a.facts.verbs, policies.Effect{Verb: "drop", Object: r.Schemaname + "." + r.Relname})
		return
	}
	u := a.acts(r, "drop")
	if u == nil {
		return
	}
	if u.schema == "pg_temp" {
		a.facts.part.DropsTemp = append(a.facts.part.DropsTemp, u.name)
	}
}

// exists says whether a name can be resolved, without refusing.
func (a *analysis) exists(r *pg.RangeVar) bool {
	if a.refusal != nil {
		return false
	}
	_, ok := a.resolve(r)
	a.refusal = nil
	return ok
}

// dropPlaces are the bytes where the names of a DROP start; nil when the text is not as expected.
func (a *analysis) dropPlaces(n *pg.DropStmt) []int {
	l := lexer{s: a.text, at: a.facts.start}
	var t token
	word := func() string {
		var more bool
		if t, more = l.next(); !more {
			return ""
		}
		return strings.ToLower(a.text[t.start:t.end])
	}
	if word() != "drop" {
		return nil
	}
	switch n.RemoveType {
	case pg.ObjectType_OBJECT_MATVIEW, pg.ObjectType_OBJECT_FOREIGN_TABLE:
		word()
	}
	word()
	next := word()
	if n.RemoveType == pg.ObjectType_OBJECT_INDEX && n.Concurrent && next == "concurrently" {
		next = word()
	}
	if n.MissingOk && next == "if" {
		if word() != "exists" {
			return nil
		}
		word()
	}
	places := make([]int, 0, len(n.Objects))
	for i, o := range n.Objects {
		if i > 0 {
			word()
		}
		items := stringsOf(o.GetList().GetItems())
		parts, end, ok := nameParts(a.text, t.start, len(items))
		if !ok {
			return nil
		}
		for j, p := range parts {
			if text := a.text[p.start:p.end]; !strings.HasPrefix(strings.ToLower(text), `u&"`) && foldIdent(text) != items[j] && len(items[j]) < 63 {
				return nil
			}
		}
		places = append(places, t.start)
		l.at = end
		if sep := word(); i < len(n.Objects)-1 && sep != "," {
			return nil
		}
	}
	return places
}

func (a *analysis) lock(n *pg.LockStmt) {
	const accessShare = 1
	for _, node := range n.Relations {
		u := a.refer(node.GetRangeVar())
		if u == nil {
			return
		}
		verb := "lock"
		if n.Mode == accessShare {
			verb = "select" // what every SELECT takes
		}
		u.verbs = append(u.verbs, policies.Effect{Verb: verb, Object: u.object, Columns: []string{}})
		if u.object == "" {
			a.refuse("system_catalog", "system catalogs may not be locked")
		}
	}
}

func (a *analysis) vacuum(n *pg.VacuumStmt) {
	verb := "analyze"
	if n.IsVacuumcmd {
		verb = "vacuum"
	}
	if len(n.Rels) == 0 {
		a.refuse("unqualified_name", "%s of the whole database is not supported; name the tables", strings.ToUpper(verb))
		return
	}
	for _, r := range n.Rels {
		a.acts(r.GetVacuumRelation().GetRelation(), verb)
	}
	a.options(n.Options)
}

func (a *analysis) comment(n *pg.CommentStmt) {
	names := stringsOf(n.Object.GetList().GetItems())
	switch n.Objtype {
	case pg.ObjectType_OBJECT_TABLE, pg.ObjectType_OBJECT_VIEW, pg.ObjectType_OBJECT_MATVIEW, pg.ObjectType_OBJECT_INDEX, pg.ObjectType_OBJECT_SEQUENCE:
	case pg.ObjectType_OBJECT_COLUMN:
		if len(names) > 0 {
			names = names[:len(names)-1]
		}
	default:
		a.unsupported("COMMENT on this kind of object")
		return
	}
	if len(names) == 1 {
		names = a.qualifyComment(n, names[0])
	}
	if a.refusal != nil || len(names) == 2 && names[0] == "pg_temp" || a.qualifiedName(names, "relation") {
		a.facts.verbs = append(a.facts.verbs, policies.Effect{Verb: "comment", Object: strings.Join(names, ".")})
	}
}

// qualifyComment qualifies the name of COMMENT ON kind name, for which the parser reports no place.
func (a *analysis) qualifyComment(n *pg.CommentStmt, name string) []string {
	l := lexer{s: a.text, at: a.facts.start}
	words := []string{"comment", "on", ""}
	if n.Objtype == pg.ObjectType_OBJECT_MATVIEW {
		words = append(words, "view")
	}
	for _, want := range words {
		if t, more := l.next(); !more || want != "" && a.word(t) != want {
			return []string{name}
		}
	}
	t, more := l.next()
	parts, _, ok := nameParts(a.text, t.start, 1)
	if !more || !ok || foldIdent(a.text[parts[0].start:parts[0].end]) != name {
		return []string{name}
	}
	target, ok := a.resolve(&pg.RangeVar{Relname: name, Inh: true})
	if !ok {
		return []string{name}
	}
	a.edits = append(a.edits, edit{start: t.start, end: t.start, text: quoteIdent(target.schema) + "."})
	return []string{target.schema, target.name}
}

func (a *analysis) grant(n *pg.GrantStmt) {
	if n.Targtype != pg.GrantTargetType_ACL_TARGET_OBJECT {
		a.unsupported("GRANT on all objects of a schema")
		return
	}
	switch n.Objtype {
	case pg.ObjectType_OBJECT_TABLE, pg.ObjectType_OBJECT_SEQUENCE:
		for _, o := range n.Objects {
			a.acts(o.GetRangeVar(), "grant")
		}
	case pg.ObjectType_OBJECT_SCHEMA:
		for _, o := range n.Objects {
			a.facts.verbs = append(a.facts.verbs, policies.Effect{Verb: "grant", Object: o.GetString_().GetSval() + ".*"})
		}
	default:
		a.unsupported("GRANT on this kind of object")
	}
}

// call understands CALL of a listed procedure.
func (a *analysis) call(n *pg.CallStmt) {
	names := stringsOf(n.Funccall.GetFuncname())
	if a.g.hasMask {
		a.refuse("masked_definition", "CALL is not supported on a connection with masked columns")
		return
	}
	if len(names) != 2 || !a.g.listed[key(names[0], names[1])] {
		a.refuse("function_not_allowed", "procedure %s may not be called here; write it as schema.name and have it listed under functions in the connection", strings.Join(names, "."))
		return
	}
	a.visit(n.Funccall)
	a.facts.verbs = append(a.facts.verbs, policies.Effect{Verb: "call", Object: strings.Join(names, ".")})
}

// holdsPassword says whether any statement of a text sets a password.
func holdsPassword(tree *pg.ParseResult) bool {
	found := false
	for _, raw := range tree.Stmts {
		descend(inner(raw.Stmt), func(m any) bool {
			switch m.(type) {
			case *pg.CreateRoleStmt, *pg.AlterRoleStmt, *pg.AlterRoleSetStmt, *pg.CreateUserMappingStmt, *pg.AlterUserMappingStmt, *pg.CreateSubscriptionStmt,
				*pg.AlterSubscriptionStmt, *pg.CreateForeignServerStmt, *pg.AlterForeignServerStmt, *pg.AlterSystemStmt, *pg.AlterDatabaseSetStmt, *pg.DoStmt, *pg.CreateFunctionStmt:
				found = true
			}
			return !found
		})
	}
	return found
}
