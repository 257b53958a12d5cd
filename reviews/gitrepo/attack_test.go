package gitrepo_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// A rewound branch is reported, and what was accepted can still be read.
func TestRewoundRemote(t *testing.T) {
	o := newOrigin(t)
	first := o.commit(map[string]string{"a": "1"})
	second := o.commit(map[string]string{"a": "2"})
	m := o.mirror()
	fetch(t, m, "")
	o.run("reset", "--quiet", "--hard", first)
	o.run("reflog", "expire", "--expire=now", "--all")
	o.run("gc", "--quiet", "--prune=now")
	got := fetch(t, m, second)
	if got.Relation != gitrepo.Behind || got.Head != first {
		t.Fatalf("got %v, want behind at %s", got, first)
	}
	if b, err := tree(t, m, second).ReadFile("a"); err != nil || string(b) != "2" {
		t.Errorf("the accepted commit is gone: %q, %v", b, err)
	}
}

func TestRelations(t *testing.T) {
	o := newOrigin(t)
	base := o.commit(map[string]string{"a": "1"})
	old := o.commit(map[string]string{"a": "2"})
	m := o.mirror()
	if got := fetch(t, m, ""); got.Relation != gitrepo.First || got.Head != old {
		t.Fatalf("first fetch: %v", got)
	}
	if got := fetch(t, m, old); got.Relation != gitrepo.Same {
		t.Errorf("nothing new: %v", got.Relation)
	}
	next := o.commit(map[string]string{"a": "3"})
	if got := fetch(t, m, old); got.Relation != gitrepo.Ahead || got.Head != next {
		t.Errorf("new commit: %v", got)
	}
	if got := fetch(t, m, strings.Repeat("1", 40)); got.Relation != gitrepo.Unrelated {
		t.Errorf("unknown commit: %v", got.Relation)
	}
	o.run("reset", "--quiet", "--hard", base)
	o.commit(map[string]string{"b": "other"})
	if got := fetch(t, m, next); got.Relation != gitrepo.Diverged {
		t.Errorf("force push: %v", got.Relation)
	}
	o.run("checkout", "--quiet", "--orphan", "fresh")
	o.commit(map[string]string{"c": "1"})
	o.run("branch", "--force", "main", "fresh")
	if got := fetch(t, m, next); got.Relation != gitrepo.Unrelated {
		t.Errorf("unrelated history: %v", got.Relation)
	}
}

// A merge whose second parent is the old main moves main to another first-parent line.
func TestOldHeadOffTheFirstParentLine(t *testing.T) {
	o := newOrigin(t)
	o.commit(map[string]string{"a": "1"})
	o.run("checkout", "--quiet", "-b", "topic")
	o.commit(map[string]string{"b": "1"})
	o.run("checkout", "--quiet", "main")
	accepted := o.commit(map[string]string{"c": "1"})
	m := o.mirror()
	fetch(t, m, "")
	o.run("checkout", "--quiet", "topic")
	o.run("merge", "--quiet", "-m", "sideways", "main")
	o.run("branch", "--force", "main", "topic")
	if got := fetch(t, m, accepted); got.Relation != gitrepo.Diverged {
		t.Errorf("got %v, want diverged", got.Relation)
	}
}

func TestIrregularEntriesCannotBeOpened(t *testing.T) {
	o := newOrigin(t)
	blob, commit := o.blob("text"), o.commit(map[string]string{"x": "1"})
	sub := o.in("100644 blob "+blob+"\tconfig\n", "mktree")
	id := o.crafted(
		"100644 blob "+blob+"\tplain.yaml",
		"100755 blob "+blob+"\trun.yaml",
		"120000 blob "+blob+"\tlink.yaml",
		"160000 commit "+commit+"\tmodule",
		"100644 blob "+blob+"\tcase.yaml",
		"100644 blob "+blob+"\tCASE.yaml",
		"100644 blob "+blob+"\tlatin\xff.yaml",
		"100644 blob "+blob+"\ttrail.",
		"100644 blob "+blob+"\tback\\slash",
		"100644 blob "+blob+"\tnew\nline",
		"100644 blob "+blob+"\tbidi\u202e.yaml",
		"040000 tree "+sub+"\t.GIT",
	)
	m := o.mirror()
	fetch(t, m, "")
	files := tree(t, m, id)
	want := map[string]fs.FileMode{
		"plain.yaml": 0o644, "run.yaml": 0o755,
		"link.yaml": fs.ModeSymlink | 0o777, "module": fs.ModeIrregular,
		"case.yaml": fs.ModeIrregular, "CASE.yaml": fs.ModeIrregular,
		`"latin\xff.yaml"`: fs.ModeIrregular, `"trail."`: fs.ModeIrregular, `"back\\slash"`: fs.ModeIrregular,
		`"new\nline"`: fs.ModeIrregular, `"bidi\u202e.yaml"`: fs.ModeIrregular, `".GIT"`: fs.ModeIrregular,
	}
	list, err := files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != len(want) {
		t.Errorf("%d entries, want %d: %v", len(list), len(want), list)
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		mode, known := want[e.Name()]
		if !known || info.Mode() != mode {
			t.Errorf("%s: mode %v, want %v (known %v)", e.Name(), info.Mode(), mode, known)
		}
		_, err = files.ReadFile(e.Name())
		if readable := mode.IsRegular() && known; readable != (err == nil) || err != nil && !errors.Is(err, gitrepo.ErrIrregular) {
			t.Errorf("read %s: %v", e.Name(), err)
		}
	}
	if _, err := files.ReadFile(`".GIT"/config`); err == nil {
		t.Error("read through .GIT")
	}
}

// Git's own tools refuse to write these names, so the tree object is made by hand.
func TestNamesThatLeaveTheTree(t *testing.T) {
	o := newOrigin(t)
	blob := o.blob("text")
	raw := func(mode, name string) string {
		var id []byte
		for i := 0; i < len(blob); i += 2 {
			id = append(id, hexByte(blob[i])<<4|hexByte(blob[i+1]))
		}
		return mode + " " + name + "\x00" + string(id)
	}
	body := raw("100644", "..") + raw("100644", "a/b") + raw("100644", "ok") + raw("100644", "ok")
	treeID := o.in(body, "hash-object", "-w", "-t", "tree", "--literally", "--stdin")
	id := o.run("commit-tree", "-m", "crafted", treeID)
	o.run("update-ref", "refs/heads/main", id)
	m := o.mirror()
	fetched, err := m.Fetch(t.Context(), "main", "")
	if err != nil {
		return // refusing the whole object is as good
	}
	list, err := tree(t, m, fetched.Head).ReadDir(".")
	if err != nil {
		return
	}
	for _, e := range list {
		if e.Type() != fs.ModeIrregular || strings.Contains(e.Name(), "/") || e.Name() == ".." {
			t.Errorf("%q has type %v", e.Name(), e.Type())
		}
	}
}

func hexByte(c byte) byte { return byte(bytes.IndexByte([]byte("0123456789abcdef"), c)) }

func TestHugeFileIsNotRead(t *testing.T) {
	o := newOrigin(t)
	if err := os.WriteFile(filepath.Join(o.dir, "huge"), make([]byte, gitrepo.MaxBlob+1), 0o644); err != nil {
		t.Fatal(err)
	}
	o.run("add", "huge")
	o.run("commit", "--quiet", "-m", "huge")
	m := o.mirror()
	files := tree(t, m, fetch(t, m, "").Head)
	if _, err := files.ReadFile("huge"); !errors.Is(err, gitrepo.ErrTooLarge) {
		t.Errorf("read: %v, want %v", err, gitrepo.ErrTooLarge)
	}
	if info, err := fs.Stat(files, "huge"); err != nil || info.Size() != gitrepo.MaxBlob+1 {
		t.Errorf("stat: %v, %v", info, err)
	}
}

// A few small trees that name each other many times stand for more files than fit anywhere.
func TestTreeBombEndsWithAnError(t *testing.T) {
	o := newOrigin(t)
	level := o.in("100644 blob "+o.blob("x")+"\tf\n", "mktree")
	for range 12 {
		var lines strings.Builder
		for c := 'a'; c <= 'z'; c++ {
			lines.WriteString("040000 tree " + level + "\t" + string(c) + "\n")
		}
		level = o.in(lines.String(), "mktree")
	}
	o.run("update-ref", "refs/heads/main", o.run("commit-tree", "-m", "bomb", level))
	m := o.mirror()
	if _, err := gitrepo.Diff(nil, tree(t, m, fetch(t, m, "").Head), nil); err == nil {
		t.Error("no error")
	}
}

func TestBranchNames(t *testing.T) {
	o := newOrigin(t)
	o.commit(map[string]string{"a": "1"})
	m := o.mirror()
	for _, bad := range []string{"", "..", "a..b", "../main", "-f", "a b", "main.lock", "a~1", "a^", "a:b", "a*", "refs/heads/main", "HEAD", "a\x00b", "a@{1}", "/a", "a//b", ".a"} {
		if err := gitrepo.CheckBranch(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
		if _, err := m.Fetch(t.Context(), bad, ""); err == nil {
			t.Errorf("fetched %q", bad)
		}
		if _, err := m.RemoteHead(t.Context(), bad); err == nil {
			t.Errorf("listed %q", bad)
		}
	}
	if _, err := m.Fetch(t.Context(), "none", ""); !errors.Is(err, gitrepo.ErrNoBranch) {
		t.Errorf("missing branch: %v", err)
	}
	if _, err := m.RemoteHead(t.Context(), "none"); !errors.Is(err, gitrepo.ErrNoBranch) {
		t.Errorf("missing branch: %v", err)
	}
}

func TestErrorsKeepPasswords(t *testing.T) {
	remote := "https://bob:hunter2@127.0.0.1:1/x.git"
	m, err := gitrepo.Open(filepath.Join(t.TempDir(), "m"), remote, gitrepo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.RemoteHead(t.Context(), "main")
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error: %v", err)
	}
	if _, err := gitrepo.Open(t.TempDir(), "http://example.com/x.git", gitrepo.Options{}); err == nil {
		t.Error("plain http is accepted")
	}
}
