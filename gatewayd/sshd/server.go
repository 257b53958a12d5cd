package sshd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd"
)

// Options say how clients are served. Gateway and HostKey are required.
type Options struct {
	Gateway *gatewayd.Gateway
	// HostKey is how the gateway proves itself to clients: the key that the trust root gives it.
	HostKey ssh.Signer
	// LoginTimeout bounds everything up to the login. Default 20 s.
	LoginTimeout time.Duration
	// RecordInput records what clients send to shells and commands, which may hold passwords. Default: it does not.
	RecordInput bool
	// Log takes operational events, never commands. Default slog.Default().
	Log *slog.Logger
}

// Rules are the ids of the denials and cuts that this engine makes itself.
func Rules() []string {
	return []string{
		"target_unavailable", "command_limit", "request_unsupported", "variable_refused", "forward_refused", "channel_limit",
		"command_too_long", "command_unreadable", "path_unclear", "sftp_refused", "certificate_forbids",
	}
}

const (
	loginTimeout = 20 * time.Second
	// maxLogins bounds the connections that are logging in at once.
	maxLogins = 256
	// maxChannels bounds the channels of one client, above what one multiplexed ssh opens (OpenSSH's MaxSessions is 10).
	maxChannels = 64
	serverName  = "SSH-2.0-sallyport"
)

type server struct {
	options Options
	logins  chan struct{}
}

// Serve serves SSH clients until ctx ends. Then it cuts what is left of their
// sessions, waits for them, and returns nil. It closes the listener.
func Serve(ctx context.Context, listener net.Listener, options Options) error {
	defer listener.Close()
	if options.Gateway == nil || options.HostKey == nil {
		return errors.New("sshd: a gateway and a host key are required")
	}
	if options.LoginTimeout <= 0 {
		options.LoginTimeout = loginTimeout
	}
	if options.Log == nil {
		options.Log = slog.Default()
	}
	v := &server{options: options, logins: make(chan struct{}, maxLogins)}
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		conn, err := listener.Accept()
		switch {
		case err == nil:
			select {
			case v.logins <- struct{}{}:
				clients.Go(func() { v.accept(ctx, conn) })
			default: // a flood: those who are logging in go first
				conn.Close()
			}
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("sshd: accept: %w", err)
		default: // out of file descriptors, say: others are served on
			options.Log.Error("accept a client", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

// accept serves one client connection to its end.
func (v *server) accept(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	left := sync.OnceFunc(func() { <-v.logins })
	defer left()
	defer func() {
		if p := recover(); p != nil {
			v.options.Log.Error("panic with a client", "panic", fmt.Sprint(p))
		}
	}()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	conn.SetDeadline(time.Now().Add(v.options.LoginTimeout))
	l := &login{server: v}
	w := newWire(conn)
	defer w.Close()
	defer func() { // one that a panic kept from its end; the second call does nothing
		if l.core != nil {
			l.core.End(errors.New("the login was not finished"))
		}
	}()
	config := l.config()
	ciphers, err := w.ciphersFor()
	if err != nil {
		v.options.Log.Debug("login ended", "remote", conn.RemoteAddr().String(), "error", err)
		return
	}
	config.Ciphers = ciphers
	client, channels, requests, err := ssh.NewServerConn(w, config)
	if err != nil {
		v.options.Log.Debug("login ended", "remote", conn.RemoteAddr().String(), "error", err)
		return
	}
	left()
	stop()
	conn.SetDeadline(time.Time{})
	s := &session{server: v, core: l.core, cert: l.cert, client: client}
	s.serve(channels, requests)
}

// login is one client that is proving who it is. Its callbacks are called one after the other.
type login struct {
	server *server
	core   *gatewayd.Session // begun; nil until the login has succeeded
	cert   *ssh.Certificate  // what was proved, when it was a certificate
}

func (l *login) config() *ssh.ServerConfig {
	c := &ssh.ServerConfig{
		ServerVersion:             serverName,
		MaxAuthTries:              10, // agents offer all their keys
		PublicKeyCallback:         l.offered,
		VerifiedPublicKeyCallback: l.proved,
		KeyboardInteractiveCallback: func(m ssh.ConnMetadata, _ ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			return nil, l.stranger(m.User()) // what clients try after their keys: the one place to say that none of them was it
		},
	}
	c.AddHostKey(l.server.options.HostKey)
	return c
}

// offered answers whether a key is worth proving. It tells nothing else: nothing was proved yet.
func (l *login) offered(m ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	principal, _ := userName(m.User())
	if !l.server.options.Gateway.KnowsKey(key, principal) {
		return nil, errors.New("not a key of that principal")
	}
	p := &ssh.Permissions{}
	if cert, is := key.(*ssh.Certificate); is {
		p.CriticalOptions = cert.CriticalOptions // the server checks source-address
	}
	return p, nil
}

// proved begins the session of the very key whose signature was just verified: a
// client may offer many, and only this one counts (CVE-2024-45337).
func (l *login) proved(m ssh.ConnMetadata, key ssh.PublicKey, p *ssh.Permissions, _ string) (*ssh.Permissions, error) {
	principal, target := userName(m.User())
	core, err := l.server.options.Gateway.Begin(context.Background(), gatewayd.Attempt{
		Protocol: "ssh", Remote: m.RemoteAddr().String(), User: principal, Target: target,
		Client: string(m.ClientVersion()), Key: key,
	})
	if err != nil {
		return nil, &ssh.BannerError{Err: err, Message: banner(err.Error())}
	}
	l.core = core
	l.cert, _ = key.(*ssh.Certificate)
	return p, nil
}

func (l *login) stranger(user string) error {
	text := "none of the keys that were offered is one of " + printable(user) + " in the current release; " +
		"log in as PRINCIPAL+CONNECTION, with a key that the access repo gives the principal: ssh -i KEY 'agent:etl+web-1'@…"
	return &ssh.BannerError{Err: errors.New("no known key"), Message: banner(text)}
}

func banner(text string) string { return "sallyport: " + printable(text) + "\r\n" }

// userName takes "agent:etl+web-1/nightly" apart. A name without "+" has no connection, which is refused later with the reason.
func userName(user string) (principal, target string) {
	principal, target, _ = strings.Cut(user, "+")
	return principal, target
}

// printable is text that a terminal shows and does not obey.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r >= 0x7f && r <= 0x9f {
			return '?'
		}
		return r
	}, text)
}
