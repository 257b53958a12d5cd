package gitrepo_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

func signer(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey())))
}

func addition(s ssh.Signer, files map[string]string) gitrepo.Addition {
	a := gitrepo.Addition{
		Branch: "audit", Files: map[string][]byte{}, Message: "audit: add summaries",
		Author: gitrepo.Identity{Name: "gateway gw1", Email: "gw1@sallyport.invalid"},
		Time:   time.Date(2026, 11, 24, 5, 0, 0, 0, time.UTC),
		Sign:   func(b []byte) ([]byte, error) { return reviews.Sign(s, "git", b) },
	}
	for name, text := range files {
		a.Files[name] = []byte(text)
	}
	return a
}

func (o *origin) signatures(branch, key string) string {
	o.t.Helper()
	allowed := filepath.Join(o.t.TempDir(), "allowed")
	if err := os.WriteFile(allowed, []byte("gw1@sallyport.invalid "+key+"\n"), 0o600); err != nil {
		o.t.Fatal(err)
	}
	return o.run("-c", "gpg.ssh.allowedSignersFile="+allowed, "log", "--format=%G? %GS %an %s", branch)
}

// The real git accepts the signature, and the branch starts without history.
func TestAddSignsAndCreatesTheBranch(t *testing.T) {
	o := newOrigin(t)
	o.commit(map[string]string{"a": "1"})
	s, key := signer(t)
	m := o.mirror()
	first, err := m.Add(t.Context(), addition(s, map[string]string{"summaries/2026/11/24/one.json": "1", "summaries/2026/11/24/two.json": "2"}))
	if err != nil {
		t.Fatal(err)
	}
	second, err := m.Add(t.Context(), addition(s, map[string]string{"summaries/2026/11/25/three.json": "3"}))
	if err != nil {
		t.Fatal(err)
	}
	if got := o.run("log", "--format=%H", "audit"); got != second+"\n"+first {
		t.Errorf("log %s", got)
	}
	want := "G gw1@sallyport.invalid gateway gw1 audit: add summaries"
	if got := o.signatures("audit", key); got != want+"\n"+want {
		t.Errorf("signatures %s", got)
	}
	_, other := signer(t)
	if got := o.signatures("audit", other); strings.Contains(got, "G ") {
		t.Errorf("another key is accepted: %s", got)
	}
	if got := o.run("ls-tree", "-r", "--name-only", "audit"); strings.Count(got, "\n") != 2 {
		t.Errorf("files %s", got)
	}
	o.run("fsck", "--strict")
	again, err := m.Add(t.Context(), addition(s, map[string]string{"summaries/2026/11/24/one.json": "1"}))
	if err != nil || again != second {
		t.Errorf("repeating it made %s, %v", again, err)
	}
}

func TestAddNeverReplaces(t *testing.T) {
	o := newOrigin(t)
	o.commit(map[string]string{"a": "1"})
	s, _ := signer(t)
	m := o.mirror()
	if _, err := m.Add(t.Context(), addition(s, map[string]string{"x/one": "1"})); err != nil {
		t.Fatal(err)
	}
	for _, files := range []map[string]string{{"x/one": "2"}, {"x": "file"}, {"x/one/below": "1"}} {
		if _, err := m.Add(t.Context(), addition(s, files)); !errors.Is(err, gitrepo.ErrExists) {
			t.Errorf("%v: %v", files, err)
		}
	}
	for _, name := range []string{"../x", "/x", "a/../b", ".git/config", "a/.GIT/config", "", ".", "a\nb"} {
		if _, err := m.Add(t.Context(), addition(s, map[string]string{name: "1"})); err == nil {
			t.Errorf("path %q is accepted", name)
		}
	}
}

// What somebody put where files belong gives way when the caller, who sees it, says
// so, whatever it is; the rest of the branch stays.
func TestAddReplacesWhatGivesWay(t *testing.T) {
	o := newOrigin(t)
	o.commit(map[string]string{"a": "1"})
	s, _ := signer(t)
	m := o.mirror()
	if _, err := m.Add(t.Context(), addition(s, map[string]string{"x/one": "junk", "x/two": "good", "x/three/below": "junk", "y": "junk"})); err != nil {
		t.Fatal(err)
	}
	a := addition(s, map[string]string{"x/one": "1", "x/two": "2"})
	a.Replace = func(_ string, there []byte) bool { return string(there) == "junk" }
	if _, err := m.Add(t.Context(), a); !errors.Is(err, gitrepo.ErrExists) {
		t.Errorf("what does not give way: %v", err)
	}
	asked := map[string]string{}
	a = addition(s, map[string]string{"x/one": "1", "x/two": "good", "x/three": "3", "y/one": "1"})
	a.Replace = func(path string, there []byte) bool { asked[path] = string(there); return string(there) != "good" }
	if _, err := m.Add(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"x/one": "junk", "x/three": "", "y": "junk"}; !maps.Equal(asked, want) {
		t.Errorf("asked about %v, want %v", asked, want)
	}
	if got := o.run("ls-tree", "-r", "--name-only", "audit"); got != "x/one\nx/three\nx/two\ny/one" {
		t.Errorf("files %q", got)
	}
	if got := o.run("show", "audit:x/one") + o.run("show", "audit:x/three") + o.run("show", "audit:y/one"); got != "131" {
		t.Errorf("contents %q", got)
	}
	o.run("fsck", "--strict")
}

// Gateways commit at the same time; each ends up on top of the others.
func TestAddIsRepeatedOnTopOfOthers(t *testing.T) {
	o := newOrigin(t)
	o.commit(map[string]string{"a": "1"})
	s, key := signer(t)
	const gateways = 4
	var all sync.WaitGroup
	errs := make([]error, gateways)
	for i := range gateways {
		m := o.mirror()
		all.Go(func() {
			_, errs[i] = m.Add(context.Background(), addition(s, map[string]string{fmt.Sprintf("gw%d", i): "1"}))
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if got := o.signatures("audit", key); strings.Count(got, "G ") != gateways {
		t.Errorf("signatures %s", got)
	}
	if got := o.run("ls-tree", "--name-only", "audit"); strings.Count(got, "gw") != gateways {
		t.Errorf("files %s", got)
	}
}

// A remote that refuses is reported once, not tried for ever, and never forced.
func TestAddReportsARefusal(t *testing.T) {
	o := newOrigin(t)
	o.commit(map[string]string{"a": "1"})
	hook := filepath.Join(o.dir, ".git", "hooks", "pre-receive")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s, _ := signer(t)
	if _, err := o.mirror().Add(t.Context(), addition(s, map[string]string{"x": "1"})); err == nil {
		t.Error("no error")
	}
}
