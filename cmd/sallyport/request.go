package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/reviews"
)

// requestOptions are the flags of request.
type requestOptions struct {
	as, requester, name, reason, ticket string
	base                                string
	allow                               []string
	lifetime                            time.Duration
	dryRun, renew, push, pr, wait       bool
	follow                              followOptions

	lifetimeGiven bool
	prompt        *prompt // when something was asked for on the terminal
}

func newRequest(g *globals) *cobra.Command {
	o := &requestOptions{}
	c := &cobra.Command{
		Use:   "request CONNECTION[/REVIEW] --as PRINCIPAL --reason TEXT",
		Short: "Ask for access: write a review and push it on a branch of its own",
		Long: `request writes reviews/CONNECTION/NAME.yaml on a new branch
request/CONNECTION/NAME, commits it and pushes it when there is a remote. People
then review it as a pull request and sign it; once merged it is in force. Before it
commits it shows what CI will say. The branch is what is merged and that one file: the
work tree stays as it is, and nothing else of it is sent.

On a terminal it asks for what is missing; Tab completes connections, verbs and the
tables of the connection's catalog. Without --allow it asks for what the review of
that name allowed before, else for select on every relation of the catalog, one line
each: delete the lines that are not needed before you send it.

--allow is VERBS:RELATIONS or VERBS:RELATIONS:COLUMNS, each a list with commas.

--renew asks for a merged review once more, for the same time or for --for, with the
next sequence. Everything else stays as it was, and it needs fresh signatures.

--wait then follows it: approvals, the merge and, with --release or --status, the
release that enforces it. It ends with 0 as soon as the last of these is true, and
with 1 when the branch is deleted unmerged or --timeout is over.`,
		Example: `  sallyport request orders-db --as agent:etl --reason "nightly export"
  sallyport request orders-db --as agent:etl --requester user:alice --name etl-nightly \
      --allow select:app.orders,app.customers --allow update:app.orders:status \
      --for 720h --ticket OPS-812 --reason "nightly export" --pr
  sallyport request                                     # asks for all of it
  sallyport request orders-db/etl --renew --wait
  sallyport request orders-db --as agent:etl --reason "a look first" --dry-run
  sallyport request orders-db --as agent:etl --reason "nightly export" --repo git@github.com:acme/access.git`,
		Args: arguments(0, 1, "CONNECTION"),
		RunE: func(c *cobra.Command, args []string) error {
			o.lifetimeGiven = c.Flags().Changed("for")
			connection := ""
			if len(args) == 1 {
				connection = args[0]
			}
			return o.run(c, g, connection)
		},
	}
	f := c.Flags()
	f.StringVar(&o.as, "as", "", "who is to get access, for example agent:etl")
	f.StringVar(&o.requester, "requester", "", "who asks (default: the same as --as)")
	f.StringVar(&o.name, "name", "", "name of the review (default: from --as)")
	f.StringArrayVar(&o.allow, "allow", nil, "what is asked for: VERBS:RELATIONS[:COLUMNS], for example select:app.orders; on an ssh host exec:WORDS, text:TEXT, sftp:OPERATION:PATH, shell or forward:HOST:PORT; may be repeated")
	f.DurationVar(&o.lifetime, "for", 720*time.Hour, "how long")
	f.StringVar(&o.reason, "reason", "", "why, for the people who review it")
	f.StringVar(&o.ticket, "ticket", "", "ticket that it belongs to")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the file and what CI will say, write nothing")
	f.BoolVar(&o.renew, "renew", false, "ask for a merged review once more, as it is")
	f.StringVar(&o.base, "base", "", "the commit or branch to build on, with all that it has (default: what is merged, as of the last fetch)")
	f.BoolVar(&o.push, "push", true, "push the branch when there is a remote")
	f.BoolVar(&o.pr, "pr", false, "open the pull request, where the forge is set up")
	f.BoolVar(&o.wait, "wait", false, "follow it until it is merged, or enforced")
	o.follow.flags(f)
	g.jsonFlag(c)
	return c
}

// requestResult is what request prints.
type requestResult struct {
	proposed
	Path   string     `json:"path"`
	Narrow bool       `json:"narrow"` // it asks for every relation
	Text   string     `json:"text"`
	CI     *ciVerdict `json:"ci,omitempty"`
	State  *followed  `json:"state,omitempty"` // how far it had come when --wait ended
}

func (o *requestOptions) run(c *cobra.Command, g *globals, connection string) error {
	ctx := c.Context()
	repo, err := g.open(ctx)
	if err != nil {
		return err
	}
	elsewhere := repo.mirror != nil
	if elsewhere {
		location := repo.location
		dir, err := os.MkdirTemp("", "sallyport-request-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if repo, err = cloneInto(ctx, dir, repo); err != nil {
			return err
		}
		repo.location = location
	}
	head, err := repo.merged(ctx)
	if o.base != "" {
		head, err = repo.at(ctx, o.base)
	}
	if err != nil {
		return err
	}
	defer func() { o.prompt.close() }()
	if connection, err = o.complete(connection, head); err != nil {
		return err
	}
	draft, err := o.write(ctx, repo, head, connection)
	if err != nil {
		return err
	}
	ci, err := o.foresee(ctx, repo, head, draft)
	if err != nil {
		return err
	}
	if o.dryRun {
		return printDraft(c.OutOrStdout(), g.json, draft, ci)
	}
	if o.prompt != nil {
		var shown strings.Builder
		fmt.Fprintf(&shown, "\n%s", draft.text)
		ci.print(&shown)
		o.prompt.say(shown.String())
		if yes, err := o.prompt.agree("Ask for this?"); err != nil || !yes {
			return errors.Join(err, errors.New("nothing was asked for"))
		}
		o.prompt.close() // git may ask for a password
	}
	result, err := o.publish(ctx, repo, head, draft)
	if err != nil {
		return err
	}
	result.CI = ci
	if o.pr {
		title := "Request " + draft.review.Metadata.Name
		if err := g.openPull(ctx, repo, &result.proposed, title, draft.review.Spec.Justification.Reason, c.ErrOrStderr()); err != nil {
			return err
		}
	}
	if !g.json {
		if o.prompt == nil {
			ci.print(c.OutOrStdout())
		}
		tellRequest(c.OutOrStdout(), repo, draft, result, elsewhere)
	}
	if o.wait {
		show := func(string) {}
		if !g.json {
			show = func(line string) { fmt.Fprintln(c.OutOrStdout(), line) }
		}
		if result.State, err = o.follow.until(ctx, g, repo, draft, &result.proposed, show); err != nil {
			return err
		}
	}
	if g.json {
		return printJSON(c.OutOrStdout(), result)
	}
	return nil
}

// write makes the draft: anew, or of a merged review.
func (o *requestOptions) write(ctx context.Context, repo *accessRepo, head *snapshot, connection string) (*draft, error) {
	if o.renew {
		return o.renewal(ctx, repo, head, connection)
	}
	if err := o.check(connection); err != nil {
		return nil, err
	}
	return o.draft(ctx, repo, head, connection)
}

// cloneInto makes a clone with the person's own git.
func cloneInto(ctx context.Context, dir string, repo *accessRepo) (*accessRepo, error) {
	clone := &workTree{dir: dir}
	if _, err := clone.git(ctx, "clone", "--quiet", "--no-tags", "--", repo.remote, dir); err != nil {
		return nil, err
	}
	return openWorkTree(clone)
}

func (o *requestOptions) check(connection string) error {
	if !reviews.IsConnection(connection) {
		return usage("%q is not the name of a connection", connection)
	}
	if !reviews.IsPrincipal(o.as) {
		return usage("--as %q is not a principal such as agent:etl", o.as)
	}
	if o.requester == "" {
		o.requester = o.as
	}
	if !reviews.IsPrincipal(o.requester) {
		return usage("--requester %q is not a principal such as user:alice", o.requester)
	}
	if o.name == "" {
		_, o.name, _ = strings.Cut(reviews.RequestedName(connection, o.as), "/")
	}
	if !reviews.IsReview(connection + "/" + o.name) {
		return usage("--name %q: write lower-case letters, digits and dashes", o.name)
	}
	if o.lifetime < time.Minute {
		return usage("--for %s is too short to be reviewed", o.lifetime)
	}
	return nil
}

// draft is a review that is about to be asked for.
type draft struct {
	review *reviews.Review
	path   string
	branch string
	text   []byte
	narrow bool
	renews bool
}

func (o *requestOptions) draft(ctx context.Context, repo *accessRepo, head *snapshot, connection string) (*draft, error) {
	tree, err := usableTree(head)
	if err != nil {
		return nil, err
	}
	target := tree.Connections[connection]
	if target == nil {
		return nil, hint(fmt.Errorf("%s has no usable connection %s", repo.location, connection), "%s", knownConnections(tree))
	}
	name := connection + "/" + o.name
	d := &draft{path: reviews.PathOf(reviews.KindReview, name), branch: reviews.RequestBranch(name)}
	r := &reviews.Review{Metadata: reviews.Metadata{Repo: tree.Repo, Name: name}}
	begin := time.Now().UTC().Truncate(time.Minute)
	r.Spec = reviews.ReviewSpec{
		Requester: o.requester, Subject: o.as, Connection: connection,
		Validity:      reviews.Validity{NotBefore: begin, Expires: begin.Add(o.lifetime).Truncate(time.Second)},
		Justification: reviews.Justification{Ticket: o.ticket, Reason: o.reason},
	}
	if r.Spec.Sequence, err = nextSequence(ctx, repo, d.path, head.commit); err != nil {
		return nil, err
	}
	if d.narrow, err = o.rules(r, tree.Reviews[name], target); err != nil {
		return nil, err
	}
	d.text = renderReview(r)
	if d.review, err = reviews.ParseReview(d.path, d.text); err != nil {
		return nil, fmt.Errorf("what you ask for is not a valid review:\n%w", err)
	}
	if most := tree.Config.Spec.MaxReviewLifetime.Std(); o.lifetime > most {
		return nil, hint(fmt.Errorf("--for %s is longer than the %s that %s allows", o.lifetime, span(most), reviews.ConfigPath), "ask for less; it can be renewed")
	}
	return d, nil
}

// usableTree is the tree at a commit, with what still lacks approvals.
func usableTree(s *snapshot) (*reviews.Tree, error) {
	tree, err := reviews.Load(s.files, s.options(reviews.ReportApprovals))
	if err != nil {
		return nil, fmt.Errorf("the access repo at %s is not usable: %w", s.ref, err)
	}
	return tree, nil
}

func knownConnections(tree *reviews.Tree) string {
	names := sortedKeys(tree.Connections)
	if len(names) == 0 {
		return "it has none; `sallyport check` says why"
	}
	return "its connections: " + strings.Join(names, ", ")
}

// rules fills in what is asked for: what was said, what was allowed before, or
// everything that the catalog knows.
func (o *requestOptions) rules(r, before *reviews.Review, target *reviews.Connection) (narrow bool, err error) {
	switch {
	case len(o.allow) > 0:
		for _, text := range o.allow {
			rule, err := parseAllow(text, target.Spec.Protocol)
			if err != nil {
				return false, err
			}
			r.Spec.Allow = append(r.Spec.Allow, rule)
		}
	case before != nil:
		r.Spec.Allow, r.Spec.Hold = before.Spec.Allow, before.Spec.Hold
	default:
		if target.Spec.Protocol == "ssh" {
			return false, usage("say what is asked for on %s: --allow 'exec:systemctl restart web-1', --allow sftp:read:/var/log/**", target.Metadata.Name)
		}
		relations, err := relationsOf(target)
		if err != nil {
			return false, err
		}
		for _, relation := range relations {
			r.Spec.Allow = append(r.Spec.Allow, reviews.Rule{Verbs: []string{"select"}, On: []string{relation}})
		}
		narrow = len(relations) > 1
	}
	if before != nil {
		r.Spec.Mask, r.Spec.Unmask, r.Spec.Limits, r.Spec.Examples = before.Spec.Mask, before.Spec.Unmask, before.Spec.Limits, before.Spec.Examples
	}
	if len(r.Spec.Examples) == 0 || len(o.allow) > 0 {
		r.Spec.Examples = examplesFor(r, target)
	}
	return narrow, nil
}

// parseAllow reads VERBS:RELATIONS[:COLUMNS]; for an ssh host exec:WORDS, text:TEXT, sftp:OPERATION:PATH, shell or forward:HOST:PORT.
func parseAllow(text, protocol string) (reviews.Rule, error) {
	if protocol == "ssh" {
		return parseAllowSSH(text)
	}
	parts := strings.Split(text, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return reviews.Rule{}, usage("--allow %s: write VERBS:RELATIONS or VERBS:RELATIONS:COLUMNS, such as select:app.orders", text)
	}
	rule := reviews.Rule{Verbs: list(parts[0]), On: list(parts[1])}
	if len(parts) == 3 {
		rule.Columns = list(parts[2])
	}
	return rule, nil
}

func parseAllowSSH(text string) (reviews.Rule, error) {
	kind, rest, _ := strings.Cut(text, ":")
	switch operation, path, cut := strings.Cut(rest, ":"); {
	case kind == "exec" && len(strings.Fields(rest)) > 0:
		return reviews.Rule{Exec: strings.Fields(rest)}, nil
	case kind == "text" && rest != "":
		return reviews.Rule{Text: rest}, nil
	case kind == "sftp" && cut:
		return reviews.Rule{SFTP: operation, Path: path}, nil
	case text == "shell":
		return reviews.Rule{Shell: true}, nil
	case kind == "forward" && cut:
		return reviews.Rule{Forward: rest}, nil
	}
	return reviews.Rule{}, usage("--allow %s: on an ssh host write exec:WORDS, such as 'exec:systemctl restart web-*', text:TEXT, sftp:OPERATION:PATH, shell or forward:HOST:PORT", text)
}

// examplesSSH are cases for a command line or a file, with something in place of each star.
func examplesSSH(r *reviews.Review, target *reviews.Connection) []reviews.Example {
	expect := "allow"
	if len(r.Masks(target)) > 0 {
		expect = "mask"
	}
	for _, rule := range r.Spec.Allow {
		concrete := func(s string) string { return strings.ReplaceAll(strings.ReplaceAll(s, "**", "x"), "*", "1") }
		switch {
		case len(rule.Exec) > 0:
			run := strings.TrimPrefix(reviews.Rule{Exec: strings.Fields(concrete(strings.Join(rule.Exec, " ")))}.Words(), "run ")
			return []reviews.Example{{Run: run, Expect: expect}, {Run: run + "; id", Expect: "deny"}}
		case rule.SFTP == "read" || rule.SFTP == "write":
			return []reviews.Example{{Run: "sftp: " + rule.SFTP + " " + concrete(rule.Path), Expect: "allow"}, {Run: "sftp: remove /etc/passwd", Expect: "deny"}}
		}
	}
	return nil
}

func list(text string) []string {
	var words []string
	for _, word := range strings.Split(text, ",") {
		if word = strings.TrimSpace(word); word != "" {
			words = append(words, word)
		}
	}
	return words
}

// examplesFor are two cases for reviewers: one that is wanted and one that is not.
func examplesFor(r *reviews.Review, target *reviews.Connection) []reviews.Example {
	if target.Spec.Protocol == "ssh" {
		return examplesSSH(r, target)
	}
	for _, rule := range r.Spec.Allow {
		if len(rule.On) == 0 || len(rule.Columns) > 0 || strings.HasSuffix(rule.On[0], ".*") || !contains(rule.Verbs, "select") {
			continue
		}
		relation := rule.On[0]
		expect := "allow"
		if showsMasked(relation, r, target) {
			expect = "mask"
		}
		examples := []reviews.Example{{Run: "select * from " + relation, Expect: expect}}
		if !allows(r, "drop", relation) {
			examples = append(examples, reviews.Example{Run: "drop table " + relation, Expect: "deny"})
		}
		return examples
	}
	return nil
}

// showsMasked says whether reading the relation shows masked columns, its own or,
// as the catalog tells, those of what it inherits from or looks at.
func showsMasked(relation string, r *reviews.Review, target *reviews.Connection) bool {
	if guard, err := newGuard(target, r); err == nil {
		return guard.Understand("select * from "+relation, scopeOf(target)).Masked
	}
	return slices.ContainsFunc(r.Masks(target), func(m reviews.Mask) bool { return strings.HasPrefix(m.Column, relation+".") })
}

func allows(r *reviews.Review, verb, relation string) bool {
	schema, _, _ := strings.Cut(relation, ".")
	for _, rule := range append(append([]reviews.Rule{}, r.Spec.Allow...), r.Spec.Hold...) {
		if contains(rule.Verbs, verb) && (contains(rule.On, relation) || contains(rule.On, schema+".*")) {
			return true
		}
	}
	return false
}

// publish commits the draft alone on top of what it was made from, on a branch of its own, and pushes that. The work
// tree stays as it is, and what else it has stays there.
func (o *requestOptions) publish(ctx context.Context, repo *accessRepo, head *snapshot, d *draft) (*requestResult, error) {
	work := repo.git
	result := &requestResult{Path: d.path, Narrow: d.narrow, Text: string(d.text), proposed: proposed{Branch: d.branch}}
	if o.push && work.remote(ctx) == "" && o.pr {
		return nil, hint(errors.New("a pull request needs a remote to push to"), "git remote add origin URL")
	}
	files := sidecarsOf(head, d.path) // they sign other bytes
	files[d.path] = d.text
	as, message := o.requester, fmt.Sprintf("Request %s for %s\n\n%s", d.review.Metadata.Name, o.as, o.reason)
	if d.renews {
		as, message = d.review.Spec.Requester, "Renew "+d.review.Metadata.Name
	}
	p, err := propose(ctx, repo, head.commit, d.branch, as, message, files, o.push)
	if err != nil {
		return nil, err
	}
	result.proposed = *p
	return result, nil
}

func printDraft(out io.Writer, asJSON bool, d *draft, ci *ciVerdict) error {
	if asJSON {
		return printJSON(out, requestResult{Path: d.path, proposed: proposed{Branch: d.branch}, Narrow: d.narrow, Text: string(d.text), CI: ci})
	}
	fmt.Fprintf(out, "# would write %s on branch %s\n%s", d.path, d.branch, d.text)
	ci.print(out)
	return nil
}

func tellRequest(out io.Writer, repo *accessRepo, d *draft, r *requestResult, elsewhere bool) {
	fmt.Fprintf(out, "wrote %s (sequence %d) on branch %s\n", d.path, d.review.Spec.Sequence, d.branch)
	if r.Pushed {
		to := r.Remote
		if elsewhere {
			to = repo.location
		}
		fmt.Fprintf(out, "pushed to %s\n", to)
	}
	if d.narrow {
		fmt.Fprintf(out, "\nIt asks for select on every relation, one line each. Delete the lines that are not needed: reviewers will ask.\n")
	}
	fmt.Fprintln(out, "\nnext:")
	switch {
	case elsewhere:
		fmt.Fprintf(out, "  to change it: git clone --branch %s %s\n", d.branch, repo.location)
	default:
		fmt.Fprintf(out, "  to change it: git switch %s, edit %s, then `sallyport check`, commit", d.branch, d.path)
		if r.Pushed {
			fmt.Fprint(out, " and push")
		}
		fmt.Fprintln(out)
	}
	if r.Pushed {
		fmt.Fprintf(out, "  %s\n", openYourself(&r.proposed, repo.branch))
	}
	fmt.Fprintf(out, "  a reviewer: sallyport review %s --as user:REVIEWER --approve\n", d.branch)
	fmt.Fprintf(out, "  once it is merged into %s: sallyport connect %s --as %s\n", repo.branch, d.review.Metadata.Name, d.review.Spec.Subject)
}
