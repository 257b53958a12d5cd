package syncer

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// many is a repo with this many reviews in its one connection.
func many(b *testing.B, count int) *access {
	a := newAccess(b)
	for i := range count {
		name := fmt.Sprintf("r%d", i)
		a.write(reviewPath(name), review(name, 1, "app.orders"))
		a.sign(reviewPath(name), "user:bob")
	}
	a.commit("many")
	return a
}

// BenchmarkMerge is one round after one merged review, from the question to
// the remote up to the published release, with many reviews in the repo.
func BenchmarkMerge(b *testing.B) {
	for _, count := range []int{100, 10_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			a := many(b, count)
			h := a.syncer()
			h.once()
			sequence := 1
			for b.Loop() {
				b.StopTimer()
				sequence++
				a.put(reviewPath("etl"), review("etl", sequence, "app.orders"))
				b.StartTimer()
				h.once()
			}
		})
	}
}

// BenchmarkColdStart is the first round of an empty state.
func BenchmarkColdStart(b *testing.B) {
	a := many(b, 10_000)
	for b.Loop() {
		b.StopTimer()
		h := a.syncer()
		b.StartTimer()
		h.once()
	}
}

// BenchmarkRemoval is the way of a removed review from the branch to the live
// session that it cuts: a round of sync, the look of a gateway for a new
// release, opening it, and swapping. Sync's own wait between two rounds comes on top.
func BenchmarkRemoval(b *testing.B) {
	for _, count := range []int{100, 10_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			a := many(b, count)
			h := a.syncer()
			h.once()
			g := h.gateway()
			var publishing, cutting time.Duration
			rounds, sequence := 0, 1
			for b.Loop() {
				b.StopTimer()
				sequence++
				a.put(reviewPath("etl"), review("etl", sequence, "app.orders"))
				g.await(h.once().Sequence)
				session := g.login()
				a.remove(reviewPath("etl"))
				a.commit("remove")
				began := time.Now()
				b.StartTimer()
				h.once()
				published := time.Now()
				<-session.Context().Done()
				b.StopTimer()
				publishing, cutting, rounds = publishing+published.Sub(began), cutting+time.Since(published), rounds+1
				if _, err := session.End(context.Cause(session.Context())); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(publishing.Milliseconds())/float64(rounds), "ms-to-publish")
			b.ReportMetric(float64(cutting.Milliseconds())/float64(rounds), "ms-to-cut")
		})
	}
}

// gateway is a gateway that follows the harness's releases as gatewayd does.
type gateway struct {
	*gatewayd.Gateway
	h       *harness
	key     string
	swapped chan int64 // sequences
}

func (h *harness) gateway() *gateway {
	h.t.Helper()
	key := newKey(h.t)
	clock := func() time.Time { return h.now }
	journal, err := record.Open(record.Options{
		Dir: h.t.TempDir(), Gateway: "gw1", Now: clock,
		Sign: func(m []byte) ([]byte, error) { return reviews.Sign(key, reviews.NamespaceCheckpoint, m) },
	})
	if err != nil {
		h.t.Fatal(err)
	}
	credentials, err := credential.NewStore(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	g := &gateway{h: h, key: ssh.FingerprintSHA256(key.PublicKey()), swapped: make(chan int64, 1000)}
	g.Gateway, err = gatewayd.New(gatewayd.Config{
		Name: "gw1", Fingerprint: g.key, Journal: journal, Credentials: credentials, Now: clock,
		Summaries: func(record.Summary) {}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	mark, err := release.OpenHighWater(filepath.Join(h.t.TempDir(), "mark"))
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.follow(ctx, release.Opener{Dir: h.out, Trust: release.Trust{RootDigest: h.a.pin}, HighWater: mark})
	}()
	h.t.Cleanup(func() { stop(); <-ended; _ = journal.Close() })
	return g
}

func (g *gateway) follow(ctx context.Context, opener release.Opener) {
	var current *release.Release
	release.Watch(ctx, opener.Dir, release.PollInterval, func() {
		opened, err := opener.Open(ctx, current, g.h.now)
		if err == nil {
			err = opener.HighWater.Advance(opened)
		}
		if err != nil {
			g.h.t.Error(err)
			return
		}
		current = opened
		g.Swap(opened)
		g.swapped <- opened.Envelope.Sequence
	})
}

// await returns once a release of that sequence or a later one is in force.
func (g *gateway) await(sequence int64) {
	for <-g.swapped < sequence {
	}
}

func (g *gateway) login() *gatewayd.Session {
	g.h.t.Helper()
	token, err := identity.Mint(g.h.a.people["agent:etl"], identity.Claims{
		Principal: "agent:etl", Connection: "orders-db", Review: "orders-db/etl", ReviewSHA256: digest([]byte(g.h.a.read(reviewPath("etl")))),
		Gateway: g.key, Issued: g.h.now, Expires: g.h.now.Add(time.Minute),
	})
	if err != nil {
		g.h.t.Fatal(err)
	}
	s, err := g.Begin(context.Background(), gatewayd.Attempt{Protocol: "postgres", Remote: "127.0.0.1:9", User: "agent:etl", Target: "orders-db", Token: token})
	if err != nil {
		g.h.t.Fatal(err)
	}
	return s
}
