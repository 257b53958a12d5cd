package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/reviews"
)

const labReviewer = "user:lab-reviewer"

// initOptions are the flags of init.
type initOptions struct {
	as, key, repository, branch      string
	reviewers                        []string
	lab, dryRun                      bool
	connection, target               string
	credential, agent, listen        string
	forges                           []string
	keys                             string
	gatewayKey, releaseKey, agentKey string
	approvals, attesterKey           string
	accounts                         []string
	auto                             bool
}

func newInit(g *globals) *cobra.Command {
	o := &initOptions{}
	c := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Make an access repo, with your SSH key as its first root of trust",
		Long: `init writes a working access repo into DIR (default: the current directory): trust
root, settings, a sample connection with a policy and its test, an agent, workflows
for GitHub, Gitea or GitLab, schemas for editors, CODEOWNERS,
.gitattributes and a README. Everything is signed with your SSH key (ed25519) and
committed.

It also makes the keys that a gateway and ` + "`sallyport sync`" + ` need, outside of the
repository, unless they exist.

Nobody approves their own request. With --reviewer you name a second person. With
--lab a second key is made on this machine and labelled as such, so that you can
try the whole flow alone; it proves nothing and is not for production.

With --approvals forge the approval of a pull request on GitHub, Gitea or Forgejo
counts for a review as a signature does, once ` + "`sallyport sync`" + ` has attested it;
--account says which numeric account is whose. With --auto-approve a rule of the
policies approves small requests by itself, and the workflow merges those.

Nothing is ever overwritten. In a repository that has other files, --dry-run shows
what would be added.`,
		Example: `  sallyport init access --lab
  sallyport init access --as user:alice --key ~/.ssh/id_ed25519 --reviewer user:bob=bob.pub
  sallyport init access --as user:alice --reviewer user:bob=bob.pub --approvals forge --auto-approve --forge gitea \
      --repository https://git.example.org/acme/access.git --account user:alice=17 --account user:bob=23
  sallyport init --dry-run
  sallyport init access --lab --target postgres://etl@127.0.0.1:5432/shop`,
		Args: arguments(0, 1, "directory"),
		RunE: func(c *cobra.Command, args []string) error {
			dir := "."
			if len(args) == 1 {
				dir = args[0]
			}
			return o.run(c.Context(), g, dir, c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&o.as, "as", "", "you, as a principal (default: user: and your login name)")
	f.StringVar(&o.key, "key", "", "your private key file, a .pub file, or \"agent\" (default: the ssh-agent's only key, else ~/.ssh/id_ed25519)")
	f.StringArrayVar(&o.reviewers, "reviewer", nil, "another reviewer, as user:bob=FILE.pub; may be repeated")
	f.BoolVar(&o.lab, "lab", false, "make a second reviewer's key on this machine, to try the whole flow alone")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would be written, write nothing")
	f.StringVar(&o.repository, "repository", "", "where others clone this repository (default: its remote, else its path)")
	f.StringVar(&o.branch, "branch", "main", "the branch of merged reviews")
	f.StringSliceVar(&o.forges, "forge", nil, "whose workflows to write: github, gitea, gitlab (default: what --repository speaks of, else all)")
	f.StringVar(&o.connection, "connection", "orders-db", "name of the sample connection")
	f.StringVar(&o.target, "target", "postgres://app@127.0.0.1:5432/app", "its database, without a password")
	f.StringVar(&o.credential, "credential", "", "where gatewayd finds its password (default: env:ORDERS_DB_PASSWORD for orders-db)")
	f.StringVar(&o.agent, "agent", "agent:etl", "name of the sample agent")
	f.StringVar(&o.listen, "listen", "127.0.0.1:6432", "where clients will reach the gateway gw1")
	f.StringVar(&o.keys, "keys", "", "folder for the keys that are made (default: a folder of your configuration directory)")
	f.StringVar(&o.gatewayKey, "gateway-key", "", "the gateway's private key, made when absent (default: gw1 in --keys)")
	f.StringVar(&o.releaseKey, "release-key", "", "the key that signs releases, made when absent (default: release in --keys)")
	f.StringVar(&o.agentKey, "agent-key", "", "the sample agent's key, made when absent (default: its name in --keys)")
	f.StringVar(&o.approvals, "approvals", "signature", "what approves a review: signature, or forge for the approval of a pull request as well")
	f.StringArrayVar(&o.accounts, "account", nil, "a reviewer's numeric account on the forge, as user:bob=23; may be repeated")
	f.StringVar(&o.attesterKey, "attester-key", "", "the key that attests approvals in pull requests, made when absent (default: attester in --keys)")
	f.BoolVar(&o.auto, "auto-approve", false, "let a rule of the policies approve small requests, and CI merge them")
	g.jsonFlag(c)
	return c
}

// initKeys are the keys of a new access repo. In a dry run those that would be
// made are nil.
type initKeys struct {
	own, lab, gateway, release, agent, attester *reviews.Signer
	made                                        []string // files
}

func (o *initOptions) run(ctx context.Context, g *globals, dir string, out io.Writer) error {
	if err := o.defaults(dir); err != nil {
		return err
	}
	s, err := o.sample(ctx, dir)
	if err != nil {
		return err
	}
	files, err := s.files()
	if err != nil {
		return err
	}
	if _, err := withoutExisting(dir, files); err != nil {
		return err // before a key is made
	}
	keys, err := o.openKeys(s)
	if err != nil {
		return err
	}
	s.fill(keys)
	if files, err = s.files(); err != nil {
		return err
	}
	if files, err = withoutExisting(dir, files); err != nil {
		return err
	}
	if o.dryRun {
		return printFiles(out, g.json, dir, files)
	}
	work, err := o.write(ctx, dir, s, keys, files)
	if err != nil {
		return err
	}
	return o.tell(ctx, g, out, work, s, keys, files)
}

var connectionName = regexp.MustCompile(`[^A-Z0-9]+`)

// defaults fills what was not given and checks what was.
func (o *initOptions) defaults(dir string) error {
	if o.as == "" {
		name := os.Getenv("USER")
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
		o.as = "user:" + strings.ToLower(name)
	}
	for what, good := range map[string]bool{
		"--as " + o.as:                 reviews.IsPrincipal(o.as) && strings.HasPrefix(o.as, "user:"),
		"--agent " + o.agent:           reviews.IsPrincipal(o.agent) && !strings.HasPrefix(o.agent, "user:"),
		"--connection " + o.connection: reviews.IsConnection(o.connection),
	} {
		if !good {
			return usage("%s is not a well-formed name", what)
		}
	}
	for _, forge := range o.forges {
		if !slices.Contains(forges, forge) {
			return usage("--forge %s does not exist: write one of %s", forge, strings.Join(forges, ", "))
		}
	}
	if o.approvals != "signature" && o.approvals != "forge" {
		return usage("--approvals %s does not exist: write signature or forge", o.approvals)
	}
	if o.lab && o.as == labReviewer {
		return usage("--as %s is the lab's own reviewer", o.as)
	}
	if _, _, err := net.SplitHostPort(o.listen); err != nil {
		return usage("--listen %s: write host:port", o.listen)
	}
	if o.credential == "" {
		o.credential = "env:" + connectionName.ReplaceAllString(strings.ToUpper(o.connection), "_") + "_PASSWORD"
	}
	return o.keyFiles(dir)
}

func (o *initOptions) keyFiles(dir string) error {
	if o.keys == "" {
		config, err := os.UserConfigDir()
		if err != nil {
			return usage("--keys is needed: %v", err)
		}
		abs, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		o.keys = filepath.Join(config, "sallyport", filepath.Base(abs))
	}
	for file, name := range map[*string]string{
		&o.gatewayKey: "gw1", &o.releaseKey: "release", &o.attesterKey: "attester", &o.agentKey: strings.ReplaceAll(o.agent, ":", "_"),
	} {
		if *file == "" {
			*file = filepath.Join(o.keys, name)
		}
		if inside(dir, *file) {
			return usage("key %s would lie inside the repository: a private key must never be committed", *file)
		}
	}
	return nil
}

func inside(dir, file string) bool {
	a, errA := filepath.Abs(dir)
	b, errB := filepath.Abs(file)
	rel, err := filepath.Rel(a, b)
	return errA == nil && errB == nil && err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

func (o *initOptions) sample(ctx context.Context, dir string) (*sample, error) {
	s := &sample{
		Repo: uuid.NewString(), Repository: o.repository, Branch: o.branch, Owner: o.as,
		Gateway: "gw1", Listen: o.listen, Connection: o.connection, Credential: o.credential,
		Agent: o.agent, Version: build().Version, TLS: "verify-full", Approvals: o.approvals, Auto: o.auto,
	}
	if !strings.HasPrefix(s.Version, "v") || strings.Contains(s.Version, "+") {
		s.Version = "latest"
	}
	if s.Repository == "" {
		s.Repository = o.defaultRepository(ctx, dir)
	}
	if s.Forges = o.forges; s.Forges == nil {
		s.Forges = forgesOf(s.Repository)
	}
	if path, ok := githubPath(s.Repository); ok {
		s.GitHubOwner, _, _ = strings.Cut(path, "/")
	}
	if err := s.setTarget(o.target); err != nil {
		return nil, err
	}
	var others []person
	for _, r := range o.reviewers {
		p, err := readReviewer(r)
		if err != nil {
			return nil, err
		}
		others = append(others, p)
	}
	s.setPeople(others, o.lab)
	if o.approvals == "forge" || o.auto {
		var err error
		if s.Forge, err = forgeNamed(s.Repository, s.Forges); err != nil {
			return nil, err
		}
	}
	return s, s.setAccounts(o.accounts)
}

// setAccounts says who is who on the forge. Logins can be given up and taken, ids cannot.
func (s *sample) setAccounts(accounts []string) error {
	if len(accounts) > 0 && s.Forge == nil {
		return usage("--account goes with --approvals forge or --auto-approve")
	}
	for _, text := range accounts {
		name, id, _ := strings.Cut(text, "=")
		i := slices.IndexFunc(s.People, func(p person) bool { return p.Name == name })
		n, err := strconv.ParseInt(id, 10, 64)
		if i < 0 || err != nil || n <= 0 {
			return usage("--account %s: write user:bob=23, with you or one of --reviewer and the numeric id of the account", text)
		}
		s.People[i].Account = n
	}
	return nil
}

func (o *initOptions) defaultRepository(ctx context.Context, dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return dir
	}
	if _, err := os.Stat(filepath.Join(abs, ".git")); err != nil {
		return abs
	}
	work := &workTree{dir: abs}
	if address, err := work.git(ctx, "remote", "get-url", work.remote(ctx)); err == nil && address != "" {
		return address
	}
	return abs
}

func (s *sample) setTarget(target string) error {
	u, err := url.Parse(target)
	if err != nil {
		return usage("--target is not a URL such as postgres://app@127.0.0.1:5432/app") // the cause may quote a password
	}
	if _, set := u.User.Password(); set {
		return usage("--target holds a password: leave it out, it stays with gatewayd (--credential)")
	}
	if (u.Scheme != "postgres" && u.Scheme != "postgresql") || u.Hostname() == "" || u.User.Username() == "" || len(u.Path) < 2 {
		return usage("--target: write postgres://ROLE@HOST:PORT/DATABASE")
	}
	s.Host, s.Port, s.User, s.Database = u.Hostname(), 5432, u.User.Username(), strings.TrimPrefix(u.Path, "/")
	if p := u.Port(); p != "" {
		if s.Port, err = strconv.Atoi(p); err != nil {
			return usage("--target: %s is not a port", p)
		}
	}
	if ip := net.ParseIP(s.Host); s.Host == "localhost" || ip != nil && ip.IsLoopback() {
		s.TLS = "disable"
	}
	return nil
}

func readReviewer(text string) (person, error) {
	name, file, found := strings.Cut(text, "=")
	if !found || !reviews.IsPrincipal(name) || !strings.HasPrefix(name, "user:") {
		return person{}, usage("--reviewer %s: write user:bob=FILE.pub", text)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return person{}, err
	}
	key, comment, _, _, err := ssh.ParseAuthorizedKey(b)
	if err != nil {
		return person{}, fmt.Errorf("%s is not a public key: %w", file, err)
	}
	if err := reviews.AllowedKey(key); err != nil {
		return person{}, fmt.Errorf("%s: %w", file, err)
	}
	if comment == "" {
		comment = name
	}
	return person{Name: name, Key: authorized(key, comment)}, nil
}

// openKeys opens your key and opens or makes all others.
func (o *initOptions) openKeys(s *sample) (*initKeys, error) {
	own, err := openOwnKey(o.key)
	if err != nil {
		return nil, hint(fmt.Errorf("your SSH key: %w", err), "name it with --key, or make one: ssh-keygen -t ed25519")
	}
	k := &initKeys{own: own}
	wanted := []struct {
		into          **reviews.Signer
		file, comment string
		leaveOut      bool
	}{
		{&k.gateway, o.gatewayKey, "gateway gw1", false},
		{&k.release, o.releaseKey, "release", false},
		{&k.agent, o.agentKey, o.agent, s.AgentOwner == ""},
		{&k.attester, o.attesterKey, "attester", o.approvals != "forge"},
		{&k.lab, filepath.Join(o.keys, "lab-reviewer"), labReviewer + " (lab)", !o.lab},
	}
	for _, w := range wanted {
		if w.leaveOut {
			continue
		}
		if _, err := os.Stat(w.file); o.dryRun && errors.Is(err, os.ErrNotExist) {
			continue
		}
		signer, made, err := ensureKey(w.file, w.comment)
		if err != nil {
			return nil, err
		}
		if made {
			k.made = append(k.made, w.file)
		}
		*w.into = signer
	}
	return k, nil
}

// openOwnKey is the given key, else the agent's only one, else the usual file.
func openOwnKey(file string) (*reviews.Signer, error) {
	if file != "" {
		return openKey(file)
	}
	if os.Getenv("SSH_AUTH_SOCK") != "" {
		if signer, err := openKey("agent"); err == nil {
			return signer, nil
		}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}
	return openKey(filepath.Join(home, ".ssh", "id_ed25519"))
}

// setPeople says who reviews and who answers for the agent: somebody who need
// not approve it, so that somebody else can.
func (s *sample) setPeople(reviewers []person, lab bool) {
	s.People = append([]person{{Name: s.Owner}}, reviewers...)
	if len(reviewers) > 0 {
		s.AgentOwner = reviewers[0].Name // you sign it
	}
	if lab {
		s.Lab, s.AgentOwner = labReviewer, s.Owner // the lab's reviewer signs it
		s.People = append(s.People, person{Name: labReviewer})
	}
}

// fill puts the public keys in.
func (s *sample) fill(k *initKeys) {
	s.GatewayKey, s.ReleaseKey, s.AgentKey = publicOf(k.gateway, "gateway gw1"), publicOf(k.release, "release"), publicOf(k.agent, s.Agent)
	if s.Approvals == "forge" {
		s.AttesterKey = publicOf(k.attester, "attester")
	}
	for i := range s.People {
		switch s.People[i].Name {
		case s.Owner:
			s.People[i].Key = publicOf(k.own, s.Owner)
		case s.Lab:
			s.People[i].Key = publicOf(k.lab, s.Lab+" (lab, not for production)")
		}
	}
}

func publicOf(signer *reviews.Signer, comment string) string {
	if signer == nil {
		return "ssh-ed25519 (made when this is no dry run) " + comment
	}
	return authorized(signer.PublicKey(), comment)
}

// withoutExisting leaves out files that may stay as they are and refuses when
// another one exists.
func withoutExisting(dir string, files []newFile) ([]newFile, error) {
	var kept []newFile
	var taken []string
	for _, f := range files {
		_, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(f.Path)))
		switch {
		case err != nil:
			kept = append(kept, f)
		case !f.keep:
			taken = append(taken, f.Path)
		}
	}
	if len(taken) > 0 {
		return nil, hint(fmt.Errorf("%s already has %s", dir, strings.Join(taken, ", ")),
			"nothing was written; init never overwrites: choose another directory, or move these away")
	}
	return kept, nil
}

func printFiles(out io.Writer, asJSON bool, dir string, files []newFile) error {
	if asJSON {
		return printJSON(out, map[string]any{"dir": dir, "files": files})
	}
	for _, f := range files {
		fmt.Fprintf(out, "--- would write %s\n%s\n", f.Path, f.Text)
	}
	fmt.Fprintf(out, "%s would be written into %s, signed and committed; nothing was written\n", count(len(files), "file"), dir)
	return nil
}

// write signs, verifies, writes and commits.
func (o *initOptions) write(ctx context.Context, dir string, s *sample, k *initKeys, files []newFile) (*workTree, error) {
	signed, err := s.sign(k, files)
	if err != nil {
		return nil, err
	}
	if err := verifyFiles(signed); err != nil {
		return nil, err
	}
	work, err := ensureRepository(ctx, dir, o.branch)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, f := range signed {
		full := filepath.Join(work.dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return nil, err
		}
		if err := writeNew(full, f.Bytes, 0o644); err != nil {
			return nil, err
		}
		paths = append(paths, f.Path)
	}
	return work, work.commit(ctx, o.as, "Begin an access repo with sallyport", paths...)
}

// sign adds the signatures: yours, and the lab reviewer's where you may not approve.
func (s *sample) sign(k *initKeys, files []newFile) ([]newFile, error) {
	signed := files
	for _, f := range files {
		if f.Kind == "" {
			continue
		}
		as, signer := s.Owner, k.own
		if f.Kind == reviews.KindPrincipal && s.AgentOwner == s.Owner {
			as, signer = labReviewer, k.lab
		}
		signature, err := reviews.Sign(signer, reviews.NamespaceFor(f.Kind), f.Bytes)
		if err != nil {
			return nil, err
		}
		signed = append(signed, newFile{Path: reviews.SidecarPath(f.Path, as, signer.PublicKey()), Bytes: signature})
	}
	return signed, nil
}

// verifyFiles loads what is about to be written as a gateway would.
func verifyFiles(files []newFile) error {
	all := fstest.MapFS{}
	for _, f := range files {
		all[f.Path] = &fstest.MapFile{Data: f.Bytes, Mode: 0o644}
	}
	tree, err := reviews.Load(all, reviews.LoadOptions{Now: time.Now()})
	if err != nil {
		return fmt.Errorf("what init would write does not check: %w", err)
	}
	return tree.Problems.Err()
}

// ensureRepository is the repository of dir itself, even inside another one.
func ensureRepository(ctx context.Context, dir, branch string) (*workTree, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	work := &workTree{dir: abs}
	if _, err := os.Lstat(filepath.Join(abs, ".git")); errors.Is(err, os.ErrNotExist) {
		if _, err := work.git(ctx, "init", "--quiet", "--initial-branch", branch); err != nil {
			return nil, err
		}
	}
	return work, nil
}

// initResult is what init prints.
type initResult struct {
	Dir        string            `json:"dir"`
	Repo       string            `json:"repo"`
	TrustRoot  string            `json:"trustRoot"` // what sync and gatewayd pin
	Commit     string            `json:"commit"`
	Keys       map[string]string `json:"keys"`
	Made       []string          `json:"made"` // key files that did not exist before
	Lab        bool              `json:"lab"`
	CanApprove bool              `json:"canApprove"` // whether anybody could approve a request of yours
}

func (o *initOptions) tell(ctx context.Context, g *globals, out io.Writer, work *workTree, s *sample, k *initKeys, files []newFile) error {
	commit, err := work.git(ctx, "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	r := initResult{
		Dir: work.dir, Repo: s.Repo, Commit: commit, Made: k.made, Lab: s.Lab != "", CanApprove: len(s.People) > 1,
		Keys: map[string]string{"gateway": o.gatewayKey, "release": o.releaseKey},
	}
	if k.agent != nil {
		r.Keys[s.Agent] = o.agentKey
	}
	if k.attester != nil {
		r.Keys["attester"] = o.attesterKey
	}
	if k.lab != nil {
		r.Keys[s.Lab] = filepath.Join(o.keys, "lab-reviewer")
	}
	for _, f := range files {
		if f.Path == reviews.RootPath {
			sum := sha256.Sum256(f.Bytes)
			r.TrustRoot = "sha256:" + hex.EncodeToString(sum[:])
		}
	}
	if g.json {
		return printJSON(out, r)
	}
	fmt.Fprintf(out, "access repo in %s, signed by %s and committed\n", r.Dir, s.Owner)
	fmt.Fprintf(out, "trust root: %s\n", r.TrustRoot)
	for _, file := range r.Made {
		fmt.Fprintf(out, "made key:   %s (keep it safe; it has no passphrase)\n", file)
	}
	fmt.Fprintln(out)
	switch {
	case r.Lab:
		fmt.Fprintf(out, "This is a lab: you hold the key of %s too, so its approvals prove nothing. See trust/LAB.md.\n\n", s.Lab)
	case !r.CanApprove:
		fmt.Fprintf(out, "Nobody can approve a request of yours yet: add the key of a second reviewer to %s\n"+
			"and sign it again, or begin anew with --reviewer or --lab.\n\n", reviews.RootPath)
	}
	fmt.Fprintf(out, `next:
  sallyport hook install
  edit connections/%[1]s.yaml, commit it, and sign it again: sallyport sign connections/%[1]s.yaml --as %[2]s
  sallyport catalog pull %[1]s
  sallyport request %[1]s --as %[3]s --reason "what it is for"
`, s.Connection, s.Owner, s.Agent)
	return nil
}
