package main

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport-dev/sallyport/reviews"
	onForge "github.com/sallyport-dev/sallyport/reviews/forge"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// forgeWord is what a forge says of an open pull request. It is for people to read: only what sync attests counts.
type forgeWord struct {
	kind     string
	head     string
	approved []onForge.User // who approved that head, and had no hand in it as far as the forge can tell
	took     []onForge.User // who had
}

// askWord asks about a pull request by its number, or about the one that is open from a branch. nil: there is none.
func askWord(ctx context.Context, repo *accessRepo, client *onForge.Client, kind string, number int, branch string) (*forgeWord, error) {
	var pull *onForge.PullRequest
	var err error
	switch {
	case number > 0:
		pull, err = client.PullRequest(ctx, number)
	case branch != "":
		pull, err = client.OpenFrom(ctx, repo.branch, branch)
	}
	if err != nil || pull == nil || !pull.Open {
		return nil, err
	}
	signed, err := repo.signed(ctx, kind, pull.Head)
	if err != nil {
		return nil, err
	}
	by, err := client.Contributors(ctx, pull, signed)
	if err != nil {
		return nil, err
	}
	w := &forgeWord{kind: kind, head: pull.Head, took: by.Users}
	if !by.PushersKnown {
		return w, nil // sync attests nothing of it
	}
	words, err := client.Reviews(ctx, pull.Number)
	for _, r := range words {
		if r.Approves(pull, by) == nil {
			w.approved = append(w.approved, r.User)
		}
	}
	return w, err
}

// signed are the last commits up to head that only add signatures, the oldest first, as sync finds them.
func (r *accessRepo) signed(ctx context.Context, kind, head string) ([]onForge.Signed, error) {
	last, err := r.lastAdded(ctx, head)
	if err != nil || len(last) == 0 {
		return nil, nil // this clone may not have the commit; then nothing is known to be only signed
	}
	merged, _, err := r.mergedTree(ctx)
	if err != nil {
		return nil, err
	}
	var list []onForge.Signed
	for _, c := range last {
		by, err := merged.SignedBy(c.Tree, c.Files)
		if err != nil {
			break // something else came with it
		}
		list = append(list, onForge.Signed{Commit: c.Commit.ID, Parent: c.Parent.ID, Account: merged.Root.Account(kind, by)})
	}
	slices.Reverse(list)
	return list, nil
}

func (r *accessRepo) lastAdded(ctx context.Context, head string) ([]gitrepo.Added, error) {
	if r.mirror != nil {
		return r.mirror.LastAdded(head)
	}
	work, err := gitrepo.OpenWorktree(ctx, r.git.dir)
	if err != nil {
		return nil, err
	}
	return work.LastAdded(head)
}

// countsOnForge says whether approvals of pull requests count for anything.
func countsOnForge(config *reviews.Config) bool {
	return config != nil && config.Spec.Forge.Kind != "" && slices.ContainsFunc(config.Spec.Approvals, func(r reviews.ApprovalRule) bool { return r.Mode == "forge" })
}

// hear counts the approvals of a pull request as sync will, once the proposal is merged as it is.
func (p *proposal) hear(w *forgeWord) {
	if w == nil || w.head != p.commit {
		return
	}
	for _, tree := range []*reviews.Tree{p.after, p.rules, p.all} { // some may be the same; counting twice changes nothing
		for i := range tree.Pending {
			needs := tree.Pending[i].Needs
			for j := range needs {
				tell(&needs[j], tree, w)
			}
			tree.Pending[i].Needs = slices.DeleteFunc(needs, func(n reviews.Need) bool { return met(n, tree) })
		}
		tree.Pending = slices.DeleteFunc(tree.Pending, func(p reviews.Pending) bool { return len(p.Needs) == 0 })
	}
}

// tell moves who approved on the forge to those who have, and takes out who had a hand in it.
func tell(n *reviews.Need, tree *reviews.Tree, w *forgeWord) {
	rule := ruleOf(n.Rule, tree)
	if rule == nil || rule.Mode != "forge" {
		return
	}
	isOne := func(users []onForge.User) func(string) bool {
		return func(name string) bool {
			account := tree.Root.Account(w.kind, name)
			return account > 0 && slices.ContainsFunc(users, func(u onForge.User) bool { return u.ID == account && (!u.Bot || rule.Bots) })
		}
	}
	n.Eligible = slices.DeleteFunc(n.Eligible, isOne(w.took))
	n.Have = slices.DeleteFunc(n.Have, isOne(w.took)) // not even a signature of theirs counts
	for _, name := range n.Eligible {
		if isOne(w.approved)(name) {
			n.Have = append(n.Have, name)
		}
	}
	n.Eligible = slices.DeleteFunc(n.Eligible, isOne(w.approved))
}

// ruleOf is the approval rule that a need names, nil for those of the trust root.
func ruleOf(name string, tree *reviews.Tree) *reviews.ApprovalRule {
	text, ok := strings.CutPrefix(name, "approvals[")
	i, err := strconv.Atoi(strings.TrimSuffix(text, "]"))
	if !ok || err != nil || tree.Config == nil || i < 0 || i >= len(tree.Config.Spec.Approvals) {
		return nil
	}
	return &tree.Config.Spec.Approvals[i]
}

// met says whether those who have approved are enough: who is in oneOf alone does not make up the number.
func met(n reviews.Need, tree *reviews.Tree) bool {
	isIn := func(name string, groups []string) bool {
		return slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(tree.Root.Spec.Groups[g], name) })
	}
	enough, special := 0, len(n.OneOf) == 0
	for _, name := range n.Have {
		special = special || isIn(name, n.OneOf)
		if name == reviews.AutoApproval || isIn(name, n.Groups) {
			enough++
		}
	}
	return special && enough >= n.Threshold
}
