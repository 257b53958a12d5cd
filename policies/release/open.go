package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// Errors that Open's callers tell apart. All others mean a release that cannot be used.
var (
	ErrExpired    = errors.New("the release has expired; sync publishes a fresh one, see whether it runs")
	ErrRolledBack = errors.New("the release is older than one that was already in force")
	ErrUntrusted  = errors.New("the release is not signed by a release key of the pinned trust root")
)

// clockSkew is how far in the future a release may claim to be issued.
const clockSkew = 5 * time.Minute

// Trust is what a gateway is told in its configuration, out of band.
type Trust struct {
	RootDigest string // sha256 hex of a trust/root.yaml: the present one or one that it follows from
	Repo       string // uuid of the access repo; "": any that the root names
}

// Opener opens releases from one directory. The release opened last lends what
// has not changed, so that following an access repo costs what changes in it.
type Opener struct {
	Dir       string
	Trust     Trust
	HighWater *HighWater // nil only for tools that enforce nothing
	// Full also verifies every approval in the release, so that whoever holds a
	// release key, or runs sync, can withhold and delay but not grant.
	Full bool
	// MaxExtension is how far beyond its ValidUntil the trust root's members may
	// extend a release. 0: DefaultMaxExtension.
	MaxExtension time.Duration

	mirror *Mirror // fetches what is not in Dir, nil without one
}

// Open reads and verifies the release that dir holds.
func Open(ctx context.Context, dir string, trust Trust, mark *HighWater, now time.Time) (*Release, error) {
	return Opener{Dir: dir, Trust: trust, HighWater: mark}.Open(ctx, nil, now)
}

// Open reads and verifies the release in the directory. before may be nil, or a
// release that was opened with the same trust.
func (o Opener) Open(ctx context.Context, before *Release, now time.Time) (*Release, error) {
	r, err := o.open(ctx, before, now)
	if err != nil {
		return nil, fmt.Errorf("release in %s: %w", o.Dir, err)
	}
	return r, nil
}

func (o Opener) open(ctx context.Context, before *Release, now time.Time) (*Release, error) {
	s, envelope, err := o.readEnvelope()
	if err != nil {
		return nil, err
	}
	r := &Release{Envelope: envelope, Digest: digest(s.Payload), workers: runtime.GOMAXPROCS(0)}
	if before != nil && r.workers > 1 {
		r.workers-- // sessions go on meanwhile
	}
	if err := o.fetch(ctx, envelope.Bundles[PolicyBundle]); err != nil {
		return nil, bundleError(PolicyBundle, err)
	}
	members, err := o.readBundle(envelope, PolicyBundle, policyRoots())
	if err != nil {
		return nil, err
	}
	if err := r.readTrust(members, o.Trust, o.HighWater); err != nil {
		return nil, bundleError(PolicyBundle, err)
	}
	if err := verify(s, r.Root, now); err != nil {
		return nil, fmt.Errorf("%s: %w", EnvelopeFile, err)
	}
	o.extend(ctx, r, now)
	if err := o.checkEnvelope(envelope, r, now); err != nil {
		return nil, fmt.Errorf("%s: %w", EnvelopeFile, err)
	}
	if err := o.fetch(ctx, slices.Collect(maps.Values(envelope.Bundles))...); err != nil {
		return nil, err
	}
	if before != nil && before.Root.Source.SHA256 != r.Root.Source.SHA256 {
		before = nil
	}
	if err := r.readPolicy(ctx, members, before); err != nil {
		return nil, bundleError(PolicyBundle, err)
	}
	if o.Full {
		r.parsed = reviews.NewCache()
		defer func() { r.parsed = nil }()
	}
	if err := o.readSequences(r, before); err != nil {
		return nil, err
	}
	if err := o.readConnections(ctx, r, before); err != nil || !o.Full {
		return r, err
	}
	return r, r.verifyFully(ctx, before)
}

func (o Opener) readEnvelope() (signed, Envelope, error) {
	b, err := readCapped(filepath.Join(o.Dir, EnvelopeFile), maxEnvelope)
	if err != nil {
		return signed{}, Envelope{}, err
	}
	s, err := decode[signed](b)
	if err != nil {
		return signed{}, Envelope{}, fmt.Errorf("%s: %w", EnvelopeFile, err)
	}
	if s.PayloadType != payloadType {
		return signed{}, Envelope{}, fmt.Errorf("%s: payload type %q is not supported by this version", EnvelopeFile, s.PayloadType)
	}
	e, err := decode[Envelope](s.Payload)
	if err != nil {
		return signed{}, Envelope{}, fmt.Errorf("%s: payload: %w", EnvelopeFile, err)
	}
	return s, e, nil
}

// Logged reads the envelope of a release in the form of EnvelopeFile, and tells
// which key signed it. Whether that is one to believe is for the caller, and it
// says nothing about whether the release still holds.
func Logged(b []byte) (Envelope, ssh.PublicKey, error) {
	s, err := decode[signed](b)
	if err != nil {
		return Envelope{}, nil, err
	}
	if s.PayloadType != payloadType || len(s.Signatures) != 1 {
		return Envelope{}, nil, errors.New("it is not a release with one signature")
	}
	by, err := reviews.Verify([]byte(s.Signatures[0].Signature), reviews.NamespaceRelease, s.Payload)
	if err != nil {
		return Envelope{}, nil, err
	}
	e, err := decode[Envelope](s.Payload)
	return e, by, err
}

func readCapped(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %d MiB", filepath.Base(name), limit>>20)
	}
	return b, nil
}

// fetch has a mirror get what is missing of these bundles.
func (o Opener) fetch(ctx context.Context, sums ...string) error {
	if o.mirror == nil {
		return nil
	}
	return o.mirror.fetch(ctx, sums)
}

// readBundle returns the members of the bundle that the envelope names.
func (o Opener) readBundle(e Envelope, name string, roots []string) (map[string][]byte, error) {
	sum, ok := e.Bundles[name]
	if !ok || !isDigest(sum) {
		return nil, fmt.Errorf("%s: it names no bundle %q", EnvelopeFile, name)
	}
	dir := Folder(o.Dir)
	if o.mirror != nil {
		dir = o.mirror.dir()
	}
	b, err := readCapped(dir.path(bundleFile(sum)), MaxBundle)
	if err != nil {
		return nil, bundleError(name, err)
	}
	if digest(b) != sum {
		return nil, bundleError(name, fmt.Errorf("file %s does not have the contents that its name promises: it is truncated or was changed", sum+bundleSuffix))
	}
	members, err := unpack(b, roots)
	if err != nil {
		return nil, bundleError(name, err)
	}
	return members, nil
}

func bundleError(name string, err error) error { return fmt.Errorf("bundle %s: %w", name, err) }

// verify demands that every signature is by a usable release key, and at least one is there.
func verify(s signed, root *reviews.Root, now time.Time) error {
	if len(s.Signatures) == 0 {
		return fmt.Errorf("%w: it has no signature", ErrUntrusted)
	}
	seen := map[string]bool{}
	for _, sig := range s.Signatures {
		key, err := reviews.Verify([]byte(sig.Signature), reviews.NamespaceRelease, s.Payload)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUntrusted, err)
		}
		fingerprint := ssh.FingerprintSHA256(key)
		if fingerprint != sig.Fingerprint || seen[fingerprint] {
			return fmt.Errorf("%w: a signature by %s is listed as %q or twice", ErrUntrusted, fingerprint, sig.Fingerprint)
		}
		seen[fingerprint] = true
		if err := releaseKey(root, key, now); err != nil {
			return fmt.Errorf("%w: key %s: %w", ErrUntrusted, fingerprint, err)
		}
	}
	return nil
}

func releaseKey(root *reviews.Root, key ssh.PublicKey, now time.Time) error {
	if reason, revoked := revocation(root, "", key); revoked {
		return fmt.Errorf("the trust root revokes it: %s", reason)
	}
	for _, k := range root.Spec.Release {
		trusted, err := k.PublicKey()
		if err != nil {
			return err
		}
		if string(trusted.Marshal()) == string(key.Marshal()) {
			return k.Usable(now)
		}
	}
	return errors.New("the trust root does not list it under release")
}

// revocation says whether a key or its principal ("" for a key of no principal)
// is out of use. From when on approvals are void does not matter here.
func revocation(root *reviews.Root, principal string, key ssh.PublicKey) (reason string, revoked bool) {
	fingerprint := ssh.FingerprintSHA256(key)
	for _, r := range root.Spec.Revoked {
		if r.Fingerprint == fingerprint || r.Principal != "" && r.Principal == principal {
			return r.Reason, true
		}
	}
	return "", false
}

func (o Opener) checkEnvelope(e Envelope, r *Release, now time.Time) error {
	switch {
	case e.Repo != r.Root.Metadata.Repo || (o.Trust.Repo != "" && e.Repo != o.Trust.Repo):
		return fmt.Errorf("it is for access repo %q", e.Repo)
	case e.Repository != r.Config.Spec.Repository:
		return errors.New("its repository is not the one that the config names")
	case e.TrustVersion != r.Root.Spec.Version || e.TrustDigest != r.Root.Source.SHA256:
		return errors.New("its trust version and digest are not those of the trust root")
	case e.Sequence < 1:
		return fmt.Errorf("its sequence is %d", e.Sequence)
	case e.IssuedAt.After(now.Add(clockSkew)):
		return fmt.Errorf("it was issued at %s, in the future: check the clocks of sync and of this machine", e.IssuedAt.Format(time.RFC3339))
	case !e.ValidUntil.After(e.IssuedAt):
		return errors.New("it ends before it begins")
	case !now.Before(r.Until):
		return fmt.Errorf("%w (it was valid until %s)", ErrExpired, r.Until.Format(time.RFC3339))
	}
	return o.HighWater.checkEnvelope(e)
}

// readTrust reads the raw trust root and config. The root has to be the pinned one or to follow from it.
func (r *Release) readTrust(members map[string][]byte, trust Trust, mark *HighWater) error {
	file, err := decode[trustFile](members[trustData])
	if err != nil {
		return fmt.Errorf("%s: %w", trustData, err)
	}
	r.documents, r.seen = file.Documents, file.Seen
	if err := checkPolicyDocuments(r.documents); err != nil {
		return err
	}
	if r.Root, err = reviews.ParseRoot(reviews.RootPath, r.documents[reviews.RootPath]); err != nil {
		return err
	}
	if err := r.checkRoots(file.Roots, trust.RootDigest, mark); err != nil {
		return err
	}
	r.Config, err = reviews.ParseConfig(reviews.ConfigPath, r.documents[reviews.ConfigPath])
	if err != nil {
		return err
	}
	return r.sameRepo(r.Config.Metadata, r.Config.Source)
}

// checkPolicyDocuments refuses what has no place in the policy bundle.
func checkPolicyDocuments(files documents) error {
	attestations := files.attestationPaths()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		document, _, _ := strings.Cut(name, ".sigs/")
		switch reviews.KindOf(document) {
		case reviews.KindRoot, reviews.KindConfig, reviews.KindPrincipal, reviews.KindPolicy:
			continue
		}
		if !strings.HasPrefix(document, "trust/history/") && !attestations[name] {
			return fmt.Errorf("document %s does not belong into this bundle", name)
		}
	}
	return nil
}

func (r *Release) sameRepo(m reviews.Metadata, s reviews.Source) error {
	if m.Repo != r.Root.Metadata.Repo {
		return fmt.Errorf("%s is a document of access repo %q", s.Path, m.Repo)
	}
	return nil
}

// readPolicy reads what else the policy bundle holds: principals and Rego.
func (r *Release) readPolicy(ctx context.Context, members map[string][]byte, before *Release) error {
	if err := r.readPrincipals(); err != nil {
		return err
	}
	if err := checkModules(members, r.documents); err != nil {
		return err
	}
	if before != nil && before.Envelope.Bundles[PolicyBundle] == r.Envelope.Bundles[PolicyBundle] {
		r.Policy = before.Policy
		return nil
	}
	sources := map[string][]byte{}
	for name, b := range r.documents {
		if strings.HasPrefix(name, "policies/") && strings.HasSuffix(name, ".rego") {
			sources[name] = b
		}
	}
	var err error
	r.Policy, err = policies.Compile(ctx, sources)
	return err
}

// checkModules demands that the bundle's Rego is this program's library and the
// signed policies, nothing less and nothing more.
func checkModules(members map[string][]byte, files documents) error {
	owner := ownerModules(files)
	for name, b := range policies.Library() {
		if string(members[name]) != string(b) {
			return fmt.Errorf("%s is not the built-in library of this version; run the same version of sync and gatewayd", name)
		}
	}
	for name, b := range owner {
		if string(members[name]) != string(b) {
			return fmt.Errorf("%s is not the signed policy of that name", name)
		}
	}
	for name := range members {
		_, isOwner := owner[name]
		_, isLibrary := policies.Library()[name]
		if !isOwner && !isLibrary && name != trustData {
			return fmt.Errorf("member %q does not belong into this bundle", name)
		}
	}
	return nil
}

func (r *Release) readPrincipals() error {
	r.Principals = map[string]*Principal{}
	for _, p := range r.Root.Spec.Principals {
		if err := r.addPrincipal(p.Name, "", p.Keys); err != nil {
			return err
		}
	}
	for name, b := range r.documents {
		if reviews.KindOf(name) != reviews.KindPrincipal {
			continue
		}
		p, err := reviews.ParsePrincipal(name, b)
		if err != nil {
			return err
		}
		if err := r.sameRepo(p.Metadata, p.Source); err != nil {
			return err
		}
		if err := r.addPrincipal(p.Metadata.Name, p.Spec.Owner, p.Spec.Keys); err != nil {
			return err
		}
	}
	return nil
}

func (r *Release) addPrincipal(name, owner string, keys []reviews.Key) error {
	p := r.Principals[name]
	if p == nil {
		p = &Principal{Name: name}
		r.Principals[name] = p
	}
	if owner != "" {
		p.Owner = owner
	}
	for _, k := range keys {
		key, err := k.PublicKey()
		if err != nil {
			return fmt.Errorf("principal %s: %w", name, err)
		}
		if _, revoked := revocation(r.Root, name, key); !revoked {
			p.Keys = append(p.Keys, k)
		}
	}
	slices.SortFunc(p.Keys, func(a, b reviews.Key) int { return strings.Compare(a.Key, b.Key) })
	return nil
}
