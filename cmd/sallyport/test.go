package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

func newTest(g *globals) *cobra.Command {
	var ref string
	c := &cobra.Command{
		Use:   "test",
		Short: "Run the examples of every review and the tests of the policies",
		Long: `test puts each example of each review through the guard and the policies that a
gateway uses, with the committed catalog in place of the live database, and compares
the outcome with what the review says: allow, mask, hold or deny. Then it runs the
tests in policies/*_test.rego.

By default it reads the files of the work tree, committed or not, approved or not.`,
		Example: `  sallyport test
  sallyport test --ref origin/main --json`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			files, err := g.documents(c.Context(), ref)
			if err != nil {
				return err
			}
			r, err := runTests(c.Context(), files, time.Now())
			if err != nil {
				return err
			}
			if g.json {
				err = printJSON(c.OutOrStdout(), r)
			} else {
				r.print(c.OutOrStdout(), c.ErrOrStderr())
			}
			if err == nil && !r.OK {
				return errQuiet
			}
			return err
		},
	}
	c.Flags().StringVar(&ref, "ref", "", "commit to test (default: the files of the work tree)")
	g.jsonFlag(c)
	return c
}

// testReport is what test prints.
type testReport struct {
	OK       bool             `json:"ok"`
	Passed   int              `json:"passed"`
	Failed   int              `json:"failed"`
	Outcomes []testOutcome    `json:"outcomes"`
	Problems reviews.Problems `json:"problems"` // documents that could not be tested: see `sallyport check`
}

// testOutcome is one example or one policy test.
type testOutcome struct {
	At      string `json:"at"` // file:line
	Run     string `json:"run"`
	Expect  string `json:"expect"`
	Got     string `json:"got"`
	Passed  bool   `json:"passed"`
	Message string `json:"message,omitempty"` // why it did not pass
}

func runTests(ctx context.Context, files fs.FS, now time.Time) (*testReport, error) {
	tree, err := reviews.Load(files, reviews.LoadOptions{Now: now, Approvals: reviews.ReportApprovals})
	if err != nil {
		return nil, hint(err, "`sallyport check` shows every problem")
	}
	policy, err := policyOf(ctx, tree)
	if err != nil {
		return nil, err
	}
	r := &testReport{Outcomes: []testOutcome{}, Problems: tree.Problems}
	for _, name := range sortedKeys(tree.Reviews) {
		review := tree.Reviews[name]
		if err := r.examples(ctx, policy, tree.Connections[review.Spec.Connection], review); err != nil {
			return nil, err
		}
	}
	results, err := policy.Test(ctx, sourcesOf(tree))
	if err != nil {
		return nil, err
	}
	for _, t := range results {
		o := testOutcome{At: t.Position.String(), Run: t.Name, Expect: "pass", Got: "pass", Passed: t.Passed, Message: t.Message}
		if !t.Passed {
			o.Got = "fail"
		}
		r.add(o)
	}
	r.OK = r.Failed == 0 && len(r.Problems) == 0
	return r, nil
}

// examples runs those of one review, at a time when the review is in force.
func (r *testReport) examples(ctx context.Context, policy *policies.Policy, connection *reviews.Connection, review *reviews.Review) error {
	if len(review.Spec.Examples) == 0 {
		return nil
	}
	guard, err := newGuard(connection, review)
	if err != nil {
		r.Problems = append(r.Problems, problem(review.Source, "examples", "its examples cannot run: "+err.Error(), "sallyport catalog pull "+connection.Metadata.Name))
		return nil
	}
	for i, example := range review.Spec.Examples {
		st := guard.Understand(example.Run, scopeOf(connection))
		decision, err := decide(ctx, policy, connection, review, st.Command, review.Spec.Validity.NotBefore)
		if err != nil {
			return err
		}
		got := decision.Verdict.String()
		if decision.Verdict == policies.Allow && st.Masked {
			got = "mask"
		}
		o := testOutcome{
			At:  fmt.Sprintf("%s:%d", review.Source.Path, review.Source.Lines[fmt.Sprintf("examples[%d]", i)]),
			Run: example.Run, Expect: example.Expect, Got: got, Passed: got == example.Expect,
		}
		if !o.Passed {
			o.Message = fmt.Sprintf("expected %s, got %s by rule %s: %s", o.Expect, got, decision.Rule, decision.Reason)
		}
		r.add(o)
	}
	return nil
}

func (r *testReport) add(o testOutcome) {
	r.Outcomes = append(r.Outcomes, o)
	if o.Passed {
		r.Passed++
	} else {
		r.Failed++
	}
}

func (r *testReport) print(out, errOut io.Writer) {
	for _, p := range r.Problems {
		fmt.Fprintln(errOut, clean(p.Error()))
	}
	for _, o := range r.Outcomes {
		if !o.Passed {
			fmt.Fprintf(errOut, "FAIL %s: %s: %s\n", o.At, clean(o.Run), clean(o.Message))
			continue
		}
		fmt.Fprintf(out, "ok   %s: %s: %s\n", o.At, o.Got, clean(o.Run))
	}
	fmt.Fprintf(out, "%d passed, %d failed\n", r.Passed, r.Failed)
}
