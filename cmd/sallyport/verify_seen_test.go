package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// carols makes carol approve the review, in whose key nothing is left since an hour.
func carols(t *testing.T) *evidence {
	e := newEvidence(t)
	carol := accesstest.Signer("user:carol")
	root := string(e.access.Files[reviews.RootPath].Data)
	_, spec, _ := strings.Cut(root, "spec:")
	spec = strings.Replace(spec, "  groups:", fmt.Sprintf("    - {name: \"user:carol\", keys: [{key: %q, notAfter: %q}]}\n  groups:", accesstest.PublicKey("user:carol"), time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)), 1)
	spec = strings.Replace(spec, `reviewers: ["user:bob"]`, `reviewers: ["user:bob", "user:carol"]`, 1)
	e.access.Write(reviews.RootPath, reviews.KindRoot, "TrustRoot", "root", strings.Replace(spec, "version: 1", "version: 2", 1))
	path := reviews.PathOf(reviews.KindReview, evidenceReview)
	e.access.Review(evidenceReview, 2, "agent:etl", "  allow: [{verbs: [select], on: [app.orders]}]\n")
	document := e.access.Files[path]
	e.access.Remove(path)
	signature, err := reviews.Sign(carol, reviews.NamespaceReview, document.Data)
	e.must(err)
	e.access.Files[path] = document
	e.access.Files[reviews.SidecarPath(path, "user:carol", carol.PublicKey())] = &fstest.MapFile{Data: signature}
	e.must(os.RemoveAll(filepath.Join(e.dir, path+".sigs")))
	commit := e.merge("carol approves")
	e.header.ReviewCommit, e.header.ReleaseCommit, e.header.ReviewSHA256 = commit, commit, e.access.Digest(evidenceReview)
	e.header.Approvers = []string{"user:carol"}
	return e
}

// entry is a release that says that sync saw the merged commit at that time.
func (e *evidence) entry(key ssh.Signer, at time.Time, change func(*release.Envelope)) string {
	e.Helper()
	head := e.git("rev-parse", "HEAD")
	env := release.Envelope{
		Repo: accesstest.RepoID, Ref: "refs/heads/main", Commit: head, Sequence: 2, Bundles: map[string]string{},
		IssuedAt: at.UTC().Truncate(time.Second), Taken: []release.Taken{{Commit: head, At: at.UTC().Truncate(time.Second)}},
	}
	if change != nil {
		change(&env)
	}
	dir := e.TempDir()
	e.must(release.Publish(dir, &release.Built{Envelope: env}, key))
	b, err := os.ReadFile(filepath.Join(dir, release.EnvelopeFile))
	e.must(err)
	return string(b)
}

// A key that approved and has expired since approved all the same, when the log of
// releases says that sync saw it in time; nobody else's word does.
func TestVerifyJudgesApprovalsByWhenTheyWereSeen(t *testing.T) {
	early := time.Now().Add(-2 * time.Hour)
	write := func(text string) func(dir string) {
		return func(dir string) {
			if err := os.MkdirAll(filepath.Join(dir, "releases"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "releases", "2.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name  string
		entry func(e *evidence) string // what stands in the log; "" for nothing
		by    string                   // who committed it to the audit branch
		want  []string                 // problems; none when it is proven
	}{
		{"seen in time", func(e *evidence) string { return e.entry(accesstest.Signer("release"), early, nil) }, "release", nil},
		{"no log", nil, "", []string{"the key expired at"}},
		{"seen too late", func(e *evidence) string { return e.entry(accesstest.Signer("release"), time.Now(), nil) }, "release", []string{"the key expired at"}},
		{"committed by a stranger", func(e *evidence) string { return e.entry(accesstest.Signer("release"), early, nil) }, "mallory", []string{"the key expired at", "is no gateway's"}},
		{"signed by a gateway", func(e *evidence) string { return e.entry(accesstest.Signer("gw1"), early, nil) }, "release", []string{"the key expired at", "not signed by a release key"}},
		{"committed by a gateway", func(e *evidence) string { return e.entry(accesstest.Signer("release"), early, nil) }, "gw1", []string{"the key expired at", "releases/2.json"}},
		{"of another branch", func(e *evidence) string {
			return e.entry(accesstest.Signer("release"), early, func(env *release.Envelope) { env.Ref = "refs/heads/request" })
		}, "release", []string{"the key expired at"}},
		{"of another commit", func(e *evidence) string {
			return e.entry(accesstest.Signer("release"), early, func(env *release.Envelope) { env.Taken[0].Commit = e.git("rev-parse", "HEAD^") })
		}, "release", []string{"the key expired at"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := carols(t)
			if tt.entry != nil {
				e.push(write(tt.entry(e)), e.signWith(tt.by)...)
			}
			e.session("gw1", e.header)
			v := e.verify()
			for _, want := range tt.want {
				e.wantProblem(v, want)
			}
			if len(v.Problems) != len(tt.want) {
				t.Errorf("want %d problems, have %v", len(tt.want), v.Problems)
			}
		})
	}
}

// A session that a rule of the policies approved says so, and verify finds the rule
// true again, under the policies of that commit, and shows what it says.
func TestVerifyEvaluatesAutomaticApprovals(t *testing.T) {
	auto := func(t *testing.T, condition string) *evidence {
		e := newEvidence(t)
		e.access.Write(reviews.ConfigPath, reviews.KindConfig, "Config", "sallyport", `
  repository: https://git.example.com/access.git
  approvals:
    - {match: {kinds: [Principal, Connection, Policy]}, mode: signature, threshold: 1, groups: [reviewers]}
    - {match: {kinds: [AccessReview]}, mode: signature, auto: true, threshold: 1, groups: [reviewers]}
`)
		e.access.Policy("auto", "package access\n\nauto_approve contains \"reads of orders\" if {\n\t"+condition+"\n}\n")
		path := reviews.PathOf(reviews.KindReview, evidenceReview)
		e.access.Review(evidenceReview, 2, "agent:etl", "  allow: [{verbs: [select], on: [app.orders]}]\n")
		document := e.access.Files[path]
		e.access.Remove(path)
		e.access.Files[path] = document
		e.must(os.RemoveAll(filepath.Join(e.dir, path+".sigs")))
		commit := e.merge("asked for")
		e.header.ReviewCommit, e.header.ReleaseCommit, e.header.ReviewSHA256 = commit, commit, e.access.Digest(evidenceReview)
		e.header.Approvers = []string{reviews.AutoApproval}
		return e
	}
	t.Run("true", func(t *testing.T) {
		e := auto(t, `every rule in input.review.spec.allow { rule.verbs == ["select"] }`)
		e.session("gw1", e.header)
		v := e.verify()
		e.wantClean(v)
		want := automatic{evidenceReview, e.header.ReviewSHA256, e.header.ReleaseCommit, "reads of orders"}
		if len(v.Automatic) != 1 || v.Automatic[0] != want {
			t.Errorf("have %+v, want %+v", v.Automatic, want)
		}
	})
	for _, tt := range []struct {
		name, condition string
		change          func(e *evidence, h *record.Header)
		want            string
	}{
		{"not true", `input.review.spec.subject == "agent:report"`, nil, "not approved"},
		{"no rule", `false`, nil, "not approved"},
		{"true only under policies that came later", `false`, func(e *evidence, h *record.Header) {
			e.access.Policy("auto", "package access\n\nauto_approve contains \"anything\"\n")
			e.merge("later")
		}, "not approved"},
		{"and said to be by a person", `input.review.spec.subject == "agent:etl"`, func(_ *evidence, h *record.Header) {
			h.Approvers = []string{"user:bob"}
		}, "user:bob did not approve"},
		{"under a policy that nobody signed", `false`, func(e *evidence, h *record.Header) {
			path := "policies/auto.rego"
			signed := e.access.Files[path].Data
			e.access.Files[path].Data = []byte(strings.Replace(string(signed), "false", "true", 1))
			h.ReleaseCommit = e.merge("nobody signed")
			e.access.Files[path].Data = signed
			e.merge("back")
		}, "not approved"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := auto(t, tt.condition)
			h := e.header
			if tt.change != nil {
				tt.change(e, &h)
			}
			s := e.session("gw1", h)
			v := e.verify()
			e.wantProblem(v, s.Session, "it was not granted", tt.want)
		})
	}
}
