package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// logged takes a release of the log that sync committed. What it says of when
// commits and attestations were first seen counts when a release key of its time signed it.
func (t *auditTrail) logged(trust trustHistory, branch string, b []byte) error {
	e, key, err := release.Logged(b)
	switch {
	case err != nil:
		return fmt.Errorf("it is no release: %w", err)
	case !trust.releaseKey(key, e.IssuedAt):
		return fmt.Errorf("it is not signed by a release key of its time, %s", stamp(e.IssuedAt))
	case e.Ref == "refs/heads/"+branch:
		t.taken = append(t.taken, e.Taken...)
	}
	return nil
}

// sightings are when sync first saw signatures and attestations, by the sha256 of the
// file, as the log of releases has it. Without a log there are none.
func (g *grants) sightings(ctx context.Context, taken []release.Taken) (map[string]time.Time, error) {
	seen := make(map[string]time.Time)
	for _, t := range taken {
		if known, is := seen[t.Attestation]; t.Attestation != "" && (!is || t.At.Before(known)) {
			seen[t.Attestation] = t.At
		}
	}
	commits := firstSeen(g.ids, taken)
	if len(commits) == 0 {
		return seen, nil
	}
	changes, err := g.repo.git.changes(ctx, g.ids, documentFolders...)
	if err != nil {
		return nil, err
	}
	for id, list := range changes {
		changes[id] = slices.DeleteFunc(list, func(c treeChange) bool { return !strings.Contains(c.path, ".sigs/") })
	}
	files, err := g.repo.git.contents(ctx, changes)
	if err != nil {
		return nil, err
	}
	for _, id := range g.ids {
		at, known := commits[id]
		if !known {
			continue
		}
		for _, c := range changes[id] {
			if b, there := files[c.blob]; there {
				seen[sha256Hex(b)] = at // an older commit that has it comes later in this loop
			}
		}
	}
	return seen, nil
}

// automatic is a grant that an auto_approve rule of the policies approved, and
// what the rule says, found true again here under the policies of that commit.
type automatic struct {
	Review string `json:"review"`
	SHA256 string `json:"sha256"`
	Commit string `json:"commit"`
	Says   string `json:"says"`
}

// loggedSightings are when sync first saw the merged commits and attestations, as its log
// of releases has it: what release keys of their time signed about this branch.
func (r *accessRepo) loggedSightings(ctx context.Context, merged *snapshot, tree *reviews.Tree) ([]release.Taken, error) {
	source, head, err := r.auditCommit(ctx, tree.Config.Spec.Audit, tree.Config.Spec.Repository)
	if err != nil || head == "" {
		return nil, err
	}
	files, err := source.files(ctx, head, "releases")
	if err != nil || len(files) == 0 {
		return nil, err
	}
	trust, err := r.trustHistory(ctx, merged, tree.Root, nil)
	if err != nil {
		return nil, err
	}
	t := &auditTrail{}
	for _, f := range files {
		_ = t.logged(trust, tree.Config.Spec.Branch, f.Data) // others may put anything there
	}
	return t.taken, nil
}

// firstSeen is when sync first saw each commit of a first-parent line, newest first,
// as far as it is known.
func firstSeen(ids []string, taken []release.Taken) map[string]time.Time {
	reached := make(map[string]time.Time)
	for _, t := range taken {
		if known, is := reached[t.Commit]; t.Commit != "" && (!is || t.At.Before(known)) {
			reached[t.Commit] = t.At
		}
	}
	seen := make(map[string]time.Time)
	var at time.Time
	for _, id := range ids {
		if t, is := reached[id]; is && (at.IsZero() || t.Before(at)) {
			at = t
		}
		if !at.IsZero() {
			seen[id] = at
		}
	}
	return seen
}
