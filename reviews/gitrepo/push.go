package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
)

// ErrExists means that a path to be written already holds other bytes.
var ErrExists = errors.New("the path already holds something else")

// pushAttempts is how often a commit is made anew on top of a branch that
// others push to at the same time.
const pushAttempts = 8

// Addition is a commit that only adds files, or puts them where something gives way.
type Addition struct {
	Branch  string            // created without history when the remote does not have it
	Files   map[string][]byte // slash-separated path to contents
	Message string
	Author  Identity  // also the committer
	Time    time.Time // author and committer date
	// Replace says whether what stands at a path, or in the way of one, gives way to
	// what is added: its contents, nil when it is no plain file. Without it nothing does.
	Replace func(path string, there []byte) bool
	// Sign returns the armoured SSHSIG, namespace "git", over the commit's bytes.
	Sign func(message []byte) (armored []byte, err error)
}

// Add commits files to a branch of the remote and pushes it, never forced: when
// the branch moved meanwhile, the commit is made again on top of it. Files that
// are already there with the same bytes are left out, so that repeating an Add
// whose outcome is unknown is safe; other bytes at a path are ErrExists unless
// Replace lets them go. It returns the commit that holds all files.
func (m *Mirror) Add(ctx context.Context, a Addition) (commit string, err error) {
	if err := a.check(); err != nil {
		return "", err
	}
	m.network.Lock()
	defer m.network.Unlock()
	ctx, cancel := context.WithTimeout(ctx, m.limit)
	defer cancel()
	for range pushAttempts {
		var base string
		base, err = m.fetch(ctx, a.Branch)
		if err != nil && !errors.Is(err, ErrNoBranch) {
			return "", err
		}
		var added int
		commit, added, err = m.commitOn(base, a)
		if err != nil || added == 0 {
			return commit, err
		}
		if err = m.push(ctx, a.Branch, commit, base); err == nil {
			return commit, nil
		}
		if ctx.Err() != nil {
			break
		}
		if now, headErr := m.fetch(ctx, a.Branch); headErr == nil && now == base || errors.Is(headErr, ErrNoBranch) && base == "" {
			break // nobody moved the branch: the remote does not want the commit
		}
	}
	return "", fmt.Errorf("push branch %q: %w", a.Branch, err)
}

func (a Addition) check() error {
	if err := CheckBranch(a.Branch); err != nil {
		return err
	}
	if a.Sign == nil || a.Author.Name == "" || a.Author.Email == "" || a.Time.IsZero() || a.Message == "" {
		return errors.New("commit: signer, author, time and message are required")
	}
	if strings.ContainsAny(a.Author.Name+a.Author.Email, "<>\n\x00") {
		return errors.New("commit: author name and email must not contain <, > or line breaks")
	}
	for name := range a.Files {
		if !fs.ValidPath(name) || name == "." || strings.Count(name, "/") >= maxDepth ||
			slices.ContainsFunc(strings.Split(name, "/"), unsafeName) {
			return fmt.Errorf("commit: path %q is not allowed", name)
		}
	}
	return nil
}

// commitOn makes the signed commit on top of base, "" for none, and says how
// many files it adds; with none it makes nothing and returns base.
func (m *Mirror) commitOn(base string, a Addition) (string, int, error) {
	var root plumbing.Hash
	var parents []plumbing.Hash
	if base != "" {
		c, err := m.Commit(base)
		if err != nil {
			return "", 0, err
		}
		root, parents = c.tree, []plumbing.Hash{plumbing.NewHash(base)}
	}
	m.objects.mu.Lock()
	defer m.objects.mu.Unlock()
	w := treeWriter{objects: m.objects.repo.Storer, replace: a.Replace}
	top := &node{id: root}
	for _, name := range slices.Sorted(maps.Keys(a.Files)) {
		if err := w.put(top, name, a.Files[name]); err != nil {
			return "", 0, fmt.Errorf("commit %s: %w", name, err)
		}
	}
	if w.added == 0 {
		return base, 0, nil
	}
	tree, err := w.write(top)
	if err != nil {
		return "", 0, fmt.Errorf("commit: %w", err)
	}
	id, err := w.commit(a, tree, parents)
	return id.String(), w.added, err
}

// push sends one commit. RequireRemoteRefs and the server's own comparison
// refuse it unless the branch still is at base.
func (m *Mirror) push(ctx context.Context, branch, commit, base string) error {
	m.objects.mu.Lock()
	defer m.objects.mu.Unlock()
	name := plumbing.NewBranchReferenceName(branch)
	local := plumbing.ReferenceName("refs/sallyport/push/" + branch)
	if err := m.objects.repo.Storer.SetReference(plumbing.NewHashReference(local, plumbing.NewHash(commit))); err != nil {
		return err
	}
	opt := &git.PushOptions{Auth: m.auth, RefSpecs: []config.RefSpec{config.RefSpec(local.String() + ":" + name.String())}}
	if base != "" {
		opt.RequireRemoteRefs = []config.RefSpec{config.RefSpec(base + ":" + name.String())}
	}
	if err := m.origin().PushContext(ctx, opt); err != nil && !errors.Is(err, git.NoErrAlreadyUpToDate) {
		return m.remoteError("push to", err)
	}
	return nil
}
