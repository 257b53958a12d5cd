package reviews_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/reviews"
)

const repo = "6f0c2f5e-1111-4222-8333-444455556666"

// noon is the time of all loads in tests.
var noon = time.Date(2027, 1, 15, 12, 0, 0, 0, time.UTC)

// access is an access repo in memory that tests bend.
type access struct {
	t     testing.TB
	files fstest.MapFS
	keys  map[string]ssh.Signer
}

// newAccess is a small, complete and fully signed one:
//
//	root   alice and bob, both needed for the trust root and the config
//	dba    bob and carol, two of them approve reviews of prod-*, otherwise one
func newAccess(t testing.TB) *access {
	a := &access{t: t, files: fstest.MapFS{}, keys: map[string]ssh.Signer{}}
	for i, name := range []string{"user:alice", "user:bob", "user:carol", "user:dan", "user:mallory", "agent:etl", "release", "gateway"} {
		a.keys[name] = newKey(t, byte(100+i))
	}
	a.keys["user:carol"] = newSecurityKey(t, 110)
	a.root("")
	a.config("")
	a.principal("agent:etl", "user:alice", "agent:etl")
	a.connection("orders-db", "")
	a.review("orders-db/etl", "")
	a.policy("freeze.rego", "package access\n")
	return a
}

func (a *access) key(name string) string { return authorized(a.keys[name].PublicKey()) }

func (a *access) write(path, text string) {
	a.files[path] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
}

func (a *access) read(path string) string { return string(a.files[path].Data) }

// sign replaces the signatures of a document.
func (a *access) sign(path string, principals ...string) {
	for name := range a.files {
		if strings.HasPrefix(name, path+".sigs/") {
			delete(a.files, name)
		}
	}
	for _, p := range principals {
		a.addSignature(path, p, a.keys[p], reviews.NamespaceFor(reviews.KindOf(path)), []byte(a.read(path)))
	}
}

func (a *access) addSignature(path, principal string, key ssh.Signer, namespace string, message []byte) {
	a.write(reviews.SidecarPath(path, principal, key.PublicKey()), string(sign(a.t, key, namespace, message)))
}

func header(kind reviews.Kind, name string) string {
	return fmt.Sprintf("apiVersion: sallyport.dev/v1\nkind: %s\nmetadata: {repo: %s, name: %q}\nspec:\n", kind, repo, name)
}

func (a *access) root(more string) {
	var b strings.Builder
	b.WriteString(header(reviews.KindRoot, "root"))
	b.WriteString("  version: 1\n  threshold: 2\n  principals:\n")
	for _, name := range []string{"user:alice", "user:bob", "user:carol", "user:dan"} {
		fmt.Fprintf(&b, "    - {name: %q, keys: [{key: %q}]}\n", name, a.key(name))
	}
	b.WriteString("  groups: {root: [\"user:alice\", \"user:bob\"], dba: [\"user:bob\", \"user:carol\"]}\n")
	fmt.Fprintf(&b, "  release: [{key: %q}]\n", a.key("release"))
	fmt.Fprintf(&b, "  gateways: [{name: gw1, key: %q}]\n", a.key("gateway"))
	a.write(reviews.RootPath, b.String()+more)
	a.sign(reviews.RootPath, "user:alice", "user:bob")
}

func (a *access) config(more string) {
	a.write(reviews.ConfigPath, header(reviews.KindConfig, "sallyport")+`  repository: https://git.example/access.git
  approvals:
    - {match: {}, mode: signature, threshold: 1, groups: [dba]}
    - {match: {kinds: [AccessReview], connections: [prod-*]}, mode: signature, threshold: 2, groups: [dba]}
  gateways: [{name: gw1, postgres: "gw.example:6432"}]
`+more)
	a.sign(reviews.ConfigPath, "user:alice", "user:bob")
}

func (a *access) principal(name, owner, key string) string {
	path := reviews.PathOf(reviews.KindPrincipal, name)
	a.write(path, header(reviews.KindPrincipal, name)+fmt.Sprintf("  owner: %q\n  keys: [{key: %q}]\n", owner, a.key(key)))
	a.sign(path, "user:bob")
	return path
}

func (a *access) connection(name, more string) string {
	path := reviews.PathOf(reviews.KindConnection, name)
	a.write(path, header(reviews.KindConnection, name)+`  protocol: postgres
  target: {host: db.internal, database: orders, user: gateway}
  credential: env:ORDERS_PASSWORD
  mask: [{column: app.customers.ssn, with: last4}]
`+more)
	a.sign(path, "user:bob")
	return path
}

func (a *access) review(name, more string) string {
	path := reviews.PathOf(reviews.KindReview, name)
	connection, _, _ := strings.Cut(name, "/")
	a.write(path, header(reviews.KindReview, name)+`  sequence: 1
  requester: "user:alice"
  subject: "agent:etl"
  connection: `+connection+`
  allow:
    - {verbs: [select], on: [app.orders, app.customers]}
  validity: {notBefore: "2027-01-01T00:00:00Z", expires: "2027-03-01T00:00:00Z"}
  justification: {reason: nightly export}
`+more)
	a.sign(path, "user:bob")
	return path
}

func (a *access) policy(name, text string) string {
	path := reviews.PathOf(reviews.KindPolicy, name)
	a.write(path, reviews.PolicyHeader(repo, path)+"\n"+text)
	a.sign(path, "user:bob")
	return path
}

// replace edits a document and leaves its signatures as they are.
func (a *access) replace(path, from, to string) {
	a.t.Helper()
	text := a.read(path)
	if !strings.Contains(text, from) {
		a.t.Fatalf("%s does not contain %q", path, from)
	}
	a.write(path, strings.Replace(text, from, to, 1))
}

func (a *access) load(opt ...func(*reviews.LoadOptions)) (*reviews.Tree, error) {
	o := reviews.LoadOptions{Now: noon}
	for _, f := range opt {
		f(&o)
	}
	return reviews.Load(a.files, o)
}

func report(o *reviews.LoadOptions) { o.Approvals = reviews.ReportApprovals }

// loaded loads what has to load.
func (a *access) loaded(opt ...func(*reviews.LoadOptions)) *reviews.Tree {
	a.t.Helper()
	tree, err := a.load(opt...)
	if err != nil {
		a.t.Fatal(err)
	}
	return tree
}
