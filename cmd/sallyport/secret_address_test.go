package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A clone's remote often holds a token. It is neither committed, nor signed, nor printed.
func TestTokensOfAddressesStayHere(t *testing.T) {
	const token = "s3cr3tTOKEN"
	w := newWorkplace(t)
	for i, address := range []string{"https://user:" + token + "@git.example.org/acme/access.git", "https://" + token + "@git.example.org/acme/access.git", "ssh://git:" + token + "@git.example.org/acme/access.git"} {
		dir := w.path("new" + string(rune('a'+i)))
		if _, err := (&workTree{dir: w.dir}).git(t.Context(), "init", "--quiet", "--initial-branch", "main", dir); err != nil {
			t.Fatal(err)
		}
		work := &workTree{dir: dir}
		if _, err := work.git(t.Context(), "remote", "add", "origin", address); err != nil {
			t.Fatal(err)
		}
		out := w.must(nil, "init", dir, "--as", "user:alice", "--key", w.path("alice"), "--keys", w.path("keys"), "--lab")
		all, err := work.git(t.Context(), "log", "--patch")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(all+out, token) || !strings.Contains(all, "git.example.org/acme/access.git") {
			t.Errorf("%s: committed or printed, or no address at all", address)
		}
		out, errOut, code := w.run(nil, "init", w.path("other"), "--as", "user:alice", "--key", w.path("alice"), "--keys", w.path("keys"), "--lab", "--repository", address)
		if code != exitUsage || !strings.Contains(errOut, "--repository holds a credential") || strings.Contains(out+errOut, token) {
			t.Errorf("--repository %s: code %d: %s%s", address, code, out, errOut)
		}
		if _, err := os.Stat(w.path("other")); !os.IsNotExist(err) {
			t.Error("it wrote something")
		}
	}

	// A config that somebody wrote by hand.
	config := filepath.Join(w.path("access"), "sallyport.yaml")
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"https://" + token + "@git.example.org/a.git", "https://u:" + token + "@git.example.org/a%zz.git"} {
		var lines []string
		for line := range strings.Lines(string(b)) {
			if before, _, ok := strings.Cut(line, "repository: "); ok {
				line = before + "repository: " + scalar(address) + "\n"
			}
			lines = append(lines, line)
		}
		if err := os.WriteFile(config, []byte(strings.Join(lines, "")), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, errOut, code := w.run(nil, "check"); code != exitFailed || !strings.Contains(out+errOut, "holds a credential") || strings.Contains(out+errOut, token) {
			t.Errorf("check: code %d: %s%s", code, out, errOut)
		}
	}
	if err := os.WriteFile(config, b, 0o644); err != nil {
		t.Fatal(err)
	}

	// What git says of a remote that does not answer. Nothing listens on port 1.
	remote := "http://" + token + "@127.0.0.1:1/acme/access.git"
	w.git("remote", "add", "origin", remote)
	for _, args := range [][]string{
		{"doctor"},
		{"request", "orders-db", "--as", "agent:etl", "--requester", "user:alice", "--allow", "select:app.orders", "--reason", "x"},
	} {
		if out, errOut, code := w.run(nil, args...); code == exitOK || strings.Contains(out+errOut, token) {
			t.Errorf("%s: code %d: %s%s", args[0], code, out, errOut)
		}
	}
	root := newRootWith(&globals{})
	root.SetArgs([]string{"request", "orders-db", "--as", "agent:etl", "--reason", "x", "--repo", remote})
	if err := root.ExecuteContext(t.Context()); err == nil || strings.Contains(err.Error(), token) {
		t.Errorf("request --repo: %v", err)
	}
}
