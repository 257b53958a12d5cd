package postgres

import (
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/reviews"
)

// targetDocument is a connection to a database of a server of ours, with its
// secret in a variable of this test.
func targetDocument(t *testing.T, server *peers.PostgresServer, database, role, password string) (*reviews.Connection, credential.Secret) {
	t.Helper()
	t.Setenv("SURVEY_PASSWORD", password)
	secret, err := credential.Resolve(t.Context(), "env:SURVEY_PASSWORD")
	if err != nil {
		t.Fatal(err)
	}
	return &reviews.Connection{
		Metadata: reviews.Metadata{Name: "orders-db"},
		Spec: reviews.ConnectionSpec{Protocol: "postgres", Target: reviews.Target{
			Host: server.Host, Port: server.Port, Database: database, User: role, TLS: "verify-full", CA: server.CAFile,
		}},
	}, secret
}

// What a login shows of the target's role: every power that reaches around a mask is named.
func TestProbeTarget(t *testing.T) {
	server := peers.SharedPostgres(t)
	database := server.NewDatabase(t, `create schema app`, `create table app.orders (id int)`)
	run := func(sql string) {
		t.Helper()
		if err := server.Exec(t.Context(), database, sql); err != nil {
			t.Fatal(err)
		}
	}
	const password = "canary-of-the-probe"
	for _, test := range []struct {
		role, sql string
		want      []string
	}{
		{"probe_plain", `grant usage on schema app to probe_plain; grant select on app.orders to probe_plain`, nil},
		{"probe_owner", `create table app.own (id int); alter table app.own owner to probe_owner`, []string{"owns 1 relations"}},
		{"probe_reader", `grant pg_read_server_files, pg_read_all_data to probe_reader`, []string{"is a member of pg_read_all_data, pg_read_server_files"}},
		{"probe_powers", `alter role probe_powers replication bypassrls createrole createdb`,
			[]string{"may replicate", "bypasses row security", "may create roles", "may create databases"}},
		{"probe_super", `alter role probe_super superuser`, []string{"is a superuser"}},
	} {
		if err := server.CreateRole(t.Context(), test.role, password); err != nil {
			t.Fatal(err)
		}
		run(test.sql)
		doc, secret := targetDocument(t, server, database, test.role, password)
		p, err := ProbeTarget(t.Context(), doc, secret)
		if err != nil {
			t.Errorf("%s: %v", test.role, err)
			continue
		}
		if p.Role != test.role || p.Server == "" || !strings.HasPrefix(p.TLS, "TLS 1.") {
			t.Errorf("%s: %+v", test.role, p)
		}
		if len(p.Powers) != len(test.want) {
			t.Errorf("%s: powers %q, want %q", test.role, p.Powers, test.want)
			continue
		}
		for i, want := range test.want {
			if !strings.HasPrefix(p.Powers[i], want) {
				t.Errorf("%s: power %q, want %q", test.role, p.Powers[i], want)
			}
		}
	}
	doc, _ := targetDocument(t, server, database, "probe_plain", password)
	_, wrong := targetDocument(t, server, database, "probe_plain", "another-canary")
	if _, err := ProbeTarget(t.Context(), doc, wrong); err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a wrong password: %v", err)
	}
}

// The survey gives effective privileges: membership, columns, PUBLIC and ownership
// together, for names of every kind, and nothing secret.
func TestSurveyTarget(t *testing.T) {
	server := peers.SharedPostgres(t)
	const password = "canary-of-the-survey"
	for _, role := range []string{"survey_admin", "survey_reader", "survey_group", "survey_owner"} {
		if err := server.CreateRole(t.Context(), role, password); err != nil {
			t.Fatal(err)
		}
	}
	database := server.NewDatabase(t, `create schema app`, `create schema hidden`,
		`create table app.orders (id int, status text, note text)`, `create table app.customers (id int, email text)`, `create table hidden.t (id int)`,
		`create table app."Odd ""name" (id int)`,
		`grant usage on schema app to survey_reader, survey_group`, `grant survey_group to survey_reader`,
		`grant select on app.orders to survey_group`, `grant update (status) on app.orders to survey_reader`, `grant select (id) on app.customers to survey_reader`,
		`grant select on hidden.t to survey_reader`, `grant delete on app."Odd ""name" to survey_reader`,
		`alter table app.customers owner to survey_owner`)
	doc, secret := targetDocument(t, server, database, "survey_admin", password)
	s, err := SurveyTarget(t.Context(), doc, secret)
	if err != nil {
		t.Fatal(err)
	}
	find := func(role, relation string) *SurveyGrant {
		for i, g := range s.Grants {
			if g.Role == role && g.Relation == relation {
				return &s.Grants[i]
			}
		}
		return &SurveyGrant{}
	}
	if g := find("survey_reader", "orders"); !slices.Equal(g.Privileges, []string{"SELECT"}) || !slices.Equal(g.Columns["UPDATE"], []string{"status"}) || !g.Reachable || g.Owns {
		t.Errorf("orders: %+v", g)
	}
	if g := find("survey_reader", "customers"); len(g.Privileges) > 0 || !slices.Equal(g.Columns["SELECT"], []string{"id"}) {
		t.Errorf("customers: %+v", g)
	}
	if g := find("survey_reader", "t"); g.Reachable || !slices.Equal(g.Privileges, []string{"SELECT"}) {
		t.Errorf("a schema without usage: %+v", g)
	}
	if g := find("survey_reader", `Odd "name`); !slices.Equal(g.Privileges, []string{"DELETE"}) {
		t.Errorf("an odd name: %+v", g)
	}
	if g := find("survey_owner", "customers"); !g.Owns || len(g.Privileges) != 7 || !g.Grantable {
		t.Errorf("an owner: %+v", g)
	}
	if g := find("survey_admin", "orders"); g.Relation != "" {
		t.Errorf("a role without grants: %+v", g)
	}
	for _, r := range s.Roles {
		if r.Name == "survey_reader" && !slices.Equal(r.Inherits, []string{"survey_group"}) {
			t.Errorf("membership: %+v", r)
		}
		if r.Name == server.User && !r.Superuser {
			t.Errorf("the superuser: %+v", r)
		}
	}
	if log := logOf(server, database); strings.Contains(surveyQuery, "pg_authid") || strings.Contains(surveyQuery, "pg_shadow") || strings.Contains(log, "permission denied for table pg_authid") {
		t.Error("the survey reads password hashes")
	}
}
