// Package syncer turns an access repo's branch into releases: git commits in,
// a signed release out.
//
// It takes the commits of the branch's first-parent line one by one, as they
// were merged, and remembers what each of them means for good: the highest
// sequence of every review, deleted ones included, and which signed versions
// of other documents were replaced. So it makes no difference whether it saw
// the commits as they came, in a batch, or from an empty state.
//
// Invariants: what is published was approved under trust, config and policies
// that the same commit did not change; an older signed copy never comes back
// to life; taking a grant out always works, also while trust, config or
// policies at the head are broken; a rewound branch is never followed; and
// nothing is signed again unless the remote was reached.
//
// What it is not: it does not judge statements, and gateways do not trust it
// with more than the release key.
package syncer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/forge"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// ErrRollback means that the remote's branch no longer continues the history
// that was accepted. The last release stays as it is and runs out.
var ErrRollback = errors.New("rollback_detected")

// rewoundError is an ErrRollback that says from which commit the branch went back.
type rewoundError struct {
	from string
	error
}

func (e *rewoundError) Unwrap() error { return e.error }

// DefaultEvery is how often Watch asks the remote unless told otherwise.
const DefaultEvery = time.Second

// TuneMemory is for a process that does nothing but sync: its garbage is collected
// seldom up to 1 GiB, which is enough for 100,000 reviews, and hard near it.
func TuneMemory() {
	debug.SetMemoryLimit(1 << 30)
	debug.SetGCPercent(300)
}

// Options configure a Syncer. All fields without a default are required.
type Options struct {
	Remote    string          // path or URL of the access repo
	Git       gitrepo.Options // how to reach it
	Branch    string          // default "main"
	StateDir  string          // private folder for the mirror and what was seen; keep it
	Out       release.Target  // where releases are published for gateways
	Signer    ssh.Signer      // a release key of the trust root
	TrustRoot string          // pinned sha256 of the first trust/root.yaml, 64 hex digits
	Audit     Audit           // where attestations and the log of releases are committed
	Attester  *Attester       // nil: approvals in pull requests wait
	Now       func() time.Time
	Log       *slog.Logger // default: discards
	// Wake makes Watch do a round at once, whoever sends on it and however often:
	// what a round finds does not depend on why it was made.
	Wake <-chan struct{}
}

// Audit is the repository and branch that hold what sync and gateways did.
type Audit struct {
	Remote string // "" for none
	Branch string // default "audit"
	// FromConfig takes what spec.audit of the config in force says, whenever that
	// can be read. Remote and Branch are ignored then.
	FromConfig bool
}

// Syncer follows one branch. Its methods must not be called concurrently
// with each other, except that Status may be.
type Syncer struct {
	opt    Options
	mirror *gitrepo.Mirror
	state  *state
	lock   *lock
	log    *slog.Logger

	publish publisher
	cache   *reviews.Cache
	audit   *auditBranch // nil without one
	logged  *releaseLog
	forge   *forge.Client // of the config in force, nil until it is asked

	forgeIn reviews.Forge // what forge was opened for
	reached time.Time     // when the remote last answered

	policy   *policies.Policy // of the folder with this id
	policyID string
	auto     map[string]string // its automatic approvals, by documents

	every    time.Duration // how often Watch asks the remote, 0 without it
	asked    time.Time     // when the forge was last asked about what is pending
	asking   time.Time     // since when in vain: when the last commit was taken in, or later
	limited  time.Time     // until when the forge wants no question
	caughtUp bool          // the log of releases was asked whether the state is the newest
	awaiting string        // why that is still pending
	built    *release.Cache
	past     map[string]history // by connection
	outTag   string             // of the release that lies in opt.Out
	said     string             // last error that was logged, so that a lasting one is logged once

	mu     sync.Mutex
	result Result // of the last Once, guarded by mu
}

// Result is what one round found and did.
type Result struct {
	Time       time.Time         `json:"time"`
	Commit     string            `json:"commit"`            // head of the branch as last accepted
	Good       string            `json:"good"`              // commit whose trust, config and policies are in force
	Broken     string            `json:"broken,omitempty"`  // why those of Commit are not
	Error      string            `json:"error,omitempty"`   // why the round failed
	Commits    int               `json:"commits,omitempty"` // newly processed in this round
	Published  bool              `json:"published"`         // in this round
	Sequence   int64             `json:"sequence"`          // of the newest release
	IssuedAt   time.Time         `json:"issuedAt"`
	ValidUntil time.Time         `json:"validUntil"`
	Problems   reviews.Problems  `json:"problems,omitempty"` // each closes the document that it names
	Pending    []reviews.Pending `json:"pending,omitempty"`  // merged, but the approval of its pull request is not attested yet
	Awaiting   string            `json:"awaiting,omitempty"` // why those are still pending
	Reached    time.Time         `json:"reached,omitzero"`   // when the remote last answered
	Waiting    int               `json:"waiting,omitempty"`  // releases that are not in the log on the audit branch yet
	LogError   string            `json:"logError,omitempty"` // why
	Alarms     []Alarm           `json:"alarms,omitempty"`   // what somebody has to look at, the worst first
}

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// New opens the state and locks it against a second syncer. The remote is not
// contacted yet. Close it after use.
func New(opt Options) (*Syncer, error) {
	if opt.Branch == "" {
		opt.Branch = "main"
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if err := opt.check(); err != nil {
		return nil, err
	}
	held, err := acquire(opt.StateDir)
	if err != nil {
		return nil, err
	}
	s, err := open(opt)
	if err != nil {
		return nil, errors.Join(err, held.release())
	}
	s.lock = held
	return s, nil
}

func (o Options) check() error {
	switch {
	case o.Remote == "":
		return errors.New("sync: no remote given: name the access repo's URL or path")
	case o.StateDir == "" || o.Out == nil:
		return errors.New("sync: a state folder and a place for releases are required")
	case o.Signer == nil:
		return errors.New("sync: no release key given")
	case !digestForm.MatchString(o.TrustRoot):
		return errors.New("sync: the trust root is not pinned: give the sha256 of trust/root.yaml as 64 hex digits, as `sha256sum trust/root.yaml` prints it")
	}
	return gitrepo.CheckBranch(o.Branch)
}

func open(opt Options) (*Syncer, error) {
	st, err := loadState(opt.StateDir, opt.Branch, opt.TrustRoot)
	if err != nil {
		return nil, err
	}
	mirror, err := gitrepo.Open(filepath.Join(opt.StateDir, "mirror.git"), opt.Remote, opt.Git)
	if err != nil {
		return nil, err
	}
	s := &Syncer{
		opt: opt, mirror: mirror, state: st, publish: publishRelease, cache: reviews.NewCache(), auto: map[string]string{}, built: release.NewCache(),
		log: opt.Log.With("remote", mirror.Remote(), "branch", opt.Branch), asking: opt.Now(),
	}
	if st.Published != nil {
		s.reached = st.Published.IssuedAt // nothing is signed unless the remote was reached
	}
	if s.logged, err = openLog(opt); err != nil {
		return nil, err
	}
	s.recall()
	return s, s.chooseAudit(st.Good)
}

// Close lets go of the state folder.
func (s *Syncer) Close() error { return s.lock.release() }

// Status is the result of the last round.
func (s *Syncer) Status() Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.result
}

// Once does one round: ask the remote, take in new commits, and publish a
// release when something changed or the last one is due. The error says why a
// round failed; what a document or the head's configuration does wrong is in
// the Result and no error. Both are also in status.json of the state folder.
func (s *Syncer) Once(ctx context.Context) (Result, error) {
	result, err := s.round(ctx)
	result.Time = s.opt.Now().UTC()
	result.Commit, result.Good, result.Broken = s.state.Commit, s.state.Good, s.state.Broken
	if p := s.state.Published; p != nil {
		result.Sequence, result.IssuedAt, result.ValidUntil = p.Sequence, p.IssuedAt, p.ValidUntil
		result.Problems, result.Pending = p.Problems, p.Pending
	}
	if len(result.Pending) > 0 {
		result.Awaiting = s.awaiting
	}
	if err != nil {
		result.Error = err.Error()
	}
	result.Reached = s.reached.UTC()
	result.Waiting, result.LogError = s.logged.status()
	result.Alarms = result.alarms(err)
	if ctx.Err() != nil {
		return result, err // told to stop; that is no news
	}
	s.report(result, err)
	return result, err
}

func (s *Syncer) round(ctx context.Context) (Result, error) {
	head, err := s.mirror.RemoteHead(ctx, s.opt.Branch)
	if err != nil {
		return Result{}, err
	}
	s.reached = s.opt.Now()
	var result Result
	if head != s.state.Commit || !s.mirror.Has(head) {
		fetched, err := s.mirror.Fetch(ctx, s.opt.Branch, s.state.Commit)
		if err != nil {
			return Result{}, err
		}
		after, err := s.continues(ctx, fetched)
		if err != nil {
			return Result{}, err
		}
		if err := s.newer(ctx, fetched.Head); err != nil {
			return Result{}, err
		}
		next, commits, err := s.takeIn(ctx, fetched.Head, after)
		if err != nil {
			return Result{}, err
		}
		s.state, result.Commits = next, commits
		s.asked, s.asking = time.Time{}, s.opt.Now()
		if err := s.chooseAudit(next.Good); err != nil {
			return result, errors.Join(err, next.save(s.opt.StateDir))
		}
	} else if err := s.newer(ctx, head); err != nil {
		return Result{}, err
	} else if fresh, err := s.fresh(ctx); fresh || err != nil {
		return Result{}, err
	}
	result.Published, err = s.release(ctx)
	if result.Published {
		s.keepFacts()
	}
	return result, err
}

// continues finds the accepted commit that a fetched head continues from; the
// root's members may have ordered to go on from another one. Everything else is refused.
func (s *Syncer) continues(ctx context.Context, f gitrepo.Fetched) (after string, err error) {
	switch f.Relation {
	case gitrepo.First, gitrepo.Same, gitrepo.Ahead:
		return s.state.Commit, nil
	}
	to, err := s.rewound(ctx, f.Head)
	if err == nil {
		s.log.Warn("rewind accepted: the trust root's members signed it", "from", s.state.Commit, "to", to, "head", f.Head)
		return to, nil
	}
	return "", fmt.Errorf("%w: branch %s of %s is at %s, which is %s to the accepted commit %s; the last release stays until it expires: put the branch back to a commit that continues the accepted one on its first-parent line, or have the rewind signed (sallyport accept-rewind --from %s): %w",
		ErrRollback, s.opt.Branch, s.mirror.Remote(), f.Head, f.Relation, s.state.Commit, s.state.Commit, err)
}

// rewound is the commit that a signed rewind at head says to go on from.
func (s *Syncer) rewound(ctx context.Context, head string) (string, error) {
	order, err := s.rewindAt(head)
	if err != nil {
		return "", err
	}
	if order.Spec.From != s.state.Commit {
		return "", fmt.Errorf("%s is about commit %s", reviews.RewindPath, order.Spec.From)
	}
	line, err := s.mirror.FirstParents(ctx, head, order.Spec.To)
	if err != nil {
		return "", err
	}
	if len(line) == 0 || len(line[0].Parents) == 0 || line[0].Parents[0] != order.Spec.To {
		return "", fmt.Errorf("%s goes on from %s, which is not on the first-parent line of %s", reviews.RewindPath, order.Spec.To, head)
	}
	return order.Spec.To, nil
}

// rewindAt is the rewind that stands at head, approved under the trust root in force.
func (s *Syncer) rewindAt(head string) (*reviews.Rewind, error) {
	f, err := s.newFold(head)
	if err != nil {
		return nil, err
	}
	return f.rewindAt()
}

// takeIn folds every commit of the first-parent line after one into a copy of
// the state. After a rewind that one is folded, too, as a change of what was accepted.
func (s *Syncer) takeIn(ctx context.Context, head, after string) (*state, int, error) {
	line, err := s.mirror.FirstParents(ctx, head, after)
	if err != nil {
		return nil, 0, err
	}
	if after != s.state.Commit {
		c, err := s.mirror.Commit(after)
		if err != nil {
			return nil, 0, err
		}
		line = append([]*gitrepo.Commit{c}, line...)
	}
	var known learned
	if s.state.Commit == "" {
		if known, err = s.fromLog(ctx, head, line); err != nil {
			return nil, 0, err
		}
	}
	f, err := s.newFold(head)
	if err != nil {
		return nil, 0, err
	}
	if s.state.Commit == "" {
		f.state.recall(known, line)
	}
	for _, c := range line {
		if err := f.step(ctx, c); err != nil {
			return nil, 0, fmt.Errorf("commit %s: %w", c.ID, err)
		}
	}
	if s.state.Commit == "" {
		ordered := func(string) (*reviews.Rewind, error) { return f.rewindAt() }
		if err := s.behindLog(ctx, known, head, line, ordered); err != nil {
			return nil, 0, err
		}
		s.caughtUp = true
	}
	if _, is := f.state.Sightings[head]; !is {
		f.state.Taken = append(f.state.Taken, release.Taken{Commit: head, At: f.now.UTC().Truncate(time.Second)})
	}
	f.state.Sightings = nil
	return f.state, len(line), nil
}

// wakeGap is the shortest distance of a round that was woken from the one before.
const wakeGap = 500 * time.Millisecond

// Watch does a round right away and then one every so often, until ctx ends,
// whose cause it returns. A round that fails is logged and tried again, with
// growing distance while the remote cannot be reached.
func (s *Syncer) Watch(ctx context.Context, every time.Duration) error {
	if every <= 0 {
		every = DefaultEvery
	}
	var background sync.WaitGroup
	defer background.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	background.Go(func() { s.logged.follow(ctx) })
	s.every = every
	wait, ended := every, time.Time{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.opt.Wake:
			s.askSooner()
			timer.Reset(max(0, wakeGap-time.Since(ended)))
			continue
		case <-timer.C:
		}
		r, err := s.Once(ctx)
		if ended = time.Now(); err == nil {
			wait = every
		} else {
			wait = min(2*wait, 10*every)
		}
		next := wait
		if r.Awaiting != "" && s.audit != nil && err == nil {
			next = min(next, max(attestSoon, s.askAgain().Sub(s.opt.Now())))
		}
		timer.Reset(next)
	}
}

// Flush commits the releases that wait for it to the log on the audit branch.
// Watch does so by itself.
func (s *Syncer) Flush(ctx context.Context) error {
	err := s.logged.flush(ctx)
	r := s.Status()
	r.Waiting, r.LogError = s.logged.status()
	r.Alarms = append(slices.DeleteFunc(slices.Clone(r.Alarms), func(a Alarm) bool { return a.Kind == AlarmLog }), r.behind()...)
	s.mu.Lock()
	s.result = r
	s.mu.Unlock()
	return errors.Join(err, writeStatus(s.opt.StateDir, Result{}, r))
}

// report logs what is new and keeps the result for others to read.
func (s *Syncer) report(r Result, err error) {
	s.mu.Lock()
	before := s.result
	s.result = r
	s.mu.Unlock()
	if r.Published {
		s.log.Info("release published", "sequence", r.Sequence, "commit", r.Commit, "commits", r.Commits, "validUntil", r.ValidUntil)
		for _, p := range r.Problems {
			s.log.Warn("document closed", "problem", p.Error())
		}
	}
	s.raise(before.Alarms, r.Alarms)
	if text := r.Error; text != s.said {
		s.said = text
		if err != nil {
			s.log.Error("sync failed", "error", err)
		} else {
			s.log.Info("sync works again")
		}
	}
	if err := writeStatus(s.opt.StateDir, before, r); err != nil {
		s.log.Error("status not written", "error", err)
	}
}
