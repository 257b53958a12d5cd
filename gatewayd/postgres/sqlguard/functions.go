package sqlguard

import (
	_ "embed"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"

	"github.com/sallyport-dev/sallyport/policies"
)

//go:embed functions.txt
var allowedFunctionsText string

//go:embed functions_denied.txt
var deniedFunctionsText string

var (
	allowedFunctions = wordSet(allowedFunctionsText)
	deniedFunctions  = wordSet(deniedFunctionsText)
)

// schemaFunctions are the functions of information_schema, which drivers call: they compute from their arguments.
var schemaFunctions = wordSet(`_pg_char_max_length _pg_char_octet_length _pg_datetime_precision _pg_expandarray _pg_interval_type
	_pg_numeric_precision _pg_numeric_precision_radix _pg_numeric_scale _pg_truetypid _pg_truetypmod`)

// checkedFunctions are allowed with some arguments only.
var checkedFunctions = map[string]func(*analysis, *pg.FuncCall){
	"set_config":      (*analysis).callSetConfig,
	"current_setting": (*analysis).callCurrentSetting,
	"nextval":         (*analysis).callSequence,
	"setval":          (*analysis).callSequence,
	"currval":         (*analysis).callSequence,
	"pg_notify":       (*analysis).callNotify,

	"pg_advisory_lock": (*analysis).callAdvisory, "pg_advisory_lock_shared": (*analysis).callAdvisory,
	"pg_advisory_xact_lock": (*analysis).callAdvisory, "pg_advisory_xact_lock_shared": (*analysis).callAdvisory,
	"pg_try_advisory_lock": (*analysis).callAdvisory, "pg_try_advisory_lock_shared": (*analysis).callAdvisory,
	"pg_try_advisory_xact_lock": (*analysis).callAdvisory, "pg_try_advisory_xact_lock_shared": (*analysis).callAdvisory,
	"pg_advisory_unlock": (*analysis).callAdvisory, "pg_advisory_unlock_shared": (*analysis).callAdvisory,
}

// funcCall checks the name of a function and pins it to the schema it was checked in.
func (a *analysis) funcCall(n *pg.FuncCall) {
	switch names := stringsOf(n.Funcname); len(names) {
	case 1:
		a.unqualifiedCall(n, names[0])
	case 2:
		a.qualifiedCall(n, names[0], names[1])
	default:
		a.refuse("function_not_allowed", "function %s names a database; write it as schema.function", strings.Join(names, "."))
	}
}

func (a *analysis) unqualifiedCall(n *pg.FuncCall, name string) {
	check := checkedFunctions[name]
	if check != nil || allowedFunctions[name] {
		if len(a.g.catalog.functions[name]) > 0 {
			a.prefix(int(n.Location), "pg_catalog")
		}
		if check != nil {
			check(a, n)
		}
		return
	}
	for _, schema := range a.path {
		if a.g.listed[key(schema, name)] || a.g.catalog.computes(schema, name) {
			a.prefix(int(n.Location), schema)
			a.facts.callsListed = a.facts.callsListed || a.g.listed[key(schema, name)]
			return
		}
	}
	a.refuseCall(name)
}

func (a *analysis) qualifiedCall(n *pg.FuncCall, schema, name string) {
	switch {
	case schema == "pg_catalog" && checkedFunctions[name] != nil:
		checkedFunctions[name](a, n)
	case name == "system_user" && n.Funcformat == pg.CoercionForm_COERCE_SQL_SYNTAX && a.g.catalog.hasColumnNamed(name):
		a.refuse("function_not_allowed", "system_user is also a column of this database, so what is meant depends on the server's version; write the column in double quotes")
	case schema == "pg_catalog" && (allowedFunctions[name] || n.Funcformat == pg.CoercionForm_COERCE_SQL_SYNTAX && !deniedFunctions[name]):
	case schema == "information_schema" && schemaFunctions[name]:
	case a.g.listed[key(schema, name)]:
		a.facts.callsListed = true
	case a.g.catalog.computes(schema, name):
	default:
		a.refuseCall(schema + "." + name)
	}
}

func (a *analysis) refuseCall(name string) {
	if schemas := a.g.byName[name]; len(schemas) > 0 {
		a.refuse("function_not_allowed", "function %s is not in the search path; write it as %s.%s", name, schemas[0], name)
		return
	}
	a.refuse("function_not_allowed", "function %s may not be called here; use another one, or have it listed under functions in the connection", name)
}

// prefix qualifies the unqualified name at a place.
func (a *analysis) prefix(at int, schema string) {
	if _, ok := nameEnd(a.text, at, 1); !ok {
		a.refuse("rewrite_failed", "a function name could not be found in the text; write it plainly as schema.function(…)")
		return
	}
	a.edits = append(a.edits, edit{start: at, end: at, text: quoteIdent(schema) + "."})
}

// fieldName refuses a field that could be a function call in disguise: qualifier.name or (expression).name.
func (a *analysis) fieldName(qualifier, name string) {
	own := slices.ContainsFunc(a.g.catalog.functions[name], func(f Object) bool { return !computingExtensions[f.Extension] })
	if !deniedFunctions[name] && checkedFunctions[name] == nil && !own {
		return
	}
	if qualifier != "" {
		a.facts.ambiguous = append(a.facts.ambiguous, [2]string{qualifier, name})
		return
	}
	a.refuseField(name)
}

// ambiguousFields refuses alias.name where name is a function that may not be
// called, unless every relation known by that alias has such a column. What a
// statement writes to is also known as excluded, old and new.
func (a *analysis) ambiguousFields() {
	for _, pair := range a.facts.ambiguous {
		found, known := a.facts.derived[pair], a.facts.aliases[pair[0]]
		row := pair[0] == "excluded" || pair[0] == "old" || pair[0] == "new"
		for _, u := range a.facts.uses {
			also := row && u.target
			if also {
				known++
			}
			if (u.alias == pair[0] || also) && !u.renamed && u.rel != nil && u.rel.Column(pair[1]) != nil {
				found++
			}
		}
		if found == 0 || found != known {
			a.refuseField(pair[1])
		}
	}
}

func (a *analysis) refuseField(name string) {
	a.refuse("function_not_allowed", "a field named %s could call the function of that name, which may not be called here; name the column without an alias before it", name)
}

// sqlFunctions refuses the keyword functions of newer grammars when the
// database has a function of that name: an older server would call it.
func (a *analysis) sqlFunctions(names ...string) {
	for _, name := range names {
		if len(a.g.catalog.functions[name]) > 0 {
			a.refuse("function_not_allowed", "%s is also a function of this database, so what is meant depends on the server's version; write it otherwise", name)
		}
	}
}

// operator refuses operators of the database's own: each is a function.
// Those of extensions compute from their operands and pass.
func (a *analysis) operator(names []string) {
	if len(names) == 0 {
		return
	}
	name := names[len(names)-1]
	for _, o := range a.g.catalog.operators[name] {
		if o.Extension == "" && (len(names) == 1 || names[0] == o.Schema) {
			a.refuse("operator_not_allowed", "operator %s is defined by this database in schema %s and may not be used here; use a function or another operator", name, o.Schema)
			return
		}
	}
}

// typeName refuses casts that call functions of the database.
func (a *analysis) typeName(n *pg.TypeName) {
	names := stringsOf(n.Names)
	if len(names) == 0 {
		a.unsupported("this type name")
		return
	}
	if n.PctType {
		a.unsupported("%TYPE")
		return
	}
	name := names[len(names)-1]
	for _, c := range a.g.catalog.casts[name] {
		if c.Extension == "" {
			a.refuse("operator_not_allowed", "a cast to type %s calls a function of this database and may not be used here", name)
			return
		}
	}
}

// stringArgument is the constant text of an argument, through casts.
func (a *analysis) stringArgument(n *pg.Node) (string, bool) {
	for n.GetTypeCast() != nil {
		n = n.GetTypeCast().Arg
	}
	c := n.GetAConst()
	a.matters(c)
	if c == nil || c.Isnull || c.GetSval() == nil {
		return "", false
	}
	return c.GetSval().Sval, true
}

// plainCall says whether a call is name(arguments) and nothing more.
func plainCall(n *pg.FuncCall) bool {
	return len(n.AggOrder) == 0 && n.AggFilter == nil && n.Over == nil && !n.AggStar && !n.AggDistinct && !n.FuncVariadic &&
		!slices.ContainsFunc(n.Args, func(arg *pg.Node) bool { return arg.GetNamedArgExpr() != nil })
}

// pgDumpRestricts is how pg_dump asks servers that know the setting to expand
// no view of others. It is let through as it stands.
const pgDumpRestricts = "SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'"

// callSetConfig allows what SET of the same would allow. The search path, which
// decides what later names mean, may be set by a statement that does nothing else.
func (a *analysis) callSetConfig(n *pg.FuncCall) {
	if strings.Join(strings.Fields(a.text[a.facts.start:a.facts.end]), " ") == pgDumpRestricts {
		a.exact = true
		return
	}
	if len(n.Args) == 3 && plainCall(n) {
		name, okName := a.stringArgument(n.Args[0])
		value, okValue := a.stringArgument(n.Args[1])
		a.matters(n.Args[2].GetAConst())
		local := n.Args[2].GetAConst().GetBoolval()
		name = strings.ToLower(name)
		switch {
		case !okName || !okValue || n.Args[2].GetAConst() == nil:
		case a.onlyCall:
			a.setting(name, value, splitSearchPath(value), local.GetBoolval())
			return
		case name != "search_path":
			if !SettingAllowed(name, value) {
				a.refuseSetting(name)
			}
			return
		}
	}
	a.refuse("setting_not_allowed", "set_config takes constants only, and the search path only as select set_config('search_path', '…', true or false); use SET")
}

// hiddenSettings match the names of settings that hold files, commands or passwords, or that somebody made up.
const hiddenSettings = `[.]|conninfo|_command|_cmd|_file$|keyfile$|_director|passphrase|^config_file$`

// callCurrentSetting allows reading the settings that may be shown. Of a name
// that is not a constant, the hidden ones become null.
func (a *analysis) callCurrentSetting(n *pg.FuncCall) {
	if len(n.Args) >= 1 && plainCall(n) {
		if name, ok := a.stringArgument(n.Args[0]); ok {
			a.showSetting(strings.ToLower(name))
			return
		}
		if a.hideSettings(n) {
			return
		}
	}
	a.refuse("setting_not_allowed", "this call of current_setting is not understood; write current_setting('name')")
}

// hideSettings makes the name of a hidden setting one that does not exist.
func (a *analysis) hideSettings(n *pg.FuncCall) bool {
	end, ok := nameEnd(a.text, int(n.Location), len(n.Funcname))
	l := lexer{s: a.text, at: end}
	open, more := l.next()
	if !ok || !more || open.kind != tokOpen || len(n.Args) > 2 {
		return false
	}
	l.at = open.start
	end, ok = l.parentheses()
	if !ok {
		return false
	}
	stop, missing := end-1, ", true"
	if len(n.Args) == 2 {
		if stop, ok = commaIn(a.text, open.end, end); !ok {
			return false
		}
		missing = ""
	}
	a.edits = append(a.edits,
		edit{start: open.end, end: open.end, text: "pg_catalog.regexp_replace(("},
		edit{start: stop, end: stop, text: ")::pg_catalog.text, '^.*(" + hiddenSettings + ").*$', '', 'i')" + missing})
	return true
}

// allSettings makes pg_show_all_settings() in FROM, which pgAdmin asks, the
// settings that may be shown. It reports false for anything else.
func (a *analysis) allSettings(n *pg.RangeFunction) bool {
	if len(n.Functions) != 1 || n.IsRowsfrom || n.Ordinality || len(n.Coldeflist) > 0 {
		return false
	}
	items := n.Functions[0].GetList().GetItems()
	if len(items) == 0 {
		return false
	}
	call := items[0].GetFuncCall()
	names := stringsOf(call.GetFuncname())
	if len(names) == 0 || names[len(names)-1] != "pg_show_all_settings" || len(names) > 2 || len(names) == 2 && names[0] != "pg_catalog" ||
		len(call.Args) > 0 || !plainCall(call) {
		return false
	}
	end, ok := nameEnd(a.text, int(call.Location), len(names))
	l := lexer{s: a.text, at: end}
	if ok {
		end, ok = l.parentheses()
	}
	if !ok {
		return false
	}
	text := secretSettings
	if n.Alias == nil {
		text += " as pg_show_all_settings"
	}
	a.edits = append(a.edits, edit{start: int(call.Location), end: end, text: text, reads: 1})
	return true
}

// commaIn finds the first comma outside of parentheses.
func commaIn(s string, start, end int) (int, bool) {
	l := lexer{s: s, at: start}
	depth := 0
	for {
		t, more := l.next()
		switch {
		case !more || t.start >= end:
			return 0, false
		case t.kind == tokOpen:
			depth++
		case t.kind == tokClose:
			depth--
		case t.kind == tokComma && depth == 0:
			return t.start, true
		}
	}
}

// callSequence allows sequence functions on a constant name.
func (a *analysis) callSequence(n *pg.FuncCall) {
	if len(n.Args) == 0 || !plainCall(n) {
		a.refuse("function_not_allowed", "a sequence function needs a constant name; write nextval('schema.sequence')")
		return
	}
	arg, kind := n.Args[0], "S"
	current := n.Funcname[len(n.Funcname)-1].GetString_().GetSval() == "currval"
	if current && arg.GetParamRef() != nil {
		return // PHP's lastInsertId: it shows what nextval gave this session before
	}
	var columns []string
	if owned := a.serialSequence(arg); owned != nil {
		arg, kind = owned.Args[0], "rp"
		column, _ := a.stringArgument(owned.Args[1])
		columns = []string{column}
	}
	text, ok := a.stringArgument(arg)
	parts, okParts := splitName(text)
	if !ok || !okParts || len(parts) > 2 {
		a.refuse("function_not_allowed", "a sequence function needs a constant name; write nextval('schema.sequence')")
		return
	}
	r := &pg.RangeVar{Relname: parts[len(parts)-1], Inh: true}
	if len(parts) == 2 {
		r.Schemaname = parts[0]
	}
	t, ok := a.resolve(r)
	if !ok {
		return
	}
	if t.rel != nil && !strings.Contains(kind, t.rel.Kind) || t.system {
		a.refuse("function_not_allowed", "%s is not a sequence", text)
		return
	}
	if r.Schemaname == "" {
		a.qualifyConstant(arg, t)
	}
	verb := "update"
	if current {
		verb = "select"
	}
	a.facts.verbs = append(a.facts.verbs, policies.Effect{Verb: verb, Object: t.object(), Columns: columns})
}

// serialSequence is the call pg_get_serial_sequence('table', 'column') that names
// a sequence: what is done to it is done to that column. nil when it is none.
func (a *analysis) serialSequence(n *pg.Node) *pg.FuncCall {
	for n.GetTypeCast() != nil {
		n = n.GetTypeCast().Arg
	}
	call := n.GetFuncCall()
	names := stringsOf(call.GetFuncname())
	if len(names) == 0 || names[len(names)-1] != "pg_get_serial_sequence" || len(names) == 2 && names[0] != "pg_catalog" || len(names) > 2 ||
		len(call.Args) != 2 || !plainCall(call) {
		return nil
	}
	if _, ok := a.stringArgument(call.Args[1]); !ok {
		return nil
	}
	return call
}

// qualifyConstant replaces the constant name of a relation by the qualified one.
func (a *analysis) qualifyConstant(arg *pg.Node, t target) {
	for arg.GetTypeCast() != nil {
		arg = arg.GetTypeCast().Arg
	}
	start := int(arg.GetAConst().Location)
	l := lexer{s: a.text, at: start}
	tok, more := l.next()
	if !more || tok.kind != tokString || tok.start != start {
		a.refuse("rewrite_failed", "the name of a sequence could not be found in the text; write it plainly as 'schema.sequence'")
		return
	}
	a.edits = append(a.edits, edit{start: tok.start, end: tok.end, text: quoteLiteral(quoteQualified(t.schema, t.name)), names: true})
}

// splitName takes a name as regclass reads it apart: dots, quotes and case folding.
func splitName(s string) ([]string, bool) {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(strings.ToLower(s), `u&`) || s == "" {
		return nil, false
	}
	var names []string
	l := lexer{s: s}
	for {
		t, more := l.next()
		if !more || t.kind != tokWord {
			return nil, false
		}
		names = append(names, foldIdent(s[t.start:t.end]))
		t, more = l.next()
		if !more {
			return names, true
		}
		if t.kind != tokDot {
			return nil, false
		}
	}
}

// foldIdent is what an identifier of the text means.
func foldIdent(s string) string {
	if strings.HasPrefix(s, `"`) {
		return strings.ReplaceAll(strings.Trim(s, `"`), `""`, `"`)
	}
	var b strings.Builder
	for _, c := range s {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}

// callNotify is NOTIFY with another spelling.
func (a *analysis) callNotify(n *pg.FuncCall) {
	if len(n.Args) == 2 && plainCall(n) {
		if _, ok := a.stringArgument(n.Args[0]); ok {
			a.facts.verbs = append(a.facts.verbs, policies.Effect{Verb: "notify"})
			return
		}
	}
	a.refuse("function_not_allowed", "pg_notify needs a constant channel; write pg_notify('channel', …)")
}
