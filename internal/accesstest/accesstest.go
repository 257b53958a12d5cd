// Package accesstest makes a signed access repo in memory, and releases of it,
// for tests of what enforces them. Nothing is faked: documents are signed, loaded,
// built, published and opened as sync and gatewayd do it.
package accesstest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// RepoID is the uuid of every repo made here.
const RepoID = "6f0c2f5e-8f0a-4f6e-9a43-0d3f6a1f8b11"

// Repo is an access repo under construction. user:alice requests, user:bob
// approves everything, agent:etl and agent:report are subjects, gw1 is the gateway.
type Repo struct {
	Files fstest.MapFS
	// Now is the time that loading, building and opening are told.
	Now time.Time

	t       testing.TB
	dir     string // releases are published here
	history map[string]release.Seen
	highest map[string]int64 // sequences of reviews, removed ones included
}

// Key is the private key that a name has in every repo made here.
func Key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("sallyport test key of " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// Signer is Key for SSH.
func Signer(name string) ssh.Signer {
	signer, err := ssh.NewSignerFromKey(Key(name))
	if err != nil {
		panic(err) // an ed25519 key always makes a signer
	}
	return signer
}

// PublicKey is a name's key in authorized_keys form.
func PublicKey(name string) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(Signer(name).PublicKey())))
}

// New returns a repo with trust root, config and principals, but without
// connections, reviews and policies.
func New(t testing.TB, now time.Time) *Repo {
	r := &Repo{Files: fstest.MapFS{}, Now: now, t: t, dir: t.TempDir(), history: map[string]release.Seen{}, highest: map[string]int64{}}
	r.Write(reviews.RootPath, reviews.KindRoot, "TrustRoot", "root", `
  version: 1
  threshold: 1
  principals:
    - {name: "user:alice", keys: [{key: "`+PublicKey("user:alice")+`"}]}
    - {name: "user:bob", keys: [{key: "`+PublicKey("user:bob")+`"}]}
  groups: {root: ["user:bob"], reviewers: ["user:bob"]}
  release: [{key: "`+PublicKey("release")+`"}]
  gateways: [{name: gw1, key: "`+PublicKey("gw1")+`"}]
`)
	r.Write(reviews.ConfigPath, reviews.KindConfig, "Config", "sallyport", `
  repository: https://git.example.com/access.git
  approvals:
    - {match: {kinds: [Principal, Connection, AccessReview, Policy]}, mode: signature, threshold: 1, groups: [reviewers]}
`)
	for _, agent := range []string{"agent:etl", "agent:report"} {
		r.Principal(agent)
	}
	return r
}

// Write adds or replaces a document, approved by user:bob.
func (r *Repo) Write(path string, kind reviews.Kind, yamlKind, name, spec string) {
	text := fmt.Sprintf("apiVersion: sallyport.dev/v1\nkind: %s\nmetadata: {repo: %s, name: %q}\nspec:%s", yamlKind, RepoID, name, spec)
	r.sign(path, kind, []byte(text))
}

func (r *Repo) sign(path string, kind reviews.Kind, b []byte) {
	r.t.Helper()
	bob := Signer("user:bob")
	armored, err := reviews.Sign(bob, reviews.NamespaceFor(kind), b)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Files[path] = &fstest.MapFile{Data: b}
	r.Files[reviews.SidecarPath(path, "user:bob", bob.PublicKey())] = &fstest.MapFile{Data: armored}
}

// Remove takes a document and its signatures out.
func (r *Repo) Remove(path string) {
	for name := range r.Files {
		if name == path || strings.HasPrefix(name, path+".sigs/") {
			delete(r.Files, name)
		}
	}
}

// Principal adds an agent of user:alice.
func (r *Repo) Principal(name string) {
	r.Write(reviews.PathOf(reviews.KindPrincipal, name), reviews.KindPrincipal, "Principal", name, `
  owner: user:alice
  keys: [{key: "`+PublicKey(name)+`"}]
`)
}

// Connection adds a postgres connection; spec is what follows its target and credential.
func (r *Repo) Connection(name, spec string) {
	r.Write(reviews.PathOf(reviews.KindConnection, name), reviews.KindConnection, "Connection", name, `
  protocol: postgres
  target: {host: db.internal, port: 5432, database: app, user: gateway}
  credential: "env:ORDERS_DB_PASSWORD"
`+spec)
}

// Review adds a review of the connection for the subject; spec is its allow rules and whatever else.
func (r *Repo) Review(name string, sequence int, subject, spec string) {
	r.highest[name] = max(r.highest[name], int64(sequence))
	connection, _, _ := strings.Cut(name, "/")
	validity := ""
	if !strings.Contains(spec, "validity:") {
		validity = fmt.Sprintf("  validity: {notBefore: %q, expires: %q}\n",
			r.Now.Add(-24*time.Hour).UTC().Format(time.RFC3339), r.Now.Add(30*24*time.Hour).UTC().Format(time.RFC3339))
	}
	r.Write(reviews.PathOf(reviews.KindReview, name), reviews.KindReview, "AccessReview", name, fmt.Sprintf(`
  sequence: %d
  requester: user:alice
  subject: %s
  connection: %s
  justification: {ticket: OPS-1, reason: test}
`, sequence, subject, connection)+validity+spec)
}

// Seen says since when sync has known the present bytes of a review.
func (r *Repo) Seen(review string, at time.Time) {
	r.history[review] = release.Seen{Commit: strings.Repeat("b", 40), At: at}
}

// Policy adds policies/<name>.rego; source is what follows the header line.
func (r *Repo) Policy(name, source string) {
	path := "policies/" + name + ".rego"
	r.sign(path, reviews.KindPolicy, []byte(reviews.PolicyHeader(RepoID, path)+"\n"+source))
}

// RootDigest is what gateways of this repo pin, sha256 hex.
func (r *Repo) RootDigest() string { return r.digest(reviews.RootPath) }

// Digest is the sha256 hex of a review's bytes.
func (r *Repo) Digest(review string) string {
	return r.digest(reviews.PathOf(reviews.KindReview, review))
}

func (r *Repo) digest(path string) string {
	sum := sha256.Sum256(r.Files[path].Data)
	return hex.EncodeToString(sum[:])
}

// Release loads, builds, signs, publishes and opens the repo as it is now.
// Every problem of a document is fatal.
func (r *Repo) Release(sequence int64) *release.Release {
	r.t.Helper()
	r.Publish(sequence)
	opened, err := release.Open(r.t.Context(), r.dir, release.Trust{RootDigest: r.RootDigest(), Repo: RepoID}, nil, r.Now)
	if err != nil {
		r.t.Fatal(err)
	}
	return opened
}

// Publish loads, builds, signs and publishes the repo, and returns the folder.
func (r *Repo) Publish(sequence int64) string {
	r.t.Helper()
	if err := r.PublishTo(release.Folder(r.dir), sequence); err != nil {
		r.t.Fatal(err)
	}
	return r.dir
}

// PublishTo loads, builds, signs and publishes the repo to a target, which may fail.
func (r *Repo) PublishTo(to release.Target, sequence int64) error {
	r.t.Helper()
	tree, err := reviews.Load(r.Files, reviews.LoadOptions{Now: r.Now})
	if err != nil {
		r.t.Fatal(err)
	}
	if len(tree.Problems) > 0 {
		r.t.Fatal(tree.Problems)
	}
	built, err := release.Build(r.t.Context(), release.BuildInput{
		Tree: tree, Commit: fmt.Sprintf("%040x", sequence), Ref: "refs/heads/main", Sequence: sequence,
		History: r.histories(sequence), Now: r.Now,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return release.PublishTo(r.t.Context(), to, built, Signer("release"))
}

// histories are what sync would know of the reviews.
func (r *Repo) histories(sequence int64) map[string]release.History {
	all := map[string]release.History{}
	for name, highest := range r.highest {
		seen, known := r.history[name]
		if !known {
			seen = release.Seen{Commit: fmt.Sprintf("%040x", sequence), At: r.Now}
		}
		seen.Sequence = highest
		connection, review, _ := strings.Cut(name, "/")
		if all[connection] == nil {
			all[connection] = release.History{}
		}
		all[connection][review] = seen
	}
	return all
}
