//go:build forge

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// stage is everything real that the road of a pull request needs: the two binaries as they are built, a Gitea, a PostgreSQL, git,
// psql, and people who each have a home, a key, an account on the forge and a clone.
type stage struct {
	*testing.T
	dir    string
	gitea  *peers.GiteaServer
	target *peers.PostgresServer
	psql   *peers.Tool
	people map[string]*actor

	trustRoot, listen, secret string
	daemons                   []daemon
}

// actor is somebody with a key and an account.
type actor struct {
	name, home, clone string
	account           peers.GiteaUser
	env               []string
}

// actors are root, who owns the repository on the forge; carol, who made the access repo; alice, who asks; bob, who reviews; robot, whose
// token sync and gatewayd use; job, whose token stands for that of a CI job; and etl, the program.
var actors = []string{"root", "carol", "alice", "bob", "robot", "job", "etl"}

const repository = "repos/root/access/"

func newStage(t *testing.T) *stage {
	t.Helper()
	peers.IsolateEnv(t)
	s := &stage{T: t, dir: t.TempDir(), people: map[string]*actor{}, secret: rand.Text()}
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", s.path("bin")+"/", module+"/cmd/sallyport", module+"/cmd/gatewayd").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	s.psql, err = peers.Psql(t.Context(), nil)
	s.must(err)
	s.gitea, err = peers.Gitea(t.Context(), nil)
	s.must(err)
	t.Cleanup(func() { _ = s.gitea.Stop() })
	s.target = peers.SharedPostgres(t)
	for _, name := range actors {
		s.people[name] = s.newActor(name)
	}
	s.call("root", "POST", "user/repos", map[string]any{"name": "access", "private": true, "default_branch": "main"}, nil)
	for _, name := range actors[1:] {
		s.call("root", "PUT", repository+"collaborators/"+name, map[string]string{"permission": "write"}, nil)
	}
	t.Cleanup(s.close)
	s.makeAccessRepo()
	return s
}

func (s *stage) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

func (s *stage) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// remote is the access repo as everybody knows it: without a password.
func (s *stage) remote() string { return s.gitea.URL + "/root/access.git" }

func (s *stage) newActor(name string) *actor {
	s.Helper()
	a := &actor{name: name, home: s.path("home", name), clone: s.path("home", name, "access"), account: s.gitea.Admin}
	s.must(os.MkdirAll(a.home, 0o700))
	var err error
	if name != "root" {
		a.account, err = s.gitea.NewUser(s.Context(), name)
		s.must(err)
	}
	_, err = peers.NewSSHKey(s.Context(), filepath.Join(a.home, "key"), name)
	s.must(err)
	host := strings.TrimPrefix(s.gitea.URL, "http://")
	s.must(os.WriteFile(filepath.Join(a.home, ".git-credentials"), fmt.Appendf(nil, "http://%s:%s@%s\n", a.account.Name, a.account.Token, host), 0o600))
	s.must(os.WriteFile(filepath.Join(a.home, ".gitconfig"), fmt.Appendf(nil, "[user]\nname = %s\nemail = %[1]s@example.com\n[credential]\nhelper = store\n", name), 0o600))
	a.env = append(peers.CleanEnv(s.psql.Env, a.home), "PATH="+s.path("bin")+":"+filepath.Dir(s.psql.Path)+":"+os.Getenv("PATH"),
		"GIT_CONFIG_GLOBAL="+filepath.Join(a.home, ".gitconfig"), "SALLYPORT_FORGE_TOKEN="+a.account.Token,
		"PSQLRC=/dev/null", "PSQL_HISTORY=/dev/null", "PSQL_PAGER=cat")
	return a
}

// try is one request to the forge, as the account of a person.
func (s *stage) try(who, method, path string, body, answer any) error {
	return s.gitea.Call(s.Context(), s.people[who].account, method, path, body, answer)
}

func (s *stage) call(who, method, path string, body, answer any) {
	s.Helper()
	s.must(s.try(who, method, path, body, answer))
}

// command prepares what a person types, in their clone once they have one.
func (s *stage) command(ctx context.Context, who string, words ...string) *exec.Cmd {
	a := s.people[who]
	program := words[0]
	if program == "sallyport" || program == "gatewayd" {
		program = s.path("bin", program)
	}
	cmd := exec.CommandContext(ctx, program, words[1:]...)
	cmd.Dir, cmd.Env = a.home, a.env
	if _, err := os.Stat(a.clone); err == nil {
		cmd.Dir = a.clone
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run types a command and waits for its end, whatever that is.
func (s *stage) run(who string, words ...string) result {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 2*time.Minute)
	defer cancel()
	return s.finish(s.command(ctx, who, words...))
}

func (s *stage) finish(cmd *exec.Cmd) result {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		s.Errorf("%v: %v", cmd.Args, err)
		return result{code: -1}
	}
	return result{stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode(), ended: time.Now()}
}

// do is run for what has to succeed.
func (s *stage) do(who string, words ...string) string {
	s.Helper()
	r := s.run(who, words...)
	if r.code != 0 {
		s.Fatalf("%s$ %s: exit code %d\n%s", who, shellWords(words), r.code, r.all())
	}
	return r.stdout
}

// refused is run for what must not succeed, and has to say why.
func (s *stage) refused(who, why string, words ...string) {
	s.Helper()
	if r := s.run(who, words...); r.code == 0 || !strings.Contains(r.all(), why) {
		s.Errorf("%s$ %s: exit code %d, and it does not say %q:\n%s", who, shellWords(words), r.code, why, r.all())
	}
}

// eventually waits for what other processes do. The error says what is still missing.
func (s *stage) eventually(what string, most time.Duration, done func() error) time.Duration {
	s.Helper()
	began := time.Now()
	for {
		err := done()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > most {
			s.Fatalf("not in %s: %s: %v\n%s", most, what, err, s.logs())
		}
		for _, d := range s.daemons {
			if err := d.process.Err(); err != nil {
				s.Fatalf("%s: %s ended: %v\n%s", what, d.name, err, s.logs())
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// logs are the ends of what the daemons wrote.
func (s *stage) logs() string {
	var all strings.Builder
	for _, d := range s.daemons {
		lines := strings.Split(strings.TrimSpace(s.logOf(d.name)), "\n")
		fmt.Fprintf(&all, "--- %s\n%s\n", d.name, strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
	return all.String()
}

func (s *stage) logOf(name string) string {
	b, err := os.ReadFile(s.path(name + ".log"))
	s.must(err)
	return string(b)
}

// makeAccessRepo is carol's day: init with approvals of pull requests, two connections to the same database, the trust root's people
// with their accounts, and all of it pushed.
func (s *stage) makeAccessRepo() {
	s.Helper()
	database := s.target.NewDatabase(s, strings.NewReplacer("schema app authorization gateway", "schema app", "set role gateway;", "").Replace(schema))
	role := "gw_" + database
	s.must(s.target.CreateRole(s.Context(), role, s.secret))
	s.must(s.target.Exec(s.Context(), database, fmt.Sprintf("grant usage on schema app to %s; grant all on all tables in schema app to %[1]s", role)))
	s.must(os.WriteFile(s.path("password"), []byte(s.secret+"\n"), 0o600))
	port, err := freePort()
	s.must(err)
	s.listen = fmt.Sprintf("127.0.0.1:%d", port)

	id := func(name string) string { return fmt.Sprint("user:", name, "=", s.people[name].account.ID) }
	public := func(name string) string { return "user:" + name + "=" + s.path("home", name, "key.pub") }
	printed := printedRoot.FindStringSubmatch(s.do("carol", "sallyport", "init", "access", "--as", "user:carol", "--key", s.path("home", "carol", "key"), "--keys", s.path("keys"),
		"--reviewer", public("alice"), "--reviewer", public("bob"), "--approvals", "forge", "--auto-approve", "--forge", "gitea", "--repository", s.remote(),
		"--account", id("alice"), "--account", id("bob"), "--account", id("carol"),
		"--target", fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s", role, s.target.Port, database), "--credential", "file:"+s.path("password"),
		"--agent-key", s.path("home", "etl", "key"), "--listen", s.listen))
	if printed == nil {
		s.Fatal("init prints no trust root")
	}
	s.trustRoot = printed[1]

	clone := s.people["carol"].clone
	b, err := os.ReadFile(filepath.Join(clone, "connections", "orders-db.yaml"))
	s.must(err)
	text := strings.Replace(string(b), "tls: disable", "tls: verify-full\n    ca: "+s.target.CAFile, 1)
	text = strings.Replace(text, "  # mask:\n  #   - {column: app.customers.email, with: email}\n", "  mask:\n    - {column: app.customers.email, with: email}\n    - {column: app.customers.ssn, with: last4}\n", 1)
	if !strings.Contains(text, "verify-full\n") || !strings.Contains(text, "last4") || !strings.Contains(text, "risk: high") {
		s.Fatalf("init's connection is another one:\n%s", text)
	}
	s.write("carol", "connections/orders-db.yaml", text)
	s.write("carol", "connections/reports-db.yaml", strings.NewReplacer("orders-db", "reports-db", "risk: high", "risk: low").Replace(text))
	s.do("carol", "git", "add", ".")
	s.do("carol", "git", "commit", "--quiet", "--message", "Describe the connections")
	for _, name := range []string{"orders-db", "reports-db"} {
		s.do("carol", "sallyport", "sign", "connections/"+name+".yaml", "--as", "user:carol", "--key", s.path("home", "carol", "key"))
		s.do("carol", "sallyport", "catalog", "pull", name)
	}
	s.do("carol", "git", "add", ".")
	s.do("carol", "git", "commit", "--quiet", "--message", "Pull the catalogs")
	s.do("carol", "sallyport", "check", "--require-approved")
	s.do("carol", "sallyport", "test")
	s.do("carol", "git", "remote", "add", "origin", s.remote())
	s.do("carol", "git", "push", "--quiet", "--set-upstream", "origin", "main")
	for _, name := range []string{"alice", "bob"} {
		s.do(name, "git", "clone", "--quiet", s.remote(), "access")
	}
}

func (s *stage) write(who, file, text string) {
	s.Helper()
	path := filepath.Join(s.people[who].clone, file)
	s.must(os.MkdirAll(filepath.Dir(path), 0o755))
	s.must(os.WriteFile(path, []byte(text), 0o644))
}

// start runs a daemon as robot would, with the environment given on top.
func (s *stage) start(name string, env []string, words ...string) {
	s.Helper()
	log, err := os.Create(s.path(name + ".log"))
	s.must(err)
	defer log.Close()
	cmd := s.command(context.WithoutCancel(s.Context()), "robot", words...)
	cmd.Dir, cmd.Cancel, cmd.WaitDelay = s.dir, nil, 0
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = log, log
	process, err := peers.Guard(cmd, "TERM", "")
	s.must(err)
	s.daemons = append(s.daemons, daemon{name: name, log: log.Name(), process: process})
}

func (s *stage) close() {
	for i := len(s.daemons) - 1; i >= 0; i-- {
		s.daemons[i].process.Stop(5*time.Second, syscall.SIGTERM)
	}
	if s.Failed() {
		s.Log(s.logs())
	}
}

var hooksOn = regexp.MustCompile(`webhooks on (127\.0\.0\.1:[0-9]+)`)

// startDaemons starts sync, which asks the remote every ten minutes and otherwise waits to be woken, and gatewayd.
func (s *stage) startDaemons() {
	s.Helper()
	hookSecret := rand.Text()
	s.start("sync", []string{"FORGE_TOKEN=" + s.people["robot"].account.Token, "HOOK_SECRET=" + hookSecret},
		"sallyport", "sync", "--remote", s.remote(), "--out", "release", "--state", "sync-state", "--key", "keys/release", "--trust-root", s.trustRoot,
		"--attester-key", "keys/attester", "--forge-token", "env:FORGE_TOKEN", "--watch", "--every", "10m", "--hooks", "127.0.0.1:0", "--hook-secret", "env:HOOK_SECRET")
	address := ""
	s.eventually("sync listens for webhooks", time.Minute, func() error {
		if m := hooksOn.FindStringSubmatch(s.logOf("sync")); m != nil {
			address = m[1]
			return nil
		}
		return errors.New("it does not say where")
	})
	s.call("root", "POST", repository+"hooks", map[string]any{
		"type": "gitea", "active": true, "events": []string{"push", "pull_request", "pull_request_review_approved", "pull_request_review_rejected"},
		"config": map[string]string{"url": "http://" + address + "/hook", "content_type": "json", "secret": hookSecret},
	}, nil)

	robot := s.people["robot"].account
	s.must(os.WriteFile(s.path("gatewayd.yaml"), fmt.Appendf(nil, `name: gw1
key: keys/gw1
trustRoot: %s
release: release
verify: full
state: state
recordings: {dir: recordings}
audit: {repository: "%s", every: 1s}
postgres: {listen: "%s"}
admin: {listen: "127.0.0.1:0"}
credentials: ["file:%s"]
`, s.trustRoot, strings.Replace(s.remote(), "//", "//"+robot.Name+":"+robot.Token+"@", 1), s.listen, s.path("password")), 0o600))
	s.eventually("the first release", time.Minute, func() error {
		_, err := os.Stat(s.path("release", "release.json"))
		return err
	})
	s.start("gatewayd", nil, "gatewayd", "--config", "gatewayd.yaml")
	s.eventually("the gateway is ready", time.Minute, func() error {
		g, err := s.gateway()
		if err == nil && !g.Ready {
			err = errors.New("it is not")
		}
		return err
	})
}

// gatewayStatus is what gatewayd says of itself.
type gatewayStatus struct {
	Ready   bool
	Release struct {
		Commit   string
		Sequence int64
	}
}

func (s *stage) admin() string {
	b, err := os.ReadFile(s.path("state", "admin.addr"))
	if err != nil {
		return ""
	}
	return "http://" + strings.TrimSpace(string(b))
}

func (s *stage) gateway() (g gatewayStatus, err error) {
	response, err := http.Get(s.admin() + "/status")
	if err != nil {
		return g, err
	}
	defer response.Body.Close()
	return g, json.NewDecoder(response.Body).Decode(&g)
}

// psqlAs runs one statement through the gateway as etl.
func (s *stage) psqlAs(connection, statement string) result {
	s.Helper()
	return s.run("etl", "sallyport", "connect", connection, "--as", "agent:etl", "--key", s.path("home", "etl", "key"), "--repo", s.remote(), "--", "psql", "-At", "-c", statement)
}
