package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// recordingsFlag gives a verb the folder of a gateway's recordings.
func recordingsFlag(c *cobra.Command, dir *string) {
	c.Flags().StringVar(dir, "recordings", "", "the gateway's recordings folder (recordings.dir of its configuration), or a copy")
}

// auditCommit is the newest commit of the audit branch: of the access repo
// itself as far as it was fetched, or of the repository that the config names.
func (r *accessRepo) auditCommit(ctx context.Context, audit reviews.Audit, repository string) (*workTree, string, error) {
	if audit.Repository != "" && audit.Repository != repository {
		other, err := openElsewhere(ctx, audit.Repository)
		if err != nil {
			return nil, "", err
		}
		fetched, err := other.mirror.Fetch(ctx, audit.Branch, "")
		return other.git, fetched.Head, absent(err)
	}
	if r.mirror != nil {
		fetched, err := r.mirror.Fetch(ctx, audit.Branch, "")
		return r.git, fetched.Head, absent(err)
	}
	refs := []string{"refs/heads/" + audit.Branch}
	if remote := r.git.remote(ctx); remote != "" {
		refs = append([]string{"refs/remotes/" + remote + "/" + audit.Branch}, refs...)
	}
	for _, ref := range refs {
		if commit, err := r.git.git(ctx, "rev-parse", "--verify", "--quiet", ref+"^{commit}"); err == nil {
			return r.git, commit, nil
		}
	}
	return r.git, "", nil
}

// absent makes a missing branch no error: nothing has been committed yet.
func absent(err error) error {
	if errors.Is(err, gitrepo.ErrNoBranch) {
		return nil
	}
	return err
}
