package reviews

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"
)

// Folder is reviews/<connection> as one Load judged it. It never changes.
//
// When the next Load finds the same names of contents, everything that reviews are
// judged by unchanged (key), the same principals, the same times for the signatures that
// were asked about and the same attestations, the judgement stands, and the Folder is the
// same one. That is so only for a folder in which every review is approved and nothing is
// wrong: what waits, or is refused, is judged anew each time, for its reasons may tell of time.
type Folder struct {
	Connection string // whose reviews these are

	at      string
	key     [sha256.Size]byte
	good    bool // the judgement may stand
	known   map[string]*known
	reviews []*Review // that are in the tree; never changed again
	notes   Problems

	asked        map[string]principalFacts
	seen         []sighting
	attestations map[string]string // sha256 of a document to what names its attestation, "" for none

	packed  *packedFolder // instead of known and reviews, after a lean Load
	cache   *Cache
	reading sync.WaitGroup // until the files are parsed and verified
}

// principalFacts is what a review's judgement takes from principals/.
type principalFacts struct {
	exists bool
	owner  string
}

// sighting is when a file counts as first seen.
type sighting struct {
	sha256 string
	at     time.Time
}

// known is a review's file with its signatures. It holds nothing that depends on trust.
type known struct {
	id         [sha256.Size]byte // of all bytes
	bytes      []byte
	signatures map[string][]byte
	notes      Problems // about the signatures' files
	review     *Review  // as parsed, nil with err
	err        error
	signers    []verified // who made the signatures
	saved      bool       // on disk
}

// reviews loads reviews/, the only part that grows large, on all cores: while one
// folder is verified the next is read.
func (l *loader) reviews() {
	foundation, stands := l.foundation()
	l.folders = make(map[string]*Folder)
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	var last *Folder
	for _, at := range l.files(reviewsFolder, KindReview) {
		before := l.opt.Cache.folders[at]
		f := &Folder{
			Connection: path.Base(at), at: at, cache: l.opt.Cache,
			known: make(map[string]*known), asked: make(map[string]principalFacts), attestations: make(map[string]string),
		}
		if id, err := l.identity(at); stands && err == nil {
			f.key = digestOf(foundation[:], []byte(at), []byte(id), l.own(f.Connection))
			f.good = true
		}
		if f.good && l.standing(before, f.key) {
			l.take(before)
			continue
		}
		l.readFolder(&group, f, before)
		l.finish(&group, last)
		last = f
	}
	l.finish(&group, last)
	_ = group.Wait()
}

// finish judges a folder that was read, and puts it into the tree.
func (l *loader) finish(group *errgroup.Group, f *Folder) {
	if f == nil {
		return
	}
	f.reading.Wait()
	l.judge(f)
	l.take(f)
	c := l.tree.Connections[f.Connection]
	if l.opt.Judged == nil || !f.good || c == nil {
		return
	}
	group.Go(func() error {
		l.opt.Judged(c, f)
		f.pack()
		return nil
	})
}

// readFolder reads the files of a folder, and parses and verifies what changed in them.
func (l *loader) readFolder(group *errgroup.Group, f, last *Folder) {
	problems, notes := len(l.tree.Problems), len(l.tree.Notes)
	before := last.recollect()
	for _, at := range l.files(f.at, KindReview) {
		last := before[at]
		k, err := l.reread(at, last)
		if err != nil {
			l.problems(err)
			continue
		}
		f.known[at] = k
		if k == last {
			continue
		}
		f.reading.Add(1)
		group.Go(func() error {
			defer f.reading.Done()
			if l.opt.Cache.recall(at, k) {
				return nil
			}
			k.review, k.err = l.opt.Cache.take(at, k.bytes)
			if k.err == nil {
				k.signers = l.opt.Cache.signers(k.bytes, k.signatures)
			}
			return nil
		})
	}
	f.good = f.good && len(l.tree.Problems) == problems
	f.notes = slices.Clone(l.tree.Notes[notes:])
	l.tree.Notes = l.tree.Notes[:notes]
}

// reread is read for a review, which is last unless it changed.
func (l *loader) reread(at string, last *known) (*known, error) {
	id, named := l.id(at)
	if named && last != nil && last.id == id {
		return last, nil
	}
	before := len(l.tree.Notes)
	b, sigs, err := l.read(at)
	if err != nil {
		return nil, err
	}
	k := &known{id: id, bytes: b, signatures: sigs, notes: slices.Clone(l.tree.Notes[before:])}
	l.tree.Notes = l.tree.Notes[:before]
	if !named {
		k.id = idOf(at, k)
		if last != nil && last.id == k.id {
			return last, nil
		}
	}
	return k, nil
}

// idOf is the id of a review in a file system that does not name contents.
func idOf(at string, k *known) [sha256.Size]byte {
	parts := [][]byte{[]byte("bytes"), []byte(at), k.bytes}
	for _, name := range slices.Sorted(maps.Keys(k.signatures)) {
		parts = append(parts, []byte(name), k.signatures[name])
	}
	for _, note := range k.notes {
		parts = append(parts, []byte(note.Error()))
	}
	return digestOf(parts...)
}

// judge decides about the reviews of a folder.
func (l *loader) judge(f *Folder) {
	problems, pending, notes := len(l.tree.Problems), len(l.tree.Pending), len(l.tree.Notes)
	l.judging = f
	for _, at := range slices.Sorted(maps.Keys(f.known)) {
		k := f.known[at]
		l.tree.Notes = append(l.tree.Notes, k.notes...)
		if k.err != nil {
			l.problems(k.err)
			continue
		}
		r := *k.review
		r.Source.Signatures = k.signatures
		if ps := l.crossReview(&r); len(ps) > 0 {
			l.problems(ps)
			continue
		}
		if err := l.approveReview(&r); err != nil {
			l.problems(err)
			continue
		}
		f.reviews = append(f.reviews, &r)
	}
	l.judging = nil
	f.good = f.good && len(l.tree.Problems) == problems && len(l.tree.Pending) == pending
	f.notes = append(f.notes, l.tree.Notes[notes:]...)
	l.tree.Notes = l.tree.Notes[:notes]
}

// take puts a judged folder into the tree.
func (l *loader) take(f *Folder) {
	l.folders[f.at] = f
	l.tree.Notes = append(l.tree.Notes, f.notes...)
	if l.tree.Folders != nil {
		l.tree.Folders[f.Connection] = f
		return
	}
	for _, r := range f.reviews {
		l.tree.Reviews[r.Metadata.Name] = r
	}
}

// foundation is a digest of what all reviews are judged by. Besides, there are
// their own files, their connection, the principals that they name, the times of
// their signatures and attestations. Without ok a judgement does not stand for the next Load.
func (l *loader) foundation() (id [sha256.Size]byte, ok bool) {
	o := l.opt
	if o.Approvals != RequireApprovals || o.Standing != nil || o.Seen == nil {
		return id, false
	}
	parts := [][]byte{[]byte("foundation"), fmt.Appendf(nil, "auto %v", o.AutoApprove != nil)}
	add := func(s Source) { parts = append(parts, []byte(s.Path), []byte(s.SHA256)) }
	add(l.tree.Root.Source)
	add(l.tree.Config.Source)
	for _, name := range slices.Sorted(maps.Keys(l.tree.Policies)) {
		add(l.tree.Policies[name].Source)
	}
	return digestOf(parts...), true
}

// own is a digest of what the reviews of one connection are judged by.
func (l *loader) own(connection string) []byte {
	parts := [][]byte{[]byte("connection")}
	if c := l.tree.Connections[connection]; c != nil {
		parts = append(parts, []byte(c.Source.SHA256))
		for _, risk := range l.risks(c) {
			parts = append(parts, []byte("risk "+risk))
		}
	}
	id := digestOf(parts...)
	return id[:]
}

// principal is what the judgement of a review takes from principals/ and the trust root.
func (l *loader) principal(name string) principalFacts {
	facts := principalFacts{l.tree.Exists(name), l.tree.Owner(name)}
	if l.judging != nil {
		l.judging.asked[name] = facts
	}
	return facts
}

// standing says whether what a Load before found in a folder is what this one would.
func (l *loader) standing(before *Folder, key [sha256.Size]byte) bool {
	if before == nil || !before.good || before.key != key {
		return false
	}
	for name, facts := range before.asked {
		if l.principal(name) != facts {
			return false
		}
	}
	for _, s := range before.seen {
		if !l.opt.Seen(s.sha256).Equal(s.at) {
			return false
		}
	}
	for sha256, name := range before.attestations {
		if now, err := l.attestationID(sha256); err != nil || now != name {
			return false
		}
	}
	return true
}

// seen is when a file was first seen. A judgement that stands on the time of the
// Load itself is made anew the next time.
func (l *loader) seen(b []byte) time.Time {
	at := l.opt.seen(b)
	if f := l.judging; f != nil && f.good {
		sum := hexDigest(b)
		f.good = l.opt.Seen(sum).Equal(at)
		f.seen = append(f.seen, sighting{sum, at})
	}
	return at
}

// attestationAsked notes that the judgement stands on the attestation of a document.
func (l *loader) attestationAsked(sha256 string) {
	f := l.judging
	if f == nil || !f.good {
		return
	}
	name, err := l.attestationID(sha256)
	f.attestations[sha256], f.good = name, err == nil
}

func (l *loader) attestationID(sha256 string) (string, error) {
	name, err := l.identity(AttestationPath(sha256))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return name, err
}

func (l *loader) identity(at string) (string, error) {
	files, ok := l.fsys.(Identified)
	if !ok {
		return "", errors.ErrUnsupported
	}
	return files.ID(at)
}

// verify is Verify for a signature of a document.
func (l *loader) verify(s subject, name string) (key ssh.PublicKey, err error) {
	if f := l.judging; f != nil && s.kind == KindReview {
		for _, v := range f.known[s.source.Path].signers {
			if v.name == name {
				return v.key, v.err
			}
		}
	}
	return l.opt.Cache.verify(s.source.Signatures[name], NamespaceFor(s.kind), s.source.Bytes)
}
