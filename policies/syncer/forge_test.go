package syncer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
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
	asked     int    // how often for approvals
	reviewed  string // the commit that was approved, "" for head
	signed    []forgePush
	retarget  time.Time // when the pull request was pointed at main, zero for at once
	requests  int
	limit     time.Duration // for which it refuses every request
}

// forgePush is one to the branch of the pull request, of one commit, after alice's.
type forgePush struct {
	who           int64
	before, after string
}

func (g *giteaServer) set(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

// first is alice's commit.
func (g *giteaServer) first() string {
	if len(g.signed) > 0 {
		return g.signed[0].before
	}
	return g.head
}

func (g *giteaServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests++
	if g.limit > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(int(g.limit.Seconds())))
		http.Error(w, "{}", http.StatusTooManyRequests)
		return
	}
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
		list := []any{map[string]any{"sha": g.first(), "author": user(accountAlice), "committer": user(accountAlice)}}
		for _, p := range g.signed {
			list = append(list, map[string]any{"sha": p.after, "author": user(p.who), "committer": user(p.who)})
		}
		answer = list
	case "issues/7/timeline":
		list := []any{}
		if r.URL.Query().Get("page") == "1" && !g.retarget.IsZero() {
			list = append(list, map[string]any{"type": "change_target_branch", "user": user(accountAlice), "created_at": g.retarget.Format(time.RFC3339)})
		}
		answer = list
	case "activities/feeds":
		entry := func(who int64, content string) any {
			return map[string]any{"op_type": "commit_repo", "ref_name": "refs/heads/request", "content": content, "act_user": user(who), "created": at}
		}
		list := []any{}
		for _, p := range slices.Backward(g.signed) {
			list = append(list, entry(p.who, `{"HeadCommit":{"Sha1":"`+p.after+`"},"CompareURL":"root/access/compare/`+p.before+"..."+p.after+`"}`))
		}
		answer = append(list, entry(accountAlice, `{"HeadCommit":{"Sha1":"`+g.first()+`"}}`), entry(accountAlice, "")) // pushed, and before that made
	case "pulls/7/reviews":
		g.asked++
		list := []any{}
		for i, id := range g.approvals {
			list = append(list, map[string]any{"id": i + 1, "user": user(id), "state": "APPROVED", "commit_id": cmp.Or(g.reviewed, g.head), "submitted_at": at})
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
	return onForgeWith(t, "", approvals...)
}

// onForgeWith also gives carol an account, written as ", forge: {…}".
func onForgeWith(t *testing.T, carol string, approvals ...int64) (*harness, *giteaServer, *bytes.Buffer) {
	t.Helper()
	a := newAccess(t)
	g := &giteaServer{approvals: approvals, from: "root/access", files: []string{reviewPath("report")}}
	g.Server = httptest.NewServer(g)
	t.Cleanup(g.Close)
	a.people["attester"] = newKey(t)
	text := a.forgeRoot(1, carol)
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
	g.merge(a)

	var logged bytes.Buffer
	h := a.syncer()
	h.opt.Audit.Remote = a.auditRepo()
	h.opt.Attester = &Attester{Token: forge.Token("secret"), Key: a.people["attester"]}
	h.opt.Log = slog.New(slog.NewTextHandler(&logged, nil))
	h.restart()
	return h, g, &logged
}

// pushed has somebody add a commit to the pull request after it was approved, and has it merged anew.
func (g *giteaServer) pushed(h *harness, who int64, change func(a *access)) {
	a := h.a
	a.run("checkout", "--quiet", "request")
	change(a)
	before := g.head
	after := a.commit("and another")
	g.set(func() {
		g.reviewed, g.head = before, after
		g.signed = append(g.signed, forgePush{who, before, after})
	})
	a.run("checkout", "--quiet", "main")
	a.run("reset", "--quiet", "--hard", "HEAD~1")
	g.merge(a)
}

// Who signs after another approved in the forge voids nothing, and stays somebody who may approve: whatever else comes with
// the signature, or by whomever it comes, it is a push like any other.
func TestSignatureVoidsNoApproval(t *testing.T) {
	path, etl := reviewPath("report"), reviewPath("etl")
	// put writes, in the place of who's signature of a document, what key makes of other bytes.
	put := func(a *access, name, who string, key ssh.Signer, signed string) {
		namespace := reviews.NamespaceReview
		if name == principalPath {
			namespace = reviews.NamespacePrincipal
		}
		armored, err := reviews.Sign(key, namespace, []byte(signed))
		if err != nil {
			t.Fatal(err)
		}
		a.write(reviews.SidecarPath(name, who, a.people[who].PublicKey()), string(armored))
	}
	carol := func(a *access, name string) { put(a, name, "user:carol", a.people["user:carol"], a.read(name)) }
	for name, tt := range map[string]struct {
		who     int64
		change  func(a *access)
		granted string
	}{
		"bob signs":           {accountBob, func(a *access) { put(a, path, "user:bob", a.people["user:bob"], a.read(path)) }, "etl#1 report#1"},
		"carol signs":         {accountCarol, func(a *access) { carol(a, etl) }, "etl#1 report#1"},
		"carol signs two":     {accountCarol, func(a *access) { carol(a, principalPath); carol(a, etl) }, "etl#1 report#1"},
		"bob pushes carol's":  {accountBob, func(a *access) { carol(a, etl) }, "etl#1"},
		"alice's and carol's": {accountCarol, func(a *access) { carol(a, etl); put(a, etl, "user:alice", a.people["user:alice"], a.read(etl)) }, "etl#1"},
		"junk in carol's name": {accountCarol, func(a *access) {
			a.write(reviews.SidecarPath(etl, "user:carol", a.people["user:carol"].PublicKey()), "junk")
		}, "etl#1"},
		"of other bytes":         {accountCarol, func(a *access) { put(a, etl, "user:carol", a.people["user:carol"], a.read(path)) }, "etl#1"},
		"of no document":         {accountCarol, func(a *access) { put(a, "README.md", "user:carol", a.people["user:carol"], "") }, "etl#1"},
		"under alice's name":     {accountCarol, func(a *access) { put(a, etl, "user:alice", a.people["user:carol"], a.read(etl)) }, "etl#1"},
		"by a key of nobody":     {accountCarol, func(a *access) { a.people["user:carol"] = newKey(t); carol(a, etl) }, "etl#1"},
		"with a file of no kind": {accountCarol, func(a *access) { carol(a, etl); a.write("README.md", "hello") }, "etl#1"},
		"with another document":  {accountCarol, func(a *access) { carol(a, etl); a.write(reviewPath("other"), review("other", 1, "app.items")) }, "etl#1"},
		"with a change":          {accountCarol, func(a *access) { carol(a, etl); a.write(principalPath, a.read(principalPath)+"# more\n") }, ""},
		"with a signature less":  {accountCarol, func(a *access) { carol(a, etl); a.remove(principalPath + ".sigs") }, ""},
		"with bob's replaced":    {accountCarol, func(a *access) { carol(a, principalPath); put(a, etl, "user:bob", a.people["user:carol"], "x") }, ""},
		"a commit of nothing":    {accountCarol, func(*access) {}, "etl#1"},
	} {
		t.Run(name, func(t *testing.T) {
			h, g, _ := onForgeWith(t, fmt.Sprintf(", forge: {gitea: %d}", accountCarol), accountBob)
			g.pushed(h, tt.who, tt.change)
			h.expect(tt.granted, "")
			if stands, attested := strings.Contains(tt.granted, "report"), h.a.run("--git-dir", h.opt.Audit.Remote, "branch", "--list", "audit") != ""; attested && !stands {
				t.Errorf("it was attested: %s", h.attestation())
			}
		})
	}
}

// merge merges the branch as it stands.
func (g *giteaServer) merge(a *access) {
	a.run("update-ref", "refs/pull/7/head", g.head)
	a.run("checkout", "--quiet", "main")
	a.run("reset", "--quiet", "--hard", "HEAD")
	a.run("merge", "--quiet", "--squash", "request")
	g.merged = a.commit("merged")
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
	h.now = h.now.Add(attestLate)
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

// What was approved while the pull request went to another branch, of which it showed a harmless part, is another change.
func TestApprovalBeforeRetargeting(t *testing.T) {
	h, g, _ := onForge(t, accountBob)
	g.set(func() { g.retarget = start })
	if r := h.expect("etl#1", ""); !strings.Contains(r.Awaiting, "before it was pointed at branch main") {
		t.Errorf("awaiting %q", r.Awaiting)
	}
	g.set(func() { g.retarget = start.Add(-time.Second) })
	h.later("etl#1 report#1")
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

// What waits for long is asked about ever more seldom, soon again after a commit or a
// webhook, and not at all before the forge wants to be asked.
func TestForgeIsAskedLess(t *testing.T) {
	h, g, _ := onForge(t)
	asksIn := func(d time.Duration) int {
		t.Helper()
		before := g.asked
		for end := h.now.Add(d); h.now.Before(end); h.now = h.now.Add(max(time.Second, d/200)) {
			h.once()
		}
		return g.asked - before
	}
	first, second, later := asksIn(30*time.Second), asksIn(30*time.Second), asksIn(20*time.Minute)
	if first < 5 || first > 15 || second < 1 || second > 6 || later < 4 || later > 25 {
		t.Errorf("asked %d times in half a minute, %d in the next one, %d in 20 minutes", first, second, later)
	}
	if late := asksIn(30 * time.Minute); late < 5 || late > 8 {
		t.Errorf("asked %d times in half an hour, long after", late)
	}
	h.askSooner()
	if woken := asksIn(10 * time.Second); woken < 1 || woken > 3 {
		t.Errorf("asked %d times after a webhook", woken)
	}
	asksIn(time.Hour)
	h.a.write("README.md", "hello")
	h.a.commit("something else")
	if again := asksIn(5 * time.Second); again < 2 {
		t.Errorf("asked %d times after a commit", again)
	}
	g.set(func() { g.limit = time.Hour })
	h.now = time.Now() // by which a forge's limits are counted
	h.a.commit("another")
	r := h.once()
	requests := g.requests
	h.a.commit("yet another")
	if asksIn(time.Minute); g.requests != requests || !strings.Contains(r.Awaiting, "rate limit") {
		t.Errorf("%d requests after %q", g.requests-requests, r.Awaiting)
	}
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
