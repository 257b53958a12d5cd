package jsonmask

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// MaxObject is the largest object that is read, in bytes; etcd's own limit is far below.
const MaxObject = 16 << 20

// ErrTooLarge is the error of an object that is larger.
var ErrTooLarge = errors.New("an object is larger than the gateway reads")

// Reader takes JSON documents from a stream, as much of it at a time as it needs.
type Reader struct {
	rules *Rules
	src   io.Reader
	buf   []byte
	pos   int // what is before has been taken
	err   error
}

// NewReader reads from src under the rules.
func (r *Rules) NewReader(src io.Reader) *Reader { return &Reader{rules: r, src: src} }

// fill reads more, and reports whether there was any.
func (d *Reader) fill() bool {
	if d.err != nil {
		return false
	}
	if d.pos > 0 && d.pos >= len(d.buf)/2 {
		d.buf = d.buf[:copy(d.buf, d.buf[d.pos:])]
		d.pos = 0
	}
	if cap(d.buf)-len(d.buf) < 16<<10 {
		grown := make([]byte, len(d.buf), max(64<<10, 2*cap(d.buf)))
		copy(grown, d.buf)
		d.buf = grown
	}
	n, err := d.src.Read(d.buf[len(d.buf):cap(d.buf)])
	d.buf = d.buf[:len(d.buf)+n]
	d.err = err
	return n > 0 || err == nil
}

// peek is the next byte that is no space; 0 at the end.
func (d *Reader) peek() byte {
	for {
		for ; d.pos < len(d.buf); d.pos++ {
			switch c := d.buf[d.pos]; c {
			case ' ', '\t', '\n', '\r':
			default:
				return c
			}
		}
		if !d.fill() {
			return 0
		}
	}
}

func (d *Reader) failed() error {
	if d.err != nil && d.err != io.EOF {
		return d.err
	}
	return ErrJSON
}

// raw takes one whole value. It is the caller's until the next call.
func (d *Reader) raw() ([]byte, error) {
	first := d.peek()
	if first == 0 {
		return nil, d.failed()
	}
	depth, inString := 0, false
	for at := 0; ; { // relative to pos, which fill may move
		rest := d.buf[d.pos+at:]
		switch {
		case len(rest) == 0:
			if at > MaxObject {
				return nil, ErrTooLarge
			}
			if !d.fill() {
				if depth == 0 && !inString && at > 0 && first != '"' && first != '{' && first != '[' {
					return d.take(at), nil // a number at the end
				}
				return nil, d.failed()
			}
		case inString:
			i := bytes.IndexAny(rest, `"\`)
			switch {
			case i < 0:
				at += len(rest)
			case rest[i] == '"':
				at, inString = at+i+1, false
				if depth == 0 {
					return d.take(at), nil
				}
			case i+1 < len(rest):
				at += i + 2
			case !d.fill(): // the escaped character is still to come
				return nil, d.failed()
			}
		default:
			at++
			switch rest[0] {
			case '"':
				inString = true
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth < 0 && at > 1 { // the end of what the value is in
					return d.take(at - 1), nil
				} else if depth == 0 {
					return d.take(at), nil
				} else if depth < 0 {
					return nil, ErrJSON
				}
			case ',', ' ', '\n', '\t', '\r':
				if depth == 0 {
					return d.take(at - 1), nil
				}
			}
		}
	}
}

func (d *Reader) take(n int) []byte {
	d.pos += n
	return d.buf[d.pos-n : d.pos]
}

// Next takes one document, hidden as it has to be: a watch event. The error is io.EOF after the last.
func (d *Reader) Next() (out []byte, items int, err error) {
	if d.peek() == 0 && (d.err == nil || d.err == io.EOF) {
		return nil, 0, io.EOF
	}
	raw, err := d.raw()
	if err != nil {
		return nil, 0, err
	}
	return d.rules.Document(raw)
}

// CopyTo takes the one document there is and hands it on in pieces, with the number of
// objects that each piece ends. An error of the text leaves what was handed on cut short.
func (d *Reader) CopyTo(write func(b []byte, items int) error) (items int, err error) {
	c := &copier{Reader: d, write: write}
	if err := c.document(); err != nil {
		return c.items, err
	}
	if d.peek() != 0 {
		return c.items, ErrJSON
	}
	return c.items, c.flush()
}

type copier struct {
	*Reader
	write func(b []byte, items int) error
	out   []byte
	items int
	told  int // of items
}

func (c *copier) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	err := c.write(c.out, c.items-c.told)
	c.out, c.told = c.out[:0], c.items
	return err
}

func (c *copier) put(b []byte) error {
	if c.out = append(c.out, b...); len(c.out) >= 64<<10 {
		return c.flush()
	}
	return nil
}

// document gathers members until the list comes, so that an object is looked at as a whole.
func (c *copier) document() error {
	if c.peek() != '{' {
		raw, err := c.raw()
		if err != nil {
			return err
		}
		return c.rewritten(raw)
	}
	c.pos++
	head := []byte{'{'}
	for c.peek() != '}' {
		key, err := c.name()
		if err != nil {
			return err
		}
		if list := string(key) == `"items"` || string(key) == `"rows"`; list && c.peek() == '[' {
			return c.list(head, string(key))
		}
		if len(head) > 1 {
			head = append(head, ',')
		}
		head = append(append(head, key...), ':')
		raw, err := c.raw()
		if err != nil {
			return err
		}
		if head = append(head, raw...); len(head) > MaxObject {
			return ErrTooLarge
		}
		if err := c.comma(); err != nil {
			return err
		}
	}
	c.pos++
	return c.rewritten(append(head, '}'))
}

// name takes the name of a member, with its quotes, and the colon.
func (c *copier) name() ([]byte, error) {
	if c.peek() != '"' {
		return nil, c.failed()
	}
	raw, err := c.raw()
	if err != nil {
		return nil, err
	}
	key := bytes.Clone(raw)
	if c.peek() != ':' {
		return nil, c.failed()
	}
	c.pos++
	return key, nil
}

// comma takes the comma between members; there is none before the end.
func (c *copier) comma() error {
	switch c.peek() {
	case ',':
		c.pos++
		if c.peek() == '}' {
			return ErrJSON
		}
		return nil
	case '}':
		return nil
	}
	return c.failed()
}

func (c *copier) rewritten(raw []byte) error {
	out, items, err := c.rules.Document(raw)
	if err != nil {
		return err
	}
	c.items += items
	return c.put(out)
}

// list hands on what was before the list, its elements and what is after it.
func (c *copier) list(head []byte, key string) error {
	before, _, err := c.rules.Document(append(head, '}'))
	if err != nil {
		return err
	}
	if before = before[:len(before)-1]; bytes.Contains(head, []byte(`"SecretList"`)) {
		c.rules = &Rules{root: union(c.rules.root, secret), secrets: true, Text: c.rules.Text}
	}
	if len(before) > 1 {
		before = append(before, ',')
	}
	if err := c.put(append(before, key+":["...)); err != nil {
		return err
	}
	c.pos++ // [
	for first := true; c.peek() != ']'; first = false {
		raw, err := c.raw()
		if err != nil {
			return err
		}
		if err := c.element(raw, key == `"rows"`, first); err != nil {
			return err
		}
		switch c.peek() {
		case ',':
			if c.pos++; c.peek() == ']' {
				return ErrJSON
			}
		case ']':
		default:
			return c.failed()
		}
	}
	c.pos++
	if err := c.put([]byte("]")); err != nil {
		return err
	}
	return c.tail()
}

func (c *copier) element(raw []byte, row, first bool) error {
	w := &rewriter{src: raw, rules: c.rules}
	var err error
	if row {
		if err = w.row(); err == nil && w.space() != 0 {
			err = ErrJSON
		}
	} else {
		err = w.whole(true)
	}
	if err != nil {
		return fmt.Errorf("object %d of the list: %w", c.items+1, err)
	}
	c.items++
	if !first {
		c.out = append(c.out, ',')
	}
	return c.put(w.finish())
}

// tail hands on the members after the list.
func (c *copier) tail() error {
	for {
		switch c.peek() {
		case '}':
			c.pos++
			return c.put([]byte("}"))
		case ',':
			c.pos++
		default:
			return c.failed()
		}
		key, err := c.name()
		if err != nil {
			return err
		}
		raw, err := c.raw()
		if err != nil {
			return err
		}
		one := append(append(append([]byte{'{'}, key...), ':'), raw...)
		out, items, err := c.rules.Document(append(one, '}'))
		if err != nil {
			return err
		}
		c.items += items
		out[0] = ','
		if err := c.put(out[:len(out)-1]); err != nil {
			return err
		}
	}
}
