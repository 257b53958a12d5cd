package sshd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/gatewayd/redact"
	"github.com/sallyport-dev/sallyport/gatewayd/sshd/cmdline"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// session is one logged-in client.
type session struct {
	server *server
	core   *gatewayd.Session
	cert   *ssh.Certificate // what the client proved, when it was a certificate
	client *ssh.ServerConn
	masks  *redact.Rules

	dialling sync.Mutex
	target   *ssh.Client // nil until the first command is allowed; guarded by dialling

	mu      sync.Mutex
	running map[*remote]bool // what runs on the host; guarded by mu
}

// remote is something that runs on the host and must end with the session.
type remote struct {
	kill  func()            // ends it there; may be called twice
	notes func(text string) // tells the client why; nil when there is no way
}

const (
	// settle is how long the end of what was killed on the host is waited for.
	settle = 2 * time.Second
	// keepalive is how often a silent client is asked whether it is there.
	keepalive = 30 * time.Second
)

// serve runs the session to its end.
func (s *session) serve(channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	s.running = map[*remote]bool{}
	log := s.server.options.Log
	var err error
	if s.masks, err = masksOf(s.core.Masks()); err != nil {
		s.core.Cut("internal_error", "a mask of the review cannot be used")
		log.Error("a mask cannot be used", "session", s.core.ID(), "error", err)
	}
	stop := context.AfterFunc(s.core.Context(), s.cut)
	defer stop()
	go s.globalRequests(requests)
	ended := make(chan struct{})
	go s.watchClient(ended)
	places := make(chan struct{}, maxChannels)
	var open sync.WaitGroup
	for c := range channels {
		select {
		case places <- struct{}{}:
			open.Go(func() {
				defer func() { <-places }()
				s.channel(c)
			})
		default:
			s.reject(c, s.core.Refuse("(channel)", "channel_limit", fmt.Sprintf("%d channels are open, which is the limit of one connection", maxChannels)))
		}
	}
	close(ended)
	s.killAll("") // the client has gone
	open.Wait()
	s.dialling.Lock()
	if s.target != nil {
		s.target.Close()
	}
	s.dialling.Unlock()
	if _, err := s.core.End(nil); err != nil {
		log.Error("a session did not end well", "session", s.core.ID(), "error", err)
	}
}

func masksOf(list []reviews.Mask) (*redact.Rules, error) {
	var patterns, detectors []string
	for _, m := range list {
		switch {
		case m.Pattern != "":
			patterns = append(patterns, m.Pattern)
		case m.Detect != "":
			detectors = append(detectors, m.Detect)
		default:
			return nil, errors.New("a mask of a column on an ssh connection")
		}
	}
	return redact.New(patterns, detectors)
}

// cut runs when the core has ended the session: what runs on the host is killed,
// the client is told, and both connections are closed.
func (s *session) cut() {
	reason := "the session has ended"
	if c := (*gatewayd.Cut)(nil); errors.As(context.Cause(s.core.Context()), &c) {
		reason = c.Error()
	}
	// Both end soon, whatever becomes of the rest: a host that hangs must not keep a client in.
	time.AfterFunc(settle/4, func() { s.client.Close() })
	time.AfterFunc(settle/2, func() {
		s.dialling.Lock()
		defer s.dialling.Unlock()
		if s.target != nil {
			s.target.Close()
		}
	})
	s.killAll("session cut: " + reason)
}

// killAll ends everything on the host. why goes to the client when it is not "".
func (s *session) killAll(why string) {
	s.mu.Lock()
	list := make([]*remote, 0, len(s.running))
	for r := range s.running {
		list = append(list, r)
	}
	s.mu.Unlock()
	for _, r := range list { // neither a host nor a client that does not read holds up the others
		go r.kill()
		if why != "" && r.notes != nil {
			go r.notes(why)
		}
	}
}

// enter registers what runs on the host; leave takes it out again.
func (s *session) enter(r *remote) (leave func()) {
	s.mu.Lock()
	s.running[r] = true
	s.mu.Unlock()
	if s.core.Context().Err() != nil { // cut between the decision and here
		r.kill()
	}
	return func() {
		s.mu.Lock()
		delete(s.running, r)
		s.mu.Unlock()
	}
}

// host is the connection to the host, dialled at the first need.
func (s *session) host() (*ssh.Client, error) {
	s.dialling.Lock()
	defer s.dialling.Unlock()
	if s.target != nil {
		return s.target, nil
	}
	if err := context.Cause(s.core.Context()); err != nil {
		return nil, err
	}
	target, err := dial(s.core.Context(), s.core)
	if err != nil {
		s.server.options.Log.Error("the host cannot be reached", "session", s.core.ID(), "connection", s.core.Connection().Name, "error", err)
		return nil, s.core.Refuse("(host)", "target_unavailable", "the gateway cannot log in to the host of connection "+s.core.Connection().Name+" now; its log says why")
	}
	s.target = target
	go func() {
		target.Wait()
		if s.core.Context().Err() == nil {
			s.core.Cut("target_unavailable", "the host closed the connection")
		}
	}()
	return target, nil
}

// globalRequests answers what a client asks about the whole connection.
func (s *session) globalRequests(requests <-chan *ssh.Request) {
	for r := range requests {
		switch r.Type {
		case "keepalive@openssh.com":
			r.Reply(true, nil)
		case "tcpip-forward", "streamlocal-forward@openssh.com":
			s.core.Refuse("("+r.Type+")", "forward_refused", "connections from the host back to the client are never forwarded")
			r.Reply(false, nil)
		default:
			r.Reply(false, nil)
		}
	}
}

// watchClient closes the connection of a client that is there no more.
func (s *session) watchClient(ended <-chan struct{}) {
	tick := time.NewTicker(keepalive)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
			answered := make(chan struct{})
			go func() {
				defer close(answered)
				s.client.SendRequest("keepalive@openssh.com", true, nil)
			}()
			select {
			case <-answered:
			case <-ended:
				return
			case <-time.After(keepalive):
				s.client.Close()
				return
			}
		}
	}
}

// channel serves one channel that the client wants to open.
func (s *session) channel(c ssh.NewChannel) {
	defer func() {
		if p := recover(); p != nil {
			s.server.options.Log.Error("panic in a channel", "session", s.core.ID(), "panic", fmt.Sprint(p))
			s.core.Cut("internal_error", "the gateway failed while it served a channel")
		}
	}()
	switch c.ChannelType() {
	case "session":
		s.sessionChannel(c)
	case "direct-tcpip":
		s.forward(c)
	default:
		s.reject(c, s.core.Refuse("("+clip(c.ChannelType())+")", "request_unsupported", "channels of type "+clip(c.ChannelType())+" are not opened"))
	}
}

func (s *session) reject(c ssh.NewChannel, err error) {
	c.Reject(ssh.Prohibited, "sallyport: "+printable(err.Error()))
}

// forward opens a connection from the host to another, when a rule names it (RFC 4254 §7.2).
func (s *session) forward(c ssh.NewChannel) {
	var to struct {
		Host   string
		Port   uint32
		Origin string
		From   uint32
	}
	if err := ssh.Unmarshal(c.ExtraData(), &to); err != nil || to.Port > 65535 {
		s.reject(c, s.core.Refuse("(forward)", "forward_refused", "the request cannot be read"))
		return
	}
	address := net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port)))
	if err := s.permits("permit-port-forwarding"); err != nil {
		s.reject(c, err)
		return
	}
	command, err := s.start(cmdline.Forward(address), "")
	if err != nil {
		s.reject(c, err)
		return
	}
	host, err := s.host()
	if err != nil {
		command.End(record.Result{Outcome: "failed", Message: "the host was not reached"})
		s.reject(c, err)
		return
	}
	there, err := host.Dial("tcp", address)
	if err != nil {
		command.End(record.Result{Outcome: "failed", Message: "the host did not open it"})
		c.Reject(ssh.ConnectionFailed, "sallyport: the host cannot connect to "+printable(clip(address)))
		return
	}
	here, requests, err := c.Accept()
	if err != nil {
		there.Close()
		command.End(record.Result{Outcome: "failed", Message: "the client went away"})
		return
	}
	go ssh.DiscardRequests(requests)
	leave := s.enter(&remote{kill: func() { there.Close(); here.Close() }})
	defer leave()
	up, down := pipe(there, here, nil), pipe(here, there, func(b []byte) error { return command.AddRows(0, int64(len(b))) })
	var sent, received int64
	for range 2 { // the end of one direction is told on, and the other goes on
		select {
		case sent = <-up:
			up = nil
			if half, can := there.(interface{ CloseWrite() error }); can {
				half.CloseWrite()
			}
		case received = <-down:
			down = nil
			here.CloseWrite()
		}
	}
	there.Close()
	here.Close()
	command.End(record.Result{Outcome: "ok", Tag: fmt.Sprintf("%d bytes sent, %d received, not looked at", sent, received), Bytes: received})
}

// start plans and starts one command, and waits until its record is durable. note is recorded as an event before it.
func (s *session) start(c policies.Command, note string) (*gatewayd.Command, error) {
	plan, err := s.core.Plan(gatewayd.Statement{Text: c.Statement, Scope: scopeOf(c)}, func(string) gatewayd.Understood {
		return s.understood(c)
	})
	if err != nil {
		return nil, err
	}
	if note != "" {
		if err := s.core.Event("enforcement", note); err != nil {
			return nil, err
		}
	}
	command, err := s.core.Start(s.core.Context(), plan, gatewayd.Args{})
	if err != nil {
		return nil, err
	}
	if err := s.core.Barrier(s.core.Context()); err != nil {
		command.End(record.Result{Outcome: "failed", Message: "not run: it could not be recorded"})
		return nil, err
	}
	return command, nil
}

// understood is a command as it may be recorded: what the masks find in output is no more in the text that asked for it.
func (s *session) understood(c policies.Command) gatewayd.Understood {
	u := gatewayd.Understood{Command: c, Recorded: s.masks.Text(c.Statement)}
	if u.Recorded == c.Statement {
		return u
	}
	u.Effects = slices.Clone(c.Effects)
	for i, e := range u.Effects {
		e.Text, e.Object = s.masks.Text(e.Text), s.masks.Text(e.Object)
		e.Argv = slices.Clone(e.Argv)
		for j, word := range e.Argv {
			e.Argv[j] = s.masks.Text(word)
		}
		u.Effects[i] = e
	}
	return u
}

// scopeOf keeps kinds of commands apart whose texts may be the same: "(shell)" is also a text that can be sent as an exec.
func scopeOf(c policies.Command) string {
	kinds := ""
	for _, e := range c.Effects {
		kinds += fmt.Sprintf("%s %q %q\n", e.Verb, e.Object, e.Argv)
	}
	return kinds
}

// permits asks the client's certificate for an extension (PROTOCOL.certkeys); a key that is no certificate has all.
func (s *session) permits(extension string) error {
	if s.cert == nil {
		return nil
	}
	if _, there := s.cert.Extensions[extension]; there {
		return nil
	}
	return s.core.Refuse("("+extension+")", "certificate_forbids", "the certificate that the client logged in with has no "+extension)
}

func clip(s string) string {
	if len(s) > 128 {
		s = s[:128] + "…"
	}
	return s
}
