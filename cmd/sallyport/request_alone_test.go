package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What a person has not pushed, committed or not, does not leave the machine with a request, and the work tree stays.
func TestRequestCarriesNothingElse(t *testing.T) {
	w := newWorkplace(t)
	origin := w.path("origin.git")
	w.git("clone", "--quiet", "--bare", w.path("access"), origin)
	w.git("remote", "add", "origin", origin)
	w.git("fetch", "--quiet", "origin")
	for name, commit := range map[string]bool{"secret.txt": true, "draft.txt": false} {
		if err := os.WriteFile(filepath.Join(w.path("access"), name), []byte("mine\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		w.git("add", name)
		if commit {
			w.git("commit", "--quiet", "--message", "not pushed")
		}
	}
	before := w.git("rev-parse", "HEAD") + w.git("status", "--porcelain=v2", "--branch")
	ask := func(name string, more ...string) []string {
		t.Helper()
		out := w.must(nil, append([]string{"request", "orders-db", "--as", "agent:etl", "--requester", "user:alice", "--allow", "select:app.orders", "--reason", "x", "--name", name}, more...)...)
		if !strings.Contains(out, "git switch request/orders-db/"+name) {
			t.Errorf("how to change it: %s", out)
		}
		return strings.Split(w.git("--git-dir", origin, "diff-tree", "-r", "--name-only", "--no-commit-id", "main", "request/orders-db/"+name), "\n")
	}
	for _, name := range []string{"one", "two"} {
		if got := ask(name); !slices.Equal(got, []string{"reviews/orders-db/" + name + ".yaml"}) {
			t.Errorf("request %s carries %q", name, got)
		}
		if after := w.git("rev-parse", "HEAD") + w.git("status", "--porcelain=v2", "--branch"); after != before {
			t.Errorf("the work tree was\n%s\nand is\n%s", before, after)
		}
	}
	if got := ask("three", "--base", "HEAD"); !slices.Equal(got, []string{"reviews/orders-db/three.yaml", "secret.txt"}) {
		t.Errorf("with --base HEAD it carries %q", got)
	}
}
