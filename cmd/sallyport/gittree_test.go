package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// What git stores is what is read, also links, execute bits and folders of one name with a file of another case.
func TestGitTree(t *testing.T) {
	peers.IsolateEnv(t)
	git, err := peers.Git(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"sallyport.yaml": "a", "trust/root.yaml": "b", "reviews/db/x.yaml": "c", "reviews/db/x.yaml.sigs/y.sig": "d", "reviews/run": "e",
		"README.md": "not ours", "docs/x": "not ours", "Reviews/z": "looks like ours",
	} {
		put(t, filepath.Join(dir, name), []byte(text))
	}
	if err := os.Chmod(filepath.Join(dir, "reviews/run"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../trust", filepath.Join(dir, "reviews/link")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "--quiet", "--initial-branch=main"}, {"add", "--all"}, {"commit", "--quiet", "-m", "x"}} {
		if out, err := git.Run(t.Context(), dir, args...); err != nil {
			t.Fatal(err, out)
		}
	}
	for _, preload := range []bool{false, true} {
		objects := newGitObjects(t.Context(), &workTree{dir: dir})
		defer objects.close()
		if preload {
			if err := objects.preload(t.Context(), "HEAD"); err != nil {
				t.Fatal(err)
			}
		}
		tree, err := objects.tree(t.Context(), "HEAD")
		if err != nil {
			t.Fatal(err)
		}
		if b, err := fs.ReadFile(tree, "reviews/db/x.yaml.sigs/y.sig"); err != nil || string(b) != "d" {
			t.Errorf("%q, %v", b, err)
		}
		for name, mode := range map[string]fs.FileMode{"reviews/link": fs.ModeSymlink | 0o777, "reviews/run": 0o755, "trust": fs.ModeDir | 0o755, "sallyport.yaml": 0o644} {
			if info, err := fs.Stat(tree, name); err != nil || info.Mode() != mode {
				t.Errorf("%s: %v, %v", name, info, err)
			}
		}
		for _, name := range []string{"reviews/link", "reviews/link/root.yaml", "README.md", "docs/x", "reviews/none", "trust", "../x", "reviews/run/x"} {
			if b, err := fs.ReadFile(tree, name); err == nil {
				t.Errorf("%s reads as %q", name, b)
			}
		}
		names, err := fs.ReadDir(tree, ".")
		if err != nil || len(names) != 4 { // Reviews, reviews, sallyport.yaml, trust
			t.Errorf("top: %v, %v", names, err)
		}
	}
}

// What cannot be read is an error of its own, and nothing else becomes unreadable by it:
// one huge file in a pull request must not make the base look broken.
func TestGitObjectsGoOn(t *testing.T) {
	peers.IsolateEnv(t)
	git, err := peers.Git(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	put(t, filepath.Join(dir, "reviews/huge"), make([]byte, maxObject+1))
	put(t, filepath.Join(dir, "reviews/small"), []byte("small"))
	for _, args := range [][]string{{"init", "--quiet", "--initial-branch=main"}, {"add", "--all"}, {"commit", "--quiet", "-m", "x"}} {
		if out, err := git.Run(t.Context(), dir, args...); err != nil {
			t.Fatal(err, out)
		}
	}
	objects := newGitObjects(t.Context(), &workTree{dir: dir})
	if err := objects.preload(t.Context(), "HEAD"); err != nil {
		t.Fatal(err)
	}
	clear(objects.small)
	tree, err := objects.tree(t.Context(), "HEAD")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := fs.ReadFile(tree, "reviews/huge"); err == nil {
		t.Errorf("read %d bytes", len(b))
	}
	const missing = "0123456789012345678901234567890123456789"
	if b, err := objects.read("blob", missing); err == nil {
		t.Errorf("read %q", b)
	}
	if b, err := objects.read("blob", tree.root); err == nil {
		t.Errorf("a tree reads as %q", b)
	}
	if b, err := fs.ReadFile(tree, "reviews/small"); err != nil || string(b) != "small" {
		t.Errorf("%q, %v", b, err)
	}
	objects.close()
	if _, err := objects.read("blob", missing); err == nil {
		t.Error("read after close")
	}
}

func FuzzParseTree(f *testing.F) {
	hash := "01234567890123456789"
	f.Add([]byte("100644 a\x00" + hash + "40000 b\x00" + hash))
	f.Add([]byte("120000 a\x00" + hash + "100644 a\x00" + hash))
	f.Add([]byte("100644 \x00" + hash))
	f.Add([]byte("100644 a\x00short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseTree(b, 20)
		if err != nil {
			return
		}
		for i, e := range list {
			if e.Name() == "" || len(e.(*gitEntry).id) != 40 {
				t.Errorf("entry %+v", e)
			}
			if i > 0 && list[i-1].Name() > e.Name() {
				t.Error("not sorted")
			}
		}
	})
}
