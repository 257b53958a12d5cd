package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// ErrUnverified means that a release grants what its own documents and their
// approvals do not: with Opener.Full a release key alone makes nobody believe anything.
var ErrUnverified = errors.New("full verification")

// verified is what full verification found to be right. It holds for the policy
// bundle that it was found under, in which trust root, config, principals, policies
// and the times of their signatures stand.
type verified struct {
	policy      string // sha256 hex of that bundle
	connections map[string]verifiedConnection
}

type verifiedConnection struct {
	bundle, document string // sha256 hex
	reviews          map[string][sha256.Size]byte
}

// verifyFully loads the documents of the release as sync did and demands that
// this grants exactly what the release does. What before found under the same
// policy bundle is not looked at again.
//
// Three things stay sync's word: when it first saw a signature, that the documents
// are those of the branch's head, and which version of a name came after which.
func (r *Release) verifyFully(ctx context.Context, before *Release) error {
	// The config is approved, or the rest of this refuses it. An extension by the trust root counts from this end on.
	if e, most := r.Envelope, r.Config.Spec.Freshness.ValidFor; e.ValidUntil.After(e.IssuedAt.Add(most.Std())) {
		return fmt.Errorf("%w: it is valid until %s, longer than the %s from its issue that spec.freshness.validFor of the approved settings allows",
			ErrUnverified, e.ValidUntil.UTC().Format(time.RFC3339), most)
	}
	now := &verified{policy: r.Envelope.Bundles[PolicyBundle], connections: map[string]verifiedConnection{}}
	var known *verified
	if before != nil && before.verified != nil && before.verified.policy == now.policy {
		known = before.verified
	}
	suspect := suspects{documents: maps.Clone(r.documents), seen: maps.Clone(r.seen), reviews: map[string]*Review{}, connections: map[string]*Connection{}}
	for name, c := range r.Connections {
		found := verifiedConnection{bundle: r.Envelope.Bundles[ConnectionBundle(name)], document: c.Digest}
		var last verifiedConnection
		if known != nil {
			last = known.connections[name]
		}
		if last.bundle == found.bundle {
			now.connections[name] = last
			continue
		}
		if last.document != found.document {
			last.reviews = nil // they stand on the connection
		}
		if err := suspect.add(c, last.reviews, &found); err != nil {
			return fmt.Errorf("%w: connection %s: %w", ErrUnverified, name, err)
		}
		now.connections[name] = found
	}
	if known == nil || len(suspect.connections) > 0 {
		if err := suspect.judge(ctx, r); err != nil {
			return fmt.Errorf("%w: %w", ErrUnverified, err)
		}
	}
	r.verified = now
	return nil
}

// suspects are what is to be verified: everything of the policy bundle, the
// connections whose bundle changed, and of those the reviews that changed.
type suspects struct {
	documents   documents
	seen        sightings
	connections map[string]*Connection
	reviews     map[string]*Review
}

// add takes a connection with those reviews that are not known already.
func (s *suspects) add(c *Connection, known map[string][sha256.Size]byte, found *verifiedConnection) error {
	s.connections[c.Name] = c
	sidecars := c.documents.signatures()
	found.reviews = make(map[string][sha256.Size]byte, len(c.reviews))
	fresh := map[string]bool{
		c.Document.Source.Path: true, reviews.AttestationPath(c.Digest): true,
		reviews.CatalogPath(c.Name): true, reviews.AttestationPath(digest(c.Catalog)): true,
	}
	for name, review := range c.reviews {
		at := review.Document.Source.Path
		key := c.reviewKey(review, sidecars[at])
		found.reviews[name] = key
		if last, ok := known[name]; ok && last == key {
			continue
		}
		s.reviews[name] = review
		fresh[at], fresh[reviews.AttestationPath(review.SHA256)] = true, true
	}
	for name, b := range c.documents {
		document, _, _ := strings.Cut(name, ".sigs/")
		if !fresh[document] {
			continue
		}
		if other, twice := s.documents[name]; twice && !bytes.Equal(other, b) {
			return fmt.Errorf("%s stands in two bundles with different contents", name)
		}
		s.documents[name] = b
	}
	for sum, at := range c.seen {
		if other, twice := s.seen[sum]; twice && other != at {
			return fmt.Errorf("file %s was first seen at two times, %s and %s", sum, other, at)
		}
		s.seen[sum] = at
	}
	return nil
}

// reviewKey is of all bytes of the bundle by which one review is judged.
func (c *Connection) reviewKey(r *Review, sidecars map[string][]byte) (key [sha256.Size]byte) {
	h := sha256.New()
	part := func(b []byte) { fmt.Fprintf(h, "%d:%s\n", len(b), b) }
	approval := func(name string, b []byte) {
		part([]byte(name))
		part(b)
		part([]byte(c.seen[digest(b)]))
	}
	h.Write(r.entry[:]) // has the sha256 of the document, and the approvers
	for _, name := range slices.Sorted(maps.Keys(sidecars)) {
		approval(name, sidecars[name])
	}
	if b, ok := c.documents[reviews.AttestationPath(r.SHA256)]; ok {
		approval("attestation", b)
	}
	h.Sum(key[:0])
	return key
}

// judge loads the documents by themselves and compares.
func (s *suspects) judge(ctx context.Context, r *Release) error {
	latest := r.Envelope.IssuedAt.Add(clockSkew)
	times, err := s.seen.times(latest)
	if err != nil {
		return err
	}
	for name, review := range s.reviews {
		if review.ApprovedAt.After(latest) {
			return fmt.Errorf("review %s was approved at %s, after the release was made", name, review.ApprovedAt.UTC().Format(time.RFC3339))
		}
	}
	files, err := s.documents.fs()
	if err != nil {
		return err
	}
	tree, err := reviews.Load(files, reviews.LoadOptions{
		Now: r.Envelope.IssuedAt, Cache: r.parsed,
		Seen: func(sha256 string) time.Time { return times[sha256] },
		AutoApprove: func(review *reviews.Review, c *reviews.Connection) string {
			messages, err := r.Policy.AutoApprove(ctx, policies.NewDocument(review.JSON()), policies.NewDocument(c.JSON()))
			if err != nil {
				return ""
			}
			return strings.Join(messages, "; ")
		},
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("trust, config or policies of the release do not stand on their own signatures, and nothing that sync alone says counts here (while they are broken at the head of the branch, mend them first): %w", few(err))
	case len(tree.Problems) > 0:
		return few(tree.Problems)
	case len(tree.Pending) > 0:
		p := tree.Pending[0]
		return fmt.Errorf("%s is not approved: the attestation of its pull request is missing or not enough: %s; %s", p.Path, p.Needs[0], strings.Join(p.Ignored, "; "))
	}
	return s.compare(tree)
}

// compare demands that the tree grants what the release does, no more and no less.
func (s *suspects) compare(tree *reviews.Tree) error {
	principals := map[string]bool{}
	for _, p := range tree.Principals {
		principals[p.Source.Path] = true
	}
	for name := range s.documents {
		if reviews.KindOf(name) == reviews.KindPrincipal && !principals[name] {
			return fmt.Errorf("%s is not an approved principal", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.connections)) {
		if c := tree.Connections[name]; c == nil || c.Source.SHA256 != s.connections[name].Digest {
			return fmt.Errorf("connection %s is not what was approved", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.reviews)) {
		got, want := s.reviews[name], tree.Reviews[name]
		switch {
		case want == nil || want.Source.SHA256 != got.SHA256:
			return fmt.Errorf("review %s is not what was approved", name)
		case !slices.Equal(want.Source.Approvals, got.Approvers):
			return fmt.Errorf("review %s was approved by %q, and the release says by %q", name, want.Source.Approvals, got.Approvers)
		}
	}
	if len(tree.Connections) != len(s.connections) || len(tree.Reviews) != len(s.reviews) {
		return errors.New("it carries approved documents in a bundle where they do not belong")
	}
	return nil
}

// times are the sightings, none of which may be later than latest.
func (s sightings) times(latest time.Time) (map[string]time.Time, error) {
	all := make(map[string]time.Time, len(s))
	for sum, text := range s {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil || !isDigest(sum) {
			return nil, fmt.Errorf("%q was not first seen at %q: that is no digest or no time", sum, text)
		}
		if at.After(latest) {
			return nil, fmt.Errorf("file %s was first seen at %s, after the release was made", sum, text)
		}
		all[sum] = at
	}
	return all, nil
}

// few keeps an error about thousands of documents readable.
func few(err error) error {
	var ps reviews.Problems
	const most = 3
	if !errors.As(err, &ps) || len(ps) <= most {
		return err
	}
	return fmt.Errorf("%w; and %d more", ps[:most], len(ps)-most)
}

// attestationPaths are those that the documents may have an attestation at.
func (d documents) attestationPaths() map[string]bool {
	paths := map[string]bool{}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(d)), isAttestation) {
		return paths
	}
	for name, b := range d {
		if !isApproval(name) && reviews.KindOf(name) != "" {
			paths[reviews.AttestationPath(digest(b))] = true
		}
	}
	return paths
}

func isAttestation(name string) bool { return strings.HasPrefix(name, attestationsFolder) }

// isApproval tells whether a file is a signature or an attestation.
func isApproval(name string) bool { return strings.Contains(name, ".sigs/") || isAttestation(name) }

var attestationsFolder = path.Dir(reviews.AttestationPath("x")) + "/"
