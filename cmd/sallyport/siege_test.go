package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/policies/syncer"
	"github.com/sallyport-dev/sallyport/reviews"
)

// siege is the whole road: an access repo in git, check, sync, a forge, a gateway
// with a high-water mark and an audit branch. Only the forge is played; it answers
// as Gitea does. What is attacked is what people run.
//
//	alice    requests, and has two keys
//	bob, carol    reviewers and members of the root, whose threshold is 2
//	dan      security, who has to approve policies, and a member of the root
//	eve      a reviewer whose key has run out
type siege struct {
	*evidence
	now     time.Time // of sync and the gateway
	pin     string
	base    string // what check compares with; "main" by default
	options syncer.Options
	sync    *syncer.Syncer
	out     string // release directory
	mark    string // high-water file
	gateway *gatewayd.Gateway
	forge   *playedForge
}

const (
	siegeReview = "reviews/orders-db/etl.yaml"
	siegePolicy = "policies/limits.rego"
	siegeRules  = "\npackage access\n\ndeny contains \"never\" if input.command.effects[_].verb == \"drop\"\n"
)

func siegeRoot(version int, more string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n  version: %d\n  threshold: 2\n  principals:\n", version)
	for i, name := range []string{"alice", "bob", "carol", "dan"} {
		keys := fmt.Sprintf("{key: %q}", accesstest.PublicKey("user:"+name))
		if name == "alice" {
			keys += fmt.Sprintf(", {key: %q}", accesstest.PublicKey("alice's laptop"))
		}
		fmt.Fprintf(&b, "    - {name: \"user:%s\", forge: {gitea: %d}, keys: [%s]}\n", name, 11+i, keys)
	}
	fmt.Fprintf(&b, "    - {name: \"user:eve\", keys: [{key: %q, notAfter: \"2026-01-01T00:00:00Z\"}]}\n", accesstest.PublicKey("user:eve"))
	b.WriteString("  groups: {root: [\"user:bob\", \"user:carol\", \"user:dan\"], reviewers: [\"user:bob\", \"user:carol\", \"user:eve\"], security: [\"user:dan\"]}\n")
	for _, line := range []string{"release: [{key: %q}]", "attesters: [{key: %q}]", "gateways: [{name: gw1, key: %q}]"} {
		name := map[string]string{"rel": "release", "att": "attester", "gat": "gw1"}[line[:3]]
		fmt.Fprintf(&b, "  "+line+"\n", accesstest.PublicKey(name))
	}
	return b.String() + more
}

func (s *siege) config(threshold int) string {
	return fmt.Sprintf(`
  repository: https://git.example.com/acme/access.git
  forge: {kind: gitea, url: %q, repository: acme/access}
  approvals:
    - {match: {kinds: [Principal, Connection, Policy]}, mode: signature, threshold: 1, groups: [reviewers]}
    - {match: {kinds: [Policy]}, mode: signature, threshold: 1, groups: [security]}
    - {match: {kinds: [AccessReview], connections: [orders-db]}, mode: signature, threshold: %d, groups: [reviewers]}
    - {match: {kinds: [AccessReview], connections: [prod-db]}, mode: signature, threshold: 2, groups: [reviewers]}
    - {match: {kinds: [AccessReview], connections: [forge-db]}, mode: forge, threshold: 1, groups: [reviewers]}
  policies: [limits.rego]
`, s.forge.URL, threshold)
}

func newSiege(t *testing.T) *siege {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	for _, name := range []string{"GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"} {
		t.Setenv(name, "somebody@example.com")
	}
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	t.Setenv("CI", "")
	now := time.Now().UTC().Truncate(time.Second)
	s := &siege{
		evidence: &evidence{T: t, access: accesstest.New(t, now), dir: t.TempDir(), gateway: t.TempDir()},
		now:      now, out: filepath.Join(t.TempDir(), "out"), mark: filepath.Join(t.TempDir(), "mark"),
	}
	s.forge = playForge(t)
	s.put(reviews.RootPath, reviews.KindRoot, "root", siegeRoot(1, ""), "user:bob", "user:carol")
	s.put(reviews.ConfigPath, reviews.KindConfig, "sallyport", s.config(1), "user:bob", "user:dan")
	for _, name := range []string{"orders-db", "prod-db", "forge-db"} {
		s.access.Connection(name, "")
	}
	s.policy(siegeRules, "user:bob", "user:dan")
	s.review("orders-db/etl", 1, "select", "user:bob")
	s.git("init", "--quiet", "--initial-branch=main")
	s.merge("start")
	s.pin = s.access.RootDigest()
	s.options = syncer.Options{
		Remote: s.dir, StateDir: filepath.Join(t.TempDir(), "state"), Out: release.Folder(s.out), Signer: accesstest.Signer("release"), TrustRoot: s.pin,
		Audit:    syncer.Audit{Remote: s.dir},
		Attester: &syncer.Attester{Token: "token", Key: accesstest.Signer("attester")},
		Now:      func() time.Time { return s.now },
	}
	s.startSync()
	s.startGateway()
	s.granted("orders-db/etl#1")
	s.must(s.login())
	return s
}

func (s *siege) startSync() {
	s.Helper()
	var err error
	s.sync, err = syncer.New(s.options)
	s.must(err)
	s.Cleanup(func() { _ = s.sync.Close() })
}

// anotherSync is one that starts from an empty state, with a gateway that has seen no release.
func (s *siege) anotherSync() {
	s.Helper()
	s.must(s.sync.Close())
	dir := s.TempDir()
	s.options.StateDir, s.out, s.mark = filepath.Join(dir, "state"), filepath.Join(dir, "out"), filepath.Join(dir, "mark")
	s.options.Out = release.Folder(s.out)
	s.startSync()
}

func (s *siege) startGateway() {
	s.Helper()
	journal, err := record.Open(record.Options{Dir: s.TempDir(), Gateway: "gw1", Now: func() time.Time { return s.now },
		Sign: func(m []byte) ([]byte, error) {
			return reviews.Sign(accesstest.Signer("gw1"), reviews.NamespaceCheckpoint, m)
		}})
	s.must(err)
	s.Cleanup(func() { _ = journal.Close() })
	store, err := credential.NewStore(nil)
	s.must(err)
	s.gateway, err = gatewayd.New(gatewayd.Config{Name: "gw1", Fingerprint: ssh.FingerprintSHA256(accesstest.Signer("gw1").PublicKey()),
		Journal: journal, Credentials: store, Summaries: func(record.Summary) {}, Now: func() time.Time { return s.now }, Log: slog.New(slog.DiscardHandler)})
	s.must(err)
}

// put writes a document and has it signed by exactly these.
func (s *siege) put(path string, kind reviews.Kind, name, spec string, by ...string) {
	s.Helper()
	s.access.Remove(path)
	text := fmt.Sprintf("apiVersion: sallyport.dev/v1\nkind: %s\nmetadata: {repo: %s, name: %q}\nspec:%s", kind, accesstest.RepoID, name, spec)
	s.access.Files[path] = &fstest.MapFile{Data: []byte(text)}
	s.sign(path, reviews.NamespaceFor(kind), by...)
}

// sign adds the signatures of keys, in a file of whose name it is.
func (s *siege) sign(path, namespace string, by ...string) {
	s.Helper()
	for _, who := range by {
		s.signFor(path, namespace, who, who)
	}
}

func (s *siege) signFor(path, namespace, key, principal string) {
	s.Helper()
	signer := accesstest.Signer(key)
	armored, err := reviews.Sign(signer, namespace, s.access.Files[path].Data)
	s.must(err)
	s.access.Files[reviews.SidecarPath(path, principal, signer.PublicKey())] = &fstest.MapFile{Data: armored}
}

func (s *siege) reviewSpec(name string, sequence int, verbs string) string {
	connection, _, _ := strings.Cut(name, "/")
	return fmt.Sprintf(`
  sequence: %d
  requester: user:alice
  subject: agent:etl
  connection: %s
  allow: [{verbs: [%s], on: [app.orders]}]
  validity: {notBefore: %q, expires: %q}
  justification: {reason: nightly export}
`, sequence, connection, verbs, s.access.Now.Add(-time.Hour).Format(time.RFC3339), s.access.Now.Add(720*time.Hour).Format(time.RFC3339))
}

func (s *siege) review(name string, sequence int, verbs string, by ...string) string {
	s.Helper()
	path := reviews.PathOf(reviews.KindReview, name)
	s.put(path, reviews.KindReview, name, s.reviewSpec(name, sequence, verbs), by...)
	return path
}

func (s *siege) policy(rules string, by ...string) {
	s.Helper()
	s.access.Remove(siegePolicy)
	s.access.Files[siegePolicy] = &fstest.MapFile{Data: []byte(reviews.PolicyHeader(accesstest.RepoID, siegePolicy) + "\n" + rules)}
	s.sign(siegePolicy, reviews.NamespacePolicy, by...)
}

// merge makes the work tree what the access repo is, deletions included, and commits it.
func (s *siege) merge(message string) string {
	s.Helper()
	if s.exists(".git/HEAD") {
		s.git("rm", "-r", "--quiet", "--ignore-unmatch", "--force", ".")
	}
	return s.evidence.merge(message)
}

func (s *siege) exists(name string) bool {
	_, err := os.Stat(filepath.Join(s.dir, name))
	return err == nil
}

// gitIn is git with something to read.
func (s *siege) gitIn(in io.Reader, args ...string) string {
	s.Helper()
	c := exec.Command("git", append([]string{"-C", s.dir}, args...)...)
	c.Stdin = in
	out, err := c.CombinedOutput()
	if err != nil {
		s.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// propose commits the access repo as it is on a branch of its own, and goes back to main.
func (s *siege) propose(branch string) string {
	s.Helper()
	branch = strings.NewReplacer(" ", "-", "'", "").Replace(branch)
	s.git("checkout", "--quiet", "-B", branch)
	id := s.merge("propose " + branch)
	s.git("checkout", "--quiet", "main")
	return id
}

// check is what the CI of a pull request says of a commit.
func (s *siege) check(head string) *ci.Report {
	s.Helper()
	r, _ := s.tryCheck(head)
	if r == nil {
		s.Fatalf("check of %s made no report", head)
	}
	return r
}

func (s *siege) tryCheck(head string) (*ci.Report, error) {
	var out bytes.Buffer
	root := newRootWith(&globals{})
	root.SetArgs([]string{"check", "--repo", s.dir, "--base", cmp.Or(s.base, "main"), "--head", head, "--require-approved", "--json"})
	root.SetOut(&out)
	root.SetErr(io.Discard)
	err := root.ExecuteContext(s.Context())
	r := new(ci.Report)
	if json.Unmarshal(out.Bytes(), r) != nil {
		return nil, err
	}
	if r.OK != (err == nil) {
		s.Errorf("ok is %v and the error %v", r.OK, err)
	}
	return r, err
}

// refused demands that CI refuses a commit by one of the rules, with a place and a next step everywhere.
func (s *siege) refused(head string, rules ...string) {
	s.Helper()
	r := s.check(head)
	if r.OK {
		s.Errorf("check accepts %s", head)
	}
	if !slices.ContainsFunc(r.Findings, func(f ci.Finding) bool { return slices.Contains(rules, f.Rule) }) {
		s.Errorf("check does not refuse by %q: %v", rules, r.Findings)
	}
	for _, f := range r.Findings {
		if f.File == "" || f.Fix == "" {
			s.Errorf("without a place or a next step: %+v", f)
		}
	}
}

// granted syncs, opens the release as a gateway that was restarted just now does, and demands that
// exactly these reviews are in force.
func (s *siege) granted(want string) syncer.Result {
	s.Helper()
	r, err := s.sync.Once(s.Context())
	if err != nil && !errors.Is(err, syncer.ErrRollback) {
		s.Fatal(err)
	}
	opened, err := s.open(false)
	s.must(err)
	mark, err := release.OpenHighWater(s.mark)
	s.must(err)
	s.must(mark.Advance(opened))
	s.gateway.Swap(opened)
	var names []string
	for _, c := range opened.Connections {
		for _, v := range c.Candidates("agent:etl") {
			names = append(names, fmt.Sprintf("%s#%d", v.Name, v.Document.Spec.Sequence))
		}
	}
	slices.Sort(names)
	if got := strings.Join(names, " "); got != want {
		s.Errorf("granted %q, want %q; broken %q; pending %v: %s; problems:\n%v", got, want, r.Broken, r.Pending, r.Awaiting, r.Problems)
	}
	return r
}

// says demands that one of sync's complaints tells this.
func (s *siege) says(r syncer.Result, parts ...string) {
	s.Helper()
	text := r.Broken + "\n" + r.Awaiting + "\n" + r.Problems.Error()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			s.Errorf("sync does not say %q:\n%s", part, text)
		}
	}
}

// open opens the release as it lies in the folder, with a mark that was read anew.
func (s *siege) open(full bool) (*release.Release, error) {
	s.Helper()
	mark, err := release.OpenHighWater(s.mark)
	s.must(err)
	return release.Opener{Dir: s.out, Trust: release.Trust{RootDigest: s.pin}, HighWater: mark, Full: full}.Open(s.Context(), nil, s.now)
}

// login asks the gateway for a session of agent:etl under the review; nil when it is given.
func (s *siege) login() error {
	s.Helper()
	session, err := s.begin()
	if err == nil {
		_, err = session.End(nil)
	}
	return err
}

func (s *siege) begin() (*gatewayd.Session, error) {
	s.Helper()
	token, err := identity.Mint(accesstest.Signer("agent:etl"), identity.Claims{
		Principal: "agent:etl", Connection: "orders-db", Review: "orders-db/etl", ReviewSHA256: s.access.Digest("orders-db/etl"),
		Gateway: ssh.FingerprintSHA256(accesstest.Signer("gw1").PublicKey()), Issued: s.now, Expires: s.now.Add(time.Minute),
	})
	s.must(err)
	return s.gateway.Begin(s.Context(), gatewayd.Attempt{Protocol: "postgres", Remote: "127.0.0.1:9", User: "agent:etl", Target: "orders-db", Token: token})
}

// run is one command of agent:etl, which ends where it would have gone to the target.
func (s *siege) run(verb, object string) error {
	s.Helper()
	session, err := s.begin()
	s.must(err)
	_, err = session.Plan(gatewayd.Statement{Text: verb + " " + object}, func(text string) gatewayd.Understood {
		return gatewayd.Understood{Recorded: text, Command: policies.Command{Protocol: "postgres", Statement: text, Effects: []policies.Effect{{Verb: verb, Object: object}}}}
	})
	_, ended := session.End(nil)
	s.must(ended)
	return err
}

// playedForge answers for pull requests as Gitea does.
type playedForge struct {
	*httptest.Server
	pulls map[int]*playedPull
}

type playedPull struct {
	author, committer int64 // accounts
	pushers           []int64
	head, merge       string
	files             []string
	reviews           []map[string]any
}

func (p *playedPull) approved(who int64, commit string) {
	p.reviews = append(p.reviews, map[string]any{"id": len(p.reviews) + 1, "user": account(who), "state": "APPROVED", "commit_id": commit, "submitted_at": time.Now()})
}

func account(id int64) map[string]any {
	return map[string]any{"id": id, "login": fmt.Sprintf("u%d", id)}
}

func playForge(t *testing.T) *playedForge {
	f := &playedForge{pulls: map[int]*playedPull{}}
	mux := http.NewServeMux()
	answer := func(pattern string, of func(p *playedPull, number int) any) {
		mux.HandleFunc("GET /api/v1/repos/acme/access/"+pattern, func(w http.ResponseWriter, r *http.Request) {
			for number, p := range f.pulls {
				if r.PathValue("number") == fmt.Sprint(number) || r.PathValue("commit") == p.merge {
					_ = json.NewEncoder(w).Encode(of(p, number))
					return
				}
			}
			http.NotFound(w, r)
		})
	}
	pull := func(p *playedPull, number int) any {
		at := time.Now()
		return map[string]any{
			"number": number, "user": account(p.author), "state": "closed", "merged": true, "merged_at": at, "merge_commit_sha": p.merge,
			"created_at": at, "updated_at": at, "base": map[string]any{"label": "main"},
			"head": map[string]any{"label": fmt.Sprintf("pr-%d", number), "sha": p.head, "repo": map[string]any{"full_name": "acme/access"}},
		}
	}
	mux.HandleFunc("GET /api/v1/settings/api", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"max_response_items": 50}`) })
	mux.HandleFunc("GET /api/v1/repos/acme/access/pulls", func(w http.ResponseWriter, r *http.Request) {
		all := []any{}
		for number, p := range f.pulls {
			if r.FormValue("state") == "closed" {
				all = append(all, pull(p, number))
			}
		}
		_ = json.NewEncoder(w).Encode(all)
	})
	answer("pulls/{number}", pull)
	answer("commits/{commit}/pull", pull)
	answer("git/refs/pull/{number}/head", func(p *playedPull, number int) any {
		return []any{map[string]any{"ref": fmt.Sprintf("refs/pull/%d/head", number), "object": map[string]any{"sha": p.head}}}
	})
	answer("pulls/{number}/reviews", func(p *playedPull, _ int) any { return append([]map[string]any{}, p.reviews...) })
	answer("pulls/{number}/commits", func(p *playedPull, _ int) any {
		return []any{map[string]any{"sha": p.head, "author": account(p.committer), "committer": account(p.committer)}}
	})
	answer("issues/{number}/timeline", func(p *playedPull, _ int) any { return []any{} })
	answer("pulls/{number}/files", func(p *playedPull, _ int) any {
		names := []any{}
		for _, name := range p.files {
			names = append(names, map[string]any{"filename": name})
		}
		return names
	})
	mux.HandleFunc("GET /api/v1/repos/acme/access/activities/feeds", func(w http.ResponseWriter, _ *http.Request) {
		all := []any{}
		for number, p := range f.pulls {
			entry := func(who int64, content string) {
				all = append([]any{map[string]any{"op_type": "commit_repo", "ref_name": fmt.Sprintf("refs/heads/pr-%d", number), "content": content,
					"act_user": account(who), "created": time.Now().Add(-time.Hour)}}, all...)
			}
			for i, who := range p.pushers {
				if i == 0 {
					entry(who, "") // the branch was made
				}
				entry(who, fmt.Sprintf(`{"HeadCommit":{"Sha1":%q}}`, p.head))
			}
		}
		_ = json.NewEncoder(w).Encode(all)
	})
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

// pull opens and squash-merges a pull request that brings one review, written and pushed by alice. play may
// change what the forge knows of it, and push more, before it is merged.
func (s *siege) pull(number int, path string, play func(p *playedPull)) {
	s.Helper()
	const alice = 11
	p := &playedPull{author: alice, committer: alice, pushers: []int64{alice}, files: []string{path}}
	p.head = s.propose(fmt.Sprintf("pr-%d", number))
	play(p)
	s.git("update-ref", fmt.Sprintf("refs/pull/%d/head", number), p.head)
	p.merge = s.merge(fmt.Sprintf("squash pr-%d", number))
	s.forge.pulls[number] = p
	s.now = s.now.Add(10 * time.Second)
}
