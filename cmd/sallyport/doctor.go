package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres"
	"github.com/sallyport-dev/sallyport/reviews"
)

// doctorOptions are the flags of doctor.
type doctorOptions struct {
	as, key, trustRoot, status, recordings string
}

func newDoctor(g *globals) *cobra.Command {
	o := &doctorOptions{}
	c := &cobra.Command{
		Use:   "doctor [CONNECTION]",
		Short: "Check this machine: keys, clock, git, remote, trust root, target and disk",
		Long: `doctor looks at what sallyport needs on this machine and says of each thing whether it
is ok, and otherwise what to do. It changes nothing.

It checks git, its settings that would change bytes, where it finds hooks, the clone and its remote, the
protection of the merged branch where the forge is set up, the documents that are
merged, the trust root (--trust-root compares the digest that gateways pin), your keys
and whose they are, and the clock against commits, the remote and the gateway.

With a connection it reaches its gateways and, where its credential is on this machine
(set the variable, or have the file, that gatewayd has), logs in to the target as
gatewayd does: TLS, and powers of the role that no gateway needs. --status asks a
gateway's admin listener, --recordings looks at the disk of a recordings folder.

Exit code 0: all is ok; 3: there are warnings; 1: something fails.`,
		Example: `  sallyport doctor
  sallyport doctor --as user:bob --key ~/.ssh/id_ed25519 --trust-root sha256:9b1e…
  ORDERS_DB_PASSWORD=… sallyport doctor orders-db --json
  sallyport doctor --status http://127.0.0.1:9090 --recordings /var/lib/sallyport/recordings`,
		Args: arguments(0, 1, "CONNECTION"),
		RunE: func(c *cobra.Command, args []string) error {
			if o.as != "" && !reviews.IsPrincipal(o.as) {
				return usage("--as %q is not a principal such as user:bob", o.as)
			}
			if o.trustRoot != "" && !strings.HasPrefix(o.trustRoot, "sha256:") {
				return usage("--trust-root %s: write sha256: and the digest of trust/root.yaml", oneLine(o.trustRoot))
			}
			d := &diagnosis{Findings: []finding{}}
			connection := ""
			if len(args) == 1 {
				connection = args[0]
			}
			o.run(c.Context(), g, d, connection)
			return d.tell(c.OutOrStdout(), g.json)
		},
	}
	f := c.Flags()
	f.StringVar(&o.as, "as", "", "you, as a principal: its key has to be here")
	f.StringVar(&o.key, "key", "", "a private key file to look at (default: ~/.ssh/id_ed25519, if there is one)")
	f.StringVar(&o.trustRoot, "trust-root", "", "the digest that gateways and sync pin, sha256:…")
	f.StringVar(&o.status, "status", "", "a gateway's admin address, such as http://127.0.0.1:9090")
	recordingsFlag(c, &o.recordings)
	g.jsonFlag(c)
	return c
}

// The levels of findings, from good to bad.
const (
	levelOK = iota
	levelWarn
	levelFail
)

var levels = []string{"ok", "warn", "fail"}

// finding is one line of a diagnosis.
type finding struct {
	Level string `json:"level"` // ok | warn | fail
	What  string `json:"what"`
	Found string `json:"found"`
	Do    string `json:"do,omitempty"`
}

// diagnosis collects findings.
type diagnosis struct {
	Worst    string    `json:"worst"`
	Findings []finding `json:"findings"`

	level int
}

func (d *diagnosis) add(level int, what, found, do string) {
	d.level = max(d.level, level)
	d.Findings = append(d.Findings, finding{levels[level], what, oneLine(found), oneLine(do)})
}

func (d *diagnosis) ok(what, format string, args ...any) {
	d.add(levelOK, what, fmt.Sprintf(format, args...), "")
}

func (d *diagnosis) tell(out io.Writer, asJSON bool) error {
	d.Worst = levels[d.level]
	if asJSON {
		if err := printJSON(out, d); err != nil {
			return err
		}
	} else {
		for _, f := range d.Findings {
			fmt.Fprintf(out, "%-4s  %-12s %s\n", f.Level, f.What, f.Found)
			if f.Do != "" {
				fmt.Fprintf(out, "%19s→ %s\n", "", f.Do)
			}
		}
	}
	switch d.level {
	case levelWarn:
		return &failure{code: exitWarnings, err: errors.New("")}
	case levelFail:
		return errQuiet
	}
	return nil
}

func (o *doctorOptions) run(ctx context.Context, g *globals, d *diagnosis, connection string) {
	d.gitVersion(ctx)
	var tree *reviews.Tree
	repo, err := g.workTree(ctx)
	if err != nil {
		d.add(levelFail, "access repo", err.Error(), "run this in your clone of the access repo, or name it with --repo")
	} else {
		d.gitSettings(ctx, repo.git)
		d.hooks(ctx, repo.git)
		address := d.remote(ctx, repo)
		tree = o.documents(ctx, d, repo)
		d.protection(ctx, g, repo)
		d.commitClock(ctx, repo)
		d.remoteClock(ctx, address)
	}
	o.keys(d, tree)
	if o.status != "" {
		d.gatewayState(ctx, o.status)
	}
	if connection != "" {
		d.connection(ctx, tree, connection)
	}
	if o.recordings != "" {
		d.disk(o.recordings)
	}
}

// gitVersion: what this program calls exists since 2.28.
func (d *diagnosis) gitVersion(ctx context.Context) {
	out, err := (&workTree{dir: "."}).git(ctx, "version")
	if err != nil {
		d.add(levelFail, "git", err.Error(), "install git: sallyport drives your own")
		return
	}
	version := strings.TrimPrefix(out, "git version ")
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil || major < 2 || major == 2 && minor < 28 {
		d.add(levelWarn, "git", version+" is older than 2.28", "update git")
		return
	}
	d.ok("git", "%s", version)
}

// gitSettings: nothing may rewrite bytes that are signed.
func (d *diagnosis) gitSettings(ctx context.Context, work *workTree) {
	attributes, err := work.git(ctx, "check-attr", "text", "filter", "working-tree-encoding", "ident", "--", reviews.ConfigPath, "reviews/x/y.yaml", "policies/x.rego", "reviews/x/y.yaml.sigs/z.sig")
	if err != nil {
		d.add(levelFail, "git bytes", err.Error(), "")
		return
	}
	protected := true
	for _, line := range strings.Split(attributes, "\n") {
		fields := strings.Split(line, ": ")
		if len(fields) != 3 {
			continue
		}
		if fields[1] == "text" {
			protected = protected && fields[2] == "unset"
		} else if fields[2] != "unspecified" && fields[2] != "unset" {
			d.add(levelFail, "git bytes", fmt.Sprintf("the attribute %s=%s applies to %s: git may change what was signed", fields[1], fields[2], fields[0]), "take it out of .gitattributes, .git/info/attributes and your own attributes file")
			return
		}
	}
	autocrlf, _ := work.git(ctx, "config", "--get", "core.autocrlf")
	switch {
	case protected:
		d.ok("git bytes", "no attribute changes them")
	case autocrlf != "" && autocrlf != "false":
		d.add(levelFail, "git bytes", "core.autocrlf="+autocrlf+" and no `* -text` in .gitattributes: git changes what was signed", "git config core.autocrlf false, and commit .gitattributes with: * -text")
	default:
		d.add(levelWarn, "git bytes", ".gitattributes does not say `* -text`: on a machine with core.autocrlf git would change what was signed", "commit .gitattributes with: * -text")
	}
	if _, err := work.git(ctx, "var", "GIT_COMMITTER_IDENT"); err != nil {
		d.add(levelWarn, "git identity", "git knows neither your name nor your address", "git config --global user.name NAME; git config --global user.email ADDRESS")
	}
}

// hooks: a hook that branches can write is a program of whoever wrote the branch.
func (d *diagnosis) hooks(ctx context.Context, work *workTree) {
	folder, err := work.hooksFolder(ctx)
	if err != nil {
		d.add(levelFail, "git hooks", err.Error(), "")
		return
	}
	switch inTree, err := work.tracks(ctx, folder); {
	case err != nil:
		d.add(levelFail, "git hooks", err.Error(), "")
	case inTree:
		d.add(levelFail, "git hooks", folder+" lies in the work tree: whoever writes a branch that you check out runs programs on this machine", "sallyport hook install")
	default:
		d.ok("git hooks", "%s, which no branch can write", folder)
	}
}

// remote says whether the remote answers and how far the clone is behind it. It
// returns the remote's address.
func (d *diagnosis) remote(ctx context.Context, repo *accessRepo) string {
	name := repo.git.remote(ctx)
	if name == "" {
		d.add(levelWarn, "remote", "the clone has none", "git remote add origin URL, so that others see what you ask for and sign")
		return ""
	}
	address, _ := repo.git.git(ctx, "remote", "get-url", name)
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	asked := &workTree{dir: repo.git.dir, env: []string{"GIT_TERMINAL_PROMPT=0", "GIT_SSH_COMMAND=" + sshCommand()}}
	out, err := asked.git(ctx, "ls-remote", "--heads", name, repo.branch)
	if err != nil {
		d.add(levelFail, "remote", fmt.Sprintf("%s does not answer: %v", name, err), "check the address (git remote -v), the network and your access to it")
		return address
	}
	head, _, _ := strings.Cut(out, "\t")
	if head == "" {
		d.add(levelFail, "remote", fmt.Sprintf("%s has no branch %s", name, repo.branch), "push it, or correct spec.branch of "+reviews.ConfigPath)
		return address
	}
	known, _ := repo.git.git(ctx, "rev-parse", "--verify", "--quiet", "refs/remotes/"+name+"/"+repo.branch)
	if known != head {
		d.add(levelWarn, "remote", fmt.Sprintf("%s answers, and its %s has moved since the last fetch", name, repo.branch), "git fetch "+name)
		return address
	}
	d.ok("remote", "%s answers; %s is up to date", name, repo.branch)
	return address
}

// sshCommand is the person's own, without questions.
func sshCommand() string {
	if own := os.Getenv("GIT_SSH_COMMAND"); own != "" {
		return own
	}
	return "ssh -o BatchMode=yes"
}

func (d *diagnosis) protection(ctx context.Context, g *globals, repo *accessRepo) {
	f, err := g.forgeFor(ctx, repo)
	if err != nil {
		d.add(levelFail, "protection", err.Error(), "")
		return
	}
	if f.protection == nil {
		d.add(levelWarn, "protection", fmt.Sprintf("of %s is not checked: no forge is set up here that could be asked", repo.branch), "see to it yourself that it takes pull requests only, and no force push")
		return
	}
	lacks, err := f.protection(ctx, repo.branch)
	if err != nil {
		d.add(levelFail, "protection", err.Error(), "")
		return
	}
	for _, lack := range lacks {
		d.add(levelFail, "protection", repo.branch+": "+lack, "change it in the forge's settings of the branch")
	}
	if len(lacks) == 0 {
		d.ok("protection", "%s is protected", repo.branch)
	}
}

// documents loads what is merged, and compares the trust root with the pin.
func (o *doctorOptions) documents(ctx context.Context, d *diagnosis, repo *accessRepo) *reviews.Tree {
	merged, err := repo.merged(ctx)
	if err != nil {
		d.add(levelFail, "documents", err.Error(), "fetch the remote")
		return nil
	}
	tree, err := reviews.Load(merged.files, merged.options(reviews.RequireApprovals))
	switch {
	case err != nil:
		d.add(levelFail, "documents", fmt.Sprintf("nothing of %s can be granted: %v", merged.ref, err), "sallyport check --require-approved --ref "+merged.ref)
	case len(tree.Problems) > 0:
		d.add(levelWarn, "documents", fmt.Sprintf("%s of %s are closed, the first: %v", count(len(tree.Problems), "name"), merged.ref, tree.Problems[0].Error()), "sallyport check --require-approved --ref "+merged.ref)
	default:
		d.ok("documents", "%s: %s on %s, all approved", merged.ref, count(len(tree.Reviews), "review"), count(len(tree.Connections), "connection"))
	}
	if tree == nil || tree.Root == nil {
		return nil
	}
	digest := "sha256:" + tree.Root.Source.SHA256
	switch o.trustRoot {
	case "":
		d.ok("trust root", "%s, not compared with a pin (--trust-root)", digest)
	case digest:
		d.ok("trust root", "%s, as pinned", digest)
	default:
		d.add(levelFail, "trust root", "it is "+digest+", and the pin is "+o.trustRoot, "find out who changed trust/root.yaml (git log -- trust) before you trust this clone; if it was changed rightly, gateways and sync need the new pin")
	}
	return tree
}

// Skew is forgiven up to 30 s at the gateway.
const (
	skewWarn = 10 * time.Second
	skewFail = 30 * time.Second
)

// commitClock: a commit from the future means that one of the two clocks is wrong.
func (d *diagnosis) commitClock(ctx context.Context, repo *accessRepo) {
	out, err := repo.git.git(ctx, "log", "-1", "--format=%ct", "--all")
	seconds, parseErr := strconv.ParseInt(out, 10, 64)
	if err != nil || parseErr != nil {
		return // there is no commit; the documents' line says so
	}
	if ahead := time.Until(time.Unix(seconds, 0)); ahead > skewFail {
		d.add(levelWarn, "clock", fmt.Sprintf("the newest commit is from %s in the future", span(ahead)), "set this machine's clock (NTP), or ask whose clock made that commit")
		return
	}
	d.ok("clock", "no commit is from the future")
}

// remoteClock asks a remote on the web for its time.
func (d *diagnosis) remoteClock(ctx context.Context, address string) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return // others tell no time
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	root := url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/"} // without user and password
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, root.String(), nil)
	if err != nil {
		return
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		d.add(levelWarn, "clock", u.Host+" tells no time: "+err.Error(), "")
		return
	}
	response.Body.Close()
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		d.skew(u.Host, date)
	}
}

// skew compares this clock with another one that tells whole seconds.
func (d *diagnosis) skew(whose string, date time.Time) {
	off := time.Since(date).Abs()
	what := fmt.Sprintf("%s from that of %s", off.Round(time.Second), whose)
	switch {
	case off > skewFail:
		d.add(levelFail, "clock", what, "set this machine's clock (NTP): tokens made here are refused")
	case off > skewWarn:
		d.add(levelWarn, "clock", what, "set this machine's clock (NTP)")
	default:
		d.ok("clock", "%s", what)
	}
}

// keys looks at the agent and at key files, and whose keys they are.
func (o *doctorOptions) keys(d *diagnosis, tree *reviews.Tree) {
	mine := make(map[string]bool) // principals with a usable key here
	usable := 0
	if conn, err := dialAgent(); err != nil {
		d.ok("ssh-agent", "%v", err)
	} else {
		held, err := agent.NewClient(conn).List()
		conn.Close()
		if err != nil {
			d.add(levelWarn, "ssh-agent", err.Error(), "start it anew: eval \"$(ssh-agent)\" && ssh-add")
		}
		for _, key := range held {
			public, err := ssh.ParsePublicKey(key.Blob)
			if err != nil || reviews.AllowedKey(public) != nil {
				continue
			}
			usable++
			d.keyOf(tree, public, "in the ssh-agent", mine)
		}
		if err == nil && usable == 0 {
			d.ok("ssh-agent", "it holds no ed25519 key")
		}
	}
	usable += o.keyFile(d, tree, mine)
	switch {
	case o.as != "" && tree != nil && !mine[o.as]:
		d.add(levelFail, "keys", "no usable key of "+o.as+" is here", "add it to the agent (ssh-add), or name its file with --key; its keys are: "+strings.Join(fingerprints(tree.Keys(o.as)), ", "))
	case usable == 0:
		d.add(levelWarn, "keys", "no ed25519 key is here", "make one: ssh-keygen -t ed25519")
	}
}

// keyFile looks at one private key file: who can read it, and whose it is.
func (o *doctorOptions) keyFile(d *diagnosis, tree *reviews.Tree, mine map[string]bool) int {
	path := o.key
	if path == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return 0
		}
		path = filepath.Join(home, ".ssh", "id_ed25519")
		if _, err := os.Stat(path); err != nil {
			return 0
		}
	}
	path = strings.TrimSuffix(path, ".pub")
	info, err := os.Stat(path)
	if err != nil {
		d.add(levelFail, "key file", err.Error(), "name the private key's file")
		return 0
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		d.add(levelFail, "key file", fmt.Sprintf("%s can be read by others (mode %04o)", path, mode), "chmod 0600 "+path+"; if others could log in here, make a new key and revoke this one")
	}
	if folder, err := os.Stat(filepath.Dir(path)); err == nil && folder.Mode().Perm()&0o022 != 0 && folder.Mode()&os.ModeSticky == 0 && runtime.GOOS != "windows" {
		d.add(levelFail, "key file", fmt.Sprintf("others can replace it: folder %s has mode %04o", filepath.Dir(path), folder.Mode().Perm()), "chmod 0700 "+filepath.Dir(path))
	}
	// The public half alone is read: nobody is asked for a passphrase.
	b, err := os.ReadFile(path + ".pub")
	if err != nil {
		d.ok("key file", "%s; whose it is cannot be told without %s.pub", path, path)
		return 1
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(b)
	if err == nil {
		err = reviews.AllowedKey(public)
	}
	if err != nil {
		d.add(levelWarn, "key file", path+".pub: "+err.Error(), "use an ed25519 key: ssh-keygen -t ed25519")
		return 0
	}
	d.keyOf(tree, public, path, mine)
	return 1
}

// keyOf says whose key it is, and whether it may be used.
func (d *diagnosis) keyOf(tree *reviews.Tree, key ssh.PublicKey, where string, mine map[string]bool) {
	fingerprint := ssh.FingerprintSHA256(key)
	if tree == nil {
		d.ok("key", "%s %s", fingerprint, where)
		return
	}
	for _, name := range tree.PrincipalNames() {
		for _, k := range tree.Keys(name) {
			if !holds([]reviews.Key{k}, key) {
				continue
			}
			mine[name] = true
			if !k.NotAfter.IsZero() && time.Until(k.NotAfter) < 14*24*time.Hour {
				d.add(levelWarn, "key", fmt.Sprintf("%s %s is %s's, until %s only", fingerprint, where, name, stamp(k.NotAfter)), "have a new key added before that")
				return
			}
			d.ok("key", "%s %s is %s's", fingerprint, where, name)
			return
		}
	}
	for _, r := range tree.Root.Spec.Revoked {
		if r.Fingerprint == fingerprint {
			d.add(levelFail, "key", fmt.Sprintf("%s %s is revoked: %s", fingerprint, where, r.Reason), "use another key, and remove this one")
			return
		}
	}
	d.ok("key", "%s %s is nobody's that may be used here", fingerprint, where)
}

func (d *diagnosis) gatewayState(ctx context.Context, address string) {
	status, date, err := gatewayStatus(ctx, address)
	if err != nil {
		d.add(levelFail, "gateway", "no status from "+address+": "+err.Error(), "is gatewayd running, with admin.listen at this address?")
		return
	}
	switch {
	case !status.Ready:
		d.add(levelFail, "gateway", status.Gateway+" is not ready", status.NextAction)
	case status.LastError != "":
		d.add(levelWarn, "gateway", status.Gateway+": "+status.LastError, status.NextAction)
	default:
		d.ok("gateway", "%s enforces release %d, valid until %s", status.Gateway, status.Release.Sequence, stamp(status.Release.ValidUntil))
	}
	if !date.IsZero() {
		d.skew("gateway "+status.Gateway, date)
	}
}

// connection reaches the gateways, and the target where its credential is here.
func (d *diagnosis) connection(ctx context.Context, tree *reviews.Tree, name string) {
	if tree == nil || tree.Connections[name] == nil {
		d.add(levelFail, "connection", fmt.Sprintf("no connection %s is approved and merged", name), "sallyport check --require-approved says why")
		return
	}
	c := tree.Connections[name]
	for _, gateway := range tree.Root.Spec.Gateways {
		if address := addressOf(tree, gateway.Name, "postgres"); address != "" {
			d.reach(ctx, gateway, address)
		}
	}
	if c.Spec.Protocol != "postgres" {
		d.ok("target", "not checked: doctor knows databases only, and %s speaks %s", name, c.Spec.Protocol)
		return
	}
	switch err := unapproved(c); {
	case err != nil:
		d.add(levelWarn, "catalog", "that of "+name+" is not approved, so that examples cannot run", "sallyport check --require-approved says what it lacks")
	case c.Catalog == nil:
		d.add(levelWarn, "catalog", name+" has none, so that examples cannot run", "sallyport catalog pull "+name)
	}
	secret, err := credential.Resolve(ctx, c.Spec.Credential)
	if err != nil {
		d.ok("target", "not checked: %v", err)
		return
	}
	probe, err := postgres.ProbeTarget(ctx, c, secret)
	if err != nil {
		d.add(levelFail, "target", err.Error(), fmt.Sprintf("see that %s:%d answers this machine, and that target and credential of %s are right", c.Spec.Target.Host, c.Spec.Target.Port, c.Source.Path))
		return
	}
	d.ok("target", "PostgreSQL %s answers as role %s", probe.Server, probe.Role)
	if probe.TLS == "" {
		d.add(levelWarn, "target tls", "there is none; it is for loopback only", "tls: verify-full, as soon as the target is another machine")
	} else {
		d.ok("target tls", "%s, verified", probe.TLS)
	}
	for _, power := range probe.Powers {
		d.add(levelWarn, "target role", probe.Role+" "+power, "have the gateway log in with a role of its own that has only the grants that reviews give")
	}
	if len(probe.Powers) == 0 {
		d.ok("target role", "%s has no power beyond its grants", probe.Role)
	}
}

// reach does what `sallyport connect` begins with: TLS with the key that the trust root pins.
func (d *diagnosis) reach(ctx context.Context, gateway reviews.Gateway, address string) {
	if address == "" {
		d.add(levelWarn, "gateway", reviews.ConfigPath+" does not say where "+gateway.Name+" listens", "add it to spec.gateways")
		return
	}
	config, err := identity.ClientTLS(gateway)
	if err != nil {
		d.add(levelFail, "gateway", err.Error(), "correct the trust root")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := (&tunnel{gateway: address, tls: config}).dial(ctx)
	if err != nil {
		d.add(levelFail, "gateway", err.Error(), "see that gatewayd runs at "+address+" and that this machine may reach it")
		return
	}
	conn.Close()
	d.ok("gateway", "%s answers at %s with the key that the trust root pins", gateway.Name, address)
}

// disk: a gateway that cannot record lets nobody in.
func (d *diagnosis) disk(folder string) {
	free, whole, err := diskSpace(folder)
	if err != nil {
		d.add(levelFail, "disk", err.Error(), "name the folder that recordings.dir of the gateway's configuration names")
		return
	}
	found := fmt.Sprintf("%s has %s free of %s", folder, size(free), size(whole))
	const do = "make room, or move old recordings away: a gateway that cannot record lets nobody in"
	switch {
	case free < 256<<20:
		d.add(levelFail, "disk", found, do)
	case free < 2<<30 || free < whole/20:
		d.add(levelWarn, "disk", found, do)
	default:
		d.ok("disk", "%s", found)
	}
}

func size(n uint64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
