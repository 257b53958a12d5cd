// Package gitrepo reads and writes the access repo's git history. It is the
// only package that imports go-git.
//
// A Mirror is a private bare copy of one remote. Fetching never merges: the
// remote's branch is copied as it is, and its relation to the commit that was
// last accepted (ahead, behind, diverged, unrelated) is reported, so that a
// rewound history is noticed and not followed. A commit is read as an fs.FS in
// which everything that is not a plain file or folder with an ordinary name
// has an irregular mode and cannot be opened. Files go back as commits signed
// with an SSH key, never with a forced push.
//
// What it is not: it does not know documents, trust or approvals, and it puts
// no trust in commit signatures, authors or dates that it reads.
package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
)

// ErrNoBranch means that the remote answered and has no such branch.
var ErrNoBranch = errors.New("the remote has no such branch")

// maxPacks is how many pack files a mirror collects, one per fetch that
// brought something, before they are rewritten into one.
const maxPacks = 64

// Options say how to reach a remote. The zero value suits a local path, an
// ssh remote with a key in the running ssh-agent, and a public https remote.
type Options struct {
	// Token is the password for https remotes, for example a forge's access token. Secret.
	Token string
	// User goes with Token. Default: x-access-token, which forges take for any token's.
	User string
	// SSHKeyFile is an unencrypted private key for ssh remotes. Default: the keys of the ssh-agent.
	SSHKeyFile string
	// Timeout bounds one exchange with the remote. Default one minute.
	Timeout time.Duration
}

// Mirror is a bare copy of one remote in a folder of its own. Its methods may
// be called from several goroutines; exchanges with the remote are one at a time.
type Mirror struct {
	remote string // as given, with its password if it has one
	auth   transport.AuthMethod
	limit  time.Duration

	network sync.Mutex // one exchange with the remote at a time
	objects *store
	dir     string
}

// Open opens the mirror of remote in dir and creates it when dir is missing or
// empty. The remote is a path, a file, https or ssh URL, or user@host:path. It
// is not contacted yet.
func Open(dir, remote string, opt Options) (*Mirror, error) {
	if remote == "" {
		return nil, errors.New("open mirror: no remote given")
	}
	auth, err := authFor(remote, opt)
	if err != nil {
		return nil, fmt.Errorf("open mirror of %s: %w", Redact(remote), err)
	}
	repo, err := openBare(dir)
	if err != nil {
		return nil, fmt.Errorf("open mirror in %s: %w; it holds only a copy of the remote, so it may be removed", dir, err)
	}
	limit := opt.Timeout
	if limit <= 0 {
		limit = time.Minute
	}
	return &Mirror{remote: remote, auth: auth, limit: limit, objects: newStore(repo), dir: dir}, nil
}

func openBare(dir string) (*git.Repository, error) {
	repo, err := git.PlainOpen(dir)
	if !errors.Is(err, git.ErrRepositoryNotExists) {
		return repo, err
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		return nil, errors.New("the folder is not empty and not a git repository")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return git.PlainInit(dir, true)
}

// Remote is the remote's address without a password.
func (m *Mirror) Remote() string { return Redact(m.remote) }

// RemoteHead asks the remote for the commit of a branch and transfers nothing
// else: the cheap check before a fetch. ErrNoBranch when there is none.
func (m *Mirror) RemoteHead(ctx context.Context, branch string) (string, error) {
	if err := CheckBranch(branch); err != nil {
		return "", err
	}
	m.network.Lock()
	defer m.network.Unlock()
	ctx, cancel := context.WithTimeout(ctx, m.limit)
	defer cancel()
	refs, err := m.origin().ListContext(ctx, &git.ListOptions{Auth: m.auth})
	if err != nil && !errors.Is(err, transport.ErrEmptyRemoteRepository) {
		return "", m.remoteError("list branches of", err)
	}
	name := plumbing.NewBranchReferenceName(branch)
	for _, ref := range refs {
		if ref.Name() == name && ref.Type() == plumbing.HashReference {
			return ref.Hash().String(), nil
		}
	}
	return "", fmt.Errorf("branch %q of %s: %w", branch, m.Remote(), ErrNoBranch)
}

// Fetch copies a branch with its whole history and says how its head relates
// to last, the commit that the caller accepted before ("" for none). Objects
// that only last reaches are kept, so a rewound remote takes nothing away.
func (m *Mirror) Fetch(ctx context.Context, branch, last string) (Fetched, error) {
	if err := CheckBranch(branch); err != nil {
		return Fetched{}, err
	}
	m.network.Lock()
	defer m.network.Unlock()
	if err := m.keep(branch, last); err != nil {
		return Fetched{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, m.limit)
	defer cancel()
	head, err := m.fetch(ctx, branch)
	if err != nil {
		return Fetched{}, err
	}
	relation, err := m.relation(ctx, last, head)
	if err != nil {
		return Fetched{}, err
	}
	if err := m.repack(); err != nil {
		return Fetched{}, err
	}
	return Fetched{Head: head, Relation: relation}, nil
}

// PullRequest copies what a forge keeps as the head of a pull request, which it
// does for merged ones, too, and returns the commit.
func (m *Mirror) PullRequest(ctx context.Context, number int) (string, error) {
	m.network.Lock()
	defer m.network.Unlock()
	ctx, cancel := context.WithTimeout(ctx, m.limit)
	defer cancel()
	head, err := m.fetchRef(ctx, plumbing.ReferenceName(fmt.Sprintf("refs/pull/%d/head", number)), plumbing.ReferenceName(fmt.Sprintf("refs/sallyport/pull/%d", number)))
	if errors.Is(err, ErrNoBranch) {
		return "", fmt.Errorf("%s has no head of pull request %d", m.Remote(), number)
	}
	return head, err
}

// fetch copies the branch's head to a reference of the mirror's own.
func (m *Mirror) fetch(ctx context.Context, branch string) (string, error) {
	head, err := m.fetchRef(ctx, plumbing.NewBranchReferenceName(branch), refSeen(branch))
	if err != nil {
		return "", fmt.Errorf("branch %q: %w", branch, err)
	}
	return head, nil
}

// fetchRef copies a reference of the remote to one of the mirror's own. The plus
// sign forces only this copy; nothing that was accepted moves with it.
func (m *Mirror) fetchRef(ctx context.Context, name, seen plumbing.ReferenceName) (string, error) {
	m.objects.mu.Lock()
	defer m.objects.mu.Unlock()
	spec := config.RefSpec("+" + name.String() + ":" + seen.String())
	err := m.origin().FetchContext(ctx, &git.FetchOptions{
		RefSpecs: []config.RefSpec{spec}, Auth: m.auth, Tags: git.NoTags, Force: true,
	})
	switch {
	case errors.Is(err, git.NoErrAlreadyUpToDate):
	case errors.As(err, &git.NoMatchingRefSpecError{}), errors.Is(err, transport.ErrEmptyRemoteRepository):
		return "", fmt.Errorf("%s: %w", m.Remote(), ErrNoBranch)
	case err != nil:
		return "", m.remoteError("fetch from", err)
	}
	ref, err := m.objects.repo.Reference(seen, false)
	if err != nil {
		return "", fmt.Errorf("read what was fetched as %s: %w", seen, err)
	}
	return ref.Hash().String(), nil
}

// keep points a reference at the accepted commit, so that repacking never drops it.
func (m *Mirror) keep(branch, commit string) error {
	m.objects.mu.Lock()
	defer m.objects.mu.Unlock()
	if commit == "" {
		return nil
	}
	hash := plumbing.NewHash(commit)
	if m.objects.repo.Storer.HasEncodedObject(hash) != nil {
		return nil // the mirror was lost; the fetch brings it back or shows that it is gone
	}
	ref := plumbing.NewHashReference(plumbing.ReferenceName("refs/sallyport/accepted/"+branch), hash)
	if err := m.objects.repo.Storer.SetReference(ref); err != nil {
		return fmt.Errorf("keep commit %s: %w", commit, err)
	}
	return nil
}

// Last is the commit of a branch as it was last fetched, "" when it never was.
func (m *Mirror) Last(branch string) string {
	m.objects.mu.Lock()
	defer m.objects.mu.Unlock()
	ref, err := m.objects.repo.Reference(refSeen(branch), false)
	if err != nil {
		return ""
	}
	return ref.Hash().String()
}

func refSeen(branch string) plumbing.ReferenceName {
	return plumbing.ReferenceName("refs/sallyport/seen/" + branch)
}

// repack rewrites the packs into one when there are many of them.
func (m *Mirror) repack() error {
	m.objects.mu.Lock()
	defer m.objects.mu.Unlock()
	packs, err := filepath.Glob(filepath.Join(m.dir, "objects", "pack", "*.pack"))
	if err != nil || len(packs) < maxPacks {
		return err
	}
	if err := m.objects.repo.RepackObjects(&git.RepackConfig{}); err != nil {
		return fmt.Errorf("repack %s: %w", m.dir, err)
	}
	return m.objects.reopen(m.dir)
}

func (m *Mirror) origin() *git.Remote {
	return git.NewRemote(m.objects.repo.Storer, &config.RemoteConfig{Name: "origin", URLs: []string{m.remote}})
}

// remoteError names the remote without its password, also where the library put it into the message.
func (m *Mirror) remoteError(what string, err error) error {
	text := err.Error()
	if clean := strings.ReplaceAll(text, m.remote, m.Remote()); clean != text {
		return fmt.Errorf("%s %s: %s", what, m.Remote(), clean)
	}
	return fmt.Errorf("%s %s: %w", what, m.Remote(), err)
}

// Commit reads one commit by its full id.
func (m *Mirror) Commit(id string) (*Commit, error) { return m.objects.commit(id) }

// Has says whether the mirror holds a commit.
func (m *Mirror) Has(id string) bool {
	_, err := m.Commit(id)
	return err == nil
}

// Tree is the files of a commit of this mirror.
func (m *Mirror) Tree(c *Commit) *Tree { return newTree(m.objects, c) }
