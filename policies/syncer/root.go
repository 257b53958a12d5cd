package syncer

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// trusted is a trust root that came into force.
type trusted struct {
	Version int       `json:"version"`
	SHA256  string    `json:"sha256"`
	Commit  string    `json:"commit"` // that brought it
	At      time.Time `json:"at"`     // when sync first saw that
}

// root is the trust root in force, the zero value before there is one.
func (s *state) root() trusted {
	if len(s.Roots) == 0 {
		return trusted{}
	}
	return s.Roots[len(s.Roots)-1]
}

// judgeRoot puts the trust root of a commit into force when it is the pinned
// one, or the successor of the one in force. It reports whether that changed.
// The trust root is judged apart from config and policies, so that a revocation
// applies whatever becomes of those.
func (f *fold) judgeRoot(c *gitrepo.Commit, tree *gitrepo.Tree) (bool, error) {
	b, err := tree.ReadFile(reviews.RootPath)
	if err != nil {
		return false, fmt.Errorf("%s: %w: put it back", reviews.RootPath, err)
	}
	now, sum := f.state.root(), digest(b)
	if sum == now.SHA256 {
		return false, nil
	}
	if now.SHA256 == "" && sum != f.state.TrustRoot {
		return false, fmt.Errorf("%s: sha256 %s is not the pinned %s: put the pinned trust root in place, or pin this one where sync and gateways are configured",
			reviews.RootPath, sum, f.state.TrustRoot)
	}
	opt := reviews.LoadOptions{Now: f.sighted(c)} // it is judged once, as of then
	next, err := reviews.LoadRoot(tree, opt)
	if err != nil {
		return false, err
	}
	if now.SHA256 != "" {
		before, err := f.rootInForce()
		if err != nil {
			return false, err
		}
		if err := next.Succeeds(before, opt); err != nil {
			return false, err
		}
	}
	f.state.Roots = append(f.state.Roots[:len(f.state.Roots):len(f.state.Roots)],
		trusted{Version: next.Spec.Version, SHA256: sum, Commit: c.ID, At: f.sighted(c)})
	return true, nil
}

// rootInForce is parsed anew from the commit that brought it.
func (f *fold) rootInForce() (*reviews.Root, error) {
	tree, err := treeOf(f.mirror, f.state.root().Commit)
	if err != nil {
		return nil, err
	}
	b, err := tree.ReadFile(reviews.RootPath)
	if err != nil {
		return nil, err
	}
	return reviews.ParseRoot(reviews.RootPath, b)
}

// rewindAt is the rewind that stands at the head, approved under the trust root in force.
func (f *fold) rewindAt() (*reviews.Rewind, error) {
	root, err := f.rootInForce()
	if err != nil {
		return nil, err
	}
	if _, err := f.head.Stat(reviews.RewindPath); isMissing(err) {
		return nil, fmt.Errorf("there is no %s", reviews.RewindPath)
	}
	return reviews.LoadRewind(f.head, root, reviews.LoadOptions{Now: f.now})
}

// trustTree is the commit whose trust root is in force, other while there is none.
func (s *state) trustTree(m *gitrepo.Mirror, other *gitrepo.Tree) (*gitrepo.Tree, error) {
	if len(s.Roots) == 0 {
		return other, nil
	}
	return treeOf(m, s.root().Commit)
}

// rootChain reads the trust roots that were in force before the present one,
// with their signatures, for verifiers who pinned one of them.
func (s *Syncer) rootChain() ([]release.RootSeen, error) {
	var chain []release.RootSeen
	for _, r := range s.state.Roots[:max(len(s.state.Roots)-1, 0)] {
		tree, err := treeOf(s.mirror, r.Commit)
		if err != nil {
			return nil, err
		}
		source, err := reviews.ReadSource(tree, reviews.RootPath)
		if err != nil {
			return nil, err
		}
		chain = append(chain, release.RootSeen{Source: source, At: r.At})
	}
	return chain, nil
}

// sight notes when the signatures that a commit brings were first seen.
func (f *fold) sight(c *gitrepo.Commit, tree *gitrepo.Tree, changes []gitrepo.Change) {
	for _, change := range changes {
		if docOf(change.Path) == change.Path {
			continue
		}
		b, err := tree.ReadFile(change.Path)
		if err != nil {
			continue // gone, or loading tells
		}
		if sum := digest(b); f.state.Seen[sum].IsZero() {
			f.state.Seen[sum] = f.sighted(c)
		}
	}
}

// sighted is when sync first saw a commit: now, or what the log of releases says.
// The dates in the commit itself were chosen by who made it.
func (f *fold) sighted(c *gitrepo.Commit) time.Time {
	if at, known := f.state.Sightings[c.ID]; known {
		return at
	}
	return f.now.UTC().Truncate(time.Second)
}

// changesBytes tells whether config or policies differ, signatures aside, and names one that does.
func changesBytes(a, b *gitrepo.Tree) (string, error) {
	changes, err := diff(a, b)
	if err != nil {
		return "", err
	}
	for _, c := range changes {
		if inBase(c.Path) && !inTrust(c.Path) && docOf(c.Path) == c.Path && reviews.KindOf(c.Path) != "" {
			return c.Path, nil
		}
	}
	return "", nil
}

func inTrust(name string) bool { return strings.HasPrefix(name, "trust/") }

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
