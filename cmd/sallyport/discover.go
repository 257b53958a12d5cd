package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres"
	"github.com/sallyport-dev/sallyport/reviews"
)

func newDiscover(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "discover CONNECTION",
		Short: "Propose masks for a connection's columns, as a diff",
		Long: `discover logs in to the database of a connection, looks at the names and types of its
columns and at a bounded sample of their values, and prints a diff that adds masks to
the connection document, with the reason of each. Columns that are masked are left alone.

It runs in read-only transactions with a timeout for each statement. Sampled values are
forgotten at once: none is printed or written anywhere. It finds what looks like personal
or secret data, so look at what it did not find, too.

The credential is the one that the connection document names, taken from this machine,
and only a document that is approved and merged is used, as for catalog pull.`,
		Example: `  ORDERS_DB_PASSWORD=… sallyport discover orders-db > masks.diff
  git apply masks.diff && git diff`,
		Args: arguments(1, 1, "CONNECTION"),
		RunE: func(c *cobra.Command, args []string) error {
			return discover(c.Context(), g, args[0], c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	g.jsonFlag(c)
	return c
}

func discover(ctx context.Context, g *globals, name string, out, notes io.Writer) error {
	connection, _, err := mergedConnection(ctx, g, name)
	if err != nil {
		return err
	}
	repo, err := g.workTree(ctx)
	if err != nil {
		return err
	}
	secret, err := credential.Resolve(ctx, connection.Spec.Credential)
	if err != nil {
		return err
	}
	found, err := postgres.Discover(ctx, connection, secret)
	if err != nil {
		return err
	}
	if g.json {
		return printJSON(out, found)
	}
	path := reviews.PathOf(reviews.KindConnection, name)
	before, err := os.ReadFile(filepath.Join(repo.git.dir, filepath.FromSlash(path)))
	if err != nil {
		return err
	}
	if err := writeProposals(out, path, before, found.Proposals); err != nil {
		return err
	}
	for _, u := range found.Unsampled {
		fmt.Fprintf(notes, "not sampled, so judged by names alone: %s\n", clean(u))
	}
	for _, u := range found.Unsaid {
		fmt.Fprintf(notes, "no document can name this column; rename it, or keep reviews from its table: %s\n", clean(u))
	}
	fmt.Fprintf(notes, "%s of %s in %s would be masked anew\n", count(len(found.Proposals), "column"), count(found.Columns, "unmasked column"), count(found.Tables, "table"))
	if len(found.Proposals) > 0 {
		fmt.Fprintf(notes, "next: git apply the diff, take out what is wrong, then `sallyport check`\n")
	}
	return nil
}

var (
	maskKey  = regexp.MustCompile(`^( +)mask: *(#.*)?$`)
	maskItem = regexp.MustCompile(`^( *)- `)
	inSpec   = regexp.MustCompile(`^( +)protocol:`)
)

// writeProposals prints the unified diff that adds masks to a connection document.
func writeProposals(out io.Writer, path string, document []byte, proposals []postgres.Proposal) error {
	if len(proposals) == 0 {
		return nil
	}
	lines := strings.Split(strings.TrimSuffix(string(document), "\n"), "\n")
	at, indent, block := -1, "  ", []string(nil)
	for i, l := range lines {
		if m := maskKey.FindStringSubmatch(l); m != nil {
			at, indent, block = i+1, m[1]+"  ", nil
			if i+1 < len(lines) {
				if item := maskItem.FindStringSubmatch(lines[i+1]); item != nil {
					indent = item[1]
				}
			}
			break
		}
		if m := inSpec.FindStringSubmatch(l); m != nil && at < 0 {
			at, indent, block = i+1, m[1]+"  ", []string{m[1] + "mask:"}
		}
		if regexp.MustCompile(`^ +mask:`).MatchString(l) {
			at = -1
			break
		}
	}
	for _, p := range proposals {
		with := p.With
		if with == "null" {
			with = `"null"`
		}
		block = append(block, fmt.Sprintf("%s- {column: %s, with: %s} # %s", indent, p.Column, with, clean(p.Reason)))
	}
	if at < 0 {
		return hint(fmt.Errorf("%s: the place of its masks cannot be found", path), "write them one below the other:\n%s", strings.Join(block, "\n"))
	}
	after := append(append(append([]string{}, lines[:at]...), block...), lines[at:]...)
	if _, err := reviews.ParseConnection(path, []byte(strings.Join(after, "\n")+"\n")); err != nil {
		return fmt.Errorf("the proposal makes no valid document: %w", err)
	}
	from, to := max(0, at-3), min(len(lines), at+3)
	fmt.Fprintf(out, "--- a/%s\n+++ b/%s\n@@ -%d,%d +%d,%d @@\n", path, path, from+1, to-from, from+1, to-from+len(block))
	for _, part := range []struct {
		sign  string
		lines []string
	}{{" ", lines[from:at]}, {"+", block}, {" ", lines[at:to]}} {
		for _, l := range part.lines {
			fmt.Fprintln(out, part.sign+l)
		}
	}
	return nil
}
