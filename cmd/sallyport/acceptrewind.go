package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/reviews"
)

// rewindOptions are the flags of accept-rewind.
type rewindOptions struct{ from, to, reason string }

func newAcceptRewind(g *globals) *cobra.Command {
	o := &rewindOptions{}
	c := &cobra.Command{
		Use:   "accept-rewind --from COMMIT --to COMMIT --reason TEXT",
		Short: "Draft the order that lets sync follow a rewritten branch",
		Long: `Sync never follows a branch that was rewound or rewritten: it keeps the last release and
raises rollback_detected. When the rewrite was meant, the trust root's members order it:
accept-rewind writes rewind.yaml, which they sign like any document, by the threshold of
the root. It names the commit that sync accepted last (--from, ` + "`sallyport status`" + `
shows it) and the commit of the branch to go on from (--to).

Sequences that reviews had before stay used: what the rewind takes back has to be
written anew with the next sequence.`,
		Example: `  sallyport accept-rewind --from 3f0c… --to 9b1e… --reason "a secret was committed"
  git add rewind.yaml && git commit -m "accept the rewind" && sallyport sign rewind.yaml --as user:bob`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := need(c, "from", "to", "reason"); err != nil {
				return err
			}
			return o.run(c.Context(), g, c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&o.from, "from", "", "the commit that sync accepted last, its full id")
	c.Flags().StringVar(&o.to, "to", "", "the commit of the branch to go on from")
	c.Flags().StringVar(&o.reason, "reason", "", "why, for whoever reads this later")
	return c
}

var fullCommit = regexp.MustCompile(`^[0-9a-f]{40}$`)

func (o *rewindOptions) run(ctx context.Context, g *globals, out io.Writer) error {
	repo, err := g.workTree(ctx)
	if err != nil {
		return err
	}
	head, err := repo.at(ctx, "HEAD")
	if err != nil {
		return err
	}
	tree, err := treeAt(head)
	if err != nil {
		return err
	}
	if err := o.check(ctx, repo); err != nil {
		return err
	}
	text := fmt.Sprintf("apiVersion: sallyport.dev/v1\nkind: Rewind\nmetadata: {repo: %s, name: rewind}\nspec:\n  from: %s\n  to: %s\n  reason: %q\n",
		tree.Root.Metadata.Repo, o.from, o.to, o.reason)
	if _, err := reviews.ParseRewind(reviews.RewindPath, []byte(text)); err != nil {
		return err
	}
	path := filepath.Join(repo.git.dir, reviews.RewindPath)
	if err := os.RemoveAll(path + ".sigs"); err != nil { // of an order before, which no longer holds
		return err
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(out, `wrote %[1]s
  1. commit it on the rewritten branch: git add -A && git commit -m "accept the rewind"
  2. %[2]s of %[3]s sign it: sallyport sign %[1]s --as %[4]s
  3. push the branch; sync then goes on from %.12[5]s
`, reviews.RewindPath, count(tree.Root.Spec.Threshold, "member"), strings.Join(tree.Root.Spec.Groups["root"], ", "), tree.Root.Spec.Groups["root"][0], o.to)
	return nil
}

// check refuses what sync would.
func (o *rewindOptions) check(ctx context.Context, repo *accessRepo) error {
	if !fullCommit.MatchString(o.from) {
		return usage("--from %s: write the full id, 40 hex digits, that `sallyport status` shows: this clone need not have the commit", o.from)
	}
	to, err := repo.git.git(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", o.to+"^{commit}")
	if err != nil {
		return hint(fmt.Errorf("--to %s is no commit of this clone", o.to), "check the rewritten branch out, and choose a commit of it with git log --first-parent")
	}
	o.to = to
	out, err := repo.git.git(ctx, "rev-list", "--first-parent", "HEAD")
	if err != nil {
		return err
	}
	line := strings.Split(out, "\n")
	switch {
	case o.to == o.from:
		return usage("--from and --to are the same commit: there is nothing to accept")
	case slices.Contains(line, o.from):
		return hint(errors.New("the branch continues --from as it is: there is nothing to accept"), "if sync says otherwise, check out the branch that it follows, and pull")
	case !slices.Contains(line, o.to):
		return hint(fmt.Errorf("--to %.12s is not on the first-parent line of HEAD, so sync could not go on from it", o.to), "choose one that git log --first-parent shows on the rewritten branch")
	}
	return nil
}
