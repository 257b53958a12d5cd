package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/reviews"
)

const manyReviews = 10_000

// largeRepo is a real repository with 10,000 approved reviews of ten connections
// on main, and a branch that changes one of them.
func largeRepo(b *testing.B) (dir string, git func(args ...string)) {
	b.Helper()
	peers.IsolateEnv(b)
	b.Setenv("XDG_CACHE_HOME", b.TempDir())
	tool, err := peers.Git(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	catalog, err := os.ReadFile(filepath.Join(accessDir, reviews.CatalogPath("orders-db")))
	if err != nil {
		b.Fatal(err)
	}
	dir = b.TempDir()
	write := func(name string, bytes []byte) {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(full, bytes, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	r := accesstest.New(b, time.Now())
	for i := range 10 {
		name := fmt.Sprintf("db-%d", i)
		r.Connection(name, "  mask: [{column: app.customers.email, with: email}]\n")
		write(reviews.CatalogPath(name), catalog)
	}
	const spec = `  allow: [{verbs: [select], on: [app.orders, app.customers]}]
  examples:
    - {run: "select id, email from app.customers", expect: mask}
    - {run: "drop table app.orders", expect: deny}
`
	for i := range manyReviews {
		r.Review(fmt.Sprintf("db-%d/etl-%d", i%10, i), 1, "agent:etl", spec)
	}
	for name, f := range r.Files {
		write(name, f.Data)
	}
	git = func(args ...string) {
		if out, err := tool.Run(context.Background(), dir, args...); err != nil {
			b.Fatal(err, out)
		}
	}
	git("init", "--quiet", "--initial-branch=main")
	git("add", "--all")
	git("commit", "--quiet", "-m", "many")
	git("switch", "--quiet", "-c", "branch")
	r.Review("db-3/etl-3", 2, "agent:etl", strings.Replace(spec, "app.orders, app.customers", "app.customers", 1))
	for name, f := range r.Files {
		if strings.HasPrefix(name, "reviews/db-3/etl-3.yaml") {
			write(name, f.Data)
		}
	}
	git("commit", "--quiet", "-am", "one")
	return dir, git
}

// BenchmarkCheck is sallyport check on 10,000 reviews, all but the start of the
// process: cold, with what an earlier check remembered but for one review, and as the
// change of one review between two commits.
func BenchmarkCheck(b *testing.B) {
	dir, git := largeRepo(b)
	check := func(b *testing.B, args ...string) {
		root := newRoot()
		root.SetArgs(append([]string{"check", "--repo", dir}, args...))
		root.SetOut(io.Discard)
		var problems strings.Builder
		root.SetErr(&problems)
		if err := root.Execute(); err != nil {
			b.Fatal(err, problems.String())
		}
	}
	b.Setenv("CI", "")
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			check(b, "--require-approved", "--no-cache")
		}
	})
	b.Run("commit", func(b *testing.B) {
		for b.Loop() {
			check(b, "--require-approved", "--ref", "main", "--no-cache")
		}
	})
	b.Run("remembered", func(b *testing.B) {
		git("switch", "--quiet", "main")
		check(b)
		git("switch", "--quiet", "branch")
		for b.Loop() {
			check(b)
		}
	})
	b.Run("change", func(b *testing.B) {
		for b.Loop() {
			check(b, "--base", "main", "--head", "branch", "--require-approved")
		}
	})
	b.Run("worktree", func(b *testing.B) {
		for b.Loop() {
			check(b, "--base", "main", "--require-approved")
		}
	})
}
