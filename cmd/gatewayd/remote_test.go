package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/bucket"
	"github.com/sallyport-dev/sallyport/gatewayd/admin"
	"github.com/sallyport-dev/sallyport/internal/s3test"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// remote is a place that is not a folder, as the real gatewayd sees it.
type remote struct {
	location, config string // config is what goes into the configuration beside release
	target           release.Target
	away             func(bool)
	secret           string
}

func webServer(g *gatewayProcess) remote {
	g.Helper()
	const secret = "canary-of-the-server"
	var away atomic.Bool
	files := http.FileServer(http.Dir(g.published))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case away.Load():
			panic(http.ErrAbortHandler)
		case r.Header.Get("Authorization") != "Bearer "+secret:
			http.Error(w, "who are you", http.StatusUnauthorized)
		default:
			files.ServeHTTP(w, r)
		}
	}))
	g.Cleanup(server.Close)
	g.env = append(g.env, "RELEASE_TOKEN="+secret)
	return remote{server.URL, "fetch: {token: \"env:RELEASE_TOKEN\"}", release.Folder(g.published), away.Store, secret}
}

func s3Server(g *gatewayProcess) remote {
	g.Helper()
	server, stop, err := s3test.Run()
	g.must(err)
	g.Cleanup(stop)
	for name, value := range s3test.Env() {
		g.env = append(g.env, name+"="+value)
		g.Setenv(name, value)
	}
	location := server.Location("prod")
	l, err := bucket.Parse(location)
	g.must(err)
	b, err := bucket.Open(g.Context(), l, nil)
	g.must(err)
	g.must(g.repo.PublishTo(b, 1))
	return remote{location, "", b, func(away bool) {
		server.Put(nil)
		if away {
			server.Put(func(w http.ResponseWriter, r *http.Request) bool { panic(http.ErrAbortHandler) })
		}
	}, s3test.Env()["AWS_SECRET_ACCESS_KEY"]}
}

// status asks the running gateway.
func (g *gatewayProcess) status() (report admin.Report, ready bool) {
	g.Helper()
	address, err := os.ReadFile(filepath.Join(g.state, "state", adminAddrFile))
	g.must(err)
	get := func(path string) *http.Response {
		res, err := http.Get("http://" + strings.TrimSpace(string(address)) + path)
		g.must(err)
		return res
	}
	res := get("/status")
	defer res.Body.Close()
	g.must(json.NewDecoder(res.Body).Decode(&report))
	answer := get("/readyz")
	defer answer.Body.Close()
	return report, answer.StatusCode == http.StatusOK
}

// The real gatewayd with its releases behind a web server, and in a bucket: a
// removed review cuts within a second of the poll; while the source is away the
// last release is used, also after a restart, and a copy that somebody touched is not.
func TestRemoteReleases(t *testing.T) {
	for name, place := range map[string]func(*gatewayProcess) remote{"http": webServer, "s3": s3Server} {
		t.Run(name, func(t *testing.T) {
			g := newGatewayProcess(t)
			from := place(g)
			config, err := os.ReadFile(g.config)
			g.must(err)
			text := strings.Replace(string(config), "release: "+g.published, fmt.Sprintf("release: %q\n%s\nadmin: {listen: \"127.0.0.1:0\"}", from.location, from.config), 1)
			g.must(os.WriteFile(g.config, []byte(text), 0o600))
			g.start()

			// A review is taken away while its session is open.
			conn, err := g.connect()
			g.must(err)
			defer conn.Close(context.Background())
			g.must(query(conn, 2))
			g.repo.Remove(reviews.PathOf(reviews.KindReview, "orders-db/etl"))
			g.must(g.repo.PublishTo(from.target, 2))
			took := g.await(10*time.Second, "the session is cut", func() error {
				if err := query(conn, 2); err != nil {
					return nil
				}
				return errors.New("it goes on")
			})
			if took > 2200*time.Millisecond { // a poll each second, give or take a tenth, and a second for the rest
				t.Errorf("cut only after %s", took)
			}
			t.Logf("cut %s after it was published", took.Round(time.Millisecond))
			g.repo.Review("orders-db/etl", 2, "agent:etl", "  allow: [{verbs: [select, insert], on: [app.orders]}]\n")
			g.must(g.repo.PublishTo(from.target, 3))
			login := func() error {
				c, err := g.connect()
				if err == nil {
					c.Close(context.Background())
				}
				return err
			}
			g.await(10*time.Second, "the new review lets in", login)

			// The source goes away: told, and nothing else changes.
			from.away(true)
			g.await(10*time.Second, "it is told", func() error {
				if report, ready := g.status(); report.LastError == "" || !ready {
					return fmt.Errorf("ready %v, last error %q", ready, report.LastError)
				}
				return nil
			})
			g.must(login())
			g.stop()
			g.start()
			if report, ready := g.status(); !ready || report.Release.Sequence != 3 {
				t.Errorf("restarted while the source is away: %+v", report)
			}

			// Somebody touches the copy while the gateway is down.
			g.stop()
			bundles, err := filepath.Glob(filepath.Join(g.state, "state", copyFolder, "bundles", "*"))
			if err != nil || len(bundles) != 3 {
				t.Fatal(bundles, err)
			}
			for _, name := range bundles {
				b, err := os.ReadFile(name)
				g.must(err)
				b[len(b)/2] ^= 1
				g.must(os.WriteFile(name, b, 0o644))
			}
			os.Remove(filepath.Join(g.state, "state", adminAddrFile))
			g.spawn()
			g.await(30*time.Second, "it answers", func() error {
				_, err := os.Stat(filepath.Join(g.state, "state", adminAddrFile))
				return err
			})
			g.await(10*time.Second, "it is refused", func() error {
				if report, ready := g.status(); ready || report.Release != nil || report.LastError == "" {
					return fmt.Errorf("%+v", report)
				}
				return nil
			})
			if err := login(); err == nil || !strings.Contains(err.Error(), "no_release") {
				t.Errorf("a login with a copy that was touched: %v", err)
			}
			if !strings.Contains(g.log.String(), "does not have the contents") {
				t.Errorf("the log does not say why:\n%s", g.log)
			}
			from.away(false)
			g.await(15*time.Second, "it mends itself", login)
			if report, _ := g.status(); report.LastError != "" || report.Release.Sequence != 3 {
				t.Errorf("mended: %+v", report)
			}
			g.stop()
			if strings.Contains(g.log.String(), from.secret) {
				t.Error("the log shows a secret")
			}
		})
	}
}
