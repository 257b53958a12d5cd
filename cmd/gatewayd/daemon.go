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
	"github.com/sallyport-dev/sallyport/gatewayd/postgres"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
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
		Dir: c.Recordings.Dir, Gateway: c.Name, Durability: c.Recordings.Durability, OutputCap: outputCap(c),
		Sign:      func(m []byte) ([]byte, error) { return reviews.Sign(key.signer, reviews.NamespaceCheckpoint, m) },
		Recovered: audit.keep, Log: log,
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
	sql, operators, err := listen(c)
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
	tasks.Go(func() error {
		return postgres.Serve(taskCtx, sql, postgres.Options{
			Gateway: gateway, AllowPlain: c.Postgres.Plain, Digest: digester.Digest, Log: log,
			TLS: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		})
	})
	if operators != nil {
		tasks.Go(func() error {
			return admin.Serve(taskCtx, operators, func() admin.Report {
				return admin.Report{Status: gateway.Status(), Audit: audit.status()}
			})
		})
	}
	committed := make(chan struct{})
	go func() { defer close(committed); audit.run(auditCtx) }()
	context.AfterFunc(taskCtx, gateway.Drain)

	log.Info("gatewayd is listening", "postgres", sql.Addr().String(), "gateway", c.Name, "key", key.fingerprint)
	err = tasks.Wait()
	endAudit()
	<-committed
	if errors.Is(err, context.Canceled) || ctx.Err() != nil {
		return nil
	}
	return err
}

func outputCap(c *Config) int64 {
	if c.Recordings.OutputPerStatement == 0 {
		return -1 // record's word for none
	}
	return c.Recordings.OutputPerStatement
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

// listen opens the listeners, so that a taken port is reported before anything starts.
func listen(c *Config) (sql, operators net.Listener, err error) {
	if sql, err = net.Listen("tcp", c.Postgres.Listen); err != nil {
		return nil, nil, fmt.Errorf("postgres.listen: %w", err)
	}
	if err := writeAddr(c, "postgres.addr", sql); err != nil {
		return nil, nil, err
	}
	if c.Admin.Listen == "" {
		return sql, nil, nil
	}
	if operators, err = net.Listen("tcp", c.Admin.Listen); err != nil {
		sql.Close()
		return nil, nil, fmt.Errorf("admin.listen: %w", err)
	}
	return sql, operators, writeAddr(c, adminAddrFile, operators)
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
