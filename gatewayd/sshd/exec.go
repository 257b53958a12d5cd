package sshd

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/gatewayd/redact"
	"github.com/sallyport-dev/sallyport/gatewayd/sshd/cmdline"
)

// exitDenied is what a denied command ends with: EX_NOPERM of sysexits.h.
const exitDenied = 77

// sessionEnforcement is what the record of a shell says, in these words.
const sessionEnforcement = "enforcement: session: in a shell single commands are recorded and not decided on"

// pause is how long output is held back that might be the beginning of something masked.
const pause = 50 * time.Millisecond

// channel is one session channel of a client (RFC 4254 §6), until it runs something.
type channel struct {
	s        *session
	client   ssh.Channel
	requests <-chan *ssh.Request
	setup    []*ssh.Request // env and pty-req, for the host, once there is something to run
	pty      bool
}

const maxSetup = 64 // requests before the command

func (s *session) sessionChannel(c ssh.NewChannel) {
	client, requests, err := c.Accept()
	if err != nil {
		return
	}
	defer client.Close()
	ch := &channel{s: s, client: client, requests: requests}
	for r := range requests {
		if done := ch.before(r); done {
			break
		}
	}
	go ssh.DiscardRequests(requests)
}

// before handles a request before anything runs, and reports whether the channel is done.
func (ch *channel) before(r *ssh.Request) (done bool) {
	switch r.Type {
	case "env":
		ch.environment(r)
	case "pty-req":
		if err := ch.s.permits("permit-pty"); err != nil {
			ch.say(err)
			r.Reply(false, nil)
			return false
		}
		ch.pty = true
		var want struct {
			Term                      string
			Cols, Rows, Width, Height uint32
			Modes                     string
		}
		if ssh.Unmarshal(r.Payload, &want) == nil {
			ch.size("terminal", want.Cols, want.Rows)
		}
		ch.keep(r, true)
	case "exec", "subsystem":
		var payload struct{ Text string }
		if err := ssh.Unmarshal(r.Payload, &payload); err != nil {
			r.Reply(false, nil)
			return true
		}
		r.Reply(true, nil) // the answer is what is written, and the exit status: clients show no reason of a refused request
		if r.Type == "exec" {
			ch.exec(payload.Text, r)
		} else {
			ch.subsystem(payload.Text)
		}
		return true
	case "shell":
		r.Reply(true, nil)
		ch.shell(r)
		return true
	case "auth-agent-req@openssh.com", "x11-req":
		ch.s.core.Refuse("("+r.Type+")", "forward_refused", "agents and displays are never forwarded to a host")
		r.Reply(false, nil)
	case "window-change", "signal", "eow@openssh.com":
		r.Reply(false, nil)
	default:
		ch.s.core.Refuse("("+clip(r.Type)+")", "request_unsupported", "requests of type "+clip(r.Type)+" are not served")
		r.Reply(false, nil)
	}
	return false
}

// size records the terminal's, so that a replay can be as large.
func (ch *channel) size(event string, cols, rows uint32) {
	if err := ch.s.core.Event(event, fmt.Sprintf("%dx%d", cols, rows)); err != nil {
		ch.s.core.Cut("recording_unavailable", "the session can no longer be recorded")
	}
}

func (ch *channel) environment(r *ssh.Request) {
	var v struct{ Name, Value string }
	if err := ssh.Unmarshal(r.Payload, &v); err != nil {
		r.Reply(false, nil)
		return
	}
	spec := ch.s.core.Connection().Document.Spec
	if !spec.AllowsVariable(v.Name) {
		r.Reply(false, nil) // as an OpenSSH server does; clients send what their configuration names and go on
		return
	}
	ch.keep(r, true)
}

func (ch *channel) keep(r *ssh.Request, ok bool) {
	if len(ch.setup) >= maxSetup {
		ok = false
	} else {
		ch.setup = append(ch.setup, r)
	}
	r.Reply(ok, nil)
}

// exec runs one command line.
func (ch *channel) exec(text string, r *ssh.Request) {
	command, err := ch.s.start(cmdline.Exec(text), "")
	if err != nil {
		if _, complex := cmdline.Split(text); complex != nil { // why no rule for words could fit
			ch.note(complex.Error() + "; only a rule with this very text can allow it")
		}
		ch.deny(err)
		return
	}
	ch.run(command, r)
}

func (ch *channel) shell(r *ssh.Request) {
	command, err := ch.s.start(cmdline.Shell(), sessionEnforcement)
	if err != nil {
		ch.deny(err)
		return
	}
	ch.run(command, r)
}

func (ch *channel) subsystem(name string) {
	if name != "sftp" {
		ch.deny(ch.s.core.Refuse("(subsystem "+clip(name)+")", "request_unsupported", "the subsystem "+clip(name)+" is not served; sftp is"))
		return
	}
	ch.sftp()
}

// deny tells the client on its standard error, the one place that every client shows.
func (ch *channel) deny(err error) {
	ch.say(err)
	ch.exit(exitDenied)
}

func (ch *channel) say(err error) { ch.note(err.Error()) }

func (ch *channel) note(text string) {
	end := "\n"
	if ch.pty { // the client's terminal is raw
		end = "\r\n"
	}
	io.WriteString(ch.client.Stderr(), "sallyport: "+printable(text)+end)
}

func (ch *channel) exit(status uint32) {
	ch.client.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
}

// open opens a channel on the host and prepares it as the client asked.
func (ch *channel) open() (ssh.Channel, <-chan *ssh.Request, error) {
	host, err := ch.s.host()
	if err != nil {
		return nil, nil, err
	}
	there, requests, err := host.OpenChannel("session", nil)
	if err != nil {
		return nil, nil, ch.s.core.Refuse("(channel)", "target_unavailable", "the host opens no more channels")
	}
	for _, r := range ch.setup {
		if _, err := there.SendRequest(r.Type, r.Type == "pty-req", r.Payload); err != nil {
			there.Close()
			return nil, nil, err
		}
	}
	return there, requests, nil
}

// run runs what was allowed on the host and carries everything between the two until it has ended.
func (ch *channel) run(command *gatewayd.Command, r *ssh.Request) {
	result := record.Result{Outcome: "failed", Message: "the host did not run it"}
	defer func() { command.End(result) }()
	there, requests, err := ch.open()
	if err != nil {
		ch.deny(err)
		return
	}
	defer there.Close()
	if ok, err := there.SendRequest(r.Type, true, r.Payload); err != nil || !ok {
		ch.note("the host refused to run it")
		ch.exit(255)
		return
	}
	kill := func() { // OpenSSH's server ends a process that has no terminal only on this
		there.SendRequest("signal", false, ssh.Marshal(struct{ Name string }{"KILL"}))
		there.Close()
	}
	leave := ch.s.enter(&remote{kill: kill, notes: ch.note})
	defer leave()
	stop := ch.timeLimit(kill)
	defer stop()

	go ch.duringRun(there, kill)
	input := pipe(there, ch.client, ch.recorder(command))
	go func() {
		<-input
		there.CloseWrite()
	}()
	out, errs := ch.output(command, "stdout", there, ch.client), ch.output(command, "stderr", there.Stderr(), ch.client.Stderr())
	ended := make(chan exitOf, 1)
	go func() { ended <- exits(requests) }()
	result.Message = (<-out).String() + "; " + (<-errs).String()
	ch.client.CloseWrite()
	how := <-ended
	result.Outcome, result.Tag = how.outcome(), how.String()
	if how.request != nil {
		ch.client.SendRequest(how.request.Type, false, how.request.Payload)
	}
}

// timeLimit kills a command that runs longer than the review allows.
func (ch *channel) timeLimit(kill func()) (stop func()) {
	limit := time.Duration(ch.s.core.Limits().Statement)
	if limit <= 0 {
		return func() {}
	}
	t := time.AfterFunc(limit, func() {
		d := ch.s.core.Refuse("(running command)", "command_limit", "the command ran for "+limit.String()+", the limit of the review")
		kill()
		ch.note(d.Error())
	})
	return func() { t.Stop() }
}

// duringRun carries the requests of a client whose command runs.
func (ch *channel) duringRun(there ssh.Channel, kill func()) {
	for r := range ch.requests {
		switch r.Type {
		case "window-change", "signal", "break", "eow@openssh.com":
			var to struct{ Cols, Rows, Width, Height uint32 }
			if r.Type == "window-change" && ssh.Unmarshal(r.Payload, &to) == nil {
				ch.size("resize", to.Cols, to.Rows)
			}
			ok, err := there.SendRequest(r.Type, r.WantReply, r.Payload)
			r.Reply(ok && err == nil, nil)
		default:
			r.Reply(false, nil)
		}
	}
	kill() // the client closed the channel: nobody waits for the command any more
}

// recorder records input where the gateway is set to; nil when it is not.
func (ch *channel) recorder(command *gatewayd.Command) func([]byte) error {
	if !ch.s.server.options.RecordInput {
		return nil
	}
	return func(b []byte) error { return command.Output("stdin", b) }
}

// exitOf is how a command ended on the host.
type exitOf struct {
	request *ssh.Request // exit-status or exit-signal; nil when the host told nothing
	status  uint32
	signal  string
}

func exits(requests <-chan *ssh.Request) (how exitOf) {
	for r := range requests {
		switch r.Type {
		case "exit-status":
			var p struct{ Status uint32 }
			if ssh.Unmarshal(r.Payload, &p) == nil && how.request == nil {
				how.request, how.status = r, p.Status
			}
		case "exit-signal":
			var p struct {
				Signal string
				Core   bool
				Text   string
				Lang   string
			}
			if ssh.Unmarshal(r.Payload, &p) == nil && how.request == nil {
				how.request, how.signal = r, clip(p.Signal)
			}
		}
		r.Reply(false, nil)
	}
	return how
}

func (e exitOf) outcome() string {
	switch {
	case e.request == nil:
		return record.OutcomeUnknown
	case e.signal == "" && e.status == 0:
		return "ok"
	}
	return "failed"
}

func (e exitOf) String() string {
	switch {
	case e.request == nil:
		return "no exit status"
	case e.signal != "":
		return "killed by signal " + e.signal
	}
	return fmt.Sprintf("exit status %d", e.status)
}

// measured counts the bytes of a stream, and digests those that the recording had
// no room for: the others are in its own hash chain. Where no output is recorded at all, none is digested.
type measured struct {
	name string
	n    int64
	left int64
	sum  hash.Hash // nil without a digest
}

func (m *measured) add(b []byte, kept int) {
	m.n += int64(len(b))
	if left := b[kept:]; len(left) > 0 {
		m.left += int64(len(left))
		if m.sum != nil {
			m.sum.Write(left)
		}
	}
}

func (m *measured) String() string {
	switch {
	case m.n == 0:
		return m.name + " empty"
	case m.left == 0 || m.sum == nil:
		return fmt.Sprintf("%s %d bytes", m.name, m.n)
	}
	return fmt.Sprintf("%s %d bytes, of which the last %d are not recorded, sha256:%s", m.name, m.n, m.left, hex.EncodeToString(m.sum.Sum(nil)))
}

// output carries one stream of the host's to the client: masked, recorded, and then shown.
func (ch *channel) output(command *gatewayd.Command, name string, from io.Reader, to io.Writer) <-chan *measured {
	done := make(chan *measured, 1)
	m := &measured{name: name}
	if command.KeepsOutput() {
		m.sum = sha256.New()
	}
	o := &outlet{command: command, name: name, to: to, measured: m, stream: ch.s.masks.NewStream()}
	go func() {
		defer func() { done <- m }()
		if ch.s.masks.Empty() {
			o.copyAll(from)
			return
		}
		o.copyMasked(from)
	}()
	return done
}

type outlet struct {
	command  *gatewayd.Command
	name     string
	to       io.Writer
	measured *measured
	stream   *redact.Stream
	mu       sync.Mutex // the stream is pushed from one goroutine and flushed from another
	timer    *time.Timer
	failed   error
}

// release records what may leave and lets it. Callers hold mu, or are alone.
func (o *outlet) release(b []byte) error {
	if len(b) == 0 || o.failed != nil {
		return o.failed
	}
	if o.failed = o.command.AddRows(0, int64(len(b))); o.failed != nil {
		return o.failed
	}
	var kept int
	if kept, o.failed = o.command.Keep(o.name, b); o.failed != nil {
		return o.failed
	}
	o.measured.add(b, kept)
	_, o.failed = o.to.Write(b)
	return o.failed
}

func (o *outlet) copyAll(from io.Reader) {
	held := inPool.Get().(*[]byte)
	defer inPool.Put(held)
	buf := *held
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if o.release(buf[:n]) != nil {
				io.Copy(io.Discard, from) // the host must not hang
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// copyMasked holds back what is no whole line yet, for a moment: a prompt ends without a line's end.
func (o *outlet) copyMasked(from io.Reader) {
	o.timer = time.AfterFunc(time.Hour, o.flush)
	defer o.timer.Stop()
	held := inPool.Get().(*[]byte)
	defer inPool.Put(held)
	buf := *held
	for {
		n, err := from.Read(buf)
		if n > 0 {
			o.mu.Lock()
			o.timer.Stop()
			failed := o.release(o.stream.Push(buf[:n]))
			if o.stream.Holds() {
				o.timer.Reset(pause)
			}
			o.mu.Unlock()
			if failed != nil {
				io.Copy(io.Discard, from)
				return
			}
		}
		if err != nil {
			o.timer.Stop()
			o.flush()
			return
		}
	}
}

func (o *outlet) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.release(o.stream.Flush())
}

// pipe copies until either side ends and then tells how many bytes it was. seen, when not nil, is asked before each write.
func pipe(to io.Writer, from io.Reader, seen func([]byte) error) <-chan int64 {
	done := make(chan int64, 1)
	go func() {
		var total int64
		defer func() { done <- total }()
		held := inPool.Get().(*[]byte)
		defer inPool.Put(held)
		buf := *held
		for {
			n, err := from.Read(buf)
			if n > 0 {
				if seen != nil && seen(buf[:n]) != nil {
					return
				}
				if _, err := to.Write(buf[:n]); err != nil {
					return
				}
				total += int64(n)
			}
			if err != nil {
				return
			}
		}
	}()
	return done
}
