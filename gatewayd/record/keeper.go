package record

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// keep is the journal's one goroutine: it syncs what nobody waits for, and
// after a failure tries each second to get going again.
func (j *Journal) keep() {
	defer close(j.kept)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	armed := false
	for {
		select {
		case <-j.done:
			return
		case <-j.kick:
			if !armed {
				timer.Reset(j.pause())
				armed = true
			}
		case <-timer.C:
			armed = false
			if j.tend() {
				timer.Reset(j.pause())
				armed = true
			}
		}
	}
}

// pause is how long the keeper waits before it acts.
func (j *Journal) pause() time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil || len(j.pending) > 0 {
		return j.retryEvery
	}
	return j.syncEvery
}

// tend does what is due and reports whether more is.
func (j *Journal) tend() bool {
	j.mu.Lock()
	if j.err == nil && j.durable < j.written && !j.syncing {
		j.sync()
	}
	if j.err != nil {
		j.reopen()
	}
	healthy := j.err == nil
	pending := make(map[*Session]string, len(j.pending))
	for s, end := range j.pending {
		pending[s] = end
	}
	j.mu.Unlock()
	if healthy {
		for s, end := range pending {
			j.settleLate(s, end)
		}
		j.places = nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err != nil || len(j.pending) > 0
}

// reopen starts a new segment once the folder takes writes again. Callers hold j.mu.
func (j *Journal) reopen() {
	err := j.makeFolders()
	if err == nil {
		err = j.probe()
	}
	if err != nil {
		j.err = fmt.Errorf("the journal cannot be written: %w", err)
		return
	}
	old := j.seg
	if err := j.newSegment(); err != nil {
		j.err = fmt.Errorf("the journal cannot be written: %w", err)
		return
	}
	j.opt.Log.Info("the journal can be written again", "path", j.seg.path)
	j.err, j.durable = nil, j.written
	j.drop(old)
}

// probeSize is what must fit before a full disk counts as having space again, in bytes.
const probeSize = 256 << 10

// probe checks that both folders take data, not only names.
func (j *Journal) probe() error {
	for _, d := range []string{journalDir, recordingsDir} {
		if err := probeFolder(filepath.Join(j.opt.Dir, d), j.create); err != nil {
			return err
		}
	}
	return nil
}

func probeFolder(dir string, create func(string) (file, error)) error {
	path := filepath.Join(dir, ".probe")
	os.Remove(path) // of an earlier attempt
	f, err := create(path)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	_, err = f.Write(make([]byte, probeSize))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// settleLate writes a recording that could not be written when its session
// ended. The session's owner is gone, so Options.Recovered gets the summary.
func (j *Journal) settleLate(s *Session, end string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	settle := j.settle
	if s.left {
		settle = j.settleLeft
	}
	sum, err := settle(s, end)
	if err != nil {
		j.opt.Log.Warn("a session's recording cannot be written yet", "session", s.id, "error", err)
		return
	}
	if j.opt.Recovered != nil && !isDenialLog(s.id) {
		j.opt.Recovered(sum)
	}
}
