package kube

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/kube/call"
	"github.com/sallyport-dev/sallyport/gatewayd/kube/jsonmask"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// exchange is one request that was allowed.
type exchange struct {
	session *session
	call    *call.Call
	command *gatewayd.Command
	target  *target
	rules   *jsonmask.Rules
	body    *body
	path    string // and query, for the API server
	accept  string
	auditID string
	pipes   sync.WaitGroup // of answers that are still being looked through
	result  record.Result
}

// split takes the connection, with a review behind a "+", from the beginning of a request's target.
func split(target string) (name, path string, ok bool) {
	prefix, rest, found := strings.Cut(strings.TrimPrefix(target, "/"), "/")
	if !found || !strings.HasPrefix(target, "/") {
		return "", "", false
	}
	connection, review, more := strings.Cut(prefix, "+")
	name = connection
	if more {
		name += "/" + review
	}
	return name, "/" + rest, reviews.IsConnection(connection) && (!more || reviews.IsReview(name))
}

// serve is the whole way of a request: who asks, what for, may they, and then the answer.
func (v *server) serve(w http.ResponseWriter, r *http.Request) {
	name, path, ok := split(r.RequestURI)
	if !ok {
		writeStatus(w, http.StatusNotFound, "NotFound", "", "sallyport: the path does not begin with a connection: the server of a kubeconfig is https://HOST:PORT/CONNECTION, as `sallyport connect --kubeconfig` writes it")
		return
	}
	from, err := v.whoAsks(r, name, false)
	if err != nil {
		writeStatus(w, http.StatusForbidden, "Forbidden", "credential_unclear", "sallyport: "+err.Error())
		return
	}
	s, leave, err := v.enter(r, from)
	if err != nil {
		deny(w, err)
		return
	}
	defer leave()
	if r.Close { // HTTP/1.0, say
		w.Header().Set("Connection", "close")
	}
	x, err := v.admit(w, r, s, call.Parse(r.Method, path), path)
	if err != nil {
		deny(w, err)
		return
	}
	defer func() {
		x.pipes.Wait()
		x.command.End(x.result)
	}()
	ctx, cancel := x.context(r.Context())
	defer cancel()
	if x.call.Kind == call.Exec || x.call.Kind == call.Attach || x.call.Kind == call.PortForward {
		x.stream(ctx, w, r)
		return
	}
	x.proxy(v).ServeHTTP(w, r.WithContext(context.WithValue(ctx, exchangeKey{}, x)))
}

// admit decides on a request and makes its record durable. Nothing has gone to the API server when it returns.
func (v *server) admit(w http.ResponseWriter, r *http.Request, s *session, c *call.Call, path string) (*exchange, error) {
	x := &exchange{session: s, call: c, path: path, auditID: newAuditID(), result: record.Result{Outcome: "failed", Message: "the API server was not asked"}}
	refuse := func(f *refusal) {
		if f != nil {
			c.Refuse(&policies.Refusal{Rule: f.rule, Reason: f.reason})
		}
	}
	refuse(checkHeaders(r, c))
	if c.Refused() == nil {
		b, f := readBody(w, r, c)
		x.body = b
		refuse(f)
	}
	var err error
	if x.rules, err = s.rules(c.Resource); err != nil {
		return nil, s.core.Refuse(c.Statement(), "internal_error", "a mask of the review cannot be used")
	}
	if x.accept = accept(r.Header.Values("Accept"), !s.ownMasks(c.Resource)); x.accept == "" && (c.Kind == call.Document || c.Kind == call.Watch) {
		refuse(&refusal{"format_unsupported", "the client takes only formats that the gateway cannot look through: it reads JSON; a client of client-go is told with AcceptContentTypes: application/json"})
	}
	command := c.Command()
	plan, err := s.core.Plan(gatewayd.Statement{Text: c.Statement(), Scope: scopeOf(command)}, func(string) gatewayd.Understood {
		return gatewayd.Understood{Command: command, Recorded: c.Statement()}
	})
	if err != nil {
		return nil, err
	}
	if f := streamRefused(r, c); f != nil { // allowed, and still not served in this way
		return nil, s.core.Refuse(c.Statement(), f.rule, f.reason)
	}
	if x.target, err = v.target(s.core.Context(), s.core); err != nil {
		v.options.Log.Error("the API server cannot be used", "session", s.core.ID(), "connection", s.core.Connection().Name, "error", err)
		return nil, x.unavailable()
	}
	if c.Terminal {
		if err := s.core.Event("enforcement", "enforcement: session: what is typed is not decided on"); err != nil {
			return nil, err
		}
	}
	if x.command, err = s.core.Start(r.Context(), plan, gatewayd.Args{Parameters: append([]string{"Audit-ID " + x.auditID}, x.body.recorded(x.rules)...)}); err != nil {
		return nil, err
	}
	if err := s.core.Barrier(r.Context()); err != nil {
		x.command.End(record.Result{Outcome: "failed", Message: "not sent: it could not be recorded"})
		return nil, err
	}
	return x, nil
}

func (x *exchange) unavailable() error {
	return x.session.core.Refuse(x.call.Statement(), "target_unavailable", "the gateway cannot reach the API server of connection "+x.session.core.Connection().Name+" now; its log says why")
}

// scopeOf is what beside its target decides what a request does: what its body says and how it comes.
func scopeOf(c policies.Command) string {
	scope := ""
	for _, e := range c.Effects {
		scope += fmt.Sprintf("%s %q %q\n", e.Verb, e.Name, e.Argv)
	}
	if c.Refusal != nil {
		scope += c.Refusal.Rule + " " + c.Refusal.Reason
	}
	return scope
}

// context ends with the client, with the session, and when the request takes longer than the review allows.
func (x *exchange) context(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	core := x.session.core
	stop := context.AfterFunc(core.Context(), func() { cancel(context.Cause(core.Context())) })
	stopTimer := func() bool { return true }
	if limit := time.Duration(core.Limits().Statement); limit > 0 {
		stopTimer = time.AfterFunc(limit, func() {
			cancel(&gatewayd.Cut{Rule: "request_limit", Reason: "the request ran for " + limit.String() + ", the limit of the review"})
		}).Stop
	}
	return ctx, func() { stop(); stopTimer(); cancel(nil) }
}

// newAuditID is a random UUID, under which the cluster's own audit log has the request, too.
func newAuditID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
