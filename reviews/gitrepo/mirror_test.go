package gitrepo_test

import (
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

func TestTreeIsAFileSystem(t *testing.T) {
	o := newOrigin(t)
	o.commit(map[string]string{"trust/root.yaml": "r", "reviews/db/a.yaml": "a", "reviews/db/a.yaml.sigs/x.sig": "s", "top": "t"})
	m := o.mirror()
	files := tree(t, m, fetch(t, m, "").Head)
	if err := fstest.TestFS(files, "trust/root.yaml", "reviews/db/a.yaml.sigs/x.sig", "top"); err != nil {
		t.Error(err)
	}
}

func TestDiff(t *testing.T) {
	o := newOrigin(t)
	o.commit(many(50))
	a := o.commit(map[string]string{"x/keep": "1", "x/gone": "1", "thing": "file", "mode": "m"})
	o.run("rm", "--quiet", "thing")
	o.run("update-index", "--chmod=+x", "mode")
	b := o.commit(map[string]string{"x/new": "1", "x/gone": "", "thing/inner": "now a folder", "d1/f1": "changed"})
	m := o.mirror()
	fetch(t, m, "")
	changes, err := gitrepo.Diff(tree(t, m, a), tree(t, m, b), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := paths(changes), "~d1/f1 ~mode -thing +thing/inner -x/gone +x/new"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if same, err := gitrepo.Diff(tree(t, m, a), tree(t, m, a), nil); err != nil || len(same) > 0 {
		t.Errorf("equal trees: %v, %v", same, err)
	}
}

// Only merges of the branch itself count, not the commits that were merged.
func TestFirstParents(t *testing.T) {
	o := newOrigin(t)
	start := o.commit(map[string]string{"a": "1"})
	o.run("checkout", "--quiet", "-b", "topic")
	o.commit(map[string]string{"review": "draft"})
	o.commit(map[string]string{"review": "final"})
	o.run("checkout", "--quiet", "main")
	o.run("merge", "--quiet", "--no-ff", "-m", "merge", "topic")
	merge := o.run("rev-parse", "HEAD")
	last := o.commit(map[string]string{"b": "1"})
	m := o.mirror()
	fetch(t, m, "")
	line, err := m.FirstParents(t.Context(), last, "")
	if err != nil || len(line) != 3 || line[0].ID != start || line[1].ID != merge || line[2].ID != last {
		t.Fatalf("line %v, %v", line, err)
	}
	if line, err = m.FirstParents(t.Context(), last, merge); err != nil || len(line) != 1 {
		t.Errorf("after the merge: %v, %v", line, err)
	}
	c, err := m.FirstHolding(t.Context(), last, "review")
	if err != nil || c.ID != merge {
		t.Errorf("first holding the review: %v, %v; want the merge", c, err)
	}
	if c, err := m.FirstHolding(t.Context(), last, "a"); err != nil || c.ID != start {
		t.Errorf("first holding a: %v, %v", c, err)
	}
}

// Many fetches leave many packs; they are rewritten, and nothing is lost by that.
func TestRepack(t *testing.T) {
	o := newOrigin(t)
	first := o.commit(map[string]string{"n": "0"})
	dir := filepath.Join(t.TempDir(), "m")
	m, err := gitrepo.Open(dir, o.dir, gitrepo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	for i := range 70 {
		o.commit(map[string]string{"n": "value " + string(rune('a'+i%26)) + string(rune('a'+i/26))})
		last = fetch(t, m, last).Head
	}
	packs, _ := filepath.Glob(filepath.Join(dir, "objects", "pack", "*.pack"))
	if len(packs) > 10 {
		t.Errorf("%d packs", len(packs))
	}
	if _, err := tree(t, m, first).ReadFile("n"); err != nil {
		t.Error(err)
	}
	if line, err := m.FirstParents(t.Context(), last, ""); err != nil || len(line) != 71 {
		t.Errorf("%d commits, %v", len(line), err)
	}
	if out, err := o.git.Run(t.Context(), dir, "fsck", "--strict"); err != nil {
		t.Errorf("fsck: %s %v", out, err)
	}
}

func TestReopen(t *testing.T) {
	o := newOrigin(t)
	id := o.commit(map[string]string{"a": "1"})
	dir := filepath.Join(t.TempDir(), "m")
	for range 2 {
		m, err := gitrepo.Open(dir, "file://"+o.dir, gitrepo.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := fetch(t, m, ""); got.Head != id {
			t.Errorf("head %s", got.Head)
		}
		if head, err := m.RemoteHead(t.Context(), "main"); err != nil || head != id {
			t.Errorf("remote head %s, %v", head, err)
		}
	}
}

func TestGitHubLinks(t *testing.T) {
	for remote, want := range map[string]string{
		"https://github.com/acme/access.git":         "acme/access",
		"https://x:secret@github.com/acme/access":    "acme/access",
		"git@github.com:acme/access.git":             "acme/access",
		"ssh://git@github.com/acme/access.git":       "acme/access",
		"https://github.com.evil.example/acme/a.git": "/",
		"https://github.com/acme":                    "/",
		"https://github.com/acme/..":                 "/",
		"/srv/github.com/acme/access":                "/",
		"https://gitlab.com/acme/access.git":         "/",
	} {
		owner, repo, ok := gitrepo.GitHub(remote)
		if !ok {
			owner, repo = "", ""
		}
		if got := owner + "/" + repo; got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
	link := gitrepo.PullRequestURL("git@github.com:acme/access.git", "main", "request/orders-db")
	if want := "https://github.com/acme/access/compare/main...request/orders-db?expand=1"; link != want {
		t.Errorf("got %s, want %s", link, want)
	}
	link = gitrepo.NewFileURL("git@github.com:acme/access.git", "main", "reviews/db/a.yaml", "a: b\n")
	if want := "https://github.com/acme/access/new/main/reviews/db?filename=a.yaml&value=a%3A+b%0A"; link != want {
		t.Errorf("got %s, want %s", link, want)
	}
}
