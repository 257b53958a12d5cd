package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// recordingsFlag gives a verb the folder of a gateway's recordings.
func recordingsFlag(c *cobra.Command, dir *string) {
	c.Flags().StringVar(dir, "recordings", "", "the gateway's recordings folder (recordings.dir of its configuration), or a copy")
}

// gatewayKeys are the keys that the trust root gives to gateways, by name.
func gatewayKeys(root *reviews.Root) (map[string]ssh.PublicKey, error) {
	keys := make(map[string]ssh.PublicKey)
	for _, g := range root.Spec.Gateways {
		key, err := reviews.Key{Key: g.Key}.PublicKey()
		if err != nil {
			return nil, fmt.Errorf("gateway %s of the trust root: %w", g.Name, err)
		}
		keys[g.Name] = key
	}
	return keys, nil
}

// sealVerifier checks seals with the keys of the trust root.
func sealVerifier(root *reviews.Root) (func(gateway string, statement, armored []byte) error, error) {
	keys, err := gatewayKeys(root)
	if err != nil {
		return nil, err
	}
	return func(gateway string, statement, armored []byte) error {
		want, known := keys[gateway]
		if !known {
			return fmt.Errorf("the trust root has no gateway %q", gateway)
		}
		got, err := reviews.Verify(armored, reviews.NamespaceCheckpoint, statement)
		if err != nil {
			return err
		}
		if ssh.FingerprintSHA256(got) != ssh.FingerprintSHA256(want) {
			return fmt.Errorf("it was made with key %s, the trust root gives %s to %s", ssh.FingerprintSHA256(got), ssh.FingerprintSHA256(want), gateway)
		}
		return nil
	}, nil
}

// auditSummaries reads the summaries of the audit branch, by session. where says
// which commit they are of. They are nil when there is no such branch.
func (r *accessRepo) auditSummaries(ctx context.Context, config *reviews.Config) (all map[string]record.Summary, where string, err error) {
	source, commit, err := r.auditCommit(ctx, config.Spec.Audit, config.Spec.Repository)
	if err != nil || commit == "" {
		return nil, "", err
	}
	files, err := source.files(ctx, commit, "summaries")
	if err != nil {
		return nil, "", err
	}
	all = make(map[string]record.Summary)
	for path, file := range files {
		if !strings.HasSuffix(path, ".json") || file.Mode&fs.ModeType != 0 {
			continue
		}
		var s record.Summary
		if err := json.Unmarshal(file.Data, &s); err != nil {
			return nil, "", fmt.Errorf("audit commit %s: %s is not a summary: %w", commit, path, err)
		}
		all[s.Session] = s
	}
	return all, config.Spec.Audit.Branch + " at " + commit, nil
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
