package release

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"

	sys "golang.org/x/sys/unix"
)

// Source is where the files of a release are read. Nothing that it says is
// believed: an Opener verifies all of it.
type Source interface {
	// Get returns a file of at most limit bytes, and a tag by which a later Get may
	// ask whether it changed ("" when it cannot). A file that still has the tag
	// unless is nil. One that is not there is fs.ErrNotExist.
	Get(ctx context.Context, name, unless string, limit int64) (b []byte, tag string, err error)
	// String is the location for messages.
	String() string
}

// Target is a Source that releases are published to.
type Target interface {
	Source
	// Put replaces a file as a whole: a reader gets the one before or this one.
	Put(ctx context.Context, name string, b []byte) error
	// Replace is Put that writes only if the file still has the tag was, which Get
	// gave, "" for none there; else it is fs.ErrExist.
	Replace(ctx context.Context, name string, b []byte, was string) error
	// List is the size of each file in a folder, by name.
	List(ctx context.Context, folder string) (map[string]int64, error)
	// Remove takes a file away; one that is not there is no error.
	Remove(ctx context.Context, name string) error
}

// Folder is a release directory. It is made when something is put into it.
type Folder string

func (f Folder) String() string { return string(f) }

// Get reads a file. Its tag changes with every replacement.
func (f Folder) Get(_ context.Context, name, unless string, limit int64) ([]byte, string, error) {
	file := f.path(name)
	info, err := os.Stat(file)
	if err != nil {
		return nil, "", err
	}
	tag := fmt.Sprintf("%d-%d", info.ModTime().UnixNano(), info.Size())
	if tag == unless {
		return nil, tag, nil
	}
	b, err := readCapped(file, limit)
	return b, tag, err
}

// Put writes the file beside the one it replaces, syncs and renames it.
func (f Folder) Put(_ context.Context, name string, b []byte) error {
	file := f.path(name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	return writeFile(file, b)
}

// Replace holds the folder's lock from the comparison to the end of the writing.
func (f Folder) Replace(ctx context.Context, name string, b []byte, was string) error {
	if err := os.MkdirAll(f.path(path.Dir(name)), 0o755); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	dir, err := os.Open(f.path("."))
	if err != nil {
		return fmt.Errorf("release: %w", err)
	}
	defer dir.Close() // lets go of the lock
	if err := sys.Flock(int(dir.Fd()), sys.LOCK_EX); err != nil {
		return fmt.Errorf("release: lock %s: %w", f, err)
	}
	_, tag, err := f.Get(ctx, name, was, math.MaxInt64)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("release: %w", err)
	}
	if tag != was {
		return fs.ErrExist
	}
	return f.Put(ctx, name, b)
}

// List leaves subfolders out.
func (f Folder) List(_ context.Context, folder string) (map[string]int64, error) {
	entries, err := os.ReadDir(f.path(folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("release: %w", err)
	}
	sizes := map[string]int64{}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() {
			sizes[path.Join(folder, e.Name())] = info.Size()
		}
	}
	return sizes, nil
}

// Remove removes the file.
func (f Folder) Remove(_ context.Context, name string) error {
	if err := os.Remove(f.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("release: %w", err)
	}
	return nil
}

func (f Folder) path(name string) string { return filepath.Join(string(f), filepath.FromSlash(name)) }

// bundleFile is the name of a bundle in a release.
func bundleFile(sum string) string { return bundlesFolder + "/" + sum + bundleSuffix }

// bundleIn is the sum that bundleFile was given, "" for other names.
func bundleIn(name string) string {
	sum, is := strings.CutSuffix(strings.TrimPrefix(name, bundlesFolder+"/"), bundleSuffix)
	if !is || !isDigest(sum) {
		return ""
	}
	return sum
}
