package gitrepo

import (
	"errors"
	"fmt"
	"path"

	"github.com/go-git/go-git/v5/plumbing"
)

// maxChanges bounds one comparison, so that a tree which names itself many
// times over cannot keep it busy for ever.
const maxChanges = 1 << 21

// ErrTooMuch means that two trees differ in more than anybody can have meant: a tree
// that names itself many times over has no end.
var ErrTooMuch = errors.New("more folders and files than can be compared")

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
// change and not that of the repository. Only folders that into lets through are
// looked into, all when it is nil; "." always is. ErrTooMuch bounds the work.
func Diff(before, after *Tree, into func(folder string) bool) ([]Change, error) {
	d := differ{before: before, after: after, into: into}
	var root plumbing.Hash
	if before != nil {
		root = before.root
	}
	if err := d.folders(".", root, after.root, 0); err != nil {
		return nil, fmt.Errorf("what commit %s changed: %w", after.commit, err)
	}
	return d.changes, nil
}

type differ struct {
	before, after *Tree
	into          func(folder string) bool
	changes       []Change
	visited       int
}

func (d *differ) folders(dir string, a, b plumbing.Hash, depth int) error {
	if a == b {
		return nil
	}
	if depth > maxDepth {
		return fmt.Errorf("%s: more than %d folders deep: %w", dir, maxDepth, ErrTooMuch)
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
		return ErrTooMuch
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
	if (x.mode.IsDir() || y.mode.IsDir()) && (d.into == nil || d.into(name)) {
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
