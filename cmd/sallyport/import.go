package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres"
	"github.com/sallyport-dev/sallyport/reviews"
)

func newImport(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "import",
		Short: "Draft documents from what a target allows today",
		Long: `import reads who may do what at a target and drafts the documents that would say the
same. Drafts are not signed and not committed: they are a start for people to cut down.`,
		Example: `  PGPASSWORD=… sallyport import postgres postgres://admin@db.internal/shop --owner user:alice`,
	}
	c.AddCommand(newImportPostgres(g))
	return c
}

// importOptions are the flags of import postgres.
type importOptions struct {
	connection, credential, ca, owner, requester, kind string
	keys, out                                          string
	roles                                              []string
	lifetime                                           time.Duration
	dryRun                                             bool
}

func newImportPostgres(g *globals) *cobra.Command {
	o := &importOptions{}
	c := &cobra.Command{
		Use:   "postgres DSN --owner user:YOU",
		Short: "Draft a connection, principals and reviews from a database's roles and grants",
		Long: `postgres reads the login roles of a database and what each of them may do today, by the
server's own answer: grants, columns, membership, PUBLIC and ownership together. It
drafts a connection with its catalog, and for each role a principal and a review. It
reads no data and no password hash, and changes nothing in the database.

What a review cannot say (SET ROLE, row security, grant options, names that are not
plain, …) stands as a comment in the draft, and is listed. Superusers get no draft.

The DSN has no password, since others on this machine see the arguments: it comes from
--credential. Files that exist are left alone. A principal needs a public key: name a
folder with ROLE.pub files with --keys, or add it to the draft.`,
		Example: `  PGPASSWORD=… sallyport import postgres postgres://admin@db.internal:5432/shop --owner user:alice
  sallyport import postgres postgres://admin@127.0.0.1/shop --credential file:/run/secrets/admin \
      --owner user:alice --role etl --role report --keys pubkeys --dry-run`,
		Args: arguments(1, 1, "DSN, such as postgres://ROLE@HOST:PORT/DATABASE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := need(c, "owner"); err != nil {
				return err
			}
			return o.run(c.Context(), g, args[0], c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&o.owner, "owner", "", "the person who answers for the principals")
	f.StringVar(&o.requester, "requester", "", "who asks in the reviews (default: --owner)")
	f.StringVar(&o.credential, "credential", "env:PGPASSWORD", "where the password is: env:NAME, file:/path or exec:/program")
	f.StringVar(&o.ca, "ca", "", "PEM file that signs the server's certificate (default: the system's roots)")
	f.StringVar(&o.connection, "connection", "", "name of the connection (default: from the database)")
	f.StringArrayVar(&o.roles, "role", nil, "only this role; may be repeated")
	f.StringVar(&o.kind, "kind", "agent", "what the principals are: agent, workload, program or user")
	f.StringVar(&o.keys, "keys", "", "folder with the public keys, ROLE.pub")
	f.DurationVar(&o.lifetime, "for", 720*time.Hour, "how long the reviews are")
	f.StringVar(&o.out, "out", "", "folder to write into (default: the access repo's work tree)")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the drafts, write nothing")
	g.jsonFlag(c)
	return c
}

// drafts are what import makes.
type drafts struct {
	Files    []draftFile `json:"files"`
	Unsaid   []unsaid    `json:"unsaid"`
	Existing []string    `json:"existing"` // files that were left alone
	Missing  []string    `json:"missing"`  // principals whose public key has to be added
}

type draftFile struct {
	Path string `json:"path"`
	Text string `json:"text"`
}

// unsaid is something that a document cannot express, or that somebody has to decide.
type unsaid struct {
	Role string `json:"role"` // "" for the database
	What string `json:"what"`
}

func (o *importOptions) run(ctx context.Context, g *globals, dsn string, out io.Writer) error {
	repo, err := g.workTree(ctx)
	if err != nil {
		return err
	}
	merged, err := repo.merged(ctx)
	if err != nil {
		return err
	}
	tree, err := treeAt(merged)
	if err != nil {
		return err
	}
	connection, err := o.target(tree, dsn)
	if err != nil {
		return err
	}
	secret, err := credential.Resolve(ctx, o.credential)
	if err != nil {
		return hint(err, "say where the password of %s is with --credential", connection.Spec.Target.User)
	}
	survey, err := postgres.SurveyTarget(ctx, connection, secret)
	if err != nil {
		return err
	}
	catalog, err := postgres.PullCatalog(ctx, connection, secret)
	if err != nil {
		return err
	}
	connection.Catalog = reviews.BindCatalog(tree.Repo, connection.Metadata.Name, catalog)
	d, err := o.drafts(tree, connection, survey)
	if err != nil {
		return err
	}
	if !o.dryRun {
		if err := d.write(cmp.Or(o.out, repo.git.dir)); err != nil {
			return err
		}
	}
	if g.json {
		return printJSON(out, d)
	}
	d.tell(out, o.dryRun)
	return nil
}

// target is the connection as far as the command line tells it.
func (o *importOptions) target(tree *reviews.Tree, dsn string) (*reviews.Connection, error) {
	s := &sample{}
	if err := s.setTarget(dsn); err != nil {
		return nil, usage("%s", strings.ReplaceAll(err.Error(), "--target", "DSN"))
	}
	if u, err := url.Parse(dsn); err != nil || u.RawQuery != "" {
		return nil, usage("DSN: write postgres://ROLE@HOST:PORT/DATABASE and nothing after it; TLS is verified in full, with --ca where the system's roots do not do")
	}
	for _, name := range []string{o.owner, cmp.Or(o.requester, o.owner)} {
		if !strings.HasPrefix(name, "user:") || !reviews.IsPrincipal(name) {
			return nil, usage("%q is not a person such as user:alice", name)
		}
	}
	if !reviews.IsPrincipal(o.kind + ":x") {
		return nil, usage("--kind %q: write agent, workload, program or user", o.kind)
	}
	if o.lifetime < time.Minute || tree.Config != nil && o.lifetime > tree.Config.Spec.MaxReviewLifetime.Std() {
		return nil, usage("--for %s: the access repo allows between 1m and %s", o.lifetime, tree.Config.Spec.MaxReviewLifetime)
	}
	name := cmp.Or(o.connection, plainName(s.Database, nil))
	if !reviews.IsConnection(name) {
		return nil, usage("--connection %q: write lower-case letters, digits and dashes", name)
	}
	if o.ca != "" {
		abs, err := filepath.Abs(o.ca)
		if err != nil {
			return nil, err
		}
		o.ca, s.TLS = abs, "verify-full"
	}
	c := &reviews.Connection{Metadata: reviews.Metadata{Repo: tree.Repo, Name: name}}
	c.Spec.Protocol, c.Spec.Risk = "postgres", "high"
	c.Spec.Target = reviews.Target{Host: s.Host, Port: s.Port, Database: s.Database, User: s.User, TLS: s.TLS, CA: o.ca}
	c.Spec.Credential = "env:" + connectionName.ReplaceAllString(strings.ToUpper(name), "_") + "_PASSWORD"
	return c, nil
}

var notPlain = regexp.MustCompile(`[^a-z0-9]+`)

// plainName makes a name that documents may have of one that the database may
// have. taken are those of other roles.
func plainName(name string, taken map[string]bool) string {
	plain := strings.Trim(notPlain.ReplaceAllString(strings.ToLower(name), "-"), "-")
	plain = strings.Trim(plain[:min(len(plain), 50)], "-")
	plain = cmp.Or(plain, "x")
	for n, base := 2, plain; taken[plain]; n++ {
		plain = base + "-" + strconv.Itoa(n)
	}
	return plain
}

// plainNames gives each role a name of its own, roles with ordinary names first, and
// all of them whichever are wanted, so that names do not depend on --role.
func plainNames(roles []postgres.SurveyRole) map[string]string {
	plains, taken := make(map[string]string), make(map[string]bool)
	for _, ordinary := range []bool{true, false} {
		for _, role := range roles {
			if ordinaryRole.MatchString(role.Name) == ordinary {
				plains[role.Name] = plainName(role.Name, taken)
				taken[plains[role.Name]] = true
			}
		}
	}
	return plains
}

var ordinaryRole = regexp.MustCompile(`^[a-z0-9]+([_-][a-z0-9]+)*$`)

// drafts writes the documents.
func (o *importOptions) drafts(tree *reviews.Tree, connection *reviews.Connection, survey *postgres.Survey) (*drafts, error) {
	d := &drafts{Files: []draftFile{}, Unsaid: []unsaid{}, Existing: []string{}, Missing: []string{}}
	name := connection.Metadata.Name
	d.file(reviews.PathOf(reviews.KindConnection, name), renderConnection(connection))
	d.file(reviews.CatalogPath(name), string(connection.Catalog))
	d.unsaid("", "the connection logs in as %s, who made this draft: give the gateway a role of its own, with only the grants that reviews give", connection.Spec.Target.User)
	d.unsaid("", "nothing is masked: say in spec.mask of %s what nobody may see in the clear", reviews.PathOf(reviews.KindConnection, name))
	known := make(map[string]bool)
	for _, r := range survey.Roles {
		known[r.Name] = true
	}
	for _, wanted := range o.roles {
		if !known[wanted] {
			return nil, hint(fmt.Errorf("the database has no login role %s that may connect", strconv.QuoteToASCII(wanted)), "leave --role out to see all")
		}
	}
	plains := plainNames(survey.Roles)
	for _, role := range survey.Roles {
		plain := plains[role.Name]
		switch {
		case len(o.roles) > 0 && !slices.Contains(o.roles, role.Name):
		case role.Superuser:
			d.unsaid(role.Name, "is a superuser: no review can say so, and none should")
		case role.Name == connection.Spec.Target.User:
			d.unsaid(role.Name, "is who made this draft; it gets none")
		default:
			if err := o.role(d, tree, connection, survey, role, plain); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

func (d *drafts) file(path, text string) { d.Files = append(d.Files, draftFile{path, text}) }

func (d *drafts) unsaid(role, format string, args ...any) string {
	what := fmt.Sprintf(format, args...)
	d.Unsaid = append(d.Unsaid, unsaid{role, what})
	return what
}

// role drafts the principal and the review of one role.
func (o *importOptions) role(d *drafts, tree *reviews.Tree, connection *reviews.Connection, survey *postgres.Survey, role postgres.SurveyRole, plain string) error {
	principal := o.kind + ":" + plain
	var notes []string
	note := func(format string, args ...any) {
		notes = append(notes, d.unsaid(role.Name, format, args...))
	}
	o.powers(role, note)
	r := &reviews.Review{Metadata: reviews.Metadata{Repo: tree.Repo, Name: reviews.RequestedName(connection.Metadata.Name, principal)}}
	begin := time.Now().UTC().Truncate(time.Minute)
	r.Spec = reviews.ReviewSpec{
		Sequence: 1, Requester: cmp.Or(o.requester, o.owner), Subject: principal, Connection: connection.Metadata.Name,
		Allow:         rulesOf(survey.Grants, role.Name, note),
		Validity:      reviews.Validity{NotBefore: begin, Expires: begin.Add(o.lifetime).Truncate(time.Second)},
		Justification: reviews.Justification{Reason: "what the database role could do when it was imported; say what it is still needed for"},
	}
	if !tree.Exists(principal) {
		d.file(reviews.PathOf(reviews.KindPrincipal, principal), o.renderPrincipal(d, tree, role.Name, plain, principal))
	}
	if len(r.Spec.Allow) == 0 {
		d.unsaid(role.Name, "may do nothing that a review could say, so it gets none")
		return nil
	}
	r.Spec.Examples = examplesFor(r, connection)
	path := reviews.PathOf(reviews.KindReview, r.Metadata.Name)
	text := commented("drafted from the database role "+strconv.QuoteToASCII(role.Name)+"; cut it down to what is needed", notes) + string(renderReview(r))
	if _, err := reviews.ParseReview(path, []byte(text)); err != nil {
		if len(text) <= reviews.MaxDocument {
			return fmt.Errorf("the draft for role %s is not a valid review, which is a mistake of this program: %w", strconv.QuoteToASCII(role.Name), err)
		}
		d.unsaid(role.Name, "may do so much that its review would have more than %d bytes: write it by hand, with schemas instead of relations", reviews.MaxDocument)
		return nil
	}
	d.file(path, text)
	return nil
}

// powers notes what the role is and has beside grants on relations.
func (o *importOptions) powers(role postgres.SurveyRole, note func(string, ...any)) {
	if role.Replication {
		note("may replicate: that reads every row and cannot be reviewed")
	}
	if role.BypassesRowSecurity {
		note("bypasses row security")
	}
	if role.CreatesRoles || role.CreatesDatabases {
		note("may create roles or databases: the gateway denies that")
	}
	if len(role.MayBecome) > 0 {
		note("may SET ROLE to %s: what that adds is not in this draft", quoted(role.MayBecome))
	}
	if len(role.Inherits) > 0 {
		note("has part of this by membership in %s", quoted(role.Inherits))
	}
	if len(role.Creates) > 0 {
		note("may create in the schemas %s: add verbs such as create, alter and drop if that is needed", quoted(role.Creates))
	}
	if role.Functions > 0 {
		note("may call %s outside of pg_catalog: list those that are needed in spec.functions of the connection", count(role.Functions, "function"))
	}
	if role.Settings > 0 {
		note("has settings of its own (ALTER ROLE SET): sessions through the gateway do not get them")
	}
	if role.Connections >= 0 {
		note("may have %s at a time", count(role.Connections, "connection"))
	}
	if role.Until != "" {
		note("has a password until %s: the review may have to end before that", role.Until)
	}
}

func quoted(names []string) string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = strconv.QuoteToASCII(name)
	}
	return shortList(list, 10)
}

// privilegeVerbs are the privileges that reviews have a verb for.
var privilegeVerbs = map[string]string{"SELECT": "select", "INSERT": "insert", "UPDATE": "update", "DELETE": "delete", "TRUNCATE": "truncate"}

// rulesOf writes the grants of a role as rules, one for all relations with the
// same verbs, and notes what rules cannot say.
func rulesOf(grants []postgres.SurveyGrant, role string, note func(string, ...any)) []reviews.Rule {
	byVerbs := make(map[string]*reviews.Rule)
	var order []string
	var columnRules []reviews.Rule
	for _, g := range grants {
		if g.Role != role {
			continue
		}
		name := g.Schema + "." + g.Relation
		shown := strconv.QuoteToASCII(name)
		switch {
		case !g.Reachable:
			note("has grants on %s, but cannot reach its schema", shown)
			continue
		case !expressible(name):
			note("may %s on %s, whose name a rule cannot hold", strings.ToLower(strings.Join(g.Privileges, ", ")), shown)
			continue
		}
		if g.RowSecurity {
			note("row security on %s: its policies look at the database role, which is the gateway's in every session", shown)
		}
		if g.Owns {
			note("owns %s: it may alter and drop it, and pass grants on; the rules here do not", shown)
		} else if g.Grantable {
			note("may pass grants on %s on: reviews cannot", shown)
		}
		var verbs []string
		for _, p := range g.Privileges {
			if verb := privilegeVerbs[p]; verb != "" {
				verbs = append(verbs, verb)
			} else if !g.Owns {
				note("has %s on %s: there is no verb for it", p, shown)
			}
		}
		if key := strings.Join(verbs, ","); key != "" {
			if byVerbs[key] == nil {
				byVerbs[key] = &reviews.Rule{Verbs: verbs}
				order = append(order, key)
			}
			byVerbs[key].On = append(byVerbs[key].On, name)
		}
		for _, privilege := range sortedKeys(g.Columns) {
			if rule, ok := columnRule(name, privilege, g.Columns[privilege], note); ok {
				columnRules = append(columnRules, rule)
			}
		}
	}
	var rules []reviews.Rule
	for _, key := range order {
		rules = append(rules, *byVerbs[key])
	}
	return append(rules, columnRules...)
}

func columnRule(relation, privilege string, columns []string, note func(string, ...any)) (reviews.Rule, bool) {
	rule := reviews.Rule{Verbs: []string{privilegeVerbs[privilege]}, On: []string{relation}}
	for _, column := range columns {
		if !identifierForm.MatchString(column) {
			note("may %s column %s of %s, whose name a rule cannot hold", strings.ToLower(privilege), strconv.QuoteToASCII(column), strconv.QuoteToASCII(relation))
			continue
		}
		rule.Columns = append(rule.Columns, column)
	}
	return rule, len(rule.Columns) > 0
}

var identifierForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]{0,62}$`)

// expressible says whether a rule can name the relation.
func expressible(name string) bool {
	schema, relation, _ := strings.Cut(name, ".")
	return identifierForm.MatchString(schema) && identifierForm.MatchString(relation)
}

// commented is a block of comments that nothing in it can end. Names in it are quoted in ASCII.
func commented(title string, notes []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", oneLine(title))
	if len(notes) > 0 {
		b.WriteString("# What this cannot say, or somebody has to decide:\n")
	}
	for i, n := range notes {
		if i == 100 {
			fmt.Fprintf(&b, "# - and %d more, which import listed\n", len(notes)-i)
			break
		}
		fmt.Fprintf(&b, "# - %s\n", oneLine(n))
	}
	return b.String()
}

func renderConnection(c *reviews.Connection) string {
	t := c.Spec.Target
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("apiVersion: %s\nkind: %s\nmetadata: {repo: %s, name: %s}\nspec:\n  protocol: postgres\n  target:", reviews.APIVersion, reviews.KindConnection, c.Metadata.Repo, c.Metadata.Name)
	line("    host: %s\n    port: %d\n    database: %s", scalar(t.Host), t.Port, scalar(t.Database))
	line("    # Give the gateway a role of its own, with only the grants that reviews give.\n    user: %s\n    tls: %s", scalar(t.User), t.TLS)
	if t.CA != "" {
		line("    ca: %s # has to be there on the gateway", scalar(t.CA))
	}
	line("  # Read by gatewayd alone: env:NAME, file:/path or exec:/path.\n  credential: %s\n  risk: %s", scalar(c.Spec.Credential), c.Spec.Risk)
	line("  # Say what nobody may see in the clear:\n  # mask:\n  #   - {column: app.customers.email, with: email}\n  review: {maxAge: 2160h}")
	return b.String()
}

// renderPrincipal writes a principal with the key of its file, or with a place for it.
func (o *importOptions) renderPrincipal(d *drafts, tree *reviews.Tree, role, plain, principal string) string {
	text := commented("drafted from the database role "+strconv.QuoteToASCII(role), nil)
	text += fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {repo: %s, name: %s}\nspec:\n  owner: %s\n", reviews.APIVersion, reviews.KindPrincipal, tree.Repo, principal, o.owner)
	if key := o.publicKey(role, plain); key != "" {
		return text + "  keys:\n    - {key: " + scalar(key) + "}\n"
	}
	d.Missing = append(d.Missing, principal)
	return text + "  # Add the line of its .pub file (ssh-keygen -t ed25519):\n  keys: []\n"
}

// publicKey is that of --keys for the role, "" when there is none that may be used.
func (o *importOptions) publicKey(role, plain string) string {
	if o.keys == "" {
		return ""
	}
	for _, name := range []string{role, plain} {
		if !filepath.IsLocal(name) || strings.ContainsAny(name, `/\`) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(o.keys, name+".pub"))
		if err != nil {
			continue
		}
		if key, _, _, _, err := ssh.ParseAuthorizedKey(b); err == nil && reviews.AllowedKey(key) == nil {
			return authorized(key, plain)
		}
	}
	return ""
}

// write puts the drafts where nothing is yet.
func (d *drafts) write(dir string) error {
	for _, f := range d.Files {
		path := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		err := writeNew(path, []byte(f.Text), 0o644)
		if errors.Is(err, os.ErrExist) {
			d.Existing = append(d.Existing, f.Path)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *drafts) tell(out io.Writer, dryRun bool) {
	for _, f := range d.Files {
		switch {
		case slices.Contains(d.Existing, f.Path):
			fmt.Fprintf(out, "left alone %s: it exists\n", f.Path)
		case dryRun && !strings.HasSuffix(f.Path, ".json"):
			fmt.Fprintf(out, "# would write %s\n%s\n", f.Path, f.Text)
		case dryRun:
			fmt.Fprintf(out, "# would write %s\n", f.Path)
		default:
			fmt.Fprintf(out, "drafted %s\n", f.Path)
		}
	}
	if len(d.Unsaid) > 0 {
		fmt.Fprintln(out, "\nnot said by these documents, or for somebody to decide:")
	}
	for _, u := range d.Unsaid {
		role := ""
		if u.Role != "" {
			role = "role " + strconv.QuoteToASCII(u.Role) + " "
		}
		fmt.Fprintf(out, "  %s%s\n", role, oneLine(u.What))
	}
	fmt.Fprintln(out, "\nnext:")
	if len(d.Missing) > 0 {
		fmt.Fprintf(out, "  add public keys to %s, or delete those that nobody needs\n", shortList(d.Missing, 10))
	}
	fmt.Fprintln(out, "  delete what is not needed, then `sallyport check`, commit on a branch, and have it reviewed")
}
