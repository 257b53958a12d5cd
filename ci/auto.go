package ci

import (
	"context"
	"io/fs"
	"strings"

	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// AutoApproval asks the auto_approve rules among the policies of a tree about reviews, as sync does; it is made for
// reviews.LoadOptions. A review whose connection is not the one of that tree gets no answer: the rule was not true of it before. Policies are read when it is first asked. Those that do not compile approve nothing, and neither does a
// rule that fails: whoever loads the tree says what is wrong with them.
func AutoApproval(ctx context.Context, tree fs.FS) func(*reviews.Review, *reviews.Connection) string {
	var policy *policies.Policy
	read := false
	return func(r *reviews.Review, c *reviews.Connection) string {
		if !read {
			policy, read = rawPolicies(ctx, tree), true
		}
		if policy == nil || c == nil {
			return ""
		}
		if before, err := reviews.ReadSource(tree, c.Source.Path); err != nil || before.SHA256 != c.Source.SHA256 {
			return ""
		}
		messages, err := policy.AutoApprove(ctx, policies.NewDocument(r.JSON()), policies.NewDocument(c.JSON()))
		if err != nil {
			return ""
		}
		return strings.Join(messages, "; ")
	}
}

// rawPolicies compiles the policies of a tree, nil when they cannot be.
func rawPolicies(ctx context.Context, tree fs.FS) *policies.Policy {
	entries, err := fs.ReadDir(tree, "policies")
	if err != nil {
		return nil
	}
	sources := make(map[string][]byte)
	for _, e := range entries {
		name := "policies/" + e.Name()
		if reviews.KindOf(name) != reviews.KindPolicy {
			continue
		}
		source, err := reviews.ReadSource(tree, name)
		if err != nil {
			return nil
		}
		sources[name] = source.Bytes
	}
	policy, err := policies.Compile(ctx, sources)
	if err != nil {
		return nil
	}
	return policy.WithTimeout(patience)
}
