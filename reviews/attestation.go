package reviews

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
)

// Statement is what sync says of one merged pull request: which contents its
// last reviewed commit had, and who approved that commit. It is an in-toto
// statement, https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md.
//
// Contents are bound and not commits, so the word holds after a squash, a
// rebase or a merge queue, and is void once anything else is merged.
type Statement struct {
	Type          string        `json:"_type"`
	Subject       []Content     `json:"subject"`
	PredicateType string        `json:"predicateType"`
	Predicate     ForgeApproval `json:"predicate"`
}

// Content is a document by its path in the access repo.
type Content struct {
	Name   string        `json:"name"`
	Digest ContentDigest `json:"digest"`
}

type ContentDigest struct {
	SHA256 string `json:"sha256"`
}

// ForgeApproval is the predicate of a Statement. People are numeric user ids of the forge.
type ForgeApproval struct {
	Repo        string `json:"repo"` // uuid of the access repo
	Forge       string `json:"forge"`
	Repository  string `json:"repository"` // owner/name
	PullRequest int64  `json:"pullRequest"`
	Base        string `json:"base"` // branch
	Head        string `json:"head"` // commit that was approved and merged
	// SameAs are the commits before Head from which on nothing was added but
	// signatures, by those who made them: an approval of one of them is one of Head.
	SameAs []string `json:"sameAs,omitempty"`
	// Contributors opened the pull request, or authored, committed or pushed any
	// of it. Their approvals do not count.
	Contributors []int64           `json:"contributors"`
	Approvals    []AccountApproval `json:"approvals"`
	AttestedAt   time.Time         `json:"attestedAt"`
}

// AccountApproval is one account's approval as it stood when the pull request was merged.
type AccountApproval struct {
	ID     int64     `json:"id"`
	Commit string    `json:"commit"` // that the account looked at
	At     time.Time `json:"at"`
	Bot    bool      `json:"bot,omitempty"`
}

const (
	statementType      = "https://in-toto.io/Statement/v1"
	forgeApprovalType  = "https://sallyport.dev/forge-approval/v1"
	statementMediaType = "application/vnd.in-toto+json"

	attestationsFolder = "approvals"
	maxAttestation     = 1 << 20
)

// attestation is a signed Statement: like a DSSE envelope, but with an SSHSIG
// over the payload in namespace sallyport.attestation.v1.
type attestation struct {
	PayloadType string `json:"payloadType"`
	Payload     []byte `json:"payload"`
	Signature   string `json:"signature"`
}

// AttestationPath is where the attestation for a document with that sha256
// stands, on the audit branch and in releases.
func AttestationPath(sha256 string) string { return attestationsFolder + "/" + sha256 + ".json" }

// Attest signs a statement about the approvals of a pull request with an attester's key.
func Attest(a ForgeApproval, subject []Content, key ssh.Signer) ([]byte, error) {
	if len(subject) == 0 {
		return nil, errors.New("reviews: an attestation without contents")
	}
	payload, err := json.Marshal(Statement{Type: statementType, Subject: subject, PredicateType: forgeApprovalType, Predicate: a})
	if err != nil {
		return nil, err
	}
	signature, err := Sign(key, NamespaceAttestation, payload)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(attestation{statementMediaType, payload, string(signature)})
	return append(b, '\n'), err
}

// Attested is what an attestation, first seen at that time, says of the document
// with that path and sha256, judged under the trust root and config of the tree. The
// error says why the attestation does not count.
func (t *Tree) Attested(path, sha256 string, attestation []byte, seen time.Time) (*ForgeApproval, error) {
	l := &loader{tree: t}
	statement, err := l.statement(subject{source: &Source{Path: path, SHA256: sha256}}, attestation, seen)
	if err != nil {
		return nil, err
	}
	return statement.ForgeApproval, nil
}

// attested is the statement about a document, nil when there is none. An error
// says why the one that is there does not count.
func (l *loader) attested(s subject) (*sighted, error) {
	b, err := l.attestation(s.source.SHA256)
	if b == nil || err != nil {
		return nil, err
	}
	return l.statement(s, b, l.seen(b))
}

func (l *loader) statement(s subject, b []byte, seen time.Time) (*sighted, error) {
	var signed attestation
	if err := strictJSON(b, &signed); err != nil || signed.PayloadType != statementMediaType {
		return nil, errors.New("it is not an attestation")
	}
	key, err := l.opt.Cache.verify([]byte(signed.Signature), NamespaceAttestation, signed.Payload)
	if err != nil {
		return nil, err
	}
	if err := l.attester(key, seen); err != nil {
		return nil, err
	}
	var st Statement
	if err := strictJSON(signed.Payload, &st); err != nil || st.Type != statementType || st.PredicateType != forgeApprovalType {
		return nil, errors.New("its statement is not about a pull request's approvals")
	}
	if err := l.about(&st, s); err != nil {
		return nil, err
	}
	return &sighted{&st.Predicate, seen, b}, nil
}

// sighted is an approval with the time at which sync first saw its attestation.
type sighted struct {
	*ForgeApproval
	seen time.Time
	file []byte
}

// about checks that a statement speaks of this document in this repository.
func (l *loader) about(st *Statement, s subject) error {
	config, p := l.tree.Config.Spec, st.Predicate
	switch {
	case p.Repo != l.tree.Repo:
		return errors.New("it is about another access repo")
	case p.Forge != config.Forge.Kind:
		return fmt.Errorf("it is from forge %s, the config names %s", printable(p.Forge), config.Forge.Kind)
	case p.Base != config.Branch:
		return fmt.Errorf("it is about a pull request to branch %s", printable(p.Base))
	}
	for _, c := range st.Subject {
		if c.Name == s.source.Path && c.Digest.SHA256 == s.source.SHA256 {
			return nil
		}
	}
	return errors.New("it is about other contents")
}

func (l *loader) attester(key ssh.PublicKey, seen time.Time) error {
	for _, k := range l.tree.Root.Spec.Attesters {
		if k.digest() == KeyDigest(key) {
			return l.tree.keys.stands(ownedKey{key: k, fingerprint: k.Fingerprint()}, seen)
		}
	}
	return fmt.Errorf("its key %s is not an attester of %s", ssh.FingerprintSHA256(key), RootPath)
}

// accounts are the principals of those accounts that approved, bots apart. Who
// contributed to the pull request is excluded from approving in any way.
func (l *loader) accounts(p *sighted) (people, bots, contributors map[string]bool) {
	people, bots, contributors = make(map[string]bool), make(map[string]bool), make(map[string]bool)
	for _, id := range p.Contributors {
		if name := l.tree.keys.accounts[account(p.Forge, id)]; name != "" {
			contributors[name] = true
		}
	}
	for _, a := range p.Approvals {
		name := l.tree.keys.accounts[account(p.Forge, a.ID)]
		switch {
		case name == "" || a.Commit != p.Head && !slices.Contains(p.SameAs, a.Commit) || l.tree.keys.vouches(name, p.seen) != nil:
		case a.Bot:
			bots[name] = true
		default:
			people[name] = true
		}
	}
	return people, bots, contributors
}

// strangers are the accounts that approved and belong to nobody in the trust root.
func (l *loader) strangers(p *sighted, sha256 string) Problems {
	var unknown Problems
	for _, a := range p.Approvals {
		if id := account(p.Forge, a.ID); l.tree.keys.accounts[id] == "" {
			unknown = append(unknown, problemf(AttestationPath(sha256), fmt.Sprintf("if it is one of yours, add forge: {%s: %d} to that principal in %s", printable(p.Forge), a.ID, RootPath),
				"account %s approved and belongs to nobody in %s", printable(id), RootPath))
		}
	}
	return unknown
}

// strictJSON decodes the one spelling that encoding v again gives, so that no key
// is unknown, repeated or in another case.
func strictJSON[T any](b []byte, v *T) error {
	if err := json.Unmarshal(b, v); err != nil {
		return err
	}
	again, err := json.Marshal(*v)
	if err != nil {
		return err
	}
	if !bytes.Equal(bytes.TrimSuffix(b, []byte("\n")), again) {
		return errors.New("reviews: not in canonical form")
	}
	return nil
}

func hexDigest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
