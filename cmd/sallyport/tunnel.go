package main

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// Codes of the first packet of a PostgreSQL connection, and the one
// authentication request that a gateway makes.
const (
	codeCancel     = 80877102
	codeSSL        = 80877103
	codeGSS        = 80877104
	protocolMajor  = 3
	askForPassword = 3
)

const (
	maxStartup   = 10_000  // PostgreSQL's own limit
	maxHandshake = 1 << 20 // of one message before the login is through
	loginTimeout = 30 * time.Second
)

// tunnel carries local PostgreSQL clients to a gateway. It answers the login
// itself, with a token made for the one TLS connection it is sent on, and from
// then on moves bytes that it does not look at.
type tunnel struct {
	gateway  string // host:port
	tls      *tls.Config
	user     string
	database string
	// mint makes the token for one connection.
	mint func(context.Context, tls.ConnectionState) (string, error)
	// password, when set, is what a local client must know: TCP has no file permissions.
	password string
}

// serve carries one local client to its end and closes it.
func (t *tunnel) serve(ctx context.Context, local net.Conn) {
	defer local.Close()
	stop := context.AfterFunc(ctx, func() { local.Close() })
	defer stop()
	local.SetDeadline(time.Now().Add(loginTimeout))
	first, err := readFirst(local)
	if err != nil {
		return // it never said what it wants
	}
	if first.code == codeCancel {
		t.cancel(ctx, first)
		return
	}
	remote, err := t.login(ctx, local, first)
	if err != nil {
		local.SetDeadline(time.Now().Add(loginTimeout))
		writeFatal(local, err)
		return
	}
	defer remote.Close()
	stopRemote := context.AfterFunc(ctx, func() { remote.Close() })
	defer stopRemote()
	local.SetDeadline(time.Time{})
	remote.SetDeadline(time.Time{})
	relay(local, remote)
}

// cancel passes a cancel request on. PostgreSQL never answers one.
func (t *tunnel) cancel(ctx context.Context, request *firstPacket) {
	remote, err := t.dial(ctx)
	if err != nil {
		return
	}
	defer remote.Close()
	if _, err := remote.Write(request.bytes()); err == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(remote, maxHandshake)) // the gateway closes when it is done
	}
}

// login opens the connection to the gateway up to where the token was sent.
// What the gateway answers to it goes to the client as it is.
func (t *tunnel) login(ctx context.Context, local net.Conn, first *firstPacket) (*tls.Conn, error) {
	startup, err := first.startup(t.user, t.database)
	if err != nil {
		return nil, err
	}
	if err := t.checkPassword(local); err != nil {
		return nil, err
	}
	remote, err := t.dial(ctx)
	if err != nil {
		return nil, err
	}
	if err := t.authenticate(ctx, local, remote, startup); err != nil {
		remote.Close()
		return nil, err
	}
	return remote, nil
}

var errWrongPassword = errors.New("wrong password: use the one that `sallyport connect` printed")

// checkPassword asks a local TCP client for the password that was printed.
func (t *tunnel) checkPassword(local net.Conn) error {
	if t.password == "" {
		return nil
	}
	if _, err := local.Write(message('R', binary.BigEndian.AppendUint32(nil, askForPassword))); err != nil {
		return err
	}
	kind, body, err := readMessage(local)
	if err != nil {
		return err
	}
	given := bytes.TrimSuffix(body, []byte{0})
	if kind != 'p' || subtle.ConstantTimeCompare(given, []byte(t.password)) != 1 {
		return errWrongPassword
	}
	return nil
}

// dial is a TLS connection to the pinned gateway.
func (t *tunnel) dial(ctx context.Context) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.gateway)
	if err != nil {
		return nil, fmt.Errorf("gateway %s cannot be reached: %w; --gateway names another address", t.gateway, err)
	}
	raw.SetDeadline(time.Now().Add(loginTimeout))
	if err := askForTLS(raw); err != nil {
		raw.Close()
		return nil, fmt.Errorf("gateway %s: %w", t.gateway, err)
	}
	conn := tls.Client(raw, t.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("gateway %s: %w", t.gateway, err)
	}
	return conn, nil
}

// askForTLS reads exactly one byte of the answer, so that nothing that was
// slipped in before the handshake can be taken for what comes after it.
func askForTLS(raw net.Conn) error {
	if _, err := raw.Write((&firstPacket{code: codeSSL}).bytes()); err != nil {
		return err
	}
	answer := make([]byte, 1)
	if _, err := io.ReadFull(raw, answer); err != nil {
		return fmt.Errorf("no answer to the request for TLS: %w", err)
	}
	if answer[0] != 'S' {
		return errors.New("it does not speak TLS on this port; a token is never sent in the clear")
	}
	return nil
}

// authenticate sends the startup and, once asked, the token. Everything else
// that the gateway says before goes to the client.
func (t *tunnel) authenticate(ctx context.Context, local io.Writer, remote *tls.Conn, startup []byte) error {
	remote.SetDeadline(time.Now().Add(loginTimeout))
	if _, err := remote.Write(startup); err != nil {
		return err
	}
	for {
		kind, body, err := readMessage(remote)
		if err != nil {
			return fmt.Errorf("gateway %s ended the login: %w", t.gateway, err)
		}
		if kind == 'R' && len(body) == 4 && binary.BigEndian.Uint32(body) == askForPassword {
			token, err := t.mint(ctx, remote.ConnectionState())
			if err != nil {
				return err
			}
			_, err = remote.Write(message('p', append([]byte(token), 0)))
			return err
		}
		if kind == 'R' {
			return fmt.Errorf("gateway %s asks for a login that is not a sallyport token", t.gateway)
		}
		if _, err := local.Write(message(kind, body)); err != nil {
			return err
		}
		if kind == 'E' {
			return nil // the relay finds the gateway's end of the connection
		}
	}
}

// relay moves bytes both ways until one side is done and the other has had the
// time to say its last words.
func relay(local net.Conn, remote *tls.Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(remote, local)
		remote.CloseWrite()
		remote.SetReadDeadline(time.Now().Add(5 * time.Second))
	}()
	_, _ = io.Copy(local, remote)
	local.Close() // ends the other direction
	remote.Close()
	<-done
}

// firstPacket is the packet that opens a PostgreSQL connection.
type firstPacket struct {
	code uint32
	rest []byte
}

func (p *firstPacket) bytes() []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(p.rest)))
	return append(binary.BigEndian.AppendUint32(b, p.code), p.rest...)
}

// readFirst reads up to the packet that says what the client wants. Encryption
// is refused: the socket is local.
func readFirst(local net.Conn) (*firstPacket, error) {
	for range 3 {
		head := make([]byte, 8)
		if _, err := io.ReadFull(local, head); err != nil {
			return nil, err
		}
		size := binary.BigEndian.Uint32(head)
		if size < 8 || size > maxStartup {
			return nil, fmt.Errorf("startup packet of %d bytes", size)
		}
		p := &firstPacket{code: binary.BigEndian.Uint32(head[4:]), rest: make([]byte, size-8)}
		if _, err := io.ReadFull(local, p.rest); err != nil {
			return nil, err
		}
		if p.code != codeSSL && p.code != codeGSS {
			return p, nil
		}
		if _, err := local.Write([]byte{'N'}); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("it only asks for encryption")
}

// startup is the packet for the gateway: the client's own parameters, with the
// user and the database that the token is for.
func (p *firstPacket) startup(user, database string) ([]byte, error) {
	if p.code>>16 != protocolMajor {
		return nil, fmt.Errorf("PostgreSQL protocol %d.%d is not supported, only 3.x", p.code>>16, p.code&0xffff)
	}
	fields := bytes.Split(p.rest, []byte{0})
	if n := len(fields); n < 2 || len(fields[n-1]) != 0 || len(fields[n-2]) != 0 || n%2 != 0 {
		return nil, errors.New("the client's startup packet is malformed")
	}
	out := &firstPacket{code: p.code}
	put := func(name, value string) {
		out.rest = append(append(append(append(out.rest, name...), 0), value...), 0)
	}
	put("user", user)
	put("database", database)
	for pair := range slices.Chunk(fields[:len(fields)-2], 2) {
		if name := string(pair[0]); name != "user" && name != "database" {
			put(name, string(pair[1]))
		}
	}
	out.rest = append(out.rest, 0)
	return out.bytes(), nil
}

// readMessage reads one message of the login, which is never large.
func readMessage(r io.Reader) (kind byte, body []byte, err error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size < 4 || size > maxHandshake {
		return 0, nil, fmt.Errorf("a message of %d bytes during the login", size)
	}
	body = make([]byte, size-4)
	_, err = io.ReadFull(r, body)
	return head[0], body, err
}

func message(kind byte, body []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body)))
	return append(b, body...)
}

// writeFatal tells a local client why there is no connection.
func writeFatal(w io.Writer, cause error) {
	sqlstate := "08006" // connection_failure
	if errors.Is(cause, errWrongPassword) {
		sqlstate = "28P01" // invalid_password
	}
	var body []byte
	for _, field := range []string{"SFATAL", "VFATAL", "C" + sqlstate, "Msallyport: " + cause.Error()} {
		body = append(append(body, field...), 0)
	}
	_, _ = w.Write(message('E', append(body, 0))) // a client that is gone needs no answer
}
