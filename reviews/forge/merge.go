package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// ErrBlocked means that the forge's own rules, or the repository's, do not let a pull request be merged as it is.
var ErrBlocked = errors.New("the forge does not let it be merged")

// mergeMethods are the ways to merge, the wanted ones first. Both forges call them so.
var mergeMethods = []string{"squash", "merge", "rebase"}

const (
	mergePatience = 20 * time.Second // for a forge that still looks whether there are conflicts
	mergePause    = 250 * time.Millisecond
)

// Merge merges a pull request whose head is exactly this commit, in the first way that the repository allows of squash, merge commit and
// rebase. It overrides nothing: what the protection of the branch refuses, an administrator's token included where the forge can
// tell, is ErrBlocked. Whoever calls it has judged that commit.
func (c *Client) Merge(ctx context.Context, number int, head string) error {
	if number <= 0 || !validCommit(head) {
		return fmt.Errorf("merge pull request %d: %q is not a full commit id", number, head)
	}
	allowed, err := c.api.methods(ctx)
	if err != nil {
		return fmt.Errorf("how pull requests may be merged: %w", err)
	}
	i := slices.IndexFunc(mergeMethods, func(m string) bool { return slices.Contains(allowed, m) })
	if i < 0 {
		return fmt.Errorf("merge pull request %d: %w: the repository allows neither squash nor merge commits nor rebase", number, ErrBlocked)
	}
	deadline := time.Now().Add(mergePatience)
	for {
		err := c.api.merge(ctx, number, head, mergeMethods[i])
		switch {
		case err == nil:
			return nil
		case !hasStatus(err, http.StatusMethodNotAllowed):
			return fmt.Errorf("merge pull request %d at %.12s: %w", number, head, err)
		case !asksToTryAgain(err) || time.Now().After(deadline):
			return fmt.Errorf("merge pull request %d: %w: %w", number, ErrBlocked, err)
		}
		select {
		case <-time.After(mergePause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// asksToTryAgain knows what the forges say while they are not done with a new head, or with a base that has just moved.
func asksToTryAgain(err error) bool {
	var refused *Error
	return errors.As(err, &refused) && (strings.Contains(refused.Message, "try again later") || strings.Contains(refused.Message, "try the merge again"))
}

// allowed are the methods that a repository allows, as both forges tell them.
func allowed(squash, merge, rebase bool) (methods []string) {
	for i, is := range []bool{squash, merge, rebase} {
		if is {
			methods = append(methods, mergeMethods[i])
		}
	}
	return methods
}
