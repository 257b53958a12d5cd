package sqlguard

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// TestHarnessSeesLeaks sends what a guard without masks lets through: a harness that finds nothing there would prove nothing.
func TestHarnessSeesLeaks(t *testing.T) {
	w := newWorld(t, nil)
	for _, text := range []string{
		`select email from customers`, `select reverse(ssn) from customers`, `select encode(ssn::bytea, 'hex') from customers`, `select ssn::int from customers`,
		`select regexp_split_to_table(ssn, '') from customers`, `copy customers to stdout`, `update customers set name = name returning ssn`, `select salary from customers`,
	} {
		w.reset(t)
		seen, rule, _ := w.send(text)
		if rule != "" || leaks(seen) == "" {
			t.Errorf("%s: rule %q, no canary in %q", text, rule, seen)
		}
	}
}

// logged are the statements that a server's log shows since a place in it.
func logged(server *peers.PostgresServer, since int) []string {
	var texts []string
	for _, entry := range strings.Split(server.Log()[since:], "LOG:  statement: ")[1:] {
		var lines []string
		for i, line := range strings.Split(entry, "\n") {
			if i > 0 && !strings.HasPrefix(line, "\t") {
				break
			}
			lines = append(lines, strings.TrimPrefix(line, "\t"))
		}
		texts = append(texts, strings.Join(lines, "\n"))
	}
	return texts
}

// replay sends what a program sent once more, through the guard, in the program's order. None of it may be refused, fail or show
// a masked value, and what reads no masked relation answers as another session gets it directly.
func replay(t *testing.T, w *world, texts []string) {
	t.Helper()
	if len(texts) < 5 {
		t.Fatalf("only %d statements captured", len(texts))
	}
	direct := w.sibling(t)
	w.reset(t)
	for _, one := range []*world{w, direct} {
		if _, _, err := one.exec("set search_path = public"); err != nil {
			t.Fatal(err)
		}
	}
	w.scope.SearchPath = []string{"public"}
	for _, text := range texts {
		want := direct.answer(text)
		st := w.guard.Understand(text, w.scope)
		if r := st.Command.Refusal; r != nil {
			t.Errorf("refused: %s: %s\n%s", r.Rule, r.Reason, text)
			continue
		}
		got := w.answer(st.Rewritten)
		if strings.Contains(got, canary) { // not the other forms: the catalogs describe Spanish as spoken on the Canary Islands
			t.Errorf("%s\n  shows a canary", text)
		}
		fails := strings.Contains(got, "ERROR") && !strings.Contains(want, "ERROR") // an older psql asks a newer server for what it has no more
		if fails || got != want && !st.Masked && st.Parts[0].Kind != KindFetch && !hidesSettings(st.Rewritten) {
			t.Errorf("%s\n  answers %d bytes instead of %d: %.500s\n  sent: %s", text, len(got), len(want), got, st.Rewritten)
		}
		w.track(st.Parts)
	}
	t.Logf("%d statements", len(texts))
}

// hidesSettings says whether a rewritten text leaves something of the system catalogs out.
func hidesSettings(text string) bool {
	return strings.Contains(text, hiddenSettings) || strings.Contains(text, "as "+sourceAlias)
}

func TestPsqlDescribesEverything(t *testing.T) {
	server := peers.SharedPostgres(t)
	w := newWorld(t, worldMasks)
	psql, err := peers.Psql(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	config := w.config
	args := []string{"-X", "-q", "-w", "-h", config.Host, "-p", strconv.Itoa(int(config.Port)), "-U", config.User, "-d", config.Database}
	for _, c := range psqlCommands {
		args = append(args, "-c", c)
	}
	psql.Env = append(psql.Env, "PGPASSWORD="+config.Password)
	before := len(server.Log())
	if out, err := psql.Run(t.Context(), t.TempDir(), args...); err != nil {
		t.Fatal(err, out)
	}
	replay(t, w, logged(server, before))
}

// psqlCommands are the backslash commands that query.
var psqlCommands = []string{
	`\d`, `\d app.customers`, `\d+ app.customers`, `\d app.events`, `\d+ app.events_2026`, `\d app.order_view`, `\d+ app.customer_view`, `\d app.customer_mat`, `\d app.seq`, `\d app.ruled`, `\d app.child`, `\d app."Odd Name"`, `\d app.customers_pkey`, `\d+ app.*`,
	`\dS pg_class`, `\dt`, `\dt+ *.*`, `\dv app.*`, `\dm+ app.*`, `\di+ app.*`, `\ds app.*`, `\dE app.*`, `\dtvmsE+ app.*`, `\dn`, `\dn+`, `\df app.*`, `\df+ app.listed`, `\dfa`, `\dfw`, `\dft app.*`, `\dT+`, `\dT+ app.*`, `\dD+ app.*`, `\do+ app.*`, `\dC+`, `\dc+`, `\da`,
	`\du`, `\du+`, `\dg`, `\drds`, `\l`, `\l+`, `\dp`, `\z app.*`, `\ddp`, `\ddp app`, `\dx`, `\dx+`, `\dy+`, `\dO+`, `\dL+`, `\dF`, `\dFd`, `\dFp+`, `\dFt`, `\des+`, `\det`, `\dew`, `\deu`, `\dP app.*`, `\dPti`, `\db`, `\db+`, `\dA`, `\dAc`, `\dAf`, `\dAo btree`, `\dAp btree`,
	`\dRp`, `\dRp+`, `\dRs`, `\dX app.*`, `\dd app.*`, `\dconfig`, `\dconfig *work*`, `\dconfig+ *`, `\dl`, `\lo_list`, `\sf app.listed`, `\sf+ app.listed`, `\sv app.order_view`, `\sv+ app.customer_view`,
	`\copy app.orders to /dev/null`, `\copy app.customers to /dev/null csv header`, `\copy (select * from app.customers) to /dev/null`,
}

func TestPgDump(t *testing.T) {
	server := peers.SharedPostgres(t)
	w := newWorld(t, worldMasks)
	psql, err := peers.Psql(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	dump := filepath.Join(filepath.Dir(psql.Path), "pg_dump")
	if _, err := os.Stat(dump); err != nil {
		t.Fatalf("pg_dump is not beside psql: %v; apt-get install postgresql-client", err)
	}
	config := w.config
	for _, args := range [][]string{
		{"--schema-only"}, {"--data-only", "-t", "app.orders", "-t", "app.scratch"}, {"-t", "app.orders", "--inserts"}, {"-n", "app", "-Fc"}, {"--schema-only", "--create", "--no-owner"}, {"-t", "app.customers", "--column-inserts", "--rows-per-insert=10"},
	} {
		args = append(args, "-w", "-h", config.Host, "-p", strconv.Itoa(int(config.Port)), "-U", config.User, "-d", config.Database, "-f", filepath.Join(t.TempDir(), "dump"))
		cmd := exec.CommandContext(t.Context(), dump, args...)
		cmd.Env = append(psql.Env, "PGPASSWORD="+config.Password)
		before := len(server.Log())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		t.Log(args)
		replay(t, w, logged(server, before))
	}
}
