package gitrepo_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// origin is a real repository, driven by the real git, that a mirror reads from.
type origin struct {
	t   *testing.T
	git *peers.Tool
	dir string
}

func newOrigin(t *testing.T) *origin {
	t.Helper()
	peers.IsolateEnv(t)
	git, err := peers.Git(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{t: t, git: git, dir: t.TempDir()}
	o.run("init", "--quiet", "--initial-branch=main")
	o.run("config", "receive.denyCurrentBranch", "ignore")
	o.run("config", "user.name", "Test")
	o.run("config", "user.email", "test@example.com")
	return o
}

func (o *origin) run(args ...string) string {
	o.t.Helper()
	out, err := o.git.Run(context.Background(), o.dir, args...)
	if err != nil {
		o.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// in runs git with this standard input.
func (o *origin) in(stdin string, args ...string) string {
	o.t.Helper()
	cmd := o.git.Command(context.Background(), args...)
	cmd.Dir, cmd.Stdin = o.dir, strings.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		o.t.Fatalf("git %v: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

// commit writes files ("" removes one) and commits them.
func (o *origin) commit(files map[string]string) string {
	o.t.Helper()
	for name, text := range files {
		full := filepath.Join(o.dir, name)
		if text == "" {
			o.run("rm", "--quiet", name)
			continue
		}
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			o.t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			o.t.Fatal(err)
		}
		o.run("add", "--", name)
	}
	o.run("commit", "--quiet", "--allow-empty", "-m", "change")
	return o.run("rev-parse", "HEAD")
}

// crafted commits a tree given as entries "mode type id\tname", which no
// ordinary checkout would make, and moves main there.
func (o *origin) crafted(entries ...string) string {
	o.t.Helper()
	tree := o.in(strings.Join(entries, "\x00")+"\x00", "mktree", "-z", "--missing")
	id := o.run("commit-tree", "-m", "crafted", tree)
	o.run("update-ref", "refs/heads/main", id)
	return id
}

func (o *origin) blob(text string) string { return o.in(text, "hash-object", "-w", "--stdin") }

func (o *origin) mirror() *gitrepo.Mirror {
	o.t.Helper()
	m, err := gitrepo.Open(filepath.Join(o.t.TempDir(), "mirror"), o.dir, gitrepo.Options{})
	if err != nil {
		o.t.Fatal(err)
	}
	return m
}

func fetch(t *testing.T, m *gitrepo.Mirror, last string) gitrepo.Fetched {
	t.Helper()
	f, err := m.Fetch(t.Context(), "main", last)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func tree(t *testing.T, m *gitrepo.Mirror, id string) *gitrepo.Tree {
	t.Helper()
	c, err := m.Commit(id)
	if err != nil {
		t.Fatal(err)
	}
	return m.Tree(c)
}

func paths(changes []gitrepo.Change) string {
	var out []string
	for _, c := range changes {
		sign := "~"
		switch {
		case c.Before == "":
			sign = "+"
		case c.After == "":
			sign = "-"
		}
		out = append(out, sign+c.Path)
	}
	return strings.Join(out, " ")
}

func many(n int) map[string]string {
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf("d%d/f%d", i%7, i)] = fmt.Sprint(i)
	}
	return files
}
