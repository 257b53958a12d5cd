package ci

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// judgeRules judges a change of trust, settings or policies: by the merged rules,
// by the rules that it would bring, and by what these would do to what is granted.
func (c *comparison) judgeRules(ctx context.Context) error {
	// What is read from where: the change's rules, and nothing else of the change.
	changed := func(doc string) side {
		if judges(doc) && c.touched[doc] {
			return head
		}
		return base
	}
	brought := view{c.Base, c.Head, changed}
	next, err := load(ctx, brought, c.opt.Now, c.cache, brought)
	c.report.problems(RuleDocument, Error, asProblems(err)...)
	if next == nil {
		return nil
	}
	before := c.alreadyWrong()
	for _, p := range next.Problems { // also of files that are no policies and look like one
		if judges(p.File) && !before[p.Error()] {
			c.report.problems(RuleDocument, Error, p)
		}
	}
	c.approvals(next.Pending, " as changed")
	c.underMerged(ctx)
	c.root(next)
	c.policiesRemoved(next)
	c.closedByRules(next)
	if err != nil {
		return nil // more would only repeat it
	}
	return c.golden(ctx, next)
}

// approvals notes what the touched rules still lack, under the rules that label names.
func (c *comparison) approvals(list []reviews.Pending, label string) {
	var own []reviews.Pending
	for _, p := range list {
		if !c.touched[p.Path] {
			continue
		}
		p.Needs = slices.Clone(p.Needs)
		for i := range p.Needs {
			p.Needs[i].Rule += label
		}
		own = append(own, p)
	}
	c.report.pending(own, c.opt.RequireApproved)
}

// underMerged counts approvals of the changed settings under the merged trust root,
// and of the changed policies under the merged settings too.
func (c *comparison) underMerged(ctx context.Context) {
	merged := func(rules func(doc string) bool) func(doc string) side {
		return func(doc string) side {
			switch {
			case !judges(doc):
				return nowhere
			case c.touched[doc] && !rules(doc) && exists(c.Head, doc):
				return head
			}
			return base
		}
	}
	judge := func(label string, rules func(doc string) bool) {
		t, err := load(ctx, view{c.Base, c.Head, merged(rules)}, c.opt.Now, c.cache, c.Base)
		for _, p := range asProblems(err) {
			c.report.problems(RuleDocument, Error, p)
		}
		if t != nil {
			c.approvals(t.Pending, label)
		}
	}
	if c.touched[reviews.RootPath] && c.touched[reviews.ConfigPath] {
		judge(" of the merged trust root", func(doc string) bool { return strings.HasPrefix(doc, "trust/") })
	}
	judge(" as merged", func(doc string) bool { return strings.HasPrefix(doc, "trust/") || doc == reviews.ConfigPath })
}

// root holds a new trust root to the merged one: the same repository, the next
// version, and the threshold of both.
func (c *comparison) root(next *reviews.Tree) {
	if !c.touched[reviews.RootPath] || next.Root == nil || next.Root.Source.SHA256 == c.base.Root.Source.SHA256 {
		return
	}
	old, now := c.base.Root, next.Root
	if now.Metadata.Repo != old.Metadata.Repo {
		c.report.problems(RuleTrust, Error, whole(reviews.RootPath, "the repository's id changes from "+old.Metadata.Repo+" to "+now.Metadata.Repo, "put the id back; every signature is bound to it"))
	}
	if now.Spec.Version != old.Spec.Version+1 {
		c.report.problems(RuleTrust, Error, at(now.Source, "version",
			fmt.Sprintf("version %d does not follow %d, which is merged", now.Spec.Version, old.Spec.Version),
			fmt.Sprintf("write version: %d, and have it signed anew", old.Spec.Version+1)))
	}
	c.report.problems(RuleTrust, Error, now.Revives(old)...)
	for _, name := range slices.Sorted(maps.Keys(c.touched)) {
		before, errBefore := fs.ReadFile(c.Base, name)
		after, errAfter := fs.ReadFile(c.Head, name)
		if name != reviews.RootPath && judges(name) && (errBefore != nil || errAfter != nil || string(before) != string(after)) {
			c.report.problems(RuleTrust, Error, whole(name, "it changes together with the trust root under which it has to be judged", "change it in a pull request of its own; only new signatures of it may come with the trust root"))
		}
	}
	if need := c.rotation(old, now); len(need.Have) < need.Threshold {
		c.report.pending([]reviews.Pending{{Path: reviews.RootPath, Kind: reviews.KindRoot, Needs: []reviews.Need{need}}}, c.opt.RequireApproved)
	}
}

// rotation counts who of the old trust root signed the new one.
func (c *comparison) rotation(old, now *reviews.Root) reviews.Need {
	signed := make(map[string]bool)
	for _, armored := range now.Source.Signatures {
		key, err := reviews.Verify(armored, reviews.NamespaceRoot, now.Source.Bytes)
		if err == nil {
			signed[reviews.KeyDigest(key)] = true
		}
	}
	need := reviews.Need{
		Rule: "threshold of the merged trust root", Threshold: old.Spec.Threshold, Groups: []string{"root"},
		Have: []string{}, Eligible: []string{},
	}
	for _, member := range slices.Sorted(slices.Values(old.Spec.Groups["root"])) {
		counts := false
		for _, k := range c.base.Keys(member) {
			key, err := k.PublicKey()
			counts = counts || err == nil && signed[reviews.KeyDigest(key)]
		}
		if counts {
			need.Have = append(need.Have, member)
		} else {
			need.Eligible = append(need.Eligible, member)
		}
	}
	return need
}

// policiesRemoved refuses that a policy goes without anybody's word: nobody signs
// a deletion. Taking it off the signed list of the settings is such a word.
func (c *comparison) policiesRemoved(next *reviews.Tree) {
	for _, name := range slices.Sorted(maps.Keys(c.base.Policies)) {
		file := path.Base(name)
		if !c.deleted[name] || c.base.Policies[name].IsTest() {
			continue
		}
		listed := slices.Contains(c.base.Config.Spec.Policies, file)
		if listed && next.Config != nil && !slices.Contains(next.Config.Spec.Policies, file) {
			continue
		}
		c.report.problems(RulePolicyRemoved, Error, whole(name, "the policy is gone, and nobody signed that",
			"bring it back; to remove it, list it in spec.policies of "+reviews.ConfigPath+" first, then delete the file in the same change that takes it off the list"))
	}
}

// closedByRules tells what is granted now and would not be under the new rules. That
// is what a revocation is for, so it does not refuse the change.
func (c *comparison) closedByRules(next *reviews.Tree) {
	before := c.alreadyWrong()
	told := make(map[string]bool)
	tell := func(p reviews.Problem) {
		if doc := documentOf(p.File); !judges(doc) && c.granted(doc) && !told[doc] {
			told[doc] = true
			p.Message = "this change closes it: " + p.Message
			c.report.problems(RuleCloses, Warning, p)
		}
	}
	for _, p := range next.Problems {
		if !before[p.Error()] {
			tell(p)
		}
	}
	for _, p := range next.Pending {
		tell(whole(p.Path, "its approvals would not be enough: "+strings.Join(needs(p), "; "), signBy(p.Path, eligible(p))))
	}
}

// golden runs the tests and the approved examples under the new policies, too.
func (c *comparison) golden(ctx context.Context, next *reviews.Tree) error {
	if !slices.ContainsFunc(slices.Collect(maps.Keys(c.touched)), func(doc string) bool { return strings.HasPrefix(doc, "policies/") }) {
		return nil
	}
	policy := c.report.policies(ctx, next)
	if policy == nil {
		return nil
	}
	own, err := policyTests(ctx, policy, policySources(next))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.report.problems(RulePolicyTest, Error, asProblems(err)...)
	for _, o := range own {
		o.Policies = "head"
		c.report.outcome(o)
		c.report.failed(RulePolicyTest, o)
	}
	if err := c.goldenTests(ctx, policy, next); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.base.Reviews)) {
		review := c.base.Reviews[name]
		connection := c.base.Connections[review.Spec.Connection]
		before, _, err := c.opt.Examples(ctx, c.policy, connection, review)
		if err != nil {
			return err
		}
		now, _, err := c.opt.Examples(ctx, policy, connection, review)
		if err != nil {
			return err
		}
		for i := range now {
			now[i].Policies = "head"
		}
		c.compare(before, now, "the new policy", "correct the policy, or take the example out first, in a pull request of its own")
	}
	return nil
}

// goldenTests runs the tests as they are merged under the new policies. A test that
// the change rewrote or took out, and that would fail now, is told.
func (c *comparison) goldenTests(ctx context.Context, policy *policies.Policy, next *reviews.Tree) error {
	const fix = "read what the test held, and whether that is meant to end"
	outcomes, err := policyTests(ctx, policy, policySources(c.base))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, p := range asProblems(err) {
		p.Message, p.Fix = "the tests that are merged do not compile with the new policies: "+p.Message, fix
		c.report.problems(RuleGolden, Warning, p)
	}
	for _, o := range outcomes {
		kept := next.Policies[o.File]
		if o.Passed || kept != nil && kept.Source.SHA256 == c.base.Policies[o.File].Source.SHA256 {
			continue // the change's own tests report the latter
		}
		c.report.problems(RuleGolden, Warning, reviews.Problem{Position: o.Position, Fix: fix,
			Message: fmt.Sprintf("%s, as it is merged, does not pass with the new policies: %s", o.Run, o.Message)})
	}
	return nil
}

// maskChanges tells which columns a change would show, or show more of.
func (c *comparison) maskChanges() {
	for doc := range c.touched {
		before, errBefore := fs.ReadFile(c.Base, doc)
		now, errNow := fs.ReadFile(c.Head, doc)
		if errNow != nil {
			continue
		}
		switch reviews.KindOf(doc) {
		case reviews.KindConnection:
			after, err := reviews.ParseConnection(doc, now)
			if err != nil {
				continue
			}
			var masked []reviews.Mask
			if old, err := reviews.ParseConnection(doc, before); errBefore == nil && err == nil {
				masked = old.Spec.Mask
			}
			c.unmasked(after.Source, masked, after.Spec.Mask, "")
			c.elsewhere(after)
		case reviews.KindReview:
			after, err := reviews.ParseReview(doc, now)
			old, errOld := reviews.ParseReview(doc, before)
			switch {
			case err != nil:
				continue
			case errBefore == nil && errOld == nil:
				c.unmasked(after.Source, old.Spec.Mask, after.Spec.Mask, " by this review")
			default:
				c.unmasked(after.Source, nil, after.Spec.Mask, " by this review")
			}
			for i, column := range after.Spec.Unmask {
				if old == nil || !slices.Contains(old.Spec.Unmask, column) {
					c.report.problems(RuleMaskRemoved, Warning, at(after.Source, fmt.Sprintf("unmask[%d]", i), column+", which the connection masks, would be shown by this review", "make sure that this is meant"))
				}
			}
		}
	}
}

func (c *comparison) unmasked(source reviews.Source, before, now []reviews.Mask, by string) {
	with := make(map[string]string)
	was := make(map[string]bool) // columns that rows could be looked up by
	for _, m := range before {
		was[m.Names()] = m.Lookup
	}
	for i, m := range now {
		with[m.Names()] = m.With
		if m.Lookup && !was[m.Names()] {
			c.report.problems(RuleMaskRemoved, Warning, at(source, fmt.Sprintf("mask[%d]", i), fmt.Sprintf("rows could be looked up by the value of %s, which is masked%s", m.Names(), by), "make sure that it is no harm when it is known which of the values exist that somebody guesses"))
		}
	}
	for _, m := range before {
		switch {
		case with[m.Names()] == m.With:
		case with[m.Names()] == "":
			c.report.problems(RuleMaskRemoved, Warning, at(source, "mask", fmt.Sprintf("%s is masked with %s on the base, and would not be masked%s any more", m.Names(), m.With, by), "put the mask back unless that is what you want"))
		default:
			c.report.problems(RuleMaskRemoved, Warning, at(source, "mask", fmt.Sprintf("%s would be masked with %s instead of %s", m.Names(), with[m.Names()], m.With), "make sure that it does not show more than before"))
		}
	}
}

// elsewhere tells when another connection reaches the same database and masks more.
func (c *comparison) elsewhere(now *reviews.Connection) {
	own := make(map[string]bool)
	for _, m := range now.Spec.Mask {
		own[m.Names()] = true
	}
	for _, name := range slices.Sorted(maps.Keys(c.base.Connections)) {
		other := c.base.Connections[name]
		a, b := now.Spec.Target, other.Spec.Target
		if name == now.Metadata.Name || !strings.EqualFold(a.Host, b.Host) || a.Port != b.Port || a.Database != b.Database {
			continue
		}
		for _, m := range other.Spec.Mask {
			if !own[m.Names()] {
				c.report.problems(RuleMaskRemoved, Warning, at(now.Source, "mask", fmt.Sprintf("connection %s reaches the same database and masks %s, and this one does not", name, m.Names()), "mask it here too unless that is what you want"))
			}
		}
	}
}
