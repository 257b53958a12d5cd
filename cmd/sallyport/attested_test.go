package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// approvedInForge is an access repo whose reviews are approved in pull requests, with one
// that nobody signed.
func approvedInForge(t *testing.T) *evidence {
	e := newEvidence(t)
	e.root(accesstest.PublicKey("gw1"), "")
	root := e.access.Files[reviews.RootPath].Data
	_, spec, _ := strings.Cut(string(root), "spec:")
	spec = strings.Replace(spec, `{name: "user:bob", keys`, `{name: "user:bob", forge: {gitea: 12}, keys`, 1) + "  attesters: [{key: \"" + accesstest.PublicKey("attester") + "\"}]\n"
	e.access.Write(reviews.RootPath, reviews.KindRoot, "TrustRoot", "root", spec)
	e.access.Write(reviews.ConfigPath, reviews.KindConfig, "Config", "sallyport", `
  repository: https://git.example.com/access.git
  forge: {kind: gitea, url: https://git.example.com, repository: acme/access}
  approvals:
    - {match: {kinds: [Principal, Connection, Policy]}, mode: signature, threshold: 1, groups: [reviewers]}
    - {match: {kinds: [AccessReview]}, mode: forge, threshold: 1, groups: [reviewers]}
`)
	e.merge("forge")
	path := reviews.PathOf(reviews.KindReview, evidenceReview)
	e.access.Review(evidenceReview, 2, "agent:etl", "  allow: [{verbs: [select], on: [app.orders]}]\n")
	document := e.access.Files[path]
	e.access.Remove(path)
	e.access.Files[path] = document
	e.must(os.RemoveAll(filepath.Join(e.dir, path+".sigs")))
	e.merge("approved in a pull request")
	return e
}

// attestation says that account 12, which is bob's, approved the review.
func (e *evidence) attestation(key ssh.Signer) (path string, b []byte) {
	e.Helper()
	sum := e.access.Digest(evidenceReview)
	b, err := reviews.Attest(reviews.ForgeApproval{
		Repo: accesstest.RepoID, Forge: "gitea", Repository: "acme/access", PullRequest: 7, Base: "main", Head: "c0ffee",
		Contributors: []int64{11}, Approvals: []reviews.AccountApproval{{ID: 12, Commit: "c0ffee", At: time.Now().UTC().Truncate(time.Second)}}, AttestedAt: time.Now().UTC().Truncate(time.Second),
	}, []reviews.Content{{Name: reviews.PathOf(reviews.KindReview, evidenceReview), Digest: reviews.ContentDigest{SHA256: sum}}}, key)
	e.must(err)
	return reviews.AttestationPath(sum), b
}

func (e *evidence) audit(path string, b []byte) {
	e.Helper()
	e.push(func(dir string) {
		name := filepath.Join(dir, filepath.FromSlash(path))
		e.must(os.MkdirAll(filepath.Dir(name), 0o755))
		e.must(os.WriteFile(name, b, 0o600))
	})
}

func (e *evidence) check(args ...string) *ci.Report {
	e.Helper()
	var out bytes.Buffer
	c := newCheck(&globals{repo: e.dir})
	c.SetArgs(append([]string{"--format", "json"}, args...))
	c.SetOut(&out)
	c.SetErr(io.Discard)
	c.SilenceErrors, c.SilenceUsage = true, true
	_ = c.ExecuteContext(e.Context()) // the report tells
	r := &ci.Report{}
	if err := json.Unmarshal(out.Bytes(), r); err != nil {
		e.Fatalf("check prints no report: %v: %s", err, out.String())
	}
	return r
}

// What is merged and approved in a pull request is approved for check, by what an
// attester of the trust root says on the audit branch, and by nothing else.
func TestCheckHearsAttestations(t *testing.T) {
	for _, tt := range []struct {
		name   string
		attest func(e *evidence)
		want   bool
	}{
		{"nobody", func(*evidence) {}, false},
		{"the attester", func(e *evidence) { e.audit(e.attestation(accesstest.Signer("attester"))) }, true},
		{"a stranger", func(e *evidence) { e.audit(e.attestation(accesstest.Signer("mallory"))) }, false},
		{"the release key", func(e *evidence) { e.audit(e.attestation(accesstest.Signer("release"))) }, false},
		{"junk", func(e *evidence) {
			path, _ := e.attestation(accesstest.Signer("attester"))
			e.audit(path, []byte("junk"))
		}, false},
		{"a stranger, on the branch itself", func(e *evidence) {
			path, b := e.attestation(accesstest.Signer("mallory"))
			e.must(os.MkdirAll(filepath.Join(e.dir, "approvals"), 0o755))
			e.must(os.WriteFile(filepath.Join(e.dir, path), b, 0o600))
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := approvedInForge(t)
			tt.attest(e)
			for _, args := range [][]string{nil, {"--ref", "main"}} {
				if r := e.check(append([]string{"--require-approved"}, args...)...); r.OK != tt.want {
					t.Errorf("%v: ok %v: %v", args, r.OK, r.Findings)
				}
			}
			if r := e.check(); len(r.Pending) == 0 != tt.want {
				t.Errorf("pending %+v", r.Pending)
			}
		})
	}
}

// The examples of a review that was approved in a pull request hold against a change, too.
func TestCompareKnowsWhatIsAttested(t *testing.T) {
	e := approvedInForge(t)
	e.audit(e.attestation(accesstest.Signer("attester")))
	e.git("checkout", "--quiet", "-b", "request")
	e.git("rm", "--quiet", "principals/agent_etl.yaml")
	e.git("commit", "--quiet", "-m", "without its subject")
	r := e.check("--base", "main", "--head", "HEAD")
	found := false
	for _, f := range r.Findings {
		found = found || f.Rule == ci.RuleCloses && strings.Contains(f.File, evidenceReview)
	}
	if !found {
		t.Errorf("nobody says that the review would be closed: %v", r.Findings)
	}
}

// An approval is as old as sync's log says, and git's dates are for want of that.
func TestDueAgesByFirstSight(t *testing.T) {
	e := newEvidence(t)
	e.access.Connection("orders-db", "  review: {maxAge: 240h}\n")
	e.merge("review more often")
	due := func() *due {
		t.Helper()
		var out bytes.Buffer
		c := newDue(&globals{repo: e.dir})
		g := []string{"--json", "--within", "30d"}
		c.SetArgs(g)
		c.SetOut(&out)
		c.SetErr(io.Discard)
		if err := c.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got struct{ Owners []*dueOwner }
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Owners) != 1 || len(got.Owners[0].Reviews) != 1 {
			t.Fatalf("have %s", out.String())
		}
		return got.Owners[0].Reviews[0]
	}
	if d := due(); d.By != "git" || time.Since(d.Approved) > time.Hour {
		t.Errorf("without a log: %+v", d)
	}
	seen := time.Now().Add(-72 * time.Hour).UTC().Truncate(time.Second)
	first := e.git("rev-list", "--max-parents=0", "main")
	taken := func(env *release.Envelope) { env.Taken = []release.Taken{{Commit: first, At: seen}} }
	e.audit("releases/1.json", []byte(e.entry(accesstest.Signer("mallory"), seen, taken)))
	if d := due(); d.By != "git" {
		t.Errorf("by a stranger's word: %+v", d)
	}
	e.audit("releases/2.json", []byte(e.entry(accesstest.Signer("release"), seen, taken)))
	if d := due(); d.By != "sync" || !d.Approved.Equal(seen) || d.Why != "stale" || !d.When.Equal(seen.Add(240*time.Hour)) {
		t.Errorf("by sync's word: %+v", d)
	}
}
