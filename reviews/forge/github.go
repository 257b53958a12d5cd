package forge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-github/v60/github"
)

// gitHub speaks GitHub's REST API through go-github. Its transport is ours, so go-github sees only whole answers of 2xx.
type gitHub struct {
	api         *github.Client
	owner, name string
}

const (
	gitHubPage = 100
	// What GitHub lists of one pull request and no more. A list of this length may be cut short.
	maxCommits = 250
	maxFiles   = 3000
)

func newGitHub(web *url.URL, repo Repo, token Token) (*gitHub, error) {
	api := web.JoinPath("api", "v3")
	if web.Host == "github.com" {
		api = &url.URL{Scheme: "https", Host: "api.github.com"}
	}
	client := github.NewClient(newTransport(api, "Bearer", token).client())
	base, err := url.Parse(api.String() + "/")
	if err != nil {
		return nil, err
	}
	client.BaseURL = base
	return &gitHub{api: client, owner: repo.Owner, name: repo.Name}, nil
}

// more says whether a list goes on. A full page without a link to the next one is not taken for the last.
func more(r *github.Response, got int) bool { return got > 0 && (r.NextPage != 0 || got >= gitHubPage) }

func gitHubOptions(page int) github.ListOptions {
	return github.ListOptions{Page: page, PerPage: gitHubPage}
}

// gitHubUser is the zero User for nobody: GitHub says null of whoever is gone.
func gitHubUser(u *github.User) User {
	if u == nil {
		return User{}
	}
	return User{ID: u.GetID(), Login: u.GetLogin(), Bot: u.GetType() != "User"}
}

func (g *gitHub) pullRequest(p *github.PullRequest) (*PullRequest, error) {
	if p.Base == nil || p.Head == nil {
		return nil, errors.New("the forge's answer is not what was asked for: a pull request without base or head")
	}
	out := &PullRequest{
		Number: p.GetNumber(), URL: p.GetHTMLURL(), Title: p.GetTitle(), Author: gitHubUser(p.User),
		Created: p.GetCreatedAt().Time, Updated: p.GetUpdatedAt().Time,
		Base: p.Base.GetRef(), BaseCommit: p.Base.GetSHA(), Branch: p.Head.GetRef(), HeadRepo: p.Head.GetRepo().GetFullName(), Head: p.Head.GetSHA(),
		Open: p.GetState() == "open", Merged: p.MergedAt != nil,
	}
	if out.Merged { // before that, merge_commit_sha is a commit that GitHub only tries out
		out.MergedAt, out.MergeCommit = p.GetMergedAt().Time, p.GetMergeCommitSHA()
	}
	return out, out.check()
}

func (g *gitHub) self(ctx context.Context) (User, error) {
	u, _, err := g.api.Users.Get(ctx, "")
	if err != nil {
		if hasStatus(err, http.StatusForbidden) {
			return User{}, fmt.Errorf("%w; a token of GitHub Actions cannot ask: set its account id, 41898282", plain(err))
		}
		return User{}, plain(err)
	}
	if u.GetID() == 0 {
		return User{}, errors.New("the forge does not say")
	}
	return gitHubUser(u), nil
}

func (g *gitHub) pull(ctx context.Context, number int) (*PullRequest, error) {
	p, _, err := g.api.PullRequests.Get(ctx, g.owner, g.name, number)
	if err != nil {
		return nil, plain(err)
	}
	return g.pullRequest(p)
}

func (g *gitHub) pulls(ctx context.Context, open bool, base string, page int) ([]PullRequest, bool, error) {
	options := &github.PullRequestListOptions{State: "closed", Base: base, Sort: "updated", Direction: "desc", ListOptions: gitHubOptions(page)}
	if open {
		options.State, options.Sort, options.Direction = "open", "created", "asc"
	}
	got, response, err := g.api.PullRequests.List(ctx, g.owner, g.name, options)
	if err != nil {
		return nil, false, plain(err)
	}
	out, err := g.pullRequests(got)
	return out, more(response, len(got)), err
}

func (g *gitHub) pullRequests(got []*github.PullRequest) ([]PullRequest, error) {
	var out []PullRequest
	for _, p := range got {
		one, err := g.pullRequest(p)
		if err != nil {
			return nil, err
		}
		out = append(out, *one)
	}
	return out, nil
}

func (g *gitHub) pullsOf(ctx context.Context, commit string) ([]PullRequest, error) {
	return collect(func(page int) ([]PullRequest, bool, error) {
		options := gitHubOptions(page)
		got, response, err := g.api.PullRequests.ListPullRequestsWithCommit(ctx, g.owner, g.name, commit, &options)
		if err != nil {
			return nil, false, plain(err)
		}
		out, err := g.pullRequests(got)
		return out, more(response, len(got)), err
	})
}

func (g *gitHub) reviews(ctx context.Context, number, page int) ([]Review, bool, error) {
	options := gitHubOptions(page)
	got, response, err := g.api.PullRequests.ListReviews(ctx, g.owner, g.name, number, &options)
	if err != nil {
		return nil, false, plain(err)
	}
	var out []Review
	for _, r := range got {
		one := Review{ID: r.GetID(), User: gitHubUser(r.User), Commit: r.GetCommitID(), Submitted: r.GetSubmittedAt().Time}
		switch r.GetState() {
		case "APPROVED":
			one.State = Approved
		case "CHANGES_REQUESTED":
			one.State = ChangesRequested
		case "DISMISSED":
			one.State = Dismissed
		case "COMMENTED", "PENDING":
		default:
			return nil, false, fmt.Errorf("review %d has the state %q, which is not known", r.GetID(), r.GetState())
		}
		// Of whoever is gone GitHub says null: their review counts for nobody.
		if one.State != "" && (one.ID <= 0 || r.User != nil && one.User.ID <= 0 || one.Submitted.IsZero()) {
			return nil, false, errors.New("the forge's answer is not what was asked for: a review without id, account or time")
		}
		out = append(out, one)
	}
	return out, more(response, len(got)), nil
}

func (g *gitHub) commits(ctx context.Context, p *PullRequest, page int) ([]commit, bool, error) {
	options := gitHubOptions(page)
	got, response, err := g.api.PullRequests.ListCommits(ctx, g.owner, g.name, p.Number, &options)
	if err != nil {
		return nil, false, plain(err)
	}
	if (page-1)*gitHubPage+len(got) >= maxCommits {
		return nil, false, fmt.Errorf("it has %d commits or more, and GitHub lists no more than that: squash them", maxCommits)
	}
	var out []commit
	for _, c := range got {
		if !validCommit(c.GetSHA()) {
			return nil, false, fmt.Errorf("the forge lists %q, which is no commit", c.GetSHA())
		}
		out = append(out, commit{id: c.GetSHA(), author: gitHubUser(c.Author), committer: gitHubUser(c.Committer)})
	}
	return out, more(response, len(got)), nil
}

// history reads what the forge tells of the pull request, and of its branch.
func (g *gitHub) history(ctx context.Context, p *PullRequest) (past history, err error) {
	events, err := collect(func(page int) ([]*github.IssueEvent, bool, error) {
		options := gitHubOptions(page)
		got, response, err := g.api.Issues.ListIssueEvents(ctx, g.owner, g.name, p.Number, &options)
		if err != nil {
			return nil, false, plain(err)
		}
		return got, more(response, len(got)), nil
	})
	if err != nil {
		return past, err
	}
	for _, e := range events {
		switch e.GetEvent() {
		case "base_ref_changed", "automatic_base_change_succeeded":
			if at := e.GetCreatedAt().Time; at.After(past.retargeted) {
				past.retargeted = at
			}
		}
	}
	past.pushes, past.all, err = g.pushers(ctx, p)
	return past, err
}

// pushers reads the branch's activity back to where it was made.
func (g *gitHub) pushers(ctx context.Context, p *PullRequest) ([]push, bool, error) {
	if p.Branch == "" || p.HeadRepo == "" {
		return nil, false, nil
	}
	query := url.Values{"ref": {"refs/heads/" + p.Branch}, "per_page": {strconv.Itoa(gitHubPage)}}
	var pushes []push
	known := true
	for page := 1; page <= maxPages; page++ {
		request, err := g.api.NewRequest(http.MethodGet, "repos/"+p.HeadRepo+"/activity?"+query.Encode(), nil)
		if err != nil {
			return nil, false, err
		}
		var got []struct {
			Type      string           `json:"activity_type"`
			Ref       string           `json:"ref"`
			Before    string           `json:"before"`
			After     string           `json:"after"`
			Timestamp github.Timestamp `json:"timestamp"`
			Actor     *github.User     `json:"actor"`
		}
		response, err := g.api.Do(ctx, request, &got)
		if hasStatus(err, http.StatusForbidden, http.StatusNotFound) {
			return nil, false, nil // a fork that the token may not see
		}
		if err != nil {
			return nil, false, plain(err)
		}
		for _, a := range got {
			if a.Ref != query.Get("ref") {
				continue
			}
			u := gitHubUser(a.Actor)
			known = known && u.ID != 0
			made := push{user: u, forced: a.Type != "push"}
			if validCommit(a.Before) && validCommit(a.After) {
				made.before, made.after = a.Before, a.After
			}
			pushes = append(pushes, made)
			if a.Type == "branch_creation" && !a.Timestamp.After(p.Created) {
				return pushes, known, nil
			}
		}
		if response.After == "" {
			return pushes, false, nil
		}
		query.Set("after", response.After)
	}
	return nil, false, fmt.Errorf("more than %d pages", maxPages)
}

func (g *gitHub) files(ctx context.Context, number, page int) ([]string, bool, error) {
	options := gitHubOptions(page)
	got, response, err := g.api.PullRequests.ListFiles(ctx, g.owner, g.name, number, &options)
	if err != nil {
		return nil, false, plain(err)
	}
	if (page-1)*gitHubPage+len(got) >= maxFiles {
		return nil, false, fmt.Errorf("it changes %d files or more, and GitHub lists no more than that: split it", maxFiles)
	}
	var names []string
	for _, f := range got {
		names = append(names, f.GetFilename())
		if f.GetPreviousFilename() != "" {
			names = append(names, f.GetPreviousFilename())
		}
	}
	return names, more(response, len(got)), nil
}

func (g *gitHub) open(ctx context.Context, n New) (*PullRequest, error) {
	p, _, err := g.api.PullRequests.Create(ctx, g.owner, g.name, &github.NewPullRequest{Title: &n.Title, Head: &n.Branch, Base: &n.Base, Body: &n.Body})
	if err != nil {
		return nil, plain(err)
	}
	return g.pullRequest(p)
}

func (g *gitHub) comments(ctx context.Context, number, page int) ([]comment, bool, error) {
	got, response, err := g.api.Issues.ListComments(ctx, g.owner, g.name, number, &github.IssueListCommentsOptions{ListOptions: gitHubOptions(page)})
	if err != nil {
		return nil, false, plain(err)
	}
	var out []comment
	for _, c := range got {
		out = append(out, comment{id: c.GetID(), user: gitHubUser(c.User), body: c.GetBody()})
	}
	return out, more(response, len(got)), nil
}

func (g *gitHub) comment(ctx context.Context, number int, id int64, body string) (err error) {
	sent := &github.IssueComment{Body: &body}
	if id == 0 {
		_, _, err = g.api.Issues.CreateComment(ctx, g.owner, g.name, number, sent)
	} else {
		_, _, err = g.api.Issues.EditComment(ctx, g.owner, g.name, id, sent)
	}
	return plain(err)
}

func (g *gitHub) status(ctx context.Context, commit string, s Status) error {
	sent := &github.RepoStatus{State: github.String(string(s.Verdict)), Context: &s.Context, Description: &s.Description}
	if s.URL != "" {
		sent.TargetURL = &s.URL
	}
	_, _, err := g.api.Repositories.CreateStatus(ctx, g.owner, g.name, commit, sent)
	return plain(err)
}

// verdicts are the statuses, of which GitHub lists each context's latest, and the check runs, in which GitHub Actions and apps speak.
func (g *gitHub) verdicts(ctx context.Context, commit string) ([]verdict, error) {
	statuses, err := collect(func(page int) ([]verdict, bool, error) {
		options := gitHubOptions(page)
		got, response, err := g.api.Repositories.GetCombinedStatus(ctx, g.owner, g.name, commit, &options)
		if err != nil {
			return nil, false, plain(err)
		}
		var out []verdict
		for _, s := range got.Statuses {
			out = append(out, verdict{name: s.GetContext(), says: Verdict(s.GetState())})
		}
		return out, more(response, len(out)), nil
	})
	if err != nil {
		return nil, err
	}
	runs, err := collect(func(page int) ([]verdict, bool, error) {
		got, response, err := g.api.Checks.ListCheckRunsForRef(ctx, g.owner, g.name, commit, &github.ListCheckRunsOptions{ListOptions: gitHubOptions(page)})
		if err != nil {
			return nil, false, plain(err)
		}
		var out []verdict
		for _, r := range got.CheckRuns {
			out = append(out, verdict{name: r.GetName(), says: concluded(r)})
		}
		return out, more(response, len(out)), nil
	})
	return append(statuses, runs...), err
}

func concluded(r *github.CheckRun) Verdict {
	if r.GetStatus() != "completed" {
		return Pending
	}
	switch r.GetConclusion() {
	case "success", "neutral", "skipped": // what lets a required check pass
		return Success
	}
	return Failure
}

// methods are shown to who may push, which a token that merges can.
func (g *gitHub) methods(ctx context.Context) ([]string, error) {
	r, _, err := g.api.Repositories.Get(ctx, g.owner, g.name)
	if err != nil {
		return nil, plain(err)
	}
	if !strings.EqualFold(r.GetName(), g.name) {
		return nil, fmt.Errorf("the forge answers with repository %q", r.GetName())
	}
	return allowed(r.GetAllowSquashMerge(), r.GetAllowMergeCommit(), r.GetAllowRebaseMerge()), nil
}

func (g *gitHub) merge(ctx context.Context, number int, head, method string) error {
	done, _, err := g.api.PullRequests.Merge(ctx, g.owner, g.name, number, "", &github.PullRequestOptions{SHA: head, MergeMethod: method})
	if err != nil {
		return plain(err)
	}
	if !done.GetMerged() {
		return errors.New("the forge does not say that it merged it")
	}
	return nil
}

// raw reads what go-github's structs do not hold.
func (g *gitHub) raw(ctx context.Context, path string, into any) (*github.Response, error) {
	request, err := g.api.NewRequest(http.MethodGet, "repos/"+g.owner+"/"+g.name+"/"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := g.api.Do(ctx, request, into)
	return response, plain(err)
}

// protection adds up the rulesets and the classic protection of a branch: GitHub applies all of them.
func (g *gitHub) protection(ctx context.Context, branch string) (*Protection, error) {
	p := &Protection{ForcePush: true, Deletion: true}
	rulesets, err := g.rules(ctx, branch, p)
	if err != nil {
		return nil, fmt.Errorf("rulesets: %w", err)
	}
	for _, id := range rulesets {
		if err := g.bypass(ctx, id, p); err != nil {
			return nil, fmt.Errorf("ruleset %d: %w", id, err)
		}
	}
	if err := g.classic(ctx, branch, p); err != nil {
		return nil, fmt.Errorf("classic protection: %w", err)
	}
	return p, nil
}

type gitHubRule struct {
	Type       string          `json:"type"`
	Ruleset    int64           `json:"ruleset_id"`
	Parameters json.RawMessage `json:"parameters"`
}

// rules takes in the active rules of a branch and returns the rulesets they are from.
func (g *gitHub) rules(ctx context.Context, branch string, p *Protection) ([]int64, error) {
	all, err := collect(func(page int) ([]gitHubRule, bool, error) {
		var got []gitHubRule
		response, err := g.raw(ctx, fmt.Sprintf("rules/branches/%s?per_page=%d&page=%d", escape(branch), gitHubPage, page), &got)
		if err != nil {
			return nil, false, err
		}
		return got, more(response, len(got)), nil
	})
	if err != nil {
		return nil, err
	}
	var rulesets []int64
	for _, r := range all {
		if err := r.into(p); err != nil {
			return nil, fmt.Errorf("rule %s: %w", r.Type, err)
		}
		if !slices.Contains(rulesets, r.Ruleset) {
			rulesets = append(rulesets, r.Ruleset)
		}
	}
	return rulesets, nil
}

func (r *gitHubRule) into(p *Protection) error {
	switch r.Type {
	case "pull_request":
		var rule github.PullRequestRuleParameters
		if err := json.Unmarshal(r.Parameters, &rule); err != nil {
			return err
		}
		p.PullRequests, p.Rejections = true, p.Rejections || rule.RequiredApprovingReviewCount > 0
		p.Approvals = max(p.Approvals, rule.RequiredApprovingReviewCount)
		p.DismissStale = p.DismissStale || rule.DismissStaleReviewsOnPush
		p.LastPush = p.LastPush || rule.RequireLastPushApproval
		p.CodeOwners = p.CodeOwners || rule.RequireCodeOwnerReview
	case "required_status_checks":
		var rule github.RequiredStatusChecksRuleParameters
		if err := json.Unmarshal(r.Parameters, &rule); err != nil {
			return err
		}
		for _, c := range rule.RequiredStatusChecks {
			p.Checks = append(p.Checks, c.Context)
		}
	case "non_fast_forward":
		p.ForcePush = false
	case "deletion":
		p.Deletion = false
	}
	return nil
}

// bypass takes in who need not keep a ruleset. GitHub leaves the list out for a token that may not change the ruleset.
func (g *gitHub) bypass(ctx context.Context, id int64, p *Protection) error {
	var set struct {
		Name   string `json:"name"`
		Actors *[]struct {
			ID   *int64 `json:"actor_id"`
			Type string `json:"actor_type"`
			Mode string `json:"bypass_mode"`
		} `json:"bypass_actors"`
	}
	_, err := g.raw(ctx, fmt.Sprintf("rulesets/%d?includes_parents=true", id), &set)
	unseen := hasStatus(err, http.StatusForbidden, http.StatusNotFound)
	if err != nil && !unseen {
		return err
	}
	if unseen || set.Actors == nil {
		p.Unseen = append(p.Unseen, fmt.Sprintf("who may bypass ruleset %d", id))
		return nil
	}
	for _, a := range *set.Actors {
		who := a.Type
		if a.ID != nil {
			who += " " + strconv.FormatInt(*a.ID, 10)
		}
		p.Bypass = append(p.Bypass, fmt.Sprintf("%s (ruleset %s, %s)", who, set.Name, a.Mode))
	}
	return nil
}

// classic takes in the older kind of branch protection.
func (g *gitHub) classic(ctx context.Context, branch string, p *Protection) error {
	var b github.Protection
	_, err := g.raw(ctx, "branches/"+escape(branch)+"/protection", &b)
	var refused *Error
	switch {
	case errors.As(err, &refused) && refused.Status == http.StatusNotFound && strings.Contains(refused.Message, "Branch not protected"):
		return nil
	case hasStatus(err, http.StatusForbidden, http.StatusNotFound):
		if !p.PullRequests { // else a ruleset is seen to protect it, and what is unseen can only add to that
			p.Unseen = append(p.Unseen, "the classic branch protection")
		}
		return nil
	case err != nil:
		return err
	}
	p.ForcePush = p.ForcePush && b.AllowForcePushes != nil && b.AllowForcePushes.Enabled
	p.Deletion = p.Deletion && b.AllowDeletions != nil && b.AllowDeletions.Enabled
	if checks := b.RequiredStatusChecks; checks != nil && checks.Contexts != nil {
		p.Checks = append(p.Checks, *checks.Contexts...)
	}
	if checks := b.RequiredStatusChecks; checks != nil && checks.Checks != nil {
		for _, c := range *checks.Checks {
			p.Checks = append(p.Checks, c.Context)
		}
	}
	if b.EnforceAdmins == nil || !b.EnforceAdmins.Enabled {
		p.Bypass = append(p.Bypass, "administrators (classic protection)")
	}
	if r := b.RequiredPullRequestReviews; r != nil {
		classicReviews(r, p)
	}
	return nil
}

func classicReviews(r *github.PullRequestReviewsEnforcement, p *Protection) {
	p.PullRequests, p.Rejections = true, p.Rejections || r.RequiredApprovingReviewCount > 0
	p.Approvals = max(p.Approvals, r.RequiredApprovingReviewCount)
	p.DismissStale = p.DismissStale || r.DismissStaleReviews
	p.LastPush = p.LastPush || r.RequireLastPushApproval
	p.CodeOwners = p.CodeOwners || r.RequireCodeOwnerReviews
	allowed := r.BypassPullRequestAllowances
	if allowed == nil {
		return
	}
	for _, u := range allowed.Users {
		p.Bypass = append(p.Bypass, "user "+u.GetLogin()+" (classic protection)")
	}
	for _, t := range allowed.Teams {
		p.Bypass = append(p.Bypass, "team "+t.GetSlug()+" (classic protection)")
	}
	for _, a := range allowed.Apps {
		p.Bypass = append(p.Bypass, "app "+a.GetSlug()+" (classic protection)")
	}
}
