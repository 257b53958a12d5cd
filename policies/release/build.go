package release

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// Seen is the version of a review with the highest sequence that its name ever
// had, and when sync first saw that on the branch.
type Seen struct {
	Sequence int64
	Commit   string
	At       time.Time
}

// History is what was seen of the reviews of one connection, deleted ones
// included, by the last part of their names. It must not be changed any more: the
// same map always says the same.
type History map[string]Seen

// BuildInput is what a release is made of.
type BuildInput struct {
	Tree     *reviews.Tree
	Commit   string // the commit that Tree was loaded from
	Ref      string // refs/heads/main
	Sequence int64  // greater than that of any release before
	// History is by connection. A review that is missing counts from Commit and Now;
	// one below its highest sequence is left out.
	History  map[string]History
	Now      time.Time
	ValidFor time.Duration // default: the config's freshness
	// RootsBefore are the trust roots that were in force before Tree's, oldest
	// first, for gateways that pinned one of them.
	RootsBefore []RootSeen
	// RootSeen is when sync first saw Tree's trust root. Default: Now.
	RootSeen time.Time
	// Taken is what sync saw for the first time since the release before.
	Taken []Taken
	// Seen is when a signature or attestation was first seen, by the sha256 of its
	// file in lower-case hex, as Tree was loaded with. Optional.
	Seen func(sha256 string) time.Time
	// Cache remembers what did not change since the last Build. Optional.
	Cache *Cache
}

// Built is a release that is not signed yet.
type Built struct {
	Envelope Envelope
	Bundles  map[string][]byte // by sha256 hex
	// Closed are reviews that the tree holds and the release does not, and why.
	Closed map[string]string
}

// Build makes the envelope and all bundles. The same input makes the same bytes.
// It fails as a whole only when trust, config or policies are unusable.
func Build(ctx context.Context, in BuildInput) (*Built, error) {
	t := in.Tree
	switch {
	case t == nil || t.Root == nil || t.Config == nil:
		return nil, errors.New("release: the tree has no usable trust root and config")
	case in.Sequence < 1:
		return nil, fmt.Errorf("release: sequence %d: releases count from 1", in.Sequence)
	}
	if in.Cache == nil {
		in.Cache = NewCache()
	}
	if err := in.Cache.compile(ctx, policySources(t)); err != nil {
		return nil, err
	}
	built := &Built{Envelope: envelopeOf(in), Bundles: map[string][]byte{}, Closed: map[string]string{}}
	members, err := policyMembers(in)
	if err != nil {
		return nil, err
	}
	if err := built.add(PolicyBundle, members, policyRoots()); err != nil {
		return nil, err
	}
	return built, built.addConnections(ctx, in)
}

func envelopeOf(in BuildInput) Envelope {
	t := in.Tree
	validFor := in.ValidFor
	if validFor <= 0 {
		validFor = t.Config.Spec.Freshness.ValidFor.Std()
	}
	now := in.Now.UTC().Truncate(time.Second)
	return Envelope{
		Repo:         t.Root.Metadata.Repo,
		Repository:   t.Config.Spec.Repository,
		Ref:          in.Ref,
		Commit:       in.Commit,
		Sequence:     in.Sequence,
		TrustVersion: t.Root.Spec.Version,
		TrustDigest:  t.Root.Source.SHA256,
		Bundles:      map[string]string{},
		IssuedAt:     now,
		ValidUntil:   now.Add(validFor),
		Taken:        in.Taken,
	}
}

func (b *Built) add(name string, members map[string][]byte, roots []string) error {
	packed, err := pack(members, roots)
	if err != nil {
		return fmt.Errorf("release: bundle %s: %w", name, err)
	}
	b.put(name, packed, digest(packed))
	return nil
}

func (b *Built) put(name string, packed []byte, sum string) {
	b.Envelope.Bundles[name] = sum
	b.Bundles[sum] = packed
}

// policySources are the owner's policies and their tests by path.
func policySources(t *reviews.Tree) map[string][]byte {
	sources := map[string][]byte{}
	for _, p := range t.Policies {
		sources[p.Path] = p.Source.Bytes
	}
	return sources
}

func policyMembers(in BuildInput) (map[string][]byte, error) {
	t, files := in.Tree, documents{}
	if err := files.addRoots(in.RootsBefore); err != nil {
		return nil, err
	}
	roots := make([]rootSeen, 0, len(in.RootsBefore)+1)
	for i, r := range in.RootsBefore {
		roots = append(roots, rootSeen{t.Root.Spec.Version - len(in.RootsBefore) + i, stamp(r.At)})
	}
	at := in.RootSeen
	if at.IsZero() {
		at = in.Now
	}
	roots = append(roots, rootSeen{t.Root.Spec.Version, stamp(at)})
	files.add(t.Root.Source)
	files.add(t.Config.Source)
	for _, p := range t.Principals {
		files.add(p.Source)
	}
	for _, p := range t.Policies {
		files.add(p.Source)
	}
	members := maps.Clone(policies.Library())
	maps.Copy(members, ownerModules(files))
	members[trustData] = canonical(trustFile{Roots: roots, Documents: files, Seen: files.sightings(in.Seen)})
	return members, nil
}

func stamp(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }

// ownerModules are the policies that OPA has to load: without tests, which only
// stand among the documents.
func ownerModules(files documents) map[string][]byte {
	modules := map[string][]byte{}
	for name, b := range files {
		if path.Dir(name) == "policies" && strings.HasSuffix(name, ".rego") && !strings.HasSuffix(name, "_test.rego") {
			modules[name] = b
		}
	}
	return modules
}

// connectionFileOf takes what is known of unchanged reviews from before. Those
// that are left out of the file are in closed, with why.
func connectionFileOf(in BuildInput, c *reviews.Connection, list []*reviews.Review, before map[string]json.RawMessage) (file connectionFile, closed map[string]string) {
	file = connectionFile{connection: canonical(c.JSON()), reviews: map[string]json.RawMessage{}, documents: documents{}}
	file.documents.add(c.Source)
	if c.Catalog != nil {
		file.documents[reviews.CatalogPath(c.Metadata.Name)] = c.Catalog
		if c.CatalogSource.Path != "" {
			file.documents.add(c.CatalogSource)
		}
	}
	for _, r := range list {
		name, last := r.Metadata.Name, in.seen(r)
		if r.Spec.Sequence < last.Sequence {
			if closed == nil {
				closed = map[string]string{}
			}
			closed[name] = fmt.Sprintf("its sequence %d is below %d, which it already had; write a new sequence, %d or more", r.Spec.Sequence, last.Sequence, last.Sequence+1)
			continue
		}
		file.documents.add(r.Source)
		file.reviews[name] = entryOf(r, last, before[name])
	}
	file.seen = file.documents.sightings(in.Seen)
	return file, closed
}

// seen is since when the review stands as it does.
func (in BuildInput) seen(r *reviews.Review) Seen {
	if s, ok := in.History[r.Spec.Connection][path.Base(r.Metadata.Name)]; ok {
		return s
	}
	return Seen{Commit: in.Commit, At: in.Now}
}

// entryOf is how the bundle describes a review: as before, when all that an entry
// is made of is the same, since document and lines follow from the bytes.
func entryOf(r *reviews.Review, s Seen, before json.RawMessage) json.RawMessage {
	approvers := r.Source.Approvals
	if approvers == nil {
		approvers = []string{}
	}
	entry := reviewEntry{SHA256: r.Source.SHA256, Commit: s.Commit, ApprovedAt: stamp(s.At), Approvers: approvers}
	if start := entry.start(); bytes.HasPrefix(before, start) {
		return before
	}
	entry.Lines, entry.Document = r.Source.Lines, canonical(r.JSON())
	return canonical(entry)
}
