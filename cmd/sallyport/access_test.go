package main

import (
	"bytes"
	"encoding/pem"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/reviews"
)

var update = flag.Bool("update", false, "write testdata/access anew")

const accessDir = "../../testdata/access"

// testdata/access is a complete signed access repo, made by
//
//	go test ./cmd/sallyport -run TestAccessRepo -update
//
// Its keys are made from their names (package accesstest) and stand in
// testdata/keys, so they protect nothing.
func TestAccessRepo(t *testing.T) {
	if *update {
		writeAccessRepo(t)
	}
	files := os.DirFS(accessDir)
	options := ci.Options{Now: time.Now(), RequireApproved: true, Classifiers: classifiers()}
	r, err := ci.Check(t.Context(), files, options)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Findings) > 0 || r.Checked < 8 {
		t.Errorf("check: %+v", r)
	}
	tests, err := ci.Test(t.Context(), files, options)
	if err != nil {
		t.Fatal(err)
	}
	if !tests.OK || tests.Passed < 6 {
		t.Errorf("test: %+v", tests)
	}
}

func writeAccessRepo(t *testing.T) {
	server := peers.SharedPostgres(t)
	database := server.NewDatabase(t,
		`create schema app`,
		`create table app.customers (id int primary key, name text not null, email text not null, ssn text not null)`,
		`create table app.orders (id int primary key, customer int references app.customers, status text not null)`)
	rows, err := server.Query(t.Context(), database, sqlguard.PullQuery)
	if err != nil {
		t.Fatal(err)
	}
	r := accesstest.New(t, time.Now())
	r.Write(reviews.ConfigPath, reviews.KindConfig, "Config", "sallyport", `
  repository: https://git.example.com/acme/access.git
  branch: main
  approvals:
    - {match: {kinds: [Principal, Connection, AccessReview, Policy]}, mode: signature, threshold: 1, groups: [reviewers]}
  freshness: {validFor: 24h}
  audit: {branch: audit}
  policies: [guardrails.rego]
  gateways: [{name: gw1, postgres: "127.0.0.1:6432"}]
  maxReviewLifetime: 87600h
`)
	r.Connection("orders-db", `  risk: high
  mask:
    - {column: app.customers.email, with: email}
    - {column: app.customers.ssn, with: last4}
  review: {maxAge: 87600h}
`)
	r.Review("orders-db/etl-nightly", 1, "agent:etl", `  allow:
    - {verbs: [select], on: [app.orders, app.customers]}
    - {verbs: [update], on: [app.orders], columns: [status]}
  hold:
    - {verbs: [delete], on: [app.orders]}
  limits: {session: 30m, rows: 100000}
  validity: {notBefore: "2026-11-23T00:00:00Z", expires: "2036-11-01T00:00:00Z"}
  examples:
    - {run: "select id, status from app.orders", expect: allow}
    - {run: "select id, email from app.customers", expect: mask}
    - {run: "update app.orders set status = 'paid' where id = 1", expect: allow}
    - {run: "update app.orders set customer = 2", expect: deny}
    - {run: "delete from app.orders where id = 1", expect: hold}
    - {run: "drop table app.orders", expect: deny}
`)
	r.Policy("guardrails", `
package access

deny contains "a table of a high-risk connection is never dropped or truncated" if {
	input.connection.spec.risk == "high"
	some effect in input.command.effects
	effect.verb in {"drop", "truncate"}
}
`)
	r.Policy("guardrails_test", `
package access_test

import data.access

test_drop_is_denied if {
	count(access.deny) == 1 with input as {
		"connection": {"spec": {"risk": "high"}},
		"command": {"effects": [{"verb": "drop", "object": "app.orders"}]},
	}
}

test_select_is_not if {
	count(access.deny) == 0 with input as {
		"connection": {"spec": {"risk": "high"}},
		"command": {"effects": [{"verb": "select", "object": "app.orders"}]},
	}
}
`)
	if err := os.RemoveAll(accessDir); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(accessDir, ".gitattributes"), []byte("* -text\n"))
	for name, f := range r.Files {
		put(t, filepath.Join(accessDir, filepath.FromSlash(name)), f.Data)
	}
	put(t, filepath.Join(accessDir, reviews.CatalogPath("orders-db")), []byte(rows[0][0]))
	for _, name := range []string{"user:alice", "user:bob", "agent:etl", "agent:report", "release", "gw1"} {
		file := filepath.Join(accessDir, "..", "keys", string(bytes.ReplaceAll([]byte(name), []byte(":"), []byte("_"))))
		if _, err := os.Stat(file); err == nil {
			continue // the file's format has a random part
		}
		block, err := ssh.MarshalPrivateKey(accesstest.Key(name), name+" (test key)")
		if err != nil {
			t.Fatal(err)
		}
		put(t, file, pem.EncodeToMemory(block))
		put(t, file+".pub", []byte(accesstest.PublicKey(name)+"\n"))
	}
}

func put(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
