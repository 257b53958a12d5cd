package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/reviews"
)

func newSchema() *cobra.Command {
	var kinds []string
	for _, k := range ci.SchemaKinds {
		kinds = append(kinds, string(k))
	}
	return &cobra.Command{
		Use:   "schema KIND",
		Short: "Print the JSON Schema of a kind of document, for editors",
		Long: `schema prints the JSON Schema (draft 7) of ` + strings.Join(kinds, ", ") + `.

It lets an editor complete and mark while you write. It judges nothing: what it
accepts can still be refused by ` + "`sallyport check`" + `, which knows names, signatures and
sequences. In an access repo made by init the schemas lie in .sallyport/schemas, and
each document names its own in the first line; after an update of sallyport write
them anew with this command.`,
		Example: `  sallyport schema AccessReview > .sallyport/schemas/AccessReview.json`,
		Args:    arguments(1, 1, "kind, such as AccessReview"),
		RunE: func(c *cobra.Command, args []string) error {
			b := ci.Schema(reviews.Kind(args[0]))
			if b == nil {
				return usage("kind %q has no schema: write one of %s", args[0], strings.Join(kinds, ", "))
			}
			_, err := c.OutOrStdout().Write(b)
			return err
		},
	}
}
