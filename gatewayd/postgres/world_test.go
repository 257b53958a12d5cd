package postgres

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

func TestMain(m *testing.M) {
	home, err := os.MkdirTemp("", "sallyport-postgres-test")
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

const repoID = "6f0c2f5e-1d2b-4c3a-9e8f-0a1b2c3d4e5f"

// world is a gateway on loopback before a real PostgreSQL, with a real access
// repo: agent:etl may do much on schema app and nothing on schema vault.
type world struct {
	t        testing.TB
	target   *peers.PostgresServer
	database string
	role     string
	secret   string
	keys     map[string]ssh.Signer
	gateway  *gatewayd.Gateway
	journal  *record.Journal
	dir      string
	address  string
	releases string
	files    fstest.MapFS
	sequence int64
	stop     func() // ends Serve, as SIGTERM does

	mu        sync.Mutex
	summaries []record.Summary
	logged    strings.Builder
}

const schema = `
create schema app; create schema vault;
create table app.customers (id int primary key, name text not null, email text, ssn text unique);
insert into app.customers select i, 'name ' || i, 'mail' || i || '@canary.example', '918-00-' || i from generate_series(1, 20) i;
create table app.orders (id int primary key, customer int, status text);
insert into app.orders select i, 1 + i % 20, 'open' from generate_series(1, 100) i;
create table vault.keys (id int, material text);
`

// variant changes what newWorld makes.
type variant struct {
	masks       string // YAML list of the connection's masks
	targetExtra string // overrides of the target, YAML
	plain       bool   // no TLS to the target
	privileged  bool   // the target says so
	connection  string // further lines of the connection's spec, YAML
	reviewMasks string // YAML list
	password    string // instead of the right one
	verbs       string
	startup     time.Duration
	rows        int
	limits      string                // of the review instead of rows, YAML
	target      *peers.PostgresServer // instead of the shared one
	port        int                   // where the gateway finds the target, instead of its own port
	schema      []string              // statements, instead of schema
	schemas     string                // what the gateway's role gets, instead of schema's
	on          string                // what the review is about, YAML list items; app.* unless set
	functions   string                // that the connection lists, YAML list
	superuser   bool                  // the gateway's role is one
}

func newWorld(t testing.TB, c variant) *world {
	t.Helper()
	if c.target == nil {
		c.target = peers.SharedPostgres(t)
	}
	if c.port == 0 {
		c.port = c.target.Port
	}
	w := &world{t: t, target: c.target, secret: "canary-" + strings.ToLower(rand.Text()), keys: map[string]ssh.Signer{}, files: fstest.MapFS{}}
	schemas := c.schemas
	if c.schema == nil {
		c.schema, schemas = []string{schema}, "app, vault"
	}
	w.database = w.target.NewDatabase(t, c.schema...)
	w.role = "gw_" + w.database
	w.exec("create role " + w.role + " login password '" + w.secret + "'; grant all on schema " + schemas + " to " + w.role +
		"; grant all on all tables in schema " + schemas + " to " + w.role + "; grant create, temporary on database " + w.database + " to " + w.role +
		"; alter role " + w.role + " set search_path = app")
	if c.superuser {
		w.exec("alter role " + w.role + " superuser")
	}
	var private ed25519.PrivateKey
	for _, name := range []string{"user:bob", "user:alice", "agent:etl", "release", "gateway"} {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if w.keys[name], err = ssh.NewSignerFromKey(key); err != nil {
			t.Fatal(err)
		}
		if name == "gateway" {
			private = key
		}
	}
	password := filepath.Join(t.TempDir(), "password")
	given := w.secret
	if c.password != "" {
		given = c.password
	}
	if err := os.WriteFile(password, []byte(given), 0o600); err != nil {
		t.Fatal(err)
	}
	w.documents(c, password)
	w.start(c, private, "file:"+password)
	return w
}

func (w *world) exec(sql string) {
	w.t.Helper()
	if err := w.target.Exec(w.t.Context(), w.database, sql); err != nil {
		w.t.Fatal(err)
	}
}

// one asks the target itself for one value, as the superuser.
func (w *world) one(sql string) string {
	w.t.Helper()
	rows, err := w.target.Query(w.t.Context(), w.database, sql)
	if err != nil || len(rows) != 1 {
		w.t.Fatalf("%s: %v, %v", sql, rows, err)
	}
	return rows[0][0]
}

func (w *world) line(name string) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(w.keys[name].PublicKey())))
}

// write adds a document that user:bob has signed.
func (w *world) write(path string, kind reviews.Kind, name, spec string) {
	w.t.Helper()
	text := fmt.Sprintf("apiVersion: sallyport.dev/v1\nkind: %s\nmetadata: {repo: %s, name: %q}\nspec:\n%s", kind, repoID, name, spec)
	bob := w.keys["user:bob"]
	armored, err := reviews.Sign(bob, reviews.NamespaceFor(kind), []byte(text))
	if err != nil {
		w.t.Fatal(err)
	}
	w.files[path] = &fstest.MapFile{Data: []byte(text)}
	w.files[reviews.SidecarPath(path, "user:bob", bob.PublicKey())] = &fstest.MapFile{Data: armored}
}

func (w *world) documents(c variant, password string) {
	w.write(reviews.RootPath, reviews.KindRoot, "root", `  version: 1
  threshold: 1
  principals:
    - {name: "user:alice", keys: [{key: "`+w.line("user:alice")+`"}]}
    - {name: "user:bob", keys: [{key: "`+w.line("user:bob")+`"}]}
  groups: {root: ["user:bob"], reviewers: ["user:bob"]}
  release: [{key: "`+w.line("release")+`"}]
  gateways: [{name: gw1, key: "`+w.line("gateway")+`"}]
`)
	w.write(reviews.ConfigPath, reviews.KindConfig, "sallyport", `  repository: https://git.example.com/access.git
  approvals:
    - {match: {kinds: [Principal, Connection, AccessReview, Policy]}, mode: signature, threshold: 1, groups: [reviewers]}
    - {match: {kinds: [AccessReview], unmask: true}, mode: signature, threshold: 1, groups: [reviewers]}
`)
	w.write("principals/agent_etl.yaml", reviews.KindPrincipal, "agent:etl", "  owner: user:alice\n  keys: [{key: \""+w.line("agent:etl")+"\"}]\n")
	target := fmt.Sprintf("{host: %s, port: %d, database: %s, user: %s, ca: %s}", w.target.Host, c.port, w.database, w.role, w.target.CAFile)
	if c.plain {
		target = strings.Replace(target, "ca: "+w.target.CAFile, "tls: disable", 1)
	}
	if c.targetExtra != "" {
		target = c.targetExtra
	}
	if c.privileged {
		target = strings.TrimSuffix(target, "}") + ", privileged: true}"
	}
	connection := "  protocol: postgres\n  target: " + target + "\n  credential: \"file:" + password + "\"\n"
	connection += c.connection
	if c.masks != "" {
		connection += "  mask: " + c.masks + "\n"
	}
	if c.functions != "" {
		connection += "  functions: " + c.functions + "\n"
	}
	w.write("connections/orders-db.yaml", reviews.KindConnection, "orders-db", connection)
	w.review(c)
}

func (w *world) review(c variant) {
	verbs, rows := c.verbs, c.rows
	if verbs == "" {
		verbs = "select, insert, update, delete, create, alter, lock, notify, listen"
	}
	if rows == 0 {
		rows = 1000000
	}
	if c.on == "" {
		c.on = `"app.*"`
	}
	if c.limits == "" {
		c.limits = fmt.Sprintf("rows: %d", rows)
	}
	own := ""
	if c.reviewMasks != "" {
		own = "\n  mask: " + c.reviewMasks
	}
	w.write("reviews/orders-db/etl.yaml", reviews.KindReview, "orders-db/etl", fmt.Sprintf(`  sequence: %d
  requester: user:alice
  subject: agent:etl
  connection: orders-db
  allow:
    - {verbs: [%s], on: [%s]}
  limits: {%s}%s
  validity: {notBefore: %q, expires: %q}
  justification: {ticket: OPS-1, reason: test}
`, w.sequence+1, verbs, c.on, c.limits, own, time.Now().Add(-time.Hour).UTC().Format("2006-01-02T15:04:05Z"), time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05Z")))
}

// release builds, signs, publishes and opens what the access repo says now.
func (w *world) release() *release.Release {
	w.t.Helper()
	tree, err := reviews.Load(w.files, reviews.LoadOptions{Now: time.Now()})
	if err != nil || len(tree.Problems) > 0 {
		w.t.Fatal(err, tree.Problems)
	}
	w.sequence++
	built, err := release.Build(w.t.Context(), release.BuildInput{Tree: tree, Commit: strings.Repeat("a", 40), Ref: "refs/heads/main", Sequence: w.sequence, Now: time.Now()})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := release.Publish(w.releases, built, w.keys["release"]); err != nil {
		w.t.Fatal(err)
	}
	sum := sha256.Sum256(w.files[reviews.RootPath].Data)
	r, err := release.Open(w.t.Context(), w.releases, release.Trust{RootDigest: hex.EncodeToString(sum[:]), Repo: repoID}, nil, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) start(c variant, key ed25519.PrivateKey, reference string) {
	w.releases, w.dir = w.t.TempDir(), w.t.TempDir()
	log := slog.New(slog.NewTextHandler(testLog{w}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	w.journal, err = record.Open(record.Options{Dir: w.dir, Gateway: "gw1", Durability: record.DurabilityProcess,
		Sign: func(b []byte) ([]byte, error) { return reviews.Sign(w.keys["gateway"], "sallyport.checkpoint.v1", b) }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.journal.Close() })
	store, err := credential.NewStore([]string{reference})
	if err != nil {
		w.t.Fatal(err)
	}
	w.gateway, err = gatewayd.New(gatewayd.Config{Name: "gw1", Fingerprint: ssh.FingerprintSHA256(w.keys["gateway"].PublicKey()),
		Journal: w.journal, Credentials: store, Log: log, Summaries: func(s record.Summary) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.summaries = append(w.summaries, s)
		}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.gateway.Swap(w.release())
	certificate, err := identity.GatewayCertificate(key)
	if err != nil {
		w.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.address = listener.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	go w.gateway.Run(ctx)
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, listener, Options{Gateway: w.gateway, AllowPlain: true, Log: log, StartupTimeout: c.startup,
			TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}})
	}()
	w.t.Cleanup(func() {
		stop()
		select {
		case err := <-done:
			if err != nil {
				w.t.Error(err)
			}
		case <-time.After(20 * time.Second):
			w.t.Error("Serve did not drain")
		}
	})
}

type testLog struct{ w *world }

func (l testLog) Write(b []byte) (int, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.w.logged.Write(b)
	if testing.Verbose() {
		fmt.Fprint(os.Stderr, string(b))
	}
	return len(b), nil
}

// token is a pasted review token of agent:etl.
func (w *world) token() string {
	w.t.Helper()
	now := time.Now().Truncate(time.Second)
	token, err := identity.Mint(w.keys["agent:etl"], identity.Claims{Principal: "agent:etl", Connection: "orders-db",
		Gateway: ssh.FingerprintSHA256(w.keys["gateway"].PublicKey()), Issued: now, Expires: now.Add(4 * time.Minute)})
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// config is a client of the gateway's, over TLS.
func (w *world) config() *pgconn.Config {
	w.t.Helper()
	host, port, _ := net.SplitHostPort(w.address)
	c, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%s user=agent:etl dbname=orders-db sslmode=disable", host, port))
	if err != nil {
		w.t.Fatal(err)
	}
	c.Password, c.Fallbacks = w.token(), nil
	c.TLSConfig = &tls.Config{InsecureSkipVerify: true} // the test knows who listens
	return c
}

func (w *world) connect() *pgconn.PgConn {
	w.t.Helper()
	conn, err := pgconn.ConnectConfig(w.t.Context(), w.config())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// run runs a simple query and returns the rows of the last result, joined.
func run(t testing.TB, c *pgconn.PgConn, sql string) string {
	t.Helper()
	out, err := try(t, c, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func try(t testing.TB, c *pgconn.PgConn, sql string) (string, error) {
	t.Helper()
	results, err := c.Exec(t.Context(), sql).ReadAll()
	if err != nil || len(results) == 0 {
		return "", err
	}
	return joined(results[len(results)-1].Rows), nil
}

func joined(rows [][][]byte) string {
	var lines []string
	for _, row := range rows {
		var cells []string
		for _, cell := range row {
			cells = append(cells, string(cell))
		}
		lines = append(lines, strings.Join(cells, "|"))
	}
	return strings.Join(lines, "\n")
}

// sqlstate checks the code of an error and returns its message.
func sqlstate(t testing.TB, err error, code string) string {
	t.Helper()
	var e *pgconn.PgError
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("error %v, want SQLSTATE %s", err, code)
	}
	return e.Message
}

// backends is how many connections the gateway's role has at the target.
func (w *world) backends() string {
	return w.one("select count(*) from pg_stat_activity where usename = '" + w.role + "'")
}

// until waits for a condition that others bring about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s: not within 15 s", what)
}

func sharedTarget(t testing.TB) *peers.PostgresServer { return peers.SharedPostgres(t) }

func asPg(err error, e **pgconn.PgError) bool { return errors.As(err, e) }

// recorded is everything that the gateway's record folder holds.
func (w *world) recorded() string {
	w.t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		all.Write(b)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return all.String()
}

func mapFile(b []byte) *fstest.MapFile { return &fstest.MapFile{Data: b} }
