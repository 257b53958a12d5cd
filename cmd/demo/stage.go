package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// demo is everything that the story is played on.
type demo struct {
	ctx    context.Context
	out    io.Writer
	keep   bool
	report *Report
	step   string
	failed bool

	work   string // a temporary folder; everything is in it
	psql   *peers.Tool
	server *peers.PostgresServer
	host   *peers.SSHServer

	// The people. bob reviews; alice answers for etl; etl is a program, an "agent", that only has its own key.
	bob, alice, etl *person
	etlSaw          strings.Builder // all that etl was ever shown

	remote    string // the bare repository that stands for the forge
	trustRoot string // sha256:…, as init printed it
	listen    string // where clients reach the gateway
	listenSSH string // and where those of ssh do
	secret    string // the target's password, which only gatewayd may know
	daemons   []daemon
	session   string // the session that was cut
}

// daemon is a process that runs beside the story.
type daemon struct {
	name, log string
	process   *peers.Process
}

func (d *demo) path(parts ...string) string {
	return filepath.Join(append([]string{d.work}, parts...)...)
}

// schema is the database to be protected. The gateway's role may read and write everything in it and owns
// nothing: the gateway does not mask with an owner.
const schema = `
create schema app;
grant usage, create on schema app to gateway;
create table app.customers (id int primary key, name text not null, email text not null, ssn text not null);
create table app.orders (id int primary key, customer int references app.customers, status text not null);
insert into app.customers values
	(1, 'Ada',   'ada@example.com',   '078-05-1120'),
	(2, 'Grace', 'grace@example.org', '219-09-9999'),
	(3, 'Edsger','edsger@example.net','457-55-5462');
insert into app.orders values (1, 1, 'new'), (2, 2, 'new'), (3, 3, 'paid');
grant all on all tables in schema app to gateway;`

// inTheClear are the values that no agent may ever see.
var inTheClear = []string{"ada@", "grace@", "edsger@", "078-05-", "219-09-", "457-55-"}

// setStage builds, finds and starts everything, and says so.
func (d *demo) setStage() error {
	fmt.Fprintln(d.out, d.bold("Setting the stage"))
	for _, part := range []func() error{
		d.makeFolder, d.build, d.findPeople, d.startTarget, d.startHost, d.makeAccessRepo, d.describeConnection, d.describeHost, d.startDaemons,
	} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) stage(line string) { fmt.Fprintf(d.out, "  %s\n", line) }

func (d *demo) makeFolder() (err error) {
	d.work, err = os.MkdirTemp("", "sallyport-demo-")
	return err
}

const module = "github.com/sallyport-dev/sallyport"

// build makes the two binaries as `make` would.
func (d *demo) build() error {
	d.stage("building sallyport and gatewayd (2 to 3 minutes the first time: PostgreSQL's parser is C)")
	cmd := exec.CommandContext(d.ctx, "go", "build", "-o", d.path("bin")+"/", module+"/cmd/sallyport", module+"/cmd/gatewayd")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return peers.IsolateProcess(d.work)
}

// findPeople makes the three people, each with a key that only their own ssh-agent holds, and finds psql.
func (d *demo) findPeople() (err error) {
	if d.psql, err = peers.Psql(d.ctx, d.stage); err != nil {
		return err
	}
	d.stage("keys for bob, alice and etl (ssh-keygen), each in an ssh-agent of its own")
	for name, p := range map[string]**person{"bob": &d.bob, "alice": &d.alice, "etl": &d.etl} {
		if *p, err = d.newPerson(name); err != nil {
			return err
		}
	}
	return os.MkdirAll(d.path("keys"), 0o700)
}

func (d *demo) newPerson(name string) (*person, error) {
	p := &person{name: name, home: d.path(name), clone: d.path(name, "access")}
	if err := os.MkdirAll(p.clone, 0o755); err != nil {
		return nil, err
	}
	key := filepath.Join(p.home, "id_ed25519")
	if _, err := peers.NewSSHKey(d.ctx, key, name); err != nil {
		return nil, err
	}
	agent, err := peers.SSHAgent(d.ctx)
	if err != nil {
		return nil, err
	}
	p.agent = agent
	if err := agent.Add(d.ctx, key); err != nil {
		return nil, err
	}
	p.env = append(peers.CleanEnv(d.psql.Env, p.home),
		"PATH="+d.path("bin")+":"+filepath.Dir(d.psql.Path)+":"+os.Getenv("PATH"),
		"SSH_AUTH_SOCK="+agent.Socket, "GIT_AUTHOR_NAME="+name, "GIT_AUTHOR_EMAIL="+name+"@example.com",
		"GIT_COMMITTER_NAME="+name, "GIT_COMMITTER_EMAIL="+name+"@example.com",
		"PSQLRC=/dev/null", "PSQL_HISTORY=/dev/null", "PSQL_PAGER=cat")
	return p, nil
}

// startTarget starts PostgreSQL with the schema and the role whose password the gateway alone gets.
func (d *demo) startTarget() (err error) {
	d.server, err = peers.Postgres(d.ctx, peers.PostgresOptions{Progress: d.stage, LogStatements: true})
	if err != nil {
		return err
	}
	d.secret = rand.Text()
	if err := d.server.CreateRole(d.ctx, "gateway", d.secret); err != nil {
		return err
	}
	if err := d.server.CreateDatabase(d.ctx, "shop", "grant all on database shop to gateway", schema); err != nil {
		return err
	}
	d.stage("database shop with app.customers and app.orders; its password is in a file that gatewayd reads")
	return os.WriteFile(d.path("keys", "shop.password"), []byte(d.secret+"\n"), 0o600)
}

var printedRoot = regexp.MustCompile(`trust root: (sha256:[0-9a-f]{64})`)

// makeAccessRepo is how an access repo begins: bob makes it with his key, names alice, and pushes it.
func (d *demo) makeAccessRepo() error {
	port, err := freePort()
	if err != nil {
		return err
	}
	d.listen = fmt.Sprintf("127.0.0.1:%d", port)
	d.remote = d.path("forge", "access.git")
	d.note("The access repo is a git repository. Its remote would be a forge; here it is a bare repository.")
	bare := &person{name: "forge", clone: d.work, env: d.bob.env}
	for _, words := range [][]string{
		{"git", "init", "--quiet", "--bare", "--initial-branch=main", d.remote},
	} {
		if r := d.run(bare, words...); r.code != 0 {
			return errors.New("that should have worked")
		}
	}
	if r := d.run(d.bob, "git", "clone", "--quiet", d.remote, "."); r.code != 0 {
		return errors.New("that should have worked")
	}
	r := d.run(d.bob, "sallyport", "init", ".", "--as", "user:bob", "--reviewer", "user:alice="+filepath.Join(d.alice.home, "id_ed25519.pub"),
		"--connection", "orders-db", "--target", fmt.Sprintf("postgres://gateway@127.0.0.1:%d/shop", d.server.Port),
		"--credential", "file:"+d.path("keys", "shop.password"),
		"--agent", "agent:etl", "--agent-key", filepath.Join(d.etl.home, "id_ed25519"),
		"--gateway-key", d.path("keys", "gateway"), "--release-key", d.path("keys", "release"), "--listen", d.listen)
	printed := printedRoot.FindStringSubmatch(r.stdout)
	if r.code != 0 || printed == nil {
		return errors.New("sallyport init failed")
	}
	d.trustRoot = printed[1]
	// From here on etl's key is in its ssh-agent alone.
	return os.Remove(filepath.Join(d.etl.home, "id_ed25519"))
}

// describeConnection says what is masked on the connection, signs, pulls the catalog and pushes.
func (d *demo) describeConnection() error {
	file := "connections/orders-db.yaml"
	path := filepath.Join(d.bob.clone, file)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	edited := strings.Replace(string(text), "tls: disable", "tls: verify-full\n    ca: "+d.server.CAFile, 1)
	edited = strings.Replace(edited, "  # mask:\n  #   - {column: app.customers.email, with: email}\n",
		"  mask:\n    - {column: app.customers.email, with: email}\n    - {column: app.customers.ssn, with: last4}\n", 1)
	if edited == string(text) || !strings.Contains(edited, "verify-full") || !strings.Contains(edited, "last4") {
		return fmt.Errorf("%s is not what the demo knows how to edit", file)
	}
	if err := os.WriteFile(path, []byte(edited), 0o644); err != nil {
		return err
	}
	d.note("bob says what is always masked (connections/orders-db.yaml), signs, and pulls the catalog.")
	for _, words := range [][]string{
		{"git", "commit", "--quiet", "--all", "--message", "Mask emails and ssn"},
		{"sallyport", "sign", file, "--as", "user:bob"},
		{"sallyport", "catalog", "pull", "orders-db"},
		{"git", "add", "."},
		{"git", "commit", "--quiet", "--message", "Pull the catalog of orders-db"},
		{"sallyport", "check"},
		{"git", "push", "--quiet", "origin", "HEAD:main"},
	} {
		if r := d.run(d.bob, words...); r.code != 0 {
			return errors.New("that should have worked")
		}
	}
	return nil
}

// startDaemons starts sync and gatewayd, each as a process of its own, and waits until a login could succeed.
func (d *demo) startDaemons() error {
	config := fmt.Sprintf(`name: gw1
key: keys/gateway
trustRoot: %s
release: release
state: state
recordings: {dir: recordings}
audit: {repository: %s, every: 1s}
postgres: {listen: "%s"}
%sadmin: {listen: "127.0.0.1:0"}
credentials: ["file:%s", "file:%s"]
`, d.trustRoot, d.remote, d.listen, d.sshListener(), d.path("keys", "shop.password"), d.path("keys", "web-1"))
	if err := os.WriteFile(d.path("gatewayd.yaml"), []byte(config), 0o600); err != nil {
		return err
	}
	operator := &person{name: "operator", clone: d.work, env: append(peers.CleanEnv(os.Environ(), d.work), "PATH="+os.Getenv("PATH"))}
	d.note("Two processes: sync turns merged commits into signed releases, gatewayd enforces them.")
	for _, words := range [][]string{
		{"sallyport", "sync", "--remote", d.remote, "--out", "release", "--state", "sync-state", "--key", "keys/release",
			"--trust-root", d.trustRoot, "--watch", "--every", "200ms"},
		{"gatewayd", "--config", "gatewayd.yaml"},
	} {
		if err := d.startDaemon(operator, words...); err != nil {
			return err
		}
	}
	ready := func() bool { s, err := d.status(); return err == nil && s.Ready }
	if err := d.await("the gateway is ready", 30*time.Second, ready); err != nil {
		return err
	}
	if r := d.run(operator, "gatewayd", "status", "--config", "gatewayd.yaml"); r.code != 0 {
		return errors.New("gatewayd is not ready")
	}
	return nil
}

func (d *demo) startDaemon(p *person, words ...string) error {
	d.prompt(p, shellWords(words)+" &", "")
	log, err := os.Create(d.path(words[0] + ".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := d.command(context.WithoutCancel(d.ctx), p, words...)
	cmd.Cancel, cmd.WaitDelay = nil, 0
	cmd.Stdout, cmd.Stderr = log, log
	process, err := peers.Guard(cmd, "TERM", d.work) // if the demo is killed, the folder goes with its daemons
	if err != nil {
		return err
	}
	d.daemons = append(d.daemons, daemon{name: words[0], log: log.Name(), process: process})
	return nil
}

// status is what the gateway's /status says, as far as the story needs it.
type status struct {
	Ready    bool
	Release  *struct{ Commit string }
	Sessions []struct{ ID string }
	Audit    struct{ Waiting int }
}

func (d *demo) status() (*status, error) {
	address, err := os.ReadFile(d.path("state", "admin.addr"))
	if err != nil {
		return nil, err
	}
	response, err := http.Get("http://" + strings.TrimSpace(string(address)) + "/status")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	s := &status{}
	return s, json.NewDecoder(response.Body).Decode(s)
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// printLogs shows the end of the daemons' logs after a failure.
func (d *demo) printLogs() {
	for _, daemon := range d.daemons {
		text, err := os.ReadFile(daemon.log)
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		d.note("The end of the log of %s:", daemon.name)
		d.print(strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
}

// close stops everything, the newest first, and removes the folder.
func (d *demo) close() {
	for i := len(d.daemons) - 1; i >= 0; i-- {
		d.daemons[i].process.Stop(5*time.Second, syscall.SIGTERM)
	}
	var problems []error
	for _, p := range []*person{d.bob, d.alice, d.etl} {
		if p != nil && p.agent != nil {
			problems = append(problems, p.agent.Stop())
		}
	}
	if d.server != nil {
		problems = append(problems, d.server.Stop())
	}
	if d.host != nil {
		problems = append(problems, d.host.Stop())
	}
	if d.work != "" {
		problems = append(problems, os.RemoveAll(d.work))
	}
	if err := errors.Join(problems...); err != nil {
		fmt.Fprintf(d.out, "cleaning up: %v\n", err)
	}
}
