package postgres

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// crossing carries the gateway's connections to a real target until it freezes:
// then nothing moves any more, new connections included, and nothing is closed.
type crossing struct {
	port int

	mu     sync.Mutex
	frozen bool
	conns  []net.Conn
}

func newCrossing(t testing.TB, target *peers.PostgresServer) *crossing {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &crossing{port: listener.Addr().(*net.TCPAddr).Port}
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", net.JoinHostPort(target.Host, strconv.Itoa(target.Port)))
			if err != nil {
				near.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, near, far)
			c.mu.Unlock()
			go c.carry(near, far)
			go c.carry(far, near)
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, conn := range c.conns {
			conn.Close()
		}
	})
	return c
}

func (c *crossing) carry(to, from net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		c.mu.Lock()
		frozen := c.frozen
		c.mu.Unlock()
		if frozen {
			return
		}
		if _, failed := to.Write(b[:n]); err != nil || failed != nil {
			to.Close()
			return
		}
	}
}

func (c *crossing) freeze() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frozen = true
}

// A target that hangs holds up neither what the client is told nor, for long, the end of the session.
func TestATargetThatHangs(t *testing.T) {
	for name, begin := range map[string]func(t *testing.T, w *world, c *pgconn.PgConn, hang func()) error{
		"in a query": func(t *testing.T, w *world, c *pgconn.PgConn, hang func()) error {
			go func() {
				until(t, "the sleep runs", func() bool { return w.sleeping() == "1" })
				hang()
			}()
			_, err := try(t, c, "select pg_sleep(60)")
			return err
		},
		"idle": func(t *testing.T, w *world, c *pgconn.PgConn, hang func()) error {
			hang()
			deadlineIn(c.Conn(), 10*time.Second)
			_, err := c.ReceiveMessage(t.Context())
			return err
		},
		"while it takes data": func(t *testing.T, w *world, c *pgconn.PgConn, hang func()) error {
			r := w.raw() // pgconn forgets a FATAL that comes while it sends
			r.send(query("copy app.orders from stdin"))
			r.until('G')
			go func() {
				for data := message('d', bytes.Repeat([]byte("1\t1\tx\n"), 1000)); ; {
					if _, err := r.conn.Write(data); err != nil {
						return
					}
				}
			}()
			hang()
			for {
				f, err := r.in.next()
				if err != nil {
					return err
				}
				if f.kind == 'E' {
					m, err := parseError(f.body())
					if err != nil {
						return err
					}
					return &pgconn.PgError{Severity: m.Severity, Code: m.Code, Message: m.Message}
				}
			}
		},
		"and a client that takes nothing": func(t *testing.T, w *world, c *pgconn.PgConn, hang func()) error {
			_ = c.Exec(t.Context(), "select repeat('x', 1000) from generate_series(1, 1000000)") // its rows are not read
			until(t, "the way to the client is full", func() bool {
				return w.one("select count(*) from pg_stat_activity where usename = '"+w.role+"' and wait_event = 'ClientWrite'") == "1"
			})
			hang()
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			target := peers.SharedPostgres(t)
			cross := newCrossing(t, target)
			w := newWorld(t, variant{target: target, port: cross.port})
			c := w.connect()
			var cut time.Time
			err := begin(t, w, c, func() {
				cross.freeze()
				cut = time.Now()
				w.gateway.Drain()
			})
			if told := time.Since(cut); told > time.Second {
				t.Errorf("the client was told after %s", told)
			}
			if err != nil {
				sqlstate(t, err, "57P01")
			}
			sessions := 1
			if name == "while it takes data" {
				sessions = 2
			}
			until(t, "the session has ended", func() bool { return w.ended() == sessions })
			if took := time.Since(cut); took > endTimeout+2*time.Second {
				t.Errorf("the session ended after %s", took)
			}
			if name == "in a query" && !strings.Contains(w.recorded(), "the target did not say how it ended") {
				t.Error("the recording claims to know how the query ended")
			}
		})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// Connections that never log in.

// crowd opens connections that send something and then nothing.
func (w *world) crowd(t testing.TB, n int, say []byte) (conns []net.Conn) {
	t.Helper()
	for range n {
		conn, err := net.Dial("tcp", w.address)
		if err != nil {
			t.Error(err)
			return conns
		}
		conn.Write(say)
		conns = append(conns, conn)
	}
	return conns
}

// A flood of connections that do not log in keeps nobody out, before it is complete and after.
func TestLoginsGetThroughAFlood(t *testing.T) {
	w := newWorld(t, variant{})
	w.connect() // the guard is made
	login := func(when string) {
		t.Helper()
		start := time.Now()
		c, err := pgconn.ConnectConfig(t.Context(), w.config())
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("%s: a login took %s", when, took)
		}
		run(t, c, "select 1")
		c.Close(t.Context())
	}
	login("before")
	kinds := [][]byte{
		nil,
		{0},
		{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}, // SSLRequest, and no handshake
		startupFrame(version30, "user", "agent:etl", "database", "orders-db"), // and no password
		{0x16, 0x03, 0x01}, // the beginning of a handshake
	}
	var mu sync.Mutex
	var held []net.Conn
	defer func() {
		for _, conn := range held {
			conn.Close()
		}
	}()
	var opening sync.WaitGroup
	for _, kind := range kinds {
		opening.Go(func() {
			some := w.crowd(t, 1000, kind)
			mu.Lock()
			defer mu.Unlock()
			held = append(held, some...)
		})
	}
	opened := make(chan struct{})
	go func() { opening.Wait(); close(opened) }()
	during := 0
	for done := false; !done; during++ {
		login("while they are opened")
		select {
		case <-opened:
			done = true
		default:
		}
	}
	t.Logf("%d logins while they were opened", during)
	for range 5 {
		login("when all are there")
	}
	until(t, "the first session alone is at the target", func() bool { return w.backends() == "1" })
}

// What waits is bounded in number, and each in time.
func TestConnectionsThatDoNotLogInAreBounded(t *testing.T) {
	w := newWorld(t, variant{startup: 3 * time.Second})
	start := time.Now()
	crowd := w.crowd(t, waitingLimit+200, nil)
	closed := map[net.Conn]bool{}
	for _, conn := range crowd {
		defer conn.Close()
	}
	until(t, "the oldest 200 are closed", func() bool {
		for _, conn := range crowd {
			deadlineIn(conn, time.Millisecond)
			if _, err := conn.Read(make([]byte, 1)); !isTimeout(err) {
				closed[conn] = true
			}
		}
		return len(closed) >= 200
	})
	if gone := len(closed); time.Since(start) < 3*time.Second && gone > 200 {
		t.Errorf("%d of %d connections were closed, want 200", gone, len(crowd))
	}
	// A slow one: a byte now and then does not extend its time.
	slow, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	start = time.Now()
	for _, b := range startupFrame(version30, "user", "agent:etl", "database", "orders-db", "application_name", strings.Repeat("x", 150)) {
		if _, err := slow.Write([]byte{b}); err != nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	deadlineIn(slow, 5*time.Second)
	if _, err := io.ReadAll(slow); isTimeout(err) || time.Since(start) > 5*time.Second {
		t.Errorf("a slow login was kept for %s: %v", time.Since(start), err)
	}
}

// A full room pushes out of the source that has most, and there the oldest.
func TestTheFullWaitingRoom(t *testing.T) {
	v, err := newServer(Options{Gateway: newWorld(t, variant{}).gateway, AllowPlain: true})
	if err != nil {
		t.Fatal(err)
	}
	enter := func(source string) (*caller, func()) {
		c := &caller{source: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source))}
		return c, v.waiting.enter(c)
	}
	alone, _ := enter("192.0.2.1:1")
	six, _ := enter("[2001:db8::1]:1")
	var flood []*caller
	for i := range 2 * waitingLimit {
		c, _ := enter(fmt.Sprintf("[2001:db8:0:1::%x]:%d", i+1, i+1)) // one /64
		flood = append(flood, c)
	}
	for i, c := range flood {
		if wanted := i < waitingLimit+2; c.closed != wanted {
			t.Fatalf("connection %d of the flood: closed %t, want %t", i, c.closed, wanted)
		}
	}
	if alone.closed || six.closed {
		t.Error("the flood pushed out another source")
	}
	late, leave := enter("192.0.2.1:2")
	leave()
	leave()
	if late.closed || v.waiting.count != waitingLimit-1 {
		t.Errorf("%d connections wait", v.waiting.count)
	}
}

// caller is a connection of which only the source matters.
type caller struct {
	net.Conn
	source net.Addr
	closed bool
}

func (c *caller) RemoteAddr() net.Addr { return c.source }
func (c *caller) Close() error         { c.closed = true; return nil }

func TestTheDefaultStartupTimeoutIsTenSeconds(t *testing.T) {
	v, err := newServer(Options{Gateway: newWorld(t, variant{}).gateway, AllowPlain: true})
	if err != nil || v.options.StartupTimeout != 10*time.Second {
		t.Errorf("%v, %v", v.options.StartupTimeout, err)
	}
}
