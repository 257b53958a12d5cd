package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

var kills = flag.Int("kills", 12, "how often TestKilledUnderLoad kills gatewayd")

// The test binary runs itself as gatewayd.
const asGatewayd = "SALLYPORT_TEST_AS_GATEWAYD"

func TestMain(m *testing.M) {
	if os.Getenv(asGatewayd) != "" {
		signal.Ignore(syscall.SIGXFSZ) // a full disk sends no signal either
		main()
		return
	}
	home, err := os.MkdirTemp("", "sallyport-gatewayd-test")
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

// gatewayProcess is the real gatewayd before a real PostgreSQL.
type gatewayProcess struct {
	*testing.T
	server     *peers.PostgresServer
	repo       *accesstest.Repo
	published  string // the release directory
	env        []string
	config     string
	state, dir string // of the gateway, and its recordings
	cmd        *exec.Cmd
	log        *syncBuffer
}

// syncBuffer is what a process has printed so far.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newGatewayProcess(t *testing.T) *gatewayProcess {
	t.Helper()
	g := &gatewayProcess{T: t, server: peers.SharedPostgres(t), state: t.TempDir(), log: &syncBuffer{}}
	g.dir = filepath.Join(g.state, "recordings")
	database := g.server.NewDatabase(t, `create schema app`, `create table app.orders (id bigint primary key)`,
		`grant usage on schema app to public`, `grant select, insert on app.orders to public`)
	role := "gw_" + database
	g.must(g.server.CreateRole(t.Context(), role, "secret-of-the-target"))

	repo := accesstest.New(t, time.Now())
	repo.Write(reviews.PathOf(reviews.KindConnection, "orders-db"), reviews.KindConnection, "Connection", "orders-db", fmt.Sprintf(`
  protocol: postgres
  target: {host: %s, port: %d, database: %s, user: %s, ca: %q}
  credential: "env:ORDERS_DB_PASSWORD"
`, g.server.Host, g.server.Port, database, role, g.server.CAFile))
	repo.Review("orders-db/etl", 1, "agent:etl", "  allow: [{verbs: [select, insert], on: [app.orders]}]\n")
	g.repo, g.published = repo, repo.Publish(1)

	key := filepath.Join(g.state, "gw1.key")
	block, err := ssh.MarshalPrivateKey(accesstest.Key("gw1"), "gw1")
	g.must(err)
	g.must(os.WriteFile(key, pem.EncodeToMemory(block), 0o600))
	g.config = filepath.Join(g.state, "gatewayd.yaml")
	g.must(os.WriteFile(g.config, fmt.Appendf(nil, `
name: gw1
key: %s
trustRoot: sha256:%s
release: %s
state: %s
recordings: {dir: %s}
postgres: {listen: "127.0.0.1:0"}
credentials: ["env:ORDERS_DB_PASSWORD"]
`, key, repo.RootDigest(), g.published, filepath.Join(g.state, "state"), g.dir), 0o600))
	t.Cleanup(g.kill)
	return g
}

func (g *gatewayProcess) must(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// start runs gatewayd and waits until a login succeeds.
func (g *gatewayProcess) start() {
	g.Helper()
	g.spawn()
	g.await(30*time.Second, "a login succeeds", func() error {
		c, err := g.connect()
		if err == nil {
			c.Close(context.Background())
		}
		return err
	})
}

// spawn runs gatewayd.
func (g *gatewayProcess) spawn() {
	g.Helper()
	os.Remove(filepath.Join(g.state, "state", "postgres.addr"))
	g.cmd = exec.Command(os.Args[0], "--config", g.config)
	g.cmd.Env = append(append(os.Environ(), asGatewayd+"=1", "ORDERS_DB_PASSWORD=secret-of-the-target"), g.env...)
	g.cmd.Stderr, g.cmd.Stdout = g.log, g.log
	g.must(g.cmd.Start())
}

func (g *gatewayProcess) kill() {
	if g.cmd != nil && g.cmd.Process.Signal(syscall.SIGKILL) == nil {
		g.cmd.Wait()
	}
	g.cmd = nil
}

// stop ends gatewayd as an operator does.
func (g *gatewayProcess) stop() {
	g.Helper()
	g.must(g.cmd.Process.Signal(syscall.SIGTERM))
	if err := g.cmd.Wait(); err != nil {
		g.Errorf("gatewayd ended with %v:\n%s", err, g.log)
	}
	g.cmd = nil
}

func (g *gatewayProcess) await(most time.Duration, what string, try func() error) time.Duration {
	g.Helper()
	begun := time.Now()
	for {
		err := try()
		if err == nil {
			return time.Since(begun)
		}
		if time.Since(begun) > most {
			g.Fatalf("not after %s: %s: %v\n%s", most, what, err, g.log)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (g *gatewayProcess) connect() (*pgconn.PgConn, error) {
	address, err := os.ReadFile(filepath.Join(g.state, "state", "postgres.addr"))
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(strings.TrimSpace(string(address)))
	if err != nil {
		return nil, err
	}
	now := time.Now().Truncate(time.Second)
	token, err := identity.Mint(accesstest.Signer("agent:etl"), identity.Claims{Principal: "agent:etl", Connection: "orders-db",
		Gateway: ssh.FingerprintSHA256(accesstest.Signer("gw1").PublicKey()), Issued: now, Expires: now.Add(4 * time.Minute)})
	if err != nil {
		return nil, err
	}
	c, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%s user=agent:etl dbname=orders-db sslmode=disable", host, port))
	if err != nil {
		return nil, err
	}
	c.Password, c.Fallbacks = token, nil
	c.TLSConfig = &tls.Config{InsecureSkipVerify: true} // the test knows who listens
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return pgconn.ConnectConfig(ctx, c)
}

func query(c *pgconn.PgConn, id int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if id%2 == 0 {
		_, err := c.Exec(ctx, fmt.Sprintf("select id from app.orders where id = %d", id)).ReadAll()
		return err
	}
	return c.ExecParams(ctx, fmt.Sprintf("select id from app.orders where id = %d and id > $1", id), [][]byte{[]byte("0")}, nil, nil, nil).Read().Err
}

var marked = regexp.MustCompile(`where id = ([0-9]{7,})`)

// reached are the marked statements that the target ran or was told to parse.
func (g *gatewayProcess) reached() map[string]bool {
	all := map[string]bool{}
	for _, m := range marked.FindAllStringSubmatch(g.server.Log(), -1) {
		all[m[1]] = true
	}
	return all
}

// recorded are the marked statements that were recorded as allowed.
func (g *gatewayProcess) recorded() map[string]bool {
	g.Helper()
	all := map[string]bool{}
	list, broken, err := record.List(g.dir)
	g.must(err)
	for _, err := range broken {
		g.Errorf("broken recording: %v", err)
	}
	for _, r := range list {
		for rec, err := range r.Records() {
			g.must(err)
			if rec.Type == record.TypeCommand && rec.Command.Verdict == policies.Allow {
				for _, m := range marked.FindAllStringSubmatch(rec.Command.Statement, -1) {
					all[m[1]] = true
				}
			}
		}
	}
	return all
}

// wantAllRecorded joins the target's log with the recordings, and returns how many statements reached the target.
func (g *gatewayProcess) wantAllRecorded() int {
	g.Helper()
	recorded, reached := g.recorded(), g.reached()
	for id := range maps.Keys(reached) {
		if !recorded[id] {
			g.Errorf("statement %s reached the target and is not recorded", id)
		}
	}
	return len(reached)
}

// wantVerified demands that all recordings hold and none is open.
func (g *gatewayProcess) wantVerified() record.Report {
	g.Helper()
	r, err := record.Verify(g.Context(), record.VerifyInput{Dir: g.dir, Verify: func(gateway string, _ time.Time, statement, armored []byte) error {
		key, err := reviews.Verify(armored, reviews.NamespaceCheckpoint, statement)
		if err == nil && (gateway != "gw1" || ssh.FingerprintSHA256(key) != ssh.FingerprintSHA256(accesstest.Signer("gw1").PublicKey())) {
			err = errors.New("not gw1's key")
		}
		return err
	}})
	g.must(err)
	for _, p := range r.Problems {
		g.Errorf("problem: %s", p)
	}
	if len(r.Open) > 0 {
		g.Errorf("still open: %v", r.Open)
	}
	return r
}

// The promise of the whole: killed at any moment under load, a gateway has
// recorded every statement that reached the target, and what it recorded holds.
func TestKilledUnderLoadNothingReachesTheTargetUnrecorded(t *testing.T) {
	rounds := *kills
	if testing.Short() {
		rounds = min(rounds, 3)
	}
	g := newGatewayProcess(t)
	seed := time.Now().UnixNano()
	t.Log("seed", seed)
	random := rand.New(rand.NewSource(seed))
	var next, answered atomic.Int64
	next.Store(1_000_000)
	confirmed := sync.Map{}
	for range rounds {
		g.start()
		before := answered.Load()
		var clients sync.WaitGroup
		for range 6 {
			clients.Go(func() {
				c, err := g.connect()
				if err != nil {
					return
				}
				defer c.Close(context.Background())
				for id := next.Add(1); query(c, id) == nil; id = next.Add(1) {
					confirmed.Store(strconv.FormatInt(id, 10), true)
					answered.Add(1)
				}
			})
		}
		g.await(30*time.Second, "statements are answered", func() error {
			if answered.Load() == before {
				return errors.New("none yet")
			}
			return nil
		})
		time.Sleep(time.Duration(random.Intn(300)) * time.Millisecond)
		g.kill()
		clients.Wait()
	}
	g.start() // recovers
	g.stop()
	reached := g.wantAllRecorded()
	report := g.wantVerified()
	recorded := g.recorded()
	confirmed.Range(func(id, _ any) bool {
		if !recorded[id.(string)] {
			t.Errorf("the answer of statement %s was released and the statement is not recorded", id)
		}
		return true
	})
	left, err := filepath.Glob(filepath.Join(g.dir, "journal", "*.log"))
	g.must(err)
	if len(left) > 0 {
		t.Errorf("journal segments left: %v", left)
	}
	if answered.Load() < int64(rounds) || reached < rounds {
		t.Errorf("only %d statements were answered, %d reached the target: this shows nothing", answered.Load(), reached)
	}
	t.Logf("%d kills, %d statements reached the target, %d answered, %d recordings of %d records", rounds, reached, answered.Load(), report.Recordings, report.Records)
}

// Whatever keeps the gateway from recording: nothing goes to the target, the
// client is told why, and it goes on within 5 s when it is over.
func TestUnwritableRecordings(t *testing.T) {
	limit := func(g *gatewayProcess, n uint64) {
		g.must(unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: unix.RLIM_INFINITY}, nil))
	}
	journal := func(g *gatewayProcess) string { return filepath.Join(g.dir, "journal") }
	for _, c := range []struct {
		name         string
		spoil, amend func(g *gatewayProcess)
	}{
		{"full disk", func(g *gatewayProcess) { limit(g, 0) }, func(g *gatewayProcess) { limit(g, unix.RLIM_INFINITY) }},
		{"folder deleted", func(g *gatewayProcess) { g.must(os.RemoveAll(g.dir)); g.must(os.WriteFile(g.dir, nil, 0o600)) }, func(g *gatewayProcess) { g.must(os.Remove(g.dir)) }},
		{"journal deleted", func(g *gatewayProcess) {
			g.must(os.RemoveAll(journal(g)))
			g.must(os.WriteFile(journal(g), nil, 0o600))
		}, func(g *gatewayProcess) { g.must(os.Remove(journal(g))) }},
		{"folder moved", func(g *gatewayProcess) {
			g.must(os.Rename(g.dir, g.dir+".away"))
			g.must(os.WriteFile(g.dir, nil, 0o600))
		}, func(g *gatewayProcess) {
			g.must(os.Remove(g.dir))
			g.must(os.Rename(g.dir+".away", g.dir))
		}},
		{"read-only", func(g *gatewayProcess) {
			if os.Geteuid() != 0 {
				g.must(os.Chmod(journal(g), 0o500))
			}
			limit(g, 0) // who is root, or has the file open, writes all the same
		}, func(g *gatewayProcess) {
			g.must(os.Chmod(journal(g), 0o700))
			limit(g, unix.RLIM_INFINITY)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGatewayProcess(t)
			g.start()
			conn, err := g.connect()
			g.must(err)
			defer conn.Close(context.Background())
			id := rand.Int63n(1<<40) + 10_000_000
			g.must(query(conn, id))

			c.spoil(g)
			for i := range int64(6) { // 3 simple, 3 extended
				err := query(conn, id+1+i)
				if err == nil {
					t.Errorf("statement %d ran without a record", id+1+i)
				} else if i == 0 && !strings.Contains(err.Error(), "record") {
					t.Errorf("the client is not told why: %v", err)
				}
			}
			if c, err := g.connect(); err == nil {
				c.Close(context.Background())
				t.Error("a session opens that cannot be recorded")
			} else if !strings.Contains(err.Error(), "recorded") {
				t.Errorf("the client is not told why: %v", err)
			}
			reached := g.reached()
			for i := range int64(6) {
				if reached[strconv.FormatInt(id+1+i, 10)] {
					t.Errorf("statement %d reached the target without a record", id+1+i)
				}
			}
			if !reached[strconv.FormatInt(id, 10)] {
				t.Error("the first statement is not in the target's log: this shows nothing")
			}

			c.amend(g)
			after := g.await(5*time.Second, "a new session works", func() error {
				again, err := g.connect()
				if err != nil {
					return err
				}
				defer again.Close(context.Background())
				return query(again, id+7)
			})
			t.Logf("works again after %s", after.Round(time.Millisecond))
			g.stop()
			g.wantVerified()
			if !g.recorded()[strconv.FormatInt(id+7, 10)] {
				t.Error("what came after is not recorded")
			}
		})
	}
}

// A folder that cannot be written is told at the start, with its name.
func TestStartsOnlyWithWritableRecordings(t *testing.T) {
	g := newGatewayProcess(t)
	g.must(os.WriteFile(g.dir, nil, 0o600))
	cmd := exec.Command(os.Args[0], "--config", g.config)
	cmd.Env = append(os.Environ(), asGatewayd+"=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), g.dir) || !strings.Contains(string(out), "recordings") {
		t.Errorf("it ends with %v and says: %s", err, out)
	}
}
