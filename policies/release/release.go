// Package release is what sync hands to gateways: one signed envelope and the
// content-addressed bundles it names, in a directory. It builds, publishes, opens
// and watches releases, and keeps the mark that no gateway goes back behind.
//
// It does not decide who may approve what: Build takes a tree whose approvals
// package reviews has checked, and Open trusts a release key of the pinned trust root.
//
// The invariant: Open returns a release only if every byte that it came from
// is covered by that signature, and what it says of a document is what the
// document's own signed bytes say. Anything doubtful is an error, and the caller
// keeps the release it has.
//
// # Layout
//
//	release.json             the signed envelope; replaced atomically, last
//	bundles/<sha256>.tar.gz  OPA bundles: "policy", "connection/<name>" for each connection, and
//	                         "sequences/<name>" for each that ever had a review
//
// The roots of all bundles are disjoint. The stock tools read them:
//
//	opa inspect bundles/<sha256>.tar.gz
//	opa eval -b <policy>.tar.gz -b <connection>.tar.gz -i input.json data.sallyport.decision
package release

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// PolicyBundle, ConnectionBundle and SequencesBundle name bundles in Envelope.Bundles.
const PolicyBundle = "policy"

// ConnectionBundle is the name of a connection's bundle.
func ConnectionBundle(connection string) string { return connectionPrefix + connection }

// SequencesBundle is the name of the bundle with the Sequences of a connection.
func SequencesBundle(connection string) string { return sequencesPrefix + connection }

const (
	connectionPrefix = "connection/"
	sequencesPrefix  = "sequences/"
)

// Sequences are the highest sequences ever seen of the reviews of one connection,
// deleted ones included, by the last part of their names.
type Sequences map[string]int64

// Envelope is what sync signs and gatewayd trusts: which bundles are current, and until when.
type Envelope struct {
	Repo         string            `json:"repo"`
	Repository   string            `json:"repository"` // URL or path that challenges print
	Ref          string            `json:"ref"`
	Commit       string            `json:"commit"`
	Sequence     int64             `json:"sequence"` // strictly increasing
	TrustVersion int               `json:"trustVersion"`
	TrustDigest  string            `json:"trustDigest"` // sha256 hex of trust/root.yaml
	Bundles      map[string]string `json:"bundles"`     // "policy", "connection/<name>", "sequences/<name>" → sha256 hex of the .tar.gz
	IssuedAt     time.Time         `json:"issuedAt"`
	ValidUntil   time.Time         `json:"validUntil"`
	// Taken is what sync saw for the first time since the release before. It is for
	// a sync that lost its state, which finds it in the log of releases.
	Taken []Taken `json:"taken,omitempty"`
}

// Taken says when sync first saw a commit, or the attestation whose file has
// that sha256. With a commit it saw all that lead up to it on the first-parent line.
type Taken struct {
	Commit      string    `json:"commit,omitempty"`
	Attestation string    `json:"attestation,omitempty"`
	At          time.Time `json:"at"`
}

// Digest is the sha256 hex of the envelope's signed form.
func (e Envelope) Digest() string { return digest(canonical(e)) }

// Release is an opened, verified release: immutable once built.
type Release struct {
	Envelope Envelope
	Digest   string // sha256 hex of the envelope's payload
	// Until is when the release ends: Envelope.ValidUntil, or later when the trust
	// root's members extended this very release. Extended is then why, and
	// NotExtended why an extension that is there does not hold.
	Until                 time.Time
	Extended, NotExtended string
	Policy                *policies.Policy
	Root                  *reviews.Root
	Config                *reviews.Config
	Principals            map[string]*Principal // trust-root and principals/ ones, by name
	Connections           map[string]*Connection
	Sequences             map[string]Sequences // by connection, deleted ones included

	documents documents      // of the policy bundle
	seen      sightings      // of the policy bundle
	workers   int            // goroutines that read it
	verified  *verified      // nil unless the Opener verifies fully
	parsed    *reviews.Cache // reviews, from their reading to their full verification
}

// Principal is somebody who may log in.
type Principal struct {
	Name  string        `json:"name"`
	Owner string        `json:"owner,omitempty"`
	Keys  []reviews.Key `json:"keys"` // revoked keys are already left out; Key.Usable tells about the time
}

// Connection is one target with its reviews.
type Connection struct {
	Name     string
	Document *reviews.Connection
	JSON     *policies.Document // what Rego gets
	Catalog  []byte             // nil when the access repo has none
	Digest   string             // sha256 hex of the document

	reviews   map[string]*Review
	bySubject map[string][]*Review
	documents documents
	seen      sightings
}

// Review is one approved review as it stands in the release.
type Review struct {
	Name       string    // orders-db/etl-nightly
	SHA256     string    // of the document's bytes
	Commit     string    // first commit on the branch that holds exactly these bytes
	ApprovedAt time.Time // that commit's first sighting by sync; what maxAge counts from
	Approvers  []string
	Document   *reviews.Review
	JSON       *policies.Document // what Rego gets

	entry [sha256.Size]byte // of the bundle's entry, by which an unchanged review is known again
}

// Candidates are the reviews whose subject is the principal, sorted by name.
func (c *Connection) Candidates(principal string) []*Review { return c.bySubject[principal] }

// Review is the review of that name, nil when the release has none.
func (c *Connection) Review(name string) *Review { return c.reviews[name] }

// Reviews are all reviews by name. The map must not be changed.
func (c *Connection) Reviews() map[string]*Review { return c.reviews }

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// canonical is the one form in which a value is written. Readers refuse every
// other spelling of it, so that duplicate or unknown keys cannot hide anything.
func canonical(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("release: marshal %T: %v", v, err)) // plain data always marshals
	}
	return b
}

var errNotCanonical = errors.New("it is not in canonical form: a key is unknown, repeated, missing or out of order")

// decode reads v from its canonical form and from nothing else.
func decode[T any](b []byte) (T, error) {
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("it is not the expected JSON: %w", err)
	}
	if string(canonical(v)) != string(b) {
		return v, errNotCanonical
	}
	return v, nil
}
