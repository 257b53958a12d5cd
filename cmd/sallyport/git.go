package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// workTree is a git work tree of the person who runs sallyport. It is driven
// with their own git, so that their identity, hooks, commit signing and
// credential helpers are used as they set them up.
type workTree struct {
	dir string   // its top-level directory
	env []string // more variables for git
}

// findWorkTree is the work tree that dir is in.
func findWorkTree(ctx context.Context, dir string) (*workTree, error) {
	top, err := (&workTree{dir: dir}).git(ctx, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, err
	}
	return &workTree{dir: filepath.FromSlash(top)}, nil
}

// git runs git in the work tree and returns what it printed, without the last line break.
func (w *workTree) git(ctx context.Context, args ...string) (string, error) {
	out, err := w.gitBytes(ctx, args...)
	return strings.TrimRight(string(out), "\n"), err
}

// gitBytes is git for output that must stay as it is.
func (w *workTree) gitBytes(ctx context.Context, args ...string) ([]byte, error) {
	return w.gitInput(ctx, "", args...)
}

// gitInput is gitBytes for commands that read their input.
func (w *workTree) gitInput(ctx context.Context, input string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", w.dir, "--no-replace-objects", "-c", "core.quotePath=false", "-c", "advice.graftFileDeprecated=false", "--literal-pathspecs"}, args...)...)
	stdout, stderr := &boundedOutput{most: maxGitOutput}, &boundedOutput{most: maxGitOutput}
	if input != "" {
		cmd.Stdin = strings.NewReader(input)
	}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	// Grafts change the history that is seen as replacements change objects.
	cmd.Env = append(append(os.Environ(), "GIT_GRAFT_FILE="+os.DevNull), w.env...)
	if err := cmd.Run(); err != nil {
		switch {
		case errors.Is(err, exec.ErrNotFound):
			return nil, hint(err, "install git: sallyport drives your own")
		case stdout.full || stderr.full:
			return nil, hint(fmt.Errorf("git %s: %w", args[0], errTooMuch), "a tree that names itself many times over is an attack: find out who made it, and do not merge it")
		}
		return nil, fmt.Errorf("git %s: %w: %s", args[0], err, withoutUsers(strings.TrimSpace(stderr.kept.String())))
	}
	return stdout.kept.Bytes(), nil
}

// errTooMuch means that git had more to say than about any access repo.
var errTooMuch = errors.New("there are more files than an access repo can have")

// maxGitOutput is in bytes; the names of 100,000 reviews are a tenth of it.
const maxGitOutput = 128 << 20

// boundedOutput keeps what is written to it, and refuses more than most bytes. Writing to it
// fails then, which ends the program that writes.
type boundedOutput struct {
	kept bytes.Buffer // not embedded: io.Copy would find its ReadFrom, which knows no bound
	most int
	full bool
}

func (b *boundedOutput) Write(p []byte) (int, error) {
	if b.full = b.full || b.kept.Len()+len(p) > b.most; b.full {
		return 0, errTooMuch
	}
	return b.kept.Write(p)
}

var userOfURL = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^/\s'"]*@`)

// withoutUsers is what git said, without the user information of addresses: git leaves a token there that is no password.
func withoutUsers(said string) string { return userOfURL.ReplaceAllString(said, "$1") }

// push pushes and returns what the remote said.
func (w *workTree) push(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", w.dir, "push"}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git push: %w: %s", err, withoutUsers(strings.TrimSpace(string(out))))
	}
	return string(out), nil
}

// blob is a committed file; ok is false when the commit does not have it.
func (w *workTree) blob(ctx context.Context, commit, path string) (b []byte, ok bool) {
	b, err := w.gitBytes(ctx, "cat-file", "blob", commit+":"+path)
	return b, err == nil
}

// commit commits exactly the given paths, whatever else is staged.
func (w *workTree) commit(ctx context.Context, as, message string, paths ...string) error {
	if _, err := w.git(ctx, append([]string{"add", "--force", "--"}, paths...)...); err != nil {
		return err
	}
	args := append(w.identity(ctx, as), "commit", "--quiet", "--message", message, "--only", "--")
	_, err := w.git(ctx, append(args, paths...)...)
	return err
}

// identity names the committer when git does not know one yet, so that the
// first commit of a new machine works. It says who signed; nothing relies on it.
func (w *workTree) identity(ctx context.Context, as string) []string {
	if _, err := w.git(ctx, "var", "GIT_COMMITTER_IDENT"); err == nil {
		return nil
	}
	name := strings.NewReplacer(":", " ").Replace(as)
	return []string{"-c", "user.name=" + name, "-c", "user.email=" + strings.ReplaceAll(as, ":", ".") + "@localhost"}
}

// remote is the remote that a new branch is pushed to: origin, else the only one; "" without any.
func (w *workTree) remote(ctx context.Context) string {
	out, err := w.git(ctx, "remote")
	if err != nil || out == "" {
		return ""
	}
	names := strings.Split(out, "\n")
	for _, name := range names {
		if name == "origin" {
			return name
		}
	}
	if len(names) == 1 {
		return names[0]
	}
	return ""
}

// pullRequestLink is the page on which GitHub opens a pull request for the
// branch; "" for every other remote.
func pullRequestLink(remote, base, branch string) string {
	path, ok := githubPath(remote)
	if !ok {
		return ""
	}
	return "https://github.com/" + path + "/compare/" + url.PathEscape(base) + "..." + escapePath(branch) + "?expand=1"
}

func escapePath(p string) string {
	parts := strings.Split(p, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// githubPath is OWNER/REPOSITORY of a remote on github.com, in any of git's spellings.
func githubPath(remote string) (string, bool) {
	for _, prefix := range []string{"git@github.com:", "https://github.com/", "ssh://git@github.com/", "git://github.com/"} {
		path, ok := strings.CutPrefix(remote, prefix)
		path = strings.TrimSuffix(strings.TrimSuffix(path, "/"), ".git")
		if ok && strings.Count(path, "/") == 1 {
			return path, true
		}
	}
	return "", false
}
