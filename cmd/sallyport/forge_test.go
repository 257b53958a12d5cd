package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport-dev/sallyport/reviews"
)

// The token goes to the forge that the clone came from, whatever the settings in it
// say: in a pull request's job they may be the change itself.
func TestTheTokenGoesOnlyWhereTheCloneCameFrom(t *testing.T) {
	const token = "canary-token"
	var mu sync.Mutex
	var asked, withToken int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		if strings.Contains(r.Header.Get("Authorization"), token) {
			withToken++
		}
		http.NotFound(w, r) // who is asked matters here, not the answer
	}))
	defer server.Close()
	w := newWorkplace(t)
	path := w.path("access/" + reviews.ConfigPath)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), "spec:\n", "spec:\n  forge: {kind: gitea, url: "+server.URL+", repository: acme/access}\n", 1)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	w.git("commit", "--quiet", "--all", "--message", "forge")
	w.git("remote", "add", "origin", "https://forge.example/acme/access.git")
	t.Setenv("GITEA_TOKEN", token)
	for remote, sent := range map[string]bool{
		"https://forge.example/acme/access.git":    false,
		"git@forge.example:acme/access.git":        false,
		"http://127.0.0.1:1/acme/access.git":       false,
		"https://" + server.URL[len("http://"):]:   false,
		w.path("elsewhere.git"):                    false,
		server.URL + "/acme/access.git":            true,
		"ssh://git@127.0.0.1:2222/acme/access.git": true,
	} {
		asked, withToken = 0, 0
		w.git("remote", "set-url", "origin", remote)
		out, errOut, code := w.run(configuredForge, "check", "--protection")
		if (withToken > 0) != sent || !sent && asked > 0 {
			t.Errorf("%s: asked %d times, %d with the token", remote, asked, withToken)
		}
		if want := "no token is sent there"; !sent && (code == exitOK || !strings.Contains(errOut, want)) {
			t.Errorf("%s: %d %s", remote, code, errOut)
		}
		if want := "the forge answers 404"; sent && !strings.Contains(out+errOut, want) {
			t.Errorf("%s does not say %q: %s%s", remote, want, out, errOut)
		}
		if strings.Contains(out+errOut, token) {
			t.Errorf("%s: the token is shown", remote)
		}
	}
	t.Setenv("GITEA_TOKEN", "")
	if _, errOut, code := w.run(configuredForge, "check", "--protection"); code == exitOK || !strings.Contains(errOut, "no forge is set up here") {
		t.Errorf("without a token: %d %s", code, errOut)
	}
}
