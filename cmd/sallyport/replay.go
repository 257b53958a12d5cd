package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/policies"
)

func newReplay(g *globals) *cobra.Command {
	var dir string
	var speed float64
	var cast bool
	var n int64
	c := &cobra.Command{
		Use:   "replay SESSION --recordings DIR",
		Short: "Play a recorded session back: commands, decisions and output, in their time",
		Long: `replay prints a recording as it happened, pauses included. Output is what the client
saw: masked values are masked here too.

The hash chain is checked on the way, and replay stops at the first record that does
not fit. Only ` + "`sallyport verify`" + ` also checks the gateway's signature.

--speed 10 plays ten times as fast, --speed 0 prints everything at once. --json prints
the records as they stand in the recording, one a line, at once. --cast prints what was shown
of an ssh session as asciinema plays it.`,
		Example: `  sallyport replay s-0123456789abcdef --recordings /var/lib/sallyport/recordings
  sallyport replay s-0123456789abcdef --recordings recordings --speed 0
  sallyport replay s-0123456789abcdef --recordings recordings --cast > session.cast
  sallyport replay s-0123456789abcdef --recordings recordings --json | jq .command.statement`,
		Args: arguments(1, 1, "SESSION, as `sallyport sessions` lists them"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := need(c, "recordings"); err != nil {
				return err
			}
			if speed < 0 {
				return usage("--speed %v: write 1 for as it happened, 10 for ten times as fast, 0 for at once", speed)
			}
			if g.json && !c.Flags().Changed("speed") {
				speed = 0
			}
			recording, err := record.Find(dir, args[0])
			if errors.Is(err, record.ErrNoSession) {
				return hint(err, "`sallyport sessions --recordings %s` lists them", dir)
			}
			if err != nil {
				return err
			}
			if cast {
				return writeCast(c.OutOrStdout(), recording, n)
			}
			return replay(c.Context(), c.OutOrStdout(), recording, speed, g.json)
		},
	}
	recordingsFlag(c, &dir)
	c.Flags().Float64Var(&speed, "speed", 1, "how many times as fast as it happened; 0 prints at once")
	c.Flags().BoolVar(&cast, "cast", false, "print an asciicast v3 of an ssh session, for asciinema")
	c.Flags().Int64Var(&n, "command", 0, "with --cast: only this command's output")
	g.jsonFlag(c)
	return c
}

func replay(ctx context.Context, out io.Writer, recording *record.Recording, speed float64, asJSON bool) error {
	var begin, last time.Time
	for r, err := range recording.Records() {
		if err != nil {
			return hint(err, "the recording is damaged here: nothing behind it can be relied on")
		}
		if begin.IsZero() {
			begin, last = r.Time, r.Time
		}
		if err := pause(ctx, r.Time.Sub(last), speed); err != nil {
			return nil // interrupted
		}
		last = r.Time
		if asJSON {
			_, err = fmt.Fprintf(out, "%s\n", r.Line)
		} else {
			_, err = io.WriteString(out, describeRecord(r, r.Time.Sub(begin)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pause waits as long as it took then.
func pause(ctx context.Context, d time.Duration, speed float64) error {
	if speed == 0 || d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(time.Duration(float64(d) / speed))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// describeRecord is one record for people, with the time since the begin.
func describeRecord(r *record.Record, at time.Duration) string {
	var b strings.Builder
	// What was recorded begins no line, so that it cannot pass for one of replay's own.
	inside := func(text string) string {
		return strings.ReplaceAll(clean(strings.TrimRight(text, "\n")), "\n", "\n            ")
	}
	line := func(format string, args ...any) {
		fmt.Fprintf(&b, "%9.3fs  %s\n", at.Seconds(), inside(fmt.Sprintf(format, args...)))
	}
	more := func(label, text string) {
		fmt.Fprintf(&b, "            %s%s\n", label, inside(text))
	}
	switch {
	case r.Header != nil:
		h := r.Header
		line("%s: %s from %s on %s", h.Session, h.Principal, h.Remote, h.Connection)
		more("", fmt.Sprintf("under review %s of commit %.12s, approved by %s, in release %d", h.Review, h.ReviewCommit, strings.Join(h.Approvers, ", "), h.Release))
		for _, m := range h.Masks {
			more("masked: ", m)
		}
	case r.Command != nil:
		describeCommand(r, line, more)
	case r.Result != nil:
		line("#%d %s", r.N, describeResult(r.Result))
	case r.Event != "":
		line("%s: %s", r.Event, r.Data)
	case r.Left > 0:
		line("#%d … %d more bytes of output were not recorded", r.N, r.Left)
	case r.Stream != "":
		more("", string(r.Output()))
	case r.Summary != nil && r.Type == record.TypeDenied:
		for _, d := range r.Summary.Denials {
			line("login of %s refused (%s, %s): %s", r.Summary.Principal, d.ID, d.Rule, d.Reason)
		}
	case r.Summary != nil:
		line("ended: %s, after %s, %d denied", r.Summary.End, count(int(r.Summary.Commands), "command"), r.Summary.Denied)
	case r.Signature != "":
		line("sealed by its gateway")
	}
	return b.String()
}

func describeCommand(r *record.Record, line func(string, ...any), more func(label, text string)) {
	c := r.Command
	line("#%d %s (%s)", r.N, strings.ToUpper(c.Verdict.String()), c.Rule)
	more("> ", c.Statement)
	for i, p := range c.Parameters {
		more(fmt.Sprintf("$%d = ", i+1), p)
	}
	if c.Sent != "" {
		more("sent as: ", c.Sent)
	}
	if c.Verdict != policies.Allow {
		more("", fmt.Sprintf("denied: %s (%s)", c.Reason, c.Denial))
	}
}

func describeResult(r *record.Result) string {
	text := r.Outcome
	if r.Tag != "" {
		text += " " + r.Tag
	}
	if r.Rows > 0 || r.Bytes > 0 {
		text += fmt.Sprintf(" (%s, %s)", count(int(r.Rows), "row"), count(int(r.Bytes), "byte"))
	}
	if r.SQLState != "" {
		text += " " + r.SQLState
	}
	if r.Message != "" {
		text += ": " + r.Message
	}
	return text
}
