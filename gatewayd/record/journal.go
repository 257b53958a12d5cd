package record

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"
)

// Folders below Options.Dir.
const (
	journalDir    = "journal"
	damagedDir    = "damaged" // below journalDir: segments with lines that no recording took over
	recordingsDir = "recordings"
)

// Durability says what a crash may take.
const (
	DurabilityFsync   = "fsync"   // Barrier waits for the disk: a power cut takes nothing that a barrier covered
	DurabilityProcess = "process" // Barrier waits for the kernel: kill -9 takes nothing, a power cut may
)

// Options configure a journal. Dir, Gateway and Sign are required.
type Options struct {
	// Dir holds the journal and the recordings. It is made when missing, readable by its owner only.
	Dir string
	// Gateway is the gateway's name in the trust root.
	Gateway string
	// Sign makes an armoured SSHSIG over the statement of a seal with the
	// gateway's key, namespace sallyport.checkpoint.v1.
	Sign func(statement []byte) (armored []byte, err error)
	// Durability is DurabilityFsync, the default, or DurabilityProcess.
	Durability string
	// OutputCap is how many bytes of output are recorded per command. 0 means 1 MiB, negative none.
	OutputCap int64
	// SegmentSize is where the journal starts a new file, in bytes. 0 means 64 MiB.
	SegmentSize int64
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Recovered, if set, gets the summary of each session that ended without
	// its Close returning one: those a crash left open (during Open), and those
	// whose recording could be written only later.
	Recovered func(Summary)
	// Log gets what nobody else is told: damaged segments, failed retries. Default: discarded.
	Log *slog.Logger
}

// Journal is where a gateway writes down everything before it happens. Its
// methods may be called from any goroutine.
type Journal struct {
	opt   Options
	fsync bool
	lock  io.Closer
	kick  chan struct{} // wakes the keeper
	done  chan struct{} // closed by Close: the keeper stops
	kept  chan struct{} // closed when it has

	// Seams for tests.
	create     func(path string) (file, error)
	retryEvery time.Duration
	syncEvery  time.Duration
	crash      func(point string) // kills the process at a named moment

	mu       sync.Mutex
	closing  bool // Close has begun: no new sessions
	closed   bool
	err      error // why nothing can be written; nil when fine
	segments int   // highest segment number so far
	seg      *segment
	written  int64 // bytes ever appended, over all segments
	durable  int64 // how many of those survive what Durability promises
	syncing  bool
	synced   chan struct{} // closed when the running sync ends
	sessions map[string]*Session
	pending  map[*Session]string // ended, not yet a recording → how they ended

	places map[string]string // recordings by session, while recover or the keeper looks for them

	denials sync.Mutex // owns denialLog; taken before any other lock
	denied  *Session
}

// ErrClosed is returned by everything once the journal is closed.
var ErrClosed = errors.New("the journal is closed")

var (
	gatewayName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	sessionID   = regexp.MustCompile(`^(s|denied)-[0-9a-f]{16}$`)
)

// Open opens the journal in o.Dir, turns sessions that a crash left open into
// recordings that end "unknown", and starts a new segment. It fails when the
// folder cannot be written or another gateway has it open.
func Open(o Options) (*Journal, error) {
	j, err := newJournal(o)
	if err != nil {
		return nil, err
	}
	return j, j.start()
}

func newJournal(o Options) (*Journal, error) {
	switch {
	case o.Dir == "":
		return nil, errors.New("record: no folder to write to")
	case !gatewayName.MatchString(o.Gateway):
		return nil, fmt.Errorf("record: %q is not a gateway's name: want lower-case letters, digits and hyphens", o.Gateway)
	case o.Sign == nil:
		return nil, errors.New("record: recordings need the gateway's key to be sealed with")
	case o.Durability != "" && o.Durability != DurabilityFsync && o.Durability != DurabilityProcess:
		return nil, fmt.Errorf("record: durability %q: want %q or %q", o.Durability, DurabilityFsync, DurabilityProcess)
	}
	if o.OutputCap == 0 {
		o.OutputCap = 1 << 20
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = 64 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Journal{
		opt: o, fsync: o.Durability != DurabilityProcess,
		kick: make(chan struct{}, 1), done: make(chan struct{}), kept: make(chan struct{}),
		create: openAppend, retryEvery: time.Second, syncEvery: 100 * time.Millisecond,
		sessions: map[string]*Session{}, pending: map[*Session]string{},
	}, nil
}

// Moments between which a crash makes a difference.
const (
	beforeAppend = "before-append"
	afterAppend  = "after-append"
	beforeSync   = "before-sync"
	afterSync    = "after-sync"
	segmentMade  = "segment-made"  // made, not written to yet
	beforePlace  = "before-place"  // a recording is whole and has no name yet
	afterPlace   = "after-place"   // it has, and the journal has it too
	afterDrop    = "after-drop"    // a segment was removed
	midRecording = "mid-recording" // a part of a recording is written
)

func (j *Journal) at(point string) {
	if j.crash != nil {
		j.crash(point)
	}
}

func (j *Journal) start() error {
	if err := j.prepare(); err != nil {
		return fmt.Errorf("record: %s cannot be used: %w", j.opt.Dir, err)
	}
	go j.keep()
	return nil
}

func (j *Journal) prepare() (err error) {
	if err := j.makeFolders(); err != nil {
		return err
	}
	j.lock, err = lockFolder(filepath.Join(j.opt.Dir, journalDir, "lock"))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			j.lock.Close()
		}
	}()
	left, err := j.scan()
	if err != nil {
		return err
	}
	if err := j.newSegment(); err != nil {
		return err
	}
	j.recover(left)
	return nil
}

func (j *Journal) makeFolders() error {
	for _, d := range []string{filepath.Join(journalDir, damagedDir), recordingsDir} {
		if err := os.MkdirAll(filepath.Join(j.opt.Dir, d), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// Err says why nothing can be recorded, and nil when all is well. While it is
// not nil every append and barrier fails; the journal tries again each second with a new file.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.usable(nil)
}

// usable is the gate before every write, and behind every sync. Callers hold j.mu.
func (j *Journal) usable(s *Session) error {
	if err := j.healthy(s); err != nil {
		return err
	}
	if err := j.seg.present(); err != nil {
		j.vanished(err)
		return j.err
	}
	return nil
}

// healthy says what is known to have gone wrong. Callers hold j.mu.
func (j *Journal) healthy(s *Session) error {
	switch {
	case j.closed:
		return ErrClosed
	case j.err != nil:
		return j.err
	case s != nil && s.lost != nil:
		return fmt.Errorf("earlier records of this session may be lost: %w", s.lost)
	}
	return nil
}

// present checks that the open file is still the one that its path names: a
// removed folder takes writes without a word.
func (g *segment) present() error {
	info, err := os.Lstat(g.path)
	if err != nil {
		return err
	}
	if !os.SameFile(info, g.info) {
		return fmt.Errorf("%s was replaced by another file", g.path)
	}
	return nil
}

// write appends one journal line of s. Callers hold s.mu.
func (j *Journal) write(s *Session, line []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usable(s); err != nil {
		return err
	}
	if j.seg.size > 0 && j.seg.size+int64(len(line)) > j.opt.SegmentSize {
		if err := j.rotate(); err != nil {
			return err
		}
	}
	j.at(beforeAppend)
	n, err := j.seg.f.Write(line)
	if err == nil && n < len(line) {
		err = io.ErrShortWrite
	}
	if err != nil {
		j.fail(err, j.seg.f.Sync() == nil)
		return j.err
	}
	j.at(afterAppend)
	s.wrote(j.seg, int64(len(line)))
	j.seg.size += int64(len(line))
	j.written += int64(len(line))
	s.end = j.written
	if j.fsync {
		j.wake()
	} else {
		j.durable = j.written
	}
	return nil
}

// commit waits until the first target bytes are durable. Whoever comes first
// syncs for all who wrote before it; who comes meanwhile waits for the next round.
func (j *Journal) commit(ctx context.Context, s *Session, target int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.fsync && j.durable >= target { // the write itself has just looked for the file
		return j.healthy(s)
	}
	for {
		if err := j.usable(s); err != nil {
			return err
		}
		if j.durable >= target {
			return nil
		}
		if !j.syncing {
			j.sync()
			continue
		}
		synced := j.synced
		j.mu.Unlock()
		select {
		case <-synced:
		case <-ctx.Done():
		}
		j.mu.Lock()
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
	}
}

// sync makes what is written durable. Callers hold j.mu, which is free while the disk works.
func (j *Journal) sync() {
	synced, seg, upto := make(chan struct{}), j.seg, j.written
	j.syncing, j.synced = true, synced
	j.mu.Unlock()
	j.at(beforeSync)
	err := seg.f.Sync()
	j.at(afterSync)
	j.mu.Lock()
	j.syncing = false
	close(synced)
	switch {
	case err == nil:
		j.durable = max(j.durable, upto)
	case j.durable < upto: // else a rotation has synced it meanwhile
		j.fail(err, false)
	}
}

// rotate ends the current segment and starts the next. Callers hold j.mu.
func (j *Journal) rotate() error {
	if err := j.seg.f.Sync(); err != nil {
		j.fail(err, false)
		return j.err
	}
	j.durable = j.written
	old := j.seg
	if err := j.newSegment(); err != nil {
		j.fail(err, true)
		return j.err
	}
	j.drop(old)
	return nil
}

func (j *Journal) newSegment() error {
	path := filepath.Join(j.opt.Dir, journalDir, fmt.Sprintf("%08d.log", j.segments+1))
	f, err := j.create(path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && j.fsync {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		f.Close()
		return err
	}
	j.at(segmentMade)
	j.segments++
	j.seg = &segment{path: path, number: j.segments, f: f, info: info, open: map[*Session]bool{}}
	return nil
}

// fail stops all writing. A failed write or sync is final for its file, since
// a second sync may report success for what is gone. synced says that what was
// written before did reach the disk; sessions it does not hold for are lost. Callers hold j.mu.
func (j *Journal) fail(err error, synced bool) {
	if j.err != nil {
		return
	}
	j.err = fmt.Errorf("the journal cannot be written: %w", err)
	if synced {
		j.durable = j.written
	}
	for _, s := range j.sessions {
		if s.end > j.durable && s.lost == nil {
			s.lost = j.err
		}
	}
	j.wake()
}

// vanished is fail for a journal whose folder is gone: no session's start can
// be found again after a crash, so all of them are lost. Callers hold j.mu.
func (j *Journal) vanished(err error) {
	j.fail(fmt.Errorf("its folder changed under it: %w", err), true)
	for _, s := range j.sessions {
		if s.lost == nil {
			s.lost = j.err
		}
	}
}

func (j *Journal) wake() {
	select {
	case j.kick <- struct{}{}:
	default:
	}
}

// release forgets a session whose recording is written.
func (j *Journal) release(s *Session) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.sessions, s.id)
	delete(j.pending, s)
	for _, e := range s.extents {
		if e.seg.open[s] {
			delete(e.seg.open, s)
			j.drop(e.seg)
		}
	}
	s.extents = nil
}

// drop removes a segment that nobody writes to and no session needs. Callers hold j.mu.
func (j *Journal) drop(g *segment) {
	if g == j.seg || len(g.open) > 0 {
		return
	}
	g.f.Close()
	var err error
	if g.damaged {
		err = os.Rename(g.path, filepath.Join(j.opt.Dir, journalDir, damagedDir, filepath.Base(g.path)))
	} else {
		err = os.Remove(g.path)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		j.opt.Log.Warn("a journal segment that is no longer needed stays", "path", g.path, "error", err)
	}
	j.at(afterDrop)
}

// Close ends the sessions that are still open as "drained", writes their
// recordings and releases the folder. What cannot be written now is recovered by the next Open.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closing {
		j.mu.Unlock()
		return nil
	}
	j.closing = true
	var open []*Session
	for _, s := range j.sessions {
		open = append(open, s)
	}
	j.mu.Unlock()
	close(j.done)
	<-j.kept
	var errs []error
	for _, s := range open {
		if err := s.drain(); err != nil {
			errs = append(errs, err)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	last := j.seg
	j.seg = nil
	j.drop(last)
	for _, s := range j.sessions { // those are for the next Open
		for _, e := range s.extents {
			e.seg.f.Close()
		}
	}
	return errors.Join(append(errs, j.lock.Close())...)
}
