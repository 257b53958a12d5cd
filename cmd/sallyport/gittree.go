package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/ci"
)

// gitObjects reads trees and blobs of a repository with the user's own git, byte for
// byte, whatever the work tree or its attributes say. Blobs are read when they are
// opened, through one git that stays for that.
type gitObjects struct {
	ctx  context.Context
	work *workTree

	mu     sync.Mutex // guards the rest
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	broken error             // why nothing can be read any more
	small  map[string][]byte // blobs that were read, up to smallBlob, since two trees share most
}

const (
	smallBlob = 64 << 10
	maxBlob   = 64 << 20 // no document or catalog may be as large; the loader has its own limits
)

func newGitObjects(ctx context.Context, work *workTree) *gitObjects {
	return &gitObjects{ctx: ctx, work: work, small: make(map[string][]byte)}
}

// close ends git.
func (o *gitObjects) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cmd != nil {
		o.in.Close()
		_ = o.cmd.Wait() // it was told to end, and what it read was checked
		o.cmd = nil
	}
	o.broken = errors.New("git was closed")
}

func (o *gitObjects) start() error {
	cmd := exec.CommandContext(o.ctx, "git", "-C", o.work.dir, "--no-replace-objects", "cat-file", "--batch")
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	o.cmd, o.in, o.out = cmd, in, bufio.NewReaderSize(out, 64<<10)
	return nil
}

// blob reads one. After an error that leaves the stream in doubt nothing is read any more.
func (o *gitObjects) blob(id string) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if b, ok := o.small[id]; ok {
		return b, nil
	}
	if o.broken != nil {
		return nil, o.broken
	}
	if o.cmd == nil {
		if o.broken = o.start(); o.broken != nil {
			return nil, o.broken
		}
	}
	b, err := o.ask(id)
	if err != nil {
		o.broken = fmt.Errorf("git cat-file: object %s: %w", id, err)
		return nil, o.broken
	}
	if len(b) <= smallBlob {
		o.small[id] = b
	}
	return b, nil
}

func (o *gitObjects) ask(id string) ([]byte, error) {
	if _, err := io.WriteString(o.in, id+"\n"); err != nil {
		return nil, err
	}
	head, err := o.out.ReadString('\n')
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(head)
	if len(fields) != 3 || fields[0] != id || fields[1] != "blob" {
		return nil, errors.New("it is not there, or no file")
	}
	size, err := strconv.Atoi(fields[2])
	if err != nil || size < 0 || size > maxBlob {
		return nil, fmt.Errorf("its size is not below %d bytes", maxBlob)
	}
	b := make([]byte, size+1)
	if _, err := io.ReadFull(o.out, b); err != nil {
		return nil, err
	}
	return b[:size:size], nil
}

// tree is the access repo's part of a commit or tree.
func (o *gitObjects) tree(ctx context.Context, id string) (*gitTree, error) {
	list, err := o.work.gitBytes(ctx, "--no-replace-objects", "ls-tree", "-r", "-t", "-z", "--full-tree", id)
	if err != nil {
		return nil, err
	}
	return newGitTree(o, list)
}

// gitTree is the files of one tree as an fs.FS that lists and reads. It allows
// concurrent use.
type gitTree struct {
	objects *gitObjects
	folders map[string][]fs.DirEntry // sorted
	entries map[string]*gitEntry
}

// gitEntry is a name in a tree.
type gitEntry struct {
	tree *gitTree
	name string
	id   string
	mode fs.FileMode
}

// newGitTree reads what git ls-tree -r -t -z prints. What the access repo does not
// own is left out.
func newGitTree(objects *gitObjects, list []byte) (*gitTree, error) {
	t := &gitTree{objects: objects, folders: map[string][]fs.DirEntry{".": nil}, entries: make(map[string]*gitEntry)}
	for record := range bytes.SplitSeq(list, []byte{0}) {
		if len(record) == 0 {
			continue
		}
		meta, at, found := strings.Cut(string(record), "\t")
		fields := strings.Fields(meta)
		if !found || len(fields) != 3 || at == "" {
			return nil, errors.New("git ls-tree printed what is not understood")
		}
		if !ci.Managed(at) {
			continue
		}
		e := &gitEntry{tree: t, name: path.Base(at), id: fields[2], mode: modeOf(fields[0])}
		if fields[1] == "tree" {
			e.mode = fs.ModeDir | 0o755
			if _, twice := t.folders[at]; !twice {
				t.folders[at] = nil
			}
		}
		// A name that a malformed tree has twice is listed twice, which the loader refuses.
		dir := path.Dir(at)
		t.folders[dir] = append(t.folders[dir], e)
		t.entries[at] = e
	}
	for _, list := range t.folders {
		slices.SortStableFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	}
	return t, nil
}

func (t *gitTree) find(op, name string) (*gitEntry, error) {
	if name == "." {
		return &gitEntry{tree: t, name: ".", mode: fs.ModeDir | 0o755}, nil
	}
	e := t.entries[name]
	if e == nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return e, nil
}

// Open implements fs.FS for plain files. Nothing else has bytes.
func (t *gitTree) Open(name string) (fs.File, error) {
	e, err := t.find("open", name)
	if err != nil {
		return nil, err
	}
	if !e.mode.IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a plain file")}
	}
	b, err := t.objects.blob(e.id)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &gitFile{e, bytes.NewReader(b)}, nil
}

// Stat implements fs.StatFS. The size is not known.
func (t *gitTree) Stat(name string) (fs.FileInfo, error) { return t.find("stat", name) }

// ReadDir implements fs.ReadDirFS.
func (t *gitTree) ReadDir(name string) ([]fs.DirEntry, error) {
	list, ok := t.folders[name]
	if !ok {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	return slices.Clone(list), nil
}

// gitEntry implements fs.DirEntry and fs.FileInfo.
func (e *gitEntry) Name() string               { return e.name }
func (e *gitEntry) IsDir() bool                { return e.mode.IsDir() }
func (e *gitEntry) Type() fs.FileMode          { return e.mode.Type() }
func (e *gitEntry) Info() (fs.FileInfo, error) { return e, nil }
func (e *gitEntry) Mode() fs.FileMode          { return e.mode }
func (e *gitEntry) Size() int64                { return 0 }
func (e *gitEntry) ModTime() time.Time         { return time.Time{} }
func (e *gitEntry) Sys() any                   { return nil }

// gitFile implements fs.File.
type gitFile struct {
	*gitEntry
	r *bytes.Reader
}

func (f *gitFile) Stat() (fs.FileInfo, error) { return f.gitEntry, nil }
func (f *gitFile) Read(b []byte) (int, error) { return f.r.Read(b) }
func (f *gitFile) Close() error               { return nil }

// commitOf is the commit that a ref names; "" is the newest of a repository elsewhere.
func (r *accessRepo) commitOf(ctx context.Context, ref string) (string, error) {
	if r.mirror != nil && (ref == "" || ref == r.branch) {
		fetched, err := r.mirror.Fetch(ctx, r.branch, "")
		return fetched.Head, err
	}
	commit, err := r.git.git(ctx, "rev-parse", "--verify", "--end-of-options", ref+"^{commit}")
	if err != nil {
		return "", fmt.Errorf("%q is not a commit of %s: %w", ref, r.location, err)
	}
	return commit, nil
}
