package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd/admin"
)

// adminAddrFile holds the address that the admin listener really got, so that
// `gatewayd status` finds a gateway that listens on port 0.
const adminAddrFile = "admin.addr"

// printStatus asks the gateway that runs with this configuration.
func printStatus(ctx context.Context, w io.Writer, c *Config, asJSON bool) error {
	report, err := fetchStatus(ctx, c)
	if err != nil {
		return err
	}
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		err = enc.Encode(report)
	} else {
		err = writeStatus(w, report)
	}
	if err == nil && !report.Ready {
		return coded{fmt.Errorf("not ready: %s", report.NextAction), exitNotReady}
	}
	return err
}

func fetchStatus(ctx context.Context, c *Config) (*admin.Report, error) {
	if c.Admin.Listen == "" {
		return nil, fmt.Errorf("there is no admin listener: set admin.listen to 127.0.0.1:PORT in the configuration and restart gatewayd")
	}
	addr := c.Admin.Listen
	if b, err := os.ReadFile(filepath.Join(c.State, adminAddrFile)); err == nil {
		addr = strings.TrimSpace(string(b))
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/status", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no gateway answers at %s: is gatewayd running with this configuration? (%w)", addr, err)
	}
	defer res.Body.Close()
	report := &admin.Report{}
	if err := json.NewDecoder(io.LimitReader(res.Body, 64<<20)).Decode(report); err != nil {
		return nil, fmt.Errorf("what answers at %s is not gatewayd: %w", addr, err)
	}
	return report, nil
}

func writeStatus(w io.Writer, r *admin.Report) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "gateway\t%s\n", r.Gateway)
	if rel := r.Release; rel != nil {
		fmt.Fprintf(t, "release\t%d of commit %.12s, %d connections, %d reviews\n", rel.Sequence, rel.Commit, rel.Connections, rel.Reviews)
		fmt.Fprintf(t, "age\t%s, valid until %s (%s left)\n", time.Since(rel.Issued).Round(time.Second), rel.ValidUntil.Format(time.RFC3339), time.Until(rel.ValidUntil).Round(time.Second))
	} else {
		fmt.Fprintf(t, "release\tnone: everything is denied\n")
	}
	if r.LastError != "" {
		fmt.Fprintf(t, "last error\t%s\n", r.LastError)
	}
	fmt.Fprintf(t, "sessions\t%d live, %d opened since start\n", len(r.Sessions), r.Opened)
	for _, s := range r.Sessions {
		fmt.Fprintf(t, "\t%s  %s on %s under %s, since %s, until %s, %d commands\n", s.ID, s.Principal, s.Connection, s.Review, s.Started.Format(time.RFC3339), s.Until.Format(time.RFC3339), s.Commands)
	}
	fmt.Fprintf(t, "commands\t%d allowed, %d denied\n", r.Allowed, r.Denied)
	for _, rule := range slices.Sorted(maps.Keys(r.Denials)) {
		fmt.Fprintf(t, "\t%d × %s\n", r.Denials[rule], rule)
	}
	fmt.Fprintf(t, "audit\t%d summaries waiting\n", r.Audit.Waiting)
	if r.Audit.LastError != "" {
		fmt.Fprintf(t, "audit error\t%s\n", r.Audit.LastError)
	}
	if r.NextAction != "" {
		fmt.Fprintf(t, "do next\t%s\n", r.NextAction)
	}
	return t.Flush()
}
