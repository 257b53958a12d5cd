package main

import (
	"io/fs"
	"testing"
	"testing/fstest"
)

// It is a file system as the standard library wants them, and keeps odd modes for
// the strict loader to refuse.
func TestTreeFS(t *testing.T) {
	files := fstest.MapFS{
		"sallyport.yaml": {Data: []byte("a"), Mode: 0o644}, "reviews/a/b.yaml": {Data: []byte("b"), Mode: 0o644},
		"reviews/a/b.yaml.sigs/x.sig": {Data: []byte("c"), Mode: 0o644}, "trust/root.yaml": {Data: []byte("d"), Mode: 0o755},
	}
	tree := newTreeFS(files)
	if err := fstest.TestFS(tree, "sallyport.yaml", "reviews/a/b.yaml", "reviews/a/b.yaml.sigs/x.sig", "trust/root.yaml"); err != nil {
		t.Error(err)
	}
	odd := newTreeFS(fstest.MapFS{"trust/root.yaml": {Data: []byte("/etc/passwd"), Mode: fs.ModeSymlink | 0o777}})
	entries, err := odd.ReadDir("trust")
	if err != nil || len(entries) != 1 || entries[0].Type()&fs.ModeSymlink == 0 {
		t.Errorf("a link: %v %v", entries, err)
	}
	if b, err := odd.ReadFile("trust/root.yaml"); err == nil {
		t.Errorf("a link was read: %q", b)
	}
}
