package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/reviews"
)

// revertOptions are the flags of revert.
type revertOptions struct {
	as, to, reason string
	push, pr       bool
	dryRun         bool
}

func newRevert(g *globals) *cobra.Command {
	o := &revertOptions{}
	c := &cobra.Command{
		Use:   "revert REVIEW|COMMIT",
		Short: "Go back to what a review said before, with the next sequence",
		Long: `revert writes an older content of a review anew, with the next sequence, on a branch
of its own, ready for a pull request. git revert would bring back the old bytes, and
with them an old sequence and old signatures: sync closes such a review, so that no
copy of an access that was taken back ever comes to life by itself.

With a review it goes back to what was merged before its present content, or to the
content at --to. With a commit it takes back what that commit did to reviews: a
review that it added is removed, and removing needs no approval.

The new bytes need signatures of their own. The work tree stays as it is.`,
		Example: `  sallyport revert orders-db/etl
  sallyport revert orders-db/etl --to v1.4 --reason "the wider access was not needed"
  sallyport revert 3f0c2a9 --as user:alice
  sallyport revert orders-db/etl --dry-run`,
		Args: arguments(1, 1, "REVIEW or COMMIT"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.Context(), g, args[0], c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&o.as, "as", "sallyport", "who goes back: the commit's author where git knows none")
	f.StringVar(&o.to, "to", "", "commit whose content of the review is wanted (default: what was merged before)")
	f.StringVar(&o.reason, "reason", "", "why, for the people who review it")
	f.BoolVar(&o.push, "push", true, "push the branch when there is a remote")
	f.BoolVar(&o.pr, "pr", false, "open the pull request, where the forge is set up")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would be written, write nothing")
	g.jsonFlag(c)
	return c
}

// reverted is one review that goes back.
type reverted struct {
	Path     string `json:"path"`
	From     string `json:"from,omitempty"` // the commit whose content it is; "" when it is removed
	Sequence int64  `json:"sequence,omitempty"`
	Removed  bool   `json:"removed"`
	Expired  bool   `json:"expired"` // it grants nothing until it is renewed
	Text     string `json:"text,omitempty"`
}

func (o *revertOptions) run(ctx context.Context, g *globals, arg string, out, errOut io.Writer) error {
	repo, err := g.workTree(ctx)
	if err != nil {
		return err
	}
	merged, err := repo.merged(ctx)
	if err != nil {
		return err
	}
	name := strings.TrimSuffix(strings.TrimPrefix(arg, "reviews/"), ".yaml")
	var list []reverted
	branchName := "revert/" + name
	if reviews.IsReview(name) {
		list, err = o.review(ctx, repo, merged, name)
	} else {
		if o.to != "" {
			return usage("--to goes with a review, not with a commit")
		}
		list, branchName, err = o.commit(ctx, repo, merged, arg)
	}
	if err != nil {
		return err
	}
	files := make(map[string][]byte)
	var names []string
	for _, r := range list {
		names = append(names, documentName(r.Path))
		files[r.Path] = nil
		if !r.Removed {
			files[r.Path] = []byte(r.Text)
		}
		for sidecar := range sidecarsOf(merged, r.Path) {
			files[sidecar] = nil // over other bytes
		}
	}
	if len(list) == 1 && !list[0].Removed {
		branchName = fmt.Sprintf("revert/%s/%d", names[0], list[0].Sequence)
	}
	if o.dryRun {
		return o.tell(out, g.json, repo, list, &proposed{Branch: branchName})
	}
	title := "Revert " + strings.Join(names, ", ")
	message := title
	if o.reason != "" {
		message += "\n\n" + o.reason
	}
	p, err := propose(ctx, repo, merged.commit, branchName, o.as, message, files, o.push)
	if err != nil {
		return err
	}
	if o.pr {
		if err := g.openPull(ctx, repo, p, title, o.reason, errOut); err != nil {
			return err
		}
	}
	return o.tell(out, g.json, repo, list, p)
}

// review is one review, back to --to or to what was merged before its present content.
func (o *revertOptions) review(ctx context.Context, repo *accessRepo, merged *snapshot, name string) ([]reverted, error) {
	path := reviews.PathOf(reviews.KindReview, name)
	current, err := fs.ReadFile(merged.files, path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if o.to != "" {
		at, err := repo.at(ctx, o.to)
		if err != nil {
			return nil, err
		}
		b, err := fs.ReadFile(at.files, path)
		if err != nil {
			return nil, hint(fmt.Errorf("%s had no %s", o.to, path), "git log -- %s shows where it is", path)
		}
		r, err := again(ctx, repo, merged, path, at.commit, b)
		return []reverted{r}, err
	}
	commits, err := repo.git.git(ctx, "log", "--first-parent", "--format=%H", merged.commit, "--", path)
	if err != nil {
		return nil, err
	}
	for _, commit := range strings.Fields(commits) {
		b, ok := repo.git.blob(ctx, commit, path)
		if !ok || bytes.Equal(b, current) {
			continue
		}
		r, err := again(ctx, repo, merged, path, commit, b)
		return []reverted{r}, err
	}
	if current == nil {
		return nil, hint(fmt.Errorf("%s has never had a review %s", merged.ref, name), "git log -- reviews shows those that it had")
	}
	return nil, hint(fmt.Errorf("%s has had no other content on %s", name, merged.ref), "to take the access back: git rm -r %s %s.sigs", path, path)
}

// commit is everything that a commit did to reviews, taken back.
func (o *revertOptions) commit(ctx context.Context, repo *accessRepo, merged *snapshot, arg string) ([]reverted, string, error) {
	commit, err := repo.git.git(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", arg+"^{commit}")
	if err != nil {
		return nil, "", hint(fmt.Errorf("%q is neither a review, such as orders-db/etl, nor a commit", oneLine(arg)), "git log --first-parent -- reviews shows what changed them")
	}
	if _, err := repo.git.git(ctx, "merge-base", "--is-ancestor", commit, merged.commit); err != nil {
		return nil, "", hint(fmt.Errorf("%.12s is not part of %s", commit, merged.ref), "what is not merged need not be reverted")
	}
	parent, err := repo.git.git(ctx, "rev-parse", "--verify", "--quiet", commit+"^1")
	if err != nil {
		return nil, "", hint(fmt.Errorf("%.12s is the first commit", commit), "there is nothing before it")
	}
	changed, err := repo.git.diffNames(ctx, parent, commit, "reviews")
	if err != nil {
		return nil, "", err
	}
	var list []reverted
	for _, path := range changed {
		if reviews.KindOf(path) != reviews.KindReview {
			continue
		}
		was, existed := repo.git.blob(ctx, parent, path)
		is, exists := repo.git.blob(ctx, merged.commit, path)
		switch {
		case existed && exists && bytes.Equal(was, is), !existed && !exists:
			continue // it is so already
		case !existed:
			list = append(list, reverted{Path: path, Removed: true})
			continue
		}
		r, err := again(ctx, repo, merged, path, parent, was)
		if err != nil {
			return nil, "", err
		}
		list = append(list, r)
	}
	if len(list) == 0 {
		return nil, "", hint(fmt.Errorf("there is nothing to take back of what %.12s did to reviews", commit), "git show %.12s shows what it did", commit)
	}
	slices.SortFunc(list, func(a, b reverted) int { return strings.Compare(a.Path, b.Path) })
	return list, "revert/" + short(commit), nil
}

// again is an older content with a sequence that nothing ever had.
func again(ctx context.Context, repo *accessRepo, merged *snapshot, path, from string, b []byte) (reverted, error) {
	sequence, err := nextSequence(ctx, repo, path, merged.commit, "HEAD")
	if err != nil {
		return reverted{}, err
	}
	text, review, err := rewrite(path, b, rewriting{sequence: sequence})
	if err != nil {
		return reverted{}, err
	}
	return reverted{Path: path, From: from, Sequence: sequence, Expired: review.Expired(time.Now()), Text: string(text)}, nil
}

func (o *revertOptions) tell(out io.Writer, asJSON bool, repo *accessRepo, list []reverted, p *proposed) error {
	if asJSON {
		return printJSON(out, map[string]any{"reviews": list, "proposed": p})
	}
	for _, r := range list {
		switch {
		case r.Removed:
			fmt.Fprintf(out, "%s is removed again\n", r.Path)
		default:
			fmt.Fprintf(out, "%s says what it said at %.12s, with sequence %d\n", r.Path, r.From, r.Sequence)
		}
		if r.Expired {
			fmt.Fprintf(out, "  its time is over, so it would grant nothing: sallyport request %s --renew once it is merged\n", documentName(r.Path))
		}
		if o.dryRun {
			fmt.Fprint(out, r.Text)
		}
	}
	if o.dryRun {
		fmt.Fprintf(out, "# nothing was written; the branch would be %s\n", p.Branch)
		return nil
	}
	fmt.Fprintf(out, "on branch %s\n\nnext:\n  %s\n  a reviewer: sallyport review %s --as user:REVIEWER --approve\n", p.Branch, openYourself(p, repo.branch), p.Branch)
	return nil
}
