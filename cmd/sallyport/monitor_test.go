package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/policies/syncer"
)

// What a monitor and a person see of a sync in each condition.
func TestMonitorAndStatus(t *testing.T) {
	now := time.Now()
	good := syncer.Result{Time: now, Sequence: 7, Commit: strings.Repeat("a", 40), IssuedAt: now.Add(-time.Hour), ValidUntil: now.Add(23 * time.Hour), Reached: now}
	for _, tt := range []struct {
		name   string
		change func(*syncer.Result)
		alarm  string // "" when it is ready
	}{
		{"good", func(*syncer.Result) {}, ""},
		{"frozen", func(r *syncer.Result) { r.IssuedAt, r.ValidUntil = now.Add(-13*time.Hour), now.Add(11*time.Hour) }, "frozen"},
		{"expired", func(r *syncer.Result) { r.IssuedAt, r.ValidUntil = now.Add(-25*time.Hour), now.Add(-time.Hour) }, "expired"},
		{"silent", func(r *syncer.Result) { r.Time = now.Add(-11 * time.Minute) }, "silent"},
		{"rolled back", func(r *syncer.Result) {
			r.Alarms = []syncer.Alarm{{Kind: syncer.AlarmRollback, Message: "m", Next: "n"}}
		}, "rollback_detected"},
		{"only pending", func(r *syncer.Result) {
			r.Alarms = []syncer.Alarm{{Kind: syncer.AlarmPending, Message: "m", Next: "n"}}
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := good
			tt.change(&r)
			server := httptest.NewServer(monitorHandler(func() syncer.Result { return r }, silentAfter))
			defer server.Close()
			if code, body := fetch(t, server.URL+"/healthz"); code != http.StatusOK || body != "ok\n" {
				t.Errorf("healthz: %d %s", code, body)
			}
			code, body := fetch(t, server.URL+"/readyz")
			if ready := tt.alarm == ""; (code == http.StatusOK) != ready || !strings.Contains(body, tt.alarm) {
				t.Errorf("readyz: %d %s", code, body)
			}
			_, metrics := fetch(t, server.URL+"/metrics")
			for _, kind := range syncer.AlarmKinds {
				raised := strings.Contains(metrics, `sallyport_sync_alarm{kind="`+string(kind)+`"} 1`)
				if want := string(kind) == tt.alarm || tt.name == "only pending" && kind == syncer.AlarmPending; raised != want {
					t.Errorf("metric of %s: raised %v", kind, raised)
				}
			}
			if !strings.Contains(metrics, "sallyport_sync_release_sequence 7\n") {
				t.Error(metrics)
			}
			dir := t.TempDir()
			b, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "status.json"), b, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, asJSON := range []bool{false, true} {
				var out strings.Builder
				err := (&statusOptions{state: dir, silent: silentAfter}).run(&globals{json: asJSON}, &out)
				if errors.Is(err, errQuiet) != (tt.alarm != "") || err != nil && !errors.Is(err, errQuiet) || !strings.Contains(out.String(), tt.alarm) {
					t.Errorf("status: %v\n%s", err, &out)
				}
			}
		})
	}
	server := httptest.NewServer(monitorHandler(func() syncer.Result { return syncer.Result{Time: now} }, silentAfter))
	defer server.Close()
	if code, body := fetch(t, server.URL+"/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "no release") {
		t.Errorf("before the first release: %d %s", code, body)
	}
}

func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var b strings.Builder
	if err := res.Write(&b); err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(b.String(), "\r\n\r\n")
	return res.StatusCode, body
}
