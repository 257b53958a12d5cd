package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/reviews"
)

// dueOptions are the flags of due.
type dueOptions struct {
	within, owner, as string
	renew, push, pr   bool
}

func newDue(g *globals) *cobra.Command {
	o := &dueOptions{}
	c := &cobra.Command{
		Use:   "due --within 14d",
		Short: "List what expires or gets stale, by who answers for it, and renew it",
		Long: `due lists the merged reviews that expire within a time, and those whose approval gets
older than their connection's review.maxAge allows, by the person who answers for the
subject. What is over already is listed too; --within 0 lists only that.

An approval is as old as the first commit of the merged branch that has the review's
present bytes: since sync first saw that, as at the gateway, where its log of releases
on the audit branch tells; otherwise by git's own dates, which whoever merges can choose.

--renew makes one branch for each owner with all of that owner's reviews: each the
same, with the next sequence and for as long again. The owner or whoever else is asked
deletes from it what is not needed any more, and reviewers sign it. What nobody renews
ends by itself. It is for a schedule: owners whose branch is there already are left alone.

Exit code 0 also when something is due; --json tells.`,
		Example: `  sallyport due --within 14d
  sallyport due --within 30d --owner user:alice --json
  sallyport due --within 14d --renew --pr     # from a scheduled job`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			return o.run(c.Context(), g, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&o.within, "within", "14d", "days or a duration, such as 14d or 336h")
	f.StringVar(&o.owner, "owner", "", "only what this person answers for")
	f.BoolVar(&o.renew, "renew", false, "make a branch that renews it, for each owner")
	f.StringVar(&o.as, "as", "sallyport", "who renews: the commits' author where git knows none")
	f.BoolVar(&o.push, "push", true, "push the branches when there is a remote")
	f.BoolVar(&o.pr, "pr", false, "open a pull request for each, where the forge is set up")
	g.jsonFlag(c)
	return c
}

// due is one review that needs a decision.
type due struct {
	Review     string    `json:"review"`
	Subject    string    `json:"subject"`
	Connection string    `json:"connection"`
	Risk       string    `json:"risk"`
	Expires    time.Time `json:"expires"`
	Approved   time.Time `json:"approved"`          // first commit with these bytes
	By         string    `json:"approvedBy"`        // whose date that is: sync, or git
	Stale      time.Time `json:"staleAt,omitzero"`  // when its approval is too old; zero: never
	When       time.Time `json:"due"`               // the earlier of the two
	Why        string    `json:"why"`               // expires | stale
	Renewable  bool      `json:"renewable"`         // it is not over for longer than it lasted
	Problem    string    `json:"problem,omitempty"` // why it was not renewed
}

// dueOwner is what one person has to decide about.
type dueOwner struct {
	Owner    string    `json:"owner"`
	Reviews  []*due    `json:"reviews"`
	Proposed *proposed `json:"proposed,omitempty"`
	Skipped  string    `json:"skipped,omitempty"` // why there is no new branch
}

func (o *dueOptions) run(ctx context.Context, g *globals, out, errOut io.Writer) error {
	within, err := parseDays(o.within)
	if err != nil {
		return usage("--within %s: write days or a duration, such as 14d or 336h", o.within)
	}
	if o.owner != "" && !reviews.IsPrincipal(o.owner) {
		return usage("--owner %q is not a principal such as user:alice", o.owner)
	}
	repo, err := g.workTree(ctx)
	if err != nil {
		return err
	}
	tree, merged, err := repo.mergedTree(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	ages := &ages{repo: repo, merged: merged}
	if err := ages.read(ctx, tree); err != nil {
		fmt.Fprintf(errOut, "note: approvals are as old as git says, since the audit branch cannot be read: %s\n", clean(err.Error()))
	}
	owners, err := o.collect(ctx, ages, tree, now, now.Add(within))
	if err != nil {
		return err
	}
	if o.renew {
		for _, owner := range owners {
			if err := o.renewAll(ctx, g, repo, merged, tree, owner, errOut); err != nil {
				return err
			}
		}
	}
	if g.json {
		return printJSON(out, map[string]any{"at": merged.commit, "until": now.Add(within).UTC().Truncate(time.Second), "owners": owners})
	}
	o.print(out, repo, owners, now)
	return nil
}

// parseDays reads 14d, or a duration.
func parseDays(text string) (time.Duration, error) {
	if text == "0" {
		return 0, nil
	}
	if days, is := strings.CutSuffix(text, "d"); is {
		var n int
		if _, err := fmt.Sscanf(days, "%d", &n); err != nil || n < 0 || n > 3650 || fmt.Sprint(n) != days {
			return 0, errors.New("not a number of days")
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err == nil && d < 0 {
		err = errors.New("negative")
	}
	return d, err
}

// collect finds what is due, by owner.
func (o *dueOptions) collect(ctx context.Context, ages *ages, tree *reviews.Tree, now, until time.Time) ([]*dueOwner, error) {
	byOwner := make(map[string]*dueOwner)
	for _, name := range sortedKeys(tree.Reviews) {
		r := tree.Reviews[name]
		owner := cmp.Or(tree.Owner(r.Spec.Subject), r.Spec.Subject)
		if o.owner != "" && owner != o.owner {
			continue
		}
		connection := tree.Connections[r.Spec.Connection]
		maxAge := connection.Spec.Review.MaxAge.Std()
		d := &due{Review: name, Subject: r.Spec.Subject, Connection: r.Spec.Connection, Risk: labelOf(connection), Expires: r.Spec.Validity.Expires, When: r.Spec.Validity.Expires, Why: "expires"}
		if maxAge > 0 || !d.When.After(until) {
			var err error
			if d.Approved, d.By, err = ages.approved(ctx, r.Source.Path); err != nil {
				return nil, err
			}
		}
		if maxAge > 0 {
			if d.Stale = d.Approved.Add(maxAge); d.Stale.Before(d.When) {
				d.When, d.Why = d.Stale, "stale"
			}
		}
		if d.When.After(until) {
			continue
		}
		d.Renewable = now.Sub(d.Expires) < r.Spec.Validity.Expires.Sub(r.Spec.Validity.NotBefore)
		if byOwner[owner] == nil {
			byOwner[owner] = &dueOwner{Owner: owner}
		}
		byOwner[owner].Reviews = append(byOwner[owner].Reviews, d)
	}
	list := []*dueOwner{}
	for _, owner := range sortedKeys(byOwner) {
		slices.SortStableFunc(byOwner[owner].Reviews, func(a, b *due) int { return a.When.Compare(b.When) })
		list = append(list, byOwner[owner])
	}
	return list, nil
}

// ages tell since when reviews stand as they do.
type ages struct {
	repo   *accessRepo
	merged *snapshot
	seen   map[string]time.Time // commits of the merged branch, as far as sync's log tells
}

func (a *ages) read(ctx context.Context, tree *reviews.Tree) error {
	taken, err := a.repo.loggedSightings(ctx, a.merged, tree)
	if err != nil || len(taken) == 0 {
		return err
	}
	out, err := a.repo.git.git(ctx, "rev-list", "--first-parent", a.merged.commit)
	if err == nil {
		a.seen = firstSeen(strings.Split(out, "\n"), taken)
	}
	return err
}

// approved is when the first commit came of the unbroken stretch of the merged branch
// that has the present bytes, and whose word that is.
func (a *ages) approved(ctx context.Context, path string) (at time.Time, by string, err error) {
	out, err := a.repo.git.git(ctx, "log", "--first-parent", "-1", "--format=%H %cI", a.merged.commit, "--", path)
	if err != nil {
		return time.Time{}, "", err
	}
	commit, date, _ := strings.Cut(out, " ")
	if at, known := a.seen[commit]; known {
		return at.UTC(), "sync", nil
	}
	if at, err = time.Parse(time.RFC3339, date); err != nil {
		return time.Time{}, "", fmt.Errorf("%s: git tells no date of its last change: %w", path, err)
	}
	return at.UTC(), "git", nil
}

// renewAll makes one branch with everything of one owner.
func (o *dueOptions) renewAll(ctx context.Context, g *globals, repo *accessRepo, merged *snapshot, tree *reviews.Tree, owner *dueOwner, errOut io.Writer) error {
	name := "due/" + strings.ReplaceAll(owner.Owner, ":", "-")
	for _, at := range repo.git.refsOf(ctx, name) {
		tip, err := repo.git.git(ctx, "rev-parse", "--verify", "--quiet", at)
		if err != nil {
			continue
		}
		if _, err := repo.git.git(ctx, "merge-base", "--is-ancestor", tip, merged.commit); err != nil {
			owner.Skipped = "branch " + shortRef(at) + " is there already and not merged"
		} else {
			owner.Skipped = "branch " + shortRef(at) + " of the last time is merged: delete it"
		}
		return nil
	}
	files := make(map[string][]byte)
	var names []string
	for _, d := range owner.Reviews {
		if !d.Renewable {
			d.Problem = "it is over for longer than it lasted: nobody missed it"
			continue
		}
		draft, err := renew(ctx, repo, merged, tree, tree.Reviews[d.Review], 0)
		if err != nil {
			d.Problem = strings.TrimSpace(err.Error())
			continue
		}
		files[draft.path] = draft.text
		for sidecar := range sidecarsOf(merged, draft.path) {
			files[sidecar] = nil // over the old bytes
		}
		names = append(names, d.Review)
	}
	if len(names) == 0 {
		owner.Skipped = "nothing of it can be renewed by itself"
		return nil
	}
	title := fmt.Sprintf("Renew %s that %s answers for", count(len(names), "review"), owner.Owner)
	body := "Delete what is not needed any more; the rest has to be approved anew. What is not renewed ends by itself.\n\n" + strings.Join(names, "\n")
	p, err := propose(ctx, repo, merged.commit, name, o.as, title+"\n\n"+body, files, o.push)
	if err != nil {
		return err
	}
	owner.Proposed = p
	if o.pr {
		return g.openPull(ctx, repo, p, title, body, errOut)
	}
	return nil
}

func (o *dueOptions) print(out io.Writer, repo *accessRepo, owners []*dueOwner, now time.Time) {
	if len(owners) == 0 {
		fmt.Fprintf(out, "nothing is due within %s\n", o.within)
		return
	}
	for _, owner := range owners {
		fmt.Fprintf(out, "%s answers for:\n", owner.Owner)
		var rows [][]string
		for _, d := range owner.Reviews {
			when := d.Why + " in " + span(d.When.Sub(now))
			if !d.When.After(now) {
				when = map[string]string{"expires": "expired ", "stale": "stale for "}[d.Why] + span(now.Sub(d.When))
				if d.Why == "expires" {
					when += " ago"
				}
			}
			rows = append(rows, []string{"  " + d.Review, d.Subject, d.Risk + " risk", when, d.Problem})
		}
		table(out, []string{"  REVIEW", "SUBJECT", "RISK", "DUE", ""}, rows)
		switch {
		case owner.Skipped != "":
			fmt.Fprintf(out, "  not renewed: %s\n", owner.Skipped)
		case owner.Proposed != nil:
			fmt.Fprintf(out, "  renewed on %s; %s\n", owner.Proposed.Branch, openYourself(owner.Proposed, repo.branch))
		}
	}
	if !o.renew {
		fmt.Fprintln(out, "\nnext: `sallyport due --renew` makes a branch for each owner; `sallyport request REVIEW --renew` renews one")
	}
}
