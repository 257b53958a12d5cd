package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
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
	log    *slog.Logger

	mu        sync.Mutex
	lastError error     // guarded by mu
	committed time.Time // guarded by mu
}

func newAudit(c *Config, key *gatewayKey, log *slog.Logger) (*audit, error) {
	a := &audit{config: c, dir: filepath.Join(c.State, "summaries"), log: log}
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
	a.push = func(ctx context.Context, message string, files map[string][]byte) error {
		mirror, err := gitrepo.Open(filepath.Join(c.State, "audit.git"), c.Audit.Repository, gitrepo.Options{})
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

// keep takes a summary. It is on disk when keep returns; when that fails the
// recording still has everything, and the log says so.
func (a *audit) keep(s record.Summary) {
	b, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = writeDurably(filepath.Join(a.dir, s.Session+".json"), append(b, '\n'))
	}
	if err != nil {
		a.log.Error("a summary could not be kept", "session", s.Session, "error", err)
	}
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
		a.mu.Lock()
		a.lastError = err
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

// batch reads the oldest waiting summaries, and where each belongs in git.
func (a *audit) batch() (names []string, files map[string][]byte, err error) {
	waiting, err := a.waiting()
	if err != nil {
		return nil, nil, err
	}
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
	for _, e := range entries {
		if n := e.Name(); strings.HasSuffix(n, ".json") && !strings.HasPrefix(n, ".") {
			names = append(names, n)
		}
	}
	sort.Strings(names)
	return names, nil
}

func (a *audit) status() admin.AuditStatus {
	waiting, err := a.waiting()
	a.mu.Lock()
	defer a.mu.Unlock()
	st := admin.AuditStatus{Waiting: len(waiting), Committed: a.committed}
	if err == nil {
		err = a.lastError
	}
	if err != nil {
		st.LastError = err.Error()
	}
	return st
}
