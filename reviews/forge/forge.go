// Package forge speaks with the forge that an access repo lies on: which pull requests there are, who approved which commit, and what
// people should see there. GitHub is one, Gitea and Forgejo are the other.
//
// The invariant: an answer is whole or an error. A page that fails, is cut short or is not what it should be makes the whole
// call fail, because half of a list of reviews is an approval whose withdrawal was on the other half.
//
// The package decides nothing: it tells numeric account ids and commits, and Review.Approves what a forge alone can tell.
// Which people those ids are and how many are needed is the caller's; what the commits hold comes from git. Nobody approves
// through it, and Merge merges nothing that the forge's own rules refuse.
package forge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Kind names a forge as the config's `forge` setting does.
type Kind string

// The forges. Forgejo is spoken with like Gitea.
const (
	GitHub  Kind = "github"
	Gitea   Kind = "gitea"
	Forgejo Kind = "forgejo"
)

// Token is an access token of a forge. It prints as "(hidden)"; only an Authorization header holds it.
type Token string

// String hides the token.
func (Token) String() string { return "(hidden)" }

// GoString hides the token.
func (Token) GoString() string { return "(hidden)" }

// LogValue hides the token.
func (Token) LogValue() slog.Value { return slog.StringValue("(hidden)") }

// MarshalText hides the token.
func (Token) MarshalText() ([]byte, error) { return []byte("(hidden)"), nil }

// Options say where the forge is and who asks.
type Options struct {
	Kind   Kind
	Remote string // the access repo, as git clones it
	// URL is the forge's address as people see it. Default: https:// and the host of Remote. It has to be given when that is not
	// where the API is, for example when it has a path or another port than ssh.
	URL   string
	Token Token
	// Account is the numeric id of the account whose token this is. 0 asks the forge, which a token of GitHub Actions may not: its
	// account is 41898282.
	Account int64
}

// User is an account on the forge. A login can be given up and taken by someone else; only ID says who it is.
type User struct {
	ID    int64
	Login string
	// Bot is true for what is no person's account. Gitea tells it of its own system accounts only.
	Bot bool
}

// PullRequest is one, as the forge has it.
type PullRequest struct {
	Number  int
	URL     string
	Title   string
	Author  User
	Created time.Time
	Updated time.Time

	Base       string // the branch it goes to
	BaseCommit string // where the forge says it starts from; git knows better
	Branch     string // the branch it comes from
	HeadRepo   string // owner/name where that branch is; "" when the forge does not tell, for example when it is gone
	Head       string // its last commit; of a merged one, what was merged

	Open        bool
	Merged      bool
	MergedAt    time.Time
	MergeCommit string // the commit on Base that merged it; "" unless merged
}

// State is what somebody's last word on a pull request is.
type State string

// The states. Comments and requests for a review are none.
const (
	Approved         State = "approved"
	ChangesRequested State = "changes requested"
	Dismissed        State = "dismissed" // an approval or a refusal that was taken back; an older one does not return
)

// Review is the last word of one account.
type Review struct {
	ID        int64
	User      User
	State     State
	Commit    string // the head that was looked at
	Submitted time.Time
	// Stale is set by Gitea, some time after a push. That it is not set means nothing: compare Commit.
	Stale bool
}

// Contributors are the accounts that had a hand in what a pull request brings, its author included, sorted by id.
type Contributors struct {
	Users []User
	// Unknown are commits whose author or committer belongs to no account.
	Unknown []string
	// PushersKnown is false when the forge does not tell everybody who pushed to the branch since it was made.
	PushersKnown bool
	// SameAs are the commits before the head from which on nothing was added but signatures, each pushed by who made it.
	// An approval of one of them is one of the head.
	SameAs []string
	// Retargeted is when it was last pointed at another branch, zero for never: what was approved before was another change.
	Retargeted time.Time
}

// Has reports whether an account is among them.
func (c *Contributors) Has(id int64) bool {
	return slices.ContainsFunc(c.Users, func(u User) bool { return u.ID == id })
}

// Approves is nil when the review approves exactly what the pull request brings, given by somebody who had no hand in it, as far as the
// forge can tell; else it says why not. Whether a bot's word counts is not decided here.
func (r Review) Approves(p *PullRequest, by *Contributors) error {
	who := fmt.Sprintf("review by %s (account %d)", r.User.Login, r.User.ID)
	switch {
	case r.User.ID <= 0:
		return fmt.Errorf("%s: the account is gone", who)
	case r.State != Approved:
		return fmt.Errorf("%s: their last word is %q", who, r.State)
	case !validCommit(r.Commit) || r.Commit != p.Head && !slices.Contains(by.SameAs, r.Commit):
		return fmt.Errorf("%s: it approves commit %.12s, and the pull request is at %.12s", who, r.Commit, p.Head)
	case r.Stale && r.Commit == p.Head: // of an earlier one it says no more than that it is earlier
		return fmt.Errorf("%s: the forge calls it stale", who)
	case !by.Retargeted.IsZero() && !r.Submitted.After(by.Retargeted):
		return fmt.Errorf("%s: they approved it before it was pointed at branch %s, and what it brings there is another change", who, p.Base)
	case r.User.ID == p.Author.ID:
		return fmt.Errorf("%s: they opened the pull request", who)
	case by.Has(r.User.ID):
		return fmt.Errorf("%s: they authored, committed or pushed what it brings", who)
	}
	return nil
}

// Client is one repository on a forge. It may be used by several goroutines.
type Client struct {
	kind Kind
	repo Repo
	web  *url.URL
	api  adapter

	mu      sync.Mutex
	account User // 0 until asked for
}

// adapter is what differs between the forges. Lists are asked for page by page, from 1; each says whether there may be more.
type adapter interface {
	self(ctx context.Context) (User, error)
	pull(ctx context.Context, number int) (*PullRequest, error)
	pulls(ctx context.Context, open bool, base string, page int) ([]PullRequest, bool, error) // open ones oldest first, others last updated first
	pullsOf(ctx context.Context, commit string) ([]PullRequest, error)
	reviews(ctx context.Context, number, page int) ([]Review, bool, error) // State "" for what is no opinion
	commits(ctx context.Context, p *PullRequest, page int) ([]commit, bool, error)
	history(ctx context.Context, p *PullRequest) (history, error)
	files(ctx context.Context, number, page int) ([]string, bool, error)
	open(ctx context.Context, n New) (*PullRequest, error)
	comments(ctx context.Context, number, page int) ([]comment, bool, error)
	comment(ctx context.Context, number int, id int64, body string) error // id 0: a new one
	status(ctx context.Context, commit string, s Status) error
	verdicts(ctx context.Context, commit string) ([]verdict, error)
	methods(ctx context.Context) ([]string, error) // those of mergeMethods that the repository allows
	merge(ctx context.Context, number int, head, method string) error
	protection(ctx context.Context, branch string) (*Protection, error)
}

// history is what a forge saw of a pull request.
type history struct {
	pushes     []push
	all        bool      // these are all pushes
	retargeted time.Time // when it was last pointed at another branch
}

// commit is one that a pull request brings. A zero user is unknown to the forge.
type commit struct {
	id                string
	author, committer User
}

type comment struct {
	id   int64
	user User
	body string
}

// Open prepares a client; it asks the forge nothing yet.
func Open(o Options) (*Client, error) {
	repo, err := ParseRemote(o.Remote)
	if err != nil {
		return nil, err
	}
	web, err := webAddress(o.URL, repo)
	if err != nil {
		return nil, err
	}
	if o.Token == "" || strings.ContainsFunc(string(o.Token), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("forge: the token is empty or holds spaces or line breaks; read it anew, without a line break at its end")
	}
	c := &Client{kind: o.Kind, repo: repo, web: web, account: User{ID: o.Account}}
	switch o.Kind {
	case GitHub:
		c.api, err = newGitHub(web, repo, o.Token)
	case Gitea, Forgejo:
		c.api = newGitea(web, repo, o.Token)
	default:
		err = fmt.Errorf("forge %q is not known: write github, gitea or forgejo", o.Kind)
	}
	return c, err
}

// Self is the account that the token belongs to.
func (c *Client) Self(ctx context.Context) (User, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.account.ID != 0 {
		return c.account, nil
	}
	u, err := c.api.self(ctx)
	if err != nil {
		return User{}, fmt.Errorf("whose token this is: %w", err)
	}
	c.account = u
	return u, nil
}

// PullRequests are those onto a branch that are open and those that were merged at mergedSince or later, sorted by number.
func (c *Client) PullRequests(ctx context.Context, base string, mergedSince time.Time) ([]PullRequest, error) {
	found, err := collect(func(page int) ([]PullRequest, bool, error) { return c.api.pulls(ctx, true, base, page) })
	if err != nil {
		return nil, fmt.Errorf("open pull requests onto %s: %w", base, err)
	}
	last := time.Time{}
	ordered := true // as long as the forge keeps the order that was asked for, older pages need not be read
	closed, err := collect(func(page int) ([]PullRequest, bool, error) {
		got, more, err := c.api.pulls(ctx, false, base, page)
		for _, p := range got {
			ordered = ordered && (last.IsZero() || !p.Updated.After(last))
			last = p.Updated
		}
		return got, more && !(ordered && last.Before(mergedSince)), err
	})
	if err != nil {
		return nil, fmt.Errorf("merged pull requests onto %s: %w", base, err)
	}
	for _, p := range closed {
		if p.Merged && !p.MergedAt.Before(mergedSince) {
			found = append(found, p)
		}
	}
	found = slices.DeleteFunc(found, func(p PullRequest) bool { return p.Base != base })
	// One that was merged between two pages is in both lists: the later word stays.
	slices.SortStableFunc(found, func(a, b PullRequest) int { return a.Number - b.Number })
	found = slices.CompactFunc(found, func(a, b PullRequest) bool { return a.Number == b.Number && a.Head == b.Head && a.Merged == b.Merged })
	return latest(found), nil
}

// latest keeps the last of several with one number.
func latest(sorted []PullRequest) []PullRequest {
	var out []PullRequest
	for i, p := range sorted {
		if i+1 == len(sorted) || sorted[i+1].Number != p.Number {
			out = append(out, p)
		}
	}
	return out
}

// PullRequest is the one with this number.
func (c *Client) PullRequest(ctx context.Context, number int) (*PullRequest, error) {
	p, err := c.api.pull(ctx, number)
	if err == nil && p.Number != number {
		err = fmt.Errorf("the forge answers with pull request %d", p.Number)
	}
	if err != nil {
		return nil, fmt.Errorf("pull request %d: %w", number, err)
	}
	return p, nil
}

// MergedAs are the merged pull requests that a commit of the base branch came from. Gitea knows the last commit of each, GitHub all.
func (c *Client) MergedAs(ctx context.Context, commit string) ([]PullRequest, error) {
	if !validCommit(commit) {
		return nil, fmt.Errorf("commit %q: not a full commit id", commit)
	}
	all, err := c.api.pullsOf(ctx, commit)
	if err != nil {
		return nil, fmt.Errorf("pull requests of commit %.12s: %w", commit, err)
	}
	return slices.DeleteFunc(all, func(p PullRequest) bool { return !p.Merged }), nil
}

// Reviews are the last words on a pull request, one for each account that approved, refused or was dismissed, sorted by account id.
func (c *Client) Reviews(ctx context.Context, number int) ([]Review, error) {
	history, err := collect(func(page int) ([]Review, bool, error) { return c.api.reviews(ctx, number, page) })
	if err != nil {
		return nil, fmt.Errorf("reviews of pull request %d: %w", number, err)
	}
	return effective(history), nil
}

// effective takes each account's last opinion. When one review was seen twice, because another came in while pages were read, the later
// answer is the true one.
func effective(history []Review) []Review {
	byID := map[int64]Review{}
	for _, r := range history {
		byID[r.ID] = r
	}
	var words []Review
	for _, r := range byID {
		if r.State != "" && r.User.ID > 0 {
			words = append(words, r)
		}
	}
	slices.SortFunc(words, func(a, b Review) int {
		return cmp.Or(cmp.Compare(a.User.ID, b.User.ID), b.Submitted.Compare(a.Submitted), cmp.Compare(b.ID, a.ID))
	})
	return slices.CompactFunc(words, func(a, b Review) bool { return a.User.ID == b.User.ID }) // keeps the first, which was said last
}

// Contributors are all who had a hand in what a pull request brings. Names and addresses in commits are what their makers wrote;
// who pushed is what the forge saw. Who only added signatures had no hand in it: signed are the commits that did no more, nil for none.
func (c *Client) Contributors(ctx context.Context, p *PullRequest, signed []Signed) (*Contributors, error) {
	commits, err := collect(func(page int) ([]commit, bool, error) { return c.api.commits(ctx, p, page) })
	if err != nil {
		return nil, fmt.Errorf("commits of pull request %d: %w", p.Number, err)
	}
	if len(commits) > 0 && !slices.ContainsFunc(commits, func(c commit) bool { return c.id == p.Head }) {
		return nil, fmt.Errorf("commits of pull request %d: they do not hold its head %.12s, so it was pushed to meanwhile: ask again", p.Number, p.Head)
	}
	past, err := c.api.history(ctx, p)
	pushes := past.pushes
	if err != nil {
		return nil, fmt.Errorf("who pushed to pull request %d: %w", p.Number, err)
	}
	only := onlySigned(signed, p.Head, commits, pushes)
	by := &Contributors{Users: []User{p.Author}, PushersKnown: past.all, SameAs: only.before(), Retargeted: past.retargeted}
	for _, push := range pushes {
		if !only.holds(push) {
			by.Users = append(by.Users, push.user)
		}
	}
	for _, made := range commits {
		if only.has(made.id) {
			continue
		}
		for _, u := range []User{made.author, made.committer} {
			if u.ID == 0 {
				by.Unknown = append(by.Unknown, made.id)
				continue
			}
			by.Users = append(by.Users, u)
		}
	}
	slices.SortFunc(by.Users, func(a, b User) int { return cmp.Compare(a.ID, b.ID) })
	by.Users = slices.CompactFunc(by.Users, func(a, b User) bool { return a.ID == b.ID })
	slices.Sort(by.Unknown)
	by.Unknown = slices.Compact(by.Unknown)
	return by, nil
}

// Files are the paths that a pull request changes, old names of renamed files included, sorted. They tell which pull requests to look
// at; what they hold comes from git.
func (c *Client) Files(ctx context.Context, number int) ([]string, error) {
	names, err := collect(func(page int) ([]string, bool, error) { return c.api.files(ctx, number, page) })
	if err != nil {
		return nil, fmt.Errorf("files of pull request %d: %w", number, err)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// maxPages bounds one list, so that a forge that always has another page cannot keep it busy for ever.
const maxPages = 400

// collect reads all pages of a list.
func collect[T any](fetch func(page int) ([]T, bool, error)) ([]T, error) {
	var all []T
	for page := 1; page <= maxPages; page++ {
		got, more, err := fetch(page)
		if err != nil {
			return nil, err
		}
		all = append(all, got...)
		if !more {
			return all, nil
		}
	}
	return nil, fmt.Errorf("more than %d pages", maxPages)
}

var commitID = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

func validCommit(id string) bool { return commitID.MatchString(id) }

// check refuses what no forge would say of a pull request.
func (p *PullRequest) check() error {
	switch {
	case p.Number <= 0:
		return errors.New("the forge answers with a pull request without a number")
	case p.Base == "":
		return fmt.Errorf("the forge does not say which branch pull request %d goes to", p.Number)
	case !validCommit(p.Head):
		return fmt.Errorf("the forge says that pull request %d is at %q, which is no commit", p.Number, p.Head)
	case p.Merged && (!validCommit(p.MergeCommit) || p.MergedAt.IsZero()):
		return fmt.Errorf("the forge does not say how pull request %d was merged", p.Number)
	}
	return nil
}
