package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/internal/peers"
	onForge "github.com/sallyport-dev/sallyport/reviews/forge"
)

// workplace is a folder of its own with an access repo "access" of user:alice,
// reviewers user:bob and user:carol, and nothing of the user's.
type workplace struct {
	t   *testing.T
	dir string
}

func newWorkplace(t *testing.T) *workplace {
	t.Helper()
	w := &workplace{t: t, dir: t.TempDir()}
	home := filepath.Join(w.dir, "home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, kv := range peers.CleanEnv(os.Environ(), home) {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
	t.Setenv("SSH_AUTH_SOCK", "")
	for _, name := range []string{"alice", "bob", "carol"} {
		if _, err := peers.NewSSHKey(t.Context(), w.path(name), name); err != nil {
			t.Fatal(err)
		}
	}
	w.must(nil, "init", w.path("access"), "--as", "user:alice", "--key", w.path("alice"), "--keys", w.path("keys"),
		"--reviewer", "user:bob="+w.path("bob.pub"), "--reviewer", "user:carol="+w.path("carol.pub"))
	return w
}

func (w *workplace) path(name string) string { return filepath.Join(w.dir, name) }

// run is one command of the CLI in the access repo, with what the globals inject.
func (w *workplace) run(f forgeOf, args ...string) (out, errOut string, code int) {
	w.t.Helper()
	root := newRootWith(&globals{forge: f})
	var stdout, stderr bytes.Buffer
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	if args[0] != "init" {
		args = append(args, "--repo", w.path("access"))
	}
	root.SetArgs(args)
	err := root.ExecuteContext(context.WithoutCancel(w.t.Context()))
	if err == nil {
		return stdout.String(), stderr.String(), exitOK
	}
	code = exitFailed
	if f := (*failure)(nil); errors.As(err, &f) {
		code = f.code
	}
	return stdout.String(), stderr.String() + err.Error(), code
}

func (w *workplace) must(f forgeOf, args ...string) string {
	w.t.Helper()
	out, errOut, code := w.run(f, args...)
	if code != exitOK {
		w.t.Fatalf("sallyport %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errOut)
	}
	return out
}

func (w *workplace) git(args ...string) string {
	w.t.Helper()
	out, err := (&workTree{dir: w.path("access")}).git(w.t.Context(), append([]string{"-c", "user.name=Alice", "-c", "user.email=alice@example.com"}, args...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// The pull request is opened through what is injected, with the branch that was
// pushed; doctor asks the same about the branch's protection, and request about CI.
func TestForgeSeam(t *testing.T) {
	w := newWorkplace(t)
	origin := w.path("origin.git")
	w.git("clone", "--quiet", "--bare", w.path("access"), origin)
	w.git("remote", "add", "origin", origin)
	w.git("fetch", "--quiet", "origin")
	var opened []pullRequest
	var lacks []string
	refuse := error(nil)
	f := func(context.Context, *accessRepo) (*forge, error) {
		return &forge{
			open: func(_ context.Context, p pullRequest) (string, error) {
				opened = append(opened, p)
				return "https://forge.example/pulls/1", refuse
			},
			protection: func(_ context.Context, branch string) ([]string, error) { return lacks, nil },
			checks:     func(context.Context, string) (string, error) { return "CI passed", nil },
		}, nil
	}
	out := w.must(f, "request", "orders-db", "--as", "agent:etl", "--requester", "user:alice", "--allow", "select:app.orders", "--reason", "nightly export", "--pr")
	if !strings.Contains(out, "the pull request: https://forge.example/pulls/1") {
		t.Errorf("request: %s", out)
	}
	want := pullRequest{Base: "main", Branch: "request/orders-db/etl", Title: "Request orders-db/etl", Body: "nightly export"}
	if len(opened) != 1 || opened[0] != want {
		t.Errorf("opened %+v", opened)
	}
	refuse = errors.New("no permission")
	w.git("switch", "--quiet", "main")
	_, errOut, code := w.run(f, "request", "orders-db", "--as", "agent:etl", "--requester", "user:alice", "--name", "two", "--allow", "select:app.orders", "--reason", "why", "--pr")
	if code != exitFailed || !strings.Contains(errOut, "is pushed, but its pull request was not opened: no permission") {
		t.Errorf("a refusal: %d %s", code, errOut)
	}
	w.git("switch", "--quiet", "main")
	out, errOut, code = w.run(f, "request", "orders-db", "--as", "agent:etl", "--requester", "user:alice", "--name", "three", "--allow", "select:app.orders", "--reason", "why", "--wait", "--every", "100ms", "--timeout", "2s")
	if code != exitFailed || !strings.Contains(out, "CI passed, 0 of 1 approval") {
		t.Errorf("wait: %d %s %s", code, out, errOut)
	}
	w.git("switch", "--quiet", "main")
	if out, _, _ := w.run(f, "doctor"); !strings.Contains(out, "ok    protection   main is protected") {
		t.Errorf("doctor: %s", out)
	}
	lacks = []string{"force pushes are allowed"}
	if out, _, code := w.run(f, "doctor"); code != exitFailed || !strings.Contains(out, "fail  protection   main: force pushes are allowed") {
		t.Errorf("doctor: %d %s", code, out)
	}
}

// --wait counts who approved the pull request, beside who signed, and only of the commit that is its head.
func TestWaitCountsApprovalsOnTheForge(t *testing.T) {
	w := newWorkplace(t)
	edit := func(path, old, replacement string) {
		t.Helper()
		b, err := os.ReadFile(w.path("access/" + path))
		if err != nil || !strings.Contains(string(b), old) {
			t.Fatalf("%s: %v\n%s", path, err, b)
		}
		if err := os.WriteFile(w.path("access/"+path), []byte(strings.Replace(string(b), old, replacement, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	edit("sallyport.yaml", "mode: signature, threshold: 1", "mode: forge, threshold: 2")
	edit("sallyport.yaml", "  # Every rule", "  forge: {kind: gitea, url: https://git.example, repository: acme/access}\n  # Every rule")
	edit("trust/root.yaml", "- name: user:carol\n", "- name: user:carol\n      forge: {gitea: 23}\n")
	w.git("commit", "--quiet", "--all", "--message", "approvals on the forge")
	w.must(nil, "sign", "sallyport.yaml", "--as", "user:alice", "--key", w.path("alice"))
	w.must(nil, "sign", "trust/root.yaml", "--as", "user:alice", "--key", w.path("alice"))
	w.git("clone", "--quiet", "--bare", w.path("access"), w.path("origin.git"))
	w.git("remote", "add", "origin", w.path("origin.git"))
	w.git("fetch", "--quiet", "origin")
	for name, c := range map[string]struct{ stale, want string }{
		"one":     {"", "CI passed, 1 of 2 approvals"},
		"another": {strings.Repeat("1", 40), "CI passed, 0 of 2 approvals"},
	} {
		w.git("switch", "--quiet", "main")
		f := func(context.Context, *accessRepo) (*forge, error) {
			return &forge{
				checks: func(context.Context, string) (string, error) { return "CI passed", nil },
				word: func(_ context.Context, _ int, branch string) (*forgeWord, error) {
					return &forgeWord{kind: "gitea", head: cmp.Or(c.stale, w.git("rev-parse", branch)), approved: []onForge.User{{ID: 23}}}, nil
				},
			}, nil
		}
		out, errOut, code := w.run(f, "request", "orders-db", "--as", "agent:etl", "--requester", "user:alice", "--name", name, "--allow", "select:app.orders",
			"--reason", "why", "--wait", "--every", "100ms", "--timeout", "2s")
		if code != exitFailed || !strings.Contains(out, c.want+"\n") {
			t.Errorf("%s: %d %s%s; want %q", name, code, out, errOut, c.want)
		}
	}
}
