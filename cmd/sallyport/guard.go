package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/gatewayd/kube/call"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
	"github.com/sallyport-dev/sallyport/gatewayd/sshd/cmdline"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// newGuard is the guard that a gateway would use for a session on the connection
// under the review, with the committed catalog instead of the live one.
func newGuard(connection *reviews.Connection, review *reviews.Review) (*sqlguard.Guard, error) {
	name := connection.Metadata.Name
	if err := unapproved(connection); err != nil {
		return nil, err
	}
	if connection.Catalog == nil {
		return nil, hint(fmt.Errorf("connection %s has no catalog, so no statement can be understood", name), "write it: sallyport catalog pull %s", name)
	}
	catalog, err := sqlguard.ParseCatalog(connection.Catalog)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", reviews.CatalogPath(name), err)
	}
	guard, err := sqlguard.New(catalog, guardOptions(connection, review))
	if err != nil {
		return nil, fmt.Errorf("connection %s: %w", name, err)
	}
	return guard, nil
}

// guardOptions are those of a session under the review, or of the connection alone.
func guardOptions(connection *reviews.Connection, review *reviews.Review) sqlguard.Options {
	list := connection.Spec.Mask
	if review != nil {
		list = review.Masks(connection)
	}
	return postgres.GuardOptions(connection, list)
}

// scopeOf is the scope of a session that has just begun: the server's default
// search path for the role that the gateway logs in as.
func scopeOf(connection *reviews.Connection) sqlguard.Scope {
	return sqlguard.Scope{SearchPath: []string{connection.Spec.Target.User, "public"}}
}

// policyOf compiles the built-in rules with the owner's.
func policyOf(ctx context.Context, tree *reviews.Tree) (*policies.Policy, error) {
	policy, err := policies.Compile(ctx, sourcesOf(tree))
	if err != nil {
		return nil, fmt.Errorf("the policies do not compile:\n%w", err)
	}
	return policy.WithTimeout(patience), nil
}

// patience is how long one decision may take here, where no session waits for it.
const patience = 10 * time.Second

func sourcesOf(tree *reviews.Tree) map[string][]byte {
	sources := make(map[string][]byte, len(tree.Policies))
	for path, file := range tree.Policies {
		sources[path] = file.Source.Bytes
	}
	return sources
}

// decide asks the policies about a statement that the guard understood.
func decide(ctx context.Context, policy *policies.Policy, connection *reviews.Connection, review *reviews.Review, command policies.Command, now time.Time) (policies.Decision, error) {
	return policy.Decide(ctx, policies.Input{
		Now:        now,
		Principal:  review.Spec.Subject,
		Connection: policies.NewDocument(connection.JSON()),
		Review:     policies.NewDocument(review.JSON()),
		Command:    command,
	})
}

// unapproved says that a connection has a catalog, which an approval rule is for
// and which therefore does not count.
func unapproved(connection *reviews.Connection) error {
	if connection.Catalog != nil || connection.CatalogSource.Path == "" {
		return nil
	}
	return hint(fmt.Errorf("the catalog of connection %s is not approved", connection.Metadata.Name), "sallyport check --require-approved says what it lacks")
}

// classifiers are what ci knows of each protocol. They remember catalogs and
// guards, since many reviews share them.
func classifiers() map[string]ci.Classifier {
	catalogs := make(map[string]*sqlguard.Catalog)
	catalogOf := func(connection *reviews.Connection) (*sqlguard.Catalog, error) {
		id := sha256Hex(connection.Catalog)
		if catalogs[id] == nil {
			catalog, err := sqlguard.ParseCatalog(connection.Catalog)
			if err != nil {
				return nil, err
			}
			catalogs[id] = catalog
		}
		return catalogs[id], nil
	}
	guards := make(map[string]ci.Guard)
	return map[string]ci.Classifier{"ssh": sshClassifier, call.Protocol: kubeClassifier, "postgres": {
		Guard: func(connection *reviews.Connection, review *reviews.Review) (ci.Guard, error) {
			id := fmt.Sprint(connection.Source.SHA256, sha256Hex(connection.Catalog), review.Spec.Mask, review.Spec.Unmask)
			if guards[id] == nil {
				guard, err := newGuard(connection, review)
				if err != nil {
					return nil, err
				}
				guards[id] = func(command string) (policies.Command, bool) {
					st := guard.Understand(command, scopeOf(connection))
					return st.Command, st.Masked
				}
			}
			return guards[id], nil
		},
		Masks: func(connection *reviews.Connection, review *reviews.Review) reviews.Problems {
			catalog, err := catalogOf(connection)
			if err != nil {
				at := reviews.Position{File: reviews.CatalogPath(connection.Metadata.Name)}
				return reviews.Problems{{Position: at, Message: err.Error(), Fix: "sallyport catalog pull " + connection.Metadata.Name}}
			}
			return maskProblems(catalog, connection, review)
		},
	}}
}

// sshClassifier reads commands as the gateway's ssh engine does. Masks of such a
// connection need no catalog.
var sshClassifier = ci.Classifier{
	Guard: func(connection *reviews.Connection, review *reviews.Review) (ci.Guard, error) {
		masked := len(review.Masks(connection)) > 0
		return func(command string) (policies.Command, bool) {
			c := cmdline.Understand(command)
			return c, masked && slices.ContainsFunc(c.Effects, func(e policies.Effect) bool { return e.Verb == "exec" || e.Verb == "shell" })
		}, nil
	},
}

// kubeClassifier reads lines as the gateway's Kubernetes engine reads the requests they stand for.
var kubeClassifier = ci.Classifier{
	Guard: func(connection *reviews.Connection, review *reviews.Review) (ci.Guard, error) {
		return func(command string) (policies.Command, bool) { return understandCall(connection, review, command) }, nil
	},
}

// understandCall also says whether something of the answer is masked.
func understandCall(connection *reviews.Connection, review *reviews.Review, text string) (policies.Command, bool) {
	c := call.Understand(text)
	masked := c.Resource == "secrets" || slices.ContainsFunc(review.Masks(connection), func(m reviews.Mask) bool {
		return m.Resource == "" || m.Resource == c.Resource && c.Kind != call.Log && c.Kind != call.Exec
	})
	return c.Command(), masked && c.Kind != call.Discovery && c.Kind != call.PortForward
}

// maskProblems are the masks that a catalog cannot carry: those that the review
// adds, or the connection's own.
func maskProblems(catalog *sqlguard.Catalog, connection *reviews.Connection, review *reviews.Review) reviews.Problems {
	source, masks := connection.Source, connection.Spec.Mask
	if review != nil {
		source, masks = review.Source, review.Spec.Mask
	}
	lines := make(map[string]int, len(masks)) // by column
	for i, m := range masks {
		lines[m.Column] = source.Lines[fmt.Sprintf("mask[%d]", i)]
	}
	var problems reviews.Problems
	for _, p := range sqlguard.CheckMasks(catalog, guardOptions(connection, review)) {
		if line, own := lines[p.Column]; own {
			at := reviews.Position{File: source.Path, Line: line}
			problems = append(problems, reviews.Problem{Position: at, Message: p.Error(), Fix: "name a column of the catalog that this mask fits, or pull the catalog anew"})
		}
	}
	if review != nil {
		problems = append(problems, hashedAndWritten(connection, review)...)
	}
	return problems
}

// hashedAndWritten are the rules of a review that let columns be written whose
// hashes it shows: the gateway refuses such writes, since guesses could be compared.
func hashedAndWritten(connection *reviews.Connection, review *reviews.Review) (problems reviews.Problems) {
	for _, m := range review.Masks(connection) {
		if m.With != "hash" {
			continue
		}
		at := strings.LastIndex(m.Column, ".")
		relation, column := m.Column[:at], m.Column[at+1:]
		for _, list := range []struct {
			field string
			rules []reviews.Rule
		}{{"allow", review.Spec.Allow}, {"hold", review.Spec.Hold}} {
			for i, r := range list.rules {
				writes := slices.Contains(r.Verbs, "insert") || slices.Contains(r.Verbs, "update")
				on := slices.ContainsFunc(r.On, func(on string) bool { return names(on, relation) })
				if writes && on && (len(r.Columns) == 0 || slices.Contains(r.Columns, column)) {
					problems = append(problems, reviews.Problem{
						Position: reviews.Position{File: review.Source.Path, Line: review.Source.Lines[fmt.Sprintf("%s[%d]", list.field, i)]},
						Message:  fmt.Sprintf("mask %s: %s may write this column, which is masked with hash: hashes of guesses could be compared with those of others", m.Column, review.Spec.Subject),
						Fix:      "list the other columns with columns: in this rule, or mask the column with redact",
					})
				}
			}
		}
	}
	return problems
}
