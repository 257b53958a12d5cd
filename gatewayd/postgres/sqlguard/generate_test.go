package sqlguard

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// generator writes random statements over the test world. Most of them mean
// something; some are wrong, which is as good: then server and guard must both say so.
type generator struct {
	*rand.Rand
	scopes [][]genItem // what is visible, outermost first
	ctes   []genItem
	names  int
}

// genItem is a range item: its alias and columns, with the kind of each: t text, i int, n numeric, d date, j jsonb, a array, u uuid.
type genItem struct {
	alias   string
	columns [][2]string
}

var genTables = map[string][][2]string{
	"customers":     {{"id", "i"}, {"name", "t"}, {"email", "t"}, {"ssn", "t"}, {"salary", "i"}, {"balance", "n"}, {"born", "d"}, {"token", "u"}, {"notes", "j"}, {"tags", "a"}, {"country", "t"}},
	"orders":        {{"id", "i"}, {"customer", "i"}, {"total", "n"}, {"status", "t"}, {"note", "t"}},
	"scratch":       {{"id", "i"}, {"v", "t"}},
	"events":        {{"id", "i"}, {"at", "d"}, {"secret", "t"}, {"info", "t"}},
	"events_2026":   {{"id", "i"}, {"at", "d"}, {"secret", "t"}, {"info", "t"}},
	"parent":        {{"id", "i"}, {"hidden", "t"}},
	"child":         {{"id", "i"}, {"hidden", "t"}, {"extra", "t"}},
	"customer_view": {{"id", "i"}, {"name", "t"}, {"email", "t"}},
	"upper_view":    {{"id", "i"}, {"shout", "t"}, {"pay", "t"}},
	"joined_view":   {{"id", "i"}, {"email", "t"}, {"total", "n"}},
	"deep_view":     {{"id", "i"}, {"email", "t"}, {"shout", "t"}},
	"barrier_view":  {{"id", "i"}, {"email", "t"}, {"ssn", "t"}},
	"customer_mat":  {{"id", "i"}, {"ssn", "t"}},
	"order_view":    {{"id", "i"}, {"total", "n"}},
	"Odd Name":      {{"id", "i"}, {"Se cret", "t"}, {`q"x`, "t"}},
	"generated":     {{"id", "i"}, {"pin", "t"}, {"twice", "t"}},
}

var genNames = sortedKeys(genTables)

func (g *generator) one(options ...string) string { return options[g.IntN(len(options))] }
func (g *generator) chance(percent int) bool      { return g.IntN(100) < percent }

// blank is white space, now and then with a comment that could end badly.
func (g *generator) blank() string {
	if g.chance(92) {
		return " "
	}
	return g.one("\n", "\t", " /* ' */ ", " -- ' \" \n", "/**/ ", " /* /* */ $$ */ ", "\r\n", " --$a$\n", "\f ")
}

// ident writes a name in one of the ways that mean it.
func (g *generator) ident(name string) string {
	plain := strings.ToLower(name) == name && !strings.ContainsAny(name, ` "`)
	quoted := quoteIdent(name)
	switch n := g.IntN(12); {
	case plain && n < 8:
		return name
	case plain && n == 8:
		return strings.ToUpper(name[:1]) + name[1:]
	case n == 9 && !strings.Contains(name, `"`):
		return fmt.Sprintf(`U&"\%04x%s"`, name[0], name[1:])
	case n == 10 && !strings.Contains(name, `"`):
		return fmt.Sprintf(`U&"!%04x%s"%sUESCAPE '!'`, name[0], name[1:], " ")
	}
	return quoted
}

// soup is a mess of quotes, escapes and comments, which server and guard must end at the same byte.
func (g *generator) soup() string {
	var b strings.Builder
	for range 2 + g.IntN(10) {
		b.WriteString(g.one("'", "'", "''", `\`, `"`, "$$", "$a$", "$", "/*", "*/", "--", "\n", "\r", "E'", "e'", "U&'", `U&"`, "B'", "x'", " ", "a", "0", "1e", "0x", "$1", ".", "..", "::text", "||", "uescape", "\u00e9", "\u00a0", "_1", ";", "(", ")", ","))
	}
	return b.String()
}

func (g *generator) literal(kind string) string {
	if g.chance(4) {
		return g.soup()
	}
	switch kind {
	case "i":
		return g.one("0", "1", "2", "10", "4711", "-1", "0007")
	case "n":
		return g.one("1.5", "0", "47.25", "1e3", ".5")
	case "d":
		return g.one("date '2001-02-03'", "'2026-05-05'::date", "current_date")
	case "j":
		return g.one(`'{"k":"v"}'::jsonb`, `'[]'::jsonb`)
	case "a":
		return g.one("array['x']", "'{a,b}'::text[]")
	case "u":
		return "'00000000-0000-0000-0000-000000000000'::uuid"
	}
	return g.one("'x'", "'****'", "'it''s'", `E'\'' || 'a'`, `'\'`, "$$a'b$$", "$q$ -- $q$", `U&'\0061'`, `U&'!0061' UESCAPE '!'`, "'a'\n'b'", "E'a\\\\'", "n'z'", "''", `'"'`, "'/*'", "'--'", "'$$'")
}

// column is a reference to something visible of the kind, or a literal when nothing is.
func (g *generator) column(kind string) string {
	for range 6 {
		if len(g.scopes) == 0 {
			break
		}
		scope := g.scopes[len(g.scopes)-1]
		if g.chance(15) {
			scope = g.scopes[g.IntN(len(g.scopes))]
		}
		if len(scope) == 0 {
			continue
		}
		item := scope[g.IntN(len(scope))]
		c := item.columns[g.IntN(len(item.columns))]
		if c[1] != kind {
			continue
		}
		switch {
		case g.chance(15):
			return g.ident(c[0])
		case g.chance(4):
			return "(" + g.ident(item.alias) + ")." + g.ident(c[0])
		}
		return g.ident(item.alias) + g.one(".", ".", ".", " . ", "./**/") + g.ident(c[0])
	}
	return g.literal(kind)
}

// expr is an expression of a kind.
func (g *generator) expr(kind string, depth int) string {
	if depth <= 0 || g.chance(45) {
		return g.column(kind)
	}
	e := func(kind string) string { return g.expr(kind, depth-1) }
	switch kind {
	case "i":
		return g.one(e("i")+"+"+e("i"), "length("+e("t")+")", "coalesce("+e("i")+","+e("i")+")", "case when "+g.condition(depth-1)+" then "+e("i")+" else "+e("i")+" end",
			"abs("+e("i")+")", "("+g.subselect("i", depth-1)+")", e("n")+"::int", "extract(year from "+e("d")+")::int", "array_length("+e("a")+", 1)", "greatest("+e("i")+","+e("i")+")", "strpos("+e("t")+", 'a')")
	case "n":
		return g.one(e("n")+"*2", "round("+e("n")+")", e("i")+"::numeric", "("+g.subselect("n", depth-1)+")")
	case "d":
		return g.one(e("d")+"+1", "greatest("+e("d")+","+e("d")+")", "date_trunc('year', "+e("d")+")::date")
	case "j":
		return g.one("to_jsonb("+e("t")+")", e("j")+"||'{}'", "jsonb_build_object('k',"+e("i")+")", g.row("to_jsonb(%s)"))
	case "a":
		return g.one(e("a")+"||'{z}'", "array["+e("t")+"]", "string_to_array("+e("t")+", 'a')")
	case "u":
		return e("u")
	}
	return g.one("upper("+e("t")+")", e("t")+"||"+e("t"), "left("+e("t")+",3)", "coalesce("+e("t")+",'-')", e("i")+"::text", e("j")+"->>'k'", e("a")+"[1]", "("+g.subselect("t", depth-1)+")",
		"reverse("+e("t")+")", "substring("+e("t")+" from 1 for 4)", "replace("+e("t")+",'a','b')", "concat("+e("t")+","+e("i")+")", e("d")+"::text", "md5("+e("t")+")", g.row("%s::text"), e("u")+"::text",
		"trim(both 'Z' from "+e("t")+")", "cast("+e("t")+" as varchar(5))", "quote_literal("+e("t")+")", "format('%s',"+e("t")+")", e("t")+` collate "C"`, "array_to_string("+e("a")+",',')")
}

// aggregate is one whose answer depends on no order, or nothing.
func (g *generator) aggregate() string {
	e := g.expr("t", 1)
	return g.one("", ", string_agg("+e+", ',' order by "+e+")", ", count(distinct "+e+")", ", array_agg("+e+" order by "+e+")")
}

// row is a whole row in a template.
func (g *generator) row(template string) string {
	if len(g.scopes) == 0 || len(g.scopes[len(g.scopes)-1]) == 0 {
		return fmt.Sprintf(template, "'x'::text")
	}
	scope := g.scopes[len(g.scopes)-1]
	return fmt.Sprintf(template, g.ident(scope[g.IntN(len(scope))].alias))
}

func (g *generator) condition(depth int) string {
	if depth <= 0 {
		return g.column("i") + ">" + g.literal("i")
	}
	kind := g.one("i", "t", "n", "d")
	return g.one(g.expr(kind, depth-1)+g.one("=", "<>", "<", ">=")+g.expr(kind, depth-1), g.column("t")+" like "+g.one("'Z%'", "'%a%'"), g.expr("t", depth-1)+" is not null",
		g.condition(depth-1)+" and "+g.condition(depth-1), "not ("+g.condition(depth-1)+")", g.condition(depth-1)+" or "+g.condition(depth-1),
		"exists (select 1 from "+g.ident("orders")+" as xo where xo.customer = "+g.column("i")+")", g.column("i")+" in ("+g.subselect("i", depth-1)+")", g.column("i")+" between 1 and 3", g.column("t")+" in ('a', 'nl')", "true")
}

// subselect is a query of one column and one row.
func (g *generator) subselect(kind string, depth int) string {
	if kind == "t" && g.chance(30) {
		kind = "t"
	}
	return g.inner(func(item string) string {
		return "select " + g.one("max", "min") + "(" + g.expr(kind, depth-1) + ") from " + item + g.where(depth-1)
	}, depth)
}

// inner opens a scope with one range item around a query.
func (g *generator) inner(body func(item string) string, depth int) string {
	text, item := g.rangeItem(depth)
	g.scopes = append(g.scopes, []genItem{item})
	defer func() { g.scopes = g.scopes[:len(g.scopes)-1] }()
	return body(text)
}

func (g *generator) where(depth int) string {
	if g.chance(50) {
		return ""
	}
	return " where " + g.condition(depth)
}

// rangeItem is a table, a WITH query or a sub-select, with an alias or without.
func (g *generator) rangeItem(depth int) (string, genItem) {
	g.names++
	alias := fmt.Sprintf("r%d", g.names)
	if len(g.ctes) > 0 && g.chance(40) {
		cte := g.ctes[g.IntN(len(g.ctes))]
		return g.ident(cte.alias) + g.one(" ", " as ") + alias, genItem{alias, cte.columns}
	}
	if depth > 1 && g.chance(20) {
		columns := [][2]string{{"a", "t"}, {"b", "i"}}
		text := g.inner(func(item string) string {
			return "(select " + g.expr("t", depth-1) + " as a, " + g.expr("i", depth-1) + " as b from " + item + g.where(depth-1) + ")"
		}, depth-1)
		return text + " as " + alias, genItem{alias, columns}
	}
	name := genNames[g.IntN(len(genNames))]
	if g.chance(50) {
		name = g.one("customers", "customers", "orders", "customer_view")
	}
	text := g.ident(name)
	if g.chance(40) {
		text = g.ident("app") + g.one(".", ".", " . ") + text
	}
	switch {
	case g.chance(4) && !strings.Contains(name, "view") && name != "customer_mat":
		text = "only" + g.blank() + text
	case g.chance(3) && !strings.Contains(name, "view") && name != "customer_mat":
		text += " *"
	}
	if g.chance(25) {
		return text, genItem{name, genTables[name]}
	}
	return text + g.one(" ", " as ") + alias, genItem{alias, genTables[name]}
}

// query is a SELECT over one to three items.
func (g *generator) query(depth int) string {
	var from []string
	var scope []genItem
	for i := range 1 + g.IntN(3) {
		text, item := g.rangeItem(depth)
		scope = append(scope, item)
		if i > 0 {
			text = g.one(", ", " cross join ", " left join ", " join ") + text
			if strings.Contains(text[:6], "left") || strings.HasPrefix(text, " join") {
				g.scopes = append(g.scopes, scope)
				text += " on " + g.condition(1)
				g.scopes = g.scopes[:len(g.scopes)-1]
			}
		}
		from = append(from, text)
	}
	g.scopes = append(g.scopes, scope)
	defer func() { g.scopes = g.scopes[:len(g.scopes)-1] }()
	var list []string
	for range 1 + g.IntN(4) {
		switch n := g.IntN(20); {
		case n == 0:
			list = append(list, "*")
		case n == 1:
			list = append(list, g.ident(scope[g.IntN(len(scope))].alias)+".*")
		case n == 2:
			list = append(list, g.row("%s"))
		default:
			list = append(list, g.expr(g.one("t", "t", "i", "n", "d", "j", "a", "u"), depth))
		}
	}
	text := "select" + g.blank() + g.one("", "", "", "distinct ") + strings.Join(list, ","+g.blank()) + g.blank() + "from " + strings.Join(from, "") + g.where(depth)
	switch n := g.IntN(12); n {
	case 0:
		text = "select count(*), max(" + g.expr("t", depth) + ")" + g.aggregate() + " from " + strings.Join(from, "") + g.where(depth)
	case 1:
		c := g.column("t")
		text = "select " + c + ", count(*) from " + strings.Join(from, "") + g.where(depth) + " group by " + c
	case 2:
		text = "select " + g.expr("i", 1) + ", " + g.one("min", "count", "max") + "(" + g.expr("t", depth) + ") over (order by " + g.column("i") + ") from " + strings.Join(from, "")
	}
	return text
}

// statement is one whole statement.
func (g *generator) statement() string {
	g.scopes, g.ctes, g.names = nil, nil, 0
	depth := 1 + g.IntN(3)
	prefix := ""
	if g.chance(25) {
		name := g.one("w", "customers", "orders", "q")
		columns := [][2]string{{"a", "t"}, {"b", "i"}}
		text := g.inner(func(item string) string {
			return "select " + g.expr("t", depth) + " as a, " + g.expr("i", depth) + " as b from " + item
		}, depth)
		prefix = "with " + name + " as " + g.one("", "materialized ", "not materialized ") + "(" + text + ") "
		g.ctes = []genItem{{name, columns}}
	}
	switch n := g.IntN(24); {
	case n < 14:
		return prefix + g.query(depth)
	case n == 14:
		return prefix + "(" + g.inner(func(item string) string { return "select " + g.expr("t", depth) + " from " + item }, depth) + ") " +
			g.one("union", "union all", "except", "intersect") + " " + g.inner(func(item string) string { return "select " + g.expr("t", depth) + " from " + item }, depth)
	case n == 15:
		return "table " + g.ident(genNames[g.IntN(len(genNames))])
	case n == 16:
		return "copy (" + prefix + g.query(depth) + ") to stdout"
	case n < 19:
		return prefix + g.update(depth)
	case n == 19:
		return prefix + g.remove(depth)
	case n < 22:
		return prefix + g.insert(depth)
	case n == 22:
		return "create temp table gen_t as " + g.query(depth)
	}
	return "declare gen_c cursor for " + g.query(depth)
}

var genTargets = []string{"customers", "customers", "orders", "scratch", "child", "customer_view"}

// target is a table to write to.
func (g *generator) target() (string, genItem) {
	name := genTargets[g.IntN(len(genTargets))]
	text := g.one("", "app.") + g.ident(name)
	if g.chance(50) {
		return text + " as tgt", genItem{"tgt", genTables[name]}
	}
	return text, genItem{name, genTables[name]}
}

func (g *generator) returning(item genItem) string {
	switch g.IntN(4) {
	case 0:
		return " returning *"
	case 1:
		return " returning " + g.expr("t", 2) + ", " + g.expr("i", 1)
	case 2:
		return " returning " + g.ident(item.alias) + ".*, " + g.column("t")
	}
	return ""
}

func (g *generator) update(depth int) string {
	text, item := g.target()
	g.scopes = append(g.scopes, []genItem{item})
	defer func() { g.scopes = g.scopes[:len(g.scopes)-1] }()
	column := item.columns[1+g.IntN(len(item.columns)-1)]
	set := g.ident(column[0]) + " = " + g.expr(column[1], depth)
	from := ""
	if g.chance(30) {
		f, other := g.rangeItem(depth)
		from = " from " + f
		g.scopes[len(g.scopes)-1] = append(g.scopes[len(g.scopes)-1], other)
	}
	return "update " + text + " set " + set + from + g.where(depth) + g.returning(item)
}

func (g *generator) remove(depth int) string {
	text, item := g.target()
	g.scopes = append(g.scopes, []genItem{item})
	defer func() { g.scopes = g.scopes[:len(g.scopes)-1] }()
	return "delete from " + text + g.where(depth) + g.returning(item)
}

func (g *generator) insert(depth int) string {
	text, item := g.target()
	values := "select 70 + " + g.literal("i") + ", " + g.literal("t")
	columns := "(id, " + g.ident(item.columns[1][0]) + ")"
	if item.columns[1][1] == "i" {
		values = "values (71, 1)"
	} else if g.chance(50) {
		values = g.inner(func(from string) string {
			return "select 70 + " + g.expr("i", 1) + ", " + g.expr("t", depth) + " from " + from
		}, depth)
	}
	conflict := g.one("", "", " on conflict do nothing", " on conflict (id) do nothing")
	g.scopes = append(g.scopes, []genItem{item})
	defer func() { g.scopes = g.scopes[:len(g.scopes)-1] }()
	return "insert into " + text + " " + columns + " " + values + conflict + g.returning(item)
}
