package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// hookName is the hook of git that sallyport has.
const hookName = "pre-commit"

// hookMark is in every hook that sallyport wrote, whatever its version.
const hookMark = "# Written by sallyport hook install."

func newHook(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "hook",
		Short: "Check what you commit before you do, with a hook of this clone",
		Long: `A hook is a program that git runs on your machine, so it must be yours. It lies in
the .git folder of the clone, which no branch, merge or pull request can write.`,
		Example: `  sallyport hook install`,
	}
	c.AddCommand(&cobra.Command{
		Use:   "install",
		Short: "Write a pre-commit hook into this clone's own .git/hooks",
		Long: `install writes a pre-commit hook that runs ` + "`sallyport check`" + ` on what is staged.

A core.hooksPath of this clone that leads into the work tree is taken out: there, whoever
writes a branch that you check out runs programs on your machine. A hook that is not
sallyport's is left alone.`,
		Example: `  sallyport hook install`,
		Args:    arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			work, err := g.clone(c.Context())
			if err != nil {
				return err
			}
			return installHook(c.Context(), work, c.OutOrStdout())
		},
	})
	return c
}

// clone is the work tree that --repo names, whether its documents can be read or not.
func (g *globals) clone(ctx context.Context) (*workTree, error) {
	location := g.repo
	if location == "" {
		location = "."
	}
	work, err := findWorkTree(ctx, location)
	if err != nil {
		return nil, hint(fmt.Errorf("%s is not in a git work tree", location), "change into your clone of the access repo, or name it with --repo")
	}
	return work, nil
}

func installHook(ctx context.Context, work *workTree, out io.Writer) error {
	said, err := work.dropUnsafeHooks(ctx)
	if err != nil {
		return err
	}
	for _, line := range said {
		fmt.Fprintln(out, line)
	}
	folder, err := work.hooksFolder(ctx)
	if err != nil {
		return err
	}
	inTree, err := work.tracks(ctx, folder)
	if err != nil {
		return err
	}
	if inTree {
		return hint(fmt.Errorf("git takes hooks from %s, which branches can write", folder), "take core.hooksPath out of the configuration that sets it (git config --show-origin core.hooksPath), or the link in .git")
	}
	if set, _ := work.git(ctx, "config", "--get", "core.hooksPath"); set != "" {
		return hint(fmt.Errorf("git takes hooks from %s (core.hooksPath), which other clones may share: nothing was written", folder),
			"let the %s hook there run: sallyport check --base HEAD --head \"$(git write-tree)\"; or git config --unset core.hooksPath", hookName)
	}
	text, err := templateFiles.ReadFile("template/" + hookName)
	if err != nil {
		return err
	}
	file := filepath.Join(folder, hookName)
	switch there, err := os.ReadFile(file); {
	case err == nil && !bytes.Contains(there, []byte(hookMark)):
		return hint(fmt.Errorf("%s exists and is not sallyport's: it was left alone", file), "let it run: sallyport check --base HEAD --head \"$(git write-tree)\"")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	temp := file + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeNew(temp, text, 0o755); err != nil {
		return err
	}
	if err := os.Rename(temp, file); err != nil {
		return err
	}
	fmt.Fprintf(out, "wrote %s\n", file)
	return nil
}

// hooksFolder is where git looks for hooks, with links resolved as far as it exists.
func (w *workTree) hooksFolder(ctx context.Context) (string, error) {
	folder, err := w.git(ctx, "rev-parse", "--git-path", "hooks")
	if err != nil {
		return "", err
	}
	return resolved(w.dir, folder), nil
}

// tracks says whether a folder lies in the work tree but not in its git folder: branches write what is there.
func (w *workTree) tracks(ctx context.Context, folder string) (bool, error) {
	for _, own := range []string{"--git-dir", "--git-common-dir"} {
		dir, err := w.git(ctx, "rev-parse", own)
		if err != nil {
			return false, err
		}
		if inside(resolved(w.dir, dir), folder) {
			return false, nil
		}
	}
	return inside(resolved(w.dir, "."), folder), nil
}

// resolved is a path without links, also when its last parts do not exist.
func resolved(base, path string) string {
	if !filepath.IsAbs(path) {
		path = filepath.Join(base, path)
	}
	for at, rest := filepath.Clean(path), ""; ; {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		}
		parent := filepath.Dir(at)
		if parent == at {
			return filepath.Clean(path)
		}
		at, rest = parent, filepath.Join(filepath.Base(at), rest)
	}
}

// dropUnsafeHooks takes a core.hooksPath out of the clone's own configuration that leads into the work tree, and says so.
func (w *workTree) dropUnsafeHooks(ctx context.Context) (said []string, err error) {
	for _, scope := range []string{"--worktree", "--local"} {
		set, err := w.git(ctx, "config", scope, "--type=path", "--get", "core.hooksPath")
		if err != nil || set == "" {
			continue // not set there
		}
		unsafe, err := w.tracks(ctx, resolved(w.dir, set))
		if err != nil {
			return nil, err
		}
		if !unsafe {
			continue
		}
		if _, err := w.git(ctx, "config", scope, "--unset-all", "core.hooksPath"); err != nil {
			return nil, err
		}
		said = append(said, fmt.Sprintf("took core.hooksPath=%s out: the branches that you check out could run programs on this machine with it", oneLine(strings.TrimSpace(set))))
	}
	return said, nil
}
