package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

func newCheck(g *globals) *cobra.Command {
	var requireApproved bool
	var ref string
	c := &cobra.Command{
		Use:   "check",
		Short: "Check every document: form, meaning, signatures, masks and policies",
		Long: `check reads the whole access repo the way a gateway will and reports everything that
is wrong, each with file, line, column and what to do. By default it reads the files
of the work tree, committed or not.

On a pull request approvals may still be missing: they are listed, and are no
problem. With --require-approved they are, as on the branch of merged reviews.`,
		Example: `  sallyport check
  sallyport check --require-approved --ref origin/main
  sallyport check --json`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			files, err := g.documents(c.Context(), ref)
			if err != nil {
				return err
			}
			r := check(c.Context(), files, requireApproved, time.Now())
			if g.json {
				err = printJSON(c.OutOrStdout(), r)
			} else {
				r.print(c.OutOrStdout(), c.ErrOrStderr())
			}
			if err == nil && len(r.Problems) > 0 {
				return errQuiet
			}
			return err
		},
	}
	c.Flags().BoolVar(&requireApproved, "require-approved", false, "a missing approval is a problem")
	c.Flags().StringVar(&ref, "ref", "", "commit to check (default: the files of the work tree)")
	g.jsonFlag(c)
	return c
}

// documents are the files of the work tree, or of a commit. A folder that holds
// an access repo is read as it is, also inside another repository.
func (g *globals) documents(ctx context.Context, ref string) (fs.FS, error) {
	dir := g.repo
	if dir == "" {
		dir = "."
	}
	if info, err := os.Stat(filepath.Join(dir, reviews.ConfigPath)); ref == "" && err == nil && info.Mode().IsRegular() {
		return os.DirFS(dir), nil
	}
	repo, err := g.open(ctx)
	if err != nil {
		return nil, err
	}
	if ref == "" && repo.mirror == nil {
		return os.DirFS(repo.git.dir), nil
	}
	s, err := repo.at(ctx, ref)
	if err != nil {
		return nil, err
	}
	return s.files, nil
}

// checkReport is what check prints.
type checkReport struct {
	OK       bool              `json:"ok"`
	Checked  int               `json:"checked"` // documents that could be used, trust root and settings included
	Problems reviews.Problems  `json:"problems"`
	Notes    reviews.Problems  `json:"notes"`   // what does not count but closes nothing
	Pending  []reviews.Pending `json:"pending"` // what still lacks approvals
}

// check loads the documents and looks at what only guard and policies can judge.
func check(ctx context.Context, files fs.FS, requireApproved bool, now time.Time) *checkReport {
	options := reviews.LoadOptions{Now: now, Approvals: reviews.ReportApprovals}
	if requireApproved {
		options.Approvals = reviews.RequireApprovals
	}
	tree, err := reviews.Load(files, options)
	if tree == nil {
		return &checkReport{Problems: asProblems(err)}
	}
	r := &checkReport{
		Problems: tree.Problems, Notes: tree.Notes, Pending: tree.Pending,
		Checked: 2 + len(tree.Principals) + len(tree.Connections) + len(tree.Reviews) + len(tree.Policies),
	}
	if _, err := policies.Compile(ctx, sourcesOf(tree)); err != nil {
		r.Problems = append(r.Problems, asProblems(err)...)
	}
	for _, name := range sortedKeys(tree.Connections) {
		r.masks(tree.Connections[name], nil)
	}
	for _, name := range sortedKeys(tree.Reviews) {
		review := tree.Reviews[name]
		r.masks(tree.Connections[review.Spec.Connection], review)
		if review.Expired(now) {
			r.Notes = append(r.Notes, problem(review.Source, "validity", "it has expired and grants nothing", "delete it, or ask again with `sallyport request`"))
		}
	}
	r.Problems.Sort()
	r.Notes.Sort()
	r.OK = len(r.Problems) == 0
	if tree.Config == nil {
		r.Checked = 0 // nothing could be judged
	}
	return r
}

// masks reports masks that the catalog cannot carry: those of the connection, or
// those that the review adds.
func (r *checkReport) masks(connection *reviews.Connection, review *reviews.Review) {
	source, masks := connection.Source, connection.Spec.Mask
	if review != nil {
		source, masks = review.Source, review.Spec.Mask
	}
	if connection.Catalog == nil {
		if len(masks) > 0 {
			r.Problems = append(r.Problems, problem(source, "mask[0]", "masks cannot be checked without the connection's catalog",
				"sallyport catalog pull "+connection.Metadata.Name))
		} else if review == nil {
			r.Notes = append(r.Notes, problem(source, "", "the connection has no catalog, so examples cannot run", "sallyport catalog pull "+connection.Metadata.Name))
		}
		return
	}
	catalog, err := sqlguard.ParseCatalog(connection.Catalog)
	if err != nil {
		if review == nil {
			at := reviews.Position{File: reviews.CatalogPath(connection.Metadata.Name)}
			r.Problems = append(r.Problems, reviews.Problem{Position: at, Message: err.Error()})
		}
		return
	}
	lines := make(map[string]string, len(masks)) // column to its element
	for i, m := range masks {
		lines[m.Column] = fmt.Sprintf("mask[%d]", i)
	}
	for _, p := range sqlguard.CheckMasks(catalog, masksOf(connection, review)) {
		if element, own := lines[p.Column]; own {
			r.Problems = append(r.Problems, problem(source, element, p.Error(), ""))
		}
	}
}

// problem is one at an element of a document's spec.
func problem(source reviews.Source, element, message, fix string) reviews.Problem {
	return reviews.Problem{Position: reviews.Position{File: source.Path, Line: source.Lines[element]}, Message: message, Fix: fix}
}

func asProblems(err error) reviews.Problems {
	var problems reviews.Problems
	if errors.As(err, &problems) {
		return problems
	}
	return reviews.Problems{{Message: err.Error()}}
}

func (r *checkReport) print(out, errOut io.Writer) {
	for _, p := range r.Problems {
		fmt.Fprintln(errOut, clean(p.Error()))
	}
	for _, p := range r.Notes {
		fmt.Fprintf(out, "note: %s\n", clean(p.Error()))
	}
	for _, p := range r.Pending {
		fmt.Fprintf(out, "pending: %s\n", p.Path)
		for _, need := range p.Needs {
			who := "nobody could: those groups have no other member"
			if len(need.Eligible) > 0 {
				who = strings.Join(need.Eligible, " or ")
			}
			fmt.Fprintf(out, "  %s; who can: %s\n", need, who)
		}
		for _, why := range p.Ignored {
			fmt.Fprintf(out, "  %s\n", clean(why))
		}
	}
	if len(r.Problems) > 0 {
		fmt.Fprintf(errOut, "%s\n", count(len(r.Problems), "problem"))
		return
	}
	fmt.Fprintf(out, "ok: %s checked, %s\n", count(r.Checked, "document"), pendingCount(len(r.Pending)))
}

func pendingCount(n int) string {
	if n == 0 {
		return "all approved"
	}
	return fmt.Sprintf("%d still to be approved", n)
}
