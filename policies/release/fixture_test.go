package release_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

const repoID = "6f0c2f5e-1d2b-4c3a-9e8f-0a1b2c3d4e5f"

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// repo is an access repo under construction, with the keys of everybody in it.
type repo struct {
	t     testing.TB
	files fstest.MapFS
	keys  map[string]ssh.Signer
	root  string // sha256 hex of the trust root
}

// signerFor makes the same key for the same name, so that bundles are the same in every run.
func signerFor(t testing.TB, name string) ssh.Signer {
	t.Helper()
	seed := sha256.Sum256([]byte(name))
	signer, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func line(s ssh.Signer) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey())))
}

// newRepo has one connection, one review and one policy, all approved by user:bob.
func newRepo(t testing.TB) *repo {
	r := &repo{t: t, files: fstest.MapFS{}, keys: map[string]ssh.Signer{}}
	for _, name := range []string{"user:alice", "user:bob", "agent:etl", "release", "revoked-release", "expired-release", "gateway"} {
		r.keys[name] = signerFor(t, name)
	}
	r.writeRoot("")
	r.write(reviews.ConfigPath, reviews.KindConfig, header("Config", "sallyport")+`
spec:
  repository: https://git.example.com/access.git
  approvals:
    - {match: {kinds: [Principal, Connection, AccessReview, Policy]}, mode: signature, threshold: 1, groups: [reviewers]}
  freshness: {validFor: 24h}
`)
	r.write("principals/agent_etl.yaml", reviews.KindPrincipal, header("Principal", "agent:etl")+`
spec:
  owner: user:alice
  keys:
    - {key: "`+line(r.keys["agent:etl"])+`"}
`)
	r.connection("orders-db")
	r.review("orders-db/etl-nightly", 4, "app.orders")
	r.policy("hours", `
package access

deny contains "deletes are closed this week" if {
	some effect in input.command.effects
	effect.verb == "delete"
}
`)
	return r
}

func header(kind, name string) string {
	return fmt.Sprintf("apiVersion: sallyport.dev/v1\nkind: %s\nmetadata: {repo: %s, name: %q}", kind, repoID, name)
}

func (r *repo) writeRoot(extra string) {
	r.write(reviews.RootPath, reviews.KindRoot, header("TrustRoot", "root")+`
spec:
  version: 1
  threshold: 1
  principals:
    - {name: "user:alice", keys: [{key: "`+line(r.keys["user:alice"])+`"}]}
    - {name: "user:bob", keys: [{key: "`+line(r.keys["user:bob"])+`"}]}
  groups: {root: ["user:bob"], reviewers: ["user:bob"]}
  release:
    - {key: "`+line(r.keys["release"])+`"}
    - {key: "`+line(r.keys["revoked-release"])+`"}
    - {key: "`+line(r.keys["expired-release"])+`", notAfter: "2026-11-01T00:00:00Z"}
  gateways:
    - {name: gw1, key: "`+line(r.keys["gateway"])+`"}
  revoked:
    - {fingerprint: "`+ssh.FingerprintSHA256(r.keys["revoked-release"].PublicKey())+`", reason: stolen laptop}
`+extra)
	r.root = digestOf(r.files[reviews.RootPath].Data)
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// write adds a document with user:bob's approval.
func (r *repo) write(path string, kind reviews.Kind, text string) {
	r.t.Helper()
	bob := r.keys["user:bob"]
	armored, err := reviews.Sign(bob, reviews.NamespaceFor(kind), []byte(text))
	if err != nil {
		r.t.Fatal(err)
	}
	r.files[path] = &fstest.MapFile{Data: []byte(text)}
	r.files[reviews.SidecarPath(path, "user:bob", bob.PublicKey())] = &fstest.MapFile{Data: armored}
}

func (r *repo) connection(name string) {
	r.write("connections/"+name+".yaml", reviews.KindConnection, header("Connection", name)+`
spec:
  protocol: postgres
  target: {host: db.internal, port: 5432, database: app, user: gateway}
  credential: "env:ORDERS_DB_PASSWORD"
  risk: high
  mask:
    - {column: app.customers.ssn, with: redact}
`)
	r.files["connections/"+name+".catalog.json"] = &fstest.MapFile{Data: []byte("{}\n")}
}

func (r *repo) review(name string, sequence int, table string) {
	connection, _, _ := strings.Cut(name, "/")
	r.write("reviews/"+name+".yaml", reviews.KindReview, header("AccessReview", name)+fmt.Sprintf(`
spec:
  sequence: %d
  requester: user:alice
  subject: agent:etl
  connection: %s
  allow:
    - {verbs: [select], on: [%s]}
    - {verbs: [update], on: [%s], columns: [status]}
  hold:
    - {verbs: [truncate], on: [%s]}
  validity: {notBefore: "2026-11-23T00:00:00Z", expires: "2027-02-21T00:00:00Z"}
  justification: {ticket: OPS-812, reason: nightly order export}
`, sequence, connection, table, table, table))
}

func (r *repo) policy(name, source string) {
	path := "policies/" + name + ".rego"
	r.write(path, reviews.KindPolicy, reviews.PolicyHeader(repoID, path)+"\n"+source)
}

func (r *repo) load() *reviews.Tree {
	r.t.Helper()
	tree, err := reviews.Load(r.files, reviews.LoadOptions{Now: now})
	if err != nil {
		r.t.Fatal(err)
	}
	if len(tree.Problems) > 0 {
		r.t.Fatal(tree.Problems)
	}
	return tree
}

// input is what sync builds from: the files, unless a tree is given.
func (r *repo) input(sequence int64, given ...*reviews.Tree) release.BuildInput {
	r.t.Helper()
	var tree *reviews.Tree
	if len(given) > 0 {
		tree = given[0]
	} else {
		tree = r.load()
	}
	return release.BuildInput{
		Tree: tree, Commit: strings.Repeat("a", 40), Ref: "refs/heads/main", Sequence: sequence, Now: now, RootSeen: now.Add(-time.Hour),
		History: map[string]release.History{"orders-db": {"etl-nightly": {Commit: strings.Repeat("b", 40), At: now.Add(-time.Hour)}}},
	}
}

func (r *repo) build(sequence int64) *release.Built {
	r.t.Helper()
	built, err := release.Build(context.Background(), r.input(sequence))
	if err != nil {
		r.t.Fatal(err)
	}
	return built
}

// publish builds and publishes into a new directory.
func (r *repo) publish(sequence int64) string {
	r.t.Helper()
	dir := r.t.TempDir()
	if err := release.Publish(dir, r.build(sequence), r.keys["release"]); err != nil {
		r.t.Fatal(err)
	}
	return dir
}

func (r *repo) trust() release.Trust { return release.Trust{RootDigest: r.root, Repo: repoID} }

func (r *repo) open(dir string) (*release.Release, error) {
	return release.Open(context.Background(), dir, r.trust(), nil, now)
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("accepted; want an error with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

// bundlePath is the file of the named bundle.
func bundlePath(dir string, built *release.Built, name string) string {
	return filepath.Join(dir, "bundles", built.Envelope.Bundles[name]+".tar.gz")
}

// replaceBundle publishes the release with other bytes for one bundle, under a good
// signature: what somebody who holds a release key could do.
func (r *repo) replaceBundle(built *release.Built, name string, bundle []byte) string {
	r.t.Helper()
	sum := sha256.Sum256(bundle)
	forged := *built
	forged.Envelope.Bundles = maps.Clone(built.Envelope.Bundles)
	forged.Envelope.Bundles[name] = hex.EncodeToString(sum[:])
	forged.Bundles = maps.Clone(built.Bundles)
	forged.Bundles[hex.EncodeToString(sum[:])] = bundle
	dir := r.t.TempDir()
	if err := release.Publish(dir, &forged, r.keys["release"]); err != nil {
		r.t.Fatal(err)
	}
	return dir
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func edit(t testing.TB, name string, change func([]byte) []byte) {
	t.Helper()
	before := read(t, name)
	after := change(bytes.Clone(before))
	if bytes.Equal(before, after) {
		t.Fatal("the edit changes nothing")
	}
	if err := os.WriteFile(name, after, 0o644); err != nil {
		t.Fatal(err)
	}
}
