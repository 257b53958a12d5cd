package release_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/policies/release"
)

func TestPublishNeverGoesBack(t *testing.T) {
	r := newRepo(t)
	dir := r.publish(7)
	for _, sequence := range []int64{6, 7} {
		err := release.Publish(dir, r.build(sequence), r.keys["release"])
		wantError(t, err, "already holds sequence 7")
	}
	if err := release.Publish(dir, r.build(8), r.keys["release"]); err != nil {
		t.Fatal(err)
	}
}

func TestPublishKeepsTwoReleases(t *testing.T) {
	r := newRepo(t)
	dir := t.TempDir()
	var built []*release.Built
	for sequence := range int64(3) {
		r.review("orders-db/etl-nightly", int(4+sequence), "app.orders")
		built = append(built, r.build(sequence+1))
		if err := release.Publish(dir, built[sequence], r.keys["release"]); err != nil {
			t.Fatal(err)
		}
	}
	for i, b := range built {
		_, err := os.Stat(bundlePath(dir, b, release.ConnectionBundle("orders-db")))
		if kept := err == nil; kept != (i > 0) {
			t.Errorf("release %d: bundle kept: %v", i+1, kept)
		}
	}
	if leftover, _ := filepath.Glob(filepath.Join(dir, "*", ".new-*")); len(leftover) > 0 {
		t.Errorf("left over: %v", leftover)
	}
}

func TestPublishMendsADamagedBundle(t *testing.T) {
	r := newRepo(t)
	dir := r.publish(7)
	edit(t, bundlePath(dir, r.build(7), release.PolicyBundle), func(b []byte) []byte { return b[:10] })
	if err := release.Publish(dir, r.build(8), r.keys["release"]); err != nil {
		t.Fatal(err)
	}
	if _, err := r.open(dir); err != nil {
		t.Error(err)
	}
}

// Nothing is published before it is signed.
func TestPublishWithAKeyThatMayNotSign(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	wantError(t, release.Publish(dir, newRepo(t).build(7), signer), "ed25519")
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("it wrote %v", entries)
	}
}

func TestPublishIntoSomethingElse(t *testing.T) {
	r := newRepo(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "release.json"), []byte("my notes"), 0o644); err != nil {
		t.Fatal(err)
	}
	wantError(t, release.Publish(dir, r.build(7), r.keys["release"]), "move it away")
}

func TestWatchSeesEachRelease(t *testing.T) {
	r := newRepo(t)
	dir := t.TempDir()
	ctx, stop := context.WithCancel(context.Background())
	calls, done := make(chan int64), make(chan struct{})
	go func() {
		defer close(done)
		release.Watch(ctx, dir, time.Millisecond, func() {
			opened, err := r.open(dir)
			if err != nil {
				calls <- 0
				return
			}
			calls <- opened.Envelope.Sequence
		})
	}()
	if got := <-calls; got != 0 {
		t.Errorf("at the start: %d", got)
	}
	for sequence := int64(1); sequence <= 3; sequence++ {
		if err := release.Publish(dir, r.build(sequence), r.keys["release"]); err != nil {
			t.Fatal(err)
		}
		if got := <-calls; got != sequence {
			t.Errorf("saw %d, want %d", got, sequence)
		}
	}
	stop()
	<-done
}
