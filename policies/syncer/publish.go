package syncer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// publisher builds and writes one release; tests put a crash in its place.
type publisher func(ctx context.Context, dir string, in release.BuildInput, signer ssh.Signer) (*release.Built, error)

func publishRelease(ctx context.Context, dir string, in release.BuildInput, signer ssh.Signer) (*release.Built, error) {
	built, err := release.Build(ctx, in)
	if err != nil {
		return nil, err
	}
	return built, release.Publish(dir, built, signer)
}

// fresh says that the newest release needs no successor yet: it is of the
// accepted commit, in its place, and neither due for its heartbeat nor past
// the moment at which some key starts or ends to count.
func (s *Syncer) fresh() bool {
	p := s.state.Published
	if p == nil || p.Commit != s.state.Commit || p.Sequence != s.state.Sequence || !s.opt.Now().Before(p.Next) {
		return false
	}
	_, err := os.Stat(filepath.Join(s.opt.OutDir, release.EnvelopeFile))
	return err == nil
}

// release publishes what the state comes to. The sequence is reserved on disk
// first, so that a crash at any point never lets two releases share one.
func (s *Syncer) release(ctx context.Context) (bool, error) {
	now := s.opt.Now().UTC()
	granted, err := s.assemble(s.state, now)
	if err == nil {
		err = s.mayRelease(granted.tree.Root)
	}
	if err != nil {
		return false, errors.Join(err, s.state.save(s.opt.StateDir))
	}
	reserved := *s.state
	reserved.Sequence = max(reserved.Sequence, highestIn(s.opt.OutDir)) + 1
	if err := reserved.save(s.opt.StateDir); err != nil {
		return false, err
	}
	s.state = &reserved
	in := s.input(granted.tree, now)
	built, err := s.publish(ctx, s.opt.OutDir, in, s.opt.Signer)
	if err != nil {
		return false, fmt.Errorf("publish release %d: %w", in.Sequence, err)
	}
	done := reserved
	done.Published = &published{
		Sequence: in.Sequence, Commit: in.Commit, IssuedAt: built.Envelope.IssuedAt, ValidUntil: built.Envelope.ValidUntil,
		Next:     nextRound(granted.tree, now, in.ValidFor),
		Problems: append(granted.tree.Problems, leftOut(built)...), Expired: granted.expired,
	}
	s.state = &done
	return true, done.save(s.opt.StateDir)
}

// leftOut are the reviews that building the release refused.
func leftOut(built *release.Built) reviews.Problems {
	var out reviews.Problems
	for _, name := range slices.Sorted(maps.Keys(built.Closed)) {
		out = append(out, problem(reviews.PathOf(reviews.KindReview, name), "not granted: "+built.Closed[name]))
	}
	return out
}

// input is what the release is built from.
func (s *Syncer) input(tree *reviews.Tree, now time.Time) release.BuildInput {
	in := release.BuildInput{
		Tree: tree, Commit: s.state.Commit, Ref: "refs/heads/" + s.opt.Branch, Sequence: s.state.Sequence,
		History: map[string]release.Seen{}, HighestSequences: map[string]int64{},
		Now: now, ValidFor: tree.Config.Spec.Freshness.ValidFor.Std(), Cache: s.built,
	}
	for path, m := range s.state.Documents {
		if m.Sequence > 0 {
			name := reviewName(path)
			in.HighestSequences[name] = m.Sequence
			in.History[name] = release.Seen{Commit: m.Commit, At: m.At}
		}
	}
	return in
}

// highestIn is the sequence of the release that lies in a folder, 0 when there
// is none. Only the number is used, and only to go beyond it, so that a lost
// state folder does not make gateways refuse what comes next.
func highestIn(dir string) int64 {
	b, err := os.ReadFile(filepath.Join(dir, release.EnvelopeFile))
	if err != nil {
		return 0
	}
	var signed struct {
		Payload []byte `json:"payload"`
	}
	var envelope struct {
		Sequence int64 `json:"sequence"`
	}
	if json.Unmarshal(b, &signed) != nil || json.Unmarshal(signed.Payload, &envelope) != nil {
		return 0
	}
	return min(max(envelope.Sequence, 0), math.MaxInt64-1)
}

// mayRelease refuses early what every gateway would refuse.
func (s *Syncer) mayRelease(root *reviews.Root) error {
	mine := s.opt.Signer.PublicKey()
	for _, r := range root.Spec.Revoked {
		if r.Fingerprint == ssh.FingerprintSHA256(mine) {
			return fmt.Errorf("release key %s is revoked in %s: sign with another one", r.Fingerprint, reviews.RootPath)
		}
	}
	for _, k := range root.Spec.Release {
		key, err := k.PublicKey()
		if err != nil || !bytes.Equal(key.Marshal(), mine.Marshal()) {
			continue
		}
		if err := k.Usable(s.opt.Now()); err != nil {
			return fmt.Errorf("release key %s: %w", ssh.FingerprintSHA256(mine), err)
		}
		return nil
	}
	return fmt.Errorf("key %s is not a release key of %s: sign with one that spec.release lists", ssh.FingerprintSHA256(mine), reviews.RootPath)
}

// nextRound is when to publish again although nothing changed: well before
// half of the validity has passed, or when a key starts or ends to count.
func nextRound(t *reviews.Tree, now time.Time, validFor time.Duration) time.Time {
	next := now.Add(validFor / 3)
	for _, k := range keysOf(t) {
		for _, moment := range []time.Time{k.NotBefore, k.NotAfter} {
			if moment.After(now) && moment.Before(next) {
				next = moment
			}
		}
	}
	return next
}

func keysOf(t *reviews.Tree) []reviews.Key {
	keys := slices.Clone(t.Root.Spec.Release)
	for _, p := range t.Root.Spec.Principals {
		keys = append(keys, p.Keys...)
	}
	for _, p := range t.Principals {
		keys = append(keys, p.Spec.Keys...)
	}
	return keys
}
