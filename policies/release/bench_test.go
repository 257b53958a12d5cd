package release_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sallyport-dev/sallyport/policies/release"
)

// big is a repo of n reviews over ten connections, built as a release.
func big(b *testing.B, n int) (*repo, string) {
	r := newRepo(b)
	for c := range 10 {
		r.connection(fmt.Sprintf("db-%d", c))
	}
	for i := range n {
		r.review(fmt.Sprintf("db-%d/job-%d", i%10, i), 1, "app.orders")
	}
	return r, r.publish(7)
}

func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		r, dir := big(b, n)
		b.Run(fmt.Sprintf("reviews=%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := r.open(dir); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("reviews=%d,one-changed", n), func(b *testing.B) {
			before, err := r.open(dir)
			if err != nil {
				b.Fatal(err)
			}
			r.review("db-0/job-0", 2, "app.orders")
			next := r.publish(8)
			opener := release.Opener{Dir: next, Trust: r.trust()}
			for b.Loop() {
				if _, err := opener.Open(context.Background(), before, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpenFully is the same for a gateway that trusts no sync.
func BenchmarkOpenFully(b *testing.B) {
	r, dir := big(b, 10_000)
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			if _, err := r.openFully(dir, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one-changed", func(b *testing.B) {
		before, err := r.openFully(dir, nil)
		if err != nil {
			b.Fatal(err)
		}
		r.review("db-0/job-0", 2, "app.orders")
		next := r.publish(8)
		for b.Loop() {
			if _, err := r.openFully(next, before); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkMirror is from a poll that finds one changed review to the opened release,
// by the file server of net/http on this machine, and what a poll costs that finds nothing.
func BenchmarkMirror(b *testing.B) {
	r, dir := big(b, 10_000)
	r.review("db-0/job-0", 2, "app.orders")
	dirs := []string{dir, r.publish(8)}
	shown := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("If-Modified-Since") // one of the two is older than the other
		http.FileServer(http.Dir(dirs[shown])).ServeHTTP(w, r)
	}))
	defer server.Close()
	from, err := release.NewHTTP(server.URL, release.HTTPOptions{})
	if err != nil {
		b.Fatal(err)
	}
	m := &release.Mirror{From: from, Copy: release.Opener{Dir: b.TempDir(), Trust: r.trust()}}
	current, err := m.Next(context.Background(), nil, now)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("one-changed", func(b *testing.B) {
		for b.Loop() {
			shown = 1 - shown
			if current, err = m.Next(context.Background(), current, now); err != nil || current == nil {
				b.Fatal("not taken: ", err)
			}
		}
	})
	b.Run("nothing-new", func(b *testing.B) {
		for b.Loop() {
			if changed, err := m.Next(context.Background(), current, now); err != nil || changed != nil {
				b.Fatal("taken again, or ", err)
			}
		}
	})
}
