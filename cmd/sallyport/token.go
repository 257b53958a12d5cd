package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/gatewayd/kube/call"
	"github.com/sallyport-dev/sallyport/reviews"
)

// access is what a principal needs to come in: who, where, under which review.
type access struct {
	repo       *accessRepo
	principal  string
	connection string
	wanted     string // review name without the connection; "" when not said
	signer     *reviews.Signer
	gateway    reviews.Gateway
	address    string // host:port
	protocol   string // of the connection, "" when it is not there

	// snapshot and review are what the newest merged commit says; refresh renews them.
	snapshot *snapshot
	review   *reviews.Review // nil when there is none
	problem  error           // why there is none
}

// accessOptions are the flags that token and connect share.
type accessOptions struct{ as, key, gateway string }

func (o *accessOptions) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.as, "as", "", "who comes in, for example agent:etl")
	c.Flags().StringVar(&o.key, "key", "", keyFlagHelp)
	c.Flags().StringVar(&o.gateway, "gateway", "", "gateway: its name, HOST:PORT or NAME@HOST:PORT (default: the access repo's only one)")
}

func newToken(g *globals) *cobra.Command {
	o := &accessOptions{}
	var lifetime time.Duration
	c := &cobra.Command{
		Use:   "token CONNECTION[/REVIEW] --as PRINCIPAL",
		Short: "Print a review token to paste as a password",
		Long: `token prints a review token: who you are, the review you come in under, the digest
of its bytes and the one gateway it is for, signed with your SSH key. It is the
password for a plain PostgreSQL client; the user is the principal, the database is
CONNECTION/REVIEW.

Whoever sees a pasted token can use it at that gateway until it expires, which is at
most 5 minutes. ` + "`sallyport connect`" + ` has no such window: prefer it.`,
		Example: `  sallyport token orders-db --as agent:etl
  PGPASSWORD=$(sallyport token orders-db/etl --as agent:etl --for 1m) \
      psql "host=gateway.example port=6432 user=agent:etl dbname=orders-db/etl sslmode=require"`,
		Args: arguments(1, 1, "CONNECTION"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := need(c, "as"); err != nil {
				return err
			}
			if lifetime < time.Second || lifetime > identity.MaxLifetime {
				return usage("--for %s: a token lives between 1s and %s", lifetime, identity.MaxLifetime)
			}
			a, err := o.open(c.Context(), g, args[0])
			if err != nil {
				return err
			}
			defer a.signer.Close()
			if a.review == nil {
				return a.problem
			}
			token, err := a.mint(time.Now(), lifetime, nil)
			if err != nil {
				return err
			}
			if !g.json {
				fmt.Fprintln(c.OutOrStdout(), token)
				return nil
			}
			return printJSON(c.OutOrStdout(), map[string]any{
				"token": token, "user": a.principal, "database": a.database(), "gateway": a.gateway.Name, "address": a.address,
				"review": a.review.Metadata.Name, "reviewSHA256": a.review.Source.SHA256, "commit": a.snapshot.commit,
				"expires": time.Now().Add(lifetime).UTC().Truncate(time.Second),
			})
		},
	}
	o.flags(c)
	c.Flags().DurationVar(&lifetime, "for", identity.MaxLifetime, "how long it is valid, at most 5m")
	g.jsonFlag(c)
	return c
}

// open finds the review, the key and the gateway.
func (o *accessOptions) open(ctx context.Context, g *globals, target string) (*access, error) {
	a := &access{principal: o.as}
	a.connection, a.wanted, _ = strings.Cut(target, "/")
	if !reviews.IsPrincipal(o.as) {
		return nil, usage("--as %q is not a principal such as agent:etl", o.as)
	}
	if !reviews.IsConnection(a.connection) || a.wanted != "" && !reviews.IsReview(target) || strings.HasSuffix(target, "/") {
		return nil, usage("%q is not CONNECTION or CONNECTION/REVIEW", target)
	}
	var err error
	if a.repo, err = g.open(ctx); err != nil {
		return nil, err
	}
	tree, err := a.refresh(ctx)
	if err != nil {
		return nil, err
	}
	a.protocol = protocolOf(tree, a.connection)
	if a.gateway, a.address, err = findGateway(tree, o.gateway, a.protocol); err != nil {
		return nil, err
	}
	a.signer, err = openKeyOf(a.principal, tree.Keys(a.principal), o.key)
	return a, err
}

// refresh looks again at what is merged. It returns nil when nothing changed.
func (a *access) refresh(ctx context.Context) (*reviews.Tree, error) {
	s, err := a.repo.merged(ctx)
	if err != nil {
		return nil, err
	}
	if a.snapshot != nil && a.snapshot.commit == s.commit {
		return nil, nil
	}
	tree, err := a.repo.granted(ctx, s)
	if err != nil {
		return nil, err
	}
	a.snapshot = s
	a.review, a.problem = a.choose(tree, time.Now())
	return tree, nil
}

// choose finds the one review that lets the principal in.
func (a *access) choose(tree *reviews.Tree, now time.Time) (*reviews.Review, error) {
	var names []string
	for name, r := range tree.Reviews {
		if r.Spec.Connection != a.connection || r.Spec.Subject != a.principal || r.Expired(now) || !r.Started(now) {
			continue
		}
		if a.wanted == "" || name == a.connection+"/"+a.wanted {
			names = append(names, name)
		}
	}
	switch len(names) {
	case 1:
		return tree.Reviews[names[0]], nil
	case 0:
		what := a.connection
		if a.wanted != "" {
			what += "/" + a.wanted
		}
		return nil, hint(fmt.Errorf("no review that is approved, merged and in its time lets %s use %s (%s of %s)", a.principal, what, a.snapshot.ref, a.repo.location),
			"ask for it: sallyport request %s --as %s --repo %s --reason \"why\"\n"+
				"or fetch the access repo, if it has been merged since", a.connection, a.principal, a.repo.location)
	}
	return nil, hint(fmt.Errorf("%s has %d reviews on %s", a.principal, len(names), a.connection), "choose one: %s", joinSorted(names))
}

// mint signs a token. exporter binds it to one TLS connection; nil does not.
func (a *access) mint(now time.Time, lifetime time.Duration, exporter []byte) (string, error) {
	key, err := reviews.Key{Key: a.gateway.Key}.PublicKey()
	if err != nil {
		return "", fmt.Errorf("gateway %s of the trust root: %w", a.gateway.Name, err)
	}
	claims := identity.Claims{
		Principal: a.principal, Connection: a.connection, Gateway: ssh.FingerprintSHA256(key),
		Issued: now, Expires: now.Add(lifetime), Exporter: exporter,
	}
	if a.review != nil {
		claims.Review, claims.ReviewSHA256 = a.review.Metadata.Name, a.review.Source.SHA256
	}
	return identity.Mint(a.signer, claims)
}

// bind mints a token for one TLS connection.
func (a *access) bind(state tls.ConnectionState) (string, error) {
	exporter, err := identity.Exporter(state)
	if err != nil {
		return "", err
	}
	return a.mint(time.Now(), identity.BoundLifetime, exporter)
}

// database is what a client asks for: the connection and, when it is known, the review.
func (a *access) database() string {
	if a.review != nil {
		return a.review.Metadata.Name
	}
	if a.wanted != "" {
		return a.connection + "/" + a.wanted
	}
	return a.connection
}

// findGateway is the gateway of the trust root and where it listens.
func findGateway(tree *reviews.Tree, wanted, protocol string) (reviews.Gateway, string, error) {
	name, address := wanted, ""
	if at := strings.Index(wanted, "@"); at >= 0 {
		name, address = wanted[:at], wanted[at+1:]
	} else if _, _, err := net.SplitHostPort(wanted); err == nil {
		name, address = nameAt(tree, wanted), wanted
	}
	var names []string
	for _, g := range tree.Root.Spec.Gateways {
		names = append(names, g.Name)
		if name != g.Name && !(name == "" && len(tree.Root.Spec.Gateways) == 1) {
			continue
		}
		if address == "" {
			address = addressOf(tree, g.Name, protocol)
		}
		if _, _, err := net.SplitHostPort(address); err != nil {
			return reviews.Gateway{}, "", hint(fmt.Errorf("%s does not say where gateway %s listens", reviews.ConfigPath, g.Name), "say it: --gateway %s@HOST:PORT", g.Name)
		}
		return g, address, nil
	}
	if len(names) == 0 {
		return reviews.Gateway{}, "", errors.New("the trust root names no gateway: nobody could be trusted to be one")
	}
	return reviews.Gateway{}, "", hint(fmt.Errorf("which gateway? %q is none of the trust root", wanted), "choose one with --gateway NAME or NAME@HOST:PORT: %s", joinSorted(names))
}

func nameAt(tree *reviews.Tree, address string) string {
	for _, g := range tree.Config.Spec.Gateways {
		if address != "" && (g.Postgres == address || g.SSH == address || g.Kubernetes == address) {
			return g.Name
		}
	}
	return ""
}

func addressOf(tree *reviews.Tree, name, protocol string) string {
	for _, g := range tree.Config.Spec.Gateways {
		if g.Name == name && protocol == "ssh" {
			return g.SSH
		}
		if g.Name == name && protocol == call.Protocol {
			return g.Kubernetes
		}
		if g.Name == name {
			return g.Postgres
		}
	}
	return ""
}
