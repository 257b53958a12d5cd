package gatewayd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// Attempt is one client that wants a session, as its engine understood it.
// Everything in it is untrusted.
type Attempt struct {
	Protocol string // "postgres"
	Remote   string // host:port of the client
	User     string // who it says it is: agent:etl
	Target   string // connection[/review]
	Token    string // review token
	Client   string // what the client calls itself, for the record
	// Exporter derives keying material from the client's TLS connection (RFC
	// 5705); nil without TLS.
	Exporter func(label string, context []byte, length int) ([]byte, error)
}

// Begin identifies the client and finds the one review that it may use. The
// error is always *Denied, is already counted and summarised, and says what to
// do. Nothing has been dialled when Begin returns.
func (g *Gateway) Begin(ctx context.Context, a Attempt) (_ *Session, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = g.refuse(a, nil, "internal_error", "the gateway failed while it looked at this login", "tell the operator the denial id")
			g.config.Log.Error("panic in Begin", "panic", fmt.Sprint(p))
		}
	}()
	now := g.config.Now()
	if err := g.config.Journal.Err(); err != nil {
		g.config.Log.Error("login denied: the journal cannot be written", "error", err)
		return nil, g.refuse(a, nil, "recording_unavailable", "sessions cannot be recorded now, so none is opened", "tell the operator: gatewayd status says why")
	}
	current := g.state.Load()
	if current == nil {
		return nil, g.refuse(a, nil, "no_release", "the gateway has no release yet", "tell the operator: gatewayd status says why")
	}
	if d := g.staleRelease(current, now); d != nil {
		return nil, g.refuse(a, current, d.Rule, d.Reason, d.Next)
	}
	granted, d := g.identify(current, a, now)
	if d != nil {
		return nil, g.refuse(a, current, d.Rule, d.Reason, d.Next)
	}
	if limit := granted.review.Document.Spec.Limits.Sessions; limit > 0 {
		g.counting.Lock() // until the session is registered, or two could take the last place
		defer g.counting.Unlock()
		if n := g.sessionsOf(granted.review.Name); n >= limit {
			return nil, g.refuse(a, current, "session_count_limit", fmt.Sprintf("%d sessions of review %s are open, and it allows %d at once", n, granted.review.Name, limit),
				"close one, or wait until one has ended")
		}
	}
	s, err := g.open(ctx, current, a, granted, now)
	if err != nil {
		g.config.Log.Error("login denied: the session cannot be recorded", "error", err)
		return nil, g.refuse(a, current, "recording_unavailable", "the session cannot be recorded, so it is not opened", "tell the operator: gatewayd status says why")
	}
	return s, nil
}

// grant is what a session stands on: one principal, one connection, one review.
type grant struct {
	principal  *release.Principal
	key        string // fingerprint of the key that signed the token
	connection *release.Connection
	review     *release.Review
}

// identify turns a token into a grant. The order matters: nothing about
// connections and reviews is told to a client that has not proved who it is.
func (g *Gateway) identify(st *state, a Attempt, now time.Time) (*grant, *Denied) {
	r := st.release
	name, wanted, _ := strings.Cut(a.Target, "/")
	challenge := func(rule, format string, args ...any) *Denied {
		return &Denied{Rule: rule, Reason: fmt.Sprintf(format, args...), Next: g.next(r, a.User, name)}
	}
	if a.Token == "" {
		return nil, challenge("token_missing", "no review token was given as the password")
	}
	claims, err := identity.Verify(a.Token, identity.VerifyOptions{
		Keys:     func(principal string) []reviews.Key { return keysOf(r, principal) },
		Gateway:  g.config.Fingerprint,
		Exporter: a.Exporter,
		Now:      now,
	})
	if err != nil {
		return nil, challenge(identity.Rule(err), "the review token was refused: %v", err)
	}
	if claims.Principal != a.User {
		return nil, challenge("token_foreign", "the token is of %s, the login says %s", claims.Principal, a.User)
	}
	if claims.Connection != name {
		return nil, challenge("token_foreign", "the token is for connection %s, the login asks for %s", claims.Connection, name)
	}
	principal := r.Principals[claims.Principal]
	connection := r.Connections[name]
	if connection == nil {
		return nil, challenge("connection_unknown", "there is no connection %s in the current release", name)
	}
	if got := connection.Document.Spec.Protocol; got != a.Protocol {
		return nil, challenge("connection_unknown", "connection %s speaks %s, not %s", name, got, a.Protocol)
	}
	review, d := g.pick(connection, claims, wanted, challenge)
	if d != nil {
		return nil, d
	}
	if d := usable(connection, review, claims.Principal, now, challenge); d != nil {
		return nil, d
	}
	return &grant{principal: principal, key: claims.Key, connection: connection, review: review}, nil
}

// pick finds the one review that the token and the database name agree on.
func (g *Gateway) pick(c *release.Connection, claims *identity.Claims, wanted string, challenge func(rule, format string, args ...any) *Denied) (*release.Review, *Denied) {
	if wanted != "" && claims.Review != "" && claims.Review != c.Name+"/"+wanted {
		return nil, challenge("token_foreign", "the token names review %s, the login asks for %s/%s", claims.Review, c.Name, wanted)
	}
	if claims.Review == "" {
		return only(c, claims.Principal, wanted, challenge)
	}
	review := c.Review(claims.Review)
	if review == nil || review.Document.Spec.Subject != claims.Principal {
		return nil, challenge("review_missing", "review %s is not in the current release for %s", claims.Review, claims.Principal)
	}
	if review.SHA256 != claims.ReviewSHA256 {
		return nil, challenge("review_superseded", "review %s has changed since the token was made; fetch the access repo and make a new token", review.Name)
	}
	return review, nil
}

// only finds the review of a token that names none: there must be exactly one
// candidate, or the database name must choose.
func only(c *release.Connection, principal, wanted string, challenge func(rule, format string, args ...any) *Denied) (*release.Review, *Denied) {
	var names []string
	for _, r := range c.Candidates(principal) {
		if wanted == "" || r.Name == c.Name+"/"+wanted {
			names = append(names, r.Name)
		}
	}
	switch len(names) {
	case 0:
		return nil, challenge("review_missing", "no review lets %s use %s", principal, c.Name)
	case 1:
		return c.Review(names[0]), nil
	}
	d := challenge("review_ambiguous", "%s has %d reviews on %s: %s", principal, len(names), c.Name, strings.Join(names, ", "))
	d.Next = "choose one, as the database name or with: sallyport connect " + names[0] // access is there, so nothing is to be asked for
	return nil, d
}

// usable says whether the review may be used at this moment.
func usable(c *release.Connection, r *release.Review, principal string, now time.Time, challenge func(rule, format string, args ...any) *Denied) *Denied {
	v := r.Document.Spec.Validity
	switch maxAge := time.Duration(c.Document.Spec.Review.MaxAge); {
	case now.Before(v.NotBefore):
		return challenge("review_not_yet_valid", "review %s begins at %s", r.Name, v.NotBefore.Format(time.RFC3339))
	case !now.Before(v.Expires):
		return challenge("review_expired", "review %s expired at %s", r.Name, v.Expires.Format(time.RFC3339))
	case maxAge > 0 && now.Sub(r.ApprovedAt) > maxAge:
		return challenge("review_stale", "review %s was approved at %s, and %s wants approvals younger than %s", r.Name, r.ApprovedAt.Format(time.RFC3339), c.Name, maxAge)
	}
	return nil
}

func keysOf(r *release.Release, principal string) []reviews.Key {
	if p := r.Principals[principal]; p != nil {
		return p.Keys
	}
	return nil
}

// next is the way forward for a principal without a usable review.
func (g *Gateway) next(r *release.Release, principal, connection string) string {
	if connection == "" {
		connection = "CONNECTION"
	}
	return g.config.RequestCommand(r.Config.Spec, principal, connection)
}

func (g *Gateway) staleRelease(st *state, now time.Time) *Denied {
	if until := st.release.Until; !now.Before(until) {
		return &Denied{Rule: "release_expired",
			Reason: "the release expired at " + until.UTC().Format(time.RFC3339) + ", so everything is denied",
			Next:   "tell the operator: gatewayd status says why no newer one came"}
	}
	return nil
}

// refuse counts, journals and summarises a denied login.
func (g *Gateway) refuse(a Attempt, st *state, rule, reason, next string) *Denied {
	d := &Denied{ID: newID("d-", 4), Rule: rule, Reason: reason, Next: next}
	now := g.config.Now()
	connection, _, _ := strings.Cut(a.Target, "/")
	sum := record.Summary{
		Session: newID("a-", 8), Protocol: a.Protocol,
		Principal: clip(a.User), Connection: clip(connection), Remote: a.Remote,
		Started: now, Ended: now, End: "denied", Denied: 1,
		Denials: []record.Denial{{ID: d.ID, Time: now, Rule: rule, Reason: reason}},
	}
	if st != nil {
		sum.Release, sum.ReleaseDigest, sum.ReleaseCommit = st.release.Envelope.Sequence, st.release.Digest, st.release.Envelope.Commit
	}
	sum, err := g.config.Journal.Denied(sum)
	if err != nil {
		g.config.Log.Error("a denied login could not be journalled", "denial", d.ID, "error", err)
	}
	g.config.Summaries(sum)
	g.count(rule)
	g.config.Log.Warn("login denied", "denial", d.ID, "rule", rule, "principal", sum.Principal, "connection", sum.Connection, "remote", a.Remote)
	return d
}

func (g *Gateway) count(rule string) {
	g.denied.Add(1)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.denials[rule]++
}

// clip bounds and cleans a name that an unauthenticated client chose before it is recorded.
func clip(s string) string {
	const most = 128
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return '?'
		}
		return r
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
