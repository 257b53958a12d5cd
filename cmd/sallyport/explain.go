package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/gatewayd/kube/call"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
	"github.com/sallyport-dev/sallyport/gatewayd/sshd/cmdline"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

func newExplain(g *globals) *cobra.Command {
	var as, on, ref string
	c := &cobra.Command{
		Use:   "explain --as PRINCIPAL --on CONNECTION[/REVIEW] SQL",
		Short: "Say whether a statement would be allowed, by which line of which review, and what would be sent",
		Long: `explain puts a statement through the same guard and the same policies as a gateway,
with the committed catalog in place of the live database. It prints the verdict, the
rule with its file and line, who approved it, what is masked, and the statement as
the gateway would send it.

It answers for what is merged. With --ref it answers for any commit, whether it is
approved or not: to see what a request would come to.`,
		Example: `  sallyport explain --as agent:etl --on orders-db 'select email from app.customers'
  sallyport explain --as agent:etl --on orders-db/etl --ref HEAD 'drop table app.orders' --json`,
		Args: arguments(1, 1, "the SQL statement, in quotes"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := need(c, "as", "on"); err != nil {
				return err
			}
			repo, err := g.open(c.Context())
			if err != nil {
				return err
			}
			e, err := explain(c.Context(), repo, as, on, ref, args[0])
			if err != nil {
				return err
			}
			if g.json {
				err = printJSON(c.OutOrStdout(), e)
			} else {
				e.print(c.OutOrStdout())
			}
			if err == nil && e.Verdict != policies.Allow {
				return errQuiet
			}
			return err
		},
	}
	c.Flags().StringVar(&as, "as", "", "who would run it, for example agent:etl")
	c.Flags().StringVar(&on, "on", "", "connection, or connection/review")
	c.Flags().StringVar(&ref, "ref", "", "commit to look at, approved or not (default: what is merged)")
	g.jsonFlag(c)
	return c
}

// explanation is what explain prints.
type explanation struct {
	Verdict   policies.Verdict  `json:"verdict"`
	Rule      string            `json:"rule"`
	At        string            `json:"at,omitempty"` // file:line of the rule
	Reason    string            `json:"reason"`
	Principal string            `json:"principal"`
	Review    string            `json:"review"`
	SHA256    string            `json:"reviewSHA256"`
	Commit    string            `json:"commit"`
	Approvers []string          `json:"approvers"`
	Effects   []policies.Effect `json:"effects"`
	Masks     []reviews.Mask    `json:"masks"` // those that the statement meets or may meet
	Masked    bool              `json:"masked"`
	Rewritten string            `json:"rewritten,omitempty"` // as it would be sent; "" when it would not be
}

func explain(ctx context.Context, repo *accessRepo, as, on, ref, sql string) (*explanation, error) {
	a := &access{repo: repo, principal: as}
	a.connection, a.wanted, _ = strings.Cut(on, "/")
	tree, err := a.treeFor(ctx, ref)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	review, err := a.choose(tree, now)
	if err != nil {
		return nil, err
	}
	connection := tree.Connections[a.connection]
	st, err := understand(connection, review, sql)
	if err != nil {
		return nil, err
	}
	policy, err := policyOf(ctx, tree)
	if err != nil {
		return nil, err
	}
	decision, err := decide(ctx, policy, connection, review, st.Command, now)
	if err != nil {
		return nil, err
	}
	e := &explanation{
		Verdict: decision.Verdict, Rule: decision.Rule, Reason: decision.Reason, At: placeOf(decision.Rule, review),
		Principal: as, Review: review.Metadata.Name, SHA256: review.Source.SHA256, Commit: a.snapshot.commit,
		Approvers: review.Source.Approvals, Effects: st.Command.Effects, Masked: st.Masked,
		Masks: masksMet(connection, review, st.Command.Effects),
	}
	if e.Verdict == policies.Allow {
		e.Rewritten = st.Rewritten
	}
	return e, nil
}

// understand reads a command as a gateway would.
func understand(connection *reviews.Connection, review *reviews.Review, text string) (sqlguard.Statement, error) {
	if connection.Spec.Protocol == "ssh" {
		return sqlguard.Statement{Command: cmdline.Understand(text), Masked: len(review.Masks(connection)) > 0}, nil
	}
	if connection.Spec.Protocol == call.Protocol {
		command, masked := understandCall(connection, review, text)
		return sqlguard.Statement{Command: command, Masked: masked}, nil
	}
	guard, err := newGuard(connection, review)
	if err != nil {
		return sqlguard.Statement{}, err
	}
	return guard.Understand(text, scopeOf(connection)), nil
}

// treeFor is what is merged, or any commit with whatever it has in approvals.
func (a *access) treeFor(ctx context.Context, ref string) (*reviews.Tree, error) {
	if ref == "" {
		tree, s, err := a.repo.mergedTree(ctx)
		a.snapshot = s
		return tree, err
	}
	s, err := a.repo.at(ctx, ref)
	if err != nil {
		return nil, err
	}
	a.snapshot = s
	tree, err := reviews.Load(s.files, s.options(reviews.ReportApprovals))
	if err != nil {
		return nil, fmt.Errorf("the access repo at %s is not usable: %w", ref, err)
	}
	return tree, nil
}

var reviewRule = regexp.MustCompile(`^(allow|hold)\[[0-9]+\]$`)

// placeOf is where people find the rule.
func placeOf(rule string, review *reviews.Review) string {
	switch {
	case reviewRule.MatchString(rule):
		return fmt.Sprintf("%s:%d", review.Source.Path, review.Source.Lines[rule])
	case strings.HasPrefix(rule, "policies/"):
		return rule
	case rule == "default":
		return fmt.Sprintf("%s:%d", review.Source.Path, review.Source.Lines["allow"])
	}
	return ""
}

// masksMet are the masks on relations that the statement reads or writes.
func masksMet(connection *reviews.Connection, review *reviews.Review, effects []policies.Effect) []reviews.Mask {
	met := []reviews.Mask{}
	for _, m := range review.Masks(connection) {
		if m.Resource != "" && !slices.ContainsFunc(effects, func(e policies.Effect) bool { return e.Resource == m.Resource }) {
			continue
		}
		if m.Column == "" { // of output, whatever it is
			met = append(met, m)
			continue
		}
		relation := m.Column[:strings.LastIndex(m.Column, ".")]
		for _, e := range effects {
			if e.Object == relation {
				met = append(met, m)
				break
			}
		}
	}
	return met
}

func (e *explanation) print(out io.Writer) {
	fmt.Fprintf(out, "verdict    %s\n", e.Verdict)
	place := ""
	if e.At != "" {
		place = " at " + e.At
	}
	fmt.Fprintf(out, "rule       %s%s\n", e.Rule, place)
	if e.Reason != "" {
		fmt.Fprintf(out, "reason     %s\n", clean(e.Reason))
	}
	approvers := "nobody yet"
	if len(e.Approvers) > 0 {
		approvers = strings.Join(e.Approvers, ", ")
	}
	fmt.Fprintf(out, "review     %s, approved by %s\n", e.Review, approvers)
	for _, effect := range e.Effects {
		columns := ""
		if effect.Text != "" && len(effect.Argv) == 0 {
			columns = "(no plain command line)"
		}
		if len(effect.Argv) > 0 {
			columns = fmt.Sprintf("%q", effect.Argv)
		}
		if len(effect.Columns) > 0 {
			columns = " (" + strings.Join(effect.Columns, ", ") + ")"
		}
		if effect.Name != "" {
			columns = " named " + effect.Name + columns
		}
		fmt.Fprintf(out, "effect     %s %s%s\n", effect.Verb, effect.Object, columns)
	}
	for _, m := range e.Masks {
		fmt.Fprintf(out, "mask       %s with %s\n", m.Names(), m.How())
	}
	if e.Rewritten != "" {
		fmt.Fprintf(out, "sent as    %s\n", clean(e.Rewritten))
	}
}
