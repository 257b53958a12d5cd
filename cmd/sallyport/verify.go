package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/gatewayd/record"
)

func newVerify(g *globals) *cobra.Command {
	o := &verifyOptions{}
	c := &cobra.Command{
		Use:   "verify [SESSION] --recordings DIR",
		Short: "Prove recordings: hash chains, signatures, summaries in git, reviews and who approved them",
		Long: `verify follows each recording, or one, from its bytes to the keys that people hold:

  recording   the hash chain record by record, and the gateway's signature over its head
  summary     the one on the audit branch is of exactly this recording; none is missing;
              every commit of that branch is signed by a gateway, which only added its own
  review      the bytes at the merged commit that the recording names, and at its release's
  approvals   by the people it names, as many as the rules of that commit demand, each judged
              as of when sync first saw it, which its log of releases on the audit branch
              says; a rule of the policies that approved by itself is evaluated again
  trust root  the merged one, and earlier ones in their time: the next version followed
              each with the approval of both thresholds, and the way leads from one that
              --trust-root pins, or each was signed by its successor's signers, too

A flipped byte, a line that is missing, repeated or moved, a cut tail, an exchanged
file, a commit, a signature: the first thing that is wrong is named.

It needs a clone of the access repo and the recordings, and no gateway and no network.
Fetch first: what is not fetched is not compared. Keep the audit commit that verify
prints: --audit-includes COMMIT notices when that branch was rewound since. Without an
audit branch it fails, unless --without-audit says that there is none.`,
		Example: `  sallyport verify --recordings /var/lib/sallyport/recordings
  sallyport verify s-0123456789abcdef --recordings copy --repo ~/access --json`,
		Args: arguments(0, 1, ""),
		RunE: func(c *cobra.Command, args []string) error {
			if err := need(c, "recordings"); err != nil {
				return err
			}
			in := record.VerifyInput{Dir: o.dir}
			if len(args) == 1 {
				in.Session = args[0]
			}
			return o.verify(c.Context(), g, in, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	recordingsFlag(c, &o.dir)
	c.Flags().StringArrayVar(&o.pins, "trust-root", nil, "sha256:… of a trust root that sync and gateways pin, from which the merged one follows; again for others")
	c.Flags().BoolVar(&o.alone, "without-audit", false, "there is no audit branch: nothing outside of the recordings then says which ones there were")
	c.Flags().StringVar(&o.least, "audit-includes", "", "an audit commit that an earlier verify printed")
	g.jsonFlag(c)
	return c
}

// verifyOptions are the flags of verify.
type verifyOptions struct {
	dir   string
	pins  []string
	least string
	alone bool
}

// verified is what verify prints.
type verified struct {
	OK bool `json:"ok"`
	record.Report
	Audit        string `json:"audit,omitempty"`        // which commit the summaries are of; "" when there is no audit branch
	AuditCommits int    `json:"auditCommits,omitempty"` // of its history, checked
	Grants       int    `json:"grants,omitempty"`       // distinct ones that recordings stood on, checked
	// Automatic are those among them that no person approved, with what the policies say of them.
	Automatic []automatic `json:"automatic,omitempty"`
	TrustRoot string      `json:"trustRoot"` // sha256 of the merged one
}

func (o *verifyOptions) verify(ctx context.Context, g *globals, in record.VerifyInput, out, errOut io.Writer) error {
	repo, err := g.open(ctx)
	if err != nil {
		return err
	}
	tree, merged, err := repo.mergedTree(ctx)
	if err != nil {
		return err
	}
	trust, err := repo.trustHistory(ctx, merged, tree.Root, o.pins)
	if err != nil {
		return err
	}
	trail, err := repo.auditTrail(ctx, tree.Config, trust, o.least)
	if err != nil {
		return err
	}
	grants, err := repo.grants(ctx, merged, trust)
	if err != nil {
		return err
	}
	grants.approvals = trail.approvals
	if grants.seen, err = grants.sightings(ctx, trail.taken); err != nil {
		return err
	}
	in.Verify, in.Summaries = trust.seal, trail.summaries
	in.Granted = func(want record.Grant) error { return grants.check(ctx, want) }
	v := verified{Audit: trail.where, AuditCommits: trail.commits, TrustRoot: tree.Root.Source.SHA256}
	if v.Report, err = record.Verify(ctx, in); err != nil {
		return err
	}
	v.Problems = append(trail.problems, v.Problems...)
	if trail.where == "" && !o.alone {
		v.Problems = append(v.Problems, record.Problem{Path: "branch " + tree.Config.Spec.Audit.Branch, Reason: "there is no such branch here, so nothing outside of the recordings says which ones there were: fetch it, or say --without-audit"})
	}
	v.Grants = len(grants.known)
	for _, key := range sortedKeys(grants.automatic) {
		v.Automatic = append(v.Automatic, grants.automatic[key])
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
		return hint(fmt.Errorf("verify found %s", count(len(v.Problems), "problem")), "keep the folder and the clone as they are: they are evidence")
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
	for _, a := range v.Automatic {
		fmt.Fprintf(out, "auto:    %s was approved by a rule of the policies at commit %.12s, true again here: %s\n", a.Review, a.Commit, clean(strings.Join(a.Says, "; ")))
	}
	fmt.Fprintf(out, "%s, %s checked", count(v.Recordings, "recording"), count(int(v.Records), "record"))
	if v.Audit == "" {
		fmt.Fprintln(out, "; there is no audit branch here to compare them with")
	} else {
		fmt.Fprintf(out, "; %d confirmed by summaries on %s, %s checked\n", v.Summaries, v.Audit, count(v.AuditCommits, "commit"))
	}
	fmt.Fprintf(out, "%s checked against merged reviews, under trust root sha256:%s\n", count(v.Grants, "grant"), v.TrustRoot)
}
