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
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
	"github.com/sallyport-dev/sallyport/reviews"
)

// signOptions are the flags of sign.
type signOptions struct {
	as, key  string
	noCommit bool
}

func newSign(g *globals) *cobra.Command {
	o := &signOptions{}
	c := &cobra.Command{
		Use:   "sign PATH... --as user:YOU",
		Short: "Approve documents: sign the bytes that are committed",
		Long: `sign signs documents as they are committed at HEAD, byte for byte, after telling in
plain words what they grant, and commits the signatures beside them (PATH.sigs/).

It refuses when the file in the work tree differs from the committed one, when the
key is not one that the access repo gives you, and when your word would not count,
because you asked for the access yourself or answer for who gets it.

A catalog is signed where an approval rule is for it (match: {kinds: [Catalog]}).

The signature is an ordinary SSH signature: ssh-keygen -Y verify accepts it.`,
		Example: `  sallyport sign reviews/orders-db/etl.yaml --as user:bob
  sallyport sign connections/orders-db.yaml policies/guardrails.rego --as user:bob --key ~/.ssh/id_ed25519
  sallyport sign reviews/orders-db/etl.yaml --as user:bob --key ~/.ssh/work.pub   # the agent holds it`,
		Args: arguments(1, -1, "PATH of a document"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := need(c, "as"); err != nil {
				return err
			}
			return o.run(c.Context(), g, args, c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&o.as, "as", "", "you, as a principal")
	c.Flags().StringVar(&o.key, "key", "", keyFlagHelp)
	c.Flags().BoolVar(&o.noCommit, "no-commit", false, "write the signatures, do not commit them")
	g.jsonFlag(c)
	return c
}

// approval is one document that is signed.
type approval struct {
	Path      string `json:"path"`
	SHA256    string `json:"sha256"`
	Sidecar   string `json:"sidecar"`
	Grants    string `json:"grants,omitempty"` // what was told about it
	bytes     []byte
	outside   string // folder of a document that is not in git; "" for all others
	signature []byte
	kind      reviews.Kind
	forbidden string // why the signer's word would not count
}

func (o *signOptions) run(ctx context.Context, g *globals, args []string, out io.Writer) error {
	if !reviews.IsPrincipal(o.as) {
		return usage("--as %q is not a principal such as user:bob", o.as)
	}
	repo, err := g.workTree(ctx)
	if err != nil {
		return err
	}
	head, err := repo.at(ctx, "HEAD")
	if err != nil {
		return err
	}
	tree, err := treeAt(head)
	if err != nil {
		return err
	}
	var approvals []*approval
	for _, arg := range args {
		a, err := o.read(repo, head, arg)
		if err != nil {
			return err
		}
		if err := a.understand(o.as, tree); err != nil {
			return err
		}
		approvals = append(approvals, a)
	}
	signer, err := openKeyOf(o.as, tree.Keys(o.as), o.key)
	if err != nil {
		return err
	}
	defer signer.Close()
	return o.sign(ctx, g, repo, signer, approvals, out)
}

// treeAt is the tree at that commit, for looking at it. It is there as long as
// the trust root can be read, also when that lacks signatures, so that it can be signed.
func treeAt(s *snapshot) (*reviews.Tree, error) {
	tree, err := reviews.Load(s.files, s.options(reviews.ReportApprovals))
	if tree == nil || tree.Root == nil {
		return nil, fmt.Errorf("the access repo at %s is not usable: %w", s.ref, err)
	}
	return tree, nil
}

// read finds the committed bytes and compares them with the work tree.
func (o *signOptions) read(repo *accessRepo, head *snapshot, arg string) (*approval, error) {
	full, err := filepath.Abs(arg)
	if err != nil {
		return nil, err
	}
	top, err := filepath.EvalSymlinks(repo.git.dir)
	if err != nil {
		return nil, err
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(full)); err == nil {
		full = filepath.Join(dir, filepath.Base(full))
	}
	rel, err := filepath.Rel(top, full)
	if _, statErr := os.Lstat(full); err != nil || errors.Is(statErr, fs.ErrNotExist) {
		rel = filepath.Clean(arg) // a path from the root of the access repo, as with --repo
		full = filepath.Join(top, rel)
	}
	if filepath.Base(full) == reviews.ExtensionPath && !filepath.IsLocal(rel) { // it stands beside a release, not in git
		b, err := os.ReadFile(full)
		if err != nil {
			return nil, err
		}
		return &approval{Path: reviews.ExtensionPath, kind: reviews.KindExtension, bytes: b, outside: filepath.Dir(full)}, nil
	}
	path := filepath.ToSlash(rel)
	kind := reviews.KindOf(path)
	if kind == "" {
		return nil, hint(fmt.Errorf("%s is not a document of an access repo", path),
			"documents are %s, %s, principals/*.yaml, connections/*.yaml, connections/*.catalog.json, reviews/*/*.yaml and policies/*.rego", reviews.ConfigPath, reviews.RootPath)
	}
	committed, err := fs.ReadFile(head.files, path)
	if err != nil {
		return nil, hint(fmt.Errorf("%s is not committed", path), "commit it first: what is signed is what git has")
	}
	work, err := os.ReadFile(full)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(work, committed) {
		return nil, hint(fmt.Errorf("%s differs from what is committed at HEAD", path),
			"what is signed is what git has: commit your change (git diff shows it) or undo it, then sign")
	}
	return &approval{Path: path, kind: kind, bytes: committed}, nil
}

// understand says in plain words what a signature would grant, and whether this
// person's would count.
func (a *approval) understand(as string, tree *reviews.Tree) error {
	switch a.kind {
	case reviews.KindReview:
		r, err := reviews.ParseReview(a.Path, a.bytes)
		if err != nil {
			return err
		}
		a.SHA256, a.Grants = r.Source.SHA256, describeReview(r)
		switch as {
		case r.Spec.Requester:
			a.forbidden = "is the requester"
		case r.Spec.Subject:
			a.forbidden = "is who gets the access"
		case tree.Owner(r.Spec.Subject):
			a.forbidden = "answers for " + r.Spec.Subject
		case tree.Owner(r.Spec.Requester):
			a.forbidden = "answers for " + r.Spec.Requester
		}
	case reviews.KindPrincipal:
		p, err := reviews.ParsePrincipal(a.Path, a.bytes)
		if err != nil {
			return err
		}
		a.SHA256, a.Grants = p.Source.SHA256, describePrincipal(p)
		if as == p.Metadata.Name || as == p.Spec.Owner {
			a.forbidden = "is that principal or answers for it"
		}
	case reviews.KindConnection:
		c, err := reviews.ParseConnection(a.Path, a.bytes)
		if err != nil {
			return err
		}
		a.SHA256, a.Grants = c.Source.SHA256, describeConnection(c)
	case reviews.KindCatalog:
		name := documentName(a.Path)
		if err := reviews.CheckCatalog(tree.Repo, name, a.bytes); err != nil {
			return err
		}
		catalog, err := sqlguard.ParseCatalog(a.bytes)
		if err != nil {
			return fmt.Errorf("%s: %w", a.Path, err)
		}
		a.SHA256 = sha256Hex(a.bytes)
		a.Grants = fmt.Sprintf("the schema of %s, %s: examples and masks are checked with it", name, count(len(catalog.Relations), "relation"))
		if c := tree.Connections[name]; c != nil && c.CatalogSource.Path == "" {
			a.Grants += "\nno approval rule is for it, so it counts without this signature, too"
		}
	case reviews.KindRoot:
		r, err := reviews.ParseRoot(a.Path, a.bytes)
		if err != nil {
			return err
		}
		a.SHA256, a.Grants = r.Source.SHA256, describeRoot(r)
		before := tree.Root // a new root needs its own members as well
		if !slices.Contains(r.Spec.Groups["root"], as) && (before == nil || !slices.Contains(before.Spec.Groups["root"], as)) {
			a.forbidden = "is neither in group root of the present " + reviews.RootPath + " nor of this one"
		}
	case reviews.KindConfig:
		c, err := reviews.ParseConfig(a.Path, a.bytes)
		if err != nil {
			return err
		}
		a.SHA256, a.Grants = c.Source.SHA256, describeConfig(c)
	case reviews.KindRewind:
		r, err := reviews.ParseRewind(a.Path, a.bytes)
		if err != nil {
			return err
		}
		if r.Metadata.Repo != tree.Root.Metadata.Repo {
			return fmt.Errorf("%s is about another access repo, %s", a.Path, r.Metadata.Repo)
		}
		a.SHA256 = r.Source.SHA256
		a.Grants = fmt.Sprintf("sync goes on from commit %s instead of %s, which it accepted last: everything merged since is given up\nreason: %s", r.Spec.To, r.Spec.From, r.Spec.Reason)
	case reviews.KindExtension:
		e, err := reviews.ParseExtension(a.Path, a.bytes)
		if err != nil {
			return err
		}
		if e.Metadata.Repo != tree.Root.Metadata.Repo {
			return fmt.Errorf("%s is about a release of another access repo, %s", a.Path, e.Metadata.Repo)
		}
		a.SHA256 = e.Source.SHA256
		a.Grants = fmt.Sprintf("gateways use release %s until %s, and nothing can be revoked while they do\nreason: %s", e.Spec.Release, stamp(e.Spec.Until), e.Spec.Reason)
	case reviews.KindPolicy:
		a.SHA256 = sha256Hex(a.bytes)
		a.Grants = fmt.Sprintf("policy rules of %s, %s; they can only take away", a.Path, count(bytes.Count(a.bytes, []byte("\n")), "line"))
	}
	switch a.kind {
	case reviews.KindConfig, reviews.KindRewind, reviews.KindExtension:
		if tree.Root != nil && !slices.Contains(tree.Root.Spec.Groups["root"], as) {
			a.forbidden = "is not in group root of " + reviews.RootPath
		}
	}
	if a.forbidden != "" {
		return hint(fmt.Errorf("%s: %s %s, so the signature would not count", a.Path, as, a.forbidden), "ask another reviewer")
	}
	return nil
}

func (o *signOptions) sign(ctx context.Context, g *globals, repo *accessRepo, signer *reviews.Signer, approvals []*approval, out io.Writer) error {
	var paths, names []string
	for _, a := range approvals {
		if !g.json {
			fmt.Fprintf(out, "%s\n%s\n", a.Path, indent(clean(a.Grants)))
		}
		signature, err := reviews.Sign(signer, reviews.NamespaceFor(a.kind), a.bytes)
		if err != nil {
			return err
		}
		a.Sidecar = reviews.SidecarPath(a.Path, o.as, signer.PublicKey())
		dir := repo.git.dir
		if a.outside != "" {
			dir = a.outside
		}
		full := filepath.Join(dir, filepath.FromSlash(a.Sidecar))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(full, signature, 0o644); err != nil {
			return err
		}
		if a.outside == "" {
			paths, names = append(paths, a.Sidecar), append(names, a.Path)
		}
	}
	commit := !o.noCommit && len(paths) > 0
	if commit {
		if err := o.commit(ctx, repo, paths, names); err != nil {
			return err
		}
	}
	if g.json {
		return printJSON(out, approvals)
	}
	fmt.Fprintf(out, "signed by %s", o.as)
	if commit {
		fmt.Fprint(out, " and committed; push it for others to see")
	}
	fmt.Fprintln(out)
	return nil
}

func (o *signOptions) commit(ctx context.Context, repo *accessRepo, paths, names []string) error {
	args := append([]string{"status", "--porcelain", "--untracked-files=all", "--"}, paths...)
	if changed, err := repo.git.git(ctx, args...); err != nil || changed == "" {
		return err // signed before: an ed25519 signature over the same bytes is the same
	}
	return repo.git.commit(ctx, o.as, fmt.Sprintf("Sign %s as %s", strings.Join(names, ", "), o.as), paths...)
}
