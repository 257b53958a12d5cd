package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// doorway is where local clients come in: a unix socket in a directory that
// nobody else can enter, or a TCP port on loopback that asks for a random
// password.
type doorway struct {
	listener net.Listener
	dir      string // of the socket; "" for TCP
	port     int
	password string // "" for a socket
}

// socketPort is the number in the name of a PostgreSQL socket. No port is opened.
const socketPort = 5432

func openDoorway(tcp bool) (*doorway, error) {
	if tcp {
		return openTCP()
	}
	base := os.Getenv("XDG_RUNTIME_DIR")
	if base == "" {
		base = os.TempDir()
	}
	dir, err := os.MkdirTemp(base, "sallyport-") // 0700
	if err != nil {
		return nil, fmt.Errorf("directory for the socket: %w", err)
	}
	path := filepath.Join(dir, fmt.Sprintf(".s.PGSQL.%d", socketPort))
	listener, err := net.Listen("unix", path)
	if err != nil {
		os.RemoveAll(dir)
		return nil, hint(fmt.Errorf("socket %s: %w", path, err),
			"set TMPDIR to a shorter path, or use --tcp: socket paths are limited to about 100 bytes")
	}
	return &doorway{listener: listener, dir: dir, port: socketPort}, nil
}

func openTCP() (*doorway, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("local port: %w", err)
	}
	secret := make([]byte, 16)
	rand.Read(secret) // never fails: crypto/rand ends the program instead
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	number, _ := strconv.Atoi(port)
	return &doorway{listener: listener, port: number, password: hex.EncodeToString(secret)}, nil
}

func (d *doorway) host() string {
	if d.dir == "" {
		return "127.0.0.1"
	}
	return d.dir
}

// close stops listening and removes the socket. It may be called twice.
func (d *doorway) close() {
	d.listener.Close()
	if d.dir != "" {
		os.RemoveAll(d.dir)
	}
}

// serve runs the tunnel for each client until the doorway is closed, and waits
// for all of them.
func (d *doorway) serve(ctx context.Context, t *tunnel) {
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		conn, err := d.listener.Accept()
		if err != nil {
			return
		}
		clients.Go(func() { t.serve(ctx, conn) })
	}
}

// overriding are the PG variables that would send a client elsewhere or make it
// ask the local socket for what only a server far away has.
var overriding = []string{
	"PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE",
	"PGSSLMODE", "PGREQUIRESSL", "PGSSLNEGOTIATION", "PGGSSENCMODE", "PGREQUIREAUTH", "PGCHANNELBINDING",
	"PGREQUIREPEER", "PGTARGETSESSIONATTRS", "PGLOADBALANCEHOSTS",
}

// environment is the environment of a client that is to come in here.
func (d *doorway) environment(user, database string) []string {
	env := slices.DeleteFunc(os.Environ(), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains(overriding, name)
	})
	env = append(env, "PGHOST="+d.host(), "PGPORT="+strconv.Itoa(d.port), "PGUSER="+user, "PGDATABASE="+database)
	if d.password != "" {
		env = append(env, "PGPASSWORD="+d.password, "PGSSLMODE=disable", "PGGSSENCMODE=disable")
	}
	return env
}

// runCommand runs the client and returns its exit code. An interrupt from the
// terminal reaches the client by itself, which may mean "cancel the query" by
// it, so this process lives on until the client ends.
func runCommand(words, env []string) error {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		code := 126
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			code = 127
		}
		return &failure{code: code, err: err}
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(ended)
	waited := make(chan error, 1)
	go func() { waited <- cmd.Wait() }()
	for {
		select {
		case s := <-ended:
			_ = cmd.Process.Signal(s) // it may just have ended
		case err := <-waited:
			return exitOf(err)
		}
	}
}

// exitOf is the exit code of a command as a shell tells it.
func exitOf(err error) error {
	var exit *exec.ExitError
	if err == nil || !errors.As(err, &exit) {
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitWith(128 + int(status.Signal()))
	}
	return exitWith(exit.ExitCode())
}
