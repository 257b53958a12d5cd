package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/policies/syncer"
	forgeapi "github.com/sallyport-dev/sallyport/reviews/forge"
)

// syncOptions are the flags of sync.
type syncOptions struct {
	remote, ref, out, key, state, trustRoot        string
	audit, auditBranch, attesterKey, token, listen string
	watch                                          bool
	every                                          time.Duration
	hooks                                          hookOptions
}

func newSync(g *globals) *cobra.Command {
	o := &syncOptions{}
	c := &cobra.Command{
		Use:   "sync --remote URL --out PLACE --state DIR --key FILE --trust-root sha256:…",
		Short: "Turn merged commits into signed releases for gateways",
		Long: `sync fetches the branch of merged reviews, verifies every signature on it commit by
commit, and publishes a signed release where gateways find it: a directory, or object
storage that speaks S3. Once by default; with --watch it goes on until it is interrupted.

The first trust root is pinned by its digest: nothing that the repository says can
replace it. A rewound branch is not followed. Documents that do not check are left
out, each with its reason; what is broken never opens anything.

Every release is committed to the audit branch as well, behind its publication: what
cannot be pushed waits in --state. With --attester-key and --forge-token, approvals in
merged pull requests are attested there and count where the approval rules say so;
without them such documents stay pending. The forge is the one that the config names.

--state holds what was seen so far. Keep it: it is what makes an old copy of a review
stay dead, and it is where ` + "`sallyport status`" + ` looks. --watch logs to standard error, as
JSON lines with --json; --listen serves /metrics, /healthz and /readyz. With --hooks a
webhook of the forge makes it look at once, so that --every can be long; nothing that a
webhook says is believed.`,
		Example: `  sallyport sync --remote git@github.com:acme/access.git --out /var/lib/sallyport/release \
      --state /var/lib/sallyport/sync --key /etc/sallyport/release --trust-root sha256:9b1e…
  sallyport sync --remote ~/access --out release --state state --key release.key \
      --trust-root sha256:$(sha256sum < trust/root.yaml | cut -c1-64) --watch --every 1s
  sallyport sync --remote https://git.example.org/acme/access.git --out release --state state --key release.key \
      --trust-root sha256:9b1e… --attester-key attester.key --forge-token file:/etc/sallyport/forge-token \
      --watch --listen 127.0.0.1:9464 --every 1m --hooks 127.0.0.1:9465 --hook-secret file:/etc/sallyport/hook-secret
  sallyport sync --remote git@github.com:acme/access.git --out 's3://acme-releases/prod?region=eu-west-1' \
      --state /var/lib/sallyport/sync --key /etc/sallyport/release --trust-root sha256:9b1e… --watch`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if o.remote == "" {
				o.remote = g.repo
			}
			if err := need(c, "out", "state", "key", "trust-root"); err != nil {
				return err
			}
			switch {
			case o.remote == "":
				return need(c, "remote")
			case (o.token == "") != (o.attesterKey == ""):
				return usage("--forge-token and --attester-key go together: the one reads approvals, the other signs what was read")
			case o.auditBranch != "" && (o.audit == "" || o.audit == "none"):
				return usage("--audit-branch goes with --audit")
			case o.listen != "" && !o.watch:
				return usage("--listen goes with --watch")
			}
			if err := o.hooks.check(o.watch); err != nil {
				return err
			}
			return o.run(c.Context(), g, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&o.remote, "remote", "", "URL or path of the access repo (default: --repo)")
	f.StringVar(&o.ref, "ref", "main", "branch of merged reviews")
	f.StringVar(&o.out, "out", "", "where gateways find releases: a directory, or s3://bucket/prefix?endpoint=…&region=… with credentials from the AWS environment or profile")
	f.StringVar(&o.state, "state", "", "private directory for what was seen so far")
	f.StringVar(&o.key, "key", "", "a release key of the trust root: private key file, or .pub file of one in the ssh-agent")
	f.StringVar(&o.trustRoot, "trust-root", "", "pinned digest of trust/root.yaml, sha256:…, as sallyport init prints it")
	f.BoolVar(&o.watch, "watch", false, "go on until interrupted")
	f.DurationVar(&o.every, "every", syncer.DefaultEvery, "how often --watch asks the remote")
	f.StringVar(&o.audit, "audit", "", "URL or path of the audit repository, or \"none\" (default: spec.audit of the config in force)")
	f.StringVar(&o.auditBranch, "audit-branch", "", "its branch, with --audit (default: audit)")
	f.StringVar(&o.attesterKey, "attester-key", "", "an attester key of the trust root: private key file, or .pub file of one in the ssh-agent")
	f.StringVar(&o.token, "forge-token", "", "where an access token of the forge is: env:NAME or file:/absolute/path; it also fetches over https")
	f.StringVar(&o.listen, "listen", "", "with --watch, serve /metrics, /healthz and /readyz here, such as 127.0.0.1:9464 (default: nowhere)")
	o.hooks.flags(f)
	g.jsonFlag(c)
	return c
}

func (o *syncOptions) run(ctx context.Context, g *globals, out, errOut io.Writer) error {
	if os.Getenv("GOMEMLIMIT") == "" {
		syncer.TuneMemory()
	}
	digest, pinned := strings.CutPrefix(o.trustRoot, "sha256:")
	if !pinned {
		return usage("--trust-root %s: write sha256: and the digest of trust/root.yaml", o.trustRoot)
	}
	if info, err := os.Stat(o.remote); err == nil && info.IsDir() {
		if abs, err := filepath.Abs(o.remote); err == nil {
			o.remote = abs
		}
	}
	signer, err := openKey(o.key)
	if err != nil {
		return err
	}
	defer signer.Close()
	to, err := releaseTarget(ctx, o.out)
	if err != nil {
		return err
	}
	options := syncer.Options{
		Remote: o.remote, Branch: strings.TrimPrefix(o.ref, "refs/heads/"), StateDir: o.state, Out: to,
		Signer: signer, TrustRoot: digest, Audit: o.auditOf(),
	}
	if o.token != "" {
		token, err := readSecret(ctx, "--forge-token", o.token)
		if err != nil {
			return err
		}
		attester, err := openKey(o.attesterKey)
		if err != nil {
			return fmt.Errorf("--attester-key: %w", err)
		}
		defer attester.Close()
		options.Attester = &syncer.Attester{Token: forgeapi.Token(token), Key: attester}
		options.Git.Token = token
	}
	if o.watch {
		options.Log = slog.New(slog.NewTextHandler(errOut, nil))
		if g.json {
			options.Log = slog.New(slog.NewJSONHandler(errOut, nil))
		}
	}
	wake := make(chan struct{}, 1)
	options.Wake = wake
	s, err := syncer.New(options)
	if err != nil {
		return err
	}
	defer s.Close()
	if o.watch {
		return o.follow(ctx, s, wake, options.Log, errOut)
	}
	return o.once(ctx, g, s, to, out, errOut)
}

// auditOf is where the audit branch is.
func (o *syncOptions) auditOf() syncer.Audit {
	switch o.audit {
	case "":
		return syncer.Audit{FromConfig: true}
	case "none":
		return syncer.Audit{}
	}
	remote := o.audit
	if info, err := os.Stat(remote); err == nil && info.IsDir() {
		if abs, err := filepath.Abs(remote); err == nil {
			remote = abs
		}
	}
	return syncer.Audit{Remote: remote, Branch: o.auditBranch}
}

// readSecret reads a secret from where a flag's reference says. What is no reference may
// be the secret itself, so no error repeats it.
func readSecret(ctx context.Context, flag, reference string) (string, error) {
	kind, rest, _ := strings.Cut(reference, ":")
	if kind != "env" && kind != "file" || credential.Check(reference) != nil {
		return "", usage("%s takes env:NAME or file:/absolute/path, where the secret is; on a command line everybody on this machine could read it", flag)
	}
	if kind == "env" && os.Getenv(rest) == "" {
		return "", fmt.Errorf("%s: the environment variable %s is not set or empty", flag, rest)
	}
	secret, err := credential.Resolve(ctx, reference)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	return secret.Reveal(), nil
}

// follow goes on until it is interrupted.
func (o *syncOptions) follow(ctx context.Context, s *syncer.Syncer, wake chan<- struct{}, log *slog.Logger, errOut io.Writer) error {
	ctx, stop := context.WithCancelCause(ctx)
	var servers sync.WaitGroup
	defer servers.Wait()
	defer stop(nil)
	if o.listen != "" {
		l, err := net.Listen("tcp", loopbackOf(o.listen))
		if err != nil {
			return hint(fmt.Errorf("--listen: %w", err), "write an address that is free, such as 127.0.0.1:9464")
		}
		fmt.Fprintf(errOut, "metrics on http://%s/metrics\n", l.Addr())
		servers.Go(func() { stop(serveMonitor(ctx, l, s.Status, max(silentAfter, 3*o.every))) })
	}
	if o.hooks.listen != "" {
		l, hooks, err := o.hooks.open(ctx, wake, log)
		if err != nil {
			return err
		}
		fmt.Fprintf(errOut, "webhooks on %s\n", l.Addr())
		servers.Go(func() { stop(hooks.serve(ctx, l)) })
	}
	err := s.Watch(ctx, o.every)
	if errors.Is(err, context.Canceled) {
		return nil // interrupted: how a watch ends
	}
	return err
}

func (o *syncOptions) once(ctx context.Context, g *globals, s *syncer.Syncer, to release.Target, out, errOut io.Writer) error {
	result, err := s.Once(ctx)
	if g.json {
		if printErr := printJSON(out, result); printErr != nil {
			return printErr
		}
	}
	if err != nil {
		return err
	}
	flush, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := s.Flush(flush); err != nil {
		fmt.Fprintf(errOut, "the release is published; it is not in the log on the audit branch yet, which the next sync tries again: %s\n", clean(err.Error()))
	}
	if !g.json {
		tellRelease(out, errOut, to, result)
	}
	if result.Broken != "" {
		return hint(fmt.Errorf("trust, config or policies at %s are not usable, those of %s stay in force: %s", result.Commit, result.Good, result.Broken),
			"`sallyport check` in a clone shows every problem")
	}
	return nil
}

func tellRelease(out, errOut io.Writer, to release.Target, r syncer.Result) {
	for _, p := range r.Problems {
		fmt.Fprintf(errOut, "closed: %s\n", clean(p.Error()))
	}
	for _, p := range r.Pending {
		fmt.Fprintf(errOut, "pending: %s: %s\n", clean(p.Path), needs(p))
	}
	if r.Awaiting != "" {
		fmt.Fprintf(errOut, "%s\n", clean(r.Awaiting))
	}
	verb := "is still current"
	if r.Published {
		verb = "published"
	}
	fmt.Fprintf(out, "release %d of commit %s %s in %s, valid until %s\n", r.Sequence, r.Commit, verb, to, stamp(r.ValidUntil))
}
