package kube

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/kube/call"
)

// Options say how clients are served. Gateway and TLS are required.
type Options struct {
	Gateway *gatewayd.Gateway
	// TLS has the certificate that clients see.
	TLS *tls.Config
	// Log takes operational events, never requests. Default slog.Default().
	Log *slog.Logger
}

// Rules are the ids of the denials and cuts that this engine makes itself.
func Rules() []string {
	return append(call.Rules(),
		"credential_unclear", "impersonation_refused", "header_refused", "body_refused", "mask_written_back",
		"format_unsupported", "stream_unsupported", "response_unreadable", "target_unavailable", "request_limit",
	)
}

const (
	headerTimeout = 10 * time.Second
	maxHeader     = 64 << 10
	maxStreams    = 250              // of one HTTP/2 connection at once
	linger        = 2 * time.Second  // a session outlives the client's last connection by this
	goodbye       = 10 * time.Second // for what runs when the gateway stops
)

// server is what all clients of one listener share.
type server struct {
	options  Options
	requests sync.WaitGroup

	mu       sync.Mutex
	sessions map[sessionKey]*session // guarded by mu
	targets  map[string]*target      // by the digest of the connection document; guarded by mu
}

// connKey finds the connection that a request came on, in its context.
type connKey struct{}

// Serve serves clients until ctx ends. Then it cuts what is left of their
// sessions, waits for them, and returns nil. It closes the listener.
func Serve(ctx context.Context, listener net.Listener, options Options) error {
	if options.Gateway == nil || options.TLS == nil {
		listener.Close()
		return errors.New("kube: a gateway and a TLS configuration are required")
	}
	if options.Log == nil {
		options.Log = slog.Default()
	}
	v := &server{options: options, sessions: map[sessionKey]*session{}, targets: map[string]*target{}}
	config := options.TLS.Clone()
	config.ClientAuth = tls.RequestClientCert // what it proves is looked at with the request
	config.NextProtos = []string{"h2", "http/1.1"}
	h := &http.Server{
		Handler: v, TLSConfig: config, ReadHeaderTimeout: headerTimeout, MaxHeaderBytes: maxHeader, IdleTimeout: 2 * time.Minute,
		DisableGeneralOptionsHandler: true, // what is not asked for by a principal is not answered
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog:                     slog.NewLogLogger(options.Log.Handler(), slog.LevelDebug),
		ConnContext:                  func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				v.left(c)
			}
		},
	}
	stop := context.AfterFunc(ctx, func() {
		patience, cancel := context.WithTimeout(context.Background(), goodbye)
		defer cancel()
		if h.Shutdown(patience) != nil {
			h.Close()
		}
	})
	defer stop()
	err := h.ServeTLS(listener, "", "")
	v.requests.Wait() // also those whose connection was taken over
	v.endAll()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("kube: %w", err)
}

// ServeHTTP serves one request. Whatever happens, the client gets an answer that is a Status.
func (v *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler { // the answer was cut short on purpose
			panic(p)
		}
		v.options.Log.Error("panic with a request", "panic", fmt.Sprint(p))
		writeStatus(w, http.StatusInternalServerError, "InternalError", "internal_error", "sallyport: the gateway failed while it served this request")
	}()
	w.Header().Set("Cache-Control", "no-cache, private")
	if _, path, ok := split(r.RequestURI); ok && call.Parse(http.MethodGet, path).Kind == call.Discovery {
		w = plainErrors{w}
	}
	v.serve(w, r)
}
