package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf8"
)

// Type says what a record tells. Recordings hold no others.
type Type string

const (
	TypeOpen      Type = "open"      // first record: whose session it is
	TypeCommand   Type = "command"   // a command and its decision, before anything of it reaches the target
	TypeOutput    Type = "output"    // what the client was shown of it, already masked
	TypeTruncated Type = "truncated" // output that the cap left out
	TypeResult    Type = "result"    // how the command ended
	TypeEvent     Type = "event"     // anything else worth knowing, such as why the session was cut
	TypeDenied    Type = "denied"    // one refused login; only in denial logs
	TypeClose     Type = "close"     // last but one: how the session ended, and its summary
	TypeSeal      Type = "seal"      // last: the gateway's signature over the chain's head
)

// Record is one line of a recording. Which fields are set depends on Type; the package comment has the table.
type Record struct {
	Seq       int64             `json:"seq"`  // from 1, without gaps
	Time      time.Time         `json:"t"`    // UTC, by the gateway's clock
	Prev      string            `json:"prev"` // sha256 hex of the line before, without its line feed
	Type      Type              `json:"type"`
	N         int64             `json:"n,omitempty"` // the command's number in its session, from 1
	Header    *Header           `json:"header,omitempty"`
	Command   *Command          `json:"command,omitempty"`
	Stream    string            `json:"stream,omitempty"` // "rows", "copy", "notice", "error" …: the engine's word
	Data      string            `json:"data,omitempty"`   // output or event text, when it is UTF-8
	Base64    []byte            `json:"base64,omitempty"` // output, when it is not
	Left      int64             `json:"left,omitempty"`   // bytes of output that were left out
	Result    *Result           `json:"result,omitempty"`
	Event     string            `json:"event,omitempty"` // "cut", "settings", "damaged" …
	Summary   *Summary          `json:"summary,omitempty"`
	Statement string            `json:"statement,omitempty"` // of a seal: exactly the bytes that are signed
	Signature string            `json:"signature,omitempty"` // of a seal: armoured SSHSIG over Statement
	Raw       map[string][]byte `json:"raw,omitempty"`       // true bytes of texts that are not UTF-8, by field

	// Line is the record as it stands in the recording, without its line feed.
	Line []byte `json:"-"`

	text []byte // in place of Data, of a record that is being written: UTF-8, and the caller's
}

// Output is the data of an output record, whichever way it was written.
func (r *Record) Output() []byte {
	if r.Base64 != nil {
		return r.Base64
	}
	return []byte(r.Data)
}

// maxLine bounds one record in bytes, so that a reader needs a bounded amount of memory.
const maxLine = 64 << 20

var errTooLong = errors.New("record is longer than 64 MiB, which no recording may hold")

// encode appends the record's line, without a line feed, to dst.
func encode(dst *bytes.Buffer, r *Record) error {
	if r.Type == TypeOutput && r.text != nil {
		encodeText(dst, r)
		return nil
	}
	setAside(r)
	start := dst.Len()
	e := json.NewEncoder(dst)
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("encode %s record: %w", r.Type, err)
	}
	dst.Truncate(dst.Len() - 1) // the encoder's line feed
	escapeTerminal(dst, start)
	if dst.Len()-start > maxLine {
		dst.Truncate(start)
		return errTooLong
	}
	return nil
}

// encodeText is encode of an output record with a text, of which there is most. It
// writes what encode would, in one look at each byte.
func encodeText(dst *bytes.Buffer, r *Record) {
	dst.Grow(len(r.text) + len(r.text)/16 + 256)
	b := dst.AvailableBuffer()
	b = strconv.AppendInt(append(b, `{"seq":`...), r.Seq, 10)
	b = r.Time.AppendFormat(append(b, `,"t":"`...), time.RFC3339Nano)
	b = append(append(append(b, `","prev":"`...), r.Prev...), `","type":"output","n":`...)
	b = strconv.AppendInt(b, r.N, 10)
	b = appendText(append(b, `,"stream":"`...), []byte(r.Stream))
	b = appendText(append(b, `","data":"`...), r.text)
	dst.Write(append(b, `"}`...))
}

// appendText appends what stands between the quotes of a JSON string: text, which is
// UTF-8, with all escaped that JSON, a terminal or a reader's eye may obey.
func appendText(b, text []byte) []byte {
	from := 0
	for i := 0; i < len(text); {
		if len(text)-i >= 8 && eightUnescaped(binary.LittleEndian.Uint64(text[i:])) {
			i += 8
			continue
		}
		c := text[i]
		if unescaped[c] {
			i++
			continue
		}
		n := 1
		r := rune(c)
		if c >= utf8.RuneSelf {
			if r, n = utf8.DecodeRune(text[i:]); !obeyed(r) && r != '\u2028' && r != '\u2029' {
				i += n
				continue
			}
		}
		b = append(b, text[from:i]...)
		switch r {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
		i += n
		from = i
	}
	return append(b, text[from:]...)
}

// eightUnescaped reports whether eight bytes all stand for themselves: each term has
// the high bit of a byte set when it is beyond ASCII, a control character, or one of the three.
func eightUnescaped(x uint64) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	quote, slash, del := x^ones*'"', x^ones*'\\', x^ones*0x7f
	return (x|(x-ones*' ')|(quote-ones)&^quote|(slash-ones)&^slash|(del-ones)&^del)&high == 0
}

// unescaped are the bytes that stand for themselves in any JSON string.
var unescaped = func() (t [256]bool) {
	for c := ' '; c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// decode reads one line strictly: unknown fields, trailing data and unknown types are errors.
func decode(line []byte) (*Record, error) {
	r := &Record{}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		return nil, fmt.Errorf("not a record: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("not a record: data after the JSON object")
	}
	if err := r.wellFormed(); err != nil {
		return nil, err
	}
	takeBack(r)
	r.Line = line
	return r, nil
}

// wellFormed checks that a record has the parts its type promises to readers.
func (r *Record) wellFormed() error {
	ok := true
	switch r.Type {
	case TypeOpen:
		ok = r.Header != nil
	case TypeCommand:
		ok = r.Command != nil && r.N > 0
	case TypeResult:
		ok = r.Result != nil && r.N > 0
	case TypeOutput, TypeTruncated:
		ok = r.N > 0 && r.Left >= 0
	case TypeClose, TypeDenied:
		ok = r.Summary != nil
	case TypeSeal:
		ok = r.Statement != "" && r.Signature != ""
	case TypeEvent:
	default:
		return fmt.Errorf("unknown record type %q", r.Type)
	}
	if !ok {
		return fmt.Errorf("incomplete %s record", r.Type)
	}
	return nil
}

// texts calls f for every text of the record that comes from outside byte for
// byte. JSON strings are Unicode, such texts may not be.
func texts(r *Record, f func(field string, s *string)) {
	if c := r.Command; c != nil {
		f("statement", &c.Statement)
		f("sent", &c.Sent)
		f("reason", &c.Reason)
		for i := range c.Parameters {
			f("parameters["+strconv.Itoa(i)+"]", &c.Parameters[i])
		}
	}
	if r.Result != nil {
		f("tag", &r.Result.Tag)
		f("message", &r.Result.Message)
	}
	if r.Type == TypeEvent {
		f("data", &r.Data)
	}
}

// setAside keeps the bytes of texts that JSON cannot carry; the text itself then shows U+FFFD in their place.
func setAside(r *Record) {
	texts(r, func(field string, s *string) {
		if utf8.ValidString(*s) {
			return
		}
		if r.Raw == nil {
			r.Raw = map[string][]byte{}
		}
		r.Raw[field] = []byte(*s)
	})
}

func takeBack(r *Record) {
	if len(r.Raw) == 0 {
		return
	}
	texts(r, func(field string, s *string) {
		if b, ok := r.Raw[field]; ok {
			*s = string(b)
		}
	})
}

// escapeTerminal rewrites characters that a terminal or a reader's eye may
// obey (DEL, C1 controls, bidirectional overrides) as \u escapes, so that a
// recording can be shown by `cat`. encoding/json does so for those below 0x20.
func escapeTerminal(dst *bytes.Buffer, start int) {
	line := dst.Bytes()[start:]
	if plain(line) || !bytes.ContainsFunc(line, obeyed) {
		return
	}
	tail := append([]byte(nil), line...)
	dst.Truncate(start)
	for len(tail) > 0 {
		c, n := utf8.DecodeRune(tail)
		if obeyed(c) {
			fmt.Fprintf(dst, `\u%04x`, c)
		} else {
			dst.Write(tail[:n])
		}
		tail = tail[n:]
	}
}

// plain reports whether nothing but ASCII is there, as in most lines.
func plain(line []byte) bool {
	for _, c := range line {
		if c >= 0x7f {
			return false
		}
	}
	return true
}

// obeyed reports characters beyond ASCII controls that change how text is shown.
func obeyed(c rune) bool {
	switch {
	case c >= 0x7f && c <= 0x9f, c == 0x061c, c == 0x200e, c == 0x200f, c == 0xfeff:
		return true
	case c >= 0x202a && c <= 0x202e, c >= 0x2066 && c <= 0x2069:
		return true
	}
	return false
}

func digestLine(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}

// genesis is what the first record carries as prev: the digest of nothing.
var genesis = digestLine(nil)
