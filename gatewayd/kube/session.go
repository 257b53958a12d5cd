package kube

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/gatewayd/kube/jsonmask"
	"github.com/sallyport-dev/sallyport/gatewayd/redact"
	"github.com/sallyport-dev/sallyport/reviews"
)

// sessionKey is what the requests of a session have in common.
type sessionKey struct {
	credential [sha256.Size]byte // of the token, or of the certificate
	target     string            // connection, and the review where the path names one
	host       string            // of the client
	conn       net.Conn          // where the credential is good for one connection only; otherwise nil
}

// session is what one client does with one credential.
type session struct {
	server *server
	key    sessionKey
	until  time.Time // when its credential ends; zero when nothing but the core says

	begin sync.Mutex // held while it begins
	core  *gatewayd.Session
	masks []reviews.Mask
	out   *redact.Rules // for text
	known sync.Map      // what rules made, by resource

	// The rest is guarded by server.mu.
	running int
	conns   map[net.Conn]bool
	timer   *time.Timer
	ended   bool
}

// credentialOf is what a request proves who it is with.
type credentialOf struct {
	attempt gatewayd.Attempt
	key     sessionKey
	until   time.Time
	unread  bool // the token is only known by its digest, so that nothing can begin with it
}

var errCredential = errors.New("the request has no single credential: send one header \"Authorization: Bearer\" with a review token, as `sallyport kube-token` makes it, or a client certificate")

// whoAsks reads who asks. Nothing of it is verified yet, except that a certificate's key is the client's, which TLS saw to.
func (v *server) whoAsks(r *http.Request, target string, again bool) (*credentialOf, error) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return nil, err
	}
	c := &credentialOf{
		attempt: gatewayd.Attempt{Protocol: "kubernetes", Remote: r.RemoteAddr, Target: target, Client: r.UserAgent()},
		key:     sessionKey{target: target, host: host},
	}
	switch values := r.Header.Values("Authorization"); {
	case len(values) == 1:
		scheme, token, _ := strings.Cut(values[0], " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return nil, errCredential
		}
		c.attempt.Token = strings.TrimSpace(token)
		c.key.credential = sha256.Sum256([]byte(token))
		if !again && v.has(c.key) { // ready asks whether it still may be used
			c.unread = true
			return c, nil
		}
		claims, err := identity.Unverified(c.attempt.Token)
		if err != nil {
			return c, nil // Begin refuses it, and says why
		}
		c.attempt.User, c.until = claims.Principal, claims.Expires
		c.attempt.Exporter = r.TLS.ExportKeyingMaterial
		if claims.Bound() {
			c.key.conn, _ = r.Context().Value(connKey{}).(net.Conn)
		}
	case len(values) == 0 && len(r.TLS.PeerCertificates) > 0:
		return c, c.certificate(r.TLS)
	case len(values) > 1:
		return nil, errCredential
	}
	return c, nil
}

// certificate takes the client certificate for the key that it holds, which has to be one of the principal's; who signed it does not matter.
func (c *credentialOf) certificate(state *tls.ConnectionState) error {
	cert := state.PeerCertificates[0]
	key, err := ssh.NewPublicKey(cert.PublicKey)
	if err != nil {
		return errors.New("the key of the client certificate is of a kind that no principal has")
	}
	if now := time.Now(); now.Before(cert.NotBefore) || !now.Before(cert.NotAfter) {
		return errors.New("the client certificate is not valid at this time")
	}
	c.attempt.Key, c.attempt.User, c.until = key, cert.Subject.CommonName, cert.NotAfter
	c.key.credential = sha256.Sum256(cert.Raw)
	return nil
}

// enter finds the session of a request, or begins one. leave has to be called when the request is over.
func (v *server) enter(r *http.Request, c *credentialOf) (s *session, leave func(), err error) {
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	for {
		s := v.claim(c, conn)
		err := s.ready(c)
		if err == nil {
			return s, func() { v.leave(s) }, nil
		}
		v.leave(s)
		if err != errAgain {
			return nil, nil, err
		}
		if c, err = v.whoAsks(r, c.attempt.Target, true); err != nil {
			return nil, nil, err
		}
	}
}

// has reports whether a session is there already, so that its token need not be read again.
func (v *server) has(key sessionKey) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.sessions[key] != nil
}

var errAgain = errors.New("the session has ended meanwhile")

// claim counts a request in, so that its session does not end under it.
func (v *server) claim(c *credentialOf, conn net.Conn) *session {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.sessions[c.key]
	if s == nil {
		s = &session{server: v, key: c.key, until: c.until, conns: map[net.Conn]bool{}}
		v.sessions[c.key] = s
	}
	s.running++
	v.requests.Add(1)
	if conn != nil {
		s.conns[conn] = true
	}
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	return s
}

// ready begins the session when that was not done. A credential that has ended begins nothing new and goes on with nothing.
func (s *session) ready(c *credentialOf) error {
	s.begin.Lock()
	defer s.begin.Unlock()
	if s.core != nil && (s.core.Context().Err() != nil || !s.until.IsZero() && !time.Now().Before(s.until)) {
		s.server.forget(s) // Begin says what is wrong with the credential now
		return errAgain
	}
	switch {
	case s.core != nil:
		return nil
	case c.unread:
		s.server.forget(s)
		return errAgain
	}
	core, err := s.server.options.Gateway.Begin(context.Background(), c.attempt)
	if err != nil {
		s.server.forget(s)
		return err
	}
	s.core, s.masks = core, core.Masks()
	var patterns, detectors []string
	for _, m := range s.masks {
		if m.Pattern != "" {
			patterns = append(patterns, m.Pattern)
		} else if m.Detect != "" {
			detectors = append(detectors, m.Detect)
		}
	}
	if s.out, err = redact.New(patterns, detectors); err != nil {
		core.Cut("internal_error", "a mask of the review cannot be used")
		return context.Cause(core.Context())
	}
	return nil
}

// rules are the masks of one resource.
func (s *session) rules(resource string) (*jsonmask.Rules, error) {
	if rules, made := s.known.Load(resource); made {
		return rules.(*jsonmask.Rules), nil
	}
	rules, err := s.makeRules(resource)
	if err == nil {
		s.known.Store(resource, rules)
	}
	return rules, err
}

func (s *session) makeRules(resource string) (*jsonmask.Rules, error) {
	var masks []jsonmask.Mask
	for _, m := range s.masks {
		if m.Resource == "" || m.Resource != resource {
			continue
		}
		path, err := reviews.ObjectPath(m.Path)
		if err != nil {
			return nil, err
		}
		masks = append(masks, jsonmask.Mask{Path: path, Null: m.With == "null"})
	}
	rules := jsonmask.New(resource, masks)
	if !s.out.Empty() {
		rules.Text = s.hidden
	}
	return rules, nil
}

// hidden is a text without what patterns and detectors find.
func (s *session) hidden(text string) string {
	stream := s.out.NewStream()
	shown := append([]byte(nil), stream.Push([]byte(text))...)
	return string(append(shown, stream.Flush()...))
}

// ownMasks reports whether fields of the resource are masked that tables may show.
func (s *session) ownMasks(resource string) bool {
	for _, m := range s.masks {
		if m.Resource == resource && resource != "" {
			return true
		}
	}
	return false
}

// forget takes a session out, so that the next request begins another. It ends with its last request.
func (v *server) forget(s *session) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.sessions[s.key] == s {
		delete(v.sessions, s.key)
	}
	s.ended = true
}

// leave counts a request out.
func (v *server) leave(s *session) {
	defer v.requests.Done()
	v.mu.Lock()
	s.running--
	v.mu.Unlock()
	v.settle(s)
}

// left takes a closed connection from the sessions it was used by.
func (v *server) left(conn net.Conn) {
	v.mu.Lock()
	var touched []*session
	for _, s := range v.sessions {
		if s.conns[conn] {
			delete(s.conns, conn)
			touched = append(touched, s)
		}
	}
	v.mu.Unlock()
	for _, s := range touched {
		v.settle(s)
	}
}

// settle ends a session that nobody uses any more: at once when it cannot be used again, otherwise a little later.
func (v *server) settle(s *session) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.running > 0 {
		return
	}
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	wait := linger
	switch {
	case s.ended || s.core != nil && s.core.Context().Err() != nil:
		wait = 0
	case len(s.conns) > 0 && !s.until.IsZero():
		wait = time.Until(s.until)
	case len(s.conns) > 0:
		return
	}
	s.timer = time.AfterFunc(max(wait, 0), func() { v.end(s) })
}

func (v *server) end(s *session) {
	v.mu.Lock()
	if s.running > 0 {
		v.mu.Unlock()
		return
	}
	if v.sessions[s.key] == s {
		delete(v.sessions, s.key)
	}
	s.ended = true
	core := s.core
	s.core = nil
	v.mu.Unlock()
	if core == nil {
		return
	}
	if _, err := core.End(nil); err != nil {
		v.options.Log.Error("a session did not end well", "session", core.ID(), "error", err)
	}
}

func (v *server) endAll() {
	v.mu.Lock()
	all := make([]*session, 0, len(v.sessions))
	for _, s := range v.sessions {
		all = append(all, s)
	}
	v.mu.Unlock()
	for _, s := range all {
		v.end(s)
	}
}
