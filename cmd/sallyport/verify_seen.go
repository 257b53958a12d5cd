package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"github.com/sallyport-dev/sallyport/policies"
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
	Review string   `json:"review"`
	SHA256 string   `json:"sha256"`
	Commit string   `json:"commit"`
	Says   []string `json:"says"`
}

// autoApproval asks the policies among files, as sync did, and notes what they say.
func autoApproval(ctx context.Context, files fstest.MapFS, said map[string][]string) func(*reviews.Review, *reviews.Connection) string {
	var policy *policies.Policy
	return func(r *reviews.Review, c *reviews.Connection) string {
		if policy == nil {
			sources := make(map[string][]byte)
			for name, f := range files {
				if reviews.KindOf(name) == reviews.KindPolicy {
					sources[name] = f.Data
				}
			}
			compiled, err := policies.Compile(ctx, sources)
			if err != nil {
				return "" // as nothing that sync could have found true
			}
			policy = compiled.WithTimeout(10 * time.Second)
		}
		says, err := policy.AutoApprove(ctx, policies.NewDocument(r.JSON()), policies.NewDocument(c.JSON()))
		if err != nil {
			return ""
		}
		said[r.Metadata.Name] = says
		return strings.Join(says, "; ")
	}
}
