package sqlguard

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/policies"
)

// locksQuery lists what the session's transaction has locked: relation, mode, and whether the transaction wrote.
const locksQuery = `select coalesce(json_agg(json_build_array(n.nspname || '.' || c.relname, l.mode)), '[]')
	from pg_catalog.pg_locks l join pg_catalog.pg_class c on c.oid = l.relation join pg_catalog.pg_namespace n on n.oid = c.relnamespace
	where l.pid = pg_catalog.pg_backend_pid() and n.nspname !~ '^pg_|^information_schema' and c.relkind in ('r','p','v','m','f')
	and l.database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())`

// TestGuardAgreesWithServer sends generated statements. What the server locked
// and wrote must be what the effects name, what comes back must be what the
// mirror answers directly, and what the server understands the guard must too.
// FUZZTIME makes it longer.
func TestGuardAgreesWithServer(t *testing.T) {
	t.Parallel()
	limit := 8 * time.Second
	if d, err := time.ParseDuration(os.Getenv("FUZZTIME")); err == nil {
		limit = d
	}
	w := newWorld(t, worldMasks)
	m := newMirror(t, w)
	counts := make(map[string]int)
	seed := uint64(1)
	for end := time.Now().Add(limit); time.Now().Before(end) && counts["wrong"] < 5; seed++ {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 918273))}
		failed := t.Failed()
		agree(t, w, m, g.statement(), counts)
		if t.Failed() && !failed {
			counts["wrong"]++
		}
	}
	t.Logf("%d statements: %v", seed-1, counts)
	if counts["same"] < 50 {
		t.Errorf("only %d statements ran: the generator is broken", counts["same"])
	}
}

// modifiers are type modifiers in answers: an expression that the planner folds into a mask has that of the mask.
var modifiers = regexp.MustCompile(`(:\d+):-?\d+ `)

func agree(t *testing.T, w, m *world, text string, counts map[string]int) {
	t.Helper()
	st := w.guard.Understand(text, w.scope)
	m.enter(t, "")
	want := m.answer(text)
	m.reset(t)
	if r := st.Command.Refusal; r != nil {
		counts[r.Rule]++
		if r.Rule == "syntax_error" && !strings.Contains(want, "ERROR 42601") || r.Rule == "rewrite_failed" ||
			r.Rule == "unknown_relation" && !strings.Contains(want, "ERROR") {
			t.Errorf("%s\n  refused: %s\n  directly: %.300s", text, r.Reason, want)
		}
		return
	}
	w.enter(t, "")
	got := modifiers.ReplaceAllString(w.answer(st.Rewritten), "$1 ")
	want = modifiers.ReplaceAllString(want, "$1 ")
	failed := strings.Contains(got, "ERROR")
	if form := leaks(got); form != "" && !strings.Contains(want, form) && !(failed && st.ScrubErrors) {
		t.Errorf("%s\n  shows %q: %s\n  sent: %s", text, form, got, st.Rewritten)
	}
	switch {
	case strings.Contains(want, "ERROR") && failed:
		counts["both fail"]++
		if at := st.MapPosition(w.position); at != 0 && at != m.position && sameError(got, want) {
			t.Errorf("%s\n  the error points to %d, mapped from %d, instead of %d\n  got  %s\n  sent: %s", text, at, w.position, m.position, got, st.Rewritten)
		} else if at != 0 {
			counts["same position"]++
		}
		return
	case strings.Contains(want, "ERROR") || failed || got != want:
		counts["differs"]++
		if reason := mayDiffer(w, text, got, want, st); reason == "" {
			t.Errorf("%s\n  got  %.600s\n  want %.600s\n  sent: %s", text, got, want, st.Rewritten)
		}
	default:
		counts["same"]++
	}
	if !failed {
		checkEffects(t, w, text, st)
	}
}

// sameError says whether two answers are the same error.
func sameError(a, b string) bool {
	_, a, _ = strings.Cut(a, "ERROR ")
	_, b, _ = strings.Cut(b, "ERROR ")
	return a == b
}

// checkEffects compares the effects of a statement that has just run with the locks that it took.
func checkEffects(t *testing.T, w *world, text string, st Statement) {
	t.Helper()
	raw, _, err := w.exec(locksQuery)
	if err != nil {
		t.Fatal(err)
	}
	var locks [][2]string
	if err := json.Unmarshal(raw, &locks); err != nil {
		t.Fatal(err)
	}
	for _, l := range locks {
		writes := l[1] != "AccessShareLock"
		named := slices.ContainsFunc(st.Command.Effects, func(e policies.Effect) bool {
			return (e.Verb != "select" || !writes) && (e.Object == l[0] || below(w.catalog, e.Object, l[0], make(map[string]bool)))
		})
		if !named && !(writes && l[0] == "app.orders") && l[0] != "pg_temp.gen_t" { // a foreign key's check locks rows of orders
			t.Errorf("%s\n  the server took %s on %s, the effects are %v\n  sent: %s", text, l[1], l[0], st.Command.Effects, st.Rewritten)
		}
	}
}

// below says whether a relation is one that another reads or consists of: a view's tables, a table's partitions and foreign keys.
func below(c *Catalog, object, name string, seen map[string]bool) bool {
	r := c.related(object)
	if r == nil || seen[object] {
		return false
	}
	seen[object] = true
	for _, base := range r.Reads {
		if base == name || below(c, base, name, seen) {
			return true
		}
	}
	for _, child := range c.Relations {
		if slices.Contains(child.Parents, object) && (child.qualified() == name || below(c, child.qualified(), name, seen)) {
			return true
		}
	}
	return object == "app.orders" && name == "app.customers" || object == "app.customers" && name == "app.orders"
}

// mayDiffer says why guard and mirror may differ, "" when they may not.
func mayDiffer(w *world, text, got, want string, st Statement) string {
	switch {
	case strings.Contains(want, "ERROR 23505"), strings.Contains(got, "ERROR 23505"):
		return "a unique key of masked values"
	case strings.Contains(want, "violates check constraint"):
		return "a mask has the type below a domain"
	case strings.Contains(got, "has pseudo-type record"):
		return "a table cannot have a column of a sub-select's row type"
	case strings.Contains(text, " returning ") && slices.ContainsFunc(st.Command.Effects, func(e policies.Effect) bool {
		r := w.catalog.related(e.Object)
		if r == nil || w.guard.masked[key(r.Schema, r.Name)] == nil {
			return false
		}
		masked := func(c string) bool { return w.guard.masked[key(r.Schema, r.Name)].with[c] != "" }
		return e.Verb == "insert" || e.Verb == "update" && slices.ContainsFunc(e.Columns, masked)
	}):
		return "the mirror shows what the statement itself wrote"
	}
	return ""
}
