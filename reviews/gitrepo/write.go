package gitrepo

import (
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
)

// treeWriter adds files to a tree and writes only what changed.
type treeWriter struct {
	objects storer.EncodedObjectStorer
	replace func(path string, there []byte) bool // nil: nothing is replaced
	added   int
}

// node is a folder being changed.
type node struct {
	id       plumbing.Hash // zero: a new folder
	entries  map[string]object.TreeEntry
	children map[string]*node // folders that were descended into
}

// put adds one file, or does nothing when it is there with the same bytes. What
// else stands in its place or in its way is ErrExists, or is replaced.
func (w *treeWriter) put(top *node, name string, contents []byte) error {
	at, parts := top, strings.Split(name, "/")
	for i := range parts[:len(parts)-1] {
		next, err := w.child(at, parts[:i+1])
		if err != nil {
			return err
		}
		at = next
	}
	if err := w.load(at); err != nil {
		return err
	}
	id, err := w.object(plumbing.BlobObject, func(out io.Writer) error { _, err := out.Write(contents); return err })
	if err != nil {
		return err
	}
	base := parts[len(parts)-1]
	there, taken := at.entries[base]
	switch {
	case taken && there.Hash == id && there.Mode == filemode.Regular:
		return nil
	case at.children[base] != nil, taken && !w.mayReplace(name, there):
		return ErrExists
	}
	at.entries[base] = object.TreeEntry{Name: base, Mode: filemode.Regular, Hash: id}
	w.added++
	return nil
}

// mayReplace asks whether an entry at a path gives way.
func (w *treeWriter) mayReplace(path string, there object.TreeEntry) bool {
	if w.replace == nil {
		return false
	}
	if !there.Mode.IsFile() || there.Mode == filemode.Symlink {
		return w.replace(path, nil)
	}
	b, err := object.GetBlob(w.objects, there.Hash)
	if err != nil || b.Size > MaxBlob {
		return w.replace(path, nil)
	}
	r, err := b.Reader()
	if err != nil {
		return w.replace(path, nil)
	}
	defer r.Close()
	contents, err := io.ReadAll(io.LimitReader(r, MaxBlob))
	if err != nil {
		contents = nil
	}
	return w.replace(path, contents)
}

// child is the folder at the end of a path, of which at is the last but one.
func (w *treeWriter) child(at *node, path []string) (*node, error) {
	name := path[len(path)-1]
	if err := w.load(at); err != nil {
		return nil, err
	}
	if known := at.children[name]; known != nil {
		return known, nil
	}
	next := &node{}
	if there, ok := at.entries[name]; ok {
		switch {
		case there.Mode == filemode.Dir:
			next.id = there.Hash
		case !w.mayReplace(strings.Join(path, "/"), there):
			return nil, ErrExists
		default:
			delete(at.entries, name)
		}
	}
	at.children[name] = next
	return next, nil
}

func (w *treeWriter) load(n *node) error {
	if n.entries != nil {
		return nil
	}
	n.entries, n.children = map[string]object.TreeEntry{}, map[string]*node{}
	if n.id.IsZero() {
		return nil
	}
	t, err := object.GetTree(w.objects, n.id)
	if err != nil {
		return err
	}
	for _, e := range t.Entries {
		n.entries[e.Name] = e
	}
	return nil
}

// write stores a folder and those below it, and returns its id.
func (w *treeWriter) write(n *node) (plumbing.Hash, error) {
	for name, c := range n.children {
		if len(c.children) == 0 && len(c.entries) == 0 {
			continue
		}
		id, err := w.write(c)
		if err != nil {
			return plumbing.ZeroHash, err
		}
		n.entries[name] = object.TreeEntry{Name: name, Mode: filemode.Dir, Hash: id}
	}
	t := &object.Tree{}
	for _, e := range n.entries {
		t.Entries = append(t.Entries, e)
	}
	sort.Sort(object.TreeEntrySorter(t.Entries))
	o := w.objects.NewEncodedObject()
	if err := t.Encode(o); err != nil {
		return plumbing.ZeroHash, err
	}
	return w.objects.SetEncodedObject(o)
}

// commit signs and stores the commit object.
func (w *treeWriter) commit(a Addition, tree plumbing.Hash, parents []plumbing.Hash) (plumbing.Hash, error) {
	who := object.Signature{Name: a.Author.Name, Email: a.Author.Email, When: a.Time.UTC()}
	c := &object.Commit{
		Author: who, Committer: who, TreeHash: tree, ParentHashes: parents,
		Message: strings.TrimRight(a.Message, "\n") + "\n",
	}
	unsigned := &plumbing.MemoryObject{}
	if err := c.EncodeWithoutSignature(unsigned); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("commit: %w", err)
	}
	r, err := unsigned.Reader()
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("commit: %w", err)
	}
	message, err := io.ReadAll(r)
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("commit: %w", err)
	}
	signature, err := a.Sign(message)
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("sign commit: %w", err)
	}
	c.PGPSignature = string(signature) // the header `gpgsig` carries SSH signatures too
	o := w.objects.NewEncodedObject()
	if err := c.Encode(o); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("commit: %w", err)
	}
	return w.objects.SetEncodedObject(o)
}

func (w *treeWriter) object(kind plumbing.ObjectType, write func(io.Writer) error) (plumbing.Hash, error) {
	o := w.objects.NewEncodedObject()
	o.SetType(kind)
	out, err := o.Writer()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	if err := write(out); err != nil {
		return plumbing.ZeroHash, err
	}
	if err := out.Close(); err != nil {
		return plumbing.ZeroHash, err
	}
	return w.objects.SetEncodedObject(o)
}
