// Package gatewayd is the session core: what stands between an authenticated
// principal and a target, whatever the protocol. It identifies, decides,
// records and cuts; it never speaks a wire protocol, reads git or asks a forge.
// Releases are handed to it with Swap, summaries leave through a func, and the
// engines below this folder (postgres …) turn its denials into their dialect.
//
// The invariant: no byte of a command may go to a target unless Start has
// returned without an error for it, and Start returns without an error only
// when the current release allows the command and the journal holds it. On any
// doubt (no release, an expired one, a broken journal, a policy error, a panic)
// the answer is *Denied.
package gatewayd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// Config is what a Gateway needs; every field without a default is required.
type Config struct {
	// Name is the gateway's name in the trust root.
	Name string
	// Fingerprint is "SHA256:…" of the gateway's key: the only audience its tokens may name.
	Fingerprint string
	// Journal is where commands are recorded before they are forwarded.
	Journal *record.Journal
	// Credentials resolves the credential of a connection document.
	Credentials *credential.Store
	// Summaries takes the summary of each ended session and each denied
	// attempt. It must not block for long and may be called concurrently.
	Summaries func(record.Summary)
	// RequestCommand says how a principal asks for access to an access repo with
	// these settings: the command and, where there is one, a link. Default: the command alone.
	RequestCommand func(settings reviews.ConfigSpec, principal, connection string) string
	// CheckMasks says which masks of a connection make its relations unreadable, as
	// far as its catalog shows. Nil: that is seen when a session begins.
	CheckMasks func(*release.Connection) []string
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Log takes operational events; no statement text and no secret goes there. Default slog.Default().
	Log *slog.Logger
}

// Gateway holds the current release and the live sessions.
type Gateway struct {
	config Config

	// state is replaced as a whole by Swap; a command pins one.
	state atomic.Pointer[state]
	// plans is shared by all sessions; keys name the state, so that a swap
	// makes old entries unreachable.
	plans     *lru.Cache[planKey, *Plan]
	decisions *lru.Cache[decisionKey, policies.Decision] // likewise

	mu       sync.Mutex
	sessions map[string]*Session   // live ones, by id; guarded by mu
	denials  map[string]int64      // by rule, since start; guarded by mu
	lastSwap error                 // why the last offered release was refused; guarded by mu
	lookups  lookupWindows         // by review; guarded by mu
	problems map[string]Unreadable // by connection; guarded by mu

	counting sync.Mutex // held while a session of a review with limits.sessions begins

	opened, allowed, denied atomic.Int64
}

// state is one release as the core uses it. Immutable.
type state struct {
	release *release.Release
	loaded  time.Time
}

// New returns a gateway that denies everything until the first Swap.
func New(c Config) (*Gateway, error) {
	if c.Name == "" || c.Fingerprint == "" || c.Journal == nil || c.Credentials == nil || c.Summaries == nil {
		return nil, errors.New("gatewayd: name, key fingerprint, journal, credentials and summaries are all required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.RequestCommand == nil {
		c.RequestCommand = RequestCommand
	}
	plans, err := lru.New[planKey, *Plan](planCacheSize)
	if err != nil {
		return nil, fmt.Errorf("gatewayd: plan cache: %w", err)
	}
	decisions, err := lru.New[decisionKey, policies.Decision](planCacheSize)
	if err != nil {
		return nil, fmt.Errorf("gatewayd: decision cache: %w", err)
	}
	return &Gateway{
		config:    c,
		plans:     plans,
		decisions: decisions,
		sessions:  map[string]*Session{},
		denials:   map[string]int64{},
		lookups:   lookupWindows{},
		problems:  map[string]Unreadable{},
	}, nil
}

// Swap makes a verified release the current one and re-decides every live
// session under it. Sessions that it no longer allows are cut before Swap
// returns; the others go on undisturbed.
func (g *Gateway) Swap(r *release.Release) {
	now := g.config.Now()
	next := &state{release: r, loaded: now}
	g.state.Store(next)
	g.plans.Purge()
	g.decisions.Purge()
	g.setLastError(nil)
	g.checkMasks(r)
	cut := 0
	for _, s := range g.live() {
		if s.reconsider(next, now) {
			cut++
		}
	}
	level := slog.LevelInfo
	if r.Extended != "" || r.NotExtended != "" {
		level = slog.LevelWarn // somebody waits for it, or nothing can be revoked
	}
	g.config.Log.Log(context.Background(), level, "release is current", "sequence", r.Envelope.Sequence, "commit", r.Envelope.Commit,
		"validUntil", r.Until, "extended", r.Extended, "notExtended", r.NotExtended, "sessionsCut", cut)
}

// Refused notes that an offered release was not taken; the last good one stays.
func (g *Gateway) Refused(err error) {
	g.setLastError(err)
	g.config.Log.Error("release refused, the last good one stays", "error", err)
}

func (g *Gateway) setLastError(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lastSwap = err
}

// Run cuts sessions as their time ends and returns when ctx does. It reads the
// wall clock rather than arming timers, so that a suspended machine or a
// stepped clock cannot keep a session alive.
func (g *Gateway) Run(ctx context.Context) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			now := g.config.Now()
			for _, s := range g.live() {
				if c := s.overdue(now); c != nil {
					s.cut(c)
				}
			}
		}
	}
}

// Drain cuts every live session, for a shutdown.
func (g *Gateway) Drain() {
	for _, s := range g.live() {
		s.cut(&Cut{Rule: "drained", Reason: "the gateway is shutting down; connect again"})
	}
}

// sessionsOf counts the live sessions of a review.
func (g *Gateway) sessionsOf(review string) int64 {
	n := int64(0)
	for _, s := range g.live() {
		if s.grant.Load().review.Name == review {
			n++
		}
	}
	return n
}

func (g *Gateway) live() []*Session {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]*Session, 0, len(g.sessions))
	for _, s := range g.sessions {
		all = append(all, s)
	}
	return all
}

// Status is what operators ask for.
type Status struct {
	Gateway    string           `json:"gateway"`
	Release    *ReleaseStatus   `json:"release"` // nil before the first one
	LastError  string           `json:"lastError,omitempty"`
	Journal    string           `json:"journal,omitempty"` // why nothing can be recorded; "" when it can
	Sessions   []SessionStatus  `json:"sessions"`
	Opened     int64            `json:"opened"`
	Allowed    int64            `json:"allowed"`
	Denied     int64            `json:"denied"`
	Denials    map[string]int64 `json:"denials"`
	Unreadable []Unreadable     `json:"unreadable,omitempty"` // connections whose masks make relations unreadable
	Ready      bool             `json:"ready"`
	NextAction string           `json:"nextAction,omitempty"` // what an operator should do now
}

// ReleaseStatus describes the current release.
type ReleaseStatus struct {
	Sequence    int64     `json:"sequence"`
	Commit      string    `json:"commit"`
	Digest      string    `json:"digest"`
	Issued      time.Time `json:"issued"`
	Loaded      time.Time `json:"loaded"`
	ValidUntil  time.Time `json:"validUntil"`            // or until when the trust root's members extended it
	Extended    string    `json:"extended,omitempty"`    // why they did
	NotExtended string    `json:"notExtended,omitempty"` // why an extension that is there does not hold
	Expired     bool      `json:"expired"`
	Connections int       `json:"connections"`
	Reviews     int       `json:"reviews"`
}

// SessionStatus is one live session.
type SessionStatus struct {
	ID         string    `json:"id"`
	Principal  string    `json:"principal"`
	Connection string    `json:"connection"`
	Review     string    `json:"review"`
	Remote     string    `json:"remote"`
	Started    time.Time `json:"started"`
	Until      time.Time `json:"until"`
	Commands   int64     `json:"commands"`
}

// Status reports the gateway's condition at this moment.
func (g *Gateway) Status() Status {
	now := g.config.Now()
	st := Status{
		Gateway: g.config.Name,
		Opened:  g.opened.Load(), Allowed: g.allowed.Load(), Denied: g.denied.Load(),
		Denials:  map[string]int64{},
		Sessions: []SessionStatus{},
	}
	for _, s := range g.live() {
		st.Sessions = append(st.Sessions, s.status())
	}
	sort.Slice(st.Sessions, func(i, j int) bool { return st.Sessions[i].Started.Before(st.Sessions[j].Started) })
	g.mu.Lock()
	for rule, n := range g.denials {
		st.Denials[rule] = n
	}
	for _, name := range slices.Sorted(maps.Keys(g.problems)) {
		st.Unreadable = append(st.Unreadable, g.problems[name])
	}
	if g.lastSwap != nil {
		st.LastError = g.lastSwap.Error()
	}
	g.mu.Unlock()
	if err := g.config.Journal.Err(); err != nil {
		st.Journal = err.Error()
	}
	if current := g.state.Load(); current != nil {
		e := current.release.Envelope
		st.Release = &ReleaseStatus{
			Sequence: e.Sequence, Commit: e.Commit, Digest: current.release.Digest,
			Issued: e.IssuedAt, Loaded: current.loaded, ValidUntil: current.release.Until, Expired: !now.Before(current.release.Until),
			Extended: current.release.Extended, NotExtended: current.release.NotExtended,
			Connections: len(current.release.Connections), Reviews: countReviews(current.release),
		}
	}
	st.Ready = st.Release != nil && !st.Release.Expired && st.Journal == ""
	st.NextAction = nextAction(st, now)
	return st
}

func countReviews(r *release.Release) int {
	n := 0
	for _, c := range r.Connections {
		n += len(c.Reviews())
	}
	return n
}

func nextAction(st Status, now time.Time) string {
	switch {
	case st.Journal != "":
		return "free space in, or repair, the recordings folder: nothing is forwarded until the journal can be written"
	case st.Release == nil:
		return "no release was loaded: run `sallyport sync` and see that it publishes to what `release:` names"
	case st.Release.Expired:
		return "the release has expired and everything is denied: see why `sallyport sync` no longer publishes"
	case st.LastError != "":
		return "the last offered release was refused, or none could be fetched, and the one before is still used: see lastError"
	case len(st.Unreadable) > 0:
		return "masks of connection " + st.Unreadable[0].Connection + " do not fit, so that relations cannot be read: " + st.Unreadable[0].Problems[0]
	case st.Release.Extended != "":
		return "the release may be used longer than it says, and nothing can be revoked meanwhile: see that sync publishes again"
	case now.After(st.Release.Issued.Add(st.Release.ValidUntil.Sub(st.Release.Issued) / 2)):
		return "the release is past half of its validity: see why `sallyport sync` no longer publishes"
	case st.Release.NotExtended != "":
		return "the extension beside the release does not hold: " + st.Release.NotExtended
	}
	return ""
}
