package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// evidence is an access repo with an audit branch, and a gateway's recordings.
type evidence struct {
	*testing.T
	access  *accesstest.Repo
	dir     string // the access repo
	gateway string // the recordings
	header  record.Header
	n       int // sessions so far
	version int // of the trust root
}

const (
	evidenceReview = "orders-db/etl"
	twoGateways    = `
  version: %d
  threshold: 1
  principals:
    - {name: "user:alice", keys: [{key: "%s"}]}
    - {name: "user:bob", keys: [{key: "%s"}]}
  groups: {root: ["user:bob"], reviewers: ["user:bob"]}
  release: [{key: "%s"}]
  gateways: [{name: gw1, key: "%s"}, {name: gw2, key: "%s"}]
%s`
)

// newEvidence has one merged review, one recorded session and its summary.
func newEvidence(t *testing.T) *evidence {
	t.Setenv("HOME", t.TempDir())
	for _, name := range []string{"GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"} {
		t.Setenv(name, "somebody@example.com")
	}
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	e := &evidence{T: t, access: accesstest.New(t, time.Now()), dir: t.TempDir(), gateway: t.TempDir()}
	e.root(accesstest.PublicKey("gw1"), "")
	e.access.Connection("orders-db", "")
	e.access.Review(evidenceReview, 1, "agent:etl", "  allow: [{verbs: [select], on: [app.orders]}]\n")
	e.git("init", "--quiet", "--initial-branch=main")
	commit := e.merge("access")
	e.header = record.Header{
		Protocol: "postgres", Principal: "agent:etl", Owner: "user:alice", Connection: "orders-db", Remote: "127.0.0.1:4000",
		Review: evidenceReview, ReviewSHA256: e.access.Digest(evidenceReview), ReviewCommit: commit, Approvers: []string{"user:bob"},
		Release: 1, ReleaseDigest: strings.Repeat("9e", 32), ReleaseCommit: commit,
	}
	e.commit("gw1", e.session("gw1", e.header))
	return e
}

// root writes the trust root, with gw1's key and perhaps more.
func (e *evidence) root(gw1, more string) {
	key := accesstest.PublicKey
	e.version++
	e.access.Write(reviews.RootPath, reviews.KindRoot, "TrustRoot", "root",
		fmt.Sprintf(twoGateways, e.version, key("user:alice"), key("user:bob"), key("release"), gw1, key("gw2"), more))
}

func (e *evidence) git(args ...string) string {
	e.Helper()
	out, err := exec.Command("git", append([]string{"-C", e.dir}, args...)...).CombinedOutput()
	if err != nil {
		e.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// merge commits the access repo as it is.
func (e *evidence) merge(message string) string {
	e.Helper()
	for name, f := range e.access.Files {
		name = filepath.Join(e.dir, filepath.FromSlash(name))
		e.must(os.MkdirAll(filepath.Dir(name), 0o755))
		e.must(os.WriteFile(name, f.Data, 0o644))
	}
	e.git("add", "--all")
	e.git("commit", "--quiet", "--message", message)
	return e.git("rev-parse", "HEAD")
}

func (e *evidence) must(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

// session records one session, sealed with the key of that name, as gateway gw1 or whoever the key names.
func (e *evidence) session(key string, h record.Header) record.Summary {
	e.Helper()
	gateway, _, _ := strings.Cut(key, " ")
	e.n++
	h.Session = fmt.Sprintf("s-%016x", e.n)
	j, err := record.Open(record.Options{Dir: e.gateway, Gateway: gateway, Durability: record.DurabilityProcess,
		Sign: func(m []byte) ([]byte, error) {
			return reviews.Sign(accesstest.Signer(key), reviews.NamespaceCheckpoint, m)
		}})
	e.must(err)
	s, err := j.Begin(h)
	e.must(err)
	n, err := s.Command(record.Command{Statement: "select 1", Verdict: policies.Allow, Rule: "allow[0]",
		Release: h.Release, ReleaseDigest: h.ReleaseDigest, ReviewSHA256: h.ReviewSHA256})
	e.must(err)
	e.must(s.Result(n, record.Result{Outcome: "done"}))
	sum, err := s.Close("closed")
	e.must(err)
	e.must(j.Close())
	return sum
}

// commit pushes summaries to the audit branch as gatewayd does.
func (e *evidence) commit(key string, sums ...record.Summary) string {
	e.Helper()
	files := map[string][]byte{}
	for _, s := range sums {
		b, err := json.Marshal(s)
		e.must(err)
		files[s.Path()] = b
	}
	m, err := gitrepo.Open(e.TempDir(), e.dir, gitrepo.Options{})
	e.must(err)
	id, err := m.Add(e.Context(), gitrepo.Addition{
		Branch: "audit", Files: files, Message: "audit", Time: time.Now(),
		Author: gitrepo.Identity{Name: "gateway", Email: "gw@gateway.invalid"},
		Sign:   func(m []byte) ([]byte, error) { return reviews.Sign(accesstest.Signer(key), reviews.NamespaceGit, m) },
	})
	e.must(err)
	return id
}

// push makes an audit commit with plain git, as whoever can push does.
func (e *evidence) push(edit func(dir string), args ...string) string {
	e.Helper()
	dir := filepath.Join(e.TempDir(), "audit")
	e.git("worktree", "add", "--quiet", dir, "audit")
	defer e.git("worktree", "remove", "--force", dir)
	edit(dir)
	in := &evidence{T: e.T, dir: dir}
	in.git("add", "--all")
	in.git(append(append([]string{}, args...), "commit", "--quiet", "--allow-empty", "--message", "audit")...)
	return in.git("rev-parse", "HEAD")
}

func (e *evidence) verify(args ...string) verified {
	e.Helper()
	var out bytes.Buffer
	g := &globals{repo: e.dir}
	c := newVerify(g)
	c.SetArgs(append([]string{"--json", "--recordings", e.gateway}, args...))
	c.SetOut(&out)
	c.SetErr(io.Discard)
	c.SilenceErrors, c.SilenceUsage = true, true
	err := c.ExecuteContext(e.Context())
	var v verified
	if json.Unmarshal(out.Bytes(), &v) != nil {
		e.Fatalf("verify: %v", err)
	}
	if v.OK != (err == nil) {
		e.Errorf("ok is %v and the error %v", v.OK, err)
	}
	return v
}

// wantProblem demands that one problem names all these.
func (e *evidence) wantProblem(v verified, parts ...string) {
	e.Helper()
	for _, p := range v.Problems {
		found := true
		for _, part := range parts {
			found = found && strings.Contains(p.String(), part)
		}
		if found {
			return
		}
	}
	e.Errorf("want a problem with %q, have %v", parts, v.Problems)
}

func (e *evidence) wantClean(v verified) {
	e.Helper()
	for _, p := range v.Problems {
		e.Errorf("unexpected problem: %s", p)
	}
}

func TestVerifyProvesTheWholeChain(t *testing.T) {
	e := newEvidence(t)
	v := e.verify("--trust-root", "sha256:"+e.access.RootDigest(), "--audit-includes", e.git("rev-parse", "audit"))
	e.wantClean(v)
	if v.Recordings != 1 || v.Summaries != 1 || v.AuditCommits != 1 || v.Grants != 1 || len(v.Unconfirmed) > 0 {
		t.Errorf("have %+v", v)
	}
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Fatal(err)
	}
	signers := filepath.Join(t.TempDir(), "signers")
	e.must(os.WriteFile(signers, []byte(`gw1 namespaces="git" `+accesstest.PublicKey("gw1")+"\n"), 0o600))
	if log := e.git("-c", "gpg.ssh.allowedSignersFile="+signers, "log", "--show-signature", "audit"); !strings.Contains(log, `Good "git" signature for gw1`) {
		t.Errorf("git log --show-signature: %s", log)
	}
}

// Whoever can push to the audit branch.
func TestVerifyNamesTheBadAuditCommit(t *testing.T) {
	edit := func(what func(dir string, files []string)) func(string) {
		return func(dir string) {
			files, err := filepath.Glob(filepath.Join(dir, "summaries/*/*/*/*.json"))
			if err != nil || len(files) == 0 {
				t.Fatal("no summaries", err)
			}
			what(dir, files)
		}
	}
	remove := edit(func(_ string, files []string) { os.Remove(files[0]) })
	change := edit(func(_ string, files []string) {
		b, _ := os.ReadFile(files[0])
		os.WriteFile(files[0], bytes.Replace(b, []byte(`"commands":1`), []byte(`"commands":0`), 1), 0o600)
	})
	nothing := func(string) {}

	t.Run("unsigned", func(t *testing.T) {
		e := newEvidence(t)
		id := e.push(nothing)
		e.wantProblem(e.verify(), id, "not signed")
	})
	for name, what := range map[string]func(string){"removes a summary": remove, "changes a summary": change} {
		t.Run("unsigned "+name, func(t *testing.T) {
			e := newEvidence(t)
			id := e.push(what)
			v := e.verify()
			e.wantProblem(v, id, "not signed")
			if v.Summaries != 1 {
				t.Errorf("what an unsigned commit takes away must still count: %+v", v)
			}
		})
		t.Run("gateway "+name, func(t *testing.T) {
			e := newEvidence(t)
			id := e.push(what, e.signWith("gw1")...)
			v := e.verify()
			e.wantProblem(v, id, "summaries/", "changed or removed")
			if v.Summaries != 1 || len(v.Problems) != 1 {
				t.Errorf("have %+v", v)
			}
		})
	}
	t.Run("signed by a person", func(t *testing.T) {
		e := newEvidence(t)
		id := e.push(nothing, e.signWith("user:bob")...)
		e.wantProblem(e.verify(), id, "is no gateway's")
	})
	t.Run("signed for another purpose", func(t *testing.T) {
		e := newEvidence(t)
		id := e.forge(func(m []byte) ([]byte, error) {
			return reviews.Sign(accesstest.Signer("gw1"), reviews.NamespaceCheckpoint, m)
		})
		e.wantProblem(e.verify(), id, "another purpose")
	})
	t.Run("signature of another commit", func(t *testing.T) {
		e := newEvidence(t)
		id := e.forge(func([]byte) ([]byte, error) {
			_, sig, err := splitSignature([]byte(e.git("cat-file", "commit", "audit")))
			return sig, err
		})
		e.wantProblem(e.verify(), id, "not over these bytes")
	})
	t.Run("another gateway's summary", func(t *testing.T) {
		e := newEvidence(t)
		id := e.commit("gw2", e.session("gw1", e.header))
		e.wantProblem(e.verify(), id, "it is of gateway gw1, and gateway gw2 committed it")
	})
	t.Run("sync adds what is not its own", func(t *testing.T) {
		e := newEvidence(t)
		e.push(func(dir string) {
			e.must(os.MkdirAll(filepath.Join(dir, "approvals"), 0o755))
			e.must(os.WriteFile(filepath.Join(dir, "approvals", "x.json"), []byte("{}"), 0o600))
		}, e.signWith("release")...)
		e.wantClean(e.verify())
		id := e.commit("release", e.session("gw1", e.header))
		e.wantProblem(e.verify(), id, "adds approvals and releases and nothing else")
	})
	t.Run("sync repairs what somebody put in place of an attestation", func(t *testing.T) {
		e := newEvidence(t)
		junk := e.push(func(dir string) {
			e.must(os.MkdirAll(filepath.Join(dir, "approvals", "y.json"), 0o755))
			for _, name := range []string{"x.json", "y.json/z"} {
				e.must(os.WriteFile(filepath.Join(dir, "approvals", name), []byte("junk"), 0o600))
			}
		})
		e.push(func(dir string) {
			e.must(os.RemoveAll(filepath.Join(dir, "approvals", "y.json")))
			for _, name := range []string{"x.json", "y.json"} {
				e.must(os.WriteFile(filepath.Join(dir, "approvals", name), []byte("{}"), 0o600))
			}
		}, e.signWith("release")...)
		v := e.verify()
		e.wantProblem(v, junk, "not signed")
		if len(v.Problems) != 1 {
			t.Errorf("have %v", v.Problems)
		}
		id := e.push(func(dir string) { e.must(os.Remove(filepath.Join(dir, "approvals", "x.json"))) }, e.signWith("gw1")...)
		e.wantProblem(e.verify(), id, "approvals/x.json", "changed or removed")
	})
	t.Run("something else", func(t *testing.T) {
		e := newEvidence(t)
		id := e.push(func(dir string) { os.WriteFile(filepath.Join(dir, "note"), []byte("{}"), 0o600) }, e.signWith("gw1")...)
		e.wantProblem(e.verify(), id, "note")
	})
	t.Run("merge", func(t *testing.T) {
		e := newEvidence(t)
		id := e.push(func(dir string) {
			(&evidence{T: t, dir: dir}).git("merge", "--quiet", "--allow-unrelated-histories", "--no-commit", "-s", "ours", "main")
		}, e.signWith("gw1")...)
		e.wantProblem(e.verify(), id, "does not follow")
	})
	t.Run("rewound", func(t *testing.T) {
		e := newEvidence(t)
		first := e.git("rev-parse", "audit")
		second := e.commit("gw1", e.session("gw1", e.header))
		e.wantClean(e.verify("--audit-includes", second))
		e.git("update-ref", "refs/heads/audit", first)
		if v := e.verify(); len(v.Unconfirmed) != 1 {
			t.Errorf("have %+v", v)
		}
		e.wantProblem(e.verify("--audit-includes", second), second, "rewound")
		e.git("update-ref", "-d", "refs/heads/audit")
		e.wantProblem(e.verify("--audit-includes", second), second, "removed")
	})
}

// signWith are git arguments that sign commits with a key.
func (e *evidence) signWith(key string) []string {
	name := filepath.Join(e.TempDir(), "key")
	block, err := ssh.MarshalPrivateKey(accesstest.Key(key), key)
	e.must(err)
	e.must(os.WriteFile(name, pem.EncodeToMemory(block), 0o600))
	return []string{"-c", "gpg.format=ssh", "-c", "commit.gpgsign=true", "-c", "user.signingkey=" + name}
}

// forge puts a commit with a made-up signature on the audit branch.
func (e *evidence) forge(sign func([]byte) ([]byte, error)) string {
	e.Helper()
	payload := fmt.Sprintf("tree %s\nparent %s\nauthor x <x@x> %d +0000\ncommitter x <x@x> %[3]d +0000\n\naudit\n",
		e.git("rev-parse", "audit^{tree}"), e.git("rev-parse", "audit"), time.Now().Unix())
	sig, err := sign([]byte(payload))
	e.must(err)
	head, message, _ := strings.Cut(payload, "\n\n")
	raw := head + "\ngpgsig " + strings.ReplaceAll(strings.TrimSpace(string(sig)), "\n", "\n ") + "\n\n" + message
	c := exec.Command("git", "-C", e.dir, "hash-object", "-t", "commit", "-w", "--stdin")
	c.Stdin = strings.NewReader(raw)
	out, err := c.Output()
	e.must(err)
	id := strings.TrimSpace(string(out))
	e.git("update-ref", "refs/heads/audit", id)
	return id
}

// A gateway that does not tell git about a session, or whose state was lost.
func TestVerifyNamesMissingSummaries(t *testing.T) {
	e := newEvidence(t)
	h := e.header
	lost := e.session("gw1", h)
	if v := e.verify(); len(v.Unconfirmed) != 1 || !v.OK {
		t.Errorf("a session that has just ended may wait: %+v", v)
	}
	later := e.session("gw1", h)
	later.Ended = later.Ended.Add(2 * time.Hour) // as if it had ended then
	e.commit("gw1", later)
	v := e.verify()
	e.wantProblem(v, lost.Session, "its summary is missing")
	e.wantProblem(v, later.Session, "the committed summary of it was changed")
}

// What a recording says it stood on, when nobody granted that.
func TestVerifyNamesWhatWasNotGranted(t *testing.T) {
	type change func(e *evidence, h *record.Header)
	for _, c := range []struct {
		name string
		do   change
		want string
	}{
		{"other bytes", func(_ *evidence, h *record.Header) { h.ReviewSHA256 = strings.Repeat("0", 64) }, "has sha256"},
		{"a commit that does not exist", func(_ *evidence, h *record.Header) { h.ReviewCommit = strings.Repeat("0", 40) }, "not on the merged branch"},
		{"a release commit that does not exist", func(_ *evidence, h *record.Header) { h.ReleaseCommit = strings.Repeat("0", 40) }, "not on the merged branch"},
		{"an option as commit", func(_ *evidence, h *record.Header) { h.ReviewCommit = "--output=x" }, "not on the merged branch"},
		{"a review of another connection", func(_ *evidence, h *record.Header) { h.Connection = "other-db" }, "is not a review of connection"},
		{"another principal", func(_ *evidence, h *record.Header) { h.Principal = "agent:report" }, "is for agent:etl"},
		{"an approver who did not", func(_ *evidence, h *record.Header) { h.Approvers = []string{"user:alice"} }, "user:alice did not approve"},
		{"no approver", func(_ *evidence, h *record.Header) { h.Approvers = nil }, "names nobody"},
		{"a branch that was not merged", func(e *evidence, h *record.Header) {
			e.git("checkout", "--quiet", "-b", "request")
			e.access.Review(evidenceReview, 2, "agent:etl", "  allow: [{verbs: [delete], on: [app.orders]}]\n")
			h.ReviewCommit = e.merge("request")
			h.ReleaseCommit, h.ReviewSHA256 = h.ReviewCommit, e.access.Digest(evidenceReview)
			e.git("checkout", "--quiet", "main")
		}, "not on the merged branch"},
		{"merged without approval", func(e *evidence, h *record.Header) {
			e.access.Review(evidenceReview, 2, "agent:etl", "  allow: [{verbs: [delete], on: [app.orders]}]\n")
			path := reviews.PathOf(reviews.KindReview, evidenceReview)
			for name := range e.access.Files {
				if strings.HasPrefix(name, path+".sigs/") {
					e.access.Files[name].Data = []byte("no signature")
				}
			}
			h.ReviewCommit = e.merge("force")
			h.ReleaseCommit, h.ReviewSHA256 = h.ReviewCommit, e.access.Digest(evidenceReview)
		}, "not approved"},
		{"a review that came after its release", func(e *evidence, h *record.Header) {
			e.access.Review(evidenceReview, 2, "agent:etl", "  allow: [{verbs: [delete], on: [app.orders]}]\n")
			h.ReviewCommit, h.ReviewSHA256 = e.merge("second"), e.access.Digest(evidenceReview)
		}, "came after"},
		{"before it was valid", func(_ *evidence, h *record.Header) { h.Started = time.Now().Add(-48 * time.Hour) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEvidence(t)
			h := e.header
			c.do(e, &h)
			s := e.session("gw1", h)
			e.commit("gw1", s)
			v := e.verify()
			if c.want == "" {
				e.wantClean(v) // the time of a record counts, not what its header says
				return
			}
			e.wantProblem(v, s.Session, "record 1: it was not granted", c.want)
			if len(v.Problems) != 1 {
				t.Errorf("want that problem only, have %v", v.Problems)
			}
		})
	}
}

// Bytes that a reload brought while the session ran.
func TestVerifyFollowsReloads(t *testing.T) {
	e := newEvidence(t)
	e.access.Review(evidenceReview, 2, "agent:etl", "  allow: [{verbs: [select, update], on: [app.orders]}]\n")
	e.merge("second")
	j, err := record.Open(record.Options{Dir: e.gateway, Gateway: "gw1", Sign: func(m []byte) ([]byte, error) {
		return reviews.Sign(accesstest.Signer("gw1"), reviews.NamespaceCheckpoint, m)
	}})
	e.must(err)
	run := func(session, sum string) {
		h := e.header
		h.Session = session
		s, err := j.Begin(h)
		e.must(err)
		_, err = s.Command(record.Command{Statement: "select 1", Verdict: policies.Allow, Release: 2, ReleaseDigest: strings.Repeat("aa", 32), ReviewSHA256: sum})
		e.must(err)
		_, err = s.Close("closed")
		e.must(err)
	}
	run("s-00000000000000aa", e.access.Digest(evidenceReview))
	run("s-00000000000000bb", strings.Repeat("0", 64))
	e.must(j.Close())
	v := e.verify()
	e.wantProblem(v, "s-00000000000000bb", "record 2", "no merged commit has")
	if len(v.Problems) != 1 {
		t.Errorf("have %v", v.Problems)
	}
}

// Gateway keys of an earlier trust root count for their time, and only when
// somebody who is trusted now vouches for that root.
func TestVerifyKnowsEarlierTrustRoots(t *testing.T) {
	e := newEvidence(t)
	first := e.access.RootDigest()
	e.root(accesstest.PublicKey("gw1 second"), "  revoked: []\n")
	e.merge("rotate")
	e.wantClean(e.verify())
	now := e.header
	now.ReleaseCommit = e.git("rev-parse", "HEAD")
	e.commit("gw1 second", e.session("gw1 second", now))
	e.wantClean(e.verify())

	// The old key, long after.
	t.Run("late", func(t *testing.T) {
		date := time.Now().Add(-72 * time.Hour).Format(time.RFC3339)
		t.Setenv("GIT_COMMITTER_DATE", date)
		e := newEvidence(t)
		e.root(accesstest.PublicKey("gw1 second"), "")
		e.merge("rotate")
		v := e.verify()
		e.wantProblem(v, "audit commit", "was no gateway's at")
		e.wantProblem(v, "s-0000000000000001", "the seal is not by gateway gw1")
	})
	t.Run("revoked", func(t *testing.T) {
		e := newEvidence(t)
		key := reviews.Key{Key: accesstest.PublicKey("gw1")}
		e.root(accesstest.PublicKey("gw1 second"), fmt.Sprintf("  revoked: [{fingerprint: %q, reason: stolen}]\n", key.Fingerprint()))
		e.merge("rotate")
		e.wantProblem(e.verify(), "audit commit", "revoked")
	})
	t.Run("pushed by a stranger", func(t *testing.T) {
		e := newEvidence(t)
		genuine := map[string][]byte{}
		for name, f := range e.access.Files {
			genuine[name] = f.Data
		}
		// Mallory makes a root of her own, has it vouch for itself, and puts the genuine one back.
		root := bytes.ReplaceAll(e.access.Files[reviews.RootPath].Data, []byte(accesstest.PublicKey("gw1")), []byte(accesstest.PublicKey("mallory")))
		e.access.Files[reviews.RootPath].Data = root
		e.merge("mallory")
		for name, b := range genuine {
			e.access.Files[name].Data = b
		}
		e.merge("back")
		s := e.session("mallory", e.header)
		v := e.verify()
		e.wantProblem(v, s.Session, "is no gateway's in the trust root")
	})
	t.Run("before a genuine one that a stranger signs, too", func(t *testing.T) {
		e := newEvidence(t)
		genuine := maps.Clone(e.access.Files)
		mallory := accesstest.Signer("mallory")
		sign := func() {
			b := e.access.Files[reviews.RootPath].Data
			signature, err := reviews.Sign(mallory, reviews.NamespaceRoot, b)
			e.must(err)
			e.access.Files[reviews.SidecarPath(reviews.RootPath, "user:bob", mallory.PublicKey())] = &fstest.MapFile{Data: signature}
		}
		// A first version of her own, whose root group she is, then the genuine second one with her signature, too.
		b := bytes.ReplaceAll(genuine[reviews.RootPath].Data, []byte(accesstest.PublicKey("gw1")), []byte(accesstest.PublicKey("gw1 mallory")))
		e.access.Files[reviews.RootPath] = &fstest.MapFile{Data: bytes.ReplaceAll(b, []byte(accesstest.PublicKey("user:bob")), []byte(accesstest.PublicKey("mallory")))}
		sign()
		e.merge("mallory")
		e.access.Files = genuine
		e.root(accesstest.PublicKey("gw1"), "")
		sign()
		e.merge("second")
		s := e.session("gw1 mallory", e.header)
		for _, args := range [][]string{nil, {"--trust-root", "sha256:" + first}, {"--trust-root", "sha256:" + e.access.RootDigest()}} {
			e.wantProblem(e.verify(args...), s.Session, "is no gateway's in the trust root")
		}
	})
	t.Run("other people", func(t *testing.T) {
		e := newEvidence(t)
		first := e.access.RootDigest()
		// alice is the root group from the second version on, and bob, who was it, says so.
		e.root(accesstest.PublicKey("gw1 second"), "")
		b := bytes.Replace(e.access.Files[reviews.RootPath].Data, []byte(`root: ["user:bob"]`), []byte(`root: ["user:alice"]`), 1)
		e.access.Files[reviews.RootPath].Data = b
		for _, name := range []string{"user:alice", "user:bob"} {
			key := accesstest.Signer(name)
			signature, err := reviews.Sign(key, reviews.NamespaceRoot, b)
			e.must(err)
			e.access.Files[reviews.SidecarPath(reviews.RootPath, name, key.PublicKey())] = &fstest.MapFile{Data: signature}
		}
		config := e.access.Files[reviews.ConfigPath].Data
		signature, err := reviews.Sign(accesstest.Signer("user:alice"), reviews.NamespaceConfig, config)
		e.must(err)
		e.access.Files[reviews.SidecarPath(reviews.ConfigPath, "user:alice", accesstest.Signer("user:alice").PublicKey())] = &fstest.MapFile{Data: signature}
		e.merge("rotate")
		e.wantClean(e.verify("--trust-root", "sha256:"+first))
		e.wantProblem(e.verify(), "s-0000000000000001", "the seal is not by gateway gw1") // nobody who is trusted now vouches for the first
	})
	t.Run("a version left out", func(t *testing.T) {
		e := newEvidence(t)
		e.version++
		e.root(accesstest.PublicKey("gw1 second"), "")
		e.merge("rotate")
		e.wantProblem(e.verify(), "s-0000000000000001", "the seal is not by gateway gw1")
	})
	t.Run("pins", func(t *testing.T) {
		e := newEvidence(t)
		c := newVerify(&globals{repo: e.dir})
		c.SetArgs([]string{"--recordings", e.gateway, "--trust-root", "sha256:" + strings.Repeat("0", 64)})
		c.SetOut(io.Discard)
		c.SetErr(io.Discard)
		if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "--trust-root does not name") {
			t.Errorf("another trust root is taken: %v", err)
		}
	})
	if first == e.access.RootDigest() {
		t.Error("the root was not rotated")
	}
}
