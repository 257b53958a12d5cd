package syncer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

const (
	stateFile  = "state.json"
	statusFile = "status.json"
	lockFile   = "lock"

	stateVersion = 2
)

// state is what the first-parent line up to Commit means, and what was
// published from it. Everything but Sequence and Published can be rebuilt
// from the history.
type state struct {
	Version   int    `json:"version"`
	Branch    string `json:"branch"`
	TrustRoot string `json:"trustRoot"`
	// Repo is the access repo's uuid, once a good trust root was seen.
	Repo string `json:"repo,omitempty"`
	// Commit is the last commit taken in.
	Commit string `json:"commit,omitempty"`
	// Skipped says that nobody can say what the commits after Compared changed, up to Commit.
	Skipped bool `json:"skipped,omitempty"`
	// Missed are documents that commits since Compared changed or took out.
	Missed   []string `json:"missed,omitempty"`
	Compared string   `json:"compared,omitempty"` // "" for none
	// Good is the last commit with usable trust, config and policies.
	Good string `json:"good,omitempty"`
	// GoodRoot is the sha256 of the trust root under which they were found good.
	GoodRoot string `json:"goodRoot,omitempty"`
	// Roots are the trust roots that came into force, the pinned one first.
	Roots []trusted `json:"roots,omitempty"`
	// Seen is when each signature and attestation was first seen, by the sha256 of its file.
	Seen map[string]time.Time `json:"seen"`
	// Sightings are when commits were first seen, as the log of releases has it.
	// They serve an empty state only.
	Sightings map[string]time.Time `json:"-"`
	// Broken says why those of Commit are not; "" when Good is Commit.
	Broken string `json:"broken,omitempty"`
	// Documents is what is known of each document's path.
	Documents memories `json:"documents"`
	// Sequence is the highest release sequence ever reserved. It is written before the release is.
	Sequence  int64      `json:"sequence"`
	Published *published `json:"published,omitempty"`
	// Taken is what was first seen since the last release.
	Taken []release.Taken `json:"taken,omitempty"`
	// Kept is the sequence of the last release that was given to the log.
	Kept int64 `json:"kept,omitempty"`

	disk *onDisk // of the state folder, shared by all copies
}

// memory is what is known for good about one path.
type memory struct {
	// Closed says why the document is not granted as it stands; "" otherwise.
	Closed string `json:"closed,omitempty"`

	// Sequence is the highest one that a review at this path ever had, SHA256
	// its bytes, Commit and At the first commit that held them.
	Sequence int64     `json:"sequence,omitempty"`
	SHA256   string    `json:"sha256,omitempty"`
	Commit   string    `json:"commit,omitempty"`
	At       time.Time `json:"at,omitzero"`
	// Retired is the highest sequence when the review was last deleted.
	Retired int64 `json:"retired,omitempty"`

	// Accepted is the sha256 of the version of a document without sequence
	// that is in force, Commit the one that brought it into force, Replaced those that were before, with the commit that
	// replaced or deleted them.
	Accepted string            `json:"accepted,omitempty"`
	Risk     string            `json:"risk,omitempty"`  // of the accepted version of a connection
	Owner    string            `json:"owner,omitempty"` // of the accepted version of a principal
	Replaced map[string]string `json:"replaced,omitempty"`
}

// published is the newest release.
type published struct {
	Sequence   int64             `json:"sequence"`
	Commit     string            `json:"commit"`
	IssuedAt   time.Time         `json:"issuedAt"`
	ValidUntil time.Time         `json:"validUntil"`
	Next       time.Time         `json:"next"` // when to publish again although nothing changed
	Problems   reviews.Problems  `json:"problems,omitempty"`
	Pending    []reviews.Pending `json:"pending,omitempty"`
}

// clone copies the state so that a failed round leaves the old one untouched.
func (s *state) clone() *state {
	c := *s
	c.Documents = s.Documents.clone() // Replaced is copied on write
	c.Seen = maps.Clone(s.Seen)
	c.Taken = slices.Clone(s.Taken)
	return &c
}

// replace notes that one version of a document gave way in a commit.
func (m *memory) replace(commit string) {
	if m.Accepted == "" {
		return
	}
	grown := map[string]string{m.Accepted: commit}
	for digest, by := range m.Replaced {
		grown[digest] = by
	}
	m.Replaced, m.Accepted = grown, ""
}

// loadState reads the state; a missing one is an empty one.
func loadState(dir, branch, trustRoot string) (*state, error) {
	file := filepath.Join(dir, stateFile)
	empty := &state{Version: stateVersion, Branch: branch, TrustRoot: trustRoot, Documents: newMemories(), Seen: map[string]time.Time{}}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read sync state: %w", err)
	}
	s := &state{}
	if err := decodeState(b, s); err != nil {
		return nil, fmt.Errorf("sync state %s is damaged or of another version: %w; move it away to rebuild it from the history", file, err)
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("sync state %s has version %d, which is not supported yet", file, s.Version)
	}
	if s.Documents.folders == nil {
		s.Documents = newMemories()
	}
	if s.Seen == nil {
		s.Seen = map[string]time.Time{}
	}
	if s, err = s.replay(dir, digest(b)); err != nil {
		return nil, err
	}
	if s.Branch != branch || s.TrustRoot != trustRoot {
		return nil, fmt.Errorf("sync state %s belongs to branch %s and trust root %s; use another state folder", file, s.Branch, s.TrustRoot)
	}
	return s, nil
}

func decodeState(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// writeDurably replaces a file in one step that survives a crash.
func writeDurably(file string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(b); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// writeStatus writes the result for people and monitors: when anything but
// the time changed, and every ten seconds to show that sync is alive.
func writeStatus(dir string, before, now Result) error {
	quiet := now.Time.Sub(before.Time) < 10*time.Second && !now.Published && now.Commits == 0 &&
		now.Error == before.Error && slices.Equal(now.Alarms, before.Alarms) && now.Sequence == before.Sequence
	if quiet {
		return nil
	}
	b, err := json.MarshalIndent(now, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".status-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(append(b, '\n')); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, statusFile))
}

// ReadStatus reads what the syncer of a state folder last found.
func ReadStatus(dir string) (Result, error) {
	var r Result
	b, err := os.ReadFile(filepath.Join(dir, statusFile))
	if isMissing(err) {
		return r, fmt.Errorf("%s has no %s: no sync with this state folder ever finished a round", dir, statusFile)
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: %w", filepath.Join(dir, statusFile), err)
	}
	return r, nil
}

// lock keeps a second syncer away from a state folder. The system lets go of
// it when the process ends, however that happens.
type lock struct{ file *os.File }

func acquire(dir string) (*lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("state folder %s is in use by another sync: stop that one or use another folder: %w", dir, err), f.Close())
	}
	return &lock{file: f}, nil
}

func (l *lock) release() error { return l.file.Close() }
