package ci

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

const repoID = "6f0c2f5e-1111-4222-8333-444455556666"

// noon is the time of all checks in tests.
var noon = time.Date(2027, 1, 15, 12, 0, 0, 0, time.UTC)

// access is an access repo in memory that tests bend.
type access struct {
	t     testing.TB
	files fstest.MapFS
	// used are the highest sequences that the history of the base holds.
	used map[string]int64
}

func signerOf(name string) ssh.Signer {
	seed := sha256.Sum256([]byte("ci test key of " + name))
	s, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		panic(err) // an ed25519 key always makes a signer
	}
	return s
}

func keyOf(name string) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signerOf(name).PublicKey())))
}

const (
	etlPath    = "reviews/orders-db/etl.yaml"
	reportPath = "reviews/orders-db/report.yaml"
	prodPath   = "reviews/prod-db/etl.yaml"
	ordersPath = "connections/orders-db.yaml"
	agentPath  = "principals/agent_etl.yaml"
	guardPath  = "policies/guardrails.rego"
	guardTest  = "policies/guardrails_test.rego"
)

// newAccess is a complete and fully approved one:
//
//	root       bob, carol and dan, two of them change trust and settings
//	reviewers  bob and carol; one approves anything, two a review of prod-*
//	security   dan, who approves policies as well
//	retired    eve's key ran out in 2026, mallory's is revoked
func newAccess(t testing.TB) *access {
	a := &access{t: t, files: fstest.MapFS{}, used: map[string]int64{}}
	a.put(reviews.RootPath, rootText(1, ""), "user:bob", "user:carol")
	a.put(reviews.ConfigPath, configText(""), "user:bob", "user:carol")
	for _, agent := range []string{"agent:etl", "agent:report"} {
		a.put(reviews.PathOf(reviews.KindPrincipal, agent), principalText(agent, "user:alice", agent), "user:bob")
	}
	catalog, err := os.ReadFile("../testdata/access/connections/orders-db.catalog.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"orders-db", "prod-db"} {
		a.put(reviews.PathOf(reviews.KindConnection, name), connectionText(name, ""), "user:bob")
		a.write(reviews.CatalogPath(name), string(catalog))
	}
	a.put(etlPath, reviewText("orders-db/etl", 4, ""), "user:bob")
	a.put(reportPath, reviewText("orders-db/report", 1, ""), "user:carol")
	a.put(prodPath, reviewText("prod-db/etl", 1, ""), "user:bob", "user:carol")
	a.put(guardPath, guardText(guardRules), "user:dan", "user:bob")
	a.put(guardTest, reviews.PolicyHeader(repoID, guardTest)+guardTests, "user:dan", "user:bob")
	return a
}

func header(kind reviews.Kind, name string) string {
	return fmt.Sprintf("apiVersion: sallyport.dev/v1\nkind: %s\nmetadata: {repo: %s, name: %q}\nspec:\n", kind, repoID, name)
}

func rootText(version int, more string) string {
	var b strings.Builder
	b.WriteString(header(reviews.KindRoot, "root"))
	fmt.Fprintf(&b, "  version: %d\n  threshold: 2\n  principals:\n", version)
	for _, name := range []string{"user:alice", "user:bob", "user:carol", "user:dan", "user:mallory"} {
		fmt.Fprintf(&b, "    - {name: %q, keys: [{key: %q}]}\n", name, keyOf(name))
	}
	fmt.Fprintf(&b, "    - {name: \"user:eve\", keys: [{key: %q, notAfter: \"2026-06-01T00:00:00Z\"}]}\n", keyOf("user:eve"))
	b.WriteString("  groups: {root: [\"user:bob\", \"user:carol\", \"user:dan\"], reviewers: [\"user:bob\", \"user:carol\", \"user:eve\", \"user:mallory\"], security: [\"user:dan\"]}\n")
	fmt.Fprintf(&b, "  release: [{key: %q}]\n", keyOf("release"))
	fmt.Fprintf(&b, "  gateways: [{name: gw1, key: %q}]\n", keyOf("gateway"))
	fmt.Fprintf(&b, "  revoked: [{fingerprint: %q, reason: laptop lost}]\n", ssh.FingerprintSHA256(signerOf("user:mallory").PublicKey()))
	return b.String() + more
}

func configText(more string) string {
	return header(reviews.KindConfig, "sallyport") + `  repository: https://git.example/access.git
  approvals:
    - {match: {}, mode: signature, threshold: 1, groups: [reviewers]}
    - {match: {kinds: [AccessReview], connections: [prod-*]}, mode: signature, threshold: 2, groups: [reviewers]}
    - {match: {kinds: [Policy]}, mode: signature, threshold: 1, groups: [security]}
  gateways: [{name: gw1, postgres: "gw.example:6432"}]
  policies: [guardrails.rego]
` + more
}

func principalText(name, owner, key string) string {
	return header(reviews.KindPrincipal, name) + fmt.Sprintf("  owner: %q\n  keys: [{key: %q}]\n", owner, keyOf(key))
}

func connectionText(name, more string) string {
	return header(reviews.KindConnection, name) + `  protocol: postgres
  target: {host: ` + name + `.internal, database: orders, user: gateway}
  credential: env:ORDERS_PASSWORD
  risk: high
  mask:
    - {column: app.customers.email, with: email}
    - {column: app.customers.ssn, with: last4}
` + more
}

const reviewExamples = `  examples:
    - {run: "select id, status from app.orders", expect: allow}
    - {run: "select id, email from app.customers", expect: mask}
    - {run: "delete from app.orders where id = 1", expect: hold}
    - {run: "drop table app.orders", expect: deny}
`

func reviewText(name string, sequence int, more string) string {
	connection, agent, _ := strings.Cut(name, "/")
	if agent != "report" {
		agent = "etl"
	}
	return header(reviews.KindReview, name) + fmt.Sprintf(`  sequence: %d
  requester: "user:alice"
  subject: "agent:%s"
  connection: %s
  allow:
    - {verbs: [select], on: [app.orders, app.customers]}
  hold:
    - {verbs: [delete], on: [app.orders]}
  validity: {notBefore: "2027-01-01T00:00:00Z", expires: "2027-03-01T00:00:00Z"}
  justification: {reason: nightly export}
`, sequence, agent, connection) + reviewExamples + more
}

const guardRules = `deny contains "a table of a high-risk connection is never dropped" if {
	input.connection.spec.risk == "high"
	some effect in input.command.effects
	effect.verb in {"drop", "truncate"}
}
`

func guardText(rules string) string {
	return reviews.PolicyHeader(repoID, guardPath) + "\npackage access\n\n" + rules
}

const guardTests = `
package access_test

import data.access

command(verb) := {"connection": {"spec": {"risk": "high"}}, "command": {"effects": [{"verb": verb, "object": "app.orders"}]}}

test_drop_is_denied if {
	count(access.deny) == 1 with input as command("drop")
}

test_select_is_not if {
	count(access.deny) == 0 with input as command("select")
}
`

// fork is a copy, as a branch begins.
func (a *access) fork(t testing.TB) *access {
	return &access{t: t, files: maps.Clone(a.files), used: a.used}
}

func (a *access) write(path, text string) {
	a.files[path] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
}

func (a *access) read(path string) string { return string(a.files[path].Data) }

// put writes a document and has it signed by exactly these people.
func (a *access) put(path, text string, by ...string) {
	a.write(path, text)
	a.sign(path, by...)
}

func (a *access) sign(path string, by ...string) {
	a.unsign(path)
	kind := reviews.KindOf(path)
	if kind == "" {
		kind = reviews.KindReview // at a path where none may stand
	}
	for _, p := range by {
		a.addSignature(path, p, p, reviews.NamespaceFor(kind), a.read(path))
	}
}

func (a *access) unsign(path string) {
	maps.DeleteFunc(a.files, func(name string, _ *fstest.MapFile) bool { return strings.HasPrefix(name, path+".sigs/") })
}

func (a *access) addSignature(path, principal, key, namespace, message string) {
	s := signerOf(key)
	armored, err := reviews.Sign(s, namespace, []byte(message))
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(reviews.SidecarPath(path, principal, s.PublicKey()), string(armored))
}

// remove takes a document with its signatures and catalog out.
func (a *access) remove(path string) {
	a.unsign(path)
	delete(a.files, path)
	delete(a.files, strings.TrimSuffix(path, ".yaml")+".catalog.json")
}

// edit changes a document and has it signed by exactly these people.
func (a *access) edit(path, from, to string, by ...string) {
	a.t.Helper()
	text := a.read(path)
	if !strings.Contains(text, from) {
		a.t.Fatalf("%s does not contain %q", path, from)
	}
	a.put(path, strings.Replace(text, from, to, 1), by...)
}

func (a *access) options(require bool) Options {
	return Options{
		Now: noon, RequireApproved: require, Classifiers: testClassifiers(),
		Sequences: func(_ context.Context, path string) (int64, error) { return a.used[path], nil },
	}
}

// compare judges the change from base to a.
func (a *access) compare(base *access, require bool) *Report {
	a.t.Helper()
	r, err := Compare(a.t.Context(), Change{Base: base.files, Head: a.files}, a.options(require))
	if err != nil {
		a.t.Fatal(err)
	}
	return r
}

// testClassifiers are what cmd/sallyport injects, in short.
func testClassifiers() map[string]Classifier {
	masks := func(connection *reviews.Connection, review *reviews.Review) (all []sqlguard.Mask) {
		own := connection.Spec.Mask
		if review != nil {
			own = append(own[:len(own):len(own)], review.Spec.Mask...)
		}
		for _, m := range own {
			all = append(all, sqlguard.Mask{Column: m.Column, With: m.With, Lookup: m.Lookup})
		}
		return all
	}
	return map[string]Classifier{"postgres": {
		Guard: func(connection *reviews.Connection, review *reviews.Review) (Guard, error) {
			if connection.Catalog == nil {
				return nil, fmt.Errorf("connection %s has no catalog", connection.Metadata.Name)
			}
			catalog, err := sqlguard.ParseCatalog(connection.Catalog)
			if err != nil {
				return nil, err
			}
			guard, err := sqlguard.New(catalog, sqlguard.Options{Masks: masks(connection, review), Functions: connection.Spec.Functions})
			if err != nil {
				return nil, err
			}
			scope := sqlguard.Scope{SearchPath: []string{connection.Spec.Target.User, "public"}}
			return func(command string) (policies.Command, bool) {
				st := guard.Understand(command, scope)
				return st.Command, st.Masked
			}, nil
		},
		Masks: func(connection *reviews.Connection, review *reviews.Review) (problems reviews.Problems) {
			source, own := connection.Source, connection.Spec.Mask
			if review != nil {
				source, own = review.Source, review.Spec.Mask
			}
			catalog, err := sqlguard.ParseCatalog(connection.Catalog)
			if err != nil {
				return reviews.Problems{whole(reviews.CatalogPath(connection.Metadata.Name), err.Error(), "pull it anew")}
			}
			for _, p := range sqlguard.CheckMasks(catalog, sqlguard.Options{Masks: masks(connection, review)}) {
				for i, m := range own {
					if m.Column == p.Column {
						problems = append(problems, at(source, fmt.Sprintf("mask[%d]", i), p.Error(), "name a column that is there"))
					}
				}
			}
			return problems
		},
	}}
}
