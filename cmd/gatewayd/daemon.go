package main

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/admin"
	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/gatewayd/kube"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/gatewayd/sshd"
	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// serve runs the gateway until ctx ends, then drains it.
//
// Data flows one way: releases come in from where sync publishes to, sessions go through the core, recordings stay in their folder, summaries leave
// for git.
func serve(ctx context.Context, c *Config, logTo io.Writer) error {
	log := newLogger(logTo, c.Log)
	key, err := loadKey(c.Key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.State, 0o700); err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	audit, err := newAudit(c, key, log)
	if err != nil {
		return err
	}
	journal, err := record.Open(record.Options{
		Dir: c.Recordings.Dir, Gateway: c.Name, Durability: c.Recordings.Durability, OutputCap: outputCap(c.Recordings.OutputPerStatement),
		OutputCaps: map[string]int64{"ssh": outputCap(c.SSH.OutputPerCommand), "kubernetes": outputCap(c.Kubernetes.OutputPerCommand)},
		Sign:       func(m []byte) ([]byte, error) { return reviews.Sign(key.signer, reviews.NamespaceCheckpoint, m) },
		Recovered:  audit.keep, Log: log,
	})
	if err != nil {
		return fmt.Errorf("recordings: %w", err)
	}
	defer journal.Close()
	gateway, err := newGateway(c, key, journal, audit, log)
	if err != nil {
		return err
	}
	releases, err := newReleases(ctx, c, gateway, log)
	if err != nil {
		return err
	}
	open, err := listen(c)
	if err != nil {
		return err
	}
	digester, err := record.OpenDigester(filepath.Join(c.State, "digest.key"))
	if err != nil {
		return err
	}
	cert, err := certificate(c, key)
	if err != nil {
		return err
	}

	// The audit outlives the sessions, so that their summaries are committed too.
	auditCtx, endAudit := context.WithCancel(context.WithoutCancel(ctx))
	defer endAudit()
	tasks, taskCtx := errgroup.WithContext(ctx)
	tasks.Go(func() error { gateway.Run(taskCtx); return nil })
	tasks.Go(func() error { releases.watch(taskCtx); return nil })
	if open.postgres != nil {
		tasks.Go(func() error {
			return postgres.Serve(taskCtx, open.postgres, postgres.Options{
				Gateway: gateway, AllowPlain: c.Postgres.Plain, Digest: digester.Digest, Log: log,
				TLS: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
			})
		})
	}
	if open.ssh != nil {
		tasks.Go(func() error {
			return sshd.Serve(taskCtx, open.ssh, sshd.Options{Gateway: gateway, HostKey: key.signer, RecordInput: c.SSH.RecordInput, Log: log})
		})
	}
	if open.kubernetes != nil {
		tasks.Go(func() error {
			return kube.Serve(taskCtx, open.kubernetes, kube.Options{
				Gateway: gateway, Log: log, TLS: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
			})
		})
	}
	if open.operators != nil {
		tasks.Go(func() error {
			return admin.Serve(taskCtx, open.operators, func() admin.Report {
				return admin.Report{Status: gateway.Status(), Audit: audit.status()}
			})
		})
	}
	committed := make(chan struct{})
	go func() { defer close(committed); audit.run(auditCtx) }()
	context.AfterFunc(taskCtx, gateway.Drain)

	log.Info("gatewayd is listening", append(open.addresses(), "gateway", c.Name, "key", key.fingerprint)...)
	err = tasks.Wait()
	endAudit()
	<-committed
	if errors.Is(err, context.Canceled) || ctx.Err() != nil {
		return nil
	}
	return err
}

func outputCap(configured int64) int64 {
	if configured == 0 {
		return -1 // record's word for none
	}
	return configured
}

// gatewayKey is the gateway's one key.
type gatewayKey struct {
	private     ed25519.PrivateKey
	signer      ssh.Signer
	fingerprint string // SHA256:…
}

func loadKey(path string) (*gatewayKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("gateway key: %w", err)
	}
	raw, err := ssh.ParseRawPrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("gateway key %s: it is not a private SSH key without passphrase: make one with ssh-keygen -t ed25519 -N ''", path)
	}
	private, ok := raw.(*ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("gateway key %s: it is not ed25519: make one with ssh-keygen -t ed25519 -N ''", path)
	}
	signer, err := ssh.NewSignerFromKey(*private)
	if err != nil {
		return nil, fmt.Errorf("gateway key %s: %w", path, err)
	}
	return &gatewayKey{*private, signer, ssh.FingerprintSHA256(signer.PublicKey())}, nil
}

func newGateway(c *Config, key *gatewayKey, journal *record.Journal, audit *audit, log *slog.Logger) (*gatewayd.Gateway, error) {
	credentials, err := credential.NewStore(c.Credentials)
	if err != nil {
		return nil, err
	}
	return gatewayd.New(gatewayd.Config{
		Name: c.Name, Fingerprint: key.fingerprint, Journal: journal, Credentials: credentials,
		Summaries: audit.keep, RequestCommand: requestCommand, CheckMasks: postgres.CheckMasks, Log: log,
	})
}

// requestCommand is what a client without a review is told to run or to open.
func requestCommand(settings reviews.ConfigSpec, principal, connection string) string {
	text := gatewayd.RequestCommand(settings, principal, connection)
	branch := reviews.RequestBranch(reviews.RequestedName(connection, principal))
	if link := gitrepo.PullRequestURL(settings.Repository, settings.Branch, branch); link != "" && settings.Forge.Kind == "" {
		text += " and then open " + link
	}
	return text
}

// listeners are open before anything starts, so that a taken port is reported first. Those that are not configured are nil.
type listeners struct{ postgres, ssh, kubernetes, operators net.Listener }

func listen(c *Config) (l listeners, err error) {
	for _, one := range []struct {
		to                  *net.Listener
		name, address, file string
	}{
		{&l.postgres, "postgres.listen", c.Postgres.Listen, "postgres.addr"},
		{&l.ssh, "ssh.listen", c.SSH.Listen, "ssh.addr"},
		{&l.kubernetes, "kubernetes.listen", c.Kubernetes.Listen, "kubernetes.addr"},
		{&l.operators, "admin.listen", c.Admin.Listen, adminAddrFile},
	} {
		if one.address == "" {
			continue
		}
		if *one.to, err = net.Listen("tcp", one.address); err != nil {
			l.close()
			return l, fmt.Errorf("%s: %w", one.name, err)
		}
		if err := writeAddr(c, one.file, *one.to); err != nil {
			l.close()
			return l, err
		}
	}
	return l, nil
}

func (l listeners) close() {
	for _, one := range []net.Listener{l.postgres, l.ssh, l.kubernetes, l.operators} {
		if one != nil {
			one.Close()
		}
	}
}

// addresses are what the log says.
func (l listeners) addresses() []any {
	var list []any
	if l.postgres != nil {
		list = append(list, "postgres", l.postgres.Addr().String())
	}
	if l.ssh != nil {
		list = append(list, "ssh", l.ssh.Addr().String())
	}
	if l.kubernetes != nil {
		list = append(list, "kubernetes", l.kubernetes.Addr().String())
	}
	return list
}

// writeAddr leaves the address a listener really got in the state folder.
func writeAddr(c *Config, name string, l net.Listener) error {
	if err := os.WriteFile(filepath.Join(c.State, name), []byte(l.Addr().String()+"\n"), 0o600); err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	return nil
}

func certificate(c *Config, key *gatewayKey) (tls.Certificate, error) {
	if c.Postgres.TLS.Cert == "" {
		return identity.GatewayCertificate(key.private)
	}
	cert, err := tls.LoadX509KeyPair(c.Postgres.TLS.Cert, c.Postgres.TLS.Key)
	if err != nil {
		return cert, fmt.Errorf("postgres.tls: %w", err)
	}
	return cert, nil
}
