package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-dev/sallyport/gatewayd/postgres"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/reviews"
)

const maskingPage = "../../docs/masking.md"

// maskedTarget is a session on a database, and the guard of what it holds.
type maskedTarget struct {
	conn  *pgconn.PgConn
	guard *sqlguard.Guard
	scope sqlguard.Scope
}

func newMaskedTarget(t *testing.T, options sqlguard.Options, statements ...string) *maskedTarget {
	t.Helper()
	server := peers.SharedPostgres(t)
	database := server.NewDatabase(t, append([]string{"create schema app"}, statements...)...)
	conn, err := peers.Connect(t.Context(), server.SuperuserDSN(database))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	m := &maskedTarget{conn: conn, scope: sqlguard.Scope{SearchPath: []string{"app"}}}
	results, err := conn.Exec(t.Context(), "set search_path = pg_catalog; "+sqlguard.PullQuery).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	catalog, err := sqlguard.ParseCatalog(results[1].Rows[0][0])
	if err != nil {
		t.Fatal(err)
	}
	if problems := sqlguard.CheckMasks(catalog, options); len(problems) > 0 {
		t.Fatal(problems)
	}
	if m.guard, err = sqlguard.New(catalog, options); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "set search_path = app; set timezone = 'UTC'; set sallyport.scope = 'page'").ReadAll(); err != nil {
		t.Fatal(err)
	}
	return m
}

// send runs a statement as a gateway would, and takes back what it did. rule is that of its refusal.
func (m *maskedTarget) send(t *testing.T, statement string) (answer, rule string, err error) {
	t.Helper()
	st := m.guard.Understand(statement, m.scope)
	if st.Command.Refusal != nil {
		return "", st.Command.Refusal.Rule, nil
	}
	if st.Parts[0].Kind == sqlguard.KindCopyOut {
		var out bytes.Buffer
		_, err := m.conn.CopyTo(t.Context(), &out, st.Rewritten)
		return out.String(), "", err
	}
	if _, err := m.conn.Exec(t.Context(), "begin").ReadAll(); err != nil {
		t.Fatal(err)
	}
	results, err := m.conn.Exec(t.Context(), st.Rewritten).ReadAll()
	for _, r := range results {
		for _, row := range r.Rows {
			answer += string(bytes.Join(row, []byte("|"))) + "\n"
		}
	}
	_, failed := m.conn.Exec(t.Context(), "rollback").ReadAll()
	return answer, "", errors.Join(err, failed)
}

// The table of masks on the page shows what the masks show.
func TestMaskTableOnThePage(t *testing.T) {
	page, err := os.ReadFile(maskingPage)
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\| (.*?) \\| (.*?) ?\\|$").FindAllStringSubmatch(string(page), -1)
	if len(rows) < 20 {
		t.Fatalf("the page has %d masks", len(rows))
	}
	plain := func(s string) string { return strings.TrimSpace(strings.ReplaceAll(s, `\*`, "*")) }
	var options sqlguard.Options
	var statements []string
	for i, row := range rows {
		statements = append(statements, fmt.Sprintf("create table app.t%d (c %s)", i, row[2]), fmt.Sprintf("insert into app.t%d values (%s)", i, peers.QuoteLiteral(plain(row[3]))))
		options.Masks = append(options.Masks, sqlguard.Mask{Column: fmt.Sprintf("app.t%d.c", i), With: plain(row[1])})
	}
	m := newMaskedTarget(t, options, statements...)
	for i, row := range rows {
		answer, rule, err := m.send(t, fmt.Sprintf("select c from app.t%d", i))
		if strings.TrimSuffix(answer, "\n") != plain(row[4]) || rule != "" || err != nil {
			t.Errorf("%s of %s %s shows %q %s %v, the page says %q", row[1], row[2], row[3], answer, rule, err, plain(row[4]))
		}
	}
}

// The statements on the page run, find nothing, or are refused, as their comments say.
func TestMaskingStatementsOnThePage(t *testing.T) {
	page, err := os.ReadFile(maskingPage)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	masks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(string(page))
	if len(blocks) < 8 || masks == nil {
		t.Fatalf("the page has %d blocks of SQL", len(blocks))
	}
	text := "apiVersion: sallyport.dev/v1\nkind: Connection\nmetadata: {repo: 6f0c2f5e-8f0a-4f6e-9a43-0d3f6a1f8b11, name: orders-db}\nspec:\n  protocol: postgres\n" +
		"  target: {host: db.internal, database: app, user: gateway}\n  credential: \"env:X\"\n  " + strings.ReplaceAll(strings.TrimSpace(masks[1]), "\n", "\n  ") + "\n"
	doc, err := reviews.ParseConnection("connections/orders-db.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	m := newMaskedTarget(t, postgres.GuardOptions(doc, doc.Spec.Mask), blocks[0][1],
		`insert into app.customers values (1, 'Ada', 'ada@example.org', '918-00-1234', '1990-05-17', 918273, '{"contact": {"phone": "+31918273"}, "cards": [{"number": "4111918273"}]}', 'nl'),
			(12, 'Bob', 'bob@example.org', '918-00-9999', '1991-06-18', 918274, null, 'be')`, `insert into app.orders values (1, 1, 7.5)`)
	statements := 0
	for _, block := range blocks[1:] {
		expect := ""
		for statement := range strings.Lines(block[1]) {
			statement = strings.TrimSpace(statement)
			if comment, is := strings.CutPrefix(statement, "-- "); is {
				expect = comment
				continue
			}
			statements++
			answer, rule, err := m.send(t, statement)
			refused, wants := strings.CutPrefix(expect, "refused: ")
			switch {
			case wants:
				if rule != refused {
					t.Errorf("%s\n  is %q, the page says refused: %s", statement, rule, refused)
				}
			case rule != "" || err != nil:
				t.Errorf("%s\n  is refused: %s %v", statement, rule, err)
			case expect == "finds" && answer == "", expect == "finds nothing" && answer != "", expect != "finds" && expect != "finds nothing" && expect != "runs":
				t.Errorf("%s\n  answers %q, the page says %s", statement, answer, expect)
			}
			for _, secret := range []string{"ada@example.org", "918-00", "918273", "1990-05-17"} {
				if strings.Contains(answer, secret) {
					t.Errorf("%s\n  shows %s", statement, answer)
				}
			}
		}
	}
	if statements < 35 {
		t.Errorf("only %d statements", statements)
	}
}

// The commands of the page, run by a shell: masks are proposed and applied, and a hardened role reads what it may.
func TestMaskingPageCommands(t *testing.T) {
	server := peers.SharedPostgres(t)
	database := server.NewDatabase(t, `create schema app`, `create table app.customers (id int primary key, name text, email text, ssn text)`,
		`insert into app.customers select i, 'Ada', 'canary' || i || '@example.org', '123-45-' || 6000 + i from generate_series(1, 20) i`)
	const password = "canary-of-the-masks"
	if err := server.CreateRole(t.Context(), "gateway_masking", password); err != nil {
		t.Fatal(err)
	}
	if err := server.Exec(t.Context(), database, `grant usage on schema app to gateway_masking; grant all on all tables in schema app to gateway_masking`); err != nil {
		t.Fatal(err)
	}
	home, bin := t.TempDir(), t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, "../sallyport").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	work := filepath.Join(home, "work")
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -eu\n"+consoleScript(t, maskingPage))
	cmd.WaitDelay = 5 * time.Second
	cmd.Dir = work
	cmd.Env = append(peers.CleanEnv(os.Environ(), home), "PATH="+bin+":"+os.Getenv("PATH"), "ORDERS_DB_PASSWORD="+password, "ADMIN="+server.SuperuserDSN(database),
		fmt.Sprintf("TARGET=postgres://gateway_masking@127.0.0.1:%d/%s", server.Port, database))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"+    - {column: app.customers.email, with: email} # e-mail address: ", "+    - {column: app.customers.ssn, with: redact} # national id: ", "+    - {column: app.customers.name, with: first}", "permission denied for table customers", "(20 rows)"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the output does not show %q:\n%s", want, out)
		}
	}
	for _, never := range []string{"canary1", "123-45", password} {
		if strings.Contains(string(out), never) {
			t.Errorf("the output shows %q:\n%s", never, out)
		}
	}
}
