package syncer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/forge"
)

// publisher builds and writes one release; tests put a crash in its place.
type publisher func(ctx context.Context, to release.Target, in release.BuildInput, signer ssh.Signer) (*release.Built, error)

func publishRelease(ctx context.Context, to release.Target, in release.BuildInput, signer ssh.Signer) (*release.Built, error) {
	built, err := release.Build(ctx, in)
	if err != nil {
		return nil, err
	}
	return built, release.PublishTo(ctx, to, built, signer)
}

// fresh says that the newest release needs no successor yet: it is of the
// accepted commit, in its place, not due for its heartbeat, and no pull request
// is to be asked about again.
func (s *Syncer) fresh(ctx context.Context) (bool, error) {
	p := s.state.Published
	if p != nil && len(p.Pending) > 0 && s.audit != nil && !s.opt.Now().Before(s.askAgain()) {
		return false, nil
	}
	return s.current(ctx, p)
}

func (s *Syncer) current(ctx context.Context, p *published) (bool, error) {
	if p == nil || p.Commit != s.state.Commit || p.Sequence != s.state.Sequence || !s.opt.Now().Before(p.Next) {
		return false, nil
	}
	_, err := s.lying(ctx, s.outTag)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// lying is the release that lies where releases are published, nil when it still
// has that tag.
func (s *Syncer) lying(ctx context.Context, unless string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	b, tag, err := s.opt.Out.Get(ctx, release.EnvelopeFile, unless, release.MaxBundle)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", release.EnvelopeFile, s.opt.Out, err)
	}
	s.outTag = tag
	return b, nil
}

// release publishes what the state comes to. The sequence is reserved on disk
// first, so that a crash at any point never lets two releases share one.
func (s *Syncer) release(ctx context.Context) (bool, error) {
	now := s.opt.Now().UTC()
	tree, err := s.assemble(ctx, now)
	if err == nil && len(tree.Pending) > 0 && !now.Before(s.askAgain()) {
		tree, err = s.hearForge(ctx, tree, now)
	}
	if err == nil {
		err = s.mayRelease(tree.Root)
	}
	if err != nil {
		return false, errors.Join(err, s.state.save(s.opt.StateDir))
	}
	if p := s.state.Published; p != nil && len(tree.Pending) == len(p.Pending) {
		if current, err := s.current(ctx, p); current || err != nil {
			return false, err // only the forge was asked again, and it had nothing new
		}
	}
	before, err := s.lying(ctx, "")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, errors.Join(err, s.state.save(s.opt.StateDir))
	}
	s.keepForLog(before) // in case of a crash right after it was published
	reserved := *s.state
	// Beyond what lies there, so that a lost state folder does not make gateways
	// refuse what comes next. Only the number is believed.
	reserved.Sequence = max(reserved.Sequence, sequenceIn(before)) + 1
	if err := reserved.save(s.opt.StateDir); err != nil {
		return false, err
	}
	s.state = &reserved
	in, err := s.input(tree, now)
	if err != nil {
		return false, err
	}
	built, err := s.publish(ctx, s.opt.Out, in, s.opt.Signer)
	if err != nil {
		return false, fmt.Errorf("publish release %d: %w", in.Sequence, err)
	}
	done := reserved
	done.Published = &published{
		Sequence: in.Sequence, Commit: in.Commit, IssuedAt: built.Envelope.IssuedAt, ValidUntil: built.Envelope.ValidUntil,
		Next:     now.Add(in.ValidFor / 3), // well before half of the validity has passed
		Problems: append(tree.Problems, leftOut(built)...), Pending: tree.Pending,
	}
	done.Taken = nil
	s.state = &done
	lies, err := s.lying(ctx, "")
	if err != nil {
		s.log.Error("the release cannot be read back for the log on the audit branch; the next one brings it there", "error", err)
	}
	s.keepForLog(lies)
	return true, done.save(s.opt.StateDir)
}

// keepForLog hands a published release to the log. Gateways have it whatever
// becomes of that.
func (s *Syncer) keepForLog(signed []byte) {
	kept, err := s.logged.keep(signed, s.state.Kept)
	if err != nil {
		s.log.Error("a release is missing in the log on the audit branch", "error", err)
	}
	s.state.Kept = kept
}

// hearForge attests what waits for that and loads anew. What cannot be attested
// now stays pending.
func (s *Syncer) hearForge(ctx context.Context, tree *reviews.Tree, now time.Time) (*reviews.Tree, error) {
	s.asked = s.opt.Now()
	attested, err := s.attest(ctx, tree)
	if limit := (*forge.RateLimited)(nil); errors.As(err, &limit) {
		s.limited = limit.Until
	}
	s.awaiting = ""
	if err != nil {
		s.awaiting = err.Error()
	}
	if !attested {
		return tree, ctx.Err()
	}
	f, err := s.newFold(s.state.Commit)
	if err != nil {
		return nil, err
	}
	f.accept(f.head, s.state.Commit)
	s.state = f.state
	return s.assemble(ctx, now)
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
func (s *Syncer) input(tree *reviews.Tree, now time.Time) (release.BuildInput, error) {
	chain, err := s.rootChain()
	if err != nil {
		return release.BuildInput{}, err
	}
	in := s.known(now)
	in.Tree, in.Ref, in.Sequence = tree, "refs/heads/"+s.opt.Branch, s.state.Sequence
	in.ValidFor, in.Cache = tree.Config.Spec.Freshness.ValidFor.Std(), s.built
	in.RootsBefore, in.RootSeen, in.Taken = chain, s.state.root().At, s.state.Taken
	return in, nil
}

// known is that part of the input which the history alone says.
func (s *Syncer) known(now time.Time) release.BuildInput {
	return release.BuildInput{
		Commit: s.state.Commit, Now: now, History: s.histories(),
		Seen: func(sha256 string) time.Time { return s.state.Seen[sha256] },
	}
}

// history is what a release says of a folder of reviews, as long as that is the same map.
type history struct {
	of  map[string]memory
	are release.History
}

// histories are what is known of the reviews of each connection.
func (s *Syncer) histories() map[string]release.History {
	now, all := map[string]history{}, map[string]release.History{}
	for folder, docs := range s.state.Documents.folders {
		connection, is := strings.CutPrefix(folder, "reviews/")
		if !is {
			continue
		}
		h := s.past[connection]
		if h.are == nil || !oneMap(h.of, docs) {
			h = history{docs, release.History{}}
			for base, m := range docs {
				if m.Sequence > 0 {
					h.are[strings.TrimSuffix(base, ".yaml")] = release.Seen{Sequence: m.Sequence, Commit: m.Commit, At: m.At}
				}
			}
		}
		now[connection] = h
		if len(h.are) > 0 {
			all[connection] = h.are
		}
	}
	s.past = now
	return all
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
