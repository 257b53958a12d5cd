package sqlguard

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// All principals reach the target as one role, which the server takes for one
// user: it shows that user its own statements in every session, and lets locks of one
// session stop another. What follows keeps principals apart.

// ScopeSetting is the setting that holds what tells the locks of one principal
// from those of others. The engine sends it in the startup packet.
const ScopeSetting = "sallyport.scope"

// callAdvisory makes the key of an advisory lock one of the principal's: a
// digest, so that nobody can find a key of their own that meets another's.
func (a *analysis) callAdvisory(n *pg.FuncCall) {
	name := stringsOf(n.Funcname)[len(n.Funcname)-1]
	end, ok := nameEnd(a.text, int(n.Location), len(n.Funcname))
	l := lexer{s: a.text, at: end}
	open, more := l.next()
	if !ok || !more || open.kind != tokOpen || len(n.Args) == 0 || len(n.Args) > 2 || !plainCall(n) {
		a.refuse("function_not_allowed", "this call of %s is not understood; write %s(key) or %s(key, key)", name, name, name)
		return
	}
	l.at = open.start
	if end, ok = l.parentheses(); !ok {
		a.refuse("rewrite_failed", "the arguments of %s could not be found in the text; write them plainly", name)
		return
	}
	typ := "int8"
	if len(n.Args) == 2 {
		typ = "int4"
	}
	cast := ")::pg_catalog." + typ + "::pg_catalog.text"
	a.edits = append(a.edits, edit{start: open.end, end: open.end, text: "('x' operator(pg_catalog.||) pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.current_setting('" +
		ScopeSetting + "') operator(pg_catalog.||) ':" + typ + ":' operator(pg_catalog.||) ("})
	if len(n.Args) == 2 {
		comma, ok := commaIn(a.text, open.end, end)
		if !ok {
			a.refuse("rewrite_failed", "the arguments of %s could not be found in the text; write them plainly", name)
			return
		}
		a.edits = append(a.edits, edit{start: comma, end: comma + 1, text: cast + " operator(pg_catalog.||) ',' operator(pg_catalog.||) ("})
	}
	a.edits = append(a.edits, edit{start: end - 1, end: end - 1, text: cast + ", 'UTF8')), 'hex'), 16))::pg_catalog.bit(64)::pg_catalog.int8"})
}

// statisticsOfOthers are the functions behind views of extensions that show the
// statements of all sessions of a role, with or without their constants.
var statisticsOfOthers = wordSet("pg_stat_statements pg_stat_monitor pg_qualstats pg_qualstats_names pg_store_plans pg_stat_plans pg_stat_kcache pg_wait_sampling_profile")

// showsOthers says whether a view shows statements of other sessions, by itself or by a view that it reads.
func (c *Catalog) showsOthers(r *Relation, seen map[*Relation]bool) bool {
	if r == nil || r.Kind != "v" && r.Kind != "m" || seen[r] {
		return false
	}
	seen[r] = true
	return slices.ContainsFunc(r.Calls, func(name string) bool {
		_, function, _ := strings.Cut(name, ".")
		return statisticsOfOthers[function]
	}) || slices.ContainsFunc(r.Reads, func(name string) bool { return c.showsOthers(c.related(name), seen) })
}
