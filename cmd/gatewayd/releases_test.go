package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// A gateway that starts with an expired release uses it while an extension holds,
// also after another restart, and no longer once that was taken away.
func TestExtendedRelease(t *testing.T) {
	repo := accesstest.New(t, time.Now().Add(-30*time.Hour))
	repo.Principal("agent:etl")
	repo.Connection("orders-db", "")
	dir := repo.Publish(1)
	config := &Config{State: t.TempDir(), Release: dir, TrustRoot: "sha256:" + repo.RootDigest()}
	var logged syncBuffer
	start := func() (*gatewayd.Gateway, *releases) {
		t.Helper()
		journal, err := record.Open(record.Options{Dir: t.TempDir(), Gateway: "gw1", Sign: func(b []byte) ([]byte, error) {
			return reviews.Sign(accesstest.Signer("gw1"), reviews.NamespaceCheckpoint, b)
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = journal.Close() })
		store, err := credential.NewStore(nil)
		if err != nil {
			t.Fatal(err)
		}
		g, err := gatewayd.New(gatewayd.Config{
			Name: "gw1", Fingerprint: ssh.FingerprintSHA256(accesstest.Signer("gw1").PublicKey()), Journal: journal,
			Credentials: store, Log: slog.New(slog.NewTextHandler(&logged, nil)), Summaries: func(record.Summary) {},
		})
		if err != nil {
			t.Fatal(err)
		}
		r, err := newReleases(t.Context(), config, g, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		r.load(t.Context())
		return g, r
	}
	if g, _ := start(); g.Status().Ready || g.Status().LastError == "" {
		t.Fatalf("an expired release: %+v", g.Status())
	}
	trust := release.Trust{RootDigest: repo.RootDigest()}
	opened, err := release.Open(t.Context(), dir, trust, nil, repo.Now)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("apiVersion: sallyport.dev/v1\nkind: Extension\nmetadata: {repo: %s, name: extension}\nspec:\n  release: %s\n  until: %q\n  reason: the forge is away\n",
		accesstest.RepoID, opened.Digest, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	order := filepath.Join(dir, reviews.ExtensionPath)
	signature, err := reviews.Sign(accesstest.Signer("user:bob"), reviews.NamespaceExtension, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	sidecar := filepath.Join(dir, reviews.SidecarPath(reviews.ExtensionPath, "user:bob", accesstest.Signer("user:bob").PublicKey()))
	if err := os.MkdirAll(filepath.Dir(sidecar), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{order: []byte(text), sidecar: signature} {
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, when := range []string{"started", "restarted"} {
		if g, _ := start(); !g.Status().Ready || g.Status().Release.Extended != "the forge is away" {
			t.Fatalf("%s: %+v", when, g.Status())
		}
	}
	if !strings.Contains(logged.String(), `level=WARN msg="release is current"`) {
		t.Errorf("an extended release is not logged as a warning:\n%s", logged.String())
	}
	config.MaxExtension = reviews.Duration(6 * time.Hour) // it ended six hours ago, and an hour is asked for
	if g, _ := start(); g.Status().Ready {
		t.Errorf("further than maxExtension: %+v", g.Status())
	}
	config.MaxExtension = 0
	g, r := start()
	if err := os.Remove(order); err != nil {
		t.Fatal(err)
	}
	r.load(t.Context())
	if st := g.Status(); st.Ready || !st.Release.Expired || st.Release.Extended != "" || st.LastError == "" {
		t.Errorf("the extension was taken away: %+v", st)
	}
}
