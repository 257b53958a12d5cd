package postgres

import (
	"container/list"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgproto3/v2"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
)

// Options say how clients are served. Gateway is required, and TLS unless AllowPlain is set.
type Options struct {
	Gateway *gatewayd.Gateway
	// TLS is for the clients' side. Nil: clients are told that there is none.
	TLS *tls.Config
	// AllowPlain accepts clients without TLS, when they connect from and to loopback.
	AllowPlain bool
	// StartupTimeout bounds everything up to the review token. Default 10 s.
	StartupTimeout time.Duration
	// Digest replaces secret literals and parameters in recordings. Default:
	// keyed with a key of this process, so that equal values look equal until it ends.
	Digest func(string) string
	// Log takes operational events, never statements. Default slog.Default().
	Log *slog.Logger
}

// Rules are the ids of the denials and cuts that this engine makes itself.
func Rules() []string {
	return []string{
		"function_call_unsupported", "message_unsupported",
		"statement_limit", "catalog_unavailable", "mask_tripwire", "protocol_desync", "schema_changed", "setting_changed", "target_unavailable",
	}
}

const (
	startupTimeout = 10 * time.Second
	guardCacheSize = 64
	shapeCacheSize = 2048
)

// shapeKey finds what is known of statements that differ in constants alone.
type shapeKey struct{ meaning, skeleton string }

// server is what the sessions of one listener share.
type server struct {
	options Options
	guards  *lru.Cache[string, *guard]
	shapes  *lru.Cache[shapeKey, *sqlguard.Shape]
	waiting waitingRoom

	mu       sync.Mutex
	sessions map[uint32]*cancellable // by the pid that the client was told; guarded by mu
	watched  map[string]*watched     // by the digest of the connection document; guarded by mu
}

// cancellable is a session with the key that stops its query.
type cancellable struct {
	key     []byte
	session *session
}

// Serve serves PostgreSQL clients until ctx ends. Then it cuts what is left of
// their sessions, waits for them, and returns nil. It closes the listener.
func Serve(ctx context.Context, listener net.Listener, options Options) error {
	v, err := newServer(options)
	if err != nil {
		listener.Close()
		return err
	}
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		conn, err := listener.Accept()
		switch {
		case err == nil:
			clients.Go(func() { v.accept(ctx, conn) })
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("postgres: accept: %w", err)
		default: // out of file descriptors, say: others are served on
			v.options.Log.Error("accept a client", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

func newServer(o Options) (*server, error) {
	if o.Gateway == nil || o.TLS == nil && !o.AllowPlain {
		return nil, errors.New("postgres: a gateway and a TLS configuration (or AllowPlain) are required")
	}
	if o.StartupTimeout <= 0 {
		o.StartupTimeout = startupTimeout
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Digest == nil {
		o.Digest = processDigest()
	}
	if o.TLS != nil {
		o.TLS = o.TLS.Clone()
		o.TLS.NextProtos = []string{"postgresql"}
		o.TLS.MinVersion = max(o.TLS.MinVersion, tls.VersionTLS12)
	}
	guards, err := lru.New[string, *guard](guardCacheSize)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	shapes, err := lru.New[shapeKey, *sqlguard.Shape](shapeCacheSize)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	return &server{
		options: o, guards: guards, shapes: shapes, sessions: map[uint32]*cancellable{}, watched: map[string]*watched{},
		waiting: waitingRoom{log: o.Log, sources: map[netip.Prefix]*list.List{}},
	}, nil
}

// processDigest is a keyed digest whose key nobody learns.
func processDigest() func(string) string {
	key := make([]byte, 32)
	rand.Read(key) // never fails
	return func(s string) string {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(s))
		return "hmac:" + hex.EncodeToString(h.Sum(nil)[:8])
	}
}

// accept serves one client connection to its end.
func (v *server) accept(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer func() {
		if p := recover(); p != nil {
			v.options.Log.Error("panic with a client", "panic", fmt.Sprint(p))
		}
	}()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	leave := v.waiting.enter(conn)
	defer leave()
	deadlineIn(conn, v.options.StartupTimeout)
	o := &opening{conn: conn, config: v.options.TLS,
		plainOK: v.options.AllowPlain && isLoopback(conn.LocalAddr()) && isLoopback(conn.RemoteAddr())}
	st, cancel, err := o.negotiate(ctx)
	switch {
	case err != nil:
		v.options.Log.Debug("startup ended", "remote", conn.RemoteAddr().String(), "error", err)
	case cancel != nil:
		leave()
		v.cancel(cancel)
	default:
		v.open(ctx, o, st, func() bool { leave(); return stop() })
	}
}

// open logs a client in and runs its session. loggedIn lifts what bounds a
// login, and reports false when the end of ctx has already come.
func (v *server) open(ctx context.Context, o *opening, st *startup, loggedIn func() bool) {
	settings, f := st.settings()
	if f != nil {
		o.refuse(f)
		return
	}
	if st.negotiate {
		if _, err := o.conn.Write(st.negotiation()); err != nil {
			return
		}
	}
	token, err := o.password()
	if err != nil {
		v.options.Log.Debug("startup ended", "remote", o.conn.RemoteAddr().String(), "error", err)
		return
	}
	a := gatewayd.Attempt{
		Protocol: "postgres", Remote: o.conn.RemoteAddr().String(), Token: token,
		User: st.parameters["user"], Target: st.parameters["database"], Client: st.parameters["application_name"],
	}
	if o.tls != nil {
		state := o.tls.ConnectionState()
		a.Exporter = state.ExportKeyingMaterial
	}
	core, err := v.options.Gateway.Begin(context.WithoutCancel(ctx), a)
	if err != nil {
		o.refuse(&failure{code: stateOf(err, "28000"), message: err.Error()})
		return
	}
	if !loggedIn() {
		core.Cut("drained", "the gateway is shutting down; connect again")
	}
	drain := context.AfterFunc(ctx, func() { core.Cut("drained", "the gateway is shutting down; connect again") })
	defer drain()
	back, err := v.dial(core, settings)
	if err != nil {
		v.unavailable(o, core, err)
		return
	}
	o.conn.SetDeadline(time.Time{})
	s := v.newSession(core, o.conn, back)
	pid, key := v.register(s, st.version)
	defer v.forget(pid)
	s.hello = v.hello(back, pid, key)
	s.run()
}

// dial logs in at the target with the gateway's credential.
func (v *server) dial(core *gatewayd.Session, settings map[string]string) (*backend, error) {
	doc := core.Connection().Document
	secret, err := core.Credential(core.Context())
	if err != nil {
		return nil, &LoginError{doc.Metadata.Name, "the gateway cannot read its credential", err}
	}
	scope := sha256.Sum256([]byte("sallyport.scope\x00" + core.Connection().Name + "\x00" + core.Principal()))
	settings[sqlguard.ScopeSetting] = hex.EncodeToString(scope[:16]) // as a startup parameter, which DISCARD and RESET leave
	if hashes(doc, core.Masks()) {
		settings[sqlguard.HashKeySetting] = rand128() + rand128()
	}
	back, err := login(core.Context(), doc, secret, settings, core.Masks())
	if err != nil {
		return nil, err
	}
	if back.warning != "" {
		v.options.Log.Warn("the target role can do more than a gateway needs", "connection", doc.Metadata.Name, "why", "the target role "+back.warning)
		if err := core.Event("warning", "the target role "+back.warning); err != nil {
			back.conn.Close()
			return nil, &LoginError{doc.Metadata.Name, "the session cannot be recorded", err}
		}
	}
	return back, nil
}

// unavailable tells the client and the record that there is no target.
func (v *server) unavailable(o *opening, core *gatewayd.Session, err error) {
	f := &failure{code: "08006", message: err.Error()}
	cut := (*gatewayd.Cut)(nil)
	if errors.As(context.Cause(core.Context()), &cut) {
		f = &failure{code: "57P01", message: "session cut: " + cut.Error()}
	}
	v.options.Log.Error("the target cannot be used", "session", core.ID(), "connection", core.Connection().Name, "error", errors.Join(err, errors.Unwrap(err)))
	core.Cut("target_unavailable", err.Error())
	deadlineIn(o.conn, goodbyeTimeout)
	o.refuse(f)
	if _, err := core.End(err); err != nil {
		v.options.Log.Error("session end", "session", core.ID(), "error", err)
	}
}

func (v *server) newSession(core *gatewayd.Session, client net.Conn, back *backend) *session {
	s := &session{
		server: v, core: core, log: v.options.Log.With("session", core.ID()),
		masked: len(core.Masks()) > 0, poison: "sallyport_" + rand128(),
		secrets: secrets{digest: v.options.Digest}, watched: v.watchedFor(core.Connection().Digest),
		client: client, in: newFrameReader(client, maxFrame),
		back: back, from: newFrameReader(back.conn, maxFrame),
		writer: &writer{conn: client}, durable: true,
		skipGroup: -1, status: 'I', greeting: back.parameters,
		statements: map[string]*statement{}, portals: map[string]*portal{},
		scope: sqlguard.Scope{Prepared: map[string]sqlguard.PreparedEffects{}},
	}
	s.changed, s.changes = sync.NewCond(&s.mu), s.watched.count() // before the catalog is read
	s.life, s.die = context.WithCancel(core.Context())
	return s
}

func rand128() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// register gives a session the pid and key that its client may cancel with.
func (v *server) register(s *session, version uint32) (pid uint32, key []byte) {
	key = make([]byte, 4)
	if version >= version32 {
		key = make([]byte, 32)
	}
	rand.Read(key)
	v.mu.Lock()
	defer v.mu.Unlock()
	for b := make([]byte, 4); ; {
		rand.Read(b)
		pid = binary.BigEndian.Uint32(b) >> 1
		if pid != 0 && v.sessions[pid] == nil {
			v.sessions[pid] = &cancellable{key, s}
			return pid, key
		}
	}
}

func (v *server) forget(pid uint32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.sessions, pid)
}

// cancel stops what the named session runs. Whether there is one is not told.
func (v *server) cancel(r *cancelRequest) {
	v.mu.Lock()
	c := v.sessions[r.pid]
	v.mu.Unlock()
	if c == nil || subtle.ConstantTimeCompare(c.key, r.key) != 1 {
		v.options.Log.Debug("cancel request for no session")
		return
	}
	s := c.session
	s.sending.Lock()
	defer s.sending.Unlock()
	if !s.busy() {
		return
	}
	if err := s.back.cancel(s.life); err != nil {
		s.log.Warn("cancel", "error", err)
	}
}

// hello is what makes the client's login complete, given what the target reports by then.
func (v *server) hello(back *backend, pid uint32, key []byte) func(parameters map[string]string, status byte) []byte {
	return func(parameters map[string]string, status byte) []byte {
		out := encode(nil, &pgproto3.AuthenticationOk{})
		names := make([]string, 0, len(parameters))
		for name := range parameters {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			out = encode(out, &pgproto3.ParameterStatus{Name: name, Value: parameters[name]})
		}
		if back.pid != 0 {
			body := binary.BigEndian.AppendUint32(nil, pid)
			out = append(out, message('K', append(body, key...))...)
		}
		return encode(out, &pgproto3.ReadyForQuery{TxStatus: status})
	}
}

// login reads what statements will mean and tells the client that it may begin.
func (s *session) login() error {
	if err := s.refresh(true); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.hello(s.greeting, s.status)
	s.greeting = nil
	return s.writer.write(out, false)
}
