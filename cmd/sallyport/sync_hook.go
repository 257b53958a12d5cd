package main

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

	"github.com/spf13/pflag"

	onForge "github.com/sallyport-dev/sallyport/reviews/forge"
)

// hookOptions are the flags of sync that are about webhooks.
type hookOptions struct {
	listen, secret, cert, key string
}

func (o *hookOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.listen, "hooks", "", "with --watch, take webhooks of the forge at /hook here, such as 127.0.0.1:9465 (default: nowhere)")
	f.StringVar(&o.secret, "hook-secret", "", "where the secret is that the forge signs webhooks with: env:NAME or file:/absolute/path; at least 16 characters")
	f.StringVar(&o.cert, "hook-cert", "", "PEM file of a certificate, to serve --hooks with TLS (default: without, behind a proxy)")
	f.StringVar(&o.key, "hook-key", "", "PEM file of its private key")
}

// check refuses flags that do not go together.
func (o *hookOptions) check(watch bool) error {
	switch {
	case o.listen == "" && (o.secret != "" || o.cert != "" || o.key != ""):
		return usage("--hook-secret, --hook-cert and --hook-key go with --hooks")
	case o.listen != "" && !watch:
		return usage("--hooks goes with --watch")
	case o.listen != "" && o.secret == "":
		return usage("--hooks needs --hook-secret: without one anybody could send webhooks")
	case (o.cert == "") != (o.key == ""):
		return usage("--hook-cert and --hook-key go together")
	}
	return nil
}

// open reads the secret and the certificate and opens the listener.
func (o *hookOptions) open(ctx context.Context, wake chan<- struct{}, log *slog.Logger) (net.Listener, *hooks, error) {
	secret, err := readSecret(ctx, "--hook-secret", o.secret)
	if err != nil {
		return nil, nil, err
	}
	if len(secret) < leastHookSecret {
		return nil, nil, hint(fmt.Errorf("--hook-secret: it has %d characters, fewer than %d, and could be guessed", len(secret), leastHookSecret), "make one with: openssl rand -hex 32")
	}
	l, err := net.Listen("tcp", loopbackOf(o.listen))
	if err != nil {
		return nil, nil, hint(fmt.Errorf("--hooks: %w", err), "write an address that is free, such as 127.0.0.1:9465")
	}
	if o.cert != "" {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("--hook-cert: %w", err), l.Close())
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	} else if address, ok := l.Addr().(*net.TCPAddr); ok && !address.IP.IsLoopback() {
		log.Warn("webhooks are taken without TLS from other machines; give --hook-cert and --hook-key, or let a proxy beside sync end TLS", "address", l.Addr().String())
	}
	return l, &hooks{secret: []byte(secret), wake: wake, log: log}, nil
}

const (
	leastHookSecret = 16
	hooksAtOnce     = 8  // bodies in memory, of at most 4 MiB each
	hooksPerSecond  = 50 // of good and bad ones together
)

// hooks wakes sync when the forge says that something happened. A webhook is
// believed nothing: it only brings the next look at git and forge forward, so one that is
// sent again, late or about something else does no harm.
type hooks struct {
	secret []byte
	wake   chan<- struct{} // of room for one: a wake that nobody has taken yet is enough
	log    *slog.Logger

	mu      sync.Mutex
	second  time.Time // that taken counts in
	taken   int
	told    time.Time // when a refusal was last logged
	reading int
}

// ServeHTTP takes one webhook.
func (h *hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.enter(time.Now()) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many webhooks at once", http.StatusTooManyRequests)
		return
	}
	defer h.leave()
	e, err := onForge.ReadHook(r, h.secret)
	if err != nil {
		h.refused(err, time.Now())
		http.Error(w, "refused", http.StatusForbidden)
		return
	}
	if e.Kind != onForge.Other {
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// enter says whether one more may be read now. leave must follow.
func (h *hooks) enter(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.second) >= time.Second {
		h.second, h.taken = now, 0
	}
	if h.taken >= hooksPerSecond || h.reading >= hooksAtOnce {
		return false
	}
	h.taken, h.reading = h.taken+1, h.reading+1
	return true
}

func (h *hooks) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reading--
}

// refused logs why, once a minute at most, so that a stranger cannot fill the log.
func (h *hooks) refused(err error, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.told) < time.Minute {
		return
	}
	h.told = now
	h.log.Warn("webhook ignored", "error", clean(err.Error()))
}

// serve answers on the listener until ctx ends.
func (h *hooks) serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("POST /hook", h)
	server := &http.Server{
		Handler: mux, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 15 * time.Second, IdleTimeout: time.Minute,
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("listener %s: %w", l.Addr(), err)
	}
	return nil
}
