package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd"
)

const (
	dialTimeout = 15 * time.Second
	// fresh is how long a credential is used before it is read again: tokens of service accounts are replaced on disk.
	fresh = time.Minute
)

// target is the API server of one connection document, which all its sessions share.
type target struct {
	scheme, host string
	plain        *http.Transport // HTTP/2 where the server has it
	streams      *http.Transport // HTTP/1.1, which can be upgraded

	mu     sync.Mutex
	token  string    // guarded by mu
	read   time.Time // when; guarded by mu
	certOf string    // the secret of the client certificate in use; guarded by mu
	cert   *tls.Certificate
}

// target finds or makes that of a session's connection.
func (v *server) target(ctx context.Context, core *gatewayd.Session) (*target, error) {
	c := core.Connection()
	v.mu.Lock()
	t := v.targets[c.Digest]
	if t == nil {
		var err error
		if t, err = newTarget(core); err != nil {
			v.mu.Unlock()
			return nil, err
		}
		if len(v.targets) > 256 { // of documents that are no more
			for digest, old := range v.targets {
				old.plain.CloseIdleConnections()
				old.streams.CloseIdleConnections()
				delete(v.targets, digest)
			}
		}
		v.targets[c.Digest] = t
	}
	v.mu.Unlock()
	return t, t.refresh(ctx, core)
}

func newTarget(core *gatewayd.Session) (*target, error) {
	spec := core.Connection().Document.Spec.Target
	t := &target{scheme: "https", host: net.JoinHostPort(spec.Host, strconv.Itoa(spec.Port))}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: spec.Host, GetClientCertificate: t.certificate}
	if spec.TLS == "disable" { // on loopback only, which reviews sees to
		t.scheme = "http"
	}
	if spec.CA != "" {
		pem, err := os.ReadFile(spec.CA)
		if err != nil {
			return nil, fmt.Errorf("spec.target.ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("spec.target.ca: %s holds no certificate in PEM", spec.CA)
		}
	}
	base := http.Transport{
		TLSClientConfig: config, DialContext: (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: dialTimeout, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
		IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 32, ForceAttemptHTTP2: true,
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second},
	}
	t.plain = base.Clone()
	t.streams = base.Clone()
	t.streams.ForceAttemptHTTP2 = false
	t.streams.TLSClientConfig.NextProtos = []string{"http/1.1"}
	return t, nil
}

// refresh reads the credential when that was not done lately: a bearer token, or a client certificate with its key, both in PEM.
func (t *target) refresh(ctx context.Context, core *gatewayd.Session) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.read.IsZero() && time.Since(t.read) < fresh {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	secret, err := core.Credential(ctx)
	if err != nil {
		return fmt.Errorf("credential: %w", err)
	}
	switch text := strings.TrimSpace(secret.Reveal()); {
	case strings.Contains(text, "-----BEGIN "):
		if t.certOf == text {
			break
		}
		pair, err := tls.X509KeyPair([]byte(text), []byte(text))
		if err != nil {
			return errors.New("credential: it is no client certificate with its key, both in PEM") // the cause may quote it
		}
		t.cert, t.certOf, t.token = &pair, text, ""
		t.plain.CloseIdleConnections()
	case text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("credential: it is no bearer token")
	default:
		t.token, t.cert, t.certOf = text, nil, ""
	}
	t.read = time.Now()
	return nil
}

func (t *target) certificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cert == nil {
		return &tls.Certificate{}, nil // none
	}
	return t.cert, nil
}

// authorize gives a request the gateway's own credential.
func (t *target) authorize(h http.Header, core *gatewayd.Session, auditID string) {
	t.mu.Lock()
	token := t.token
	t.mu.Unlock()
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	if core.Connection().Document.Spec.Target.Impersonate {
		h.Set("Impersonate-User", core.Principal())
	}
	h.Set("Audit-ID", auditID)
	h.Set("User-Agent", "sallyport-gatewayd")
}
