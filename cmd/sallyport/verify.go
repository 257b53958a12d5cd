package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/gatewayd/record"
)

func newVerify(g *globals) *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "verify [SESSION] --recordings DIR",
		Short: "Prove recordings: hash chains, the gateway's signatures, the summaries in git",
		Long: `verify checks every recording, or one: the hash chain record by record, the gateway's
signature over its head with the key that the trust root gives that gateway, and that
the summary on the audit branch is of exactly this recording. A flipped byte, a line
that is missing, repeated or moved, a cut tail and an exchanged file are each named
with the first record that is wrong. A committed summary without its recording is a
problem too.

It needs a clone of the access repo and the recordings, and no gateway. Fetch the
audit branch first: what is not fetched is not compared.`,
		Example: `  sallyport verify --recordings /var/lib/sallyport/recordings
  sallyport verify s-0123456789abcdef --recordings copy --repo ~/access --json`,
		Args: arguments(0, 1, ""),
		RunE: func(c *cobra.Command, args []string) error {
			if err := need(c, "recordings"); err != nil {
				return err
			}
			in := record.VerifyInput{Dir: dir}
			if len(args) == 1 {
				in.Session = args[0]
			}
			return verify(c.Context(), g, in, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	recordingsFlag(c, &dir)
	g.jsonFlag(c)
	return c
}

// verified is what verify prints.
type verified struct {
	OK bool `json:"ok"`
	record.Report
	Audit string `json:"audit,omitempty"` // which commit the summaries are of; "" when there is no audit branch
}

func verify(ctx context.Context, g *globals, in record.VerifyInput, out, errOut io.Writer) error {
	repo, err := g.open(ctx)
	if err != nil {
		return err
	}
	tree, _, err := repo.mergedTree(ctx)
	if err != nil {
		return err
	}
	if in.Verify, err = sealVerifier(tree.Root); err != nil {
		return err
	}
	v := verified{}
	if in.Summaries, v.Audit, err = repo.auditSummaries(ctx, tree.Config); err != nil {
		return err
	}
	if v.Report, err = record.Verify(ctx, in); err != nil {
		return err
	}
	if in.Session != "" && v.Recordings+len(v.Open)+len(v.Problems) == 0 {
		return hint(fmt.Errorf("there is no recording of %s in %s", in.Session, in.Dir), "`sallyport sessions --recordings %s` lists them", in.Dir)
	}
	v.OK = len(v.Problems) == 0
	if g.json {
		if err := printJSON(out, v); err != nil {
			return err
		}
	} else {
		v.print(out, errOut)
	}
	if !v.OK {
		return hint(fmt.Errorf("verify found %s", count(len(v.Problems), "problem")), "keep the folder as it is: it is evidence")
	}
	return nil
}

func (v *verified) print(out, errOut io.Writer) {
	for _, p := range v.Problems {
		fmt.Fprintf(errOut, "problem: %s\n", clean(p.String()))
	}
	for _, id := range v.Open {
		fmt.Fprintf(out, "open:    %s is not sealed yet\n", id)
	}
	for _, id := range v.Unconfirmed {
		fmt.Fprintf(out, "pending: %s has no summary on the audit branch yet\n", id)
	}
	fmt.Fprintf(out, "%s, %s checked", count(v.Recordings, "recording"), count(int(v.Records), "record"))
	if v.Audit == "" {
		fmt.Fprintln(out, "; there is no audit branch here to compare them with")
		return
	}
	fmt.Fprintf(out, "; %d confirmed by summaries on %s\n", v.Summaries, v.Audit)
}
