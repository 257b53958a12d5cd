package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/reviews"
)

// rootGrace is how long after its successor was merged a trust root's gateway
// keys still count: gateways go on under a release until it expires.
const rootGrace = 24 * time.Hour

// datedRoot is a trust root and the time in which its gateway keys count.
type datedRoot struct {
	root        *reviews.Root
	from, until time.Time // zero: unbounded
}

// trustHistory is the trust roots of an access repo that may be relied on, newest
// first, from the merged one back. Each is what its successor may follow by the
// rule that sync has: the next version, which the thresholds of both approved.
//
// That rule alone would let who can push put a root of their own before the
// genuine one, and approve the genuine one with its key. So the way has to begin at a
// pinned root, or each earlier one is signed by its successor's root group, too.
type trustHistory []datedRoot

// trustHistory reads the trust roots back from merged. With pins, one of them has to
// be the merged one or lead to it.
func (r *accessRepo) trustHistory(ctx context.Context, merged *snapshot, root *reviews.Root, pins []string) (trustHistory, error) {
	isPinned := func(d datedRoot) bool {
		return slices.ContainsFunc(pins, func(p string) bool { return strings.TrimPrefix(p, "sha256:") == d.root.Source.SHA256 })
	}
	line, err := r.rootLine(ctx, merged, root)
	if err != nil {
		return nil, err
	}
	history := trustHistory{{root: root}}
	surest := 0 // place in the history from which on back only signers vouch
	if !isPinned(history[0]) && len(pins) > 0 {
		surest = -1
	}
	for {
		last := &history[len(history)-1]
		place := slices.IndexFunc(line, last.same)
		if place < 0 {
			return nil, fmt.Errorf("the trust root of %s is not in its history: fetch all of it", merged.ref)
		}
		last.from, line = line[place].from, line[place+1:]
		earlier, err := last.predecessor(line, isPinned)
		if err != nil {
			return nil, err
		}
		if earlier == nil {
			last.from = time.Time{} // nothing that counts was before it
			break
		}
		earlier.until = last.from.Add(rootGrace)
		history = append(history, *earlier)
		if isPinned(*earlier) {
			surest = len(history) - 1
		}
	}
	if surest < 0 {
		return nil, hint(fmt.Errorf("the trust root of %s is sha256:%s, which --trust-root does not name, and it follows from none that it names", merged.ref, root.Source.SHA256),
			"compare it with the one that your gateways pin")
	}
	for i := surest + 1; i < len(history); i++ {
		if !vouches(history[i-1].root, history[i].root) {
			history = history[:i]
			history[i-1].from = time.Time{}
			break
		}
	}
	return history, nil
}

func (d datedRoot) same(e datedRoot) bool { return d.root.Source.SHA256 == e.root.Source.SHA256 }

// predecessor is the root among earlier ones that this one follows from, nil when
// there is none.
func (d datedRoot) predecessor(earlier []datedRoot, isPinned func(datedRoot) bool) (*datedRoot, error) {
	var found []datedRoot
	for _, e := range earlier {
		if e.root.ApprovesItself(reviews.LoadOptions{Now: e.from}) == nil && d.root.Succeeds(e.root, reviews.LoadOptions{Now: d.from}) == nil {
			found = append(found, e)
		}
	}
	for _, surer := range []func(datedRoot) bool{isPinned, func(e datedRoot) bool { return vouches(d.root, e.root) }} {
		if picked := slices.DeleteFunc(slices.Clone(found), func(e datedRoot) bool { return !surer(e) }); len(found) > 1 && len(picked) > 0 {
			found = picked
		}
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return &found[0], nil
	}
	return nil, hint(fmt.Errorf("trust root version %d, sha256:%s, may follow from sha256:%s as well as from sha256:%s, and only one of them was in force", d.root.Spec.Version, d.root.Source.SHA256, found[0].root.Source.SHA256, found[1].root.Source.SHA256),
		"name the one that your gateways pinned with --trust-root")
}

// rootLine are the trust roots that the first-parent line ever had, newest first.
// Each is there once, where it first came, with the date of the commit that brought it
// and the signatures that it had in the end.
func (r *accessRepo) rootLine(ctx context.Context, merged *snapshot, root *reviews.Root) ([]datedRoot, error) {
	out, err := r.git.git(ctx, "log", "--first-parent", "--format=%H %ct", merged.commit, "--", reviews.RootPath)
	if err != nil {
		return nil, err
	}
	line := []datedRoot{{root: root}}
	next := root
	for change := range strings.SplitSeq(out, "\n") {
		commit, stamp, _ := strings.Cut(change, " ")
		seconds, err := strconv.ParseInt(stamp, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("git log: commit %s has no date", commit)
		}
		if next != nil {
			line[len(line)-1].from = time.Unix(seconds, 0).UTC()
		}
		if next, err = r.rootAt(ctx, commit+"^1"); err != nil {
			next = nil // never in force: nothing loads without a well-formed root; or there is none before the oldest
			continue
		}
		line = append(line, datedRoot{root: next})
	}
	var once []datedRoot
	for i, d := range line {
		if !slices.ContainsFunc(line[i+1:], d.same) {
			once = append(once, d)
		}
	}
	return once, nil
}

// rootAt is the trust root of a commit, with its signatures.
func (r *accessRepo) rootAt(ctx context.Context, commit string) (*reviews.Root, error) {
	files, err := r.git.files(ctx, commit, reviews.RootPath, reviews.RootPath+".sigs")
	if err != nil {
		return nil, err
	}
	source, err := reviews.ReadSource(newTreeFS(files), reviews.RootPath)
	if err != nil {
		return nil, err
	}
	root, err := reviews.ParseRoot(reviews.RootPath, source.Bytes)
	if err != nil {
		return nil, err
	}
	root.Source.Signatures = source.Signatures
	return root, nil
}

// vouches says whether a threshold of the later root's own signers signed the earlier one.
func vouches(later, earlier *reviews.Root) bool {
	if later.Metadata.Repo != earlier.Metadata.Repo {
		return false
	}
	signed := map[string]bool{}
	for _, sig := range earlier.Source.Signatures {
		key, err := reviews.Verify(sig, reviews.NamespaceRoot, earlier.Source.Bytes)
		if err != nil || revoked(later, ssh.FingerprintSHA256(key)) {
			continue
		}
		for _, p := range later.Spec.Principals {
			for _, k := range p.Keys {
				if k.Fingerprint() == ssh.FingerprintSHA256(key) && slices.Contains(later.Spec.Groups["root"], p.Name) {
					signed[p.Name] = true
				}
			}
		}
	}
	return len(signed) >= later.Spec.Threshold
}

func revoked(root *reviews.Root, fingerprint string) bool {
	return slices.ContainsFunc(root.Spec.Revoked, func(r reviews.Revocation) bool { return r.Fingerprint == fingerprint })
}

// holds says whether a trust root is one of the history.
func (h trustHistory) holds(sum string) bool {
	return slices.ContainsFunc(h, func(d datedRoot) bool { return d.root.Source.SHA256 == sum })
}

// gatewayOf names the gateway whose key it was at that time. A key that the
// newest root revokes was never anybody's: its thief can write any date.
func (h trustHistory) gatewayOf(key ssh.PublicKey, at time.Time) (string, error) {
	fingerprint := ssh.FingerprintSHA256(key)
	if revoked(h[0].root, fingerprint) {
		return "", fmt.Errorf("key %s is revoked by the trust root", fingerprint)
	}
	var otherwise error
	for _, d := range h {
		for _, g := range d.root.Spec.Gateways {
			known, err := reviews.Key{Key: g.Key}.PublicKey()
			if err != nil || ssh.FingerprintSHA256(known) != fingerprint {
				continue
			}
			if d.covers(at) {
				return g.Name, nil
			}
			otherwise = fmt.Errorf("key %s was no gateway's at %s: trust root version %d gave it to %s until %s", fingerprint, stamp(at), d.root.Spec.Version, g.Name, stamp(d.until))
		}
	}
	if otherwise == nil {
		otherwise = fmt.Errorf("key %s is no gateway's in the trust root", fingerprint)
	}
	return "", otherwise
}

// releaseKey says whether it was a release key, which sync signs with, at that time.
func (h trustHistory) releaseKey(key ssh.PublicKey, at time.Time) bool {
	fingerprint := ssh.FingerprintSHA256(key)
	return !revoked(h[0].root, fingerprint) && slices.ContainsFunc(h, func(d datedRoot) bool {
		return d.covers(at) && slices.ContainsFunc(d.root.Spec.Release, func(k reviews.Key) bool {
			return k.Fingerprint() == fingerprint && k.Usable(at) == nil
		})
	})
}

func (d datedRoot) covers(at time.Time) bool {
	return (d.from.IsZero() || !at.Before(d.from)) && (d.until.IsZero() || at.Before(d.until))
}

// seal checks a recording's seal.
func (h trustHistory) seal(gateway string, at time.Time, statement, armored []byte) error {
	key, err := reviews.Verify(armored, reviews.NamespaceCheckpoint, statement)
	if err != nil {
		return err
	}
	name, err := h.gatewayOf(key, at)
	if err != nil {
		return err
	}
	if name != gateway {
		return fmt.Errorf("it was made with the key of gateway %s", name)
	}
	return nil
}
