package forge

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Protection is what a forge does to keep a branch. The zero value protects nothing.
type Protection struct {
	Branch string
	// PullRequests: changes come through pull requests only.
	PullRequests bool
	// Approvals is how many approvals a merge needs.
	Approvals int
	// DismissStale: a push takes approvals back.
	DismissStale bool
	// LastPush: somebody other than the last pusher has to approve. GitHub only.
	LastPush bool
	// CodeOwners: an owner of each changed file has to approve. GitHub only.
	CodeOwners bool
	// Rejections: a refusal blocks the merge. Gitea can turn it off.
	Rejections bool
	ForcePush  bool
	Deletion   bool
	// Checks are the contexts of the statuses that have to be good.
	Checks []string
	// Bypass are those whom the rules do not bind, in words.
	Bypass []string
	// Unseen is what this token may not look at, in words.
	Unseen []string

	kind Kind
}

// Protection reads what protects a branch. Reading all of it takes an administrator's token on both forges.
func (c *Client) Protection(ctx context.Context, branch string) (*Protection, error) {
	p, err := c.api.protection(ctx, branch)
	if err != nil {
		return nil, fmt.Errorf("protection of branch %s: %w", branch, err)
	}
	p.Branch, p.kind = branch, c.kind
	slices.Sort(p.Checks)
	p.Checks = slices.Compact(p.Checks)
	return p, nil
}

// Weaknesses says in words what is weaker than sallyport relies on, where checks are the contexts of the statuses
// that have to be required and approvals how many approvals a merge has to need. None means none.
func (p *Protection) Weaknesses(approvals int, checks ...string) []string {
	var weak []string
	say := func(format string, args ...any) { weak = append(weak, fmt.Sprintf(format, args...)) }
	if !p.PullRequests {
		say("commits can be pushed to %s without a pull request", p.Branch)
	}
	if p.Approvals < approvals {
		say("a merge into %s should need %d approvals, and %d are required", p.Branch, approvals, p.Approvals)
	}
	if !p.DismissStale {
		say("a push after an approval does not take the approval back")
	}
	if !p.Rejections {
		say("a pull request can be merged over a reviewer's refusal")
	}
	if p.kind == GitHub && !p.LastPush {
		say("whoever pushed last may give the approval that counts")
	}
	if p.kind == GitHub && !p.CodeOwners {
		say("the approval of a code owner is not required")
	}
	if p.ForcePush {
		say("%s can be force-pushed", p.Branch)
	}
	if p.Deletion {
		say("%s can be deleted", p.Branch)
	}
	for _, c := range checks {
		if !slices.Contains(p.Checks, c) {
			say("the status %s is not required for a merge", c)
		}
	}
	if len(p.Bypass) > 0 {
		say("not bound by the rules: %s", strings.Join(p.Bypass, ", "))
	}
	for _, u := range p.Unseen {
		say("not to be seen with this token, so not known to be right: %s", u)
	}
	return weak
}
