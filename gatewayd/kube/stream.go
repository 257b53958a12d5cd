package kube

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/kube/call"
)

// Channels of exec and attach, the first byte of each message (k8s.io/apimachinery remotecommand).
const (
	channelStdin  = 0
	channelStdout = 1
	channelStderr = 2
	channelStatus = 3
	channelResize = 4
	channelClose  = 255
)

const (
	maxMessage = 4 << 20
	parting    = 3 * time.Second // for what is still to be written when a stream ends
)

// protocols are the forms of streams that can be looked at, newest first.
var protocols = map[call.Kind][]string{
	call.Exec:        {"v5.channel.k8s.io", "v4.channel.k8s.io"},
	call.Attach:      {"v5.channel.k8s.io", "v4.channel.k8s.io"},
	call.PortForward: {"SPDY/3.1+portforward.k8s.io"},
}

// offered are the protocols that the client and the gateway both speak.
func offered(r *http.Request, kind call.Kind) []string {
	var list []string
	for _, value := range r.Header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.TrimSpace(name); slices.Contains(protocols[kind], name) {
				list = append(list, name)
			}
		}
	}
	return list
}

// streamRefused says why a stream that a review allows is not served in the way it was asked for.
func streamRefused(r *http.Request, c *call.Call) *refusal {
	if c.Kind != call.Exec && c.Kind != call.Attach && c.Kind != call.PortForward {
		return nil
	}
	const use = "use WebSocket, which kubectl does by itself from 1.31 on (KUBECTL_REMOTE_COMMAND_WEBSOCKETS and KUBECTL_PORT_FORWARD_WEBSOCKETS must not be false)"
	switch {
	case strings.HasPrefix(strings.ToUpper(r.Header.Get("Upgrade")), "SPDY/"):
		return &refusal{"stream_unsupported", "it is allowed, but SPDY cannot be looked through: " + use}
	case r.Method != http.MethodGet || !isWebSocket(r.Header) || r.ProtoMajor != 1:
		return &refusal{"stream_unsupported", "it is allowed, but it needs a WebSocket over HTTP/1.1: " + use}
	case len(offered(r, c.Kind)) == 0:
		return &refusal{"stream_unsupported", "it is allowed, but the client speaks none of " + strings.Join(protocols[c.Kind], ", ") + " on the WebSocket: " + use}
	}
	return nil
}

// stream serves an exec, an attach or a port-forward to its end.
func (x *exchange) stream(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	header := http.Header{}
	x.target.authorize(header, x.session.core, x.auditID)
	there, resp, err := websocket.Dial(ctx, x.target.scheme+"://"+x.target.host+x.path, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: x.target.streams, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		HTTPHeader: header, Subprotocols: offered(r, x.call.Kind), CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		x.dialFailed(ctx, w, r, resp, err)
		return
	}
	defer there.CloseNow()
	if !slices.Contains(offered(r, x.call.Kind), there.Subprotocol()) {
		deny(w, x.session.core.Refuse(x.call.Statement(), "response_unreadable", "the API server speaks no protocol on the WebSocket that the gateway can look through"))
		return
	}
	here, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{there.Subprotocol()}, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		x.result.Message = "the client's WebSocket could not be opened"
		return
	}
	defer here.CloseNow()
	here.SetReadLimit(maxMessage)
	there.SetReadLimit(maxMessage)
	p := &pump{x: x, here: here, there: there}
	if x.call.Kind == call.PortForward {
		p.forward(ctx)
	} else {
		p.run(ctx)
	}
}

// dialFailed passes on why the API server opened no stream.
func (x *exchange) dialFailed(ctx context.Context, w http.ResponseWriter, r *http.Request, resp *http.Response, err error) {
	if resp == nil || resp.StatusCode == http.StatusSwitchingProtocols {
		x.result.Message = "the API server was not reached"
		cut := (*gatewayd.Cut)(nil)
		if errors.As(context.Cause(ctx), &cut) {
			deny(w, cut)
			return
		}
		x.session.server.options.Log.Error("the API server opens no stream", "session", x.session.core.ID(), "error", err)
		deny(w, x.unavailable())
		return
	}
	if resp.StatusCode < 400 {
		deny(w, x.session.core.Refuse(x.call.Statement(), "response_unreadable", "the API server opens no WebSocket and says no error"))
		return
	}
	if err := x.answer(resp); err != nil {
		x.failed(x.session.server, w, r, err)
		return
	}
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	io.Copy(w, resp.Body)
}

// pump carries messages between the client (here) and the API server (there).
type pump struct {
	x           *exchange
	here, there *websocket.Conn
	sent        atomic.Int64 // by the client, bytes
	writing     sync.Mutex   // of messages to the client
}

// end closes the client's WebSocket, and says why when the session was cut.
func (p *pump) end(ctx context.Context) {
	cut := (*gatewayd.Cut)(nil)
	if !errors.As(context.Cause(ctx), &cut) {
		p.here.Close(websocket.StatusNormalClosure, "")
		return
	}
	p.x.result.Outcome = "cut"
	last, cancel := context.WithTimeout(context.Background(), parting)
	defer cancel()
	text := "sallyport: session cut: " + cut.Error()
	if p.x.call.Kind != call.PortForward {
		p.writing.Lock()
		p.here.Write(last, websocket.MessageBinary, append([]byte{channelStatus}, bytes.TrimSpace(newStatus(http.StatusForbidden, "Forbidden", cut.Rule, text).text())...))
		p.writing.Unlock()
	}
	if len(text) > 120 { // a reason has 123 bytes
		text = "sallyport: session cut (rule " + clip(cut.Rule) + ")"
	}
	p.here.Close(websocket.StatusPolicyViolation, text)
}

// always is for the client's WebSocket: a context that ends closes it, and the client is to be told why first.
var always = context.Background()

// closeLate closes the client's WebSocket some time after ctx has ended, though it takes nothing any more.
func (p *pump) closeLate(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		time.Sleep(parting)
		p.here.CloseNow()
	})
}

// forward carries bytes that nobody looks at, and counts them.
func (p *pump) forward(outer context.Context) {
	ctx, cancel := context.WithCancel(outer)
	defer cancel()
	defer p.closeLate(outer)()
	var received atomic.Int64
	both := sync.WaitGroup{}
	both.Go(func() {
		defer cancel()
		for {
			kind, b, err := p.here.Read(always)
			if err != nil || p.there.Write(ctx, kind, b) != nil {
				return
			}
			p.sent.Add(int64(len(b)))
		}
	})
	both.Go(func() {
		defer cancel()
		for {
			kind, b, err := p.there.Read(ctx)
			if err != nil || p.x.command.AddRows(0, int64(len(b))) != nil || p.here.Write(always, kind, b) != nil {
				return
			}
			received.Add(int64(len(b)))
		}
	})
	<-ctx.Done()
	p.there.CloseNow()
	p.x.result.Outcome, p.x.result.Message = "ok", ""
	p.end(outer)
	p.here.CloseNow()
	both.Wait()
	p.x.result.Tag = fmt.Sprintf("%d bytes sent, %d received, not looked at", p.sent.Load(), received.Load())
}

// run carries an exec or attach: what the process says is masked and recorded before the client has it.
func (p *pump) run(outer context.Context) {
	ctx, cancel := context.WithCancel(outer)
	defer cancel()
	defer p.closeLate(outer)()
	out, errs := p.output(ctx, "stdout", channelStdout), p.output(ctx, "stderr", channelStderr)
	input := make(chan struct{})
	go func() { defer close(input); p.input(ctx, cancel) }()
	ended := p.said(ctx, out, errs)
	out.Close()
	errs.Close()
	said := []string{(<-out.done).String(), (<-errs.done).String()}
	if ended != nil { // last, as the API server sends it
		p.status(ended)
	}
	p.there.CloseNow()
	p.x.result.Message = strings.Join(said, "; ")
	p.end(outer)
	p.here.CloseNow()
	cancel()
	<-input
}

// input carries what the client types.
func (p *pump) input(ctx context.Context, cancel func()) {
	defer cancel() // the client has gone: nobody waits for the command
	for {
		kind, b, err := p.here.Read(always)
		if err != nil {
			return
		}
		if kind != websocket.MessageBinary || len(b) == 0 || !slices.Contains([]byte{channelStdin, channelResize, channelClose}, b[0]) {
			p.x.session.core.Refuse(p.x.call.Statement(), "stream_unsupported", "the client sent a message on a channel that is not a client's")
			return
		}
		p.sent.Add(int64(len(b) - 1))
		if size := (struct{ Width, Height int }{}); b[0] == channelResize && json.Unmarshal(b[1:], &size) == nil {
			if p.x.session.core.Event("resize", fmt.Sprintf("%dx%d", size.Width, size.Height)) != nil {
				return
			}
		}
		if p.there.Write(ctx, kind, b) != nil {
			return
		}
	}
}

// said sorts what the API server sends by its channel, until it has told how the command ended. It returns that.
func (p *pump) said(ctx context.Context, out, errs *outlet) []byte {
	for {
		kind, b, err := p.there.Read(ctx)
		if err != nil {
			return nil
		}
		if kind != websocket.MessageBinary || len(b) == 0 {
			continue
		}
		switch to := b[1:]; b[0] {
		case channelStdout:
			_, err = out.Write(to)
		case channelStderr:
			_, err = errs.Write(to)
		case channelStatus:
			if len(to) > 0 {
				return to
			}
		}
		if err != nil {
			return nil
		}
	}
}

// status passes on how the command ended.
func (p *pump) status(b []byte) {
	shown, _, err := p.x.rules.Document(b)
	if err != nil {
		shown = bytes.TrimSpace(newStatus(http.StatusBadGateway, "InternalError", "response_unreadable", "sallyport: how the command ended cannot be read").text())
	}
	var how struct {
		Status, Reason string
		Details        struct {
			Causes []struct{ Reason, Message string }
		}
	}
	json.Unmarshal(b, &how)
	p.x.result.Outcome, p.x.result.Tag = "failed", "exit status unknown"
	if how.Status == "Success" {
		p.x.result.Outcome, p.x.result.Tag = "ok", "exit status 0"
	}
	for _, cause := range how.Details.Causes {
		if cause.Reason == "ExitCode" {
			p.x.result.Tag = "exit status " + clip(cause.Message)
		}
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	p.here.Write(always, websocket.MessageBinary, append([]byte{channelStatus}, shown...))
}

// outlet carries one stream of a process to the client.
type outlet struct {
	*io.PipeWriter
	done chan *measured
}

// measured counts and digests a stream, also what the recording had no room for.
type measured struct {
	name string
	n    int64
	sum  [sha256.Size]byte
}

func (m *measured) String() string {
	if m.n == 0 {
		return m.name + " empty"
	}
	return fmt.Sprintf("%s %d bytes sha256:%x", m.name, m.n, m.sum)
}

func (p *pump) output(ctx context.Context, name string, channel byte) *outlet {
	r, w := io.Pipe()
	o := &outlet{PipeWriter: w, done: make(chan *measured, 1)}
	go func() {
		m, sum := &measured{name: name}, sha256.New()
		err := copyText(ctx, p.x.session.out, r, func(b []byte) error {
			m.n += int64(len(b))
			sum.Write(b)
			if err := p.x.command.AddRows(0, int64(len(b))); err != nil {
				return err
			}
			if err := p.x.command.Output(name, b); err != nil {
				return err
			}
			p.writing.Lock()
			defer p.writing.Unlock()
			return p.here.Write(always, websocket.MessageBinary, append([]byte{channel}, b...))
		})
		r.CloseWithError(cmpErr(err))
		sum.Sum(m.sum[:0])
		o.done <- m
	}()
	return o
}

// cmpErr is what a writer is told whose reader ended.
func cmpErr(err error) error {
	if err == nil {
		return io.ErrClosedPipe
	}
	return err
}
