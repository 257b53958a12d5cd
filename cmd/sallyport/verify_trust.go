package main

import (
	"context"
	"fmt"
	"io/fs"
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

// trustHistory is the trust roots of an access repo that may be relied on,
// newest first: the merged one, and each earlier one that a threshold of its
// successor's root group signed. Who can push cannot put another between them.
type trustHistory []datedRoot

// trustHistory reads the trust roots back from merged. pins, when there are
// any, must name the merged one; an earlier one that they name needs no signatures.
func (r *accessRepo) trustHistory(ctx context.Context, merged *snapshot, root *reviews.Root, pins []string) (trustHistory, error) {
	pinned := func(sum string) bool {
		return slices.ContainsFunc(pins, func(p string) bool { return strings.TrimPrefix(p, "sha256:") == sum })
	}
	if len(pins) > 0 && !pinned(root.Source.SHA256) {
		return nil, hint(fmt.Errorf("the trust root of %s is sha256:%s, which --trust-root does not name", merged.ref, root.Source.SHA256),
			"compare it with the one that your gateways pin")
	}
	history := trustHistory{{root: root}}
	out, err := r.git.git(ctx, "log", "--first-parent", "--format=%H %ct", merged.commit, "--", reviews.RootPath)
	if err != nil {
		return nil, err
	}
	changes := strings.Split(out, "\n")
	for _, change := range changes[:len(changes)-1] { // the oldest has none before it
		commit, stamp, _ := strings.Cut(change, " ")
		seconds, err := strconv.ParseInt(stamp, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("git log: commit %s has no date", commit)
		}
		from := time.Unix(seconds, 0).UTC()
		last := &history[len(history)-1]
		earlier, sigs, err := r.rootAt(ctx, commit+"^1")
		if err != nil {
			continue // never in force: nothing loads without a well-formed root
		}
		if !pinned(earlier.Source.SHA256) && !vouches(last.root, earlier, sigs) {
			continue
		}
		last.from = from
		history = append(history, datedRoot{root: earlier, until: from.Add(rootGrace)})
	}
	return history, nil
}

// rootAt is the trust root of a commit, with its signatures.
func (r *accessRepo) rootAt(ctx context.Context, commit string) (*reviews.Root, map[string][]byte, error) {
	files, err := r.git.files(ctx, commit, reviews.RootPath, reviews.RootPath+".sigs")
	if err != nil {
		return nil, nil, err
	}
	b, err := fs.ReadFile(files, reviews.RootPath)
	if err != nil {
		return nil, nil, err
	}
	root, err := reviews.ParseRoot(reviews.RootPath, b)
	sigs := map[string][]byte{}
	for name, f := range files {
		if name != reviews.RootPath {
			sigs[name] = f.Data
		}
	}
	return root, sigs, err
}

// vouches says whether a threshold of the later root's own signers signed the earlier one.
func vouches(later, earlier *reviews.Root, sigs map[string][]byte) bool {
	if later.Metadata.Repo != earlier.Metadata.Repo {
		return false
	}
	signed := map[string]bool{}
	for _, sig := range sigs {
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
