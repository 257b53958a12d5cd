package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/bucket"
	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/policies/release"
)

const (
	// copyFolder is in the state folder: the last good release that was fetched.
	copyFolder = "release"

	// A source that fails is asked less often, but no less often than this, and
	// what does not change is told again after a minute.
	slowestPoll = 10 * time.Second
	tellAgain   = time.Minute
)

// releases brings published releases to the gateway.
type releases struct {
	gateway *gatewayd.Gateway
	opener  release.Opener
	mirror  *release.Mirror  // nil when sync publishes to a folder of this machine
	every   time.Duration    // how often the mirror asks
	current *release.Release // lends the next one what has not changed
}

func newReleases(ctx context.Context, c *Config, g *gatewayd.Gateway, log *slog.Logger) (*releases, error) {
	mark, err := release.OpenHighWater(filepath.Join(c.State, "high-water.json"))
	if err != nil {
		return nil, err
	}
	if mark.Fresh() {
		log.Warn("no high-water mark yet: the first release that has not expired is taken, whatever came before it")
	}
	opener := release.Opener{
		Dir: c.Release, Trust: release.Trust{RootDigest: strings.TrimPrefix(c.TrustRoot, "sha256:")}, HighWater: mark,
		Full: c.Verify == "full", MaxExtension: c.MaxExtension.Std(),
	}
	r := &releases{gateway: g, opener: opener, every: c.Fetch.Every.Std()}
	source, err := remoteSource(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("release: %w", err)
	}
	if source != nil {
		opener.Dir = filepath.Join(c.State, copyFolder)
		r.mirror = &release.Mirror{From: source, Copy: opener}
	}
	return r, nil
}

// isFolder says whether releases come in a folder of this machine.
func (c *Config) isFolder() bool { return !strings.Contains(c.Release, "://") }

// remoteSource is where releases are fetched, nil when they come in a folder.
func remoteSource(ctx context.Context, c *Config) (release.Source, error) {
	if c.isFolder() {
		return nil, nil
	}
	ca, err := loadCA(c.Fetch.CA)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(c.Release, bucket.Scheme) {
		l, err := bucket.Parse(c.Release)
		if err != nil {
			return nil, err
		}
		return bucket.Open(ctx, l, ca)
	}
	o := release.HTTPOptions{CA: ca}
	if c.Fetch.Token != "" {
		o.Token = func(ctx context.Context) (string, error) {
			secret, err := credential.Resolve(ctx, c.Fetch.Token)
			return secret.Reveal(), err
		}
	}
	return release.NewHTTP(c.Release, o)
}

// loadCA reads authorities from a PEM file; nil for none.
func loadCA(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("fetch.ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("fetch.ca: %s holds no certificate in PEM", path)
	}
	return pool, nil
}

// take puts an opened release in force, or keeps what is loaded.
func (r *releases) take(opened *release.Release, err error) error {
	if err == nil {
		err = r.opener.HighWater.Advance(opened)
	}
	if err != nil {
		if errors.Is(err, release.ErrExpired) && r.current != nil && r.current.Extended != "" {
			r.withdraw()
		}
		return err
	}
	r.current = opened
	r.gateway.Swap(opened)
	return nil
}

// withdraw ends an extension early: what is published now has none that holds, so
// the release that is loaded ends at its own time.
func (r *releases) withdraw() {
	ended := *r.current
	ended.Until, ended.Extended = ended.Envelope.ValidUntil, ""
	r.current = &ended
	r.gateway.Swap(&ended)
}

// load takes what lies in the folder now, or keeps what is loaded and says why.
func (r *releases) load(ctx context.Context) {
	if err := r.take(r.opener.Open(ctx, r.current, time.Now())); err != nil {
		r.gateway.Refused(err)
	}
}

// watch loads what is published now and whenever that changes, until ctx ends.
func (r *releases) watch(ctx context.Context) {
	if r.mirror == nil {
		release.Watch(ctx, r.opener.Dir, release.PollInterval, func() { r.load(ctx) })
		return
	}
	r.start(ctx)
	wait, told, toldAt := r.every, "", time.Time{}
	for ctx.Err() == nil {
		err := r.poll(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			wait, told = r.every, ""
		default:
			wait = max(r.every, min(2*wait, slowestPoll))
			if err.Error() != told || time.Since(toldAt) > tellAgain {
				told, toldAt = err.Error(), time.Now()
				r.gateway.Refused(err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait*9/10 + rand.N(wait/5+1)): // a fleet does not ask all at once
		}
	}
}

// start loads the copy of what was fetched last, so that the gateway works while
// the source is away.
func (r *releases) start(ctx context.Context) {
	opened, err := r.mirror.Start(ctx, time.Now())
	if opened == nil && err == nil {
		return
	}
	if err := r.take(opened, err); err != nil {
		r.gateway.Refused(fmt.Errorf("the copy of what was fetched last: %w", err))
	}
}

// poll asks the source once.
func (r *releases) poll(ctx context.Context) error {
	opened, err := r.mirror.Next(ctx, r.current, time.Now())
	if opened == nil && err == nil {
		return nil
	}
	return r.take(opened, err)
}
