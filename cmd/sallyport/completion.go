package main

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/reviews"
)

// completions gives the shell what the access repo knows: connections, reviews,
// principals, branches, verbs and tables. It reads what is there and fetches nothing.
func completions(g *globals, root *cobra.Command) {
	first := map[string]func(*reviews.Tree, *accessRepo, *cobra.Command) []string{
		"request": func(t *reviews.Tree, _ *accessRepo, c *cobra.Command) []string {
			if renew, _ := c.Flags().GetBool("renew"); renew {
				return sortedKeys(t.Reviews)
			}
			return sortedKeys(t.Connections)
		},
		"connect": connectionsAndReviews,
		"token":   connectionsAndReviews,
		"revert":  func(t *reviews.Tree, _ *accessRepo, _ *cobra.Command) []string { return sortedKeys(t.Reviews) },
		"review":  branchNames,
		"pull":    func(t *reviews.Tree, _ *accessRepo, _ *cobra.Command) []string { return sortedKeys(t.Connections) },
		"doctor":  func(t *reviews.Tree, _ *accessRepo, _ *cobra.Command) []string { return sortedKeys(t.Connections) },
	}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if words := first[c.Name()]; words != nil && c.ValidArgsFunction == nil {
			c.ValidArgsFunction = func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
				if len(args) > 0 {
					return nil, cobra.ShellCompDirectiveDefault
				}
				return g.complete(c, typed, words)
			}
		}
		for flag, words := range map[string]func(*reviews.Tree, *accessRepo, *cobra.Command) []string{
			"as":        func(t *reviews.Tree, _ *accessRepo, _ *cobra.Command) []string { return t.PrincipalNames() },
			"requester": func(t *reviews.Tree, _ *accessRepo, _ *cobra.Command) []string { return t.PrincipalNames() },
			"on":        connectionsAndReviews,
		} {
			if c.Flags().Lookup(flag) != nil && c.Name() != "init" {
				_ = c.RegisterFlagCompletionFunc(flag, func(c *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
					return g.complete(c, typed, words)
				})
			}
		}
		if c.Flags().Lookup("allow") != nil {
			_ = c.RegisterFlagCompletionFunc("allow", g.completeAllow)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

func connectionsAndReviews(t *reviews.Tree, _ *accessRepo, _ *cobra.Command) []string {
	return append(sortedKeys(t.Connections), sortedKeys(t.Reviews)...)
}

func branchNames(_ *reviews.Tree, repo *accessRepo, c *cobra.Command) []string {
	s, err := openProposals(c.Context(), repo, time.Now())
	if err != nil {
		return nil
	}
	branches, err := s.branches(c.Context())
	if err != nil {
		return nil
	}
	var names []string
	for _, b := range branches {
		names = append(names, b.name)
	}
	return names
}

// complete are those words that begin with what was typed.
func (g *globals) complete(c *cobra.Command, typed string, words func(*reviews.Tree, *accessRepo, *cobra.Command) []string) ([]string, cobra.ShellCompDirective) {
	tree, repo := g.knownTree(c)
	if tree == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	found := slices.DeleteFunc(words(tree, repo, c), func(w string) bool { return !strings.HasPrefix(w, typed) })
	return found, cobra.ShellCompDirectiveNoFileComp
}

// completeAllow completes the last word of VERBS:RELATIONS.
func (g *globals) completeAllow(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	const directive = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	start := strings.LastIndexAny(typed, ",:") + 1
	words := reviews.PostgresVerbs
	tree, _ := g.knownTree(c)
	if tree != nil && len(args) > 0 && tree.Connections[args[0]] != nil && tree.Connections[args[0]].Spec.Protocol == "ssh" {
		start = 0
		words = []string{"exec:", "text:", "shell", "forward:"}
		for _, operation := range reviews.SFTPOperations {
			words = append(words, "sftp:"+operation+":/")
		}
	} else if strings.Contains(typed, ":") {
		if tree == nil || len(args) == 0 || tree.Connections[args[0]] == nil {
			return nil, directive
		}
		words, _ = relationsOf(tree.Connections[args[0]])
	}
	var found []string
	for _, w := range words {
		if strings.HasPrefix(w, typed[start:]) {
			found = append(found, typed[:start]+w)
		}
	}
	return found, directive
}

// knownTree is the access repo at the present commit; nil when there is none.
func (g *globals) knownTree(c *cobra.Command) (*reviews.Tree, *accessRepo) {
	repo, err := g.workTree(c.Context())
	if err != nil {
		return nil, nil
	}
	head, err := repo.at(c.Context(), "HEAD")
	if err != nil {
		return nil, nil
	}
	tree, err := treeAt(head)
	if err != nil {
		return nil, nil
	}
	return tree, repo
}
