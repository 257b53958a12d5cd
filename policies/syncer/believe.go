package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// entry is a release of the log whose signature holds, whoever made it.
type entry struct {
	file     string
	envelope release.Envelope
	key      ssh.PublicKey
}

// believer decides whose releases of the log to believe: those of this sync's own
// key, and those of the keys that the trust root lists which was in force
// when they were written. Whoever may push to the audit branch can add others.
//
// Which trust roots were in force depends on when their commits were first seen,
// which the log tells. So it is read in rounds: what is believed already dates
// the next trust root, and that one says whom else to believe.
type believer struct {
	s       *Syncer
	line    []*gitrepo.Commit // of the access repo, oldest first
	entries []entry
	roots   []lineRoot
	places  map[string]int // of the commit on the audit branch in which each file came to be as it is; nil until asked for
}

// lineRoot is a version of the trust root on the first-parent line.
type lineRoot struct {
	commit *gitrepo.Commit
	tree   *gitrepo.Tree
	root   *reviews.Root
}

// believed sorts out the entries, and says why not of each that is not believed.
func (b *believer) believed(ctx context.Context) (kept []entry, why map[string]error, err error) {
	if err := b.readRoots(); err != nil {
		return nil, nil, err
	}
	for range len(b.roots) + 2 { // each round but the last finds one more trust root
		chain := b.chain(kept)
		var next []entry
		why = map[string]error{}
		for _, e := range b.entries {
			if err := b.believes(e, chain); err != nil {
				why[e.file] = err
				continue
			}
			next = append(next, e)
		}
		if len(next) == len(kept) {
			break
		}
		kept = next
	}
	return b.inTime(ctx, kept, b.chain(kept), why)
}

func (b *believer) own(e entry) bool {
	return string(e.key.Marshal()) == string(b.s.opt.Signer.PublicKey().Marshal())
}

// readRoots finds the versions of the trust root that can be parsed.
func (b *believer) readRoots() error {
	last := ""
	for _, c := range b.line {
		tree := b.s.mirror.Tree(c)
		id, err := tree.ID(reviews.RootPath)
		if err != nil || id == last {
			continue
		}
		last = id
		text, err := tree.ReadFile(reviews.RootPath)
		if err != nil {
			continue
		}
		if root, err := reviews.ParseRoot(reviews.RootPath, text); err == nil {
			b.roots = append(b.roots, lineRoot{c, tree, root})
		}
	}
	return nil
}

// chain are the trust roots that come into force, the pinned one first, when what
// is believed says when they were seen.
func (b *believer) chain(believed []entry) []*reviews.Root {
	var known learned
	for _, e := range believed {
		known.taken = append(known.taken, e.envelope.Taken...)
	}
	st := &state{Seen: map[string]time.Time{}}
	st.recall(known, b.line)
	var chain []*reviews.Root
	for _, r := range b.roots {
		if len(chain) == 0 {
			if r.root.Source.SHA256 == b.s.opt.TrustRoot { // whoever pinned it vouches for it
				chain = append(chain, r.root)
			}
			continue
		}
		at, is := st.Sightings[r.commit.ID]
		if !is {
			at = b.s.opt.Now()
		}
		opt := reviews.LoadOptions{Now: at}
		if root, err := reviews.LoadRoot(r.tree, opt); err == nil && root.Succeeds(chain[len(chain)-1], opt) == nil {
			chain = append(chain, root)
		}
	}
	return chain
}

// believes is nil when the entry's key was a release key under the trust root that
// the entry says was in force. The first entry under a root is what dates
// that root, so there the root before has to list the key as well.
func (b *believer) believes(e entry, chain []*reviews.Root) error {
	if b.own(e) {
		return nil
	}
	name := ssh.FingerprintSHA256(e.key)
	if len(chain) == 0 {
		return fmt.Errorf("it is signed by %s, and the pinned trust root is not on the branch", name)
	}
	last := chain[len(chain)-1]
	for _, r := range last.Spec.Revoked {
		if r.Fingerprint == name {
			return fmt.Errorf("it is signed by %s, which is revoked", name)
		}
	}
	at := e.envelope.IssuedAt
	for _, root := range chain {
		if root.Source.SHA256 == e.envelope.TrustDigest {
			return releases(root, e.key, at)
		}
	}
	for _, r := range b.roots {
		if r.root.Source.SHA256 == e.envelope.TrustDigest && r.root.Spec.Version == last.Spec.Version+1 {
			return errors.Join(releases(last, e.key, at), releases(r.root, e.key, at))
		}
	}
	return fmt.Errorf("it is signed by %s under a trust root that was not in force, sha256 %s", name, e.envelope.TrustDigest)
}

// releases is nil when the trust root lets the key sign releases at that time.
func releases(root *reviews.Root, key ssh.PublicKey, at time.Time) error {
	name := ssh.FingerprintSHA256(key)
	for _, k := range root.Spec.Release {
		if k.Fingerprint() != name {
			continue
		}
		if err := k.Usable(at); err != nil {
			return fmt.Errorf("it is signed by %s: %w", name, err)
		}
		return nil
	}
	return fmt.Errorf("it is signed by %s, which trust root version %d does not list as a release key", name, root.Spec.Version)
}

// inTime drops entries by retired keys that came onto the audit branch after
// the first one under a trust root that does not list the key any more: a retired
// key signs nothing new, whatever date its holder writes.
func (b *believer) inTime(ctx context.Context, entries []entry, chain []*reviews.Root, why map[string]error) ([]entry, map[string]error, error) {
	places := map[string]*reviews.Root{}
	for _, root := range chain {
		places[root.Source.SHA256] = root
	}
	var kept []entry
	for _, e := range entries {
		for _, f := range entries {
			under := places[f.envelope.TrustDigest]
			if b.own(e) || under == nil || under.Spec.Version <= e.envelope.TrustVersion || lists(under, e.key) {
				continue
			}
			if err := b.readPlaces(ctx); err != nil {
				return nil, nil, err
			}
			if b.places[e.file] > b.places[f.file] {
				why[e.file] = fmt.Errorf("it is signed by %s and came after %s, when trust root version %d did not list that key any more", ssh.FingerprintSHA256(e.key), f.file, under.Spec.Version)
				break
			}
		}
		if why[e.file] == nil {
			kept = append(kept, e)
		}
	}
	return kept, why, nil
}

func lists(root *reviews.Root, key ssh.PublicKey) bool {
	return slices.ContainsFunc(root.Spec.Release, func(k reviews.Key) bool { return k.Fingerprint() == ssh.FingerprintSHA256(key) })
}

// readPlaces finds out in which commit of the audit branch each release of the log
// came to be as it is.
func (b *believer) readPlaces(ctx context.Context) error {
	if b.places != nil {
		return nil
	}
	b.places = map[string]int{}
	m := b.s.audit.mirror
	line, err := m.FirstParents(ctx, b.s.audit.head(), "")
	if err != nil {
		return err
	}
	var before *gitrepo.Tree
	for i, c := range line {
		tree := m.Tree(c)
		changes, err := gitrepo.Diff(before, tree, func(folder string) bool { return folder == logFolder })
		if err != nil {
			return err
		}
		for _, change := range changes {
			if strings.HasPrefix(change.Path, logFolder+"/") {
				b.places[change.Path] = i
			}
		}
		before = tree
	}
	return nil
}
