package sshd

import (
	"fmt"
	"io"
	"regexp"
	"sync"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/redact"
)

// typed records what a client sends to a command, where the gateway is set to, and
// never a password that was asked for.
//
// With a terminal nothing is recorded but how much it was: what the terminal shows of it is in the
// output, and what it does not show is a password or may be one. Without one, all is recorded
// as the masks leave it, except for the line that answers a question for something secret.
type typed struct {
	command  *gatewayd.Command
	terminal bool

	mu     sync.Mutex
	stream *redact.Stream
	tail   []byte // the end of what was shown, without a line's end in it
	asked  bool   // for something secret, and the answer's line has not ended
	ended  bool
	hidden int64 // bytes that were not recorded
}

// secretPrompt is the end of a question for something secret.
var secretPrompt = regexp.MustCompile(`(?i)(pass(word|phrase|code|wort)?|secret|token|pin|otp|one-time|verification|2fa|mot de passe|contrase)[^\r\n]{0,100}[:?>]\s*$`)

// recorder is nil when input is not recorded; all its methods can be called on that.
func (ch *channel) recorder(command *gatewayd.Command) *typed {
	if !ch.s.server.options.RecordInput {
		return nil
	}
	return &typed{command: command, terminal: ch.pty, stream: ch.s.masks.NewStream()}
}

// input is what pipe asks before input goes on; nil when none is recorded.
func (t *typed) input() func([]byte) error {
	if t == nil {
		return nil
	}
	return t.record
}

func (t *typed) record(b []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended { // the command no longer takes any
		return io.EOF
	}
	if t.terminal {
		t.hidden += int64(len(b))
		return nil
	}
	for len(b) > 0 && t.asked {
		t.hidden++
		t.asked = b[0] != '\n' && b[0] != '\r'
		b = b[1:]
	}
	if len(b) == 0 {
		return nil
	}
	t.tail = nil
	out := t.stream.Push(b)
	if len(out) == 0 {
		return nil
	}
	return t.command.Output("stdin", out)
}

// shown looks for questions in what the client is about to see.
func (t *typed) shown(b []byte) {
	if t == nil || t.terminal {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	const most = 256
	t.tail = append(t.tail, b[max(0, len(b)-most):]...)
	t.tail = t.tail[max(0, len(t.tail)-most):]
	if secretPrompt.Match(t.tail) {
		t.asked = true
	}
}

// end records what the masks held back and says what was left out.
func (t *typed) end() string {
	if t == nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	if rest := t.stream.Flush(); len(rest) > 0 {
		t.command.Output("stdin", rest) // its error has cut the session
	}
	switch {
	case t.terminal:
		return fmt.Sprintf("stdin %d bytes, which are not recorded: a terminal", t.hidden)
	case t.hidden > 0:
		return fmt.Sprintf("stdin without %d bytes that answered a question for something secret", t.hidden)
	}
	return ""
}
