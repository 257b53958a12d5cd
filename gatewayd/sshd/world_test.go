package sshd

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/reviews"
)

func TestMain(m *testing.M) {
	home, err := os.MkdirTemp("", "sallyport-sshd-test")
	if err == nil {
		err = peers.IsolateProcess(home)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(home)
	os.Exit(code)
}

// world is a gateway on loopback before a real OpenSSH server. agent:etl logs in with the key file etl.
type world struct {
	t        testing.TB
	host     *peers.SSHServer
	repo     *accesstest.Repo
	gateway  *gatewayd.Gateway
	address  *net.TCPAddr
	dir      string
	sequence int64
	log      *syncBuffer

	mu        sync.Mutex
	summaries []record.Summary
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// setting is what a test wants of its world.
type setting struct {
	rules      string // allow and hold of the review, YAML of spec
	connection string // more of the connection's spec
	hostKey    string // instead of the host's own
	options    Options
	host       peers.SSHOptions
	outputCap  int64 // as record.Options have it
}

func pemOf(name string) string {
	block, err := ssh.MarshalPrivateKey(accesstest.Key(name), "")
	if err != nil {
		panic(err) // an ed25519 key always marshals
	}
	return string(pem.EncodeToMemory(block))
}

func newWorld(t testing.TB, c setting) *world {
	t.Helper()
	c.host.AuthorizedKeys = append(c.host.AuthorizedKeys, accesstest.PublicKey("target"))
	w := &world{t: t, dir: t.TempDir(), log: &syncBuffer{}, host: peers.StartSSHD(t, c.host), repo: accesstest.New(t, time.Now().Truncate(time.Second))}
	if c.hostKey == "" {
		c.hostKey = w.host.HostKey
	}
	w.repo.Write(reviews.PathOf(reviews.KindConnection, "web"), reviews.KindConnection, "Connection", "web", fmt.Sprintf(`
  protocol: ssh
  target: {host: 127.0.0.1, port: %d, user: %s, hostKeys: [%q]}
  credential: "file:%s"
%s`, w.host.Port, w.host.User, c.hostKey, w.file("target", pemOf("target")), c.connection))
	w.review(c.rules)
	w.file("etl", pemOf("agent:etl"))
	journal, err := record.Open(record.Options{
		Dir: filepath.Join(w.dir, "recordings"), Gateway: "gw1", Durability: "process", OutputCap: c.outputCap, Log: slog.New(slog.DiscardHandler),
		Sign: func(b []byte) ([]byte, error) {
			return reviews.Sign(accesstest.Signer("gw1"), reviews.NamespaceCheckpoint, b)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { journal.Close() })
	credentials, err := credential.NewStore([]string{"file:" + filepath.Join(w.dir, "target")})
	if err != nil {
		t.Fatal(err)
	}
	w.gateway, err = gatewayd.New(gatewayd.Config{
		Name: "gw1", Fingerprint: ssh.FingerprintSHA256(accesstest.Signer("gw1").PublicKey()), Journal: journal, Credentials: credentials,
		Log: slog.New(slog.NewTextHandler(w.log, nil)),
		Summaries: func(s record.Summary) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.summaries = append(w.summaries, s)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.release()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = listener.Addr().(*net.TCPAddr)
	ctx, cancel := context.WithCancel(context.Background())
	c.options.Gateway, c.options.HostKey = w.gateway, accesstest.Signer("gw1")
	c.options.Log = slog.New(slog.NewTextHandler(w.log, nil))
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, listener, c.options) }()
	running, endRunning := context.WithCancel(context.Background())
	go w.gateway.Run(running)
	t.Cleanup(func() {
		w.gateway.Drain()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		endRunning()
		if t.Failed() {
			t.Logf("gateway: %s", w.log)
		}
	})
	return w
}

// review replaces the one review; the next release holds it.
func (w *world) review(rules string) {
	w.sequence++
	w.repo.Review("web/etl", int(w.sequence), "agent:etl", rules+"\n")
}

func (w *world) release() {
	w.t.Helper()
	w.sequence++
	w.gateway.Swap(w.repo.Release(w.sequence))
}

// file writes a file into the world's folder and returns its path.
func (w *world) file(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// options are those of ssh, scp and sftp alike.
func (w *world) sshOptions(key string) []string {
	known := w.file("known_hosts", fmt.Sprintf("[127.0.0.1]:%d %s\n", w.address.Port, accesstest.PublicKey("gw1")))
	return []string{
		"-F", "none", "-i", filepath.Join(w.dir, key), "-o", "IdentitiesOnly=yes", "-o", "UserKnownHostsFile=" + known, "-o", "StrictHostKeyChecking=yes",
		"-o", "BatchMode=yes", "-o", "LogLevel=INFO", "-o", fmt.Sprintf("Port=%d", w.address.Port), "-o", "User=agent:etl+web",
	}
}

// answer is how a client program ended.
type answer struct {
	out, err string
	code     int
}

func (w *world) run(program string, stdin string, args ...string) answer {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = peers.CleanEnv(os.Environ(), w.dir)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	a := answer{out: out.String(), err: errs.String()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		a.code = exit.ExitCode()
	} else if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// ssh runs a command line through the gateway, as ssh does: the words are joined with blanks.
func (w *world) ssh(command string, more ...string) answer {
	w.t.Helper()
	return w.run("ssh", "", append(append(w.sshOptions("etl"), more...), "127.0.0.1", command)...)
}

// records are those of the last session, when it has ended.
func (w *world) records() []record.Record {
	w.t.Helper()
	var last record.Summary
	w.eventually("the session has ended", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.summaries) == 0 || len(w.gateway.Status().Sessions) > 0 {
			return false
		}
		last = w.summaries[len(w.summaries)-1]
		return true
	})
	recording, err := record.Find(filepath.Join(w.dir, "recordings"), last.Session)
	if err != nil {
		w.t.Fatal(err)
	}
	var list []record.Record
	for r, err := range recording.Records() {
		if err != nil {
			w.t.Fatal(err)
		}
		list = append(list, *r)
	}
	return list
}

func (w *world) eventually(what string, is func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func (w *world) portOfHost() string { return fmt.Sprint(w.host.Port) }
