package kube

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/kube/call"
	"github.com/sallyport-dev/sallyport/gatewayd/kube/jsonmask"
	"github.com/sallyport-dev/sallyport/gatewayd/redact"
)

const (
	atOnce       = 256 << 10 // an answer up to this is looked through before its status goes out
	maxErrorBody = 1 << 20
	maxShown     = 64 << 10 // of a document that is recorded; streams are recorded as far as the gateway is set to
	pause        = 50 * time.Millisecond
)

type exchangeKey struct{}

// proxy carries one allowed request to the API server and its answer back.
func (x *exchange) proxy(v *server) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: x.rewrite, ModifyResponse: x.answer, Transport: x.target.plain, FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) { x.failed(v, w, r, err) },
		ErrorLog:     slog.NewLogLogger(v.options.Log.Handler(), slog.LevelDebug),
	}
}

// rewrite makes the request anew: of the client's headers nothing is kept.
func (x *exchange) rewrite(p *httputil.ProxyRequest) {
	path, query, _ := strings.Cut(x.path, "?")
	p.Out.URL = &url.URL{Scheme: x.target.scheme, Host: x.target.host, Path: path, RawQuery: query}
	p.Out.Host = x.target.host
	p.Out.Header = http.Header{}
	p.Out.Trailer = nil
	switch x.call.Kind {
	case call.Log:
		p.Out.Header.Set("Accept", "text/plain, */*")
	case call.Discovery:
		if values := p.In.Header.Values("Accept"); len(values) > 0 {
			p.Out.Header["Accept"] = values
		}
	default:
		p.Out.Header.Set("Accept", x.accept)
	}
	p.Out.Header.Set("Accept-Encoding", "identity")
	p.Out.Body, p.Out.ContentLength, p.Out.TransferEncoding = http.NoBody, 0, nil
	if x.body != nil {
		p.Out.Header.Set("Content-Type", x.body.contentType)
		p.Out.Body, p.Out.ContentLength = io.NopCloser(bytes.NewReader(x.body.bytes)), int64(len(x.body.bytes))
	}
	x.target.authorize(p.Out.Header, x.session.core, x.auditID)
}

// passed are the headers of answers that clients get.
var passed = []string{"Content-Type", "Audit-Id", "Retry-After", "Warning", "Cache-Control", "X-Kubernetes-Pf-Flowschema-Uid", "X-Kubernetes-Pf-Prioritylevel-Uid", "Etag"}

// unreadable is an answer that the client does not get, since nobody could say what is in it.
type unreadable struct{ what string }

func (e *unreadable) Error() string { return e.what }

// answer looks through what the API server says, or refuses it.
func (x *exchange) answer(resp *http.Response) error {
	for name := range resp.Header {
		if !slices.Contains(passed, name) && name != "Content-Encoding" {
			delete(resp.Header, name)
		}
	}
	if x.rules.Masks() {
		delete(resp.Header, "Warning") // it may quote values
	}
	x.result.Tag = "HTTP " + strconv.Itoa(resp.StatusCode)
	x.result.Message = ""
	if resp.StatusCode < 400 {
		x.result.Outcome = "ok"
	}
	if err := decompress(resp); err != nil {
		return err
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode < 200 || resp.StatusCode >= 300 && resp.StatusCode < 400:
		return &unreadable{"the API server answers with a redirection, which is not followed"}
	case resp.StatusCode >= 400:
		return x.errorAnswer(resp, kind)
	case x.call.Kind == call.Discovery:
		return x.replace(resp, x.recorded(resp.Body))
	case x.call.Kind == call.Log && kind == "text/plain":
		return x.replace(resp, x.textAnswer(resp))
	case kind != "application/json":
		return &unreadable{"the API server answers in a format that the gateway cannot look through (" + clip(printable(kind)) + ")"}
	case x.call.Kind == call.Watch:
		return x.replace(resp, &events{x: x, ctx: resp.Request.Context(), from: x.rules.NewReader(resp.Body), body: resp.Body})
	}
	return x.document(resp)
}

func decompress(resp *http.Response) error {
	switch encoding := resp.Header.Get("Content-Encoding"); strings.ToLower(encoding) {
	case "", "identity":
	case "gzip":
		plain, err := gzip.NewReader(resp.Body)
		if err != nil {
			return &unreadable{"the API server's answer says gzip and is none"}
		}
		resp.Body = readCloser{plain, resp.Body}
	default:
		return &unreadable{"the API server answers in the encoding " + clip(printable(encoding)) + ", which was not asked for"}
	}
	delete(resp.Header, "Content-Encoding")
	return nil
}

type readCloser struct {
	io.Reader
	io.Closer
}

// replace gives the answer another body, whose length nobody knows.
func (x *exchange) replace(resp *http.Response, body io.ReadCloser) error {
	resp.Body, resp.ContentLength = body, -1
	delete(resp.Header, "Content-Length")
	return nil
}

// whole is an answer that is there at once: recorded with the end of its command, for the cost of one.
func (x *exchange) whole(resp *http.Response, b []byte) error {
	if err := x.command.AddRows(0, int64(len(b))); err != nil {
		return err
	}
	x.result.Bytes = int64(len(b))
	if err := x.command.Finish("response", b[:min(len(b), maxShown)], x.result); err != nil {
		return err
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
	resp.Header.Set("Content-Length", strconv.Itoa(len(b)))
	return nil
}

// show counts and records what is about to leave.
func (x *exchange) show(b []byte, items int) error {
	if err := x.command.AddRows(int64(items), int64(len(b))); err != nil {
		return err
	}
	if x.call.Kind == call.Document || x.call.Kind == call.Discovery {
		room := max(0, maxShown-int(x.result.Bytes))
		x.result.Bytes += int64(len(b))
		if room == 0 {
			return nil
		}
		b = b[:min(room, len(b))]
	}
	return x.command.Output("response", b)
}

// document is a small answer at once, and a large one object by object.
func (x *exchange) document(resp *http.Response) error {
	first, err := io.ReadAll(io.LimitReader(resp.Body, atOnce+1))
	if err != nil {
		return &unreadable{"the API server's answer did not come whole"}
	}
	if len(first) <= atOnce {
		resp.Body.Close()
		out, items, err := x.rules.Document(first)
		if err != nil {
			return &unreadable{"the API server's answer is " + err.Error()}
		}
		if err := x.command.AddRows(int64(items), 0); err != nil {
			return err
		}
		return x.whole(resp, out)
	}
	from := resp.Body
	return x.replace(resp, x.pipe(from, func(write func([]byte, int) error) error {
		_, err := x.rules.NewReader(io.MultiReader(bytes.NewReader(first), from)).CopyTo(write)
		return err
	}))
}

// pipe is a body that copy writes. It ends with its reader and with what it is made from.
func (x *exchange) pipe(from io.Closer, copy func(write func([]byte, int) error) error) io.ReadCloser {
	r, w := io.Pipe()
	x.pipes.Go(func() {
		defer from.Close()
		err := copy(func(b []byte, items int) error {
			if err := x.show(b, items); err != nil {
				return err
			}
			_, err := w.Write(b)
			return err
		})
		if err != nil {
			x.result.Outcome, x.result.Message = "failed", "the answer was cut short"
		}
		w.CloseWithError(err)
	})
	return r
}

// recorded is a body as it is, recorded as it leaves.
func (x *exchange) recorded(from io.ReadCloser) io.ReadCloser {
	return x.pipe(from, func(write func([]byte, int) error) error {
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				if err := write(buf[:n], 0); err != nil {
					return err
				}
			}
			if err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
		}
	})
}

// textAnswer is what a container said.
func (x *exchange) textAnswer(resp *http.Response) io.ReadCloser {
	ctx, from := resp.Request.Context(), resp.Body
	return x.pipe(from, func(write func([]byte, int) error) error {
		return copyText(ctx, x.session.out, from, func(b []byte) error { return write(b, 0) })
	})
}

// copyText carries text to its end, without what the rules hide. What may be the beginning of something is held back for a moment.
func copyText(ctx context.Context, rules *redact.Rules, from io.Reader, emit func([]byte) error) error {
	stream := rules.NewStream()
	type piece struct {
		b   []byte
		err error
	}
	pieces := make(chan piece)
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			buf := make([]byte, 32<<10)
			n, err := from.Read(buf)
			select {
			case pieces <- piece{buf[:n], err}:
			case <-done:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	send := func(b []byte) error {
		if len(b) == 0 {
			return nil
		}
		return emit(b)
	}
	for {
		var late <-chan time.Time
		if stream.Holds() {
			late = time.After(pause)
		}
		select {
		case p := <-pieces:
			if err := send(stream.Push(p.b)); err != nil {
				return err
			}
			if p.err != nil {
				if err := send(stream.Flush()); err != nil || p.err == io.EOF {
					return err
				}
				return p.err
			}
		case <-late:
			if err := send(stream.Flush()); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// events is the body of a watch: each event is looked at, recorded and handed on alone.
type events struct {
	x    *exchange
	ctx  context.Context
	from *jsonmask.Reader
	body io.Closer
	left []byte
	end  error
}

func (e *events) Read(p []byte) (int, error) {
	if len(e.left) == 0 && e.end == nil {
		e.next()
	}
	n := copy(p, e.left)
	if e.left = e.left[n:]; len(e.left) == 0 && n == 0 {
		return 0, e.end
	}
	return n, nil
}

func (e *events) next() {
	out, _, err := e.from.Next()
	if err == nil {
		e.left = append(append(make([]byte, 0, len(out)+1), out...), '\n')
		if err = e.x.show(e.left, 1); err == nil {
			return
		}
		e.left = nil
	}
	e.end = err
	cut := (*gatewayd.Cut)(nil)
	if errors.As(context.Cause(e.ctx), &cut) { // the client is told, in the way a watch is told of errors
		e.x.result.Outcome = "cut"
		e.left = fmt.Appendf(nil, `{"type":"ERROR","object":%s}`+"\n", bytes.TrimSpace(newStatus(http.StatusForbidden, "Forbidden", cut.Rule, "sallyport: session cut: "+cut.Error()).text()))
		e.end = io.EOF
	}
}

func (e *events) Close() error { return e.body.Close() }

// plainReasons are those of errors whose messages name objects and fields, and quote no value.
var plainReasons = []string{"NotFound", "AlreadyExists", "Forbidden", "Unauthorized", "Conflict", "TooManyRequests", "Timeout", "ServerTimeout", "Gone", "Expired", "MethodNotAllowed", "ServiceUnavailable", "NotAcceptable", "UnsupportedMediaType"}

// errorAnswer passes on what went wrong, without values that a message may quote.
func (x *exchange) errorAnswer(resp *http.Response, kind string) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody+1))
	resp.Body.Close()
	if err != nil || len(b) > maxErrorBody {
		return &unreadable{"the API server's error did not come whole"}
	}
	var said map[string]any
	if kind != "application/json" || json.Unmarshal(b, &said) != nil || said["kind"] != "Status" {
		said = map[string]any{"kind": "Status", "apiVersion": "v1", "metadata": map[string]any{}, "status": "Failure", "code": resp.StatusCode,
			"message": "the API server answered " + strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode) + " in a form that is no Status"}
	}
	if reason, _ := said["reason"].(string); x.rules.Masks() && !slices.Contains(plainReasons, reason) {
		x.withoutValues(said, reason)
	}
	plain, err := json.Marshal(said)
	if err != nil {
		return err
	}
	out, _, err := x.rules.Document(plain)
	if err != nil {
		return err
	}
	resp.Header.Set("Content-Type", "application/json")
	return x.whole(resp, append(bytes.Clone(out), '\n'))
}

// withoutValues leaves of an error which fields it is about.
func (x *exchange) withoutValues(said map[string]any, reason string) {
	said["message"] = "the API server refused it (" + reason + "); its message is not shown, since fields of " + x.call.Resource + " are masked and it may quote them"
	details, _ := said["details"].(map[string]any)
	causes, _ := details["causes"].([]any)
	for _, one := range causes {
		if cause, is := one.(map[string]any); is {
			cause["message"] = jsonmask.Mark
		}
	}
}

// failed answers in place of the API server.
func (x *exchange) failed(v *server, w http.ResponseWriter, r *http.Request, err error) {
	x.result.Outcome = "failed"
	bad, cut := (*unreadable)(nil), (*gatewayd.Cut)(nil)
	switch {
	case errors.As(err, &bad):
		x.result.Message = bad.what
		deny(w, x.session.core.Refuse(x.call.Statement(), "response_unreadable", bad.what))
	case errors.As(context.Cause(r.Context()), &cut):
		x.result.Outcome, x.result.Message = "cut", cut.Rule
		deny(w, cut)
	case r.Context().Err() != nil: // the client has gone
		x.result.Outcome = "cancelled"
	default:
		x.result.Message = "the API server was not reached"
		v.options.Log.Error("the API server cannot be reached", "session", x.session.core.ID(), "connection", x.session.core.Connection().Name, "error", err)
		deny(w, x.unavailable())
	}
}
