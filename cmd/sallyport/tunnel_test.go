package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/reviews"
)

// A gateway that plays a part of the protocol, over real TLS.
type stage struct {
	t        *testing.T
	key      ed25519.PrivateKey
	address  string
	listener net.Listener
	etl      ssh.Signer
	play     func(*tls.Conn) // after the handshake; nil closes
	raw      func(net.Conn)  // instead of TLS
	done     sync.WaitGroup
}

func newStage(t *testing.T) *stage {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, key: newEd25519(t), listener: listener, address: listener.Addr().String()}
	if s.etl, err = ssh.NewSignerFromKey(newEd25519(t)); err != nil {
		t.Fatal(err)
	}
	s.done.Go(s.accept)
	t.Cleanup(func() { listener.Close(); s.done.Wait() })
	return s
}

func newEd25519(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (s *stage) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.done.Go(func() { s.serve(conn) })
	}
}

func (s *stage) serve(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	request := make([]byte, 8)
	if _, err := io.ReadFull(conn, request); err != nil {
		return
	}
	if s.raw != nil {
		s.raw(conn)
		return
	}
	_, _ = conn.Write([]byte{'S'})
	certificate, err := identity.GatewayCertificate(s.key)
	if err != nil {
		s.t.Error(err)
		return
	}
	secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}})
	if secure.Handshake() == nil && s.play != nil {
		s.play(secure)
	}
}

func (s *stage) fingerprint(key ed25519.PrivateKey) string {
	return ssh.FingerprintSHA256(sshPublic(s.t, key))
}

func sshPublic(t *testing.T, key ed25519.PrivateKey) ssh.PublicKey {
	t.Helper()
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// tunnel is a client that pins the given key.
func (s *stage) tunnel(pinned ed25519.PrivateKey) *tunnel {
	s.t.Helper()
	config, err := identity.ClientTLS(reviews.Gateway{Name: "gw1", Key: authorized(sshPublic(s.t, pinned), "gw1")})
	if err != nil {
		s.t.Fatal(err)
	}
	return &tunnel{
		gateway: s.address, tls: config, user: "agent:etl", database: "orders-db/etl",
		mint: func(_ context.Context, state tls.ConnectionState) (string, error) {
			exporter, err := identity.Exporter(state)
			if err != nil {
				return "", err
			}
			return identity.Mint(s.etl, identity.Claims{
				Principal: "agent:etl", Connection: "orders-db", Gateway: s.fingerprint(pinned),
				Issued: time.Now(), Expires: time.Now().Add(time.Minute), Exporter: exporter,
			})
		},
	}
}

// client is a local client of the tunnel.
func (s *stage) client(t *tunnel) net.Conn {
	s.t.Helper()
	local, inner := net.Pipe()
	s.done.Go(func() { t.serve(s.t.Context(), inner) })
	s.t.Cleanup(func() { local.Close() })
	local.SetDeadline(time.Now().Add(20 * time.Second))
	return local
}

func startupOf(pairs ...string) []byte {
	p := &firstPacket{code: 3 << 16}
	for _, text := range pairs {
		p.rest = append(append(p.rest, text...), 0)
	}
	p.rest = append(p.rest, 0)
	return p.bytes()
}

func readStartup(r io.Reader) (code uint32, rest []byte, err error) {
	head := make([]byte, 8)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, nil, err
	}
	rest = make([]byte, binary.BigEndian.Uint32(head)-8)
	_, err = io.ReadFull(r, rest)
	return binary.BigEndian.Uint32(head[4:]), rest, err
}

func askPassword(conn io.Writer) error {
	_, err := conn.Write(message('R', binary.BigEndian.AppendUint32(nil, askForPassword)))
	return err
}

// fatal reads the error that the local client gets.
func fatal(t *testing.T, local net.Conn) string {
	t.Helper()
	kind, body, err := readMessage(local)
	if err != nil || kind != 'E' {
		t.Fatalf("no error message: kind %q, %v", kind, err)
	}
	return string(body)
}

// --- attacks ---------------------------------------------------------------

func TestAnImpostorGetsNoToken(t *testing.T) {
	s := newStage(t)
	s.play = func(conn *tls.Conn) {
		if n, _ := io.Copy(io.Discard, conn); n > 0 {
			t.Errorf("the impostor received %d bytes", n)
		}
	}
	local := s.client(s.tunnel(newEd25519(t))) // pins another key than the stage has
	go local.Write(startupOf("user", "x"))
	if text := fatal(t, local); !strings.Contains(text, `this is not gateway "gw1"`) || !strings.Contains(text, "C08006") {
		t.Fatalf("error: %q", text)
	}
}

func TestNoTokenInTheClear(t *testing.T) {
	for name, answer := range map[string]string{"no TLS": "N", "an error": "E", "garbage": "\x00", "nothing": ""} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.raw = func(conn net.Conn) {
				_, _ = io.WriteString(conn, answer)
				if answer == "" {
					return
				}
				if n, _ := io.Copy(io.Discard, conn); n > 0 {
					t.Errorf("%d bytes were sent without TLS", n)
				}
			}
			local := s.client(s.tunnel(s.key))
			go local.Write(startupOf("user", "x"))
			if text := fatal(t, local); !strings.Contains(text, "C08006") {
				t.Fatalf("error: %q", text)
			}
		})
	}
}

// Bytes that somebody slips in between the S and the handshake must never be
// taken for what the gateway says inside it.
func TestBytesBehindTheTLSAnswer(t *testing.T) {
	s := newStage(t)
	s.raw = func(conn net.Conn) {
		_, _ = conn.Write(append([]byte{'S'}, message('E', []byte("SFATAL\x00Minjected\x00\x00"))...))
		_, _ = io.Copy(io.Discard, conn)
	}
	local := s.client(s.tunnel(s.key))
	go local.Write(startupOf("user", "x"))
	if text := fatal(t, local); strings.Contains(text, "injected") {
		t.Fatalf("injected bytes reached the client: %q", text)
	}
}

func TestOtherLoginsAreNotAnswered(t *testing.T) {
	for name, code := range map[string]uint32{"without a password": 0, "md5": 5, "SASL": 10, "GSS": 7} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.play = func(conn *tls.Conn) {
				if _, _, err := readStartup(conn); err != nil {
					t.Error(err)
					return
				}
				_, _ = conn.Write(message('R', binary.BigEndian.AppendUint32(nil, code)))
				if n, _ := io.Copy(io.Discard, conn); n > 0 {
					t.Errorf("answered with %d bytes", n)
				}
			}
			local := s.client(s.tunnel(s.key))
			go local.Write(startupOf("user", "x"))
			if text := fatal(t, local); !strings.Contains(text, "not a sallyport token") {
				t.Fatalf("error: %q", text)
			}
		})
	}
}

func TestTheLocalPasswordIsChecked(t *testing.T) {
	s := newStage(t)
	s.play = func(*tls.Conn) { t.Error("the gateway was reached without the password") }
	for _, given := range []string{"", "wrong", "correct-and-more"} {
		tn := s.tunnel(s.key)
		tn.password = "correct"
		local := s.client(tn)
		if _, err := local.Write(startupOf("user", "x")); err != nil {
			t.Fatal(err)
		}
		if kind, body, err := readMessage(local); err != nil || kind != 'R' || binary.BigEndian.Uint32(body) != askForPassword {
			t.Fatalf("no password was asked for: %q %v", kind, err)
		}
		if _, err := local.Write(message('p', append([]byte(given), 0))); err != nil {
			t.Fatal(err)
		}
		if text := fatal(t, local); !strings.Contains(text, "C28P01") {
			t.Fatalf("error: %q", text)
		}
	}
}

func TestHostileLocalClients(t *testing.T) {
	s := newStage(t)
	s.play = func(*tls.Conn) { t.Error("the gateway was reached") }
	size := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	for name, first := range map[string][]byte{
		"huge":                  append(size(1<<31), make([]byte, 4)...),
		"tiny":                  append(size(4), make([]byte, 4)...),
		"old protocol":          (&firstPacket{code: 2 << 16}).bytes(),
		"no terminator":         (&firstPacket{code: 3 << 16, rest: []byte("user\x00x\x00")}).bytes(),
		"odd fields":            (&firstPacket{code: 3 << 16, rest: []byte("user\x00\x00")}).bytes(),
		"empty":                 (&firstPacket{code: 3 << 16}).bytes(),
		"asks for TLS for ever": bytes.Repeat((&firstPacket{code: codeSSL}).bytes(), 10),
	} {
		t.Run(name, func(t *testing.T) {
			local := s.client(s.tunnel(s.key))
			go local.Write(first)
			rest, err := io.ReadAll(local)
			if err != nil && !errors.Is(err, io.ErrClosedPipe) {
				t.Fatalf("the client was left hanging: %v", err)
			}
			if bytes.Contains(rest, []byte{'R', 0, 0, 0, 8}) {
				t.Fatal("the login went on")
			}
		})
	}
}

// --- what works ------------------------------------------------------------

func TestAClientIsCarriedToTheGateway(t *testing.T) {
	s := newStage(t)
	s.play = func(conn *tls.Conn) {
		_, rest, err := readStartup(conn)
		if err != nil {
			t.Error(err)
			return
		}
		want := "user\x00agent:etl\x00database\x00orders-db/etl\x00application_name\x00psql\x00\x00"
		if string(rest) != want {
			t.Errorf("startup: %q", rest)
		}
		_ = askPassword(conn)
		kind, body, err := readMessage(conn)
		if err != nil || kind != 'p' {
			t.Errorf("password message: %q %v", kind, err)
			return
		}
		state := conn.ConnectionState()
		_, err = identity.Verify(strings.TrimSuffix(string(body), "\x00"), identity.VerifyOptions{
			Keys:     func(string) []reviews.Key { return []reviews.Key{{Key: authorized(s.etl.PublicKey(), "etl")}} },
			Gateway:  s.fingerprint(s.key),
			Exporter: state.ExportKeyingMaterial,
			Now:      time.Now(),
		})
		if err != nil {
			t.Errorf("token: %v", err)
		}
		_, _ = conn.Write(message('R', make([]byte, 4)))
		_, _ = io.Copy(conn, conn) // the session: an echo
	}
	local := s.client(s.tunnel(s.key))
	if _, err := local.Write((&firstPacket{code: codeSSL}).bytes()); err != nil {
		t.Fatal(err)
	}
	no := make([]byte, 1)
	if _, err := io.ReadFull(local, no); err != nil || no[0] != 'N' {
		t.Fatalf("answer to the request for TLS: %q %v", no, err)
	}
	if _, err := local.Write(startupOf("user", "root", "database", "postgres", "application_name", "psql")); err != nil {
		t.Fatal(err)
	}
	if kind, _, err := readMessage(local); err != nil || kind != 'R' {
		t.Fatalf("login: %q %v", kind, err)
	}
	query := message('Q', bytes.Repeat([]byte("select 1; "), 10_000))
	go local.Write(query)
	echo := make([]byte, len(query))
	if _, err := io.ReadFull(local, echo); err != nil || !bytes.Equal(echo, query) {
		t.Fatalf("the session's bytes changed on the way: %v", err)
	}
}

func TestTheGatewaysErrorReachesTheClientUnchanged(t *testing.T) {
	s := newStage(t)
	refusal := message('E', []byte("SFATAL\x00VFATAL\x00C28000\x00Mno review (denial d-12345678)\x00\x00"))
	s.play = func(conn *tls.Conn) {
		if _, _, err := readStartup(conn); err == nil {
			_, _ = conn.Write(refusal)
		}
	}
	local := s.client(s.tunnel(s.key))
	go local.Write(startupOf("user", "x"))
	got, err := io.ReadAll(local)
	if err != nil || !bytes.Equal(got, refusal) {
		t.Fatalf("client saw %q, %v", got, err)
	}
}

func TestACancelRequestIsForwarded(t *testing.T) {
	s := newStage(t)
	seen := make(chan []byte, 1)
	s.play = func(conn *tls.Conn) {
		code, rest, err := readStartup(conn)
		if err != nil || code != codeCancel {
			t.Errorf("code %d, %v", code, err)
		}
		seen <- rest
	}
	local := s.client(s.tunnel(s.key))
	key := []byte("\x00\x00\x00\x2asecret-cancel-key")
	if _, err := local.Write((&firstPacket{code: codeCancel, rest: key}).bytes()); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; !bytes.Equal(got, key) {
		t.Fatalf("cancel key: %q", got)
	}
}

func TestTheDoorwayIsPrivate(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("TMPDIR", t.TempDir())
	door, err := openDoorway(false)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(door.dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("directory: %v %v", info.Mode(), err)
	}
	if _, err := os.Stat(filepath.Join(door.dir, ".s.PGSQL.5432")); err != nil {
		t.Fatal(err)
	}
	door.close()
	if _, err := os.Stat(door.dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the directory is left behind: %v", err)
	}
}

func TestTheClientsEnvironment(t *testing.T) {
	for _, name := range overriding {
		t.Setenv(name, "elsewhere")
	}
	t.Setenv("PGAPPNAME", "report")
	door := &doorway{dir: "/run/x", port: socketPort}
	got := strings.Join(door.environment("agent:etl", "orders-db"), "\n")
	if strings.Contains(got, "elsewhere") {
		t.Fatalf("a variable leads elsewhere:\n%s", got)
	}
	for _, want := range []string{"PGHOST=/run/x", "PGPORT=5432", "PGUSER=agent:etl", "PGDATABASE=orders-db", "PGAPPNAME=report"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(got, "PGPASSWORD") {
		t.Error("a password for a socket")
	}
}

func FuzzStartup(f *testing.F) {
	f.Add([]byte("user\x00x\x00\x00"), uint32(3<<16))
	f.Add([]byte("\x00"), uint32(3<<16+2))
	f.Add([]byte("user\x00x\x00database"), uint32(3<<16))
	f.Fuzz(func(t *testing.T, rest []byte, code uint32) {
		out, err := (&firstPacket{code: code, rest: rest}).startup("agent:etl", "orders-db")
		if err != nil {
			return
		}
		_, body, err := readStartup(bytes.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(body, []byte("user\x00agent:etl\x00database\x00orders-db\x00")) {
			t.Fatalf("%q", body)
		}
		fields := bytes.Split(body, []byte{0})
		for i := 4; i+1 < len(fields)-2; i += 2 {
			if name := string(fields[i]); name == "user" || name == "database" {
				t.Fatalf("a second %s: %q", name, body)
			}
		}
	})
}
