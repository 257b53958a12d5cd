package main

import (
	"cmp"
	"context"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// maxChanged is how many paths two trees may hold differently.
const maxChanged = 1 << 20

// diffNames are the paths in which two commits or trees differ, in some folders or
// anywhere, sorted. git's own comparison would keep the names of all files that a
// tree stands for in memory, and one that names itself many times over stands for more than fit there.
func (w *workTree) diffNames(ctx context.Context, from, to string, folders ...string) ([]string, error) {
	objects := newGitObjects(ctx, w)
	defer objects.close()
	a, err := objects.tree(ctx, from)
	if err != nil {
		return nil, err
	}
	b, err := objects.tree(ctx, to)
	if err != nil {
		return nil, err
	}
	d := treeDiff{a: a, b: b, folders: folders}
	if err := d.compare("", a.root, b.root); err != nil {
		return nil, hint(err, "a tree that names itself many times over is an attack: find out who made %.12s, and do not merge it", to)
	}
	slices.Sort(d.paths)
	return slices.Compact(d.paths), nil
}

// treeDiff compares two trees, folder by folder.
type treeDiff struct {
	a, b    *gitTree
	folders []string // at the top, all when there are none
	paths   []string
	visited int
}

// compare notes what two folders hold differently; "" is no folder.
func (d *treeDiff) compare(at, a, b string) error {
	if a == b {
		return nil
	}
	before, err := listed(d.a, a)
	if err != nil {
		return err
	}
	after, err := listed(d.b, b)
	if err != nil {
		return err
	}
	if d.visited += len(before) + len(after); d.visited > maxChanged || strings.Count(at, "/") > maxNested {
		return errTooMuch
	}
	for len(before) > 0 || len(after) > 0 {
		var x, y *gitEntry
		order := 0
		switch {
		case len(before) == 0:
			order = 1
		case len(after) == 0:
			order = -1
		default:
			order = cmp.Compare(before[0].Name(), after[0].Name())
		}
		if order <= 0 {
			x, before = before[0].(*gitEntry), before[1:]
		}
		if order >= 0 {
			y, after = after[0].(*gitEntry), after[1:]
		}
		if err := d.entries(at, x, y); err != nil {
			return err
		}
	}
	return nil
}

// maxNested is how deep folders may lie in each other, far beyond any document.
const maxNested = 256

func listed(t *gitTree, id string) ([]fs.DirEntry, error) {
	if id == "" {
		return nil, nil
	}
	return t.list(id)
}

// entries compares what is there by one name, nil for nothing.
func (d *treeDiff) entries(at string, x, y *gitEntry) error {
	if x != nil && y != nil && *x == *y {
		return nil
	}
	var a, b, name string // a and b are folders
	plain := false
	for _, e := range []*gitEntry{x, y} {
		if e != nil {
			name, plain = path.Join(at, e.name), plain || !e.IsDir()
		}
	}
	if at == "" && len(d.folders) > 0 && !slices.Contains(d.folders, name) {
		return nil
	}
	if x != nil && x.IsDir() {
		a = x.id
	}
	if y != nil && y.IsDir() {
		b = y.id
	}
	if plain {
		d.paths = append(d.paths, name)
	}
	return d.compare(name, a, b)
}
