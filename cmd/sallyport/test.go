package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/ci"
)

func newTest(g *globals) *cobra.Command {
	var ref string
	var f formatFlag
	c := &cobra.Command{
		Use:   "test",
		Short: "Run the examples of every review and the tests of the policies",
		Long: `test puts each example of each review through the guard and the policies that a
gateway uses, with the committed catalog in place of the live database, and compares
the outcome with what the review says: allow, mask, hold or deny. Then it runs the
tests in policies/*_test.rego.

By default it reads the files of the work tree, committed or not, approved or not.`,
		Example: `  sallyport test
  sallyport test --ref origin/main --json
  sallyport test --format junit > examples.xml`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(g); err != nil {
				return err
			}
			files, done, err := g.documents(c.Context(), ref)
			if err != nil {
				return err
			}
			defer done()
			r, err := ci.Test(c.Context(), files, ci.Options{Now: time.Now(), Classifiers: classifiers()})
			if err != nil {
				return hint(err, "`sallyport check` shows every problem")
			}
			return f.write(c, r, ci.TestText)
		},
	}
	c.Flags().StringVar(&ref, "ref", "", "commit to test (default: the files of the work tree)")
	f.add(c)
	g.jsonFlag(c)
	return c
}
