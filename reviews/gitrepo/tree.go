package gitrepo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"
)

var (
	// ErrTooLarge means that a file is larger than MaxBlob.
	ErrTooLarge = errors.New("the file is too large")
	// ErrIrregular means a symbolic link, a submodule, an entry with a mode that
	// git does not write, or one whose name is unsafe or equals another's, also
	// but for case.
	ErrIrregular = errors.New("not a plain file")
)

// maxDepth is how deeply folders may nest; a deeper tree is an attack.
const maxDepth = 32

// Tree is the files of one commit, read-only. It is an fs.FS, fs.ReadDirFS,
// fs.ReadFileFS and fs.StatFS.
//
// Modes carry the warnings: an executable file has execute bits, a symbolic
// link fs.ModeSymlink, and a submodule, an unsafe name, a name that is there
// twice, names that differ only in case and a mode that git does not write
// fs.ModeIrregular. None but plain and executable files and
// folders can be opened (ErrIrregular). An unsafe name (.git, "..", a
// separator, control or invisible characters, bytes that are not UTF-8) shows
// up quoted, so that it is never taken for a path.
type Tree struct {
	objects *store
	root    plumbing.Hash
	commit  string
	when    time.Time
}

// entry is one name in a folder as this package shows it.
type entry struct {
	name string
	id   plumbing.Hash
	mode fs.FileMode
	why  string // what is irregular about it
}

func newTree(objects *store, c *Commit) *Tree {
	return &Tree{objects: objects, root: c.tree, commit: c.ID, when: c.Time}
}

// Commit is the id of the commit whose files these are.
func (t *Tree) Commit() string { return t.commit }

// ID names the contents of a file or folder within its repository: two equal
// ids are equal bytes. The mode is part of it, so making a file executable
// changes it. The error is fs.ErrNotExist when there is nothing at that path.
func (t *Tree) ID(name string) (string, error) {
	e, err := t.find("id", name)
	if err != nil {
		return "", err
	}
	return e.key(), nil
}

// key is the id that ID promises.
func (e entry) key() string { return e.id.String() + ":" + strconv.FormatUint(uint64(e.mode), 8) }

// Open implements fs.FS.
func (t *Tree) Open(name string) (fs.File, error) {
	e, err := t.find("open", name)
	if err != nil {
		return nil, err
	}
	if e.mode.IsDir() {
		list, err := t.ReadDir(name)
		if err != nil {
			return nil, err
		}
		return &folder{info: t.info(e, 0), list: list}, nil
	}
	b, err := t.read(name, e)
	if err != nil {
		return nil, err
	}
	return &file{info: t.info(e, int64(len(b))), r: bytes.NewReader(b)}, nil
}

// ReadFile implements fs.ReadFileFS.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	e, err := t.find("read", name)
	if err != nil {
		return nil, err
	}
	b, err := t.read(name, e)
	return bytes.Clone(b), err
}

func (t *Tree) read(name string, e entry) ([]byte, error) {
	if !e.mode.IsRegular() {
		return nil, pathError("read", name, irregular(e))
	}
	b, err := t.objects.blob(e.id)
	if err != nil {
		return nil, pathError("read", name, err)
	}
	return b, nil
}

// Stat implements fs.StatFS. It does not follow links.
func (t *Tree) Stat(name string) (fs.FileInfo, error) {
	e, err := t.find("stat", name)
	if err != nil {
		return nil, err
	}
	return t.stat(name, e)
}

func (t *Tree) stat(name string, e entry) (fs.FileInfo, error) {
	if !e.mode.IsRegular() {
		return t.info(e, 0), nil
	}
	size, err := t.objects.blobSize(e.id)
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return t.info(e, size), nil
}

// ReadDir implements fs.ReadDirFS. Entries are sorted by name.
func (t *Tree) ReadDir(name string) ([]fs.DirEntry, error) {
	e, err := t.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if !e.mode.IsDir() {
		return nil, pathError("readdir", name, errors.New("not a folder"))
	}
	entries, err := t.objects.folder(e.id)
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	list := make([]fs.DirEntry, len(entries))
	for i, e := range entries {
		list[i] = dirEntry{entry: e, tree: t}
	}
	return list, nil
}

// find resolves a path folder by folder. Nothing irregular is passed through.
func (t *Tree) find(op, name string) (entry, error) {
	if !fs.ValidPath(name) {
		return entry{}, pathError(op, name, fs.ErrInvalid)
	}
	at := entry{name: ".", id: t.root, mode: fs.ModeDir | 0o755}
	if name == "." {
		return at, nil
	}
	parts := strings.Split(name, "/")
	if len(parts) > maxDepth {
		return entry{}, pathError(op, name, fmt.Errorf("more than %d folders deep", maxDepth))
	}
	for _, part := range parts {
		if !at.mode.IsDir() {
			return entry{}, pathError(op, name, fs.ErrNotExist)
		}
		entries, err := t.objects.folder(at.id)
		if err != nil {
			return entry{}, pathError(op, name, err)
		}
		i := sort.Search(len(entries), func(i int) bool { return entries[i].name >= part })
		if i == len(entries) || entries[i].name != part {
			return entry{}, pathError(op, name, fs.ErrNotExist)
		}
		at = entries[i]
	}
	if (at.mode.IsRegular() || at.mode.IsDir()) || op == "stat" || op == "id" {
		return at, nil
	}
	return entry{}, pathError(op, name, irregular(at))
}

// rawEntry is a name in a tree object, with the mode as it is written there.
type rawEntry struct {
	name, mode string
	id         plumbing.Hash
}

// parseTree reads a tree object. go-git would make a plain file of every file mode,
// which others do not.
func parseTree(b []byte) ([]rawEntry, error) {
	var raw []rawEntry
	for len(b) > 0 {
		head, rest, ok := bytes.Cut(b, []byte{0})
		mode, name, named := strings.Cut(string(head), " ")
		if !ok || !named || len(rest) < len(plumbing.ZeroHash) {
			return nil, errors.New("it is malformed")
		}
		raw = append(raw, rawEntry{name: name, mode: mode, id: plumbing.Hash(rest[:len(plumbing.ZeroHash)])})
		b = rest[len(plumbing.ZeroHash):]
	}
	return raw, nil
}

// judge turns raw tree entries into entries whose modes tell what is wrong with them.
func judge(raw []rawEntry) []entry {
	names, folded := map[string]int{}, map[string]int{}
	for _, r := range raw {
		names[r.name]++
		folded[fold(r.name)]++
	}
	entries := make([]entry, 0, len(raw))
	for _, r := range raw {
		e := entry{name: r.name, id: r.id}
		e.mode, e.why = modeOf(r.mode)
		switch {
		case unsafeName(r.name):
			e.name = strconv.QuoteToASCII(strings.ReplaceAll(r.name, "/", "\uFF0F"))
			e.mode, e.why = fs.ModeIrregular, "unsafe name"
		case names[r.name] > 1:
			e.mode, e.why = fs.ModeIrregular, "the name is there twice"
		case folded[fold(r.name)] > 1:
			e.mode, e.why = fs.ModeIrregular, "another name differs only in case"
		}
		entries = append(entries, e)
	}
	sort.SliceStable(entries, func(i, j int) bool { return entries[i].name < entries[j].name })
	return entries
}

// modeOf takes the modes that git writes, and no others: what else some git reads as
// a plain file is none here.
func modeOf(mode string) (m fs.FileMode, why string) {
	switch mode {
	case "100644":
		return 0o644, ""
	case "100755":
		return 0o755, ""
	case "40000":
		return fs.ModeDir | 0o755, ""
	case "120000":
		return fs.ModeSymlink | 0o777, "symbolic link"
	case "160000":
		return fs.ModeIrregular, "submodule"
	}
	return fs.ModeIrregular, fmt.Sprintf("file mode %.12q", mode)
}

// fold maps names that a case-insensitive file system may confuse to one string.
func fold(name string) string { return strings.ToLower(strings.ToUpper(name)) }

// unsafeName reports names that some file system, git or terminal reads as
// something else than what they look like.
func unsafeName(name string) bool {
	if name == "" || name == "." || name == ".." || !utf8.ValidString(name) {
		return true
	}
	if strings.ContainsAny(name, "/\\:\"\x00") || strings.HasSuffix(name, ".") || strings.HasSuffix(name, " ") {
		return true
	}
	if f := fold(name); f == ".git" || strings.HasPrefix(f, "git~") {
		return true
	}
	return strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

func irregular(e entry) error {
	if e.mode.IsDir() {
		return fmt.Errorf("%w: folder", ErrIrregular)
	}
	return fmt.Errorf("%w: %s", ErrIrregular, e.why)
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func (t *Tree) info(e entry, size int64) fileInfo {
	return fileInfo{entry: e, size: size, when: t.when}
}

// fileInfo implements fs.FileInfo.
type fileInfo struct {
	entry entry
	size  int64
	when  time.Time
	tree  *Tree // when set, the size is looked up there
}

func (i fileInfo) Name() string       { return i.entry.name }
func (i fileInfo) Mode() fs.FileMode  { return i.entry.mode }
func (i fileInfo) ModTime() time.Time { return i.when }
func (i fileInfo) IsDir() bool        { return i.entry.mode.IsDir() }
func (i fileInfo) Sys() any           { return nil }

// Size is 0 for a file that turns out to be unreadable, which reading it reports.
func (i fileInfo) Size() int64 {
	if i.tree == nil || !i.entry.mode.IsRegular() {
		return i.size
	}
	size, _ := i.tree.objects.blobSize(i.entry.id)
	return size
}

// dirEntry implements fs.DirEntry; sizes are looked up only when asked for.
type dirEntry struct {
	entry entry
	tree  *Tree
}

func (d dirEntry) Name() string      { return d.entry.name }
func (d dirEntry) IsDir() bool       { return d.entry.mode.IsDir() }
func (d dirEntry) Type() fs.FileMode { return d.entry.mode.Type() }
func (d dirEntry) Info() (fs.FileInfo, error) {
	return fileInfo{entry: d.entry, when: d.tree.when, tree: d.tree}, nil
}
func (d dirEntry) String() string { return fs.FormatDirEntry(d) }

// file implements fs.File over bytes that are already read.
type file struct {
	info fileInfo
	r    *bytes.Reader
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *file) Read(b []byte) (int, error) { return f.r.Read(b) }
func (f *file) Close() error               { return nil }

// folder implements fs.ReadDirFile.
type folder struct {
	info fileInfo
	list []fs.DirEntry
}

func (d *folder) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *folder) Close() error               { return nil }
func (d *folder) Read([]byte) (int, error) {
	return 0, pathError("read", d.info.Name(), errors.New("is a folder"))
}

func (d *folder) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		rest := d.list
		d.list = nil
		return rest, nil
	}
	if len(d.list) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.list))
	next := d.list[:n:n]
	d.list = d.list[n:]
	return next, nil
}
