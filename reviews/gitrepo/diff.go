package gitrepo

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/go-git/go-git/v5/plumbing"
)

// maxChanges bounds one comparison, so that a tree which names itself many
// times over cannot keep it busy for ever.
const maxChanges = 1 << 21

// Change is one path that two trees hold differently. Before and After are
// what Tree.ID says of it, "" where there is nothing.
type Change struct {
	Path   string
	Before string
	After  string
}

// Diff lists the files and irregular entries that differ between two trees of
// one mirror, sorted within each folder. before may be nil for "nothing yet".
// Folders with equal ids are not read, so the cost follows the size of the
// change and not that of the repository.
func Diff(before, after *Tree) ([]Change, error) {
	d := differ{before: before, after: after}
	var root plumbing.Hash
	if before != nil {
		root = before.root
	}
	if err := d.folders(".", root, after.root, 0); err != nil {
		return nil, fmt.Errorf("compare with commit %s: %w", after.commit, err)
	}
	return d.changes, nil
}

type differ struct {
	before, after *Tree
	changes       []Change
	visited       int
}

func (d *differ) folders(dir string, a, b plumbing.Hash, depth int) error {
	if a == b {
		return nil
	}
	if depth > maxDepth {
		return fmt.Errorf("%s: more than %d folders deep", dir, maxDepth)
	}
	old, err := list(d.before, a)
	if err != nil {
		return err
	}
	now, err := list(d.after, b)
	if err != nil {
		return err
	}
	if d.visited += len(old) + len(now); d.visited > maxChanges {
		return errors.New("too many entries")
	}
	for len(old) > 0 || len(now) > 0 {
		var x, y entry
		switch {
		case len(now) == 0 || len(old) > 0 && old[0].name < now[0].name:
			x, old = old[0], old[1:]
		case len(old) == 0 || now[0].name < old[0].name:
			y, now = now[0], now[1:]
		default:
			x, y, old, now = old[0], now[0], old[1:], now[1:]
		}
		if err := d.entries(dir, x, y, depth); err != nil {
			return err
		}
	}
	return nil
}

// entries compares what two folders hold under one name; the zero entry is nothing.
func (d *differ) entries(dir string, x, y entry, depth int) error {
	if x == y {
		return nil
	}
	name := path.Join(dir, x.name)
	if x.name == "" {
		name = path.Join(dir, y.name)
	}
	change := Change{Path: name}
	if x.name != "" && !x.mode.IsDir() {
		change.Before = x.key()
	}
	if y.name != "" && !y.mode.IsDir() {
		change.After = y.key()
	}
	if change.Before != change.After {
		d.changes = append(d.changes, change)
	}
	if x.mode.IsDir() || y.mode.IsDir() {
		return d.folders(name, folderID(x), folderID(y), depth+1)
	}
	return nil
}

func folderID(e entry) plumbing.Hash {
	if e.mode.IsDir() {
		return e.id
	}
	return plumbing.ZeroHash
}

func list(t *Tree, id plumbing.Hash) ([]entry, error) {
	if id.IsZero() {
		return nil, nil
	}
	return t.objects.folder(id)
}

// Walk visits every file of a tree, plain or not, and no folder.
func (t *Tree) Walk(visit func(name string, mode fs.FileMode) error) error {
	changes, err := Diff(nil, t)
	if err != nil {
		return err
	}
	for _, c := range changes {
		info, err := t.find("stat", c.Path)
		if err != nil {
			return err
		}
		if err := visit(c.Path, info.mode); err != nil {
			return err
		}
	}
	return nil
}
