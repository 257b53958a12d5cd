package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/ci"
)

// gitObjects reads trees and blobs of a repository with the user's own git, byte for
// byte, whatever the work tree or its attributes say. They are read as
// they are needed, through one git that stays for that.
type gitObjects struct {
	ctx  context.Context
	work *workTree

	mu     sync.Mutex // guards the rest
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	broken error             // why nothing can be read any more
	small  map[string][]byte // what was read, by kind and id, up to smallObject each: two trees share most
}

const (
	smallObject = 1 << 20
	maxObject   = 64 << 20 // no document or catalog may be as large; the loader has its own limits
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

// read reads a blob or tree. After an answer that is not understood nothing is read
// any more.
func (o *gitObjects) read(kind, id string) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if b, ok := o.small[kind+id]; ok {
		return b, nil
	}
	if err := o.ready(); err != nil {
		return nil, err
	}
	_, err := io.WriteString(o.in, id+"\n")
	var b []byte
	if err == nil {
		b, err = o.answer(kind, id)
	}
	return b, o.judge(id, err)
}

// errUnusable is an object that cannot be had, while git goes on answering.
var errUnusable = errors.New("it cannot be used")

// judge names the object of an error, and gives git up unless it goes on answering.
func (o *gitObjects) judge(id string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("git cat-file: object %s: %w", id, err)
	if !errors.Is(err, errUnusable) {
		o.broken = err
	}
	return err
}

func (o *gitObjects) ready() error {
	if o.broken == nil && o.cmd == nil {
		o.broken = o.start()
	}
	return o.broken
}

// answer takes what git says to one request.
func (o *gitObjects) answer(kind, id string) ([]byte, error) {
	head, err := o.out.ReadString('\n')
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(head)
	if len(fields) == 2 && fields[0] == id && fields[1] == "missing" {
		return nil, fmt.Errorf("%w: it is not there", errUnusable)
	}
	if len(fields) != 3 || fields[0] != id {
		return nil, errors.New("the answer is not understood")
	}
	size, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil || size < 0 {
		return nil, errors.New("the answer has no size")
	}
	if fields[1] != kind || size > maxObject {
		if _, err := io.CopyN(io.Discard, o.out, size+1); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: it is no %s of at most %d bytes", errUnusable, kind, maxObject)
	}
	b := make([]byte, size+1)
	if _, err := io.ReadFull(o.out, b); err != nil {
		return nil, err
	}
	b = b[:size:size]
	if size <= smallObject {
		o.small[kind+id] = b
	}
	return b, nil
}

// preload reads everything of an access repo's tree in one go, for whoever will
// need most of it: asking for each object alone costs a round trip.
func (o *gitObjects) preload(ctx context.Context, id string) error {
	list, err := o.work.paths(ctx, append([]string{"ls-tree", "-r", "-t", "-z", "--full-tree", id, "--"}, documentFolders...)...)
	if err != nil {
		return err
	}
	var kinds, ids []string
	for _, entry := range list {
		meta, at, _ := strings.Cut(entry, "\t")
		fields := strings.Fields(meta)
		if len(fields) == 3 && fields[1] != "commit" && ci.Managed(at) {
			kinds, ids = append(kinds, fields[1]), append(ids, fields[2])
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.ready(); err != nil {
		return err
	}
	written := make(chan error, 1)
	go func() {
		_, err := io.WriteString(o.in, strings.Join(ids, "\n")+"\n")
		written <- err
	}()
	if len(ids) == 0 {
		return <-written // git says nothing to an empty line but that it is not there
	}
	for i, id := range ids {
		_, err := o.answer(kinds[i], id)
		if err = o.judge(id, err); o.broken != nil {
			return err
		}
	}
	return <-written
}

// tree is the access repo's part of a commit or tree.
func (o *gitObjects) tree(ctx context.Context, name string) (*gitTree, error) {
	id, err := o.work.git(ctx, "--no-replace-objects", "rev-parse", "--verify", "--end-of-options", name+"^{tree}")
	if err != nil {
		return nil, err
	}
	return &gitTree{objects: o, root: id, lists: make(map[string][]fs.DirEntry)}, nil
}

// gitTree is the files of one tree as an fs.FS that lists and reads. What the
// access repo does not own is left out. It allows concurrent use.
type gitTree struct {
	objects *gitObjects
	root    string

	mu    sync.Mutex
	lists map[string][]fs.DirEntry // folders that were read, by id
}

// gitEntry is a name in a tree.
type gitEntry struct {
	name string
	id   string
	mode fs.FileMode
	why  string // it cannot be read
}

// parseTree reads the entries of a tree object, sorted by name. A name that a
// malformed one has twice is there twice, which the loader refuses, and neither can
// be read. Nor can a name that no path can hold; it must not be joined to one.
func parseTree(b []byte, hashSize int) ([]fs.DirEntry, error) {
	var list []fs.DirEntry
	for len(b) > 0 {
		head, rest, ok := bytes.Cut(b, []byte{0})
		mode, name, named := strings.Cut(string(head), " ")
		if !ok || !named || len(rest) < hashSize {
			return nil, errors.New("the tree is malformed")
		}
		e := &gitEntry{name: name, id: hex.EncodeToString(rest[:hashSize]), mode: modeOf(mode)}
		if mode == "40000" {
			e.mode = fs.ModeDir | 0o755
		}
		if name == "." || strings.Contains(name, "/") || !fs.ValidPath(name) {
			e.name, e.mode = strconv.QuoteToASCII(strings.ReplaceAll(name, "/", "\uFF0F")), fs.ModeIrregular
		}
		list = append(list, e)
		b = rest[hashSize:]
	}
	slices.SortStableFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for i := 1; i < len(list); i++ {
		if a, b := list[i-1].(*gitEntry), list[i].(*gitEntry); a.name == b.name {
			for _, e := range []*gitEntry{a, b} {
				e.mode, e.why = fs.ModeIrregular, "the name is there twice"
			}
		}
	}
	return list, nil
}

// list is a folder, which must not be changed.
func (t *gitTree) list(id string) ([]fs.DirEntry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if list, ok := t.lists[id]; ok {
		return list, nil
	}
	b, err := t.objects.read("tree", id)
	if err != nil {
		return nil, err
	}
	list, err := parseTree(b, len(id)/2)
	if err == nil {
		t.lists[id] = list
	}
	return list, err
}

// find resolves a path, folder by folder. Links are not followed.
func (t *gitTree) find(op, name string) (*gitEntry, error) {
	fail := func(err error) (*gitEntry, error) { return nil, &fs.PathError{Op: op, Path: name, Err: err} }
	if !fs.ValidPath(name) {
		return fail(fs.ErrInvalid)
	}
	at := &gitEntry{name: ".", id: t.root, mode: fs.ModeDir | 0o755}
	if name == "." {
		return at, nil
	}
	if !ci.Managed(name) {
		return fail(fs.ErrNotExist)
	}
	for part := range strings.SplitSeq(name, "/") {
		if !at.IsDir() {
			return fail(fs.ErrNotExist)
		}
		list, err := t.list(at.id)
		if err != nil {
			return fail(err)
		}
		i, found := slices.BinarySearchFunc(list, part, func(e fs.DirEntry, name string) int { return strings.Compare(e.Name(), name) })
		if !found {
			return fail(fs.ErrNotExist)
		}
		at = list[i].(*gitEntry)
	}
	if at.why != "" && op != "stat" {
		return fail(errors.New(at.why))
	}
	return at, nil
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
	b, err := t.objects.read("blob", e.id)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &gitFile{e, bytes.NewReader(b)}, nil
}

// Stat implements fs.StatFS. The size is not known.
func (t *gitTree) Stat(name string) (fs.FileInfo, error) {
	e, err := t.find("stat", name)
	if err != nil {
		return nil, err // and no typed nil
	}
	return e, nil
}

// ReadDir implements fs.ReadDirFS.
func (t *gitTree) ReadDir(name string) ([]fs.DirEntry, error) {
	e, err := t.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if !e.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a folder")}
	}
	list, err := t.list(e.id)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	list = slices.Clone(list)
	if name == "." {
		list = slices.DeleteFunc(list, func(e fs.DirEntry) bool { return !ci.Managed(e.Name()) })
	}
	return list, nil
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
