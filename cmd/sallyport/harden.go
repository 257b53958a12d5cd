package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/gatewayd/postgres"
	"github.com/sallyport-dev/sallyport/reviews"
)

func newHarden(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "harden CONNECTION",
		Short: "Print the SQL of a least-privilege role for the gateway",
		Long: `harden prints SQL that makes the role of a connection, or cuts it down to what the
merged reviews of today need: the privileges on tables and columns that the gateway
itself uses, no column that is masked without being read, no way to run SQL in a
string, settings that bound statements. It is a second wall behind the gateway's own.

It reads the access repo alone: the connection, its catalog and its reviews. Nothing is
changed; look at what it prints and run it in the database as a superuser or its owner.
It may be run again, and has to be when reviews, masks or the schema change. When the
role could do more by another way, the SQL says so and changes nothing.`,
		Example: `  sallyport harden orders-db > role.sql
  psql -d shop -f role.sql`,
		Args: arguments(1, 1, "CONNECTION"),
		RunE: func(c *cobra.Command, args []string) error {
			return harden(c.Context(), g, args[0], c.OutOrStdout())
		},
	}
}

func harden(ctx context.Context, g *globals, name string, out io.Writer) error {
	connection, tree, err := mergedConnection(ctx, g, name)
	if err != nil {
		return err
	}
	var given []*reviews.Review
	for _, r := range tree.Reviews {
		if r.Spec.Connection == name && !r.Expired(time.Now()) {
			given = append(given, r)
		}
	}
	sql, err := postgres.Harden(connection, given)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, sql)
	return err
}

// notADatabase is the answer of commands that know databases only.
func notADatabase(c *reviews.Connection) error {
	return usage("connection %s speaks %s: this command looks at the tables of a PostgreSQL database, and there are none; masks of output are written by hand", c.Metadata.Name, c.Spec.Protocol)
}

// mergedConnection is a connection as it is merged, with its catalog.
func mergedConnection(ctx context.Context, g *globals, name string) (*reviews.Connection, *reviews.Tree, error) {
	repo, err := g.workTree(ctx)
	if err != nil {
		return nil, nil, err
	}
	tree, snapshot, err := repo.mergedTree(ctx)
	if err != nil {
		return nil, nil, err
	}
	connection := tree.Connections[name]
	switch {
	case connection == nil:
		return nil, nil, hint(fmt.Errorf("no connection %s is approved and merged (%s)", name, snapshot.ref), "%s", knownConnections(tree))
	case connection.Spec.Protocol != "postgres":
		return nil, nil, notADatabase(connection)
	case connection.Catalog == nil:
		return nil, nil, hint(fmt.Errorf("connection %s has no catalog", name), "write it: sallyport catalog pull %s", name)
	}
	return connection, tree, nil
}
