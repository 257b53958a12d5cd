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

	"golang.org/x/sync/errgroup"

	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// readConnections reads every bundle that the envelope names besides the policy's.
func (o Opener) readConnections(ctx context.Context, r *Release, before *Release) error {
	r.Connections = map[string]*Connection{}
	for _, bundle := range slices.Sorted(maps.Keys(r.Envelope.Bundles)) {
		if bundle == PolicyBundle || strings.HasPrefix(bundle, sequencesPrefix) {
			continue
		}
		name, ok := strings.CutPrefix(bundle, connectionPrefix)
		if !ok || !reviews.IsConnection(name) {
			return fmt.Errorf("%s: %q is not the name of a bundle", EnvelopeFile, bundle)
		}
		c, err := o.readConnection(ctx, r, before, name)
		if err != nil {
			return err
		}
		r.Connections[name] = c
	}
	return nil
}

func (o Opener) readConnection(ctx context.Context, r, before *Release, name string) (*Connection, error) {
	bundle := ConnectionBundle(name)
	var known *Connection
	if before != nil {
		known = before.Connections[name]
	}
	if known != nil && before.Envelope.Bundles[bundle] == r.Envelope.Bundles[bundle] {
		return known, known.checkSequences(r.Sequences[name])
	}
	members, err := o.readBundle(r.Envelope, bundle, connectionRoots(name))
	if err != nil {
		return nil, err
	}
	if len(members) != 1 {
		return nil, bundleError(bundle, fmt.Errorf("it has %d members where only data.json belongs", len(members)))
	}
	file, err := decodeConnection(members[connectionData(name)])
	if err != nil {
		return nil, bundleError(bundle, fmt.Errorf("data.json: %w", err))
	}
	c, err := r.connection(ctx, name, file, known)
	if err != nil {
		return nil, bundleError(bundle, err)
	}
	return c, c.checkSequences(r.Sequences[name])
}

// connection builds the connection from its raw documents. What the bundle says
// besides has to agree with them.
func (r *Release) connection(ctx context.Context, name string, file connectionFile, known *Connection) (*Connection, error) {
	at := reviews.PathOf(reviews.KindConnection, name)
	document, err := reviews.ParseConnection(at, file.documents[at])
	if err != nil {
		return nil, err
	}
	if err := r.sameRepo(document.Metadata, document.Source); err != nil {
		return nil, err
	}
	signatures := file.documents.signatures()
	document.Source.Signatures = signatures[at]
	document.Catalog = file.documents[reviews.CatalogPath(name)]
	json := document.JSON()
	if !bytes.Equal(canonical(json), file.connection) {
		return nil, fmt.Errorf("what it says of connection %s is not what %s says", name, at)
	}
	c := &Connection{
		Name:      name,
		Document:  document,
		JSON:      policies.NewDocument(json),
		Catalog:   document.Catalog,
		Digest:    document.Source.SHA256,
		documents: file.documents,
		seen:      file.seen,
	}
	if err := c.checkDocuments(file); err != nil {
		return nil, err
	}
	return c, c.readReviews(ctx, r, file, signatures, known)
}

// checkDocuments demands that each document is the connection, its catalog, a
// review that has an entry, or a signature or an attestation of one of these.
func (c *Connection) checkDocuments(file connectionFile) error {
	attestations := file.documents.attestationPaths()
	for _, name := range slices.Sorted(maps.Keys(file.documents)) { // so that the same problem is always told first
		document, _, isSignature := strings.Cut(name, ".sigs/")
		switch {
		case document == c.Document.Source.Path, document == reviews.CatalogPath(c.Name) && c.Catalog != nil, attestations[name]:
			continue
		case reviews.KindOf(document) == reviews.KindReview:
			entry := strings.TrimSuffix(strings.TrimPrefix(document, "reviews/"), ".yaml")
			if _, ok := file.reviews[entry]; ok {
				continue
			}
		}
		if isSignature {
			return fmt.Errorf("signature %s belongs to no document of this bundle", name)
		}
		return fmt.Errorf("document %s has no entry in this bundle", name)
	}
	return nil
}

// readReviews parses the reviews; ones that known holds unchanged are taken over.
func (c *Connection) readReviews(ctx context.Context, r *Release, file connectionFile, signatures map[string]map[string][]byte, known *Connection) error {
	names := slices.Sorted(maps.Keys(file.reviews))
	list := make([]*Review, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(r.workers)
	for i, name := range names {
		group.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			list[i], err = c.review(r, file, name, signatures, known)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	c.reviews = make(map[string]*Review, len(list))
	c.bySubject = map[string][]*Review{}
	for _, review := range list {
		c.reviews[review.Name] = review
		subject := review.Document.Spec.Subject
		c.bySubject[subject] = append(c.bySubject[subject], review)
	}
	return nil
}

func (c *Connection) review(r *Release, file connectionFile, name string, signatures map[string]map[string][]byte, known *Connection) (*Review, error) {
	at := reviews.PathOf(reviews.KindReview, name)
	if !reviews.IsReview(name) {
		return nil, fmt.Errorf("%q is not the name of a review", name)
	}
	raw, sum := file.documents[at], sha256.Sum256(file.reviews[name])
	if known != nil && known.reviews[name] != nil && known.reviews[name].entry == sum {
		if same := known.reviews[name]; bytes.Equal(raw, same.Document.Source.Bytes) {
			return same, nil
		}
	}
	entry, err := decode[reviewEntry](file.reviews[name])
	if err != nil {
		return nil, fmt.Errorf("the entry of %s: %w", at, err)
	}
	if digest(raw) != entry.SHA256 {
		return nil, fmt.Errorf("%s does not have the sha256 that its entry says", at)
	}
	document, err := r.parsed.Review(at, raw)
	if err != nil {
		return nil, err
	}
	if err := r.sameRepo(document.Metadata, document.Source); err != nil {
		return nil, err
	}
	if document.Spec.Connection != c.Name {
		return nil, fmt.Errorf("%s is a review for connection %s", at, document.Spec.Connection)
	}
	if !bytes.Equal(canonical(document.JSON()), entry.Document) || !maps.Equal(document.Source.Lines, entry.Lines) {
		return nil, fmt.Errorf("what the bundle says of review %s is not what %s says", name, at)
	}
	approvedAt, err := time.Parse(time.RFC3339, entry.ApprovedAt)
	if err != nil || entry.Commit == "" {
		return nil, errors.New("the entry of " + at + " lacks its commit or time of approval")
	}
	document.Source.Approvals = entry.Approvers
	document.Source.Signatures = signatures[at]
	return &Review{
		Name:       name,
		SHA256:     entry.SHA256,
		Commit:     entry.Commit,
		ApprovedAt: approvedAt,
		Approvers:  entry.Approvers,
		Document:   document,
		JSON:       policies.DocumentOf(document.JSON),
		entry:      sum,
	}, nil
}

// checkSequences demands that no review is older than one of its name was before.
func (c *Connection) checkSequences(highest Sequences) error {
	for name, review := range c.reviews {
		if got, most := review.Document.Spec.Sequence, highest[path.Base(name)]; got != most {
			return bundleError(SequencesBundle(c.Name), fmt.Errorf("review %s has sequence %d where the highest is %d", name, got, most))
		}
	}
	return nil
}

// readSequences reads how high the sequence of every review ever was, and refuses
// a release that forgot some of it.
func (o Opener) readSequences(r, before *Release) error {
	r.Sequences = map[string]Sequences{}
	for _, bundle := range slices.Sorted(maps.Keys(r.Envelope.Bundles)) {
		name, ok := strings.CutPrefix(bundle, sequencesPrefix)
		if !ok {
			continue
		}
		if !reviews.IsConnection(name) {
			return fmt.Errorf("%s: %q is not the name of a bundle", EnvelopeFile, bundle)
		}
		if before != nil && before.Envelope.Bundles[bundle] == r.Envelope.Bundles[bundle] {
			r.Sequences[name] = before.Sequences[name]
			continue
		}
		members, err := o.readBundle(r.Envelope, bundle, sequencesRoots(name))
		if err != nil {
			return err
		}
		if len(members) != 1 {
			return bundleError(bundle, fmt.Errorf("it has %d members where only data.json belongs", len(members)))
		}
		if r.Sequences[name], err = decode[Sequences](members[sequencesData(name)]); err != nil {
			return bundleError(bundle, fmt.Errorf("data.json: %w", err))
		}
	}
	return o.HighWater.checkSequences(r)
}
