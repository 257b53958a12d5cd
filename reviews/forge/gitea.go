package forge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// gitea speaks Gitea's API, which Forgejo shares. What differs from GitHub, beneath names that look alike:
//
//   - a requested review is listed as a review, with the state REQUEST_REVIEW and no commit;
//   - a dismissal is no state but a flag: the review still reads APPROVED;
//   - stale and dismissed are set some time after the push that made them true;
//   - the head of a merged pull request is read from its branch, which lives on and can be pushed to. What was merged
//     is refs/pull/N/head.
type gitea struct {
	api   *url.URL // ends in the repository's path
	root  *url.URL
	repo  Repo
	calls *http.Client

	mu   sync.Mutex
	size int // of a page; 0 until asked for
}

// giteaPage is the most that is asked for on a page; a server may be set up to give less.
const giteaPage = 50

func newGitea(web *url.URL, repo Repo, token Token) *gitea {
	root := web.JoinPath("api", "v1")
	calls := newTransport(root, "token", token)
	calls.nulls = true
	return &gitea{api: root.JoinPath("repos", repo.Owner, repo.Name), root: root, repo: repo, calls: calls.client()}
}

// errNull is an answer of null, which is none, save for one list.
var errNull = errors.New("the forge's answer is not what was asked for: null")

// ask does one request. into may be nil.
func (g *gitea) ask(ctx context.Context, method string, at *url.URL, body, into any) (http.Header, error) {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, at.String(), sent)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := g.calls.Do(request)
	if err != nil {
		return nil, plain(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || into == nil {
		return response.Header, err
	}
	if isNull(text) {
		return nil, errNull
	}
	if err := json.Unmarshal(text, into); err != nil {
		return nil, fmt.Errorf("the forge's answer is not what was asked for: %w", err)
	}
	return response.Header, nil
}

func (g *gitea) get(ctx context.Context, into any, path ...string) error {
	_, err := g.ask(ctx, http.MethodGet, g.api.JoinPath(path...), nil, into)
	return err
}

// pageSize is how many entries the server puts on a page. Without it the end of a list cannot be told: Gitea counts reviews that it then
// leaves out, as unsent ones of others, so a short page is not the last.
func (g *gitea) pageSize(ctx context.Context) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.size != 0 {
		return g.size, nil
	}
	var settings struct {
		Max int `json:"max_response_items"`
	}
	if _, err := g.ask(ctx, http.MethodGet, g.root.JoinPath("settings", "api"), nil, &settings); err != nil {
		return 0, fmt.Errorf("the forge's page size: %w", err)
	}
	if settings.Max <= 0 {
		return 0, errors.New("the forge does not tell its page size")
	}
	g.size = min(settings.Max, giteaPage)
	return g.size, nil
}

// giteaList asks for one page. There are more when the count says so, when a link does, or, without a count, when the page is full.
func giteaList[T any](ctx context.Context, g *gitea, page int, query url.Values, path ...string) ([]T, bool, error) {
	size, err := g.pageSize(ctx)
	if err != nil {
		return nil, false, err
	}
	at := g.api.JoinPath(path...)
	if query == nil {
		query = url.Values{}
	}
	query.Set("page", strconv.Itoa(page))
	query.Set("limit", strconv.Itoa(size))
	at.RawQuery = query.Encode()
	var got []T
	header, err := g.ask(ctx, http.MethodGet, at, nil, &got)
	if err != nil {
		return nil, false, err
	}
	more := len(got) >= size
	if total, err := strconv.Atoi(header.Get("X-Total-Count")); err == nil {
		more = page*size < total
	}
	return got, more || strings.Contains(header.Get("Link"), `rel="next"`), nil
}

type giteaUser struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
}

// user is the zero User for nobody. Ids below 1 are Gitea's own: -1 is whoever is gone, -2 is Actions.
func (u *giteaUser) user() User {
	if u == nil {
		return User{}
	}
	return User{ID: u.ID, Login: u.Login, Bot: u.ID < 1}
}

type giteaBranch struct {
	Label string `json:"label"` // the branch, also when it is gone
	Ref   string `json:"ref"`
	SHA   string `json:"sha"`
	Repo  *struct {
		FullName string `json:"full_name"`
	} `json:"repo"`
}

type giteaPull struct {
	Number         int          `json:"number"`
	HTMLURL        string       `json:"html_url"`
	Title          string       `json:"title"`
	User           *giteaUser   `json:"user"`
	State          string       `json:"state"`
	Merged         bool         `json:"merged"`
	MergedAt       *time.Time   `json:"merged_at"`
	MergeCommitSHA *string      `json:"merge_commit_sha"`
	MergeBase      string       `json:"merge_base"`
	Created        time.Time    `json:"created_at"`
	Updated        time.Time    `json:"updated_at"`
	Base           *giteaBranch `json:"base"`
	Head           *giteaBranch `json:"head"`
}

// pullRequest turns one around. The head of a merged one is asked for apart.
func (g *gitea) pullRequest(ctx context.Context, p giteaPull) (*PullRequest, error) {
	if p.Base == nil || p.Head == nil || p.User == nil {
		return nil, errors.New("the forge's answer is not what was asked for: a pull request without author, base or head")
	}
	out := &PullRequest{
		Number: p.Number, URL: p.HTMLURL, Title: p.Title, Author: p.User.user(), Created: p.Created, Updated: p.Updated,
		Base: p.Base.Label, BaseCommit: p.MergeBase, Branch: p.Head.Label, Head: p.Head.SHA, Open: p.State == "open", Merged: p.Merged,
	}
	if p.Head.Repo != nil {
		out.HeadRepo = p.Head.Repo.FullName
	}
	if p.Merged {
		if p.MergedAt != nil && p.MergeCommitSHA != nil {
			out.MergedAt, out.MergeCommit = *p.MergedAt, *p.MergeCommitSHA
		}
		head, err := g.mergedHead(ctx, p.Number)
		if err != nil {
			return nil, fmt.Errorf("what pull request %d merged: %w", p.Number, err)
		}
		out.Head = head
	}
	return out, out.check()
}

// mergedHead is where refs/pull/N/head points. Gitea answers with a list of the refs that start so, and older ones with the ref itself
// when it is the only one.
func (g *gitea) mergedHead(ctx context.Context, number int) (string, error) {
	name := fmt.Sprintf("pull/%d/head", number)
	var answer json.RawMessage
	if err := g.get(ctx, &answer, "git", "refs", name); err != nil {
		return "", err
	}
	type ref struct {
		Ref    string `json:"ref"`
		Object struct {
			SHA string `json:"sha"`
		} `json:"object"`
	}
	refs := make([]ref, 1)
	if err := json.Unmarshal(answer, &refs); err != nil {
		if err := json.Unmarshal(answer, &refs[0]); err != nil {
			return "", fmt.Errorf("the forge's answer is not what was asked for: %w", err)
		}
	}
	for _, r := range refs {
		if r.Ref == "refs/"+name {
			return r.Object.SHA, nil
		}
	}
	return "", fmt.Errorf("the forge has no refs/%s", name)
}

func (g *gitea) self(ctx context.Context) (User, error) {
	var u giteaUser
	if _, err := g.ask(ctx, http.MethodGet, g.root.JoinPath("user"), nil, &u); err != nil {
		return User{}, err
	}
	if u.ID <= 0 {
		return User{}, errors.New("the forge does not say")
	}
	return u.user(), nil
}

func (g *gitea) pull(ctx context.Context, number int) (*PullRequest, error) {
	var p giteaPull
	if err := g.get(ctx, &p, "pulls", strconv.Itoa(number)); err != nil {
		return nil, err
	}
	return g.pullRequest(ctx, p)
}

func (g *gitea) pulls(ctx context.Context, open bool, base string, page int) ([]PullRequest, bool, error) {
	query := url.Values{"state": {"closed"}, "sort": {"recentupdate"}, "base_branch": {base}}
	if open {
		query.Set("state", "open")
		query.Set("sort", "oldest")
	}
	got, more, err := giteaList[giteaPull](ctx, g, page, query, "pulls")
	if err != nil {
		return nil, false, err
	}
	var out []PullRequest
	for _, p := range got {
		if p.Base != nil && p.Base.Label != base { // an older forge does not know the filter
			out = append(out, PullRequest{Number: p.Number, Base: p.Base.Label, Updated: p.Updated})
			continue
		}
		one, err := g.pullRequest(ctx, p)
		if err != nil {
			return nil, false, err
		}
		out = append(out, *one)
	}
	return out, more, nil
}

func (g *gitea) pullsOf(ctx context.Context, commit string) ([]PullRequest, error) {
	var p giteaPull
	err := g.get(ctx, &p, "commits", commit, "pull")
	if hasStatus(err, http.StatusNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	one, err := g.pullRequest(ctx, p)
	if err != nil {
		return nil, err
	}
	return []PullRequest{*one}, nil
}

func (g *gitea) reviews(ctx context.Context, number, page int) ([]Review, bool, error) {
	type review struct {
		ID        int64      `json:"id"`
		User      *giteaUser `json:"user"`
		State     string     `json:"state"`
		CommitID  string     `json:"commit_id"`
		Dismissed bool       `json:"dismissed"`
		Stale     bool       `json:"stale"`
		Submitted time.Time  `json:"submitted_at"`
	}
	got, more, err := giteaList[review](ctx, g, page, nil, "pulls", strconv.Itoa(number), "reviews")
	if err != nil {
		return nil, false, err
	}
	var out []Review
	for _, r := range got {
		one := Review{ID: r.ID, User: r.User.user(), Commit: r.CommitID, Submitted: r.Submitted, Stale: r.Stale}
		switch r.State {
		case "APPROVED":
			one.State = Approved
		case "REQUEST_CHANGES":
			one.State = ChangesRequested
		case "COMMENT", "PENDING", "REQUEST_REVIEW":
		default:
			return nil, false, fmt.Errorf("review %d has the state %q, which is not known", r.ID, r.State)
		}
		if one.State != "" && r.Dismissed {
			one.State = Dismissed
		}
		if one.State != "" && (r.ID <= 0 || r.User == nil || r.Submitted.IsZero()) {
			return nil, false, errors.New("the forge's answer is not what was asked for: a review without id, account or time")
		}
		out = append(out, one)
	}
	return out, more, nil
}

func (g *gitea) commits(ctx context.Context, p *PullRequest, page int) ([]commit, bool, error) {
	type entry struct {
		SHA       string     `json:"sha"`
		Author    *giteaUser `json:"author"`
		Committer *giteaUser `json:"committer"`
	}
	query := url.Values{"files": {"false"}, "stat": {"false"}, "verification": {"false"}}
	got, more, err := giteaList[entry](ctx, g, page, query, "pulls", strconv.Itoa(p.Number), "commits")
	if err != nil {
		return nil, false, err
	}
	var out []commit
	for _, c := range got {
		if !validCommit(c.SHA) {
			return nil, false, fmt.Errorf("the forge lists %q, which is no commit", c.SHA)
		}
		out = append(out, commit{id: c.SHA, author: c.Author.user(), committer: c.Committer.user()})
	}
	return out, more, nil
}

// feedPages bounds how far back a push is looked for, in pages of the repository's activities.
const feedPages = 40

// history reads the activities of the repository back to where the branch was made, and the pull request's own history.
func (g *gitea) history(ctx context.Context, p *PullRequest) (past history, err error) {
	type event struct {
		Type string     `json:"type"`
		User *giteaUser `json:"user"`
		Body string     `json:"body"`

		Created time.Time `json:"created_at"`
	}
	events, err := collect(func(page int) ([]event, bool, error) {
		// What Gitea counts here is the page itself, from which it has left out what is no event; an empty one is null.
		got, _, err := giteaList[event](ctx, g, page, nil, "issues", strconv.Itoa(p.Number), "timeline")
		if errors.Is(err, errNull) {
			err = nil
		}
		return got, len(got) > 0, err
	})
	if err != nil {
		return past, err
	}
	for _, e := range events {
		switch {
		case e.Type == "pull_push":
			past.pushes = append(past.pushes, timelinePush(e.User.user(), e.Body))
		case e.Type == "change_target_branch" && e.Created.After(past.retargeted):
			past.retargeted = e.Created
		}
	}
	if p.Branch == "" || !strings.EqualFold(p.HeadRepo, g.repo.String()) {
		return past, nil // of a fork the token sees nothing, and a branch that never was has no pushes
	}
	walk, more := pushWalk{branch: p.Branch, head: p.Head, opened: p.Created}, true
	for page := 1; more && !walk.over && page <= feedPages; page++ {
		var got []activity
		if got, more, err = giteaList[activity](ctx, g, page, nil, "activities", "feeds"); err != nil {
			return past, err
		}
		for _, a := range got {
			walk.see(a)
		}
	}
	past.pushes = append(past.pushes, walk.pushes...)
	past.all = walk.known() && (walk.over || !more)
	for _, p := range past.pushes {
		past.all = past.all && p.user.ID != 0
	}
	return past, nil
}

// timelinePush is a push as the history of the pull request tells it, with the commits that it brought.
func timelinePush(by User, body string) push {
	var told struct {
		Forced  bool     `json:"is_force_push"`
		Commits []string `json:"commit_ids"`
	}
	if json.Unmarshal([]byte(body), &told) != nil {
		return push{user: by}
	}
	return push{user: by, commits: told.Commits, forced: told.Forced}
}

// activity is an entry of a repository's feed. Making a branch is a push without content; the push itself comes after it.
type activity struct {
	OpType  string     `json:"op_type"`
	RefName string     `json:"ref_name"`
	Content string     `json:"content"`
	ActUser *giteaUser `json:"act_user"`
	Created time.Time  `json:"created"`
}

// head is the commit that the push left the branch at, as Gitea's own feed shows it.
func (a activity) head() string {
	var push struct {
		HeadCommit *struct{ Sha1 string }
	}
	if json.Unmarshal([]byte(a.Content), &push) != nil || push.HeadCommit == nil {
		return ""
	}
	return push.HeadCommit.Sha1
}

// push is what the entry tells of one.
func (a activity) push() push {
	made := push{user: a.ActUser.user()}
	var told struct{ CompareURL string }
	if json.Unmarshal([]byte(a.Content), &told) != nil {
		return made
	}
	_, span, _ := strings.Cut(told.CompareURL, "/compare/")
	before, after, _ := strings.Cut(span, "...")
	if validCommit(before) && validCommit(after) && after == a.head() {
		made.before, made.after = before, after
	}
	return made
}

// pushWalk reads a feed from its newest entry back to where a pull request's branch was made.
//
// Gitea writes entries from a queue, in whole seconds: that a branch was made can be told seconds after its pull request was opened, and
// the push of a commit that was approved and merged meanwhile not at all yet. So an entry counts as where the branch was made, also
// when it is younger than the pull request, if nothing older tells that the branch was there before (somebody may have removed and
// made it anew, to hide who pushed); and nothing is known before the push of the head itself is there.
type pushWalk struct {
	branch, head string
	opened       time.Time

	pushes  []push
	pushed  bool      // the push of head was seen
	made    time.Time // zero while unknown
	removed time.Time // the oldest removal so far
	over    bool      // what follows is older than matters
}

// feedDelay is more than a queue that works at all keeps an entry.
const feedDelay = time.Hour

func (w *pushWalk) see(a activity) {
	late := w.made.After(w.opened)
	switch {
	case !w.made.IsZero() && !late && a.Created.Before(w.made), late && a.Created.Before(w.opened.Add(-feedDelay)):
		w.over = true
	}
	if w.over || strings.TrimPrefix(a.RefName, "refs/heads/") != w.branch {
		return
	}
	switch a.OpType {
	case "delete_branch":
		w.removed = a.Created
		if late {
			w.made = time.Time{}
		}
	case "commit_repo":
		w.pushes = append(w.pushes, a.push())
		w.pushed = w.pushed || w.head != "" && a.head() == w.head
		switch {
		case a.Content == "" && !(a.Created.After(w.opened) && a.Created.Equal(w.removed)):
			w.made = a.Created
		case late && a.Created.Before(w.made):
			w.made = time.Time{}
		}
	}
}

func (w *pushWalk) known() bool { return w.pushed && !w.made.IsZero() }

func (g *gitea) files(ctx context.Context, number, page int) ([]string, bool, error) {
	type file struct {
		Filename string `json:"filename"`
		Previous string `json:"previous_filename"`
	}
	got, more, err := giteaList[file](ctx, g, page, nil, "pulls", strconv.Itoa(number), "files")
	var names []string
	for _, f := range got {
		names = append(names, f.Filename)
		if f.Previous != "" {
			names = append(names, f.Previous)
		}
	}
	return names, more, err
}

func (g *gitea) open(ctx context.Context, n New) (*PullRequest, error) {
	var p giteaPull
	_, err := g.ask(ctx, http.MethodPost, g.api.JoinPath("pulls"),
		map[string]string{"base": n.Base, "head": n.Branch, "title": n.Title, "body": n.Body}, &p)
	if err != nil {
		return nil, err
	}
	return g.pullRequest(ctx, p)
}

// comments come in one answer: Gitea does not page those of one issue.
func (g *gitea) comments(ctx context.Context, number, _ int) ([]comment, bool, error) {
	var got []struct {
		ID   int64      `json:"id"`
		User *giteaUser `json:"user"`
		Body string     `json:"body"`
	}
	if err := g.get(ctx, &got, "issues", strconv.Itoa(number), "comments"); err != nil {
		return nil, false, err
	}
	var out []comment
	for _, c := range got {
		out = append(out, comment{id: c.ID, user: c.User.user(), body: c.Body})
	}
	return out, false, nil
}

func (g *gitea) comment(ctx context.Context, number int, id int64, body string) error {
	method, at := http.MethodPost, g.api.JoinPath("issues", strconv.Itoa(number), "comments")
	if id != 0 {
		method, at = http.MethodPatch, g.api.JoinPath("issues", "comments", strconv.FormatInt(id, 10))
	}
	_, err := g.ask(ctx, method, at, map[string]string{"body": body}, nil)
	return err
}

func (g *gitea) status(ctx context.Context, id string, s Status) error {
	_, err := g.ask(ctx, http.MethodPost, g.api.JoinPath("statuses", id),
		map[string]string{"context": s.Context, "state": string(s.Verdict), "description": s.Description, "target_url": s.URL}, nil)
	return err
}

// verdicts are each context's latest status; Gitea has put a history of its own behind another address.
func (g *gitea) verdicts(ctx context.Context, id string) ([]verdict, error) {
	size, err := g.pageSize(ctx)
	if err != nil {
		return nil, err
	}
	return collect(func(page int) ([]verdict, bool, error) {
		at := g.api.JoinPath("commits", id, "status")
		at.RawQuery = url.Values{"page": {strconv.Itoa(page)}, "limit": {strconv.Itoa(size)}}.Encode()
		var got struct {
			Statuses []struct {
				Context string `json:"context"`
				State   string `json:"status"`
			} `json:"statuses"`
		}
		if _, err := g.ask(ctx, http.MethodGet, at, nil, &got); err != nil {
			return nil, false, err
		}
		var out []verdict
		for _, s := range got.Statuses {
			v := verdict{name: s.Context, says: Verdict(s.State)}
			if s.State == "skipped" {
				v.says = Success
			}
			out = append(out, v)
		}
		return out, len(got.Statuses) >= size, nil
	})
}

func (g *gitea) methods(ctx context.Context) ([]string, error) {
	var r struct {
		Name   string `json:"name"`
		Squash bool   `json:"allow_squash_merge"`
		Merge  bool   `json:"allow_merge_commits"`
		Rebase bool   `json:"allow_rebase"`
	}
	if err := g.get(ctx, &r); err != nil {
		return nil, err
	}
	if !strings.EqualFold(r.Name, g.repo.Name) {
		return nil, fmt.Errorf("the forge answers with repository %q", r.Name)
	}
	return allowed(r.Squash, r.Merge, r.Rebase), nil
}

// merge leaves force_merge out, with which an administrator overrides the protection.
func (g *gitea) merge(ctx context.Context, number int, head, method string) error {
	_, err := g.ask(ctx, http.MethodPost, g.api.JoinPath("pulls", strconv.Itoa(number), "merge"), map[string]string{"Do": method, "head_commit_id": head}, nil)
	return err
}

type giteaRule struct {
	Name                string   `json:"rule_name"`
	EnablePush          bool     `json:"enable_push"`
	EnablePushWhitelist bool     `json:"enable_push_whitelist"`
	PushUsers           []string `json:"push_whitelist_usernames"`
	PushTeams           []string `json:"push_whitelist_teams"`
	PushDeployKeys      bool     `json:"push_whitelist_deploy_keys"`
	EnableForcePush     bool     `json:"enable_force_push"`
	EnableStatusCheck   bool     `json:"enable_status_check"`
	StatusContexts      []string `json:"status_check_contexts"`
	RequiredApprovals   int      `json:"required_approvals"`
	BlockOnRejected     bool     `json:"block_on_rejected_reviews"`
	DismissStale        bool     `json:"dismiss_stale_approvals"`
	BlockAdminOverride  bool     `json:"block_admin_merge_override"`
	UnprotectedPatterns string   `json:"unprotected_file_patterns"`
}

// protection asks the branch which rule binds it, and then for that rule.
func (g *gitea) protection(ctx context.Context, branch string) (*Protection, error) {
	var b struct {
		Name      string `json:"name"`
		Protected bool   `json:"protected"`
		Rule      string `json:"effective_branch_protection_name"`
	}
	if err := g.get(ctx, &b, "branches", escape(branch)); err != nil {
		return nil, err
	}
	if b.Name != branch {
		return nil, fmt.Errorf("the forge answers with branch %q", b.Name)
	}
	p := &Protection{ForcePush: true, Deletion: true}
	if !b.Protected {
		return p, nil
	}
	p.Deletion = false // Gitea deletes no protected branch
	if b.Rule == "" {
		p.Unseen = append(p.Unseen, "the rule of the branch")
		return p, nil
	}
	var r giteaRule
	err := g.get(ctx, &r, "branch_protections", url.PathEscape(b.Rule))
	if hasStatus(err, http.StatusForbidden, http.StatusNotFound) {
		p.Unseen = append(p.Unseen, "the rule "+b.Rule)
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	if r.Name != b.Rule {
		return nil, fmt.Errorf("the forge answers with rule %q for %q", r.Name, b.Rule)
	}
	r.into(p)
	return p, nil
}

func (r *giteaRule) into(p *Protection) {
	p.PullRequests = !r.EnablePush || r.EnablePushWhitelist
	if r.EnablePush && r.EnablePushWhitelist {
		for _, u := range r.PushUsers {
			p.Bypass = append(p.Bypass, "user "+u+" pushes directly")
		}
		for _, team := range r.PushTeams {
			p.Bypass = append(p.Bypass, "team "+team+" pushes directly")
		}
		if r.PushDeployKeys {
			p.Bypass = append(p.Bypass, "deploy keys push directly")
		}
	}
	p.ForcePush = r.EnablePush && r.EnableForcePush
	p.Approvals, p.DismissStale, p.Rejections = r.RequiredApprovals, r.DismissStale, r.BlockOnRejected
	if r.EnableStatusCheck {
		p.Checks = r.StatusContexts
	}
	if !r.BlockAdminOverride {
		p.Bypass = append(p.Bypass, "administrators merge without approvals and checks")
	}
	if r.UnprotectedPatterns != "" {
		p.Bypass = append(p.Bypass, "anybody with write access pushes files that match "+r.UnprotectedPatterns)
	}
}
