package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	git "github.com/go-git/go-git/v5"
)

// Worktree is a person's checkout of the access repo. What changes it goes
// through the git command line, so that the person's hooks, commit signing,
// credential helpers and index stay in force; go-git's worktree honours none
// of them. Committed files are read directly.
type Worktree struct {
	root    string
	objects *store
}

// OpenWorktree finds the checkout that dir lies in.
func OpenWorktree(ctx context.Context, dir string) (*Worktree, error) {
	out, err := run(ctx, dir, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, fmt.Errorf("%s is not in a git checkout: %w; run this in a clone of the access repo, or `git init` first", dir, err)
	}
	repo, err := git.PlainOpenWithOptions(out, &git.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", out, err)
	}
	return &Worktree{root: out, objects: newStore(repo)}, nil
}

// Root is the absolute path of the checkout's top folder.
func (w *Worktree) Root() string { return w.root }

// Files is the checkout as it lies on disk, uncommitted changes included. No
// path leads out of it, not even through a symbolic link. Close it after use.
func (w *Worktree) Files() (*Files, error) { return OpenFiles(w.root) }

// Branch is the checked-out branch, also before its first commit.
func (w *Worktree) Branch(ctx context.Context) (string, error) {
	out, err := run(ctx, w.root, "symbolic-ref", "--short", "HEAD")
	if err != nil {
		return "", fmt.Errorf("no branch is checked out in %s: %w; run `git switch` with a branch", w.root, err)
	}
	return out, nil
}

// Resolve is the full commit id of a revision such as HEAD or origin/main.
func (w *Worktree) Resolve(ctx context.Context, revision string) (string, error) {
	if strings.HasPrefix(revision, "-") {
		return "", fmt.Errorf("revision %q: not a revision", revision)
	}
	out, err := run(ctx, w.root, "rev-parse", "--verify", "--quiet", revision+"^{commit}")
	if err != nil {
		return "", fmt.Errorf("revision %q: there is no such commit in %s", revision, w.root)
	}
	return out, nil
}

// Commit reads one commit by its full id.
func (w *Worktree) Commit(id string) (*Commit, error) { return w.objects.commit(id) }

// Tree is the files of a commit of this checkout.
func (w *Worktree) Tree(c *Commit) *Tree { return newTree(w.objects, c) }

// RemoteURL is the address of a named remote, "" when it is not set up.
func (w *Worktree) RemoteURL(ctx context.Context, remote string) string {
	out, err := run(ctx, w.root, "remote", "get-url", "--", remote)
	if err != nil {
		return ""
	}
	return out
}

// SwitchNew creates a branch at start ("" for the current commit) and checks
// it out. Uncommitted changes come along, as with git itself.
func (w *Worktree) SwitchNew(ctx context.Context, branch, start string) error {
	if err := CheckBranch(branch); err != nil {
		return err
	}
	args := []string{"switch", "--quiet", "--no-track", "--create", branch}
	if start != "" {
		id, err := w.Resolve(ctx, start)
		if err != nil {
			return err
		}
		args = append(args, id)
	}
	if _, err := run(ctx, w.root, args...); err != nil {
		return fmt.Errorf("create branch %q: %w", branch, err)
	}
	return nil
}

// CommitPaths commits exactly these paths, slash-separated from the top
// folder, and leaves everything else that is staged or changed as it is. It
// returns the commit, or the current one when nothing in the paths changed.
func (w *Worktree) CommitPaths(ctx context.Context, message string, paths ...string) (string, error) {
	if len(paths) == 0 || message == "" {
		return "", errors.New("commit: message and paths are required")
	}
	for _, p := range paths {
		if !fs.ValidPath(p) || p == "." {
			return "", fmt.Errorf("commit: path %q is not allowed", p)
		}
	}
	if _, err := run(ctx, w.root, literal("add", "--intent-to-add", "--", paths)...); err != nil {
		return "", fmt.Errorf("commit: %w", err)
	}
	changed, err := run(ctx, w.root, literal("status", "--porcelain", "--", paths)...)
	if err != nil {
		return "", fmt.Errorf("commit: %w", err)
	}
	if changed != "" {
		args := append([]string{"--literal-pathspecs", "commit", "--quiet", "--message", message, "--only", "--"}, paths...)
		if _, err := run(ctx, w.root, args...); err != nil {
			return "", fmt.Errorf("commit: %w", err)
		}
	}
	return w.Resolve(ctx, "HEAD")
}

// Push sends a branch to a remote, never forced.
func (w *Worktree) Push(ctx context.Context, remote, branch string) error {
	if err := CheckBranch(branch); err != nil {
		return err
	}
	ref := "refs/heads/" + branch
	if _, err := run(ctx, w.root, "push", "--quiet", "--", remote, ref+":"+ref); err != nil {
		return fmt.Errorf("push branch %q to %s: %w", branch, Redact(remote), err)
	}
	return nil
}

// literal builds arguments whose paths are taken as they are, not as patterns.
func literal(verb, flag, dashes string, paths []string) []string {
	return append([]string{"--literal-pathspecs", verb, flag, dashes}, paths...)
}

// run runs git in dir and returns its output without the last line break. The
// error carries what git said. A GIT_DIR left by a hook must not redirect it.
func run(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Env = append(cleanEnv(os.Environ()), "LC_ALL=C")
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Stdin = &out, &stderr, os.Stdin
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("git is not installed; install the package git")
	}
	if err != nil {
		said := strings.TrimSpace(stderr.String())
		if said == "" {
			said = strings.TrimSpace(out.String())
		}
		return "", fmt.Errorf("git %s: %w: %s", verb(args), err, userOfURL.ReplaceAllString(said, "$1"))
	}
	return strings.TrimRight(out.String(), "\n"), nil
}

// userOfURL is where addresses hold a token, which git leaves in its messages.
var userOfURL = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^/\s'"]*@`)

func verb(args []string) string {
	for _, a := range args {
		if !strings.HasPrefix(a, "-") {
			return a
		}
	}
	return ""
}

// cleanEnv leaves out what ties git to another repository than that of its folder.
func cleanEnv(env []string) []string {
	var out []string
	for _, kv := range env {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_NAMESPACE":
		default:
			out = append(out, kv)
		}
	}
	return out
}

// Files is a folder on disk as an fs.FS that no path leaves. The folder .git
// of its top is not part of it.
type Files struct {
	root *os.Root
	fs.FS
}

// OpenFiles opens a folder; it need not be a git checkout.
func OpenFiles(dir string) (*Files, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, err
	}
	return &Files{root: root, FS: root.FS()}, nil
}

// Close releases the folder.
func (f *Files) Close() error { return f.root.Close() }

// ReadDir implements fs.ReadDirFS.
func (f *Files) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := fs.ReadDir(f.FS, name)
	if name != "." {
		return list, err
	}
	kept := list[:0]
	for _, e := range list {
		if e.Name() != ".git" {
			kept = append(kept, e)
		}
	}
	return kept, err
}

// ReadFile implements fs.ReadFileFS. Links and devices are refused.
func (f *Files) ReadFile(name string) ([]byte, error) {
	info, err := f.root.Lstat(filepath.FromSlash(name))
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, pathError("read", name, ErrIrregular)
	}
	if info.Size() > MaxBlob {
		return nil, pathError("read", name, ErrTooLarge)
	}
	return fs.ReadFile(f.FS, name)
}

// Lstat implements fs.ReadLinkFS's half that matters: links are not followed.
func (f *Files) Lstat(name string) (fs.FileInfo, error) {
	return f.root.Lstat(filepath.FromSlash(name))
}

// Stat implements fs.StatFS. It does not follow links, like a commit's.
func (f *Files) Stat(name string) (fs.FileInfo, error) { return f.Lstat(name) }
