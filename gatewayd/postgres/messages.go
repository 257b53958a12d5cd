package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pgproto3/v2"
)

// errMessage is a message whose inside contradicts its length.
var errMessage = errors.New("malformed message")

// cString reads a NUL-terminated string and returns what is behind it.
func cString(b []byte) (s string, rest []byte, err error) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return "", nil, fmt.Errorf("%w: a string does not end", errMessage)
	}
	return string(b[:i]), b[i+1:], nil
}

// parseQuery reads the text of a Query message.
func parseQuery(body []byte) (string, error) {
	text, rest, err := cString(body)
	if err != nil {
		return "", err
	}
	if len(rest) != 0 {
		return "", fmt.Errorf("%w: a query has bytes behind its end", errMessage)
	}
	return text, nil
}

// parseParse reads a Parse message.
func parseParse(body []byte) (*pgproto3.Parse, error) {
	_, rest, err := cString(body)
	if err != nil {
		return nil, err
	}
	if _, rest, err = cString(rest); err != nil {
		return nil, err
	}
	if len(rest) < 2 || len(rest) != 2+4*int(binary.BigEndian.Uint16(rest)) {
		return nil, fmt.Errorf("%w: Parse and its parameter types disagree", errMessage)
	}
	m := &pgproto3.Parse{}
	return m, m.Decode(body)
}

// parseBind reads a Bind message. pgproto3 panics on a negative inner length,
// so that every one is checked first.
func parseBind(body []byte) (*pgproto3.Bind, error) {
	_, rest, err := cString(body)
	if err != nil {
		return nil, err
	}
	if _, rest, err = cString(rest); err != nil {
		return nil, err
	}
	if rest, err = skipCounted(rest, 2); err != nil {
		return nil, err
	}
	if rest, err = skipValues(rest); err != nil {
		return nil, err
	}
	if rest, err = skipCounted(rest, 2); err != nil {
		return nil, err
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%w: Bind has bytes behind its end", errMessage)
	}
	m := &pgproto3.Bind{}
	return m, m.Decode(body)
}

// skipCounted skips a 16-bit count and that many items of a fixed size.
func skipCounted(b []byte, size int) ([]byte, error) {
	if len(b) < 2 {
		return nil, fmt.Errorf("%w: a count is missing", errMessage)
	}
	n := 2 + size*int(binary.BigEndian.Uint16(b))
	if len(b) < n {
		return nil, fmt.Errorf("%w: fewer items than counted", errMessage)
	}
	return b[n:], nil
}

// skipValues skips a 16-bit count and that many values with a length each; -1 is NULL.
func skipValues(b []byte) ([]byte, error) {
	if len(b) < 2 {
		return nil, fmt.Errorf("%w: a count is missing", errMessage)
	}
	count := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	for i := 0; i < count; i++ {
		if len(b) < 4 {
			return nil, fmt.Errorf("%w: value %d is missing", errMessage, i+1)
		}
		n := int32(binary.BigEndian.Uint32(b))
		b = b[4:]
		if n == -1 {
			continue
		}
		if n < -1 || int64(n) > int64(len(b)) {
			return nil, fmt.Errorf("%w: value %d has length %d", errMessage, i+1, n)
		}
		b = b[n:]
	}
	return b, nil
}

// target is what Describe and Close name: a statement or a portal.
type target struct {
	kind byte // 'S' or 'P'
	name string
}

func parseTarget(body []byte) (target, error) {
	if len(body) < 2 || body[0] != 'S' && body[0] != 'P' {
		return target{}, fmt.Errorf("%w: neither a statement nor a portal", errMessage)
	}
	name, rest, err := cString(body[1:])
	if err == nil && len(rest) != 0 {
		err = fmt.Errorf("%w: bytes behind the end", errMessage)
	}
	return target{body[0], name}, err
}

// parseExecute reads the portal of an Execute message.
func parseExecute(body []byte) (portal string, err error) {
	portal, rest, err := cString(body)
	if err == nil && len(rest) != 4 {
		err = fmt.Errorf("%w: Execute has no row limit", errMessage)
	}
	return portal, err
}

// parseFields reads a RowDescription.
func parseFields(body []byte) ([]pgproto3.FieldDescription, error) {
	if len(body) < 2 {
		return nil, fmt.Errorf("%w: RowDescription", errMessage)
	}
	rest := body[2:]
	for range int(binary.BigEndian.Uint16(body)) {
		_, after, err := cString(rest)
		if err != nil || len(after) < 18 {
			return nil, fmt.Errorf("%w: RowDescription", errMessage)
		}
		rest = after[18:]
	}
	var m pgproto3.RowDescription
	if err := m.Decode(body); err != nil {
		return nil, err
	}
	return m.Fields, nil
}

// parseError reads an ErrorResponse or NoticeResponse.
func parseError(body []byte) (*pgproto3.ErrorResponse, error) {
	m := &pgproto3.ErrorResponse{}
	if err := m.Decode(body); err != nil {
		return nil, fmt.Errorf("%w: ErrorResponse: %w", errMessage, err)
	}
	return m, nil
}

// encode appends a message that was built here; only messages of bounded size are.
func encode(dst []byte, m pgproto3.Message) []byte {
	out, err := m.Encode(dst)
	if err != nil {
		panic(fmt.Sprintf("postgres: encode %T: %v", m, err))
	}
	return out
}

// The messages without a body.
var (
	flushMessage     = []byte{'H', 0, 0, 0, 4}
	syncMessage      = []byte{'S', 0, 0, 0, 4}
	terminateMessage = []byte{'X', 0, 0, 0, 4}
)

// failure is an error that the engine itself answers with.
type failure struct {
	code    string // SQLSTATE
	message string
	hint    string
}

func (f *failure) Error() string { return f.message }

func (f *failure) response(severity string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: f.code, Message: f.message, Hint: f.hint}
}
