package syncer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/forge"
)

// Accounts on the forge of the tests.
const (
	accountAlice = 11
	accountBob   = 12
	accountCarol = 13 // not in the trust root unless a test says so
)

// giteaServer answers what a Gitea answers about one merged pull request, which
// alice opened. TestGiteaPlay plays the same with a real one.
type giteaServer struct {
	*httptest.Server
	mu        sync.Mutex
	head      string  // of the pull request
	merged    string  // commit on main
	approvals []int64 // accounts
	from      string  // owner/name that the branch is in
	files     []string
	asked     int // how often for approvals
}

func (g *giteaServer) set(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

func (g *giteaServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	user := func(id int64) map[string]any { return map[string]any{"id": id, "login": fmt.Sprint("u", id)} }
	at := start.Format(time.RFC3339)
	var answer any
	switch path := strings.TrimPrefix(r.URL.Path, "/api/v1/"); strings.TrimPrefix(path, "repos/root/access/") {
	case "settings/api":
		answer = map[string]int{"max_response_items": 50}
	case "commits/" + g.merged + "/pull":
		answer = map[string]any{
			"number": 7, "user": user(accountAlice), "state": "closed", "merged": true, "merged_at": at, "merge_commit_sha": g.merged,
			"created_at": at, "updated_at": at, "base": map[string]any{"label": "main"},
			"head": map[string]any{"label": "request", "sha": g.head, "repo": map[string]string{"full_name": g.from}},
		}
	case "git/refs/pull/7/head":
		answer = []any{map[string]any{"ref": "refs/pull/7/head", "object": map[string]string{"sha": g.head}}}
	case "pulls/7/commits":
		answer = []any{map[string]any{"sha": g.head, "author": user(accountAlice), "committer": user(accountAlice)}}
	case "issues/7/timeline":
		answer = []any{}
	case "activities/feeds":
		entry := func(content string) map[string]any {
			return map[string]any{"op_type": "commit_repo", "ref_name": "refs/heads/request", "content": content, "act_user": user(accountAlice), "created": at}
		}
		answer = []any{entry(`{"HeadCommit":{"Sha1":"` + g.head + `"}}`), entry("")} // pushed, and before that made
	case "pulls/7/reviews":
		g.asked++
		list := []any{}
		for i, id := range g.approvals {
			list = append(list, map[string]any{"id": i + 1, "user": user(id), "state": "APPROVED", "commit_id": g.head, "submitted_at": at})
		}
		answer = list
	case "pulls/7/files":
		list := []any{}
		for _, name := range g.files {
			list = append(list, map[string]string{"filename": name})
		}
		answer = list
	default:
		http.NotFound(w, r)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// onForge puts the access repo on a forge where one reviewer approves reviews in
// the pull request, and has its pull request 7, a review, merged.
func onForge(t *testing.T, approvals ...int64) (*harness, *giteaServer, *bytes.Buffer) {
	t.Helper()
	a := newAccess(t)
	g := &giteaServer{approvals: approvals, from: "root/access", files: []string{reviewPath("report")}}
	g.Server = httptest.NewServer(g)
	t.Cleanup(g.Close)
	a.people["attester"] = newKey(t)
	text := a.forgeRoot(1, "")
	a.write(reviews.RootPath, text)
	a.sign(reviews.RootPath, "user:bob")
	a.pin = digest([]byte(text))
	rules := strings.Replace(config(1), "mode: signature", "mode: forge", 1)
	a.write(reviews.ConfigPath, strings.Replace(rules, "  approvals:", fmt.Sprintf("  forge: {kind: gitea, url: %q, repository: root/access}\n  approvals:", g.URL), 1))
	a.sign(reviews.ConfigPath, "user:bob")
	a.commit("forge")
	a.run("checkout", "--quiet", "-b", "request")
	a.write(reviewPath("report"), review("report", 1, "app.items"))
	g.head = a.commit("ask")
	a.run("update-ref", "refs/pull/7/head", g.head)
	a.run("checkout", "--quiet", "main")
	a.run("merge", "--quiet", "--squash", "request")
	g.merged = a.commit("merged")

	var logged bytes.Buffer
	h := a.syncer()
	h.opt.Audit.Remote = a.auditRepo()
	h.opt.Attester = &Attester{Token: forge.Token("secret"), Key: a.people["attester"]}
	h.opt.Log = slog.New(slog.NewTextHandler(&logged, nil))
	h.restart()
	return h, g, &logged
}

// forgeRoot is a trust root of that version in which alice and bob have accounts,
// and carol has the one that is given as ", forge: {…}".
func (a *access) forgeRoot(version int, carol string) string {
	text := strings.Replace(a.root(), "version: 1", fmt.Sprintf("version: %d", version), 1)
	for name, account := range map[string]string{"alice": fmt.Sprintf(", forge: {gitea: %d}", accountAlice), "bob": fmt.Sprintf(", forge: {gitea: %d}", accountBob), "carol": carol} {
		text = strings.Replace(text, fmt.Sprintf(`"user:%s", keys`, name), fmt.Sprintf(`"user:%s"%s, keys`, name, account), 1)
	}
	return text + fmt.Sprintf("  attesters: [{key: %q}]\n", line(a.people["attester"]))
}

// later is a round after sync has waited to ask the forge again.
func (h *harness) later(granted string) Result {
	h.t.Helper()
	h.now = h.now.Add(2 * attestEvery)
	return h.expect(granted, "")
}

// attestationPath is that of the merged review.
func (h *harness) attestationPath() string {
	return reviews.AttestationPath(digest([]byte(h.a.read(reviewPath("report")))))
}

func (h *harness) attestation() string {
	h.t.Helper()
	return h.a.run("--git-dir", h.opt.Audit.Remote, "show", "audit:"+h.attestationPath())
}

// pushAudit has somebody who may push to the audit branch put a file on it.
func (h *harness) pushAudit(path, text string) {
	h.t.Helper()
	a, dir := h.a, filepath.Join(h.t.TempDir(), "clone")
	if a.run("--git-dir", h.opt.Audit.Remote, "branch", "--list", "audit") == "" {
		a.run("init", "--quiet", "--initial-branch=audit", dir)
	} else {
		a.run("clone", "--quiet", "--branch", "audit", h.opt.Audit.Remote, dir)
	}
	other := &access{t: h.t, git: a.git, dir: dir, clock: a.clock}
	for at := path; at != "."; at = filepath.Dir(at) { // whatever is in the way
		if info, err := os.Stat(filepath.Join(dir, at)); err == nil && (at == path || !info.IsDir()) {
			other.run("rm", "--quiet", "-r", "--", at)
		}
	}
	other.write(path, text)
	other.commit("not sync")
	other.run("push", "--quiet", h.opt.Audit.Remote, "HEAD:audit")
}

func TestForgeApproval(t *testing.T) {
	h, _, _ := onForge(t, accountBob)
	h.expect("etl#1 report#1", "")
	if !strings.Contains(h.attestation(), "payload") {
		t.Errorf("the audit branch holds %q", h.attestation())
	}
}

// Whoever pushed from a fork cannot be told, so an approval there may be their own.
func TestPushersOfAForkAreNotKnown(t *testing.T) {
	h, g, _ := onForge(t, accountBob)
	g.set(func() { g.from = "mallory/access" })
	r := h.expect("etl#1", "")
	if len(r.Pending) != 1 || r.Pending[0].Path != reviewPath("report") || !strings.Contains(r.Awaiting, "everybody who pushed") || !strings.Contains(r.Awaiting, "have the documents signed") {
		t.Errorf("pending %+v, awaiting %q", r.Pending, r.Awaiting)
	}
	if out := h.a.run("--git-dir", h.opt.Audit.Remote, "branch", "--list", "audit"); out != "" {
		t.Errorf("it was attested: %s", h.a.run("--git-dir", h.opt.Audit.Remote, "ls-tree", "-r", "--name-only", "audit"))
	}
	h.a.sign(reviewPath("report"), "user:bob")
	h.a.commit("signed instead")
	h.later("etl#1 report#1")
}

// An approval by an account that the trust root does not know is not the last
// word: what it brought waits until the account is known.
func TestStrangerBecomesKnown(t *testing.T) {
	h, g, _ := onForge(t, accountCarol)
	for range 3 {
		r := h.later("etl#1")
		if len(r.Pending) != 1 || len(r.Problems) > 0 || !strings.Contains(fmt.Sprint(r.Pending[0].Ignored), "account gitea/13 approved and belongs to nobody") {
			t.Fatalf("pending %+v, problems %v", r.Pending, r.Problems)
		}
	}
	attested := h.attestation()
	text := h.a.forgeRoot(2, fmt.Sprintf(", forge: {gitea: %d}", accountCarol))
	h.a.write(reviews.RootPath, text)
	h.a.sign(reviews.RootPath, "user:bob")
	h.a.commit("carol has an account")
	asked := g.asked
	h.expect("etl#1 report#1", "")
	if h.attestation() != attested || g.asked != asked {
		t.Error("what was attested did not do")
	}
}

// Another approval, given after the first was attested, is attested, too.
func TestAnotherApprovalIsAttested(t *testing.T) {
	h, g, logged := onForge(t, accountCarol)
	h.expect("etl#1", "")
	first := h.attestation()
	h.later("etl#1")
	if h.attestation() != first {
		t.Error("nothing was said anew, and something was attested")
	}
	g.set(func() { g.approvals = append(g.approvals, accountBob) })
	h.later("etl#1 report#1")
	granted := h.attestation()
	g.set(func() { g.approvals = append(g.approvals, accountAlice+100) })
	h.later("etl#1 report#1")
	if h.attestation() != granted {
		t.Error("an attestation that did was replaced")
	}
	if strings.Contains(logged.String(), "level=ERROR") {
		t.Errorf("a false alarm: %s", logged)
	}
}

// Whoever may push to the audit branch cannot keep a document from being attested,
// nor have anything believed: sync puts its own word in place, and says so.
func TestJunkOnTheAuditBranchIsReplaced(t *testing.T) {
	forged := func(h *harness, key ssh.Signer, approver int64, name string) string {
		sum := digest([]byte(h.a.read(reviewPath("report"))))
		b, err := reviews.Attest(reviews.ForgeApproval{
			Repo: repoID, Forge: "gitea", Repository: "root/access", PullRequest: 7, Base: "main", Head: "c0ffee",
			Contributors: []int64{accountAlice}, Approvals: []reviews.AccountApproval{{ID: approver, Commit: "c0ffee", At: start}}, AttestedAt: start,
		}, []reviews.Content{{Name: name, Digest: reviews.ContentDigest{SHA256: sum}}}, key)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, tt := range []struct {
		name string
		junk func(h *harness) (path, text string)
	}{
		{"junk", func(h *harness) (string, string) { return h.attestationPath(), "junk" }},
		{"nothing", func(h *harness) (string, string) { return h.attestationPath(), "" }},
		{"a folder", func(h *harness) (string, string) { return h.attestationPath() + "/x", "junk" }},
		{"a file in place of all", func(h *harness) (string, string) { return "approvals", "junk" }},
		{"a stranger's word for bob's", func(h *harness) (string, string) {
			return h.attestationPath(), forged(h, newKey(t), accountBob, reviewPath("report"))
		}},
		{"the attester's word for something else", func(h *harness) (string, string) {
			return h.attestationPath(), forged(h, h.a.people["attester"], accountBob, reviewPath("other"))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, g, logged := onForge(t)
			path, text := tt.junk(h)
			h.pushAudit(path, text)
			if r := h.expect("etl#1", ""); len(r.Pending) != 1 {
				t.Fatalf("pending %+v, problems %v", r.Pending, r.Problems)
			}
			if got := h.a.run("--git-dir", h.opt.Audit.Remote, "log", "--format=%s", "audit", "--", "approvals"); strings.Contains(got, "attest") {
				t.Errorf("nobody approved, and something was attested: %s", got)
			}
			g.set(func() { g.approvals = []int64{accountBob} })
			h.later("etl#1 report#1")
			if got := logged.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "find out who put it there") {
				t.Errorf("nobody was told: %s", got)
			}
			h.flush()
			h.pushAudit(path, text) // and once more, over what counted
			h.a.write("README.md", "a commit that makes sync look")
			h.a.commit("something else")
			h.expect("etl#1 report#1", "")
			h.flush() // fetches the branch
			h.later("etl#1 report#1")
		})
	}
}
