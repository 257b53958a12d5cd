package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"sync"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/gatewayd/kube/call"
)

func newConnect(g *globals) *cobra.Command {
	o := &accessOptions{}
	var tcp bool
	var sshConfig, kubeconfig string
	c := &cobra.Command{
		Use:   "connect CONNECTION[/REVIEW] --as PRINCIPAL [-- COMMAND...]",
		Short: "Open a local door to a connection, for psql and every other client",
		Long: `connect opens a unix socket in a directory that only you can enter. Each client that
comes in there is carried to the gateway over TLS: the gateway proves itself with
the key that the trust root pins, and you prove yourself with a token that your SSH
key signs for this one TLS connection, so that nothing seen elsewhere can be
replayed. The client needs no password.

With a command behind -- it runs that command with PGHOST, PGPORT, PGUSER and
PGDATABASE set and ends with its exit code. Without one it prints how to connect and
waits until it is interrupted.

--tcp opens a port on 127.0.0.1 instead, for clients without unix sockets. Every
program of this machine can reach it, so it asks for a random password.

To an ssh host the ssh client goes by itself: connect runs it with a configuration
that names the gateway and pins its key, or writes that with --ssh-config.

To a Kubernetes API server kubectl and others go by themselves, too: connect runs them
with a kubeconfig of their own in KUBECONFIG, or writes that with --kubeconfig. It
holds no secret: ` + "`sallyport kube-token`" + ` makes a token when one is needed.`,
		Example: `  sallyport connect orders-db --as agent:etl -- psql
  sallyport connect orders-db/etl --as agent:etl -- pg_dump --table app.orders
  sallyport connect orders-db --as agent:etl --gateway gateway.example:6432
  sallyport connect orders-db --as agent:etl --tcp --json
  sallyport connect web-1 --as agent:etl -- ssh web-1 systemctl status web
  sallyport connect web-1 --as agent:etl --ssh-config web-1.config
  sallyport connect prod --as agent:etl -- kubectl get pods -n web
  sallyport connect prod --as agent:etl --kubeconfig prod.kubeconfig`,
		Args: arguments(1, -1, "CONNECTION"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := need(c, "as"); err != nil {
				return err
			}
			if dash := c.ArgsLenAtDash(); dash != 1 && len(args) > 1 {
				return usage("put -- before the command: sallyport connect %s -- %s …", args[0], args[1])
			}
			a, err := o.open(c.Context(), g, args[0])
			if err != nil {
				return err
			}
			defer a.signer.Close()
			if a.protocol == "ssh" {
				return a.connectSSH(c, o.key, sshConfig, args[1:])
			}
			if a.protocol == call.Protocol && sshConfig == "" {
				return a.connectKube(c, o, kubeconfig, args[1:])
			}
			if kubeconfig != "" {
				return usage("--kubeconfig is for Kubernetes API servers, and %s speaks %s", a.connection, a.protocol)
			}
			if sshConfig != "" {
				return usage("--ssh-config is for ssh hosts, and %s speaks %s", a.connection, a.protocol)
			}
			return a.connect(c, g, args[1:], tcp)
		},
	}
	o.flags(c)
	c.Flags().StringVar(&sshConfig, "ssh-config", "", "write a configuration for ssh, scp, sftp and git to this file")
	c.Flags().StringVar(&kubeconfig, "kubeconfig", "", "write a configuration for kubectl, client-go and Helm to this file")
	c.Flags().BoolVar(&tcp, "tcp", false, "open a TCP port with a random password instead of a unix socket")
	g.jsonFlag(c)
	return c
}

func (a *access) connect(c *cobra.Command, g *globals, command []string, tcp bool) error {
	if a.review == nil {
		// The gateway has the last word: it knows what is in force, and journals the attempt.
		fmt.Fprintf(c.ErrOrStderr(), "sallyport: %v; asking the gateway\n", a.problem)
	}
	config, err := identity.ClientTLS(a.gateway)
	if err != nil {
		return err
	}
	door, err := openDoorway(tcp)
	if err != nil {
		return err
	}
	defer door.close()
	t := &tunnel{
		gateway: a.address, tls: config, user: a.principal, database: a.database(), password: door.password,
		mint: a.minter(),
	}
	// An interrupt ends the waiting, but not a command: it may mean "cancel the query" to it.
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.Context()))
	var serving sync.WaitGroup
	serving.Go(func() { door.serve(ctx, t) })
	defer serving.Wait()
	defer cancel()
	defer door.close()
	if len(command) > 0 {
		return runCommand(command, door.environment(a.principal, a.database()))
	}
	if err := door.tell(c.OutOrStdout(), g.json, a); err != nil {
		return err
	}
	<-c.Context().Done()
	return nil
}

// minter makes the token of each connection from what is merged at that moment.
func (a *access) minter() func(context.Context, tls.ConnectionState) (string, error) {
	var mu sync.Mutex // guards a's snapshot and review, and the signer
	return func(ctx context.Context, state tls.ConnectionState) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if _, err := a.refresh(ctx); err != nil {
			return "", err
		}
		return a.bind(state)
	}
}

// tell prints how to come in.
func (d *doorway) tell(out io.Writer, asJSON bool, a *access) error {
	if asJSON {
		return printJSON(out, map[string]any{
			"host": d.host(), "port": d.port, "user": a.principal, "database": a.database(), "password": d.password, "gateway": a.address,
		})
	}
	fmt.Fprintf(out, "%s to %s through gateway %s (%s)\n\n", a.principal, a.database(), a.gateway.Name, a.address)
	if d.password == "" {
		fmt.Fprintf(out, "  psql -h %s\n\n", d.host())
	} else {
		fmt.Fprintf(out, "  PGPASSWORD=%s psql -h %s -p %d\n\n", d.password, d.host(), d.port)
	}
	fmt.Fprintln(out, "It is open until you interrupt this (Ctrl-C).")
	return nil
}
