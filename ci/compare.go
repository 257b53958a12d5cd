package ci

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// Change is a proposal: a branch, and the base that it is to be merged into.
type Change struct {
	Base, Head fs.FS
	// Paths are what the branch changed since it left the base. Nil compares Base and
	// Head, which is right where Base is an ancestor of Head.
	Paths []string
	// Upstream are what changed on the base since the branch left it.
	Upstream []string
}

// maxChanged bounds what one change may write. It is far more than people read, and
// keeps a flood of files from becoming a flood of findings.
const maxChanged = 10_000

// comparison is the state of one Compare.
type comparison struct {
	Change
	opt     Options
	report  *Report
	touched map[string]bool // documents that the change touches, and other managed files
	added   map[string]bool // touched, and not on the base
	deleted map[string]bool // touched, and not at the head
	rules   bool            // trust, settings or policies are among them
	cache   *reviews.Cache  // of base and head, which have nearly everything in common

	base, next *reviews.Tree    // what is granted now; what the change makes of it under the rules of the base
	policy     *policies.Policy // the base's
	past       map[string]*past // of documents, as far as it was asked for
}

// Compare judges what a change makes of the merged documents. Only what it
// touches, and what stands on that, is loaded, so that the cost follows the change
// and not the repository. The error says why it could not judge.
func Compare(ctx context.Context, change Change, opt Options) (*Report, error) {
	c := &comparison{Change: change, opt: opt, report: &Report{}, cache: nil}
	if err := c.sortOut(); err != nil {
		return nil, err
	}
	if n := len(c.touched) - len(c.deleted); n > maxChanged {
		c.report.problems(RuleDocument, Error, whole(slices.Min(slices.Collect(maps.Keys(c.touched))),
			fmt.Sprintf("the change writes %d documents, and no more than %d are judged at once", n, maxChanged), "split it into several changes; taking documents out is not bounded"))
	} else if err := c.judge(ctx); err != nil {
		return nil, err
	}
	c.report.finish()
	return c.report, ctx.Err()
}

// sortOut finds out which documents the change touches.
func (c *comparison) sortOut() error {
	if c.Paths == nil {
		paths, err := difference(c.Base, c.Head)
		if err != nil {
			return err
		}
		c.Paths = paths
	}
	c.touched, c.added, c.deleted = make(map[string]bool), make(map[string]bool), make(map[string]bool)
	for _, p := range c.Paths {
		if !Managed(p) {
			continue
		}
		doc := documentOf(p)
		c.touched[doc] = true
		c.rules = c.rules || judges(p)
	}
	for doc := range c.touched {
		switch {
		case !exists(c.Head, doc):
			c.deleted[doc] = exists(c.Base, doc)
		case !exists(c.Base, doc):
			c.added[doc] = true
		}
	}
	return nil
}

func (c *comparison) judge(ctx context.Context) error {
	c.impossible()
	c.conflicts()
	scope := c.scope()
	of := func(s side) func(string) side {
		return func(doc string) side {
			switch {
			case !scope(doc):
				return nowhere
			case s == head && c.touched[doc] && !judges(doc):
				return head
			}
			return base
		}
	}
	c.cache = reviews.NewCache()
	var err error
	c.base, err = reviews.Load(view{c.Base, c.Head, of(base)}, reviews.LoadOptions{Now: c.opt.Now, Cache: c.cache, AutoApprove: AutoApproval(ctx, c.Base)})
	if err == nil {
		c.policy, err = compile(ctx, c.base)
	}
	if err != nil {
		c.unusable(err)
		return nil
	}
	c.next, err = c.loadNext(ctx, view{c.Base, c.Head, of(head)})
	if err != nil {
		return err
	}
	c.documents()
	if err := c.sequences(ctx); err != nil {
		return err
	}
	if err := c.older(ctx); err != nil {
		return err
	}
	c.opt.masks(c.report, c.next, c.isTouched)
	c.maskChanges()
	if err := c.examples(ctx); err != nil {
		return err
	}
	if c.rules {
		if err := c.judgeRules(ctx); err != nil {
			return err
		}
	}
	c.effects()
	return nil
}

func (c *comparison) isTouched(doc string) bool { return c.touched[doc] }

// unusable says that the base cannot be judged by.
func (c *comparison) unusable(err error) {
	for _, p := range asProblems(err) {
		p.Message = "the base cannot be judged by: " + p.Message
		c.report.problems(RuleBase, Error, p)
	}
}

// scope tells which documents have to be loaded: all that judge or are stood on,
// and those reviews that the change touches or that stand on what it touches.
func (c *comparison) scope() func(doc string) bool {
	all := c.rules
	folders := make(map[string]bool)
	for doc := range c.touched {
		name, isConnection := strings.CutPrefix(doc, "connections/")
		switch {
		case isConnection:
			folders["reviews/"+strings.TrimSuffix(name, ".yaml")+"/"] = true
		case strings.HasPrefix(doc, "principals/") && !c.added[doc]:
			all = true // anybody's review may name it
		}
	}
	return func(doc string) bool {
		if all || c.touched[doc] || !strings.HasPrefix(doc, "reviews/") {
			return true
		}
		end := strings.LastIndexByte(doc, '/') + 1
		return folders[doc[:end]]
	}
}

// impossible reports paths that git names and that neither side can be asked for.
func (c *comparison) impossible() {
	for _, p := range c.Paths {
		if Managed(p) && (!fs.ValidPath(p) || !exists(c.Base, p) && !exists(c.Head, p) && !slices.Contains(c.Upstream, p)) {
			c.report.problems(RuleDocument, Error, whole(p, "a name in this path is none that a folder can hold", "take it out of the commit"))
		}
	}
}

// conflicts reports documents that the base changed too. The merge would be
// git's, and neither side has seen it.
func (c *comparison) conflicts() {
	upstream := make(map[string]bool)
	for _, p := range c.Upstream {
		upstream[documentOf(p)] = true
	}
	for _, p := range c.Paths {
		if doc := documentOf(p); upstream[doc] && Managed(doc) && !c.alike(doc) {
			c.report.problems(RuleConflict, Error, whole(doc, "it has also changed on the base since this branch began", "merge the base into the branch, or rebase it"))
		}
	}
}

// alike reports whether both sides made the same of a document.
func (c *comparison) alike(doc string) bool {
	for _, p := range slices.Concat(c.Paths, c.Upstream) {
		if documentOf(p) != doc {
			continue
		}
		a, errA := fs.ReadFile(c.Base, p)
		b, errB := fs.ReadFile(c.Head, p)
		if string(a) != string(b) || (errA == nil) != (errB == nil) {
			return false
		}
	}
	return true
}

// documents reports what is wrong with what the change touches, and what it
// closes elsewhere. What was wrong before is not its fault.
func (c *comparison) documents() {
	r := c.report
	before := c.alreadyWrong()
	closed := make(map[string]bool)
	for _, p := range c.next.Problems {
		doc := documentOf(p.File)
		switch {
		case c.touched[doc] || !before[p.Error()] && !c.granted(doc):
			r.problems(RuleDocument, Error, p)
		case !before[p.Error()]:
			c.closes(p)
			closed[doc] = true
		}
	}
	for _, p := range c.next.Notes {
		if c.touched[documentOf(p.File)] {
			r.problems(RuleSignature, Note, p)
		}
	}
	var own []reviews.Pending
	for _, p := range c.next.Pending {
		switch {
		case c.touched[documentOf(p.Path)]:
			own = append(own, p)
		case c.granted(p.Path) && !closed[p.Path]:
			c.closes(whole(p.Path, "its approvals would not be enough any more: "+strings.Join(needs(p), "; "), signBy(p.Path, eligible(p))))
		}
	}
	r.pending(own, c.opt.RequireApproved)
	for _, name := range slices.Sorted(maps.Keys(c.next.Reviews)) {
		if s := c.next.Reviews[name].Source; c.touched[s.Path] && slices.Contains(s.Approvals, reviews.AutoApproval) {
			r.Automatic = append(r.Automatic, s.Path)
		}
	}
	c.mixed()
	r.Checked = 2 + len(c.next.Principals) + len(c.next.Connections) + len(c.next.Reviews) + len(c.next.Policies)
}

// alreadyWrong are the problems of the base, as text.
func (c *comparison) alreadyWrong() map[string]bool {
	all := make(map[string]bool)
	for _, p := range c.base.Problems {
		all[p.Error()] = true
	}
	return all
}

// granted reports whether a document counts on the base.
func (c *comparison) granted(doc string) bool {
	switch reviews.KindOf(doc) {
	case reviews.KindReview:
		return c.base.Reviews[nameOf(doc)] != nil
	case reviews.KindConnection:
		return c.base.Connections[nameOf(doc)] != nil
	case reviews.KindCatalog:
		connection := c.base.Connections[strings.TrimSuffix(nameOf(doc), ".catalog.json")]
		return connection != nil && connection.Catalog != nil
	case reviews.KindPrincipal:
		for _, p := range c.base.Principals {
			if p.Source.Path == doc {
				return true
			}
		}
	}
	return false
}

// nameOf is the name that belongs to the path of a review or a connection.
func nameOf(doc string) string {
	_, name, _ := strings.Cut(doc, "/")
	return strings.TrimSuffix(name, ".yaml")
}

// closes reports that the change closes a document that it does not touch. Taking
// access away must always be possible, so a deletion only warns.
func (c *comparison) closes(p reviews.Problem) {
	severity := Error
	if r := c.base.Reviews[nameOf(p.File)]; r != nil && reviews.KindOf(p.File) == reviews.KindReview {
		for _, on := range []string{
			reviews.PathOf(reviews.KindConnection, r.Spec.Connection),
			reviews.PathOf(reviews.KindPrincipal, r.Spec.Subject),
			reviews.PathOf(reviews.KindPrincipal, r.Spec.Requester),
		} {
			if c.deleted[on] {
				severity = Warning
			}
		}
	}
	p.Message = "this change closes it: " + p.Message
	c.report.problems(RuleCloses, severity, p)
}

// mixed refuses rules that come with what they judge.
func (c *comparison) mixed() {
	if !c.rules {
		return
	}
	for doc := range c.touched {
		if judges(doc) || reviews.KindOf(doc) == "" {
			continue
		}
		c.report.problems(RuleMixed, Error, whole(doc,
			"it changes together with trust, settings or policies; documents are judged only under what was merged before them, so sync would close it",
			"take it out, and propose it on its own once the rest is merged"))
	}
}

// sequences holds every changed review against all that its name ever had.
func (c *comparison) sequences(ctx context.Context) error {
	for _, doc := range slices.Sorted(maps.Keys(c.touched)) {
		if reviews.KindOf(doc) != reviews.KindReview || !exists(c.Head, doc) {
			continue
		}
		now, err := fs.ReadFile(c.Head, doc)
		if err != nil {
			continue // loading says what is wrong with it
		}
		r, err := reviews.ParseReview(doc, now)
		if err != nil {
			continue
		}
		before, errBefore := fs.ReadFile(c.Base, doc)
		if errBefore == nil && string(before) == string(now) {
			continue // only its signatures change
		}
		if err := c.sequence(ctx, r, before); err != nil {
			return err
		}
		if r.Expired(c.opt.Now) {
			c.report.problems(RuleExpired, Error, at(r.Source, "validity", "it has expired already, so it would grant nothing", "bring expires into the future, or delete the file"))
		}
	}
	return nil
}

func (c *comparison) sequence(ctx context.Context, r *reviews.Review, before []byte) error {
	var merged, highest int64
	if old, err := reviews.ParseReview(r.Source.Path, before); err == nil {
		merged, highest = old.Spec.Sequence, old.Spec.Sequence
	}
	if c.opt.Sequences != nil {
		ever, err := c.opt.Sequences(ctx, r.Source.Path)
		if err != nil {
			return fmt.Errorf("the history of %s: %w", r.Source.Path, err)
		}
		highest = max(highest, ever)
	}
	n := r.Spec.Sequence
	problem := at(r.Source, "sequence", "", fmt.Sprintf("write sequence: %d, and have it signed anew", highest+1))
	switch {
	case n > highest:
		return nil
	case n < merged:
		problem.Message = fmt.Sprintf("the sequence goes back from %d to %d: a merged change is being reverted, and an older signed version never comes back to life", merged, n)
		problem.Fix = "use `sallyport revert " + r.Source.Path + "`, which writes it anew with sequence " + fmt.Sprint(highest+1)
	case n == merged:
		problem.Message = fmt.Sprintf("sequence %d already stands for what is merged, and the bytes differ", n)
	default:
		problem.Message = fmt.Sprintf("sequence %d was used before: this name has had %d, and no sequence is ever used again, also after a deletion", n, highest)
	}
	c.report.problems(RuleSequence, Error, problem)
	return nil
}

// strictness orders outcomes, from what shows least.
var strictness = map[string]int{"deny": 0, "hold": 1, "mask": 2, "allow": 3}

// examples runs those of all reviews that the change touches or that stand on what
// it touches, under the policies of the base.
func (c *comparison) examples(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(c.next.Reviews)) {
		review := c.next.Reviews[name]
		on := reviews.PathOf(reviews.KindConnection, review.Spec.Connection)
		if !c.touched[review.Source.Path] && !c.touched[on] {
			continue
		}
		outcomes, problems, err := c.opt.Examples(ctx, c.policy, c.next.Connections[review.Spec.Connection], review)
		if err != nil {
			return err
		}
		if c.touched[review.Source.Path] {
			c.report.problems(RuleExample, Error, problems...)
			for _, o := range outcomes {
				o.Policies = "base"
				c.report.outcome(o)
				c.report.failed(RuleExample, o)
			}
			continue
		}
		if err := c.dependent(ctx, review, outcomes, problems); err != nil {
			return err
		}
	}
	return nil
}

// dependent reports examples of an untouched review that a new connection or
// catalog makes come out differently: looser is refused, stricter is told.
func (c *comparison) dependent(ctx context.Context, review *reviews.Review, outcomes []Outcome, problems reviews.Problems) error {
	old := c.base.Reviews[review.Metadata.Name]
	if old == nil {
		return nil // it grants nothing on the base
	}
	before, already, err := c.opt.Examples(ctx, c.policy, c.base.Connections[old.Spec.Connection], old)
	if err != nil {
		return err
	}
	if len(already) == 0 {
		c.report.problems(RuleExample, Warning, problems...)
	}
	c.compare(before, outcomes, "the changed connection", "correct the connection, or the review first, in a pull request of its own")
	return nil
}

// compare reports examples that came out as expected before and do not any more.
func (c *comparison) compare(before, now []Outcome, because, fix string) {
	for i, o := range now {
		if o.Passed {
			c.report.outcome(o)
			continue
		}
		if i >= len(before) || before[i].Got == o.Got {
			continue
		}
		severity, word := Warning, "stricter"
		if strictness[o.Got] > strictness[before[i].Got] {
			severity, word = Error, "looser"
			c.report.outcome(o)
		}
		c.report.problems(RuleGolden, severity, reviews.Problem{Position: o.Position, Fix: fix,
			Message: fmt.Sprintf("%s makes an approved example come out %s: %s: %s, before %s", because, word, o.Run, o.Message, before[i].Got)})
	}
}
