package forge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
)

// Standing is how CI stands on a commit: what each of its checks said last. It is for people to read; nothing is granted because of it.
type Standing struct {
	Passed, Running int
	Failed          []string // their names, sorted
}

// String is it as people read it, "" when there are no checks.
func (s Standing) String() string {
	all := s.Passed + s.Running + len(s.Failed)
	switch {
	case all == 0:
		return ""
	case len(s.Failed) > 0:
		return "CI failed: " + strings.Join(s.Failed, ", ")
	case s.Running > 0:
		return fmt.Sprintf("CI is running, %d of %d done", s.Passed, all)
	}
	return "CI passed"
}

// verdict is the last word of one check.
type verdict struct {
	name string
	says Verdict
}

// Standing asks for the statuses of a commit and, on GitHub, its check runs.
func (c *Client) Standing(ctx context.Context, commit string) (Standing, error) {
	if !validCommit(commit) {
		return Standing{}, fmt.Errorf("standing: commit %q is not a full commit id", commit)
	}
	all, err := c.api.verdicts(ctx, commit)
	if err != nil {
		return Standing{}, fmt.Errorf("checks of commit %.12s: %w", commit, err)
	}
	var s Standing
	for _, v := range all {
		switch v.says {
		case Success:
			s.Passed++
		case Pending:
			s.Running++
		default: // what is not known to be good is not
			s.Failed = append(s.Failed, cmp.Or(v.name, "a check without a name"))
		}
	}
	slices.Sort(s.Failed)
	return s, nil
}
