package gatewayd_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

var start = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// world is a gateway over an access repo, with a clock that tests move.
type world struct {
	t       testing.TB
	repo    *accesstest.Repo
	gateway *gatewayd.Gateway
	journal *record.Journal
	dir     string // recordings

	mu        sync.Mutex
	now       time.Time
	summaries []record.Summary
	sequence  int64
}

const nightly = "orders-db/nightly"

func newWorld(t testing.TB) *world {
	w := &world{t: t, repo: accesstest.New(t, start), dir: t.TempDir(), now: start}
	w.repo.Connection("orders-db", "")
	w.repo.Review(nightly, 1, "agent:etl", "  allow: [{verbs: [select], on: [app.orders]}, {verbs: [update], on: [app.orders]}]\n  limits: {rows: 100}\n")
	w.repo.Seen(nightly, start.Add(-time.Hour))
	var err error
	w.journal, err = record.Open(record.Options{
		Dir: w.dir, Gateway: "gw1", Now: w.clock,
		Sign: func(m []byte) ([]byte, error) {
			return reviews.Sign(accesstest.Signer("gw1"), reviews.NamespaceCheckpoint, m)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.journal.Close() })
	store, err := credential.NewStore(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.gateway, err = gatewayd.New(gatewayd.Config{
		Name: "gw1", Fingerprint: ssh.FingerprintSHA256(accesstest.Signer("gw1").PublicKey()),
		Journal: w.journal, Credentials: store, Now: w.clock, Log: slog.New(slog.DiscardHandler),
		Summaries: func(s record.Summary) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.summaries = append(w.summaries, s)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// swap releases the repo as it is and gives the release to the gateway.
func (w *world) swap() {
	w.t.Helper()
	w.sequence++
	w.gateway.Swap(w.repo.Release(w.sequence))
}

func (w *world) claims() identity.Claims {
	now := w.clock()
	return identity.Claims{
		Principal: "agent:etl", Connection: "orders-db", Review: nightly, ReviewSHA256: w.repo.Digest(nightly),
		Gateway: ssh.FingerprintSHA256(accesstest.Signer("gw1").PublicKey()),
		Issued:  now, Expires: now.Add(time.Minute),
	}
}

func (w *world) attempt(signer string, c identity.Claims) gatewayd.Attempt {
	w.t.Helper()
	token, err := identity.Mint(accesstest.Signer(signer), c)
	if err != nil {
		w.t.Fatal(err)
	}
	return gatewayd.Attempt{Protocol: "postgres", Remote: "127.0.0.1:9", User: c.Principal, Target: c.Connection, Token: token}
}

func (w *world) login() *gatewayd.Session {
	w.t.Helper()
	s, err := w.gateway.Begin(w.t.Context(), w.attempt("agent:etl", w.claims()))
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// effects makes a classifier that understands every statement as one effect.
func effects(verb, object string) gatewayd.Classifier {
	return func(text string) gatewayd.Understood {
		return gatewayd.Understood{
			Command:  policies.Command{Protocol: "postgres", Statement: text, Effects: []policies.Effect{{Verb: verb, Object: object}}},
			Recorded: text,
		}
	}
}

// run plans and starts a command.
func run(t *testing.T, s *gatewayd.Session, verb, object string) (*gatewayd.Command, error) {
	t.Helper()
	plan, err := s.Plan(gatewayd.Statement{Text: verb + " " + object}, effects(verb, object))
	if err != nil {
		return nil, err
	}
	return s.Start(t.Context(), plan, gatewayd.Args{})
}

func wantDenied(t *testing.T, err error, rule string, says ...string) *gatewayd.Denied {
	t.Helper()
	var d *gatewayd.Denied
	if !errors.As(err, &d) {
		t.Fatalf("err = %v, want a denial by %s", err, rule)
	}
	if d.Rule != rule {
		t.Fatalf("denied by %s, want %s: %v", d.Rule, rule, err)
	}
	for _, part := range append(says, d.ID, "denial d-") {
		if !strings.Contains(d.Error(), part) {
			t.Errorf("the message does not say %q: %v", part, d)
		}
	}
	return d
}

func wantCut(t *testing.T, s *gatewayd.Session, rule string) {
	t.Helper()
	select {
	case <-s.Context().Done():
	default:
		t.Fatalf("the session goes on, want it cut by %s", rule)
	}
	var c *gatewayd.Cut
	if !errors.As(context.Cause(s.Context()), &c) || c.Rule != rule {
		t.Fatalf("cut by %v, want %s", context.Cause(s.Context()), rule)
	}
	if _, err := run(t, s, "select", "app.orders"); err == nil {
		t.Error("a command was started after the cut")
	}
	if err := s.Barrier(t.Context()); err == nil {
		t.Error("a barrier let something through after the cut")
	}
}

func TestNothingIsOpenedBeforeARelease(t *testing.T) {
	w := newWorld(t)
	_, err := w.gateway.Begin(t.Context(), w.attempt("agent:etl", w.claims()))
	wantDenied(t, err, "no_release")
	w.swap()
	w.login()
}

func TestLoginsThatMustFail(t *testing.T) {
	ask := "sallyport request orders-db --as agent:etl --repo https://git.example.com/access.git"
	for name, c := range map[string]struct {
		rule    string
		prepare func(*world, *identity.Claims, *gatewayd.Attempt)
		repo    func(*world)
		signer  string
	}{
		"no token":                   {rule: "token_missing", prepare: func(_ *world, _ *identity.Claims, a *gatewayd.Attempt) { a.Token = "" }},
		"garbage":                    {rule: "token_malformed", prepare: func(_ *world, _ *identity.Claims, a *gatewayd.Attempt) { a.Token = "hunter2" }},
		"another's key":              {rule: "token_unknown_key", signer: "agent:report"},
		"another's name":             {rule: "token_foreign", prepare: func(_ *world, _ *identity.Claims, a *gatewayd.Attempt) { a.User = "user:bob" }},
		"another connection":         {rule: "token_foreign", prepare: func(_ *world, _ *identity.Claims, a *gatewayd.Attempt) { a.Target = "other-db" }},
		"another review in the name": {rule: "token_foreign", prepare: func(_ *world, _ *identity.Claims, a *gatewayd.Attempt) { a.Target = "orders-db/other" }},
		"another gateway": {rule: "token_foreign_gateway", prepare: func(_ *world, c *identity.Claims, _ *gatewayd.Attempt) {
			c.Gateway = "SHA256:" + strings.Repeat("A", 43)
		}},
		"expired token": {rule: "token_expired", prepare: func(_ *world, c *identity.Claims, _ *gatewayd.Attempt) {
			c.Issued, c.Expires = start.Add(-5*time.Minute), start.Add(-time.Minute)
		}},
		"superseded review": {rule: "review_superseded", prepare: func(_ *world, c *identity.Claims, _ *gatewayd.Attempt) { c.ReviewSHA256 = strings.Repeat("0", 64) }},
		"no such review":    {rule: "review_missing", prepare: func(_ *world, c *identity.Claims, _ *gatewayd.Attempt) { c.Review = "orders-db/gone" }},
		"no such connection": {rule: "connection_unknown", prepare: func(_ *world, c *identity.Claims, _ *gatewayd.Attempt) {
			c.Connection, c.Review = "other-db", "other-db/nightly"
		}},
		"somebody else's review": {rule: "review_missing", signer: "agent:report", prepare: func(_ *world, c *identity.Claims, _ *gatewayd.Attempt) { c.Principal = "agent:report" }},
		"expired review": {rule: "review_expired", repo: func(w *world) {
			w.repo.Review(nightly, 2, "agent:etl", `  allow: [{verbs: [select], on: [app.orders]}]
  validity: {notBefore: "2026-11-01T00:00:00Z", expires: "2026-11-24T12:00:00Z"}
`)
		}},
		"review that has not begun": {rule: "review_not_yet_valid", repo: func(w *world) {
			w.repo.Review(nightly, 2, "agent:etl", `  allow: [{verbs: [select], on: [app.orders]}]
  validity: {notBefore: "2026-11-24T12:00:01Z", expires: "2026-12-24T12:00:00Z"}
`)
		}},
		"stale approval": {rule: "review_stale", repo: func(w *world) {
			w.repo.Connection("orders-db", "  review: {maxAge: 30m}\n")
		}},
		"another protocol": {rule: "connection_unknown", prepare: func(_ *world, _ *identity.Claims, a *gatewayd.Attempt) { a.Protocol = "ssh" }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if c.repo != nil {
				c.repo(w)
			}
			w.swap()
			claims, change := w.claims(), gatewayd.Attempt{}
			if c.prepare != nil {
				c.prepare(w, &claims, &change)
			}
			signer := c.signer
			if signer == "" {
				signer = "agent:etl"
			}
			a := w.attempt(signer, claims)
			if c.prepare != nil {
				c.prepare(w, &claims, &a)
			}
			s, err := w.gateway.Begin(t.Context(), a)
			if s != nil {
				t.Fatal("a session was opened")
			}
			d := wantDenied(t, err, c.rule)
			if a.User == "agent:etl" && strings.HasPrefix(a.Target, "orders-db") && !strings.Contains(d.Error(), ask) {
				t.Errorf("the challenge does not say how to ask: %v", d)
			}
			if strings.Contains(d.Error(), a.Token) && a.Token != "" {
				t.Errorf("the challenge shows the token: %v", d)
			}
			if len(w.summaries) != 1 || w.summaries[0].End != "denied" || w.summaries[0].Denials[0].ID != d.ID {
				t.Errorf("summaries = %+v, want one of denial %s", w.summaries, d.ID)
			}
		})
	}
}

func TestSeveralCandidatesAreListed(t *testing.T) {
	w := newWorld(t)
	w.repo.Review("orders-db/adhoc", 1, "agent:etl", "  allow: [{verbs: [select], on: [app.items]}]\n")
	w.swap()
	claims := w.claims()
	claims.Review, claims.ReviewSHA256 = "", ""
	a := w.attempt("agent:etl", claims)
	_, err := w.gateway.Begin(t.Context(), a)
	wantDenied(t, err, "review_ambiguous", "orders-db/adhoc", nightly, "sallyport connect orders-db/adhoc")
	a.Target = "orders-db/adhoc"
	s, err := w.gateway.Begin(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, s, "select", "app.orders"); err == nil {
		t.Error("the other review was used")
	}
}

func TestExpiredReleaseDeniesEverything(t *testing.T) {
	w := newWorld(t)
	w.swap()
	s := w.login()
	plan, err := s.Plan(gatewayd.Statement{Text: "x"}, effects("select", "app.orders"))
	if err != nil {
		t.Fatal(err)
	}
	w.advance(25 * time.Hour)
	_, err = s.Start(t.Context(), plan, gatewayd.Args{})
	wantDenied(t, err, "release_expired")
	_, err = w.gateway.Begin(t.Context(), w.attempt("agent:etl", w.claims()))
	wantDenied(t, err, "release_expired")
	if st := w.gateway.Status(); st.Ready || st.NextAction == "" {
		t.Errorf("status = %+v, want not ready and something to do", st)
	}
}

func TestDecisions(t *testing.T) {
	w := newWorld(t)
	w.repo.Policy("guard", "package access\n\nimport rego.v1\n\ndeny contains \"not on a Tuesday\" if {\n\tsome effect in input.command.effects\n\teffect.verb == \"update\"\n}\n")
	w.repo.Review(nightly, 2, "agent:etl", "  allow: [{verbs: [select, update], on: [app.orders]}]\n  hold: [{verbs: [delete], on: [app.orders]}]\n")
	w.swap()
	s := w.login()
	if _, err := run(t, s, "select", "app.orders"); err != nil {
		t.Fatal(err)
	}
	_, err := run(t, s, "drop", "app.orders")
	wantDenied(t, err, "default", "drop on app.orders", "sallyport request orders-db")
	_, err = run(t, s, "update", "app.orders")
	wantDenied(t, err, "policies/guard.rego", "not on a Tuesday")
	_, err = run(t, s, "delete", "app.orders")
	wantDenied(t, err, "hold_unsupported", "holds are not supported yet")
	_, err = s.Plan(gatewayd.Statement{Text: "do $$ $$"}, func(text string) gatewayd.Understood {
		return gatewayd.Understood{Command: policies.Command{Statement: text, Refusal: &policies.Refusal{Rule: "unsupported_statement", Reason: "DO is never run"}}}
	})
	wantDenied(t, err, "unsupported_statement", "DO is never run")
	_, err = s.Plan(gatewayd.Statement{Text: "boom"}, func(string) gatewayd.Understood { panic("parser") })
	wantDenied(t, err, "internal_error")
	sum, err := s.End(nil)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Allowed != 1 || sum.Denied != 5 || sum.Counts["select app.orders"] != 1 {
		t.Errorf("summary = %+v", sum)
	}
}

func TestRemovedReviewCutsItsSessionsAndNoOthers(t *testing.T) {
	w := newWorld(t)
	w.repo.Review("orders-db/report", 1, "agent:report", "  allow: [{verbs: [select], on: [app.orders]}]\n")
	w.swap()
	cut := w.login()
	claims := w.claims()
	claims.Principal, claims.Review, claims.ReviewSHA256 = "agent:report", "orders-db/report", w.repo.Digest("orders-db/report")
	stays, err := w.gateway.Begin(t.Context(), w.attempt("agent:report", claims))
	if err != nil {
		t.Fatal(err)
	}
	w.repo.Remove("reviews/" + nightly + ".yaml")
	w.swap()
	wantCut(t, cut, "review_removed")
	if _, err := run(t, stays, "select", "app.orders"); err != nil {
		t.Errorf("another review's session was disturbed: %v", err)
	}
	if sum, err := cut.End(nil); err != nil || sum.End != "review_removed" {
		t.Errorf("End = %q, %v", sum.End, err)
	}
}

func TestChangedReview(t *testing.T) {
	change := func(spec string) func(*world) {
		return func(w *world) { w.repo.Review(nightly, 2, "agent:etl", spec) }
	}
	for name, c := range map[string]struct {
		change func(*world)
		cut    string // "" when the session goes on
	}{
		"widened":               {change("  allow: [{verbs: [select, update, delete], on: [app.orders]}]\n"), ""},
		"narrowed where unused": {change("  allow: [{verbs: [select], on: [app.orders]}]\n"), ""},
		"narrowed where used":   {change("  allow: [{verbs: [update], on: [app.orders]}]\n"), "review_changed"},
		"held where used":       {change("  allow: [{verbs: [update], on: [app.orders]}]\n  hold: [{verbs: [select], on: [app.orders]}]\n"), "review_changed"},
		"masked":                {change("  allow: [{verbs: [select], on: [app.orders]}]\n  mask: [{column: app.orders.note, with: redact}]\n"), "review_changed"},
		"of another subject": {func(w *world) {
			w.repo.Review(nightly, 2, "agent:report", "  allow: [{verbs: [select], on: [app.orders]}]\n")
		}, "review_removed"},
		"expired":            {change("  allow: [{verbs: [select], on: [app.orders]}]\n  validity: {notBefore: \"2026-11-01T00:00:00Z\", expires: \"2026-11-24T11:00:00Z\"}\n"), "review_expired"},
		"connection changed": {func(w *world) { w.repo.Connection("orders-db", "  mask: [{column: app.orders.note, with: redact}]\n") }, "connection_changed"},
		"connection removed": {func(w *world) {
			w.repo.Remove("reviews/" + nightly + ".yaml")
			w.repo.Remove("connections/orders-db.yaml")
		}, "connection_removed"},
		"owner's new deny": {func(w *world) {
			w.repo.Policy("stop", "package access\n\nimport rego.v1\n\ndeny contains \"frozen\" if input.command.effects[_].verb == \"select\"\n")
		}, "review_changed"},
		"only another's review": {func(w *world) {
			w.repo.Review("orders-db/report", 1, "agent:report", "  allow: [{verbs: [select], on: [app.orders]}]\n")
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.swap()
			s := w.login()
			if _, err := run(t, s, "select", "app.orders"); err != nil {
				t.Fatal(err)
			}
			c.change(w)
			w.swap()
			if c.cut != "" {
				wantCut(t, s, c.cut)
				return
			}
			if cause := context.Cause(s.Context()); cause != nil {
				t.Fatalf("the session was cut: %v", cause)
			}
			if _, err := run(t, s, "select", "app.orders"); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A plan made under one release must not be started under the next without being decided again.
func TestPlanOfAnOlderReleaseIsDecidedAgain(t *testing.T) {
	w := newWorld(t)
	w.swap()
	s := w.login()
	plan, err := s.Plan(gatewayd.Statement{Text: "u"}, effects("update", "app.orders"))
	if err != nil {
		t.Fatal(err)
	}
	w.repo.Review(nightly, 2, "agent:etl", "  allow: [{verbs: [select], on: [app.orders]}]\n")
	w.swap()
	_, err = s.Start(t.Context(), plan, gatewayd.Args{})
	wantDenied(t, err, "default")
}

func TestTimeEndsSessions(t *testing.T) {
	for name, c := range map[string]struct {
		spec, connection string
		after            time.Duration
		rule             string
	}{
		"review expires": {spec: "  allow: [{verbs: [select], on: [app.orders]}]\n  validity: {notBefore: \"2026-11-24T00:00:00Z\", expires: \"2026-11-24T13:00:00Z\"}\n", after: time.Hour, rule: "review_expired"},
		"session limit":  {spec: "  allow: [{verbs: [select], on: [app.orders]}]\n  limits: {session: 30m}\n", after: 30 * time.Minute, rule: "session_limit"},
		"approval ages":  {spec: "  allow: [{verbs: [select], on: [app.orders]}]\n", connection: "  review: {maxAge: 90m}\n", after: 30 * time.Minute, rule: "review_stale"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.repo.Connection("orders-db", c.connection)
			w.repo.Review(nightly, 2, "agent:etl", c.spec)
			w.swap()
			s := w.login()
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			go w.gateway.Run(ctx)
			w.advance(c.after - time.Second)
			if _, err := run(t, s, "select", "app.orders"); err != nil {
				t.Fatal(err)
			}
			w.advance(time.Second)
			select {
			case <-s.Context().Done():
				wantCut(t, s, c.rule)
			case <-time.After(5 * time.Second):
				t.Fatal("the session outlived its time")
			}
			w.advance(-time.Hour) // a clock that is set back revives nothing
			wantCut(t, s, c.rule)
		})
	}
}

// Rules that read the time are asked on every command, whatever is cached.
func TestTimeDependentRulesAreNotCached(t *testing.T) {
	w := newWorld(t)
	w.repo.Policy("hours", "package access\n\nimport rego.v1\n\ndeny contains \"after hours\" if time.clock(time.parse_rfc3339_ns(input.now))[0] >= 18\n")
	w.swap()
	s := w.login()
	plan, err := s.Plan(gatewayd.Statement{Text: "x"}, effects("select", "app.orders"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Start(t.Context(), plan, gatewayd.Args{}); err != nil {
		t.Fatal(err)
	}
	w.advance(6 * time.Hour)
	_, err = s.Start(t.Context(), plan, gatewayd.Args{})
	wantDenied(t, err, "policies/hours.rego", "after hours")
}

// A denial that the time made ends with it.
func TestTimeDependentDenialIsNotCached(t *testing.T) {
	w := newWorld(t)
	w.repo.Policy("hours", "package access\n\nimport rego.v1\n\ndeny contains \"before noon\" if time.clock(time.parse_rfc3339_ns(input.now))[0] < 14\n")
	w.swap()
	s := w.login()
	_, err := s.Plan(gatewayd.Statement{Text: "x"}, effects("select", "app.orders"))
	wantDenied(t, err, "policies/hours.rego", "before noon")
	w.advance(3 * time.Hour)
	if _, err := s.Plan(gatewayd.Statement{Text: "x"}, effects("select", "app.orders")); err != nil {
		t.Error(err)
	}
}

// Commands with the same effects share a decision, unless a rule reads their text.
func TestRulesThatReadTheTextAreAskedForEachText(t *testing.T) {
	for policy, denied := range map[string]bool{
		`deny contains "no secrets" if contains(input.command.statement, "secret")`:                         true,
		`deny contains "no secrets" if { c := input.command; contains(c.statement, "secret") }`:             true,
		`deny contains "no secrets" if { some _, v in input.command; is_string(v); contains(v, "secret") }`: true,
		`deny contains "no deletes" if { some e in input.command.effects; e.verb == "delete" }`:             false,
	} {
		w := newWorld(t)
		w.repo.Policy("text", "package access\n\nimport rego.v1\n\n"+policy+"\n")
		w.swap()
		s := w.login()
		if _, err := s.Plan(gatewayd.Statement{Text: "select 'public'"}, effects("select", "app.orders")); err != nil {
			t.Fatalf("%s: %v", policy, err)
		}
		_, err := s.Plan(gatewayd.Statement{Text: "select 'secret'"}, effects("select", "app.orders"))
		if denied {
			wantDenied(t, err, "policies/text.rego", "no secrets")
		} else if err != nil {
			t.Errorf("%s: %v", policy, err)
		}
	}
}

// A column whose name looks like the list of effects of another command gets no decision of that one.
func TestHostileNamesShareNoDecision(t *testing.T) {
	w := newWorld(t)
	w.repo.Review(nightly, 2, "agent:etl", "  allow: [{verbs: [select], on: [app.orders], columns: [a, b]}]\n")
	w.swap()
	s := w.login()
	plan := func(text string, list ...policies.Effect) error {
		_, err := s.Plan(gatewayd.Statement{Text: text}, func(text string) gatewayd.Understood {
			return gatewayd.Understood{Command: policies.Command{Protocol: "postgres", Statement: text, Effects: list}}
		})
		return err
	}
	read := func(columns ...string) policies.Effect {
		return policies.Effect{Verb: "select", Object: "app.orders", Columns: columns}
	}
	if err := plan("1", read("a"), read("b")); err != nil {
		t.Fatal(err)
	}
	wantDenied(t, plan("2", read("a\nselect", "app.orders", "b")), "default")
	wantDenied(t, plan("3", read("a", "select", "app.orders", "b")), "default")
	wantDenied(t, plan("4", read("a"), read()), "default")
}

func TestRowLimitCuts(t *testing.T) {
	w := newWorld(t)
	w.swap()
	s := w.login()
	c, err := run(t, s, "select", "app.orders")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddRows(100, 1000); err != nil {
		t.Fatal(err)
	}
	if err := c.AddRows(1, 10); err == nil {
		t.Error("row 101 of 100 was let through")
	}
	wantCut(t, s, "row_limit")
}

func TestByteLimitCuts(t *testing.T) {
	w := newWorld(t)
	w.repo.Review(nightly, 2, "agent:etl", "  allow: [{verbs: [select], on: [app.orders]}]\n  limits: {bytes: 1000}\n")
	w.swap()
	s := w.login()
	c, err := run(t, s, "select", "app.orders")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddRows(1, 1000); err != nil {
		t.Fatal(err)
	}
	if err := c.AddRows(1, 1); err == nil {
		t.Error("byte 1001 of 1000 was let through")
	}
	wantCut(t, s, "byte_limit")
}

// Idle is what runs nothing: a command that has begun holds the session, and its end begins the time anew.
func TestIdleLimitCuts(t *testing.T) {
	w := newWorld(t)
	w.repo.Review(nightly, 2, "agent:etl", "  allow: [{verbs: [select], on: [app.orders]}]\n  limits: {idle: 10m}\n")
	w.swap()
	s := w.login()
	start := func() *gatewayd.Command {
		t.Helper()
		c, err := run(t, s, "select", "app.orders")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	w.advance(9 * time.Minute)
	one := start()
	w.advance(time.Hour)
	two := start()
	one.End(record.Result{Outcome: "done"})
	one.End(record.Result{Outcome: "done"}) // counts once
	w.advance(time.Hour)
	start().End(record.Result{Outcome: "done"})
	two.End(record.Result{Outcome: "done"})
	w.advance(10*time.Minute - time.Second)
	start().End(record.Result{Outcome: "done"})
	w.advance(10 * time.Minute)
	_, err := run(t, s, "select", "app.orders")
	wantDenied(t, err, "idle_limit")
	wantCut(t, s, "idle_limit")
}

func TestSessionCountLimitRefuses(t *testing.T) {
	w := newWorld(t)
	w.repo.Review(nightly, 2, "agent:etl", "  allow: [{verbs: [select], on: [app.orders]}]\n  limits: {sessions: 2}\n")
	w.swap()
	first := w.login()
	w.login()
	attempt := w.attempt("agent:etl", w.claims())
	_, err := w.gateway.Begin(t.Context(), attempt)
	wantDenied(t, err, "session_count_limit", nightly, "2 at once")
	first.Cut("drained", "test")
	if _, err := w.gateway.Begin(t.Context(), attempt); err == nil {
		t.Error("a session that is cut and has not ended left its place")
	}
	if _, err := first.End(nil); err != nil {
		t.Fatal(err)
	}
	w.login()
}

// What cannot be recorded is not run: the folder goes away under the gateway.
func TestNothingIsForwardedWithoutARecord(t *testing.T) {
	w := newWorld(t)
	w.swap()
	s := w.login()
	plan, err := s.Plan(gatewayd.Statement{Text: "x"}, effects("select", "app.orders"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(w.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.dir, nil, 0o600); err != nil { // and nobody can make it again
		t.Fatal(err)
	}
	if c, err := s.Start(t.Context(), plan, gatewayd.Args{}); err == nil {
		if err := s.Barrier(t.Context()); err == nil {
			t.Errorf("command %v may be forwarded although nothing can be recorded", c)
		}
	}
	_, err = w.gateway.Begin(t.Context(), w.attempt("agent:etl", w.claims()))
	wantDenied(t, err, "recording_unavailable")
}

// Releases come and go while commands start: every command is decided under
// the release that is current, and none starts once its review is gone.
func TestSwapsDuringCommands(t *testing.T) {
	w := newWorld(t)
	w.swap()
	with := w.repo.Release(2)
	w.repo.Remove("reviews/" + nightly + ".yaml")
	without := w.repo.Release(3)
	for range 50 {
		w.gateway.Swap(with)
		w.repo.Review(nightly, 1, "agent:etl", "  allow: [{verbs: [select], on: [app.orders]}, {verbs: [update], on: [app.orders]}]\n  limits: {rows: 100}\n")
		s := w.login()
		var group sync.WaitGroup
		for i := range 4 {
			group.Go(func() {
				for n := 0; ; n++ {
					plan, err := s.Plan(gatewayd.Statement{Text: fmt.Sprint(i, n)}, effects("select", "app.orders"))
					if err != nil {
						return
					}
					if _, err := s.Start(t.Context(), plan, gatewayd.Args{}); err != nil {
						return
					}
				}
			})
		}
		w.gateway.Swap(without)
		if context.Cause(s.Context()) == nil {
			t.Fatal("Swap returned before the session was cut")
		}
		if _, err := run(t, s, "select", "app.orders"); err == nil {
			t.Fatal("a command was started after the swap")
		}
		group.Wait()
		if _, err := s.End(nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPrincipalWhoseKeyIsGoneIsCut(t *testing.T) {
	w := newWorld(t)
	w.swap()
	s := w.login()
	w.repo.Write(reviews.PathOf(reviews.KindPrincipal, "agent:etl"), reviews.KindPrincipal, "Principal", "agent:etl", `
  owner: user:alice
  keys: [{key: "`+accesstest.PublicKey("agent:etl's next key")+`"}]
`)
	w.swap()
	wantCut(t, s, "principal_removed")
}
