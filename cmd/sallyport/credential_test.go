package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// A credential goes to the host that the person's git has it for, and to no other remote.
func TestCredentialFor(t *testing.T) {
	peers.IsolateEnv(t)
	home := t.TempDir()
	t.Setenv("HOME", home)
	config := filepath.Join(home, ".gitconfig")
	for path, text := range map[string]string{
		config:                                  "[credential]\nhelper = store\n",
		filepath.Join(home, ".git-credentials"): "https://alice:s3cret@git.example\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GIT_CONFIG_GLOBAL", config)
	known := gitrepo.Options{User: "alice", Token: "s3cret"}
	for remote, want := range map[string]gitrepo.Options{
		"https://git.example/acme/access.git":                       known,
		"https://git.example.evil/acme/access.git":                  {},
		"https://git.example:8443/acme/access.git":                  {},
		"http://git.example/acme/access.git":                        {},
		"https://bob:own@git.example/acme/access.git":               {},
		"ssh://git@git.example/acme/access.git":                     {},
		"git@git.example:acme/access.git":                           {},
		"/srv/git.example/access.git":                               {},
		"https://evil.example/x\nhost=git.example":                  {},
		"https://evil.example/x?\r\nurl=https://git.example/access": {},
	} {
		if got := credentialFor(t.Context(), remote); got != want {
			t.Errorf("%q: %+v", remote, got)
		}
	}
}
