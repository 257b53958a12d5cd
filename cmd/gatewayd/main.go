// Command gatewayd stands in the wire to the targets with credentials that it
// alone holds. It loads the releases that `sallyport sync` publishes, lets in
// whom a review admits, decides and records every command before it forwards
// it, and commits a summary of each session to the audit branch.
//
// Reading on: daemon.go is how the parts are wired, ../../gatewayd/session.go
// is what happens to a session.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "gatewayd:", err)
		os.Exit(exitCode(err))
	}
}

// Exit codes, as the root help lists them.
const (
	exitFailed   = 1
	exitUsage    = 2
	exitConfig   = 3
	exitNotReady = 4
)

type coded struct {
	error
	code int
}

func (c coded) Unwrap() error { return c.error }

func exitCode(err error) int {
	if c := (coded{}); errors.As(err, &c) {
		return c.code
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "gatewayd --config FILE",
		Short: "Stand in the wire to production: enforce reviews, mask, record",
		Long: `gatewayd enforces the reviews of a sallyport release on the wire to its targets.

Exit codes: 0 ended as asked, 1 failed, 2 wrong usage, 3 the configuration has
problems (all are printed), 4 status: the gateway answers but is not ready.`,
		Example: `  gatewayd --config /etc/sallyport/gatewayd.yaml
  gatewayd check  --config /etc/sallyport/gatewayd.yaml
  gatewayd status --config /etc/sallyport/gatewayd.yaml`,
		Args:          cobra.NoArgs,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	path := root.PersistentFlags().String("config", "/etc/sallyport/gatewayd.yaml", "configuration file")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return coded{err, exitUsage} })
	configured := func(f func(*cobra.Command, *Config) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(*path)
			if err != nil {
				return coded{fmt.Errorf("the configuration has problems:\n%w", err), exitConfig}
			}
			return f(cmd, c)
		}
	}
	root.RunE = configured(func(cmd *cobra.Command, c *Config) error { return serve(cmd.Context(), c, os.Stderr) })
	root.AddCommand(&cobra.Command{
		Use: "check", Short: "Say whether the configuration is right, and change nothing", Args: cobra.NoArgs,
		Example: "  gatewayd check --config gatewayd.yaml",
		RunE: configured(func(cmd *cobra.Command, _ *Config) error {
			fmt.Fprintln(cmd.OutOrStdout(), "the configuration is right")
			return nil
		}),
	})
	status := &cobra.Command{
		Use: "status", Short: "Ask the running gateway for its condition and what to do next", Args: cobra.NoArgs,
		Example: "  gatewayd status --config gatewayd.yaml --json",
	}
	asJSON := status.Flags().Bool("json", false, "print JSON")
	status.RunE = configured(func(cmd *cobra.Command, c *Config) error {
		return printStatus(cmd.Context(), cmd.OutOrStdout(), c, *asJSON)
	})
	root.AddCommand(status)
	return root
}
