package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
	"github.com/sallyport-dev/sallyport/reviews"
)

// readable are the kinds of relations (pg_class.relkind) that a select can read.
var readable = []string{"r", "v", "m", "f", "p"}

func newCatalog(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "catalog",
		Short: "Keep the catalog of a connection: what its names mean",
		Long: `The catalog of a connection is its schema: relations, columns and types, no data. It
lies beside the connection document, and check, test, explain and request read it.
Gateways do not: they read the live one. Where an approval rule is for catalogs
(match: {kinds: [Catalog]}), one counts once it is signed or approved.`,
		Example: `  sallyport catalog pull orders-db`,
	}
	c.AddCommand(newCatalogPull(g))
	return c
}

func newCatalogPull(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "pull CONNECTION",
		Short: "Read the schema of a connection's database into connections/CONNECTION.catalog.json",
		Long: `pull logs in to the database of a connection and writes its schema beside the
connection document. It reads no data and commits nothing.

The credential is the one that the connection document names, taken from this
machine: set the variable, or have the file, that gatewayd has. Only a document that
is approved and merged is used, since it says to whom a password is sent.`,
		Example: `  ORDERS_DB_PASSWORD=… sallyport catalog pull orders-db
  git diff connections/orders-db.catalog.json`,
		Args: arguments(1, 1, "CONNECTION"),
		RunE: func(c *cobra.Command, args []string) error {
			return pullCatalog(c.Context(), g, args[0], c.OutOrStdout())
		},
	}
	g.jsonFlag(c)
	return c
}

// pulled is what catalog pull prints.
type pulled struct {
	Path        string `json:"path"`
	Relations   int    `json:"relations"`
	Fingerprint string `json:"fingerprint"`
	Changed     bool   `json:"changed"`
}

func pullCatalog(ctx context.Context, g *globals, name string, out io.Writer) error {
	repo, err := g.workTree(ctx)
	if err != nil {
		return err
	}
	tree, snapshot, err := repo.mergedTree(ctx)
	if err != nil {
		return err
	}
	connection := tree.Connections[name]
	if connection == nil {
		return hint(fmt.Errorf("no connection %s is approved and merged (%s)", name, snapshot.ref), "%s", knownConnections(tree))
	}
	if p := connection.Spec.Protocol; p != "postgres" {
		return usage("connection %s speaks %s, which has no catalog", name, p)
	}
	secret, err := credential.Resolve(ctx, connection.Spec.Credential)
	if err != nil {
		return err
	}
	b, err := postgres.PullCatalog(ctx, connection, secret)
	if err != nil {
		return err
	}
	catalog, err := sqlguard.ParseCatalog(b)
	if err != nil {
		return err
	}
	b = reviews.BindCatalog(tree.Repo, name, b)
	p := pulled{Path: reviews.CatalogPath(name), Relations: len(catalog.Relations), Fingerprint: catalog.Fingerprint()}
	if p.Changed, err = replaceFile(filepath.Join(repo.git.dir, filepath.FromSlash(p.Path)), b); err != nil {
		return err
	}
	if g.json {
		return printJSON(out, p)
	}
	if !p.Changed {
		fmt.Fprintf(out, "%s is up to date: %s\n", p.Path, count(p.Relations, "relation"))
		return nil
	}
	fmt.Fprintf(out, "wrote %s: %s\nnext: look at it with git diff, then `sallyport check` and commit it\n", p.Path, count(p.Relations, "relation"))
	if connection.CatalogSource.Path != "" {
		fmt.Fprintf(out, "an approval rule is for it: sallyport sign %s --as user:YOU, or approve its pull request\n", p.Path)
	}
	return nil
}

// replaceFile writes a file whole or not at all, and says whether it changed.
func replaceFile(path string, b []byte) (changed bool, err error) {
	before, err := os.ReadFile(path)
	if err == nil && bytes.Equal(before, b) {
		return false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".catalog-*")
	if err != nil {
		return false, err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return false, err
	}
	return true, os.Rename(tmp.Name(), path)
}

// relationsOf are the relations that select can read, "schema.table", sorted.
func relationsOf(target *reviews.Connection) ([]string, error) {
	name := target.Metadata.Name
	if err := unapproved(target); err != nil {
		return nil, err
	}
	if target.Catalog == nil {
		return nil, hint(fmt.Errorf("connection %s has no catalog to choose relations from", name),
			"say what you need with --allow select:app.orders, or write the catalog: sallyport catalog pull %s", name)
	}
	catalog, err := sqlguard.ParseCatalog(target.Catalog)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", reviews.CatalogPath(name), err)
	}
	var names []string
	for _, r := range catalog.Relations {
		if slices.Contains(readable, r.Kind) {
			names = append(names, r.Schema+"."+r.Name)
		}
	}
	if len(names) == 0 {
		return nil, hint(fmt.Errorf("%s lists no relation", reviews.CatalogPath(name)), "say what you need with --allow select:app.orders")
	}
	slices.Sort(names)
	return names, nil
}
