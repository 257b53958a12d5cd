package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
)

// session is one client with its target connection. Two goroutines share it:
// the one that runs run reads the client and writes the target; the one that
// runs relay reads the target and writes the client.
type session struct {
	server  *server
	hello   func(parameters map[string]string, status byte) []byte
	core    *gatewayd.Session
	log     *slog.Logger
	masked  bool
	secrets secrets
	poison  string // name of a portal that cannot exist; never shown to the client

	client  net.Conn
	in      *frameReader // of the client
	back    *backend
	watched *watched
	from    *frameReader // of the target
	writer  *writer      // to the client

	// Owned by the goroutine that reads the client.
	out        []byte       // not yet written to the target
	durable    bool         // everything in out may be written without a barrier
	unrecorded []*statement // parsed in out and perhaps not in the journal yet
	dropping   bool         // a message was denied: everything up to Sync is dropped
	group      int          // counts Syncs
	open       bool         // messages of the extended protocol wait for a Sync
	midFrame   bool         // the target has got a part of a message only
	copied     copied       // into the COPY that runs
	changes    int          // as watched counted them when the catalog was read
	ownGroup   bool         // the gateway's own query opened the group and has to end it

	// sending is held while a cancel request is on its way, so that it cannot hit the next query.
	sending sync.Mutex

	life context.Context // ends when the session begins to end
	die  context.CancelFunc

	// Owned by the goroutine that reads the target.
	reply []byte // not yet written to the client
	text  []byte // rows, as recorded, not yet in the journal
	rows  int64  // not yet counted against the limits
	bytes int64
	fatal bool // the target said why it ends the connection

	mu         sync.Mutex
	changed    *sync.Cond // signals any change of the fields below
	pending    []*entry
	skipGroup  int // the target ignores this group's messages; -1: none
	copying    bool
	status     byte              // I, T or E
	greeting   map[string]string // collects ParameterStatus until the client is logged in; nil after
	statements map[string]*statement
	portals    map[string]*portal
	scope      sqlguard.Scope
	guard      *guard
	meaning    string // names guard and scope; "" when they changed
	dirty      bool   // the scope must be read again
	stale      bool   // so must the catalog
	touched    bool   // the transaction changed the scope
	altered    bool   // the transaction changed the catalog
	over       error  // why the relay ended

	stopping atomic.Bool
}

const (
	goodbyeTimeout = time.Second     // for the last words to the client
	endTimeout     = 3 * time.Second // for the target to stop what it runs and to end the backend, all together
)

var (
	errTerminated = errors.New("the client ended the session")
	errClientGone = errors.New("the client is gone")
	errTargetGone = errors.New("the target closed the connection")
)

// run serves a session whose login is complete and returns when nothing of it is left.
func (s *session) run() {
	stop := context.AfterFunc(s.core.Context(), s.interrupt)
	relayed := make(chan struct{})
	go func() {
		defer close(relayed)
		err := s.guarded(s.relay)
		s.mu.Lock()
		s.over = err
		s.changed.Broadcast()
		s.mu.Unlock()
		s.interrupt()
	}()
	var keeper sync.WaitGroup
	err := s.guarded(s.login)
	if err == nil {
		keeper.Go(s.keepTime)
		err = s.guarded(s.serve)
	}
	stop()
	s.finish(err, relayed)
	keeper.Wait()
}

// guarded turns a panic into an error: one session cannot end another.
func (s *session) guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic in a session", "panic", fmt.Sprint(p))
			s.core.Cut("internal_error", "the gateway failed in this session")
			err = errors.New("the gateway failed in this session")
		}
	}()
	return f()
}

// interrupt makes both directions return: the session is over.
func (s *session) interrupt() {
	s.stopping.Store(true)
	s.writer.hush()
	interrupt(s.client)
	s.back.conn.SetWriteDeadline(time.Now())
	s.mu.Lock()
	s.changed.Broadcast()
	s.mu.Unlock()
}

// finish ends what runs at the target, says why to the client, and closes the
// session's record. A target that hangs delays it by endTimeout, and the client not at all.
func (s *session) finish(err error, relayed chan struct{}) {
	s.interrupt()
	s.die()
	deadline := time.Now().Add(endTimeout)
	s.mu.Lock()
	over, fatal := s.over, s.fatal
	s.mu.Unlock()
	if errors.Is(over, errTargetGone) && (err == nil || !errors.As(err, new(*failure))) {
		err = over
	}
	cancelled := make(chan error, 1)
	go func() { cancelled <- s.endBackend(deadline) }()
	if f := s.lastWords(err); f != nil && !fatal {
		s.writer.say(f)
	}
	partWith(s.client)
	if problem := <-cancelled; problem != nil {
		s.log.Warn("the target took no cancel request", "error", problem)
	}
	<-relayed
	hangUp(s.back.conn)
	s.settleCommands()
	if errors.Is(err, errTerminated) || errors.Is(err, errClientGone) {
		err = nil
	}
	if _, problem := s.core.End(err); problem != nil {
		s.log.Error("session end", "error", problem)
	}
}

// endBackend cancels what the target runs and asks it to end the connection.
// The relay sees that it did, or the deadline.
func (s *session) endBackend(deadline time.Time) error {
	s.back.conn.SetReadDeadline(deadline)
	var err error
	if s.busy() {
		ctx, stop := context.WithDeadline(context.Background(), deadline)
		s.sending.Lock()
		err = s.back.cancel(ctx)
		s.sending.Unlock()
		stop()
	}
	s.back.conn.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
	if s.midFrame {
		hangUp(s.back.conn)
	} else if _, err := s.back.conn.Write(terminateMessage); err != nil {
		hangUp(s.back.conn)
	}
	return err
}

// partWith closes a client's connection. What the client still sends is read for
// a moment: a connection closed with unread bytes is reset, and its last words may be lost.
func partWith(conn net.Conn) {
	if secured, ok := conn.(*tls.Conn); ok { // whose farewell has a deadline of its own, 5 s
		stop := time.AfterFunc(goodbyeTimeout, func() { secured.NetConn().Close() })
		defer stop.Stop()
	}
	conn.SetDeadline(time.Now().Add(goodbyeTimeout / 2))
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		io.Copy(io.Discard, conn)
	}
	hangUp(conn)
}

// hangUp closes a connection. The farewell of TLS may not hold that up, as it
// would for 5 s when the other side takes nothing.
func hangUp(conn net.Conn) {
	if secured, ok := conn.(*tls.Conn); ok {
		stop := time.AfterFunc(goodbyeTimeout, func() { secured.NetConn().Close() })
		defer stop.Stop()
	}
	conn.Close()
}

// lastWords is what the client is told when the session ends; nil when it knows.
func (s *session) lastWords(err error) *failure {
	var f *failure
	var cut *gatewayd.Cut
	switch {
	case errors.As(context.Cause(s.core.Context()), &cut):
		return &failure{code: stateOf(cut, "57P01"), message: "session cut: " + cut.Error()}
	case errors.Is(err, errTerminated), errors.Is(err, errClientGone), err == nil:
		return nil
	case errors.As(err, &f):
		return f
	case errors.Is(err, errFrame), errors.Is(err, errMessage):
		return &failure{code: "08P01", message: "protocol violation: " + err.Error()}
	case errors.Is(err, errTargetGone):
		return &failure{code: "08006", message: "the target closed the connection"}
	}
	return &failure{code: "57P01", message: "the session has ended"}
}

// settleCommands ends the commands that the target never answered.
func (s *session) settleCommands() {
	s.mu.Lock()
	left, gone := s.pending, errors.Is(s.over, errTargetGone)
	s.pending = nil
	s.mu.Unlock()
	for _, e := range left {
		if e.command == nil {
			continue
		}
		r := e.result
		r.Outcome, r.Message = "unknown", "the target did not say how it ended"
		if gone && s.wasCut() {
			r.Outcome, r.Message = "cut", "the target ended it with the session"
		}
		e.command.End(r)
	}
}

// wasCut reports whether the gateway ended the session.
func (s *session) wasCut() bool {
	return errors.As(context.Cause(s.core.Context()), new(*gatewayd.Cut))
}

// outcome is how a failed command is recorded.
func (s *session) outcome(code string) string {
	switch {
	case code == "57014" && s.wasCut():
		return "cut"
	case code == "57014":
		return "cancelled"
	}
	return "failed"
}

// await blocks until done, which it calls with mu held, or until the session is
// over. It notices a client that dies meanwhile.
func (s *session) await(done func() bool) error {
	s.mu.Lock()
	if done() {
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	defer s.watch()()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !done() {
		if s.over != nil {
			return s.over
		}
		if s.stopping.Load() {
			return context.Cause(s.core.Context())
		}
		s.changed.Wait()
	}
	return nil
}

// watchLimit is how far a client's messages are read ahead of a statement that waits.
const watchLimit = 256 << 10

// watch reads ahead on the client's connection, for as long as its reader is
// busy elsewhere, to notice that the client is gone. The returned func ends it.
func (s *session) watch() (end func()) {
	done := make(chan struct{})
	var ending atomic.Bool
	go func() {
		defer close(done)
		for s.in.buffered() < watchLimit {
			err := s.in.fillBehind()
			if err == nil {
				continue
			}
			var timeout net.Error
			if !ending.Load() && !(errors.As(err, &timeout) && timeout.Timeout()) {
				s.core.Event("client", "the client is gone while a statement runs")
				s.stopping.Store(true)
				s.mu.Lock()
				if s.over == nil {
					s.over = errClientGone
				}
				s.changed.Broadcast()
				s.mu.Unlock()
			}
			return
		}
	}()
	return func() {
		ending.Store(true)
		interrupt(s.client)
		<-done
		if !s.stopping.Load() {
			resume(s.client)
		}
	}
}

// writer is the way to the client. Messages leave it whole, so that a last word
// never lands inside another one.
type writer struct {
	conn   net.Conn
	quiet  atomic.Bool // nothing more goes to the client but the rest of a message, and last words
	mu     sync.Mutex
	within chan struct{} // closed when the message of which a part was written is whole; nil between messages
	broken bool          // a write failed
}

// write sends whole messages, or, with more still to come, a part of one.
func (w *writer) write(b []byte, more bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken || w.quiet.Load() && w.within == nil {
		return nil
	}
	if w.within == nil {
		w.within = make(chan struct{})
	}
	_, err := w.conn.Write(b)
	w.broken = err != nil
	if !more || w.broken {
		close(w.within)
		w.within = nil
	}
	if err != nil && !w.quiet.Load() {
		return fmt.Errorf("%w: %w", errClientGone, err)
	}
	return nil
}

// hush stops the stream; a message in progress gets a moment to end.
func (w *writer) hush() {
	if !w.quiet.Swap(true) {
		w.conn.SetWriteDeadline(time.Now().Add(goodbyeTimeout / 2))
	}
}

// say tells the client why its session ends, once the message in progress is whole.
func (w *writer) say(f *failure) {
	w.mu.Lock()
	within := w.within
	w.mu.Unlock()
	if within != nil {
		select {
		case <-within:
		case <-time.After(goodbyeTimeout / 2):
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken || w.within != nil {
		return
	}
	w.conn.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
	w.conn.Write(encode(nil, f.response("FATAL")))
}

// readError says what the end of a client's stream means.
func readError(err error) error {
	if errors.Is(err, errFrame) {
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errClientGone
	}
	return fmt.Errorf("%w: %w", errClientGone, err)
}
