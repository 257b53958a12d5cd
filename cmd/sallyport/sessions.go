package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/gatewayd/record"
)

// sessionsOptions are the flags of sessions.
type sessionsOptions struct {
	dir, principal, connection, since string
	denied                            bool
}

func newSessions(g *globals) *cobra.Command {
	o := &sessionsOptions{}
	c := &cobra.Command{
		Use:   "sessions --recordings DIR",
		Short: "List recorded sessions, or the logins that were refused",
		Long: `sessions lists what a gateway recorded: who was connected to what, under which
review, and how it ended, the newest first. Sessions that are not over are listed as open.

It does not verify anything: ` + "`sallyport verify`" + ` does. A recording that cannot be
read is named on standard error and makes the exit code 1.`,
		Example: `  sallyport sessions --recordings /var/lib/sallyport/recordings
  sallyport sessions --recordings recordings --principal agent:etl --since 2026-11-23 --json
  sallyport sessions --recordings recordings --denied`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := need(c, "recordings"); err != nil {
				return err
			}
			return o.run(g, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	recordingsFlag(c, &o.dir)
	c.Flags().StringVar(&o.principal, "principal", "", "only those of this principal")
	c.Flags().StringVar(&o.connection, "connection", "", "only those on this connection")
	c.Flags().StringVar(&o.since, "since", "", "only those of this day (UTC) or later, such as 2026-11-23")
	c.Flags().BoolVar(&o.denied, "denied", false, "list refused logins instead")
	g.jsonFlag(c)
	return c
}

func (o *sessionsOptions) run(g *globals, out, errOut io.Writer) error {
	var since time.Time
	if o.since != "" {
		var err error
		if since, err = time.Parse(time.DateOnly, o.since); err != nil {
			return usage("--since %s: write a day such as 2026-11-23", o.since)
		}
	}
	all, broken, err := record.List(o.dir)
	if err != nil {
		return hint(err, "--recordings is the folder that the gateway's configuration names as recordings.dir")
	}
	summaries := []record.Summary{}
	for _, r := range all {
		found, err := o.summariesOf(r)
		if err != nil {
			broken = append(broken, err)
		}
		for _, s := range found {
			if o.wants(s, since) {
				summaries = append(summaries, s)
			}
		}
	}
	for _, err := range broken {
		fmt.Fprintf(errOut, "cannot be read: %s\n", clean(err.Error()))
	}
	if g.json {
		err = printJSON(out, summaries)
	} else {
		o.print(out, summaries)
	}
	if err == nil && len(broken) > 0 {
		return hint(fmt.Errorf("%s cannot be read", count(len(broken), "recording")), "`sallyport verify` says more")
	}
	return err
}

func (o *sessionsOptions) wants(s record.Summary, since time.Time) bool {
	return (o.principal == "" || s.Principal == o.principal) && (o.connection == "" || s.Connection == o.connection) && !s.Started.Before(since)
}

// summariesOf is the summary of a session, or the refused logins of a denial log.
func (o *sessionsOptions) summariesOf(r *record.Recording) ([]record.Summary, error) {
	isLog := strings.HasPrefix(r.Session, "denied-")
	switch {
	case o.denied && isLog:
		return refusedLogins(r)
	case o.denied != isLog:
		return nil, nil
	case r.Summary != nil:
		return []record.Summary{*r.Summary}, nil
	}
	h := r.Header
	return []record.Summary{{
		Session: h.Session, Gateway: h.Gateway, Protocol: h.Protocol, Principal: h.Principal, Connection: h.Connection,
		Remote: h.Remote, Review: h.Review, ReviewSHA256: h.ReviewSHA256, ReviewCommit: h.ReviewCommit, Approvers: h.Approvers,
		Release: h.Release, ReleaseDigest: h.ReleaseDigest, ReleaseCommit: h.ReleaseCommit, Started: h.Started, End: "open",
	}}, nil
}

// refusedLogins are the records of a denial log.
func refusedLogins(r *record.Recording) ([]record.Summary, error) {
	var all []record.Summary
	for rec, err := range r.Records() {
		if err != nil {
			return all, err
		}
		if rec.Type == record.TypeDenied && rec.Summary != nil {
			all = append(all, *rec.Summary)
		}
	}
	return all, nil
}

func (o *sessionsOptions) print(out io.Writer, summaries []record.Summary) {
	if o.denied {
		var rows [][]string
		for _, s := range summaries {
			for _, d := range s.Denials {
				rows = append(rows, []string{d.ID, stamp(d.Time), clean(s.Principal), clean(s.Connection), s.Remote, d.Rule, clean(d.Reason)})
			}
		}
		table(out, []string{"DENIAL", "TIME", "PRINCIPAL", "CONNECTION", "FROM", "RULE", "REASON"}, rows)
		return
	}
	var rows [][]string
	for _, s := range summaries {
		length := "-"
		if s.End != "open" {
			length = s.Ended.Sub(s.Started).Round(time.Millisecond).String()
		}
		rows = append(rows, []string{
			s.Session, stamp(s.Started), length, clean(s.Principal), clean(s.Review),
			strconv.FormatInt(s.Commands, 10), strconv.FormatInt(s.Denied, 10), strconv.FormatInt(s.Rows, 10), clean(s.End),
		})
	}
	table(out, []string{"SESSION", "STARTED", "LENGTH", "PRINCIPAL", "REVIEW", "COMMANDS", "DENIED", "ROWS", "END"}, rows)
}
