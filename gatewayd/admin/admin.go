// Package admin is what operators and their monitoring ask gatewayd: /healthz
// (the process answers), /readyz (a login could succeed now; and which masks make relations unreadable), /status (JSON,
// what `gatewayd status` prints) and /metrics (Prometheus). It only reads; there
// is nothing here that changes the gateway. It shows names of principals,
// connections and reviews, never a statement and never a secret.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sallyport-dev/sallyport/gatewayd"
)

// Report is the body of /status.
type Report struct {
	gatewayd.Status
	Audit AuditStatus `json:"audit"`
}

// AuditStatus says how far summaries have come on their way to git.
type AuditStatus struct {
	Waiting   int       `json:"waiting"`             // summaries not yet committed
	LastError string    `json:"lastError,omitempty"` // of the last push; "" after a success
	Committed time.Time `json:"committed,omitzero"`  // last successful commit
}

// Source is where a report comes from.
type Source func() Report

// Serve answers on the listener until ctx ends.
func Serve(ctx context.Context, l net.Listener, source Source) error {
	server := &http.Server{
		Handler:           Handler(source),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin listener %s: %w", l.Addr(), err)
	}
	return nil
}

// Handler routes the four paths.
func Handler(source Source) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{source}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if r := source(); !r.Ready {
			http.Error(w, "not ready: "+r.NextAction, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
		for _, c := range source().Unreadable {
			for _, p := range c.Problems {
				fmt.Fprintf(w, "unreadable: connection %s: %s\n", c.Connection, p)
			}
		}
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(source())
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

// collector turns one report into samples at each scrape, so that /metrics and
// /status can never disagree.
type collector struct{ source Source }

var (
	ready      = describe("ready", "1 when a login could succeed: a release that has not expired and a journal that can be written.")
	sequence   = describe("release_sequence", "Sequence of the current release.")
	issued     = describe("release_issued_timestamp_seconds", "When the current release was signed.")
	validUntil = describe("release_valid_until_timestamp_seconds", "When the current release expires and everything is denied.")
	refused    = describe("release_refused", "1 while the last offered release was refused, or none could be fetched, and an older one is in use.")
	live       = describe("sessions", "Live sessions.")
	opened     = describe("sessions_opened_total", "Sessions opened since start.")
	allowed    = describe("commands_allowed_total", "Commands allowed since start.")
	denials    = describe("denials_total", "Denied logins and commands since start, by rule.", "rule")
	waiting    = describe("audit_summaries_waiting", "Summaries not yet committed to the audit branch.")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("sallyport_"+name, help, labels, nil)
}

// Describe sends every metric there is.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{ready, sequence, issued, validUntil, refused, live, opened, allowed, denials, waiting} {
		ch <- d
	}
}

// Collect samples the report.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	r := c.source()
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	count := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(ready, number(r.Ready))
	gauge(refused, number(r.LastError != ""))
	gauge(live, float64(len(r.Sessions)))
	gauge(waiting, float64(r.Audit.Waiting))
	count(opened, r.Opened)
	count(allowed, r.Allowed)
	for rule, n := range r.Denials {
		count(denials, n, rule)
	}
	if r.Release != nil {
		gauge(sequence, float64(r.Release.Sequence))
		gauge(issued, float64(r.Release.Issued.Unix()))
		gauge(validUntil, float64(r.Release.ValidUntil.Unix()))
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
