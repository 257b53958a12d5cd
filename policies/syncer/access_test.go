package syncer

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

const repoID = "6f0c2f5e-1d2c-4b3a-9a54-0c8f1d1f0a11"

// start is when the tests' clock begins. Real commits are made at the time
// that git is told, one minute apart.
var start = time.Date(2026, 11, 24, 6, 0, 0, 0, time.UTC)

// access is a real access repo with people who sign in it.
type access struct {
	t      testing.TB
	git    *peers.Tool
	dir    string
	clock  time.Time
	people map[string]ssh.Signer
	sync   ssh.Signer
	pin    string
}

func newKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func line(s ssh.Signer) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey())))
}

// newAccess makes a repo with alice, who asks, bob and carol, who approve and
// are the root, one connection and one review, and commits it.
func newAccess(t testing.TB) *access {
	t.Helper()
	peers.IsolateEnv(t)
	git, err := peers.Git(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	a := &access{t: t, git: git, dir: t.TempDir(), clock: start, people: map[string]ssh.Signer{}, sync: newKey(t)}
	for _, p := range []string{"user:alice", "user:bob", "user:carol", "agent:etl"} {
		a.people[p] = newKey(t)
	}
	a.run("init", "--quiet", "--initial-branch=main")
	a.write(reviews.RootPath, a.root())
	a.write(reviews.ConfigPath, config(1))
	a.write(principalPath, a.principal("first"))
	a.write(connectionPath, connection("email"))
	a.write(reviewPath("etl"), review("etl", 1, "app.orders"))
	a.write(".gitattributes", "* -text\n")
	for _, p := range []string{reviews.RootPath, reviews.ConfigPath, principalPath, connectionPath, reviewPath("etl")} {
		a.sign(p, "user:bob")
	}
	a.pin = digest([]byte(a.root()))
	a.commit("start")
	return a
}

const (
	principalPath  = "principals/agent_etl.yaml"
	connectionPath = "connections/orders-db.yaml"
	policyPath     = "policies/owner.rego"
)

func reviewPath(name string) string { return "reviews/orders-db/" + name + ".yaml" }

func (a *access) run(args ...string) string {
	a.t.Helper()
	stamp := a.clock.Format(time.RFC3339)
	out, err := a.git.With("GIT_AUTHOR_DATE="+stamp, "GIT_COMMITTER_DATE="+stamp).Run(context.Background(), a.dir, args...)
	if err != nil {
		a.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func (a *access) write(name, text string) {
	a.t.Helper()
	full := filepath.Join(a.dir, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		a.t.Fatal(err)
	}
}

func (a *access) read(name string) string {
	a.t.Helper()
	b, err := os.ReadFile(filepath.Join(a.dir, name))
	if err != nil {
		a.t.Fatal(err)
	}
	return string(b)
}

// remove takes a document with its signatures out.
func (a *access) remove(name string) {
	a.t.Helper()
	for _, p := range []string{name, name + ".sigs"} {
		if err := os.RemoveAll(filepath.Join(a.dir, p)); err != nil {
			a.t.Fatal(err)
		}
	}
}

// sign replaces the signatures of a document by those of these people.
func (a *access) sign(name string, who ...string) {
	a.t.Helper()
	if err := os.RemoveAll(filepath.Join(a.dir, name+".sigs")); err != nil {
		a.t.Fatal(err)
	}
	for _, p := range who {
		s := a.people[p]
		armored, err := reviews.Sign(s, reviews.NamespaceFor(reviews.KindOf(name)), []byte(a.read(name)))
		if err != nil {
			a.t.Fatal(err)
		}
		a.write(reviews.SidecarPath(name, p, s.PublicKey()), string(armored))
	}
}

// put writes a document, signs it by bob and commits it.
func (a *access) put(name, text string) string {
	a.t.Helper()
	a.write(name, text)
	a.sign(name, "user:bob")
	return a.commit("put " + name)
}

func (a *access) commit(message string) string {
	a.t.Helper()
	a.clock = a.clock.Add(time.Minute)
	a.run("add", "--all")
	a.run("commit", "--quiet", "--allow-empty", "-m", message)
	return a.run("rev-parse", "HEAD")
}

func (a *access) root() string {
	return fmt.Sprintf(`apiVersion: sallyport.dev/v1
kind: TrustRoot
metadata: {repo: %s, name: root}
spec:
  version: 1
  threshold: 1
  principals:
    - {name: "user:alice", keys: [{key: %q}]}
    - {name: "user:bob", keys: [{key: %q}]}
    - {name: "user:carol", keys: [{key: %q}]}
  groups:
    root: ["user:bob", "user:carol"]
    reviewers: ["user:bob", "user:carol"]
  release:
    - {key: %q}
`, repoID, line(a.people["user:alice"]), line(a.people["user:bob"]), line(a.people["user:carol"]), line(a.sync))
}

func config(threshold int) string {
	return fmt.Sprintf(`apiVersion: sallyport.dev/v1
kind: Config
metadata: {repo: %s, name: sallyport}
spec:
  repository: /srv/access.git
  approvals:
    - {match: {}, mode: signature, threshold: %d, groups: [reviewers]}
  freshness: {validFor: 3h}
`, repoID, threshold)
}

func (a *access) principal(comment string) string {
	return fmt.Sprintf(`# %s
apiVersion: sallyport.dev/v1
kind: Principal
metadata: {repo: %s, name: "agent:etl"}
spec:
  owner: user:alice
  keys:
    - {key: %q}
`, comment, repoID, line(a.people["agent:etl"]))
}

func connection(mask string) string {
	return fmt.Sprintf(`apiVersion: sallyport.dev/v1
kind: Connection
metadata: {repo: %s, name: orders-db}
spec:
  protocol: postgres
  target: {host: localhost, port: 5432, database: app, user: gateway, tls: disable}
  credential: env:ORDERS_DB
  mask:
    - {column: app.customers.%s, with: redact}
`, repoID, mask)
}

func review(name string, sequence int, on string) string {
	return fmt.Sprintf(`apiVersion: sallyport.dev/v1
kind: AccessReview
metadata: {repo: %s, name: orders-db/%s}
spec:
  sequence: %d
  requester: user:alice
  subject: agent:etl
  connection: orders-db
  allow:
    - {verbs: [select], on: [%s]}
  validity: {notBefore: "2026-11-01T00:00:00Z", expires: "2027-01-01T00:00:00Z"}
  justification: {reason: test}
`, repoID, name, sequence, on)
}

func policy(rule string) string {
	return fmt.Sprintf("# sallyport: %s %s\npackage access\n\nimport rego.v1\n\n%s\n", repoID, policyPath, rule)
}

// harness is a syncer with its folders and clock.
type harness struct {
	*Syncer
	t   testing.TB
	a   *access
	opt Options
	out string // the release directory
	now time.Time
}

func (a *access) syncer() *harness {
	a.t.Helper()
	h := &harness{t: a.t, a: a, out: filepath.Join(a.t.TempDir(), "out")}
	h.now = start.Add(24 * time.Hour)
	h.opt = Options{
		Remote: a.dir, StateDir: filepath.Join(a.t.TempDir(), "state"), Out: release.Folder(h.out),
		Signer: a.sync, TrustRoot: a.pin, Now: func() time.Time { return h.now },
	}
	h.open()
	return h
}

func (h *harness) open() {
	h.t.Helper()
	s, err := New(h.opt)
	if err != nil {
		h.t.Fatal(err)
	}
	h.Syncer = s
	h.t.Cleanup(func() { _ = s.Close() })
}

func (h *harness) restart() {
	h.t.Helper()
	if err := h.Close(); err != nil {
		h.t.Fatal(err)
	}
	h.open()
}

func (h *harness) once() Result {
	h.t.Helper()
	r, err := h.Once(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// granted are the reviews of the release that lies in the folder, as a gateway opens it.
func (h *harness) granted() string {
	h.t.Helper()
	r := h.release()
	var names []string
	for _, c := range r.Connections {
		for _, v := range c.Candidates("agent:etl") {
			names = append(names, fmt.Sprintf("%s#%d", strings.TrimPrefix(v.Name, "orders-db/"), v.Document.Spec.Sequence))
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func (h *harness) release() *release.Release {
	h.t.Helper()
	r, err := release.Open(context.Background(), h.out, release.Trust{RootDigest: h.a.pin}, nil, h.now)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func (h *harness) envelope() release.Envelope {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.out, release.EnvelopeFile))
	if err != nil {
		h.t.Fatal(err)
	}
	var signed struct{ Payload string }
	var e release.Envelope
	if err := json.Unmarshal(b, &signed); err != nil {
		h.t.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(signed.Payload)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := json.Unmarshal(payload, &e); err != nil {
		h.t.Fatal(err)
	}
	return e
}

// expect syncs and compares what is granted; about must be in a problem or reason when given.
func (h *harness) expect(granted, about string) Result {
	h.t.Helper()
	r := h.once()
	if got := h.granted(); got != granted {
		h.t.Errorf("granted %q, want %q; broken %q, problems:\n%v", got, granted, r.Broken, r.Problems)
	}
	if text := r.Broken + "\n" + r.Problems.Error(); !strings.Contains(text, about) {
		h.t.Errorf("nothing says %q:\n%s", about, text)
	}
	return r
}
