package gatewayd

import (
	"fmt"
	"sync"

	"github.com/sallyport-dev/sallyport/gatewayd/record"
)

// Command is one started command. Its engine reports output as it flows and
// ends it exactly once.
type Command struct {
	session *Session
	n       int64 // its number in the recording

	mu    sync.Mutex
	room  bool
	rows  int64
	bytes int64
	ended bool
}

// Number is the command's number in the recording, from 1.
func (c *Command) Number() int64 { return c.n }

// Output appends what the client is about to see, already masked, to the
// recording. Call it before the bytes leave. An error means: forward nothing
// more; the session has been cut.
func (c *Command) Output(stream string, b []byte) error {
	_, err := c.Keep(stream, b)
	return err
}

// Keep is Output that tells how many of the bytes the recording had room for.
func (c *Command) Keep(stream string, b []byte) (kept int, err error) {
	kept, room, err := c.session.journal.Output(c.n, stream, b)
	if err != nil {
		c.session.Cut("recording_unavailable", "the session can no longer be recorded")
		return 0, fmt.Errorf("session %s: record output: %w", c.session.id, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.room = room
	return kept, nil
}

// KeepsOutput reports whether output of the session is recorded at all.
func (c *Command) KeepsOutput() bool { return c.session.journal.KeepsOutput() }

// Room reports whether the recording still takes output of this command; when
// false the engine need not decode any.
func (c *Command) Room() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.room
}

// AddRows counts rows and bytes about to go to the client against the review's
// limits. An error means: forward nothing more; the session has been cut.
func (c *Command) AddRows(rows, bytes int64) error {
	c.mu.Lock()
	c.rows += rows
	c.bytes += bytes
	c.mu.Unlock()
	limits := c.session.Limits()
	if total := c.session.rows.Add(rows); limits.Rows > 0 && total > limits.Rows {
		c.session.Cut("row_limit", fmt.Sprintf("the review allows %d rows a session", limits.Rows))
		return fmt.Errorf("session %s: row limit of %d reached", c.session.id, limits.Rows)
	}
	if total := c.session.bytes.Add(bytes); limits.Bytes > 0 && total > limits.Bytes {
		c.session.Cut("byte_limit", fmt.Sprintf("the review allows %d bytes of rows a session", limits.Bytes))
		return fmt.Errorf("session %s: byte limit of %d reached", c.session.id, limits.Bytes)
	}
	return nil
}

// End records how the command ended. Only the first call counts. Rows and
// bytes are filled in from AddRows where the engine left them 0.
func (c *Command) End(r record.Result) { c.Finish("", nil, r) }

// Finish is Output of the last there is, and End, for the cost of one. An error
// means: forward nothing more; the session has been cut.
func (c *Command) Finish(stream string, b []byte, r record.Result) error {
	c.mu.Lock()
	again := c.ended
	c.ended = true
	if r.Rows == 0 {
		r.Rows = c.rows
	}
	if r.Bytes == 0 {
		r.Bytes = c.bytes
	}
	c.mu.Unlock()
	if again {
		return nil
	}
	c.session.idle()
	if err := c.session.journal.Finish(c.n, stream, b, r); err != nil {
		c.session.Cut("recording_unavailable", "the session can no longer be recorded")
		return fmt.Errorf("session %s: record the end of a command: %w", c.session.id, err)
	}
	return nil
}
