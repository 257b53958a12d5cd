package main

import (
	"github.com/spf13/cobra"
)

// globals are the flags that every verb has.
type globals struct {
	repo string
	json bool
	// forge opens the forge of an access repo. nil: nothing is wired.
	forge forgeOf
}

func newRoot() *cobra.Command { return newRootWith(&globals{forge: configuredForge}) }

// newRootWith is the whole command line, with what the globals inject.
func newRootWith(g *globals) *cobra.Command {
	root := &cobra.Command{
		Use:   "sallyport",
		Short: "Access that was reviewed in git, enforced at the gateway, provable afterwards",
		Long: `sallyport works with an access repo: a git repository in which people request,
review and sign who may do what on which connection.

  requester   sallyport request orders-db --as agent:etl --reason "nightly export"
  reviewer    sallyport review --as user:bob; sallyport review request/orders-db/etl --as user:bob --approve
  agent       sallyport connect orders-db --as agent:etl -- psql
  auditor     sallyport sessions; sallyport replay ID; sallyport verify`,
		Example: `  sallyport init access --lab
  sallyport help exit-codes`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%v", err) })
	root.PersistentFlags().StringVar(&g.repo, "repo", "",
		"access repo: a work tree, a bare repository or a URL (default: the git work tree of the current directory)")
	root.AddGroup(
		&cobra.Group{ID: "review", Title: "Requesting and reviewing:"},
		&cobra.Group{ID: "release", Title: "Releasing:"},
		&cobra.Group{ID: "connect", Title: "Connecting:"},
		&cobra.Group{ID: "audit", Title: "Auditing:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("review", newInit(g), newRequest(g), newReview(g), newSign(g), newRevert(g), newDue(g), newCheck(g), newTest(g), newExplain(g), newCatalog(g), newSchema(), newHook(g), newImport(g), newHarden(g), newDiscover(g))
	add("release", newSync(g), newStatus(g), newAcceptRewind(g), newExtend(g))
	add("connect", newToken(g), newConnect(g), newKubeToken(g))
	add("audit", newSessions(g), newReplay(g), newVerify(g))
	root.AddCommand(newDoctor(g), newVersion(g), exitCodesTopic())
	completions(g, root)
	return root
}

// jsonFlag gives a verb that prints something the flag to print it for programs.
func (g *globals) jsonFlag(c *cobra.Command) {
	c.Flags().BoolVar(&g.json, "json", false, "print JSON")
}
