package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/policies/syncer"
	"github.com/sallyport-dev/sallyport/reviews"
)

// statusOptions are the flags of status.
type statusOptions struct {
	state  string
	silent time.Duration
}

func newStatus(g *globals) *cobra.Command {
	o := &statusOptions{}
	c := &cobra.Command{
		Use:   "status --state DIR",
		Short: "Say how sync is doing, and what to do next",
		Long: `status reads what the sync of a state folder last found: its newest release, alarms with
what to do about each, documents that are closed or pending, and why.

Exit code 0: the release is current; closed and pending documents are listed all the
same. Exit code 1: there is an alarm: rollback_detected, expired, frozen (nothing new
was signed for half of the time that a release holds), broken, failing, or silent (no
round within --silent-after).`,
		Example: `  sallyport status --state /var/lib/sallyport/sync
  sallyport status --state state --json | jq .alarms`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := need(c, "state"); err != nil {
				return err
			}
			return o.run(g, c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&o.state, "state", "", "the directory that sync was given as --state")
	c.Flags().DurationVar(&o.silent, "silent-after", silentAfter, "how long a sync that works may be quiet; longer when it is started now and then")
	g.jsonFlag(c)
	return c
}

// alarmSilent is raised by who looks, since who is silent cannot.
const alarmSilent syncer.AlarmKind = "silent"

// silentAfter is how long a sync that watches may be without a finished round.
const silentAfter = 10 * time.Minute

func (o *statusOptions) run(g *globals, out io.Writer) error {
	r, err := syncer.ReadStatus(o.state)
	if err != nil {
		return hint(err, "name the directory that sync was given as --state, or start it")
	}
	now := time.Now()
	r.Alarms = r.AlarmsAt(now)
	if quiet := now.Sub(r.Time); quiet > o.silent {
		r.Alarms = append([]syncer.Alarm{{
			Kind: alarmSilent, Message: fmt.Sprintf("sync finished no round since %s, %s ago", stamp(r.Time), span(quiet)), Next: "look whether it runs, and at its log",
		}}, r.Alarms...)
	}
	alarms := 0
	for _, a := range r.Alarms {
		if !a.Kind.Notice() {
			alarms++
		}
	}
	if g.json {
		if err := printJSON(out, r); err != nil {
			return err
		}
	} else {
		tellStatus(out, r)
	}
	if alarms > 0 {
		return errQuiet
	}
	return nil
}

func tellStatus(out io.Writer, r syncer.Result) {
	for _, a := range r.Alarms {
		mark := "ALARM"
		if a.Kind.Notice() {
			mark = "notice"
		}
		fmt.Fprintf(out, "%s %s: %s\n  next: %s\n", mark, a.Kind, clean(a.Message), clean(a.Next))
	}
	if r.Sequence == 0 {
		fmt.Fprintln(out, "no release was ever published")
	} else {
		fmt.Fprintf(out, "release %d of commit %s, issued %s, valid until %s\n", r.Sequence, r.Commit, stamp(r.IssuedAt), stamp(r.ValidUntil))
	}
	fmt.Fprintf(out, "last round %s, remote last answered %s\n", stamp(r.Time), stamp(r.Reached))
	if r.Waiting > 0 {
		fmt.Fprintf(out, "%s not in the log on the audit branch yet\n", count(r.Waiting, "release"))
	}
	for _, p := range r.Problems {
		fmt.Fprintf(out, "closed: %s\n", clean(p.Error()))
	}
	for _, p := range r.Pending {
		fmt.Fprintf(out, "pending: %s: %s\n", clean(p.Path), needs(p))
	}
}

// needs is what a pending document lacks.
func needs(p reviews.Pending) string {
	var list []string
	for _, n := range p.Needs {
		list = append(list, n.String())
	}
	return clean(strings.Join(list, "; "))
}

// loopbackOf completes an address without a host: nobody else is served unless
// an address is given.
func loopbackOf(address string) string {
	if strings.HasPrefix(address, ":") {
		return "127.0.0.1" + address
	}
	return address
}

// serveMonitor answers on the listener until ctx ends. It tells counts and
// times, and no names but those of alarms.
func serveMonitor(ctx context.Context, l net.Listener, status func() syncer.Result, quiet time.Duration) error {
	server := &http.Server{
		Handler: monitorHandler(status, quiet), MaxHeaderBytes: 16 << 10,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("listener %s: %w", l.Addr(), err)
	}
	return nil
}

// monitorHandler serves what status says; a sync without a round for longer than
// quiet is not ready.
func monitorHandler(status func() syncer.Result, quiet time.Duration) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		r := status()
		if r.Sequence == 0 {
			http.Error(w, "not ready: no release was published yet", http.StatusServiceUnavailable)
			return
		}
		for _, a := range r.AlarmsAt(time.Now()) {
			if !a.Kind.Notice() {
				http.Error(w, "not ready: "+string(a.Kind), http.StatusServiceUnavailable)
				return
			}
		}
		if time.Since(r.Time) > quiet {
			http.Error(w, "not ready: "+string(alarmSilent), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		writeMetrics(w, status(), time.Now())
	})
	return mux
}

// writeMetrics writes the text format of Prometheus.
func writeMetrics(w io.Writer, r syncer.Result, now time.Time) {
	metric := func(name, help string, value float64) {
		fmt.Fprintf(w, "# HELP sallyport_sync_%s %s\n# TYPE sallyport_sync_%[1]s gauge\nsallyport_sync_%[1]s %[3]v\n", name, help, value)
	}
	when := func(t time.Time) float64 {
		if t.IsZero() {
			return 0
		}
		return float64(t.Unix())
	}
	raised := map[syncer.AlarmKind]int{}
	for _, a := range r.AlarmsAt(now) {
		raised[a.Kind] = 1
	}
	fmt.Fprint(w, "# HELP sallyport_sync_alarm 1 while the alarm is raised; `sallyport status` says what to do.\n# TYPE sallyport_sync_alarm gauge\n")
	for _, kind := range syncer.AlarmKinds {
		fmt.Fprintf(w, "sallyport_sync_alarm{kind=%q} %d\n", string(kind), raised[kind])
	}
	metric("release_sequence", "Sequence of the newest release.", float64(r.Sequence))
	metric("release_issued_timestamp_seconds", "When the newest release was signed.", when(r.IssuedAt))
	metric("release_valid_until_timestamp_seconds", "When the newest release expires and gateways deny everything.", when(r.ValidUntil))
	metric("round_timestamp_seconds", "When the last round ended.", when(r.Time))
	metric("remote_reached_timestamp_seconds", "When the remote last answered.", when(r.Reached))
	metric("documents_closed", "Problems that close documents at the head.", float64(len(r.Problems)))
	metric("documents_pending", "Documents that wait for the attestation of their pull request.", float64(len(r.Pending)))
	metric("log_waiting", "Releases that are not in the log on the audit branch yet.", float64(r.Waiting))
}
