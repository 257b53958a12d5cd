package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/sallyport-dev/sallyport/reviews"
)

// HighWater is the durable mark of the newest release that was in force here.
// What is below it is refused, also after a restart. It is safe for concurrent use.
type HighWater struct {
	path string
	mu   sync.Mutex
	mark mark // guarded by mu
}

// mark is the file's contents; the zero value is before every release.
type mark struct {
	Version      int    `json:"version"` // of this format
	Repo         string `json:"repo"`
	Sequence     int64  `json:"sequence"`
	Digest       string `json:"digest"` // of the envelope of that sequence
	TrustVersion int    `json:"trustVersion"`
	TrustDigest  string `json:"trustDigest"`
	// Sequences are those of each connection, which a release may raise and add to.
	Sequences map[string]sequencesMark `json:"sequences"`
}

// sequencesMark stays as it is written until somebody needs to look into it: most
// of a mark stays the same from one release to the next.
type sequencesMark struct {
	Bundle  string          `json:"bundle"`  // sha256 hex of the bundle that they were read from
	Highest json.RawMessage `json:"highest"` // Sequences
}

// markFile guards the mark against damage, not against an attacker who may write here.
type markFile struct {
	Mark   mark   `json:"mark"`
	SHA256 string `json:"sha256"` // of the mark's canonical JSON
}

// OpenHighWater reads the mark. A missing file is an empty mark, see Fresh; its
// folder has to exist. A file that is damaged is an error: only a person can say that going back is safe.
func OpenHighWater(path string) (*HighWater, error) {
	h := &HighWater{path: path}
	b, err := readCapped(path, maxEnvelope)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return nil, fmt.Errorf("high-water mark: %w", err)
		}
		return h, nil
	}
	if err != nil {
		return nil, fmt.Errorf("high-water mark: %w", err)
	}
	file, err := decode[markFile](b)
	switch {
	case err != nil:
		return nil, damaged(path, err)
	case file.SHA256 != digest(canonical(file.Mark)):
		return nil, damaged(path, errors.New("its checksum does not match"))
	case file.Mark.Version != markVersion:
		return nil, damaged(path, fmt.Errorf("version %d is not supported by this program", file.Mark.Version))
	case file.Mark.Sequence < 1 || file.Mark.Repo == "":
		return nil, damaged(path, errors.New("it marks no release"))
	}
	h.mark = file.Mark
	return h, nil
}

func damaged(path string, err error) error {
	return fmt.Errorf("high-water mark %s is not usable: %w; remove it only if you know that the release directory was not rolled back", path, err)
}

// Fresh reports whether no release was ever in force here. A gateway logs that:
// until its first release it would accept any that has not expired.
func (h *HighWater) Fresh() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mark.Sequence == 0
}

// Sequence is the newest release's, 0 when there was none.
func (h *HighWater) Sequence() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mark.Sequence
}

// Check refuses a release that is older than the mark, or another one of the same
// sequence. The error wraps ErrRolledBack.
func (h *HighWater) Check(r *Release) error {
	if err := h.checkEnvelope(r.Envelope); err != nil {
		return err
	}
	return h.checkSequences(r)
}

// checkEnvelope is what Check can tell before the bundles are read. A nil mark refuses nothing.
func (h *HighWater) checkEnvelope(e Envelope) error {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mark.check(e)
}

// checkSequences is what else Check looks at.
func (h *HighWater) checkSequences(r *Release) error {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mark.checkSequences(r)
}

func (m mark) check(e Envelope) error {
	switch {
	case m.Sequence == 0:
		return nil
	case e.Repo != m.Repo:
		return fmt.Errorf("%w: it is for access repo %q where %q was", ErrRolledBack, e.Repo, m.Repo)
	case e.Sequence < m.Sequence:
		return fmt.Errorf("%w: its sequence is %d where %d was in force", ErrRolledBack, e.Sequence, m.Sequence)
	case e.Sequence == m.Sequence && e.Digest() != m.Digest:
		return fmt.Errorf("%w: there are two different releases of sequence %d", ErrRolledBack, e.Sequence)
	case e.TrustVersion < m.TrustVersion:
		return fmt.Errorf("%w: its trust root has version %d where %d was in force", ErrRolledBack, e.TrustVersion, m.TrustVersion)
	}
	return nil
}

func (m mark) checkSequences(r *Release) error {
	for connection, was := range m.Sequences {
		if r.Envelope.Bundles[SequencesBundle(connection)] == was.Bundle {
			continue
		}
		highest, err := decode[Sequences](was.Highest)
		if err != nil {
			return fmt.Errorf("high-water mark: sequences of connection %s: %w", connection, err)
		}
		for name, most := range highest {
			if got := r.Sequences[connection][name]; got < most {
				return fmt.Errorf("%w: review %s/%s has sequence %d where %d was in force", ErrRolledBack, connection, name, got, most)
			}
		}
	}
	return nil
}

// sequences are those of a release, whose unchanged ones are taken over.
func (m mark) sequences(r *Release) map[string]sequencesMark {
	now := make(map[string]sequencesMark, len(r.Sequences))
	for connection, highest := range r.Sequences {
		bundle := r.Envelope.Bundles[SequencesBundle(connection)]
		if was, is := m.Sequences[connection]; is && was.Bundle == bundle {
			now[connection] = was
		} else {
			now[connection] = sequencesMark{bundle, canonical(highest)}
		}
	}
	return now
}

const markVersion = 3

// checkRoots refuses trust roots that do not follow from the one that was in force here.
func (h *HighWater) checkRoots(chain []*reviews.Root) error {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mark.TrustDigest == "" || slices.ContainsFunc(chain, func(r *reviews.Root) bool { return r.Source.SHA256 == h.mark.TrustDigest }) {
		return nil
	}
	return fmt.Errorf("%w: its trust root does not follow from version %d, which was in force", ErrRolledBack, h.mark.TrustVersion)
}

// Advance moves the mark up to the release, durably, before that is put in force.
func (h *HighWater) Advance(r *Release) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := r.Envelope
	if err := errors.Join(h.mark.check(e), h.mark.checkSequences(r)); err != nil {
		return err
	}
	if h.mark.Sequence == e.Sequence {
		return nil
	}
	next := mark{
		Version:      markVersion,
		Repo:         e.Repo,
		Sequence:     e.Sequence,
		Digest:       e.Digest(),
		TrustVersion: e.TrustVersion,
		TrustDigest:  e.TrustDigest,
		Sequences:    h.mark.sequences(r),
	}
	text := canonical(next)
	if err := writeFile(h.path, fmt.Appendf(nil, `{"mark":%s,"sha256":"%s"}`, text, digest(text))); err != nil { // a markFile
		return fmt.Errorf("high-water mark: %w", err)
	}
	h.mark = next
	return nil
}
