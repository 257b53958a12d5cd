package postgres

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/reviews"
)

// discovered is what Discover says of the world's target.
func (w *world) discovered() *Discovery {
	w.t.Helper()
	tree, err := reviews.Load(w.files, reviews.LoadOptions{Now: time.Now()})
	if err != nil {
		w.t.Fatal(err)
	}
	d, err := Discover(w.t.Context(), tree.Connections["orders-db"], credential.NewSecret(w.secret))
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// labelled runs Discover on a schema whose columns say by their comments which are to be proposed.
func labelled(t *testing.T, name string) (found *Discovery, precision, recall float64, figures string) {
	t.Helper()
	w := newWorld(t, variant{masks: "[{column: app.customers.email, with: email}]"})
	script, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	w.exec("drop table app.customers, app.orders; create table app.customers (id int, email text)")
	w.exec(string(script) + "; grant select on all tables in schema app to " + w.role)
	rows, err := w.target.Query(t.Context(), w.database, `select 'app.' || c.relname || '.' || a.attname, coalesce(col_description(c.oid, a.attnum), '') from pg_class c join pg_attribute a on a.attrelid = c.oid
		where c.relnamespace = 'app'::regnamespace and c.relkind = 'r' and c.relname <> 'customers' and a.attnum > 0`)
	if err != nil {
		t.Fatal(err)
	}
	found = w.discovered()
	proposed := map[string]Proposal{}
	for _, p := range found.Proposals {
		proposed[p.Column] = p
	}
	right, wrong, missed := 0, 0, 0
	for _, row := range rows {
		p, is := proposed[row[0]]
		delete(proposed, row[0])
		label, wants, _ := strings.Cut(row[1], " ")
		switch {
		case is && label == "pii":
			right++
		case is:
			wrong++
			t.Logf("wrong: %s with %s: %s", p.Column, p.With, p.Reason)
		case label == "pii":
			missed++
			t.Logf("missed: %s", row[0])
		}
		if is && wants != "" && p.With != wants {
			t.Errorf("%s with %s, want %s", p.Column, p.With, wants)
		}
	}
	if len(proposed) > 0 {
		t.Errorf("proposed for columns that are not there: %v", proposed)
	}
	precision, recall = float64(right)/float64(right+wrong), float64(right)/float64(right+missed)
	figures = fmt.Sprintf("%d columns of which %d are labelled: precision %.2f, recall %.2f", len(rows), right+missed, precision, recall)
	t.Log(figures)
	return found, precision, recall, figures
}

// TestDiscoverOnLabelledColumns measures precision and recall; docs/masking.md has the figures.
func TestDiscoverOnLabelledColumns(t *testing.T) {
	found, precision, recall, figures := labelled(t, "discover.sql")
	if precision < 0.95 || recall < 0.95 {
		t.Error(figures)
	}
	_, heldPrecision, heldRecall, held := labelled(t, "discover_heldout.sql")
	if heldPrecision < 0.9 || heldRecall < 0.75 {
		t.Error(held)
	}
	page, err := os.ReadFile("../../docs/masking.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{figures, held} {
		if !strings.Contains(strings.Join(strings.Fields(string(page)), " "), f) {
			t.Errorf("docs/masking.md does not say: %s", f)
		}
	}
	said, err := json.Marshal(found)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"example.org", "example.net", "Lovelace", "4111", "NL91", "xoxb", "AKIA", "Elm Road", "+31", "AB123456C"} {
		if strings.Contains(string(said), value) {
			t.Errorf("%q of the values is in what discover says", value)
		}
	}
	if !slices.ContainsFunc(found.Proposals, func(p Proposal) bool { return p.Column == "app.users.dob" && p.With == "year" }) {
		t.Errorf("%v", found.Proposals)
	}
}

// TestDiscoverStaysInBounds: rights, timeouts, strange names and generated columns.
func TestDiscoverStaysInBounds(t *testing.T) {
	w := newWorld(t, variant{masks: "[{column: app.customers.email, with: email}]"})
	w.exec(`create table app.closed (email text); insert into app.closed values ('x@canary.example'); revoke all on app.closed from ` + w.role + `;
		create table app.big as select i as id, 'b' || i || '@canary.example' as owner from generate_series(1, 60000) i; analyze app.big;
		create table app.odd (id int, "E-Mail" text); insert into app.odd values (1, 'odd@canary.example'), (2, 'odd2@canary.example');
		create table app.derived (id int, email text, shout text generated always as (upper(email)) stored);
		create function app.boom(text) returns text language plpgsql as 'begin perform pg_sleep(60); return $1; end';
		create table app.wide (doc jsonb); insert into app.wide select jsonb_build_object('email', 'w@canary.example', 'pad', repeat('x', 30000)) from generate_series(1, 3);
		create table app.part (id int, phone text) partition by range (id); create table app.part_1 partition of app.part for values from (0) to (100); insert into app.part select i, '+3161234567' || i % 10 from generate_series(1, 50) i;
		grant select on app.big, app.odd, app.derived, app.wide, app.part to ` + w.role)
	d := w.discovered()
	with := map[string]string{}
	for _, p := range d.Proposals {
		with[p.Column] = p.With
	}
	for column, want := range map[string]string{"app.closed.email": "email", "app.big.owner": "email", "app.derived.email": "email", "app.derived.shout": "redact", "app.part.phone": "last(2)", "app.customers.ssn": "last4", "app.wide.doc": "", "app.part_1.phone": "", "app.customers.email": ""} {
		if column == "app.customers.ssn" {
			want = "redact"
		}
		if with[column] != want {
			t.Errorf("%s with %q, want %q", column, with[column], want)
		}
	}
	if len(d.Unsampled) != 1 || !strings.Contains(d.Unsampled[0], "app.closed: insufficient privilege") || len(d.Unsaid) != 1 || !strings.Contains(d.Unsaid[0], "E-Mail") {
		t.Errorf("%v %v", d.Unsampled, d.Unsaid)
	}
	if said, _ := json.Marshal(d); strings.Contains(string(said), "canary") {
		t.Errorf("%s", said)
	}
}
