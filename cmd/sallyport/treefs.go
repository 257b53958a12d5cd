package main

import (
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing/fstest"
)

// treeFS is files in memory whose folders are indexed: a MapFS looks at all of its
// files for each folder, which is too slow for ten thousand reviews.
type treeFS struct {
	files   fstest.MapFS
	folders map[string][]fs.DirEntry // sorted by name
}

func newTreeFS(files fstest.MapFS) *treeFS {
	t := &treeFS{files: files, folders: map[string][]fs.DirEntry{".": nil}}
	for name, f := range files {
		t.enter(path.Dir(name), entry{path.Base(name), f})
	}
	for _, entries := range t.folders {
		slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	}
	return t
}

// enter lists an entry in its folder, and the folder in the one above when it is new.
func (t *treeFS) enter(folder string, e entry) {
	_, known := t.folders[folder]
	t.folders[folder] = append(t.folders[folder], e)
	if !known {
		t.enter(path.Dir(folder), entry{path.Base(folder), folderFile})
	}
}

var folderFile = &fstest.MapFile{Mode: fs.ModeDir | 0o755}

// find is the file or folder of that name.
func (t *treeFS) find(op, name string) (*fstest.MapFile, error) {
	if f := t.files[name]; f != nil {
		return f, nil
	}
	if _, is := t.folders[name]; is {
		return folderFile, nil
	}
	return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

// Open implements fs.FS.
func (t *treeFS) Open(name string) (fs.File, error) {
	f, err := t.find("open", name)
	if err != nil {
		return nil, err
	}
	if f.Mode.IsDir() {
		return &folderHandle{ReadDirFile: must(fstest.MapFS{name: f}.Open(name)), left: t.folders[name]}, nil
	}
	return fstest.MapFS{name: f}.Open(name)
}

// folderHandle is an open folder.
type folderHandle struct {
	fs.ReadDirFile
	left []fs.DirEntry
}

func must(f fs.File, _ error) fs.ReadDirFile { return f.(fs.ReadDirFile) }

// ReadDir implements fs.ReadDirFile.
func (h *folderHandle) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 || n > len(h.left) {
		if n > 0 && len(h.left) == 0 {
			return nil, io.EOF
		}
		n = len(h.left)
	}
	taken := slices.Clone(h.left[:n])
	h.left = h.left[n:]
	return taken, nil
}

// Stat implements fs.StatFS. It follows no links.
func (t *treeFS) Stat(name string) (fs.FileInfo, error) {
	f, err := t.find("stat", name)
	if err != nil {
		return nil, err
	}
	return entry{path.Base(name), f}.Info()
}

// ReadFile implements fs.ReadFileFS.
func (t *treeFS) ReadFile(name string) ([]byte, error) {
	f, err := t.find("read", name)
	if err == nil && !f.Mode.IsRegular() {
		err = &fs.PathError{Op: "read", Path: name, Err: fs.ErrInvalid}
	}
	if err != nil {
		return nil, err
	}
	return slices.Clone(f.Data), nil
}

// ReadDir implements fs.ReadDirFS.
func (t *treeFS) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, is := t.folders[name]
	if !is {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	return slices.Clone(entries), nil // callers filter in place
}

// entry is one file or folder of a treeFS.
type entry struct {
	name string
	file *fstest.MapFile
}

func (e entry) Name() string { return e.name }
func (e entry) IsDir() bool  { return e.file.Mode.IsDir() }
func (e entry) Type() fs.FileMode {
	return e.file.Mode.Type()
}
func (e entry) Info() (fs.FileInfo, error) {
	return fstest.MapFS{e.name: e.file}.Lstat(e.name)
}
