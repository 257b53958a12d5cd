package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/internal/s3test"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sallyport": main})
}

// TestScripts runs testdata/script/*.txtar: the real binary with the real git and
// ssh-keygen, in an environment that has nothing of the user's.
func TestScripts(t *testing.T) {
	for _, find := range []func() (*peers.Tool, error){func() (*peers.Tool, error) { return peers.Git(t.TempDir()) }, peers.SSHKeygen} {
		if _, err := find(); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"key":      keyCommand,
			"exitcode": exitcodeCommand,
			"agent":    agentCommand,
			"record":   recordCommand,
			"digest":   digestCommand,
			"s3":       s3Command,
			"serve":    serveCommand,
		},
	})
}

// setup gives a script an environment of its own.
func setup(env *testscript.Env) error {
	home := filepath.Join(env.WorkDir, "home")
	for _, dir := range []string{home, filepath.Join(env.WorkDir, "tmp")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	env.Vars = peers.CleanEnv(env.Vars, home)
	env.Setenv("XDG_CACHE_HOME", filepath.Join(home, ".cache"))
	env.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
	env.Setenv("XDG_RUNTIME_DIR", "")
	env.Setenv("USER", "alice")
	env.Setenv("TMPDIR", filepath.Join(env.WorkDir, "tmp"))
	return nil
}

// keyCommand makes SSH keys without a passphrase: key NAME...
func keyCommand(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		ts.Check(ts.Exec("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", filepath.Base(name), "-f", ts.MkAbs(name)))
	}
}

// exitcodeCommand runs a command that must end with a code: exitcode CODE COMMAND...
func exitcodeCommand(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// agentCommand starts an ssh-agent for the rest of the script.
func agentCommand(ts *testscript.TestScript, _ bool, _ []string) {
	agent, err := peers.SSHAgent(context.Background())
	ts.Check(err)
	ts.Defer(func() { _ = agent.Stop() })
	ts.Setenv("SSH_AUTH_SOCK", agent.Socket)
}

// s3Command runs an S3 server with one bucket for the rest of the script, and puts
// the location of a prefix into a variable: s3 VARIABLE PREFIX
func s3Command(ts *testscript.TestScript, _ bool, args []string) {
	server, stop, err := s3test.Run()
	ts.Check(err)
	ts.Defer(stop)
	for name, value := range s3test.Env() {
		ts.Setenv(name, value)
	}
	ts.Setenv(args[0], server.Location(args[1]))
}

// serveCommand runs a file server for a folder, and puts its address into a variable: serve VARIABLE DIR
func serveCommand(ts *testscript.TestScript, _ bool, args []string) {
	server := httptest.NewServer(http.FileServer(http.Dir(ts.MkAbs(args[1]))))
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.URL)
}

// digestCommand puts the digest that review shows for a change into a variable: digest VARIABLE CHANGE
func digestCommand(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Exec("sallyport", "review", args[1], "--json"))
	var shown struct{ Digest string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &shown))
	if len(shown.Digest) != 64 {
		ts.Fatalf("review shows no digest of %s", args[1])
	}
	ts.Setenv(args[0], shown.Digest[:12])
}
