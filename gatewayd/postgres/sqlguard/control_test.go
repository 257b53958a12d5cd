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

// toolStatements understands, one after the other, what a program sent; none may be refused.
func toolStatements(t *testing.T, w *world, texts []string, path ...string) {
	t.Helper()
	if len(texts) < 5 {
		t.Fatalf("only %d statements captured", len(texts))
	}
	w.reset(t)
	w.scope.SearchPath = path
	for _, text := range texts {
		st := w.guard.Understand(text, w.scope)
		if r := st.Command.Refusal; r != nil {
			t.Errorf("refused: %s: %s\n%s", r.Rule, r.Reason, text)
			continue
		}
		w.track(st.Parts)
	}
}

func TestPsqlDescribesEverything(t *testing.T) {
	w := newWorld(t, worldMasks)
	psql, err := peers.Psql(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	config := w.config
	args := []string{"-X", "-E", "-w", "-h", config.Host, "-p", strconv.Itoa(int(config.Port)), "-U", config.User, "-d", config.Database}
	for _, c := range []string{
		`\d`, `\d app.customers`, `\d+ app.customers`, `\d app.events`, `\d+ app.events_2026`, `\d app.order_view`, `\d app.seq`, `\d app.ruled`, `\d app.child`, `\dt`, `\dt+ *.*`, `\dv`, `\dm`, `\di+`, `\ds`, `\dn+`, `\df app.*`, `\df+ app.listed`,
		`\dT+`, `\dD`, `\do app.*`, `\dC`, `\du`, `\du+`, `\l`, `\dp`, `\ddp`, `\dx`, `\dc`, `\da`, `\dO`, `\dL`, `\dF`, `\des`, `\det`, `\dE`, `\dP`, `\dg`, `\db`, `\dA`, `\dy`, `\dRp`, `\sf app.listed`, `\sv app.order_view`,
	} {
		args = append(args, "-c", c)
	}
	psql.Env = append(psql.Env, "PGPASSWORD="+config.Password)
	out, err := psql.Run(t.Context(), t.TempDir(), args...)
	if err != nil {
		t.Fatal(err, out)
	}
	var texts []string
	for i, part := range strings.Split(out, "********* QUERY **********\n") {
		if text, _, found := strings.Cut(part, "**************************"); found && i > 0 {
			texts = append(texts, text)
		}
	}
	t.Logf("%d queries", len(texts))
	toolStatements(t, w, texts, "app", "public")
}

func TestPgDumpSchemaOnly(t *testing.T) {
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
	cmd := exec.CommandContext(t.Context(), dump, "--schema-only", "-w", "-h", config.Host, "-p", strconv.Itoa(int(config.Port)), "-U", config.User, "-d", config.Database)
	cmd.Env = append(psql.Env, "PGPASSWORD="+config.Password)
	before := len(server.Log())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var texts []string
	for _, entry := range strings.Split(server.Log()[before:], "LOG:  statement: ")[1:] {
		var lines []string
		for i, line := range strings.Split(entry, "\n") {
			if i > 0 && !strings.HasPrefix(line, "\t") {
				break
			}
			lines = append(lines, strings.TrimPrefix(line, "\t"))
		}
		texts = append(texts, strings.Join(lines, "\n"))
	}
	t.Logf("%d statements", len(texts))
	toolStatements(t, w, texts, "app", "public")
}
