package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/reviews"
)

// A database with roles of all sorts becomes drafts that only lack signatures: they
// parse, grant what the role could and no more, and what they cannot say is said.
func TestImportPostgres(t *testing.T) {
	w := newWorkplace(t)
	server := peers.SharedPostgres(t)
	const password = "canary-of-the-import"
	roles := []string{"import_admin", "import_etl", "import_report", "import_group", "Import Etl", "import_idle", "imp\n  allow: [x]", `imp"quote`}
	for _, role := range roles {
		sql := fmt.Sprintf(`create role %s login password '%s'`, sqlName(role), password)
		if err := server.Exec(t.Context(), "postgres", sql); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, role := range roles {
			_ = server.Exec(t.Context(), "postgres", `alter role `+sqlName(role)+` nologin`)
		}
	})
	database := server.NewDatabase(t, `create schema app`,
		`create table app.orders (id int primary key, status text, note text)`, `create table app.customers (id int primary key, email text)`,
		`create table app.audit (id int)`, `create table app."Odd; name" (id int)`, `create table app."col" ("b c" int, id int)`,
		`grant usage on schema app to import_etl, import_report, import_group, "Import Etl", `+sqlName("imp\n  allow: [x]")+`, `+sqlName(`imp"quote`),
		`grant select, insert on app.orders, app.customers to import_etl`, `grant update (status) on app.orders to import_etl`,
		`grant select (id, "b c") on app."col" to import_etl`, `grant truncate, references on app.audit to import_etl with grant option`,
		`grant delete on app."Odd; name" to import_etl`,
		`grant import_group to import_report`, `grant select on app.orders to import_group`,
		`alter table app.audit enable row level security`,
		`grant select on app.orders to "Import Etl", `+sqlName("imp\n  allow: [x]")+`, `+sqlName(`imp"quote`))
	t.Setenv("PGPASSWORD", password)
	if err := os.Mkdir(w.path("pub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := peers.NewSSHKey(t.Context(), w.path("pub/import_etl"), "etl"); err != nil {
		t.Fatal(err)
	}
	dsn := fmt.Sprintf("postgres://import_admin@%s:%d/%s", server.Host, server.Port, database)
	args := []string{"import", "postgres", dsn, "--ca", server.CAFile, "--connection", "shop", "--owner", "user:alice", "--keys", w.path("pub")}

	for _, wrong := range [][]string{
		{"import", "postgres", strings.Replace(dsn, "@", ":"+password+"@", 1), "--owner", "user:alice"},
		{"import", "postgres", dsn + "?sslmode=disable", "--owner", "user:alice"},
		{"import", "postgres", dsn, "--owner", "alice"},
		{"import", "postgres", dsn},
		{"import", "postgres", dsn, "--owner", "user:alice", "--kind", "root"},
	} {
		if _, errOut, code := w.run(nil, wrong...); code != exitUsage || strings.Contains(errOut, password) {
			t.Errorf("%q: exit code %d, %s", wrong[2:], code, errOut)
		}
	}
	if out := w.must(nil, append(args, "--dry-run")...); !strings.Contains(out, "# would write reviews/shop/import-etl.yaml") {
		t.Errorf("dry run: %s", out)
	}
	if changed := w.git("status", "--porcelain"); changed != "" {
		t.Errorf("a dry run wrote %s", changed)
	}
	var d drafts
	out := w.must(nil, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out, password) || strings.Contains(out, "SCRAM-SHA-256") {
		t.Error("the drafts hold a secret")
	}
	review := readReview(t, w, "shop/import-etl")
	if review.Spec.Subject != "agent:import-etl" || review.Spec.Requester != "user:alice" {
		t.Errorf("review: %+v", review.Spec)
	}
	got := compareGrants(granted{}, grantsOf(review))
	var lines []string
	for _, c := range got {
		lines = append(lines, c.What)
	}
	want := []string{"truncate on app.audit", "select, insert on app.customers, app.orders", "select on app.col, only columns id", "update on app.orders, only columns status"}
	if !slices.Equal(lines, want) {
		t.Errorf("rules: %q, want %q", lines, want)
	}
	said := fmt.Sprint(d.Unsaid)
	for _, part := range []string{
		`"app.Odd; name", whose name a rule cannot hold`, `select column "b c"`, `row security on "app.audit"`, `may pass grants on "app.audit" on`, `has REFERENCES on "app.audit"`,
		`membership in "import_group"`, "is a superuser", "nothing is masked", "may do nothing that a review could say",
	} {
		if !strings.Contains(said, part) {
			t.Errorf("it does not say %q: %s", part, said)
		}
	}
	if r := readReview(t, w, "shop/import-report"); !slices.Equal(r.Spec.Allow[0].On, []string{"app.orders"}) {
		t.Errorf("membership: %+v", r.Spec.Allow)
	}
	// Names that no document may have: two that would be the same, and one that would write YAML.
	for _, name := range []string{"shop/import-etl-2", "shop/imp-allow-x", "shop/imp-quote"} {
		if r := readReview(t, w, name); len(r.Spec.Allow) != 1 || !slices.Equal(r.Spec.Allow[0].Verbs, []string{"select"}) {
			t.Errorf("%s: %+v", name, r.Spec.Allow)
		}
	}
	// All that is missing are keys and signatures: check says so, and nothing else.
	tree, err := reviews.Load(os.DirFS(w.path("access")), reviews.LoadOptions{Now: time.Now(), Approvals: reviews.ReportApprovals})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range tree.Problems {
		missing := strings.Contains(p.Error(), "keys") || strings.Contains(p.Error(), "is not a principal of this repository")
		if !missing {
			t.Errorf("problem: %v", p)
		}
	}
	if tree.Reviews["shop/import-etl"] == nil || tree.Principals["agent:import-etl"] == nil || tree.Connections["shop"] == nil || len(tree.Connections["shop"].Catalog) == 0 {
		t.Errorf("what has a key is not usable: %v", tree.Problems)
	}
	if len(tree.Pending) < 3 {
		t.Errorf("drafts are taken as approved: %+v", tree.Pending)
	}
	r, err := ci.Test(t.Context(), os.DirFS(w.path("access")), ci.Options{Now: time.Now(), Classifiers: classifiers()})
	if err != nil || r.Failed > 0 {
		t.Errorf("examples: %+v %v", r, err)
	}
	// Again: nothing is overwritten.
	before := readFile(t, w, "reviews/shop/import-etl.yaml")
	if out := w.must(nil, args...); !strings.Contains(out, "left alone reviews/shop/import-etl.yaml: it exists") || readFile(t, w, "reviews/shop/import-etl.yaml") != before {
		t.Errorf("again: %s", out)
	}
	t.Setenv("PGPASSWORD", "another-canary")
	if _, errOut, code := w.run(nil, args...); code != exitFailed || strings.Contains(errOut, "canary") {
		t.Errorf("a wrong password: %d %s", code, errOut)
	}
}

func sqlName(role string) string { return `"` + strings.ReplaceAll(role, `"`, `""`) + `"` }

func readFile(t *testing.T, w *workplace, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(w.path("access"), filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func readReview(t *testing.T, w *workplace, name string) *reviews.Review {
	t.Helper()
	path := reviews.PathOf(reviews.KindReview, name)
	r, err := reviews.ParseReview(path, []byte(readFile(t, w, path)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}
