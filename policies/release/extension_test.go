package release_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// extend writes an extension of a release beside it, signed by these people in a namespace.
func (r *repo) extend(dir, repo, digest string, until time.Time, namespace string, who ...string) {
	r.t.Helper()
	text := fmt.Sprintf("apiVersion: sallyport.dev/v1\nkind: Extension\nmetadata: {repo: %s, name: extension}\nspec:\n  release: %s\n  until: %q\n  reason: the forge is away\n",
		repo, digest, until.Format(time.RFC3339))
	path := filepath.Join(dir, reviews.ExtensionPath)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
	for _, name := range who {
		key := r.keys[name]
		armored, err := reviews.Sign(key, namespace, []byte(text))
		if err != nil {
			r.t.Fatal(err)
		}
		sidecar := filepath.Join(dir, reviews.SidecarPath(reviews.ExtensionPath, name, key.PublicKey()))
		if err := os.MkdirAll(filepath.Dir(sidecar), 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(sidecar, armored, 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
}

func TestExtension(t *testing.T) {
	r := newRepo(t)
	dir := r.publish(1)
	opened, err := r.open(dir)
	if err != nil {
		t.Fatal(err)
	}
	ends := opened.Envelope.ValidUntil
	until, late := ends.Add(12*time.Hour), ends.Add(time.Hour)
	other := strings.Repeat("a", 64)
	for _, tt := range []struct {
		name, repo, digest string
		until              time.Time
		namespace          string
		who                []string
		why                string // "" when it holds
	}{
		{"signed by the root", repoID, opened.Digest, until, reviews.NamespaceExtension, []string{"user:bob"}, ""},
		{"unsigned", repoID, opened.Digest, until, reviews.NamespaceExtension, nil, "not approved"},
		{"by one outside the root", repoID, opened.Digest, until, reviews.NamespaceExtension, []string{"user:alice"}, "not approved"},
		{"by the release key", repoID, opened.Digest, until, reviews.NamespaceExtension, []string{"release"}, "not approved"},
		{"a signature for something else", repoID, opened.Digest, until, reviews.NamespaceRelease, []string{"user:bob"}, "namespace"},
		{"of another release", repoID, other, until, reviews.NamespaceExtension, []string{"user:bob"}, "is about release"},
		{"of another repository", "6f0c2f5e-1d2c-4b3a-9a54-0c8f1d1f0a12", opened.Digest, until, reviews.NamespaceExtension, []string{"user:bob"}, "belongs to repository"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(r.publish(1))); err != nil {
				t.Fatal(err)
			}
			r.extend(dir, tt.repo, tt.digest, tt.until, tt.namespace, tt.who...)
			early, err := r.open(dir)
			if err != nil {
				t.Fatal("an extension must not close what is valid:", err)
			}
			if (early.NotExtended == "") != (tt.why == "") || !strings.Contains(early.NotExtended, tt.why) {
				t.Errorf("not extended: %q, want %q", early.NotExtended, tt.why)
			}
			opened, err := release.Open(t.Context(), dir, r.trust(), nil, late)
			if tt.why != "" {
				if !errors.Is(err, release.ErrExpired) {
					t.Errorf("used after its end: %v", err)
				}
				return
			}
			if err != nil || !opened.Until.Equal(until) || opened.Extended != "the forge is away" {
				t.Fatalf("%+v, %v", opened, err)
			}
			if _, err := release.Open(t.Context(), dir, r.trust(), nil, until); !errors.Is(err, release.ErrExpired) {
				t.Errorf("used after the extension: %v", err)
			}
		})
	}
	t.Run("edited", func(t *testing.T) {
		r.extend(dir, repoID, opened.Digest, until, reviews.NamespaceExtension, "user:bob")
		edit(t, filepath.Join(dir, reviews.ExtensionPath), func(b []byte) []byte { return append(b, "# later\n"...) })
		if _, err := release.Open(t.Context(), dir, r.trust(), nil, late); !errors.Is(err, release.ErrExpired) {
			t.Errorf("used after its end: %v", err)
		}
	})
	t.Run("never shorter", func(t *testing.T) {
		r.extend(dir, repoID, opened.Digest, ends.Add(-time.Hour), reviews.NamespaceExtension, "user:bob")
		again, err := r.open(dir)
		if err != nil || !again.Until.Equal(ends) {
			t.Errorf("%+v, %v", again, err)
		}
	})
}

// Signing an extension, which touches no release, is noticed.
func TestWatchSeesAnExtension(t *testing.T) {
	r := newRepo(t)
	dir := r.publish(1)
	calls := make(chan struct{}, 16)
	go release.Watch(t.Context(), dir, 5*time.Millisecond, func() { calls <- struct{}{} })
	<-calls
	r.extend(dir, repoID, strings.Repeat("a", 64), time.Now(), reviews.NamespaceExtension, "user:bob")
	select {
	case <-calls:
	case <-time.After(10 * time.Second):
		t.Error("not noticed")
	}
}
