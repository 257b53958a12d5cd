package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// New is a pull request to open, from a branch that was pushed to the same repository.
type New struct {
	Base   string
	Branch string
	Title  string
	Body   string // Markdown
}

// Open opens a pull request. When one from this branch onto this base is open already, it is returned as it is.
func (c *Client) Open(ctx context.Context, n New) (*PullRequest, error) {
	if n.Base == "" || n.Branch == "" || strings.TrimSpace(n.Title) == "" {
		return nil, errors.New("open a pull request: base, branch and title are required")
	}
	p, err := c.api.open(ctx, n)
	if hasStatus(err, http.StatusConflict, http.StatusUnprocessableEntity) {
		there, lookErr := c.OpenFrom(ctx, n.Base, n.Branch)
		if lookErr != nil {
			return nil, fmt.Errorf("open a pull request from %s: %w", n.Branch, errors.Join(err, lookErr))
		}
		if there != nil {
			return there, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open a pull request from %s: %w", n.Branch, err)
	}
	return p, nil
}

// OpenFrom is the open pull request from a branch of this repository onto a base, or nil.
func (c *Client) OpenFrom(ctx context.Context, base, branch string) (*PullRequest, error) {
	all, err := collect(func(page int) ([]PullRequest, bool, error) { return c.api.pulls(ctx, true, base, page) })
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if p.Base == base && p.Branch == branch && strings.EqualFold(p.HeadRepo, c.repo.String()) {
			return &p, nil
		}
	}
	return nil, nil
}

// maxComment is what GitHub takes, in bytes; Gitea takes more.
const maxComment = 65000

var markerName = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

// Comment keeps one comment of ours up to date on a pull request: the one that carries the hidden marker name and was written by the
// account of the token. A comment of anybody else is never touched, whatever it carries.
func (c *Client) Comment(ctx context.Context, number int, name, body string) error {
	if !markerName.MatchString(name) {
		return fmt.Errorf("comment: the marker %q may hold a-z, 0-9 and - only", name)
	}
	marker := "<!-- sallyport:" + name + " -->"
	if len(body) > maxComment {
		body = strings.ToValidUTF8(body[:maxComment], "") + "\n\n… (cut: the forge takes no longer comment)"
	}
	body = marker + "\n" + body
	self, err := c.Self(ctx)
	if err != nil {
		return err
	}
	all, err := collect(func(page int) ([]comment, bool, error) { return c.api.comments(ctx, number, page) })
	if err != nil {
		return fmt.Errorf("comments of pull request %d: %w", number, err)
	}
	id := int64(0)
	for _, there := range all {
		if there.user.ID != self.ID || !strings.HasPrefix(there.body, marker) || id != 0 && there.id > id {
			continue
		}
		if sameText(there.body, body) {
			return nil
		}
		id = there.id
	}
	if err := c.api.comment(ctx, number, id, body); err != nil {
		return fmt.Errorf("comment on pull request %d: %w", number, err)
	}
	return nil
}

// sameText compares what was sent with what a forge kept: line ends and outer space may differ.
func sameText(a, b string) bool {
	clean := func(s string) string { return strings.TrimSpace(strings.ReplaceAll(s, "\r\n", "\n")) }
	return clean(a) == clean(b)
}

// Verdict is the state of a status.
type Verdict string

// The verdicts that both forges know.
const (
	Pending Verdict = "pending"
	Success Verdict = "success"
	Failure Verdict = "failure"
	Broken  Verdict = "error" // the check itself failed
)

// Status is one line under a commit.
type Status struct {
	Context     string // names the check; a later status with this context replaces an earlier one
	Verdict     Verdict
	Description string // cut to 140 characters
	URL         string // where to read more; may be empty
}

const maxDescription = 140

// SetStatus puts a status on a commit.
func (c *Client) SetStatus(ctx context.Context, commit string, s Status) error {
	if !validCommit(commit) {
		return fmt.Errorf("status: commit %q is not a full commit id", commit)
	}
	switch s.Verdict {
	case Pending, Success, Failure, Broken:
	default:
		return fmt.Errorf("status: verdict %q is not known", s.Verdict)
	}
	if s.Context == "" {
		return errors.New("status: it needs a context")
	}
	s.Description = strings.Join(strings.Fields(s.Description), " ")
	if runes := []rune(s.Description); len(runes) > maxDescription {
		s.Description = string(runes[:maxDescription-1]) + "…"
	}
	if err := c.api.status(ctx, commit, s); err != nil {
		return fmt.Errorf("status %s of commit %.12s: %w", s.Context, commit, err)
	}
	return nil
}
