package gitrepo

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
	lru "github.com/hashicorp/golang-lru/v2"
)

// MaxBlob is the size in bytes above which a file of a commit is not read.
// Documents are far smaller; catalogs of large databases may reach megabytes.
const MaxBlob = 16 << 20

// Commit is one commit as it was read. Nothing in it is authenticated: author,
// committer and time are what whoever made it wrote.
type Commit struct {
	ID      string   // 40 hex digits
	Parents []string // the first one is the branch's own line
	Author  Identity
	Time    time.Time // the committer's claim, UTC
	Subject string    // first line of the message
	tree    plumbing.Hash
}

// Identity is a name and an address in a commit.
type Identity struct {
	Name  string
	Email string
}

// How much a store remembers, so that reading the next commit costs what it
// changed: at most about 100 MiB, however many commits and documents there are.
const (
	keptObjects = 1 << 15
	keptEntries = 1 << 18  // of all remembered folders together
	keptBlobs   = 16 << 20 // bytes of all remembered files together
	keptBlob    = 8 << 10  // bytes; larger files are read again
	keptBases   = 32 << 20 // bytes of objects that go-git keeps to apply deltas to
)

// store reads objects; go-git's storage is not safe for concurrent use. What
// it remembers is never changed, for an object's id is its contents.
type store struct {
	mu   sync.Mutex
	repo *git.Repository // guarded by mu

	folders *memory[entry]
	blobs   *memory[byte]
	sizes   *lru.Cache[plumbing.Hash, int64]
}

func newStore(repo *git.Repository) *store {
	keepOpen(repo)
	return &store{repo: repo, folders: newMemory[entry](keptEntries), blobs: newMemory[byte](keptBlobs), sizes: remember[int64](nil)}
}

// keepOpen makes repo keep its pack files open, of which a mirror has at most
// maxPacks, and look at the size of an object before reading it.
func keepOpen(repo *git.Repository) {
	if s, ok := repo.Storer.(*filesystem.Storage); ok {
		repo.Storer = filesystem.NewStorageWithOptions(s.Filesystem(), cache.NewObjectLRU(keptBases),
			filesystem.Options{MaxOpenDescriptors: maxPacks, LargeObjectThreshold: MaxBlob})
	}
}

// reopen lets go of the old packs after repacking. The caller holds mu.
func (s *store) reopen(dir string) error {
	repo, err := git.PlainOpen(dir)
	if err != nil {
		return err
	}
	keepOpen(repo)
	if old, ok := s.repo.Storer.(io.Closer); ok {
		err = old.Close()
	}
	s.repo = repo
	return err
}

func remember[V any](forgotten func(plumbing.Hash, V)) *lru.Cache[plumbing.Hash, V] {
	c, err := lru.NewWithEvict(keptObjects, forgotten)
	if err != nil {
		panic(err) // only for a size below one
	}
	return c
}

// memory remembers the lists used last, as long as they have no more elements than
// most together.
type memory[E any] struct {
	lists *lru.Cache[plumbing.Hash, []E]
	most  int64
	held  atomic.Int64
}

func newMemory[E any](most int64) *memory[E] {
	m := &memory[E]{most: most}
	m.lists = remember(func(_ plumbing.Hash, list []E) { m.held.Add(-int64(len(list))) })
	return m
}

func (m *memory[E]) Get(id plumbing.Hash) ([]E, bool) { return m.lists.Get(id) }

func (m *memory[E]) Add(id plumbing.Hash, list []E) {
	if found, _ := m.lists.ContainsOrAdd(id, list); found {
		return
	}
	m.held.Add(int64(len(list)))
	for m.held.Load() > m.most {
		if _, _, ok := m.lists.RemoveOldest(); !ok {
			return
		}
	}
}

func (s *store) commit(id string) (*Commit, error) {
	if !plumbing.IsHash(id) {
		return nil, fmt.Errorf("commit %q: not a full commit id", id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := object.GetCommit(s.repo.Storer, plumbing.NewHash(id))
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", id, err)
	}
	out := &Commit{
		ID: id, tree: c.TreeHash, Time: c.Committer.When.UTC(),
		Author: Identity{Name: c.Author.Name, Email: c.Author.Email},
	}
	out.Subject, _, _ = strings.Cut(c.Message, "\n")
	for _, p := range c.ParentHashes {
		out.Parents = append(out.Parents, p.String())
	}
	return out, nil
}

// folder reads one tree object, judges its names and sorts it.
func (s *store) folder(id plumbing.Hash) ([]entry, error) {
	if known, ok := s.folders.Get(id); ok {
		return known, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, err := s.rawTree(id)
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", id, err)
	}
	entries := judge(raw)
	s.folders.Add(id, entries)
	return entries, nil
}

// rawTree reads one tree object. The caller holds mu.
func (s *store) rawTree(id plumbing.Hash) ([]rawEntry, error) {
	o, err := s.repo.Storer.EncodedObject(plumbing.TreeObject, id)
	if err != nil {
		return nil, err
	}
	r, err := o.Reader()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return parseTree(b)
}

func (s *store) blobSize(id plumbing.Hash) (int64, error) {
	if known, ok := s.sizes.Get(id); ok {
		return known, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	size, err := s.repo.Storer.EncodedObjectSize(id)
	if err == nil {
		s.sizes.Add(id, size)
	}
	return size, err
}

// blob reads a whole file of at most MaxBlob bytes. Callers must not change it.
func (s *store) blob(id plumbing.Hash) ([]byte, error) {
	if known, ok := s.blobs.Get(id); ok {
		return known, nil
	}
	contents, err := s.read(id)
	if err == nil && len(contents) <= keptBlob {
		s.blobs.Add(id, contents)
	}
	return contents, err
}

func (s *store) read(id plumbing.Hash) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := object.GetBlob(s.repo.Storer, id)
	if err != nil {
		return nil, err
	}
	s.sizes.Add(id, b.Size)
	if b.Size > MaxBlob { // then nothing but its header was read
		return nil, fmt.Errorf("%w: %d bytes, at most %d are read", ErrTooLarge, b.Size, MaxBlob)
	}
	r, err := b.Reader()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	contents := make([]byte, b.Size)
	_, err = io.ReadFull(r, contents)
	return contents, err
}
