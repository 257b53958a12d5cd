package gitrepo_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// Other staged and unstaged changes stay as they were, and the index agrees with the commit.
func TestCommitPathsLeavesTheRestAlone(t *testing.T) {
	o := newOrigin(t)
	o.commit(map[string]string{"a": "1", "b": "1", "old": "1"})
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(o.dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(o.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a", "staged")
	o.run("add", "a")
	write("b", "changed")
	write("reviews/db/*.yaml", "literal name")
	write("reviews/db/x.yaml", "new")
	if err := os.Remove(filepath.Join(o.dir, "old")); err != nil {
		t.Fatal(err)
	}
	w, err := gitrepo.OpenWorktree(t.Context(), filepath.Join(o.dir, "reviews"))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.SwitchNew(t.Context(), "request/x", ""); err != nil {
		t.Fatal(err)
	}
	id, err := w.CommitPaths(t.Context(), "request: x", "reviews/db/x.yaml", "old")
	if err != nil {
		t.Fatal(err)
	}
	if got := o.run("show", "--format=%s", "--name-status", id); got != "request: x\n\nD\told\nA\treviews/db/x.yaml" {
		t.Errorf("committed %s", got)
	}
	if got, want := o.run("status", "--porcelain"), "M  a\n M b\n?? reviews/db/*.yaml"; got != want {
		t.Errorf("left %q, want %q", got, want)
	}
	if again, err := w.CommitPaths(t.Context(), "again", "reviews/db/x.yaml"); err != nil || again != id {
		t.Errorf("nothing to commit: %s, %v", again, err)
	}
	if branch, err := w.Branch(t.Context()); err != nil || branch != "request/x" {
		t.Errorf("branch %s, %v", branch, err)
	}
	if _, err := w.CommitPaths(t.Context(), "x", "../outside"); err == nil {
		t.Error("a path outside is accepted")
	}
	c, err := w.Commit(id)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := w.Tree(c).ReadFile("reviews/db/x.yaml"); err != nil || string(b) != "new" {
		t.Errorf("committed file %q, %v", b, err)
	}
}

func TestPushABranch(t *testing.T) {
	o := newOrigin(t)
	o.commit(map[string]string{"a": "1"})
	clone := t.TempDir()
	o.run("clone", "--quiet", o.dir, clone)
	w, err := gitrepo.OpenWorktree(t.Context(), clone)
	if err != nil {
		t.Fatal(err)
	}
	if w.RemoteURL(t.Context(), "origin") != o.dir || w.RemoteURL(t.Context(), "none") != "" {
		t.Errorf("remote %s", w.RemoteURL(t.Context(), "origin"))
	}
	if err := w.SwitchNew(t.Context(), "request/x", "origin/main"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(clone, "new"), []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	id, err := w.CommitPaths(t.Context(), "new", "new")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Push(t.Context(), "origin", "request/x"); err != nil {
		t.Fatal(err)
	}
	if got := o.run("rev-parse", "request/x"); got != id {
		t.Errorf("pushed %s, want %s", got, id)
	}
	if err := w.SwitchNew(t.Context(), "--orphan", ""); err == nil {
		t.Error("an option is accepted as a branch")
	}
}

func TestFilesOnDiskDoNotLeaveTheFolder(t *testing.T) {
	o := newOrigin(t)
	o.commit(map[string]string{"a": "1"})
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(o.dir, "link")); err != nil {
		t.Fatal(err)
	}
	files, err := gitrepo.OpenFiles(o.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	if b, err := fs.ReadFile(files, "a"); err != nil || string(b) != "1" {
		t.Errorf("%q, %v", b, err)
	}
	for _, name := range []string{"link", "../secret", "/etc/passwd"} {
		if b, err := fs.ReadFile(files, name); err == nil {
			t.Errorf("read %s: %q", name, b)
		}
	}
	list, err := fs.ReadDir(files, ".")
	if err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
}
