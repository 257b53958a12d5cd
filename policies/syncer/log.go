package syncer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

const (
	waitingFolder = "waiting"  // of the state folder: releases on their way to the log
	logFolder     = "releases" // of the audit branch

	// One commit to the log holds no more than this.
	maxLogged      = 64
	maxLoggedBytes = 64 << 20

	logRetry    = time.Second
	maxLogRetry = time.Minute
)

// releaseLog brings every release that was published to the audit branch, in
// order. It never holds a publication up: what the audit repository does not
// take now waits in the state folder.
type releaseLog struct {
	dir  string
	now  func() time.Time
	log  *slog.Logger
	wake chan struct{}

	mu      sync.Mutex
	audit   *auditBranch // nil: nothing is kept
	waiting int
	failed  string // why the last attempt failed
}

func openLog(opt Options) (*releaseLog, error) {
	l := &releaseLog{dir: filepath.Join(opt.StateDir, waitingFolder), now: opt.Now, log: opt.Log, wake: make(chan struct{}, 1)}
	list, err := l.list()
	l.waiting = len(list)
	return l, err
}

// list are the names of the waiting files, the oldest release first.
func (l *releaseLog) list() ([]string, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil && !isMissing(err) {
		return nil, fmt.Errorf("log of releases: %w", err)
	}
	var names []string
	for _, e := range entries {
		if sequenceOf(e.Name()) > 0 {
			names = append(names, e.Name())
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(sequenceOf(a), sequenceOf(b)) })
	return names, nil
}

// sequenceOf is that of "12.json", 0 for any other name.
func sequenceOf(name string) int64 {
	text, isJSON := strings.CutSuffix(name, ".json")
	n, err := strconv.ParseInt(text, 10, 64)
	if !isJSON || err != nil || strconv.FormatInt(n, 10) != text {
		return 0
	}
	return n
}

// keep puts a published release among the waiting ones unless it, or a later one,
// was kept before. It returns the sequence kept last.
func (l *releaseLog) keep(signed []byte, last int64) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.audit == nil {
		return last, nil
	}
	sequence := sequenceIn(signed)
	if sequence <= last {
		return last, nil
	}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return last, err
	}
	if err := writeDurably(filepath.Join(l.dir, strconv.FormatInt(sequence, 10)+".json"), signed); err != nil {
		return last, err
	}
	l.waiting++
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return sequence, nil
}

// sequenceIn is what a signed release says its sequence is. Nothing is verified:
// the number serves only to count on from, and to name a file.
func sequenceIn(signed []byte) int64 {
	var s struct {
		Payload []byte `json:"payload"`
	}
	var e struct {
		Sequence int64 `json:"sequence"`
	}
	if json.Unmarshal(signed, &s) != nil || json.Unmarshal(s.Payload, &e) != nil {
		return 0
	}
	return min(max(e.Sequence, 0), math.MaxInt64-1)
}

// status is how many releases wait, and why.
func (l *releaseLog) status() (waiting int, failed string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting, l.failed
}

func (l *releaseLog) use(a *auditBranch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.audit = a
}

// flush commits what waits, oldest first, until nothing does or a commit fails.
func (l *releaseLog) flush(ctx context.Context) error {
	err := l.commitAll(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	list, listErr := l.list()
	err = errors.Join(err, listErr)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = len(list)
	before := l.failed
	l.failed = ""
	if err != nil {
		l.failed = err.Error()
	}
	switch {
	case err != nil && l.failed != before:
		l.log.Warn("releases wait to be committed to the audit branch", "waiting", l.waiting, "reason", err)
	case err == nil && before != "":
		l.log.Info("the audit branch has all releases again")
	}
	return err
}

func (l *releaseLog) commitAll(ctx context.Context) error {
	l.mu.Lock()
	audit := l.audit
	l.mu.Unlock()
	if audit == nil {
		return nil
	}
	for {
		names, files, err := l.batch()
		if err != nil || len(names) == 0 {
			return err
		}
		if err := l.commit(ctx, audit, names, files); err != nil {
			return err
		}
		for _, name := range names {
			if err := os.Remove(filepath.Join(l.dir, name)); err != nil {
				return err
			}
		}
	}
}

// batch reads the oldest of what waits.
func (l *releaseLog) batch() (names []string, files [][]byte, err error) {
	list, err := l.list()
	if err != nil {
		return nil, nil, err
	}
	size := 0
	for _, name := range list {
		b, err := os.ReadFile(filepath.Join(l.dir, name))
		if err != nil {
			return nil, nil, err
		}
		if size += len(b); len(names) == maxLogged || len(names) > 0 && size > maxLoggedBytes {
			break
		}
		names, files = append(names, name), append(files, b)
	}
	return names, files, nil
}

// commit adds releases to the log. Where a name is taken by something else,
// which sync never put there, the release goes beside it under a name of its own.
func (l *releaseLog) commit(ctx context.Context, audit *auditBranch, names []string, contents [][]byte) error {
	message := "audit: release " + strings.TrimSuffix(names[0], ".json")
	if n := len(names); n > 1 {
		message = "audit: releases " + strings.TrimSuffix(names[0], ".json") + " to " + strings.TrimSuffix(names[n-1], ".json")
	}
	files := map[string][]byte{}
	for i, name := range names {
		files[logFolder+"/"+name] = contents[i]
	}
	err := audit.add(ctx, message, files, l.now(), nil)
	if !errors.Is(err, gitrepo.ErrExists) {
		return err
	}
	l.log.Error("the log of releases on the audit branch holds what this sync did not write: find out who did", "reason", err)
	for i, name := range names {
		err := audit.add(ctx, message, map[string][]byte{logFolder + "/" + name: contents[i]}, l.now(), nil)
		if errors.Is(err, gitrepo.ErrExists) {
			beside := strings.TrimSuffix(name, ".json") + "." + digest(contents[i])[:16] + ".json"
			err = audit.add(ctx, message, map[string][]byte{logFolder + "/" + beside: contents[i]}, l.now(), nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// follow flushes whenever a release was kept, and again with growing distance
// while that fails, until ctx ends.
func (l *releaseLog) follow(ctx context.Context) {
	retry := logRetry
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-again.C:
		}
		if l.flush(ctx) == nil {
			retry = logRetry
			continue
		}
		again.Reset(retry)
		retry = min(2*retry, maxLogRetry)
	}
}

// learned is what the log says to a sync that has no state.
type learned struct {
	sequence int64           // highest of all releases
	commit   string          // that it was of, "" without one
	taken    []release.Taken // in no order
}

// learn reads the log. Only releases of this branch are believed, and only of
// keys that a believer believes. The line is that of the access repo, oldest first.
func (s *Syncer) learn(ctx context.Context, files fs.FS, line []*gitrepo.Commit) (learned, error) {
	var known learned
	if files == nil {
		return known, nil
	}
	entries, err := fs.ReadDir(files, logFolder)
	if err != nil && !isMissing(err) {
		return known, fmt.Errorf("log of releases: %w", err)
	}
	b := &believer{s: s, line: line}
	refuse := func(name string, why error) {
		s.log.Warn("a release of the log is not believed", "file", name, "reason", why)
	}
	for _, e := range entries {
		name := logFolder + "/" + e.Name()
		text, err := fs.ReadFile(files, name)
		if err != nil {
			s.log.Warn("not a release of the log", "file", name, "reason", err)
			continue
		}
		envelope, key, err := release.Logged(text)
		if err == nil && envelope.Ref != "refs/heads/"+s.opt.Branch {
			err = fmt.Errorf("it is of %s", envelope.Ref)
		}
		if err != nil {
			refuse(name, err)
			continue
		}
		b.entries = append(b.entries, entry{name, envelope, key})
	}
	believed, why, err := b.believed(ctx)
	for name, reason := range why {
		refuse(name, reason)
	}
	for _, e := range believed {
		if e.envelope.Sequence > known.sequence {
			known.sequence, known.commit = e.envelope.Sequence, e.envelope.Commit
		}
		known.taken = append(known.taken, e.envelope.Taken...)
	}
	return known, err
}

// newer is what the log tells a state that it is older than: somebody put back a copy
// of it, or another sync publishes as well. It is asked once, as soon as it can be.
func (s *Syncer) newer(ctx context.Context, head string) error {
	if s.caughtUp || s.audit == nil || s.state.Commit == "" {
		return nil
	}
	if err := s.audit.fetch(ctx); err != nil {
		s.log.Warn("the log of releases cannot be read, so nobody can say whether this state is the newest: make it reachable", "error", err)
		return nil
	}
	var entries []fs.DirEntry
	if files := s.audit.files(); files != nil {
		var err error
		if entries, err = fs.ReadDir(files, logFolder); err != nil && !isMissing(err) {
			return fmt.Errorf("log of releases: %w", err)
		}
	}
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return sequenceOf(e.Name()) > s.state.Sequence }) {
		line, err := s.mirror.FirstParents(ctx, head, "")
		if err != nil {
			return err
		}
		known, err := s.learn(ctx, s.audit.files(), line)
		if err != nil {
			return err
		}
		if err := s.behindLog(ctx, known, head, line, s.rewindAt); err != nil {
			return err
		}
		s.state.Sequence = max(s.state.Sequence, known.sequence)
	}
	s.caughtUp = true
	return nil
}

// behindLog refuses a branch that does not continue the commit of the newest release of
// the log, as continues does for that of the state, unless the root's members ordered that.
func (s *Syncer) behindLog(ctx context.Context, known learned, head string, line []*gitrepo.Commit, ordered func(head string) (*reviews.Rewind, error)) error {
	on := func(commit string) bool {
		return slices.ContainsFunc(line, func(c *gitrepo.Commit) bool { return c.ID == commit })
	}
	if known.commit == "" || on(known.commit) {
		return nil
	}
	order, err := ordered(head)
	switch {
	case err == nil && order.Spec.From == known.commit && on(order.Spec.To):
		return nil
	case err == nil:
		err = fmt.Errorf("%s goes on from %s to %s", reviews.RewindPath, order.Spec.From, order.Spec.To)
	}
	if now, failed := s.mirror.RemoteHead(ctx, s.opt.Branch); failed != nil || now != head {
		return errors.Join(errors.New("the log of releases tells of a newer commit than the branch did: it is asked again"), failed)
	}
	return &rewoundError{known.commit, fmt.Errorf("%w: branch %s of %s is at %s, which does not continue commit %s, of which release %d was published, as its log on the audit branch says; this state is older, or empty: put the branch back to a commit that continues that one, or have the rewind signed (sallyport accept-rewind --from %s): %w",
		ErrRollback, s.opt.Branch, s.mirror.Remote(), head, known.commit, known.sequence, known.commit, err)}
}

// recall fills an empty state with what the log knows about the commits of a
// first-parent line, oldest first: each was first seen when the earliest round
// that reached it was.
func (st *state) recall(known learned, line []*gitrepo.Commit) {
	st.Sequence = max(st.Sequence, known.sequence)
	st.Sightings = map[string]time.Time{}
	reached := map[string]time.Time{}
	for _, t := range known.taken {
		what := reached
		key := t.Commit
		if t.Attestation != "" {
			what, key = st.Seen, t.Attestation
		}
		if at, is := what[key]; !is || t.At.Before(at) {
			what[key] = t.At
		}
	}
	var at time.Time
	for _, c := range slices.Backward(line) {
		if t, is := reached[c.ID]; is && (at.IsZero() || t.Before(at)) {
			at = t
		}
		if !at.IsZero() {
			st.Sightings[c.ID] = at
		}
	}
}
