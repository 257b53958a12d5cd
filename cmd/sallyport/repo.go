package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing/fstest"

	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// accessRepo is the access repo that a verb works on: a work tree, or a private
// copy of a repository that lies elsewhere.
type accessRepo struct {
	location string // as people write it, for commands that are printed; without a password
	remote   string // what git is given to clone it; "" for a work tree
	git      *workTree
	mirror   *gitrepo.Mirror // nil for a work tree; git then is its bare copy
	branch   string          // the branch of merged reviews
}

// snapshot is the access repo at one commit.
type snapshot struct {
	ref    string // what people call it: "origin/main"
	commit string
	files  fs.FS
}

// open finds the access repo that --repo names.
func (g *globals) open(ctx context.Context) (*accessRepo, error) {
	location := g.repo
	if location == "" {
		location = "."
	}
	if info, err := os.Stat(location); err == nil && info.IsDir() {
		if work, err := findWorkTree(ctx, location); err == nil {
			return openWorkTree(work)
		} else if g.repo == "" {
			return nil, hint(errors.New("the current directory is not in a git work tree"),
				"change into your clone of the access repo, or name it with --repo")
		}
	}
	return openElsewhere(ctx, location)
}

// workTree is open for verbs that write or look at files.
func (g *globals) workTree(ctx context.Context) (*accessRepo, error) {
	r, err := g.open(ctx)
	if err == nil && r.mirror != nil {
		return nil, hint(fmt.Errorf("%s is not a work tree", r.location), "clone it and use this command in the clone")
	}
	return r, err
}

func openWorkTree(work *workTree) (*accessRepo, error) {
	r := &accessRepo{location: work.dir, git: work, branch: "main"}
	b, err := os.ReadFile(filepath.Join(work.dir, reviews.ConfigPath))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint(fmt.Errorf("%s is not an access repo: it has no %s", work.dir, reviews.ConfigPath),
			"name yours with --repo, or make one with `sallyport init`")
	}
	if err != nil {
		return nil, err
	}
	if config, err := reviews.ParseConfig(reviews.ConfigPath, b); err == nil {
		r.branch = config.Spec.Branch
	}
	return r, nil
}

func openElsewhere(ctx context.Context, location string) (*accessRepo, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("a copy of %s needs a cache directory: %w", gitrepo.Redact(location), err)
	}
	if abs, err := filepath.Abs(location); err == nil && !strings.Contains(location, ":") {
		location = abs
	}
	sum := sha256.Sum256([]byte(location))
	dir := filepath.Join(cache, "sallyport", "repos", hex.EncodeToString(sum[:8]))
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, err
	}
	mirror, err := gitrepo.Open(dir, location, credentialFor(ctx, location))
	if err != nil {
		return nil, err
	}
	r := &accessRepo{location: gitrepo.Redact(location), remote: location, git: &workTree{dir: dir}, mirror: mirror}
	r.branch = defaultBranch(ctx, location)
	return r, nil
}

// credentialFor is what the person's own git would send to an https remote, from its credential helpers; nothing is asked for on
// the terminal.
func credentialFor(ctx context.Context, remote string) (opt gitrepo.Options) {
	u, err := url.Parse(remote)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
		return opt
	}
	cmd := exec.CommandContext(ctx, "git", "-c", "core.askPass=", "credential", "fill")
	cmd.Stdin = strings.NewReader("url=" + remote + "\n\n")
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=")
	out, err := cmd.Output()
	if err != nil {
		return opt // the fetch that follows tells what is missing
	}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch name {
		case "username":
			opt.User = value
		case "password":
			opt.Token = value
		}
	}
	return opt
}

// defaultBranch is the branch that a clone of the repository would check out.
func defaultBranch(ctx context.Context, location string) string {
	out, err := exec.CommandContext(ctx, "git", "ls-remote", "--symref", "--", location, "HEAD").Output()
	if err != nil {
		return "main" // the fetch that follows tells what is wrong
	}
	line, _, _ := strings.Cut(string(out), "\t")
	if branch, ok := strings.CutPrefix(line, "ref: refs/heads/"); ok {
		return branch
	}
	return "main"
}

// merged is the newest commit of the branch of merged reviews that this machine
// knows of: a copy of a repository elsewhere is fetched first; in a work tree it
// is what the remote's branch was at the last fetch, else the branch itself.
func (r *accessRepo) merged(ctx context.Context) (*snapshot, error) {
	if r.mirror != nil {
		fetched, err := r.mirror.Fetch(ctx, r.branch, "")
		if err != nil {
			return nil, err
		}
		return r.read(ctx, r.branch, fetched.Head)
	}
	refs := []string{"refs/heads/" + r.branch, "HEAD"}
	if remote := r.git.remote(ctx); remote != "" {
		refs = append([]string{"refs/remotes/" + remote + "/" + r.branch}, refs...)
	}
	for _, ref := range refs {
		if commit, err := r.git.git(ctx, "rev-parse", "--verify", "--quiet", ref+"^{commit}"); err == nil {
			return r.read(ctx, shortRef(ref), commit)
		}
	}
	return nil, hint(fmt.Errorf("%s has no commit yet", r.location), "commit the documents, or fetch the remote")
}

func shortRef(ref string) string {
	return strings.TrimPrefix(strings.TrimPrefix(ref, "refs/heads/"), "refs/remotes/")
}

// at is the access repo at any commit of a work tree.
func (r *accessRepo) at(ctx context.Context, ref string) (*snapshot, error) {
	if r.mirror != nil && (ref == "" || ref == r.branch) {
		return r.merged(ctx)
	}
	commit, err := r.git.git(ctx, "rev-parse", "--verify", "--end-of-options", ref+"^{commit}")
	if err != nil {
		return nil, fmt.Errorf("%q is not a commit of %s: %w", ref, r.location, err)
	}
	return r.read(ctx, ref, commit)
}

// documentFolders are what an access repo consists of; the rest is not read.
var documentFolders = []string{reviews.ConfigPath, reviews.ConfigPath + ".sigs", reviews.RewindPath, reviews.RewindPath + ".sigs", "trust", "principals", "connections", "reviews", "policies"}

// read reads the documents of a commit from git's objects, byte for byte,
// whatever the work tree or its attributes say.
func (r *accessRepo) read(ctx context.Context, ref, commit string) (*snapshot, error) {
	files, err := r.git.files(ctx, commit, documentFolders...)
	if err != nil {
		return nil, err
	}
	// Merged settings say where the audit branch is: those of a commit that somebody
	// proposes must not make this machine fetch from anywhere.
	if settings, err := r.mergedSettings(ctx); err == nil {
		attested, err := r.attestations(ctx, settings)
		if err != nil {
			return nil, err
		}
		maps.Copy(files, attested)
	}
	return &snapshot{ref: ref, commit: commit, files: newTreeFS(files)}, nil
}

// files reads some folders of a commit from git's objects.
func (w *workTree) files(ctx context.Context, commit string, folders ...string) (fstest.MapFS, error) {
	list, err := w.gitBytes(ctx, append([]string{"ls-tree", "-r", "-z", commit, "--"}, folders...)...)
	if err != nil {
		return nil, err
	}
	files := fstest.MapFS{}
	var blobs []string // object names, in the order of paths
	var paths []string
	for _, entry := range strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		head, path, _ := strings.Cut(entry, "\t")
		fields := strings.Fields(head)
		if len(fields) != 3 {
			continue
		}
		files[path] = &fstest.MapFile{Mode: modeOf(fields[0])}
		if fields[1] == "blob" {
			blobs, paths = append(blobs, fields[2]), append(paths, path)
		}
	}
	return files, w.eachBlob(ctx, blobs, func(i int, b []byte) { files[paths[i]].Data = b })
}

// below are the paths of the files in a folder and below it; none when there is no such folder.
func below(files fs.FS, folder string) []string {
	var paths []string
	_ = fs.WalkDir(files, folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			paths = append(paths, path)
		}
		return err
	})
	return paths
}

// modeOf turns git's mode into one that the strict loader judges: anything but a
// plain file is none.
func modeOf(git string) fs.FileMode {
	switch git {
	case "100644":
		return 0o644
	case "100755":
		return 0o755
	case "120000":
		return fs.ModeSymlink | 0o777
	}
	return fs.ModeIrregular
}

// maxContents is of all files that eachBlob reads, in bytes: the documents and
// signatures of 100,000 reviews are a third of it.
const maxContents = 1 << 30

// eachBlob reads blobs in one go.
func (w *workTree) eachBlob(ctx context.Context, names []string, take func(i int, b []byte)) error {
	cmd := exec.CommandContext(ctx, "git", "-C", w.dir, "--no-replace-objects", "cat-file", "--batch")
	cmd.Stdin = strings.NewReader(strings.Join(names, "\n") + "\n")
	if len(names) == 0 {
		return nil
	}
	out := &boundedOutput{most: maxContents}
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		if out.full {
			err = errTooMuch
		}
		return fmt.Errorf("git cat-file: %w", err)
	}
	in := bufio.NewReader(&out.kept)
	for i, name := range names {
		line, err := in.ReadString('\n')
		fields := strings.Fields(line)
		if err != nil || len(fields) != 3 {
			return fmt.Errorf("git cat-file: object %s cannot be read", name)
		}
		size, err := strconv.Atoi(fields[2])
		if err != nil {
			return fmt.Errorf("git cat-file: object %s has no size", name)
		}
		b := make([]byte, size+1)
		if _, err := io.ReadFull(in, b); err != nil {
			return fmt.Errorf("git cat-file: object %s: %w", name, err)
		}
		take(i, b[:size])
	}
	return nil
}

// mergedTree is the tree of the newest merged commit, with what was approved in pull
// requests or by the policies, as far as the clone can tell.
func (r *accessRepo) mergedTree(ctx context.Context) (*reviews.Tree, *snapshot, error) {
	s, err := r.merged(ctx)
	if err != nil {
		return nil, nil, err
	}
	tree, err := r.granted(ctx, s)
	return tree, s, err
}

// granted loads the documents of a merged commit as a gateway would: what is not
// approved is not there.
func (r *accessRepo) granted(ctx context.Context, s *snapshot) (*reviews.Tree, error) {
	tree, err := reviews.Load(s.files, s.options(reviews.RequireApprovals))
	if err != nil {
		return nil, fmt.Errorf("the access repo at %s is not usable: %w", s.ref, err)
	}
	return tree, nil
}
