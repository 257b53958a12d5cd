package record

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// A denial log takes refused logins until it is this old or this long. Its
// journal segments stay until then.
const (
	denialLogAge     = time.Hour
	denialLogRecords = 10_000
	endRotated       = "rotated" // how a denial log ends
)

func isDenialLog(id string) bool { return strings.HasPrefix(id, "denied-") }

// Denied records a login that was refused, durably. It returns the summary
// with Recording, Records and Digest set, which name its record in the denial
// log; beside an error it returns s as it was. Refused logins share a
// recording, so that a flood of them costs a line each and not a file.
func (j *Journal) Denied(s Summary) (Summary, error) {
	kept, err := j.deny(s)
	if err != nil {
		return s, fmt.Errorf("record denied login %s: %w", s.Session, err)
	}
	return kept, nil
}

func (j *Journal) deny(s Summary) (Summary, error) {
	s.APIVersion, s.Kind, s.Gateway = summaryVersion, summaryKind, j.opt.Gateway
	if s.End == "" {
		s.End = "denied"
	}
	log, err := j.denialLog()
	if err != nil {
		return s, err
	}
	s, err = log.deny(s)
	if err != nil {
		return s, err
	}
	return s, log.Barrier(context.Background())
}

// deny appends one refused login to a denial log.
func (s *Session) deny(sum Summary) (Summary, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum.Recording, sum.Digest, sum.Records = s.chain.tally.sum.Recording, "", 0
	recorded := sum
	if err := s.append(&Record{Type: TypeDenied, Summary: &recorded}); err != nil {
		return sum, err
	}
	sum.Digest, sum.Records = s.chain.prev, s.chain.seq
	return sum, nil
}

// denialLog is the log in use, a new one when that has had its time.
func (j *Journal) denialLog() (*Session, error) {
	j.denials.Lock()
	defer j.denials.Unlock()
	if j.denied != nil && j.denied.worn(j.opt.Now()) {
		old := j.denied
		j.denied = nil
		if _, err := old.Close(endRotated); err != nil {
			j.opt.Log.Warn("a denial log cannot be written yet", "session", old.id, "error", err)
		}
	}
	if j.denied != nil {
		return j.denied, nil
	}
	id := make([]byte, 8)
	rand.Read(id) // never fails
	log, err := j.begin(Header{Session: "denied-" + hex.EncodeToString(id)})
	if err != nil {
		return nil, err
	}
	j.denied = log
	return log, nil
}

// worn says that a denial log is to be replaced: by age, length, or because a failure took records of it.
func (s *Session) worn(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.j.mu.Lock()
	lost := s.lost != nil && s.j.err == nil
	s.j.mu.Unlock()
	started := s.chain.tally.header.Started
	return lost || s.chain.seq >= denialLogRecords || now.Sub(started) >= denialLogAge
}
