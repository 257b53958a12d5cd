package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd/admin"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

const (
	batchSize  = 1000            // summaries in one commit
	maxBackoff = 5 * time.Minute // between tries while the remote is away
)

// audit carries summaries to git. Each is a file in the state folder first and
// is removed only when the commit that holds it was pushed, so that neither a
// restart nor a remote that is away for days loses one; its path in git is its
// session's, so that a batch pushed twice is the same files.
type audit struct {
	config *Config
	dir    string // waiting summaries, <session>.json
	push   func(ctx context.Context, message string, files map[string][]byte) error
	// committedFiles says of a path whether the audit branch has it.
	committedFiles func(ctx context.Context) (func(path string) bool, error)
	log            *slog.Logger

	mu        sync.Mutex
	lastError error           // guarded by mu
	committed time.Time       // guarded by mu
	conflict  error           // guarded by mu: why some of stuck are
	stuck     map[string]bool // waiting ones whose place in git holds something else; run's own
}

func newAudit(c *Config, key *gatewayKey, log *slog.Logger) (*audit, error) {
	a := &audit{config: c, dir: filepath.Join(c.State, "summaries"), log: log, stuck: map[string]bool{}}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	if c.Audit.Repository == "" {
		log.Warn("audit.repository is not set: summaries stay in the state folder", "folder", a.dir)
		return a, nil
	}
	if err := gitrepo.CheckBranch(c.Audit.Branch); err != nil {
		return nil, fmt.Errorf("audit.branch: %w", err)
	}
	who := gitrepo.Identity{Name: "sallyport gateway " + c.Name, Email: c.Name + "@gateway.sallyport.invalid"}
	open := func() (*gitrepo.Mirror, error) {
		return gitrepo.Open(filepath.Join(c.State, "audit.git"), c.Audit.Repository, gitrepo.Options{})
	}
	a.committedFiles = func(ctx context.Context) (func(string) bool, error) {
		mirror, err := open()
		if err != nil {
			return nil, err
		}
		return committedFiles(ctx, mirror, c.Audit.Branch)
	}
	a.push = func(ctx context.Context, message string, files map[string][]byte) error {
		mirror, err := open()
		if err != nil {
			return err
		}
		_, err = mirror.Add(ctx, gitrepo.Addition{
			Branch: c.Audit.Branch, Files: files, Message: message, Author: who, Time: time.Now(),
			Sign: func(m []byte) ([]byte, error) { return reviews.Sign(key.signer, reviews.NamespaceGit, m) },
		})
		return err
	}
	return a, nil
}

func committedFiles(ctx context.Context, mirror *gitrepo.Mirror, branch string) (func(string) bool, error) {
	fetched, err := mirror.Fetch(ctx, branch, "")
	if errors.Is(err, gitrepo.ErrNoBranch) {
		return func(string) bool { return false }, nil
	}
	if err != nil {
		return nil, err
	}
	commit, err := mirror.Commit(fetched.Head)
	if err != nil {
		return nil, err
	}
	tree := mirror.Tree(commit)
	return func(path string) bool { _, err := tree.Stat(path); return err == nil }, nil
}

// completeFile, in the state folder, was written when nothing was missing.
const completeFile = "audit-complete"

// complete keeps the summaries that neither wait nor are committed: a gateway
// that was killed, or could not write its state folder, has the recording of
// a session and told nobody. It looks a day further back than its last success.
func (a *audit) complete(ctx context.Context) error {
	var since time.Time
	mark := filepath.Join(a.config.State, completeFile)
	if info, err := os.Stat(mark); err == nil {
		since = info.ModTime().Add(-24 * time.Hour)
	}
	begun := time.Now()
	have, err := a.committedFiles(ctx)
	if err != nil {
		return err
	}
	for s, err := range record.Summaries(a.config.Recordings.Dir, since) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			a.log.Error("a recording cannot be read, so its summary cannot be told", "error", err)
			continue
		}
		if s.Gateway != a.config.Name || have(s.Path()) {
			continue
		}
		if err := a.write(s); err != nil {
			return err
		}
	}
	if err := writeDurably(mark, nil); err != nil {
		return err
	}
	return os.Chtimes(mark, begun, begun)
}

// keep takes a summary. It is on disk when keep returns; when that fails the
// recording still has everything, and the log says so.
func (a *audit) keep(s record.Summary) {
	if err := a.write(s); err != nil {
		a.log.Error("a summary could not be kept; the next start finds it in the recording", "session", s.Session, "error", err)
	}
}

func (a *audit) write(s record.Summary) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writeDurably(filepath.Join(a.dir, s.Session+".json"), append(b, '\n'))
}

func writeDurably(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// run commits batches until ctx ends, and once more then.
func (a *audit) run(ctx context.Context) {
	if a.push == nil {
		return
	}
	every := time.Duration(a.config.Audit.Every)
	wait := every
	completed := false
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			a.commit(last)
			return
		case <-timer.C:
		}
		if !completed {
			err := a.complete(ctx)
			if completed = err == nil; !completed {
				a.log.Warn("it is not known yet whether the audit branch lacks summaries of earlier sessions", "error", err)
			}
		}
		if a.commit(ctx) {
			wait = every
		} else {
			wait = min(2*wait, maxBackoff)
		}
		timer.Reset(wait)
	}
}

// commit pushes what waits, batch after batch, and reports whether all of it went.
func (a *audit) commit(ctx context.Context) bool {
	for {
		names, files, err := a.batch()
		if err == nil && len(names) == 0 {
			return true
		}
		if err == nil {
			err = a.push(ctx, fmt.Sprintf("audit: %d summaries of %s", len(names), a.config.Name), files)
		}
		if errors.Is(err, gitrepo.ErrExists) {
			err = a.oneByOne(ctx, files)
		}
		a.mu.Lock()
		a.lastError = err
		if err != nil && err == a.conflict {
			a.lastError = nil // status shows that one anyway
		}
		if err == nil {
			a.committed = time.Now()
		}
		a.mu.Unlock()
		if err != nil {
			a.log.Error("summaries could not be committed; they wait", "waiting", len(names), "error", err)
			return false
		}
		for _, n := range names {
			os.Remove(filepath.Join(a.dir, n))
		}
	}
}

// oneByOne finds which summaries' places in git hold something else, so that they do not
// hinder the others. They wait on, and status tells why.
func (a *audit) oneByOne(ctx context.Context, files map[string][]byte) error {
	var stuck error
	for _, path := range slices.Sorted(maps.Keys(files)) {
		err := a.push(ctx, "audit: a summary of "+a.config.Name, map[string][]byte{path: files[path]})
		switch {
		case errors.Is(err, gitrepo.ErrExists):
			name := filepath.Base(path)
			a.stuck[name] = true
			stuck = fmt.Errorf("%s of the audit branch is not what this gateway has in %s: somebody else wrote there: %w", path, filepath.Join(a.dir, name), err)
		case err != nil:
			return err
		default:
			os.Remove(filepath.Join(a.dir, filepath.Base(path)))
		}
	}
	if stuck != nil {
		a.mu.Lock()
		a.conflict = stuck
		a.mu.Unlock()
	}
	return stuck
}

// batch reads the oldest waiting summaries, and where each belongs in git.
// `sallyport verify` relies on that order to tell a delay from a loss.
func (a *audit) batch() (names []string, files map[string][]byte, err error) {
	waiting, err := a.waiting()
	if err != nil {
		return nil, nil, err
	}
	waiting = slices.DeleteFunc(waiting, func(n string) bool { return a.stuck[n] })
	files = map[string][]byte{}
	for _, n := range waiting[:min(len(waiting), batchSize)] {
		b, err := os.ReadFile(filepath.Join(a.dir, n))
		if err != nil {
			return nil, nil, err
		}
		var s record.Summary
		if err := json.Unmarshal(b, &s); err != nil {
			return nil, nil, fmt.Errorf("waiting summary %s: %w", n, err)
		}
		files[s.Path()] = b
		names = append(names, n)
	}
	return names, files, nil
}

func (a *audit) waiting() ([]string, error) {
	entries, err := os.ReadDir(a.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	kept := map[string]time.Time{}
	for _, e := range entries {
		n := e.Name()
		if !strings.HasSuffix(n, ".json") || strings.HasPrefix(n, ".") {
			continue
		}
		names = append(names, n)
		if info, err := e.Info(); err == nil {
			kept[n] = info.ModTime()
		}
	}
	slices.SortStableFunc(names, func(x, y string) int { return kept[x].Compare(kept[y]) })
	return names, nil
}

func (a *audit) status() admin.AuditStatus {
	waiting, err := a.waiting()
	a.mu.Lock()
	defer a.mu.Unlock()
	st := admin.AuditStatus{Waiting: len(waiting), Committed: a.committed}
	if err == nil {
		err = errors.Join(a.lastError, a.conflict)
	}
	if err != nil {
		st.LastError = err.Error()
	}
	return st
}
