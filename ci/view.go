package ci

import (
	"bytes"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/sallyport-dev/sallyport/reviews"
)

// side is where a view has a document from.
type side int

const (
	nowhere side = iota
	base
	head
)

// view is an access repo put together from two trees. A document and its
// signatures, its catalog and the catalog's always come from the same side.
type view struct {
	base, head fs.FS // may be nil when pick never names it
	pick       func(document string) side
}

func (v view) tree(name string) fs.FS {
	switch v.pick(documentOf(name)) {
	case base:
		return v.base
	case head:
		return v.head
	}
	return nil
}

func absent(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

// Open implements fs.FS, for files. Folders are listed with ReadDir.
func (v view) Open(name string) (fs.File, error) {
	t := v.tree(name)
	if t == nil {
		return nil, absent("open", name)
	}
	return t.Open(name)
}

// Stat implements fs.StatFS, for files.
func (v view) Stat(name string) (fs.FileInfo, error) {
	t := v.tree(name)
	if t == nil {
		return nil, absent("stat", name)
	}
	return fs.Stat(t, name)
}

// ReadDir implements fs.ReadDirFS: each file from the side that it is picked from,
// and the folders that hold one.
func (v view) ReadDir(name string) ([]fs.DirEntry, error) {
	var list []fs.DirEntry
	found := false
	for _, s := range []side{base, head} {
		t := v.of(s)
		if t == nil {
			continue
		}
		entries, err := fs.ReadDir(t, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = true
		for _, e := range entries {
			if v.shows(path.Join(name, e.Name()), e.IsDir(), s) {
				list = append(list, e)
			}
		}
	}
	if !found {
		return nil, absent("readdir", name)
	}
	slices.SortStableFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	// A folder that both sides have is there once. A folder and a file of one name
	// stay two entries, which the loader refuses.
	return slices.CompactFunc(list, func(a, b fs.DirEntry) bool { return a.Name() == b.Name() && a.IsDir() && b.IsDir() }), nil
}

func (v view) of(s side) fs.FS {
	if s == base {
		return v.base
	}
	return v.head
}

// shows reports whether an entry of one side is part of the view: a file that is
// picked from it, or a folder in which something is. All files of a folder of
// signatures belong to one document.
func (v view) shows(at string, folder bool, s side) bool {
	if !folder || strings.HasSuffix(at, ".sigs") {
		return v.pick(documentOf(at)) == s
	}
	entries, err := fs.ReadDir(v.of(s), at)
	if err != nil {
		return true // whoever lists it is told
	}
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return v.shows(path.Join(at, e.Name()), e.IsDir(), s) })
}

// managed are the parts of a repository that make up an access repo.
var managed = []string{reviews.ConfigPath, reviews.ConfigPath + ".sigs", "trust", "principals", "connections", "reviews", "policies"}

// Managed reports whether a path belongs to the access repo, or to what a file
// system could take for it.
func Managed(name string) bool {
	top, _, _ := strings.Cut(name, "/")
	return slices.Contains(managed, strings.ToLower(top))
}

// difference lists the managed files that two trees hold differently, by name,
// kind of entry, execute bit or bytes.
func difference(a, b fs.FS) ([]string, error) {
	before, err := contents(a)
	if err != nil {
		return nil, err
	}
	after, err := contents(b)
	if err != nil {
		return nil, err
	}
	var changed []string
	for name, f := range after {
		if old, there := before[name]; !there || old.mode != f.mode || !bytes.Equal(old.bytes, f.bytes) {
			changed = append(changed, name)
		}
	}
	for name := range before {
		if _, there := after[name]; !there {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	return changed, nil
}

type content struct {
	mode  fs.FileMode
	bytes []byte
}

func contents(tree fs.FS) (map[string]content, error) {
	all := make(map[string]content)
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && !Managed(name):
			return fs.SkipDir
		case d.IsDir() || !Managed(name):
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		c := content{mode: d.Type() | info.Mode()&0o111}
		if c.mode.IsRegular() {
			if c.bytes, err = fs.ReadFile(tree, name); err != nil {
				return err
			}
		}
		all[name] = c
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return all, err
}
