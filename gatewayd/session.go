package gatewayd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// Session is one authenticated connection of one principal to one connection
// under exactly one review. An engine uses it in this order, many commands
// overlapping where its protocol allows that:
//
//	plan, err := s.Plan(statement, classify)   // decide, cached
//	command, err := s.Start(ctx, plan, args)   // recheck now, append to the journal
//	err = s.Barrier(ctx)                       // durable: now, and only now, write to the target
//	command.Output("rows", text)               // before the bytes go to the client
//	command.End(result)                        // exactly once
//	s.End(cause)
//
// Its methods may be called from several goroutines.
type Session struct {
	id      string
	gateway *Gateway
	attempt Attempt
	started time.Time
	masks   []reviews.Mask // the connection's and the review's; a change of them cuts the session
	journal *record.Session

	ctx    context.Context
	cancel context.CancelCauseFunc

	// grant is replaced when a release brings newer bytes of the review that
	// still allow all this session has done.
	grant atomic.Pointer[grant]

	// gate orders the start of commands and the judgement of a new release.
	gate     sync.Mutex
	used     map[string]policies.Command // what it has run, by effects; guarded by gate
	overflow bool                        // more kinds of command than used remembers; guarded by gate

	ended       atomic.Bool
	commands    atomic.Int64
	rows, bytes atomic.Int64 // received, against the limits

	activity sync.Mutex
	running  int       // commands that have not ended; guarded by activity
	idleFrom time.Time // when the last one ended, or the session began; guarded by activity
}

const (
	planCacheSize = 8192     // also of decisions
	planTextLimit = 16 << 10 // longer statements are planned each time
	usedLimit     = 1024
)

// open starts the session's record and registers it.
func (g *Gateway) open(ctx context.Context, st *state, a Attempt, gr *grant, now time.Time) (*Session, error) {
	s := &Session{
		id: newID("s-", 8), gateway: g, attempt: a, started: now, idleFrom: now,
		masks: gr.review.Document.Masks(gr.connection.Document),
		used:  map[string]policies.Command{},
	}
	header := record.Header{
		Session: s.id, Gateway: g.config.Name, Protocol: a.Protocol,
		Principal: gr.principal.Name, Owner: gr.principal.Owner, Connection: gr.connection.Name,
		Remote: a.Remote, Client: clip(a.Client),
		Review: gr.review.Name, ReviewSHA256: gr.review.SHA256, ReviewCommit: gr.review.Commit, Approvers: gr.review.Approvers,
		Release: st.release.Envelope.Sequence, ReleaseDigest: st.release.Digest, ReleaseCommit: st.release.Envelope.Commit,
		Started: now,
	}
	for _, m := range s.masks {
		header.Masks = append(header.Masks, m.Names()+" with "+m.How())
	}
	journal, err := g.config.Journal.Begin(header)
	if err != nil {
		return nil, err
	}
	s.journal = journal
	s.grant.Store(gr)
	s.ctx, s.cancel = context.WithCancelCause(ctx)

	g.mu.Lock()
	g.sessions[s.id] = s
	g.mu.Unlock()
	g.opened.Add(1)
	// A swap between Begin's look at the state and this line has not seen this session.
	if latest := g.state.Load(); latest != st {
		s.reconsider(latest, now)
	}
	g.config.Log.Info("session opened", "session", s.id, "principal", gr.principal.Name, "connection", gr.connection.Name, "review", gr.review.Name, "remote", a.Remote)
	return s, nil
}

// ID is the session's name in recordings, logs and summaries.
func (s *Session) ID() string { return s.id }

// Context ends with the session. Its cause is a *Cut when the gateway ended it.
func (s *Session) Context() context.Context { return s.ctx }

// Connection is the target as the release describes it.
func (s *Session) Connection() *release.Connection { return s.grant.Load().connection }

// Principal is who logged in.
func (s *Session) Principal() string { return s.grant.Load().principal.Name }

// Masks are all masks of the session: the connection's first, then the review's. They never change while it lives.
func (s *Session) Masks() []reviews.Mask { return s.masks }

// Credential is the gateway's own credential for the target.
func (s *Session) Credential(ctx context.Context) (credential.Secret, error) {
	return s.gateway.config.Credentials.Resolve(ctx, s.Connection().Document.Spec.Credential)
}

// Limits are those of the review as it is now.
func (s *Session) Limits() reviews.Limits { return s.grant.Load().review.Document.Spec.Limits }

// Unreadable tells operators which masks make relations of the connection
// unreadable, as the target is now; none when all is well.
func (s *Session) Unreadable(problems []string) {
	c := s.Connection()
	s.gateway.unreadable(c.Name, c.Digest, problems)
}

// Event records something about the session that is not a command.
func (s *Session) Event(kind, text string) error { return s.journal.Event(kind, text) }

// Statement is one command as the client sent it.
type Statement struct {
	Text string
	// Scope is everything else that decides what Text means at the target: the
	// catalog's fingerprint, the search path, temporary tables, prepared names.
	Scope string
}

// Understood is what an engine makes of a statement.
type Understood struct {
	Command  policies.Command
	Recorded string // the statement as it may be recorded: secrets digested
	Sent     string // the rewritten statement likewise; "" when it goes out unchanged
	Payload  any    // the engine's own; never changed after this
	Lookups  int    // values of masked columns that rows are looked up by
}

// Classifier understands a statement. It must be a pure function of the
// statement, its scope and the session's masks, because its result is cached.
type Classifier func(text string) Understood

// Plan is an understood and decided statement. Immutable; shared by sessions.
type Plan struct {
	Understood
	statement Statement
	effects   string // effectsKey of the command
	state     *state
	review    string // sha256
	decision  policies.Decision
}

type planKey struct {
	state     *state
	principal string
	review    string // sha256 of the review's bytes, which name connection and subject
	statement Statement
}

// decisionKey is all that a decision depends on when no rule reads time or the statement's text.
type decisionKey struct {
	state     *state
	principal string
	review    string // sha256
	protocol  string
	effects   string
}

// Plan understands and decides a statement under the current release. The
// error is *Denied, already in the journal. Plans are cached by state, review,
// statement and scope.
func (s *Session) Plan(st Statement, classify Classifier) (plan *Plan, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.gateway.config.Log.Error("panic in Plan", "session", s.id, "panic", fmt.Sprint(p))
			plan, err = nil, s.deny(Understood{Recorded: "(not recorded: the gateway failed while reading it)"}, s.gateway.state.Load(), policies.Decision{Rule: "internal_error", Reason: "the gateway failed while it looked at this statement"})
		}
	}()
	current := s.gateway.state.Load()
	gr := s.grant.Load()
	key := planKey{state: current, principal: gr.principal.Name, review: gr.review.SHA256, statement: st}
	plan, found := s.gateway.plans.Get(key)
	if !found {
		plan = &Plan{Understood: classify(st.Text), statement: st, state: current, review: gr.review.SHA256}
		plan.effects = effectsKey(plan.Command)
		plan.decision = s.decide(current, gr, plan.Command, plan.effects)
		if len(st.Text) <= planTextLimit && (plan.decision.Verdict == policies.Allow || lasts(plan.decision, current)) {
			s.gateway.plans.Add(key, plan)
		}
	}
	if plan.decision.Verdict != policies.Allow {
		return nil, s.deny(plan.Understood, current, plan.decision)
	}
	return plan, nil
}

// decide asks the policy; whatever goes wrong is a denial. Answers are cached
// where they depend on the command's effects alone.
func (s *Session) decide(st *state, gr *grant, c policies.Command, effects string) policies.Decision {
	if c.Refusal != nil {
		return policies.Decision{Rule: c.Refusal.Rule, Reason: c.Refusal.Reason}
	}
	policy := st.release.Policy
	key := decisionKey{st, gr.principal.Name, gr.review.SHA256, c.Protocol, effects}
	lasting := !policy.TimeDependent() && !policy.ReadsStatement()
	if lasting {
		if d, found := s.gateway.decisions.Get(key); found {
			return d
		}
	}
	d, err := policy.Decide(s.ctx, policies.Input{
		Now: s.gateway.config.Now(), Principal: gr.principal.Name,
		Connection: gr.connection.JSON, Review: gr.review.JSON, Command: c,
	})
	if err != nil {
		s.gateway.config.Log.Error("policy error, denied", "session", s.id, "error", err)
		return policies.Decision{Rule: policies.RulePolicyError, Reason: "the policy could not be evaluated, so the answer is deny"}
	}
	if d.Verdict == policies.Hold {
		d = policies.Decision{Rule: "hold_unsupported", Reason: d.Reason + ": holds are not supported yet, so the answer is deny"}
	}
	if lasting {
		s.gateway.decisions.Add(key, d)
	}
	return d
}

// lasts reports whether a denial is the same as long as the state is: no rule
// reads the time, and it is none for want of an answer. Start asks again about what is allowed.
func lasts(d policies.Decision, st *state) bool {
	return d.Rule != policies.RulePolicyError && !st.release.Policy.TimeDependent()
}

// Args are what a command is run with beside its text.
type Args struct {
	Parameters []string // as they may be recorded
}

// Start rechecks a plan at this moment, under the release that is current now,
// and appends the command to the journal. The error is *Denied. After Start the
// engine calls Barrier and then, not before, writes to the target.
func (s *Session) Start(ctx context.Context, p *Plan, a Args) (*Command, error) {
	current, decision := s.admit(p)
	if decision.Verdict != policies.Allow {
		return nil, s.deny(p.Understood, current, decision)
	}
	n, err := s.journal.Command(s.entry(p.Understood, current, decision, a, ""))
	if err != nil {
		s.gateway.config.Log.Error("command denied: it cannot be recorded", "session", s.id, "error", err)
		return nil, s.deny(p.Understood, current, policies.Decision{Rule: "recording_unavailable", Reason: "the command cannot be recorded, so it is not run"})
	}
	s.commands.Add(1)
	s.gateway.allowed.Add(1)
	s.activity.Lock()
	s.running++
	s.activity.Unlock()
	return &Command{session: s, n: n, room: true}, nil
}

// admit decides a plan now. It holds the gate, as reconsider does, so that a
// command is either among those that a new release is asked about or is decided
// under that release: none slips between.
func (s *Session) admit(p *Plan) (*state, policies.Decision) {
	s.gate.Lock()
	defer s.gate.Unlock()
	current, gr, now := s.gateway.state.Load(), s.grant.Load(), s.gateway.config.Now()
	if cause := context.Cause(s.ctx); cause != nil {
		return current, cutDecision(cause)
	}
	if c := s.overdue(now); c != nil {
		s.cut(c)
		return current, cutDecision(c)
	}
	if d := s.gateway.staleRelease(current, now); d != nil {
		return current, policies.Decision{Rule: d.Rule, Reason: d.Reason}
	}
	decision := p.decision
	if p.state != current || p.review != gr.review.SHA256 || current.release.Policy.TimeDependent() {
		decision = s.decide(current, gr, p.Command, p.effects)
	}
	if decision.Verdict == policies.Allow && p.Lookups > 0 {
		if limit := lookupLimit(gr.review.Document.Spec.Limits); !s.gateway.takeLookups(gr.review.Name, int64(p.Lookups), limit, now) {
			decision = policies.Decision{Rule: "lookup_limit", Reason: fmt.Sprintf("the review allows %d values of masked columns to be looked up in an hour", limit)}
		}
	}
	if decision.Verdict == policies.Allow {
		s.remember(p)
	}
	return current, decision
}

func cutDecision(cause error) policies.Decision {
	if c := (*Cut)(nil); errors.As(cause, &c) {
		return policies.Decision{Rule: c.Rule, Reason: c.Reason}
	}
	return policies.Decision{Rule: "session_ended", Reason: "the session has ended"}
}

// Barrier returns when everything appended so far is durable, as the journal's
// durability setting defines it. An error means: forward nothing.
func (s *Session) Barrier(ctx context.Context) error {
	if err := context.Cause(s.ctx); err != nil {
		return err
	}
	if err := s.journal.Barrier(ctx); err != nil {
		cut := &Cut{Rule: "recording_unavailable", Reason: "the session can no longer be recorded"}
		s.cut(cut)
		return fmt.Errorf("%w: %w", cut, err)
	}
	return nil
}

// Refuse records a denial that the engine itself found, of something that is
// not a statement: a message it does not support, a protocol error.
func (s *Session) Refuse(what, rule, reason string) *Denied {
	return s.deny(Understood{Recorded: what}, s.gateway.state.Load(), policies.Decision{Rule: rule, Reason: reason})
}

// deny journals and counts one refused command.
func (s *Session) deny(u Understood, st *state, d policies.Decision) *Denied {
	denied := &Denied{ID: newID("d-", 4), Rule: d.Rule, Reason: d.Reason}
	if d.Rule == "default" {
		gr := s.grant.Load()
		denied.Next = s.gateway.next(st.release, gr.principal.Name, gr.connection.Name)
	}
	s.gateway.count(ruleClass(d.Rule))
	if _, err := s.journal.Command(s.entry(u, st, policies.Decision{Verdict: policies.Deny, Rule: d.Rule, Reason: d.Reason}, Args{}, denied.ID)); err != nil {
		s.gateway.config.Log.Error("a denial could not be journalled", "session", s.id, "denial", denied.ID, "error", err)
	}
	return denied
}

func (s *Session) entry(u Understood, st *state, d policies.Decision, a Args, denial string) record.Command {
	return record.Command{
		Statement: u.Recorded, Parameters: a.Parameters, Effects: u.Command.Effects,
		Verdict: d.Verdict, Rule: d.Rule, Reason: d.Reason, Denial: denial,
		Release: st.release.Envelope.Sequence, ReleaseDigest: st.release.Digest,
		ReviewSHA256: s.grant.Load().review.SHA256, Sent: u.Sent,
	}
}

// remember keeps the kinds of command this session has run, so that a release
// under which one of them is denied ends the session: a cursor, a prepared
// statement or a temporary table may still carry what it read. The caller holds the gate.
func (s *Session) remember(p *Plan) {
	if _, known := s.used[p.effects]; known {
		return
	}
	if len(s.used) >= usedLimit {
		s.overflow = true
		return
	}
	s.used[p.effects] = p.Command
}

// effectsKey names the effects of a command: equal keys mean equal effects. Each
// text comes with its length, because names hold any character.
func effectsKey(c policies.Command) string {
	var b []byte
	add := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	list := func(all []string) {
		b = binary.AppendUvarint(b, uint64(len(all)))
		for _, s := range all {
			add(s)
		}
	}
	for _, e := range c.Effects {
		add(e.Verb)
		add(e.Object)
		list(e.Columns)
		add(e.Text)
		list(e.Argv)
		add(e.Resource)
		add(e.Namespace)
		add(e.Name)
	}
	return string(b)
}

// reconsider decides a live session anew under a release that has just become
// current, cuts it when it may not go on, and reports whether it did.
func (s *Session) reconsider(next *state, now time.Time) bool {
	s.gate.Lock()
	defer s.gate.Unlock()
	c := s.judge(next, now)
	if c != nil {
		s.cut(c)
	}
	return c != nil
}

// judge finds why the session must be cut under a release; nil when it goes on,
// standing on that release from then. The caller holds the gate.
func (s *Session) judge(next *state, now time.Time) *Cut {
	old := s.grant.Load()
	connection := next.release.Connections[old.connection.Name]
	if connection == nil {
		return &Cut{"connection_removed", "connection " + old.connection.Name + " is no longer in the release"}
	}
	if connection.Digest != old.connection.Digest {
		return &Cut{"connection_changed", "connection " + connection.Name + " has changed; connect again"}
	}
	principal := next.release.Principals[old.principal.Name]
	if principal == nil || !stillProven(next.release, old, now) {
		return &Cut{"principal_removed", "the key that " + old.principal.Name + " logged in with is no longer trusted"}
	}
	review := connection.Review(old.review.Name)
	if review == nil || review.Document.Spec.Subject != principal.Name {
		return &Cut{"review_removed", "review " + old.review.Name + " is no longer in the release"}
	}
	gr := &grant{principal: principal, key: old.key, proof: old.proof, connection: connection, review: review}
	if review.SHA256 != old.review.SHA256 && !slices.Equal(review.Document.Masks(connection.Document), s.masks) {
		return &Cut{"review_changed", "the masks of review " + review.Name + " have changed; connect again"}
	}
	if c := s.redecide(next, gr); c != nil {
		return c
	}
	s.grant.Store(gr)
	if review.SHA256 != old.review.SHA256 {
		if err := s.journal.Event("review_changed", "goes on under review "+review.Name+" sha256:"+review.SHA256+" of commit "+review.Commit); err != nil {
			return &Cut{"recording_unavailable", "the session can no longer be recorded"}
		}
	}
	return s.overdue(now)
}

// redecide asks the new release about everything the session has run.
func (s *Session) redecide(next *state, gr *grant) *Cut {
	if s.overflow && gr.review.SHA256 != s.grant.Load().review.SHA256 {
		return &Cut{"review_changed", "review " + gr.review.Name + " has changed, and this session ran too many kinds of statement to check each again; connect again"}
	}
	for effects, c := range s.used {
		if d := s.decide(next, gr, c, effects); d.Verdict != policies.Allow {
			return &Cut{"review_changed", "the current release no longer allows what this session did: " + d.Reason}
		}
	}
	return nil
}

// stillProven asks the release again about what the client proved at its login.
func stillProven(r *release.Release, gr *grant, now time.Time) bool {
	if gr.proof == nil {
		return hasKey(r.Principals[gr.principal.Name], gr.key, now)
	}
	_, err := identity.VerifyKey(gr.proof, gr.principal.Name, keyOptions(r, gr.principal.Name, now))
	return err == nil
}

func hasKey(p *release.Principal, fingerprint string, now time.Time) bool {
	for _, k := range p.Keys {
		key, err := k.PublicKey()
		if err == nil && ssh.FingerprintSHA256(key) == fingerprint && k.Usable(now) == nil {
			return true
		}
	}
	return false
}

// until is when the session must end by itself.
func (s *Session) until() (time.Time, *Cut) {
	gr := s.grant.Load()
	end, cut := gr.review.Document.Spec.Validity.Expires, &Cut{"review_expired", "review " + gr.review.Name + " has expired"}
	if limit := time.Duration(gr.review.Document.Spec.Limits.Session); limit > 0 && s.started.Add(limit).Before(end) {
		end, cut = s.started.Add(limit), &Cut{"session_limit", "the session reached its limit of " + limit.String()}
	}
	if maxAge := time.Duration(gr.connection.Document.Spec.Review.MaxAge); maxAge > 0 && gr.review.ApprovedAt.Add(maxAge).Before(end) {
		end, cut = gr.review.ApprovedAt.Add(maxAge), &Cut{"review_stale", "the approval of review " + gr.review.Name + " is older than " + maxAge.String()}
	}
	return end, cut
}

func (s *Session) overdue(now time.Time) *Cut {
	if gr := s.grant.Load(); gr.proof != nil && !stillProven(s.gateway.state.Load().release, gr, now) {
		return &Cut{"principal_removed", "the key or certificate that " + gr.principal.Name + " logged in with is no longer valid"}
	}
	if end, cut := s.until(); !now.Before(end) {
		return cut
	}
	limit := time.Duration(s.Limits().Idle)
	s.activity.Lock()
	defer s.activity.Unlock()
	if limit > 0 && s.running == 0 && !now.Before(s.idleFrom.Add(limit)) {
		return &Cut{"idle_limit", "the session ran nothing for " + limit.String() + ", the limit of review " + s.grant.Load().review.Name}
	}
	return nil
}

// idle notes that a command has ended.
func (s *Session) idle() {
	now := s.gateway.config.Now()
	s.activity.Lock()
	defer s.activity.Unlock()
	s.running--
	s.idleFrom = now
}

// cut ends the session's context; its engine does the rest. Only the first cause counts.
func (s *Session) cut(c *Cut) {
	if context.Cause(s.ctx) != nil {
		return
	}
	s.cancel(c)
	if err := s.journal.Event("cut", c.Error()); err != nil {
		s.gateway.config.Log.Error("a cut could not be journalled", "session", s.id, "error", err)
	}
	s.gateway.config.Log.Warn("session cut", "session", s.id, "rule", c.Rule, "principal", s.Principal(), "connection", s.Connection().Name)
}

// Cut ends the session for a reason that its engine found. Only the first cause counts.
func (s *Session) Cut(rule, reason string) { s.cut(&Cut{Rule: rule, Reason: reason}) }

// End closes the recording and hands the summary on. cause is nil when the
// client left; the context's cause wins. A second call returns an error.
func (s *Session) End(cause error) (record.Summary, error) {
	if s.ended.Swap(true) {
		return record.Summary{}, fmt.Errorf("session %s has ended already", s.id)
	}
	if c := context.Cause(s.ctx); c != nil {
		cause = c
	}
	end := "closed"
	if cut := (*Cut)(nil); errors.As(cause, &cut) {
		end = cut.Rule
	} else if cause != nil {
		end = "failed"
	}
	s.cancel(errors.New("the session has ended"))
	s.gateway.mu.Lock()
	delete(s.gateway.sessions, s.id)
	s.gateway.mu.Unlock()
	sum, err := s.journal.Close(end)
	if err != nil {
		s.gateway.config.Log.Error("a recording could not be closed; it is recovered at the next start", "session", s.id, "error", err)
		return sum, fmt.Errorf("session %s: close the recording: %w", s.id, err)
	}
	s.gateway.config.Summaries(sum)
	s.gateway.config.Log.Info("session ended", "session", s.id, "end", end, "commands", sum.Commands, "denied", sum.Denied)
	return sum, nil
}

func (s *Session) status() SessionStatus {
	gr := s.grant.Load()
	end, _ := s.until()
	return SessionStatus{ID: s.id, Principal: gr.principal.Name, Connection: gr.connection.Name, Review: gr.review.Name,
		Remote: s.attempt.Remote, Started: s.started, Until: end, Commands: s.commands.Load()}
}

// ruleClass bounds the number of different labels: rules of reviews and
// policies carry names and indexes that people chose.
func ruleClass(rule string) string {
	switch {
	case strings.HasPrefix(rule, "policies/"):
		return "owner_deny"
	case strings.HasPrefix(rule, "hold["):
		return "hold_unsupported"
	}
	return rule
}
