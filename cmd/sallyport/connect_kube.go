package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/gatewayd/identity"
)

// early is how long before its end a token is replaced.
const early = 30 * time.Second

func newKubeToken(g *globals) *cobra.Command {
	o := &accessOptions{}
	c := &cobra.Command{
		Use:   "kube-token CONNECTION[/REVIEW] --as PRINCIPAL",
		Short: "Print a review token in the form that kubectl asks a credential plugin for",
		Long: `kube-token is what kubectl, client-go and Helm run when they need a credential: the
kubeconfig that ` + "`sallyport connect --kubeconfig`" + ` writes names it. It prints an
ExecCredential with a review token, made from what is merged at that moment.

A token lives for at most 5 minutes, and clients ask for the next one by themselves.`,
		Example: `  sallyport connect prod --as agent:etl --kubeconfig prod.kubeconfig
  sallyport kube-token prod --as agent:etl`,
		Args: arguments(1, 1, "CONNECTION"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := need(c, "as"); err != nil {
				return err
			}
			a, err := o.open(c.Context(), g, args[0])
			if err != nil {
				return err
			}
			defer a.signer.Close()
			if a.review == nil {
				// The gateway has the last word, and journals the attempt.
				fmt.Fprintf(c.ErrOrStderr(), "sallyport: %v; asking the gateway\n", a.problem)
			}
			now := time.Now()
			token, err := a.mint(now, identity.MaxLifetime, nil)
			if err != nil {
				return err
			}
			return printJSON(c.OutOrStdout(), map[string]any{
				"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
				"status": map[string]any{"token": token, "expirationTimestamp": now.Add(identity.MaxLifetime - early).UTC().Format(time.RFC3339)},
			})
		},
	}
	o.flags(c)
	return c
}

// connectKube runs a client with a kubeconfig of its own, or writes that to a file.
func (a *access) connectKube(c *cobra.Command, o *accessOptions, file string, command []string) error {
	if file == "" && len(command) == 0 {
		return usage("%s is a Kubernetes API server: give a command, sallyport connect %s --as %s -- kubectl get pods, or --kubeconfig FILE", a.connection, a.connection, a.principal)
	}
	if file == "" {
		dir, err := os.MkdirTemp("", "sallyport-") // 0700
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		file = filepath.Join(dir, "kubeconfig")
	}
	text, err := a.kubeconfig(c.Context(), o)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	if len(command) == 0 {
		fmt.Fprintf(c.OutOrStdout(), "kubectl --kubeconfig %s\n", file)
		return nil
	}
	return runCommand(command, append(os.Environ(), "KUBECONFIG="+file))
}

// kubeconfig names the gateway, its certificate and the program that makes tokens. Nothing in it is secret.
func (a *access) kubeconfig(ctx context.Context, o *accessOptions) ([]byte, error) {
	certificate, name, err := a.gatewayCertificate(ctx)
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	repo, err := a.absoluteRepo()
	if err != nil {
		return nil, err
	}
	target := a.connection
	if a.wanted != "" {
		target += "/" + a.wanted
	}
	args := []string{"kube-token", target, "--as", a.principal, "--repo", repo, "--gateway", a.gateway.Name + "@" + a.address}
	if o.key != "" {
		key := o.key
		if key != "agent" {
			if key, err = filepath.Abs(key); err != nil {
				return nil, err
			}
		}
		args = append(args, "--key", key)
	}
	server := "https://" + a.address + "/" + a.connection
	if a.wanted != "" {
		server += "+" + a.wanted
	}
	type m = map[string]any
	return json.MarshalIndent(m{ // which is YAML as well
		"apiVersion": "v1", "kind": "Config", "current-context": a.connection,
		"clusters": []m{{"name": a.connection, "cluster": m{"server": server, "certificate-authority-data": certificate, "tls-server-name": name}}},
		"contexts": []m{{"name": a.connection, "context": m{"cluster": a.connection, "user": a.principal}}},
		"users": []m{{"name": a.principal, "user": m{"exec": m{
			"apiVersion": "client.authentication.k8s.io/v1", "command": program, "args": args, "interactiveMode": "IfAvailable",
		}}}},
	}, "", "  ")
}

// gatewayCertificate is what the gateway shows, once it has proved the key that the trust root pins, and the name in it.
func (a *access) gatewayCertificate(ctx context.Context) (pemBytes []byte, name string, err error) {
	config, err := identity.ClientTLS(a.gateway)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", a.address)
	if err != nil {
		return nil, "", fmt.Errorf("gateway %s: %w; --gateway names another address", a.address, err)
	}
	defer conn.Close()
	leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	if len(leaf.DNSNames) == 0 {
		return nil, "", fmt.Errorf("gateway %s: its certificate names no host, which kubectl needs", a.address)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}), leaf.DNSNames[0], nil
}

// absoluteRepo is the access repo as a program finds it that runs elsewhere.
func (a *access) absoluteRepo() (string, error) {
	if info, err := os.Stat(a.repo.location); err == nil && info.IsDir() {
		return filepath.Abs(a.repo.location)
	}
	return a.repo.location, nil
}
