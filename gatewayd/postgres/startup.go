package postgres

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sort"
	"strings"
	"time"

	"github.com/jackc/pgproto3/v2"
)

// maxStartup is PostgreSQL's own limit for a startup packet, in bytes.
const maxStartup = 10000

// maxPassword bounds the password message; a review token is well below it.
const maxPassword = 64 << 10

// Codes in place of a version.
const (
	codeCancel = 80877102
	codeSSL    = 80877103
	codeGSSENC = 80877104
)

// startup is what a client says before it logs in.
type startup struct {
	version    uint32 // of the protocol, as it will be spoken: 3.0 or 3.2
	negotiate  bool   // the client asked for more than there is
	unknown    []string
	parameters map[string]string
}

const (
	version30 = 3 << 16
	version32 = 3<<16 | 2
)

// cancelRequest is what a client sends on a connection of its own to stop a query.
type cancelRequest struct {
	pid uint32
	key []byte
}

// opening is a client connection during startup.
type opening struct {
	conn    net.Conn // the TLS connection once there is one
	tls     *tls.Conn
	config  *tls.Config
	plainOK bool
}

// errRefused is a startup that was answered, or deserves no answer.
var errRefused = errors.New("the startup was refused")

// negotiate reads up to the startup packet or cancel request, switching to TLS on the way.
func (o *opening) negotiate(ctx context.Context) (*startup, *cancelRequest, error) {
	if err := o.directTLS(ctx); err != nil {
		return nil, nil, err
	}
	askedSSL, askedGSS := false, false
	for {
		packet, err := readStartup(o.conn)
		if err != nil {
			return nil, nil, err
		}
		switch code := binary.BigEndian.Uint32(packet); {
		case code == codeSSL && len(packet) == 4 && !askedSSL && o.tls == nil:
			askedSSL = true
			if err := o.answerSSL(ctx); err != nil {
				return nil, nil, err
			}
		case code == codeGSSENC && len(packet) == 4 && !askedGSS && o.tls == nil:
			askedGSS = true
			if _, err := o.conn.Write([]byte{'N'}); err != nil {
				return nil, nil, err
			}
		case code == codeCancel:
			if len(packet) < 9 || len(packet) > 8+256 {
				return nil, nil, fmt.Errorf("%w: a cancel request of %d bytes", errRefused, len(packet))
			}
			return nil, &cancelRequest{binary.BigEndian.Uint32(packet[4:]), packet[8:]}, nil
		default:
			st, f := parseStartup(packet)
			if f == nil && o.tls == nil && !o.plainOK {
				f = &failure{code: "28000", message: "this gateway wants TLS: connect with sslmode=require or stronger"}
			}
			if f != nil {
				return nil, nil, o.refuse(f)
			}
			return st, nil, nil
		}
	}
}

// directTLS takes a client that begins with a TLS handshake, which must then name the protocol.
func (o *opening) directTLS(ctx context.Context) error {
	first := make([]byte, 1)
	if _, err := io.ReadFull(o.conn, first); err != nil {
		return err
	}
	o.conn = &prefixed{Conn: o.conn, prefix: first}
	if first[0] != 0x16 {
		return nil
	}
	if o.config == nil {
		return fmt.Errorf("%w: direct TLS, but the gateway has no certificate", errRefused)
	}
	if err := o.handshake(ctx); err != nil {
		return err
	}
	if got := o.tls.ConnectionState().NegotiatedProtocol; got != "postgresql" {
		return fmt.Errorf("%w: direct TLS without ALPN postgresql", errRefused)
	}
	return nil
}

// answerSSL answers an SSLRequest. Requests are read byte for byte and nothing
// is read ahead, so that plaintext a client (or somebody between) sent behind
// the request is taken for a TLS handshake, which fails.
func (o *opening) answerSSL(ctx context.Context) error {
	if o.config == nil {
		_, err := o.conn.Write([]byte{'N'})
		return err
	}
	if _, err := o.conn.Write([]byte{'S'}); err != nil {
		return err
	}
	return o.handshake(ctx)
}

func (o *opening) handshake(ctx context.Context) error {
	c := tls.Server(o.conn, o.config)
	if err := c.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("%w: TLS: %w", errRefused, err)
	}
	o.conn, o.tls = c, c
	return nil
}

// refuse answers with a FATAL error; the connection is of no use afterwards.
func (o *opening) refuse(f *failure) error {
	o.conn.Write(encode(nil, f.response("FATAL")))
	return fmt.Errorf("%w: %s", errRefused, f.message)
}

// password asks for the review token and reads it.
func (o *opening) password() (string, error) {
	if _, err := o.conn.Write(encode(nil, &pgproto3.AuthenticationCleartextPassword{})); err != nil {
		return "", err
	}
	header := make([]byte, headerSize)
	if _, err := io.ReadFull(o.conn, header); err != nil {
		return "", err
	}
	length := int64(binary.BigEndian.Uint32(header[1:])) - 4
	if header[0] != 'p' || length < 1 || length > maxPassword {
		return "", o.refuse(&failure{code: "08P01", message: "expected the review token as the password"})
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(o.conn, body); err != nil {
		return "", err
	}
	token, rest, err := cString(body)
	if err != nil || len(rest) != 0 {
		return "", o.refuse(&failure{code: "08P01", message: "the password message is malformed"})
	}
	return token, nil
}

// readStartup reads one packet without a type byte, without its length.
func readStartup(conn net.Conn) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(head[:])
	if length < 8 || length > maxStartup {
		return nil, fmt.Errorf("%w: a startup packet of length %d", errRefused, length)
	}
	packet := make([]byte, length-4)
	_, err := io.ReadFull(conn, packet)
	return packet, err
}

// parseStartup reads a startup packet: version, then pairs of strings.
func parseStartup(packet []byte) (*startup, *failure) {
	malformed := &failure{code: "08P01", message: "the startup packet is malformed"}
	if len(packet) < 5 {
		return nil, malformed
	}
	asked := binary.BigEndian.Uint32(packet)
	if asked>>16 != 3 {
		return nil, &failure{code: "0A000", message: fmt.Sprintf("protocol %d.%d is not supported: use 3.0 or 3.2", asked>>16, asked&0xffff)}
	}
	st := &startup{version: version30, parameters: map[string]string{}}
	if asked&0xffff >= 2 {
		st.version = version32
	}
	st.negotiate = asked != st.version
	for rest := packet[4:]; ; {
		if len(rest) == 1 && rest[0] == 0 {
			break
		}
		var key, value string
		var err error
		if key, rest, err = cString(rest); err == nil {
			value, rest, err = cString(rest)
		}
		if err != nil || key == "" {
			return nil, malformed
		}
		if strings.HasPrefix(key, "_pq_.") {
			st.unknown = append(st.unknown, key)
			continue
		}
		if _, twice := st.parameters[key]; twice {
			return nil, &failure{code: "08P01", message: fmt.Sprintf("startup parameter %q is given twice", key)}
		}
		st.parameters[key] = value
	}
	st.negotiate = st.negotiate || len(st.unknown) > 0
	sort.Strings(st.unknown)
	if st.parameters["user"] == "" {
		return nil, &failure{code: "28000", message: "no user was given: it is the principal, for example agent:etl"}
	}
	if st.parameters["database"] == "" {
		st.parameters["database"] = st.parameters["user"]
	}
	return st, nil
}

// negotiation is NegotiateProtocolVersion, which pgproto3 does not know.
func (st *startup) negotiation() []byte {
	var body bytes.Buffer
	binary.Write(&body, binary.BigEndian, st.version)
	binary.Write(&body, binary.BigEndian, uint32(len(st.unknown)))
	for _, name := range st.unknown {
		body.WriteString(name)
		body.WriteByte(0)
	}
	return message('v', body.Bytes())
}

// message frames a body.
func message(kind byte, body []byte) []byte {
	out := make([]byte, headerSize, headerSize+len(body))
	out[0] = kind
	binary.BigEndian.PutUint32(out[1:], uint32(4+len(body)))
	return append(out, body...)
}

// prefixed gives back a byte that was read to look at it.
type prefixed struct {
	net.Conn
	prefix []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.prefix) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.prefix)
	p.prefix = p.prefix[n:]
	return n, nil
}

// isLoopback reports whether an address is on this machine.
func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// deadlineIn bounds everything that is read and written from now on.
func deadlineIn(conn net.Conn, d time.Duration) {
	conn.SetDeadline(time.Now().Add(d))
}
