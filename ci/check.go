package ci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// Classifier is what a protocol's engine knows about commands before they run.
// Cmd injects one for each protocol.
type Classifier struct {
	// Guard understands the commands of a session on the connection under the
	// review, with the committed catalog in place of the live target. The error says
	// why it cannot understand any.
	Guard func(*reviews.Connection, *reviews.Review) (Guard, error)
	// Masks are those masks that the committed catalog cannot carry: the
	// connection's own when the review is nil, otherwise those that the review adds.
	// Nil: the protocol has no catalogs.
	Masks func(*reviews.Connection, *reviews.Review) reviews.Problems
}

// Guard understands one command, and says whether its output would be masked.
type Guard func(command string) (understood policies.Command, masked bool)

// Options say how to judge.
type Options struct {
	Now time.Time // required
	// RequireApproved makes a missing approval an error, as on the branch of merged
	// reviews. Otherwise it is listed in Report.Pending.
	RequireApproved bool
	Classifiers     map[string]Classifier // by protocol
	// Known are reviews that were found good before; Check skips them and adds to
	// them. Optional, and only as good as whoever can write it: see Known.
	Known *Known
	// Sequences is the highest sequence that the review at a path ever had on the
	// base, deleted ones included, 0 when there was none. Compare calls it for
	// reviews whose bytes change. Optional: without it only the base itself is compared.
	Sequences func(ctx context.Context, path string) (int64, error)
	// Versions are the base as it stood just before and at each commit that changed a
	// document or its signatures, and as it stands, oldest first. Compare calls it for
	// documents without a sequence. Optional: without it no older version is known.
	Versions func(ctx context.Context, path string) ([]Version, error)
}

// Check judges one tree: form, meaning, approvals, masks and policies. The error
// says why it could not, never what is wrong with a document.
func Check(ctx context.Context, tree fs.FS, opt Options) (*Report, error) {
	files := view{head: tree, pick: func(string) side { return head }}
	var skipped []string
	if opt.Known != nil {
		var err error
		if skipped, err = opt.Known.recall(tree, opt.Now); err != nil {
			return nil, err
		}
		files.pick = without(skipped)
	}
	r := &Report{}
	t, err := load(ctx, files, opt.Now, nil, files)
	if t == nil {
		return nil, err
	}
	r.problems(RuleDocument, Error, t.Problems...)
	r.problems(RuleSignature, Note, t.Notes...)
	r.pending(t.Pending, opt.RequireApproved)
	if err == nil {
		r.policies(ctx, t)
	}
	opt.masks(r, t, func(string) bool { return true })
	for _, review := range t.Reviews {
		if review.Expired(opt.Now) {
			r.problems(RuleExpired, Note, at(review.Source, "validity", "it has expired and grants nothing", "delete it, or ask again with `sallyport request`"))
		}
	}
	if t.Config != nil { // otherwise nothing could be judged
		r.Checked = 2 + len(t.Principals) + len(t.Connections) + len(t.Reviews) + len(t.Policies) + len(skipped)
	}
	r.finish()
	if opt.Known != nil {
		opt.Known.learn(t, r, opt.Now)
	}
	return r, ctx.Err()
}

// without is a pick that leaves documents out.
func without(skipped []string) func(string) side {
	known := make(map[string]bool, len(skipped))
	for _, p := range skipped {
		known[p] = true
	}
	return func(doc string) side {
		if known[doc] {
			return nowhere
		}
		return head
	}
}

// load loads a tree to look at it: approvals that are missing close nothing. Automatic
// approvals are those of the policies of the rules' tree. The error is what nothing
// can be granted under.
func load(ctx context.Context, files fs.FS, now time.Time, cache *reviews.Cache, rules fs.FS) (*reviews.Tree, error) {
	return reviews.Load(files, reviews.LoadOptions{Now: now, Approvals: reviews.ReportApprovals, Cache: cache, AutoApprove: AutoApproval(ctx, rules)})
}

// pending notes what still lacks approvals.
func (r *Report) pending(list []reviews.Pending, required bool) {
	r.Pending = append(r.Pending, list...)
	for _, p := range list {
		switch who := eligible(p); {
		case required && p.Awaiting: // sync asks the forge once it is merged, which may be later than this
			r.problems(RuleApproval, Warning, whole(p.Path, "it is in force once the approvals of its pull request are attested: "+strings.Join(needs(p), "; "),
				"nothing, if it was approved there; `sallyport status` on the machine of sync says what it waits for"))
		case required:
			r.problems(RuleApproval, Error, whole(p.Path, "not approved: "+strings.Join(append(needs(p), p.Ignored...), "; "), signBy(p.Path, who)))
		case !reachable(p):
			r.problems(RuleApproval, Warning, whole(p.Path, "nobody is left who could approve it: "+strings.Join(needs(p), "; "),
				"add a member to one of these groups in "+reviews.RootPath+": who asks, who owns and who uses never count"))
		}
	}
}

func needs(p reviews.Pending) []string {
	var list []string
	for _, n := range p.Needs {
		list = append(list, n.String())
	}
	return list
}

func signBy(path string, who []string) string {
	fix := "sallyport sign " + path
	if len(who) > 0 {
		fix += " (by " + strings.Join(who, " or ") + ")"
	}
	return fix
}

func eligible(p reviews.Pending) []string {
	all := make(map[string]bool)
	for _, n := range p.Needs {
		for _, name := range n.Eligible {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// reachable reports whether those who may approve are enough.
func reachable(p reviews.Pending) bool {
	return !slices.ContainsFunc(p.Needs, func(n reviews.Need) bool { return len(n.Have)+len(n.Eligible) < n.Threshold })
}

// policies compiles those of a tree; nil when they do not compile.
func (r *Report) policies(ctx context.Context, t *reviews.Tree) *policies.Policy {
	policy, err := compile(ctx, t)
	r.problems(RulePolicy, Error, asProblems(err)...)
	if err != nil {
		return nil
	}
	return policy
}

func policySources(t *reviews.Tree) map[string][]byte {
	all := make(map[string][]byte, len(t.Policies))
	for path, file := range t.Policies {
		all[path] = file.Source.Bytes
	}
	return all
}

// masks reports masks of the named documents that catalogs cannot carry.
func (o Options) masks(r *Report, t *reviews.Tree, named func(path string) bool) {
	for name, connection := range t.Connections {
		classifier, known := o.Classifiers[connection.Spec.Protocol]
		if !named(connection.Source.Path) || !known || classifier.Masks == nil {
			continue
		}
		switch {
		case connection.Catalog != nil:
			r.problems(RuleMask, Error, classifier.Masks(connection, nil)...)
		case len(connection.Spec.Mask) > 0:
			r.problems(RuleMask, Error, uncharted(connection.Source, name))
		default:
			r.problems(RuleCatalog, Note, whole(connection.Source.Path, "the connection has no catalog, so examples cannot run", "sallyport catalog pull "+name))
		}
	}
	for _, review := range t.Reviews {
		connection := t.Connections[review.Spec.Connection]
		classifier, known := o.Classifiers[connection.Spec.Protocol]
		switch {
		case !known || classifier.Masks == nil || !named(review.Source.Path) || len(review.Masks(connection)) == 0:
		case connection.Catalog == nil && len(review.Spec.Mask) == 0: // reported with the connection
		case connection.Catalog == nil:
			r.problems(RuleMask, Error, uncharted(review.Source, review.Spec.Connection))
		default:
			r.problems(RuleMask, Error, classifier.Masks(connection, review)...)
		}
	}
}

func uncharted(source reviews.Source, connection string) reviews.Problem {
	return at(source, "mask[0]", "masks cannot be checked without the connection's catalog", "sallyport catalog pull "+connection)
}

// Test runs the examples of every review of a tree and the tests of its policies.
// The error is for a tree whose trust root, settings or policies cannot be used.
func Test(ctx context.Context, tree fs.FS, opt Options) (*Report, error) {
	t, err := load(ctx, tree, opt.Now, nil, tree)
	if err != nil {
		return nil, err
	}
	policy, err := compile(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("the policies do not compile:\n%w", err)
	}
	r := &Report{Checked: len(t.Reviews)}
	r.problems(RuleDocument, Error, t.Problems...)
	for _, name := range slices.Sorted(maps.Keys(t.Reviews)) {
		review := t.Reviews[name]
		outcomes, problems, err := opt.Examples(ctx, policy, t.Connections[review.Spec.Connection], review)
		if err != nil {
			return nil, err
		}
		r.problems(RuleDocument, Error, problems...) // nothing could run
		for _, o := range outcomes {
			r.outcome(o)
			r.failed(RuleExample, o)
		}
	}
	outcomes, err := policyTests(ctx, policy, policySources(t))
	if err != nil {
		return nil, err
	}
	for _, o := range outcomes {
		r.outcome(o)
		r.failed(RulePolicyTest, o)
	}
	r.finish()
	return r, nil
}

// failed makes a finding of an outcome that is not what was expected.
func (r *Report) failed(rule string, o Outcome) {
	if o.Passed {
		return
	}
	fix := "correct the example, or the rules of the review"
	if rule == RulePolicyTest {
		fix = "correct the policy or its test"
	}
	r.problems(rule, Error, reviews.Problem{Position: o.Position, Message: o.Run + ": " + o.Message, Fix: fix})
}

// Examples runs those of one review, at a time when the review is in force. The
// problems say why they could not run.
func (o Options) Examples(ctx context.Context, policy *policies.Policy, connection *reviews.Connection, review *reviews.Review) ([]Outcome, reviews.Problems, error) {
	if len(review.Spec.Examples) == 0 {
		return nil, nil, nil
	}
	guard, err := o.guard(connection, review)
	if err != nil {
		return nil, reviews.Problems{at(review.Source, "examples", "its examples cannot run: "+err.Error(), "sallyport catalog pull "+connection.Metadata.Name)}, nil
	}
	var outcomes []Outcome
	for i, example := range review.Spec.Examples {
		command, masked := guard(example.Run)
		decision, err := policy.Decide(ctx, policies.Input{
			Now:        review.Spec.Validity.NotBefore,
			Principal:  review.Spec.Subject,
			Connection: policies.NewDocument(connection.JSON()),
			Review:     policies.NewDocument(review.JSON()),
			Command:    command,
		})
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		got := decision.Verdict.String()
		if decision.Verdict == policies.Allow && masked {
			got = "mask"
		}
		outcome := Outcome{
			Position: reviews.Position{File: review.Source.Path, Line: review.Source.Lines[fmt.Sprintf("examples[%d]", i)]},
			Run:      example.Run, Expect: example.Expect, Got: got, Passed: got == example.Expect && err == nil,
		}
		switch {
		case err != nil: // the denial that it comes with is no verdict of the policies
			outcome.Message = "the policies could not decide: " + err.Error()
		case !outcome.Passed:
			outcome.Message = fmt.Sprintf("expected %s, got %s by rule %s: %s", example.Expect, got, decision.Rule, decision.Reason)
		}
		outcomes = append(outcomes, outcome)
	}
	return outcomes, nil, nil
}

func (o Options) guard(connection *reviews.Connection, review *reviews.Review) (Guard, error) {
	classifier, known := o.Classifiers[connection.Spec.Protocol]
	if !known {
		return nil, fmt.Errorf("protocol %s is not understood here", connection.Spec.Protocol)
	}
	return classifier.Guard(connection, review)
}

// policyTests runs the tests among sources against a policy.
func policyTests(ctx context.Context, policy *policies.Policy, sources map[string][]byte) ([]Outcome, error) {
	results, err := policy.Test(ctx, sources)
	if err != nil {
		return nil, err
	}
	var outcomes []Outcome
	for _, t := range results {
		o := Outcome{Position: t.Position, Run: t.Name, Expect: "pass", Got: "pass", Passed: t.Passed, Message: t.Message}
		if !t.Passed {
			o.Got = "fail"
		}
		outcomes = append(outcomes, o)
	}
	return outcomes, nil
}

// exists reports whether a tree has a file at a path; an irregular one counts.
func exists(tree fs.FS, name string) bool {
	_, err := fs.Stat(tree, name)
	return !errors.Is(err, fs.ErrNotExist)
}

// patience is how long one decision may take here, where no session waits for it
// and a busy machine must not make an example fail.
const patience = 10 * time.Second

func compile(ctx context.Context, t *reviews.Tree) (*policies.Policy, error) {
	policy, err := policies.Compile(ctx, policySources(t))
	if err != nil {
		return nil, err
	}
	return policy.WithTimeout(patience), nil
}
