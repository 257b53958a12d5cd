package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/policies/syncer"
)

// syncOptions are the flags of sync.
type syncOptions struct {
	remote, ref, out, key, state, trustRoot string
	watch                                   bool
	every                                   time.Duration
}

func newSync(g *globals) *cobra.Command {
	o := &syncOptions{}
	c := &cobra.Command{
		Use:   "sync --remote URL --out DIR --state DIR --key FILE --trust-root sha256:…",
		Short: "Turn merged commits into signed releases for gateways",
		Long: `sync fetches the branch of merged reviews, verifies every signature on it commit by
commit, and publishes a signed release into a directory that gateways watch. Once by
default; with --watch it goes on until it is interrupted.

The first trust root is pinned by its digest: nothing that the repository says can
replace it. A rewound branch is not followed. Documents that do not check are left
out, each with its reason; what is broken never opens anything.

--state holds what was seen so far. Keep it: it is what makes an old copy of a review
stay dead. --watch logs to standard error, as JSON lines with --json.`,
		Example: `  sallyport sync --remote git@github.com:acme/access.git --out /var/lib/sallyport/release \
      --state /var/lib/sallyport/sync --key /etc/sallyport/release --trust-root sha256:9b1e…
  sallyport sync --remote ~/access --out release --state state --key release.key \
      --trust-root sha256:$(sha256sum < trust/root.yaml | cut -c1-64) --watch --every 1s`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if o.remote == "" {
				o.remote = g.repo
			}
			if err := need(c, "out", "state", "key", "trust-root"); err != nil {
				return err
			}
			if o.remote == "" {
				return need(c, "remote")
			}
			return o.run(c.Context(), g, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&o.remote, "remote", "", "URL or path of the access repo (default: --repo)")
	f.StringVar(&o.ref, "ref", "main", "branch of merged reviews")
	f.StringVar(&o.out, "out", "", "release directory that gateways watch")
	f.StringVar(&o.state, "state", "", "private directory for what was seen so far")
	f.StringVar(&o.key, "key", "", "a release key of the trust root: private key file, or .pub file of one in the ssh-agent")
	f.StringVar(&o.trustRoot, "trust-root", "", "pinned digest of trust/root.yaml, sha256:…, as `sallyport init` prints it")
	f.BoolVar(&o.watch, "watch", false, "go on until interrupted")
	f.DurationVar(&o.every, "every", syncer.DefaultEvery, "how often --watch asks the remote")
	g.jsonFlag(c)
	return c
}

func (o *syncOptions) run(ctx context.Context, g *globals, out, errOut io.Writer) error {
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
	options := syncer.Options{
		Remote: o.remote, Branch: strings.TrimPrefix(o.ref, "refs/heads/"), StateDir: o.state, OutDir: o.out,
		Signer: signer, TrustRoot: digest,
	}
	if o.watch {
		options.Log = slog.New(slog.NewTextHandler(errOut, nil))
		if g.json {
			options.Log = slog.New(slog.NewJSONHandler(errOut, nil))
		}
	}
	s, err := syncer.New(options)
	if err != nil {
		return err
	}
	defer s.Close()
	if o.watch {
		err := s.Watch(ctx, o.every)
		if errors.Is(err, context.Canceled) {
			return nil // interrupted: how a watch ends
		}
		return err
	}
	return o.once(ctx, g, s, out, errOut)
}

func (o *syncOptions) once(ctx context.Context, g *globals, s *syncer.Syncer, out, errOut io.Writer) error {
	result, err := s.Once(ctx)
	if g.json {
		if printErr := printJSON(out, result); printErr != nil {
			return printErr
		}
	}
	if err != nil {
		return err
	}
	if !g.json {
		tellRelease(out, errOut, o.out, result)
	}
	if result.Broken != "" {
		return hint(fmt.Errorf("trust, config or policies at %s are not usable, those of %s stay in force: %s", result.Commit, result.Good, result.Broken),
			"`sallyport check` in a clone shows every problem")
	}
	return nil
}

func tellRelease(out, errOut io.Writer, dir string, r syncer.Result) {
	for _, p := range r.Problems {
		fmt.Fprintf(errOut, "closed: %s\n", clean(p.Error()))
	}
	verb := "is still current"
	if r.Published {
		verb = "published"
	}
	fmt.Fprintf(out, "release %d of commit %s %s in %s, valid until %s\n", r.Sequence, r.Commit, verb, dir, stamp(r.ValidUntil))
}
