package record

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		os.Exit(child(what))
	}
	os.Exit(m.Run())
}

// testKey is a key of its own for every name, the same in each run.
func testKey(name string) ssh.Signer {
	seed := sha256.Sum256([]byte("a test key: " + name))
	signer, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		panic(err)
	}
	return signer
}

func signWith(key ssh.Signer) func([]byte) ([]byte, error) {
	return func(m []byte) ([]byte, error) { return reviews.Sign(key, reviews.NamespaceCheckpoint, m) }
}

// trust verifies seals as a trust root with gateway gw1 does.
func trust(gateway string, _ time.Time, statement, armored []byte) error {
	if gateway != "gw1" {
		return fmt.Errorf("the trust root has no gateway %q", gateway)
	}
	key, err := reviews.Verify(armored, reviews.NamespaceCheckpoint, statement)
	if err != nil {
		return err
	}
	if want := testKey("gw1").PublicKey(); string(key.Marshal()) != string(want.Marshal()) {
		return fmt.Errorf("made with key %s", ssh.FingerprintSHA256(key))
	}
	return nil
}

// clock is a time that moves a millisecond per look.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Millisecond)
	return c.now
}

func testOptions(dir string) Options {
	return Options{Dir: dir, Gateway: "gw1", Sign: signWith(testKey("gw1")), Now: newClock().Now}
}

// openJournal opens a journal that is closed at the end of the test.
func testJournal(t testing.TB, o Options) *Journal {
	t.Helper()
	j, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func id(n int) string { return fmt.Sprintf("s-%016x", n) }

func header(n int) Header {
	return Header{
		Session: id(n), Protocol: "postgres", Principal: "agent:etl", Owner: "user:alice",
		Connection: "orders-db", Remote: "192.0.2.7:50412", Client: "psql",
		Review: "orders-db/etl-nightly", ReviewSHA256: strings.Repeat("7b", 32), ReviewCommit: strings.Repeat("c1", 20),
		Approvers: []string{"user:bob"}, Release: 12, ReleaseDigest: strings.Repeat("9e", 32), ReleaseCommit: strings.Repeat("d0", 20),
		Masks: []string{"app.customers.email with email"},
	}
}

func allowed(text string) Command {
	return Command{
		Statement: text, Verdict: policies.Allow, Rule: "allow[0]",
		Effects: []policies.Effect{{Verb: "select", Object: "app.customers", Columns: []string{"id", "email"}}},
		Release: 12, ReleaseDigest: strings.Repeat("9e", 32), ReviewSHA256: strings.Repeat("7b", 32),
	}
}

func refused(text string) Command {
	c := allowed(text)
	c.Verdict, c.Rule, c.Denial = policies.Deny, "default", "d-1a2b3c4d"
	c.Effects = []policies.Effect{{Verb: "drop", Object: "app.orders"}}
	c.Reason = "drop on app.orders is not in the allow rules of review orders-db/etl-nightly"
	return c
}

func begin(t testing.TB, j *Journal, n int) *Session {
	t.Helper()
	s, err := j.Begin(header(n))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run records one allowed command with its output.
func run(t testing.TB, s *Session, text, output string) {
	t.Helper()
	n, err := s.Command(allowed(text))
	must(t, err)
	must(t, s.Barrier(context.Background()))
	_, _, err = s.Output(n, "rows", []byte(output))
	must(t, err)
	must(t, s.Result(n, Result{Outcome: "done", Tag: "SELECT 1", Rows: 1, Bytes: int64(len(output))}))
}

func closeSession(t testing.TB, s *Session) Summary {
	t.Helper()
	sum, err := s.Close("closed")
	must(t, err)
	return sum
}

// recordSession records a small session with something of everything.
func recordSession(t testing.TB, j *Journal, n int) Summary {
	t.Helper()
	s := begin(t, j, n)
	run(t, s, "select id, email from app.customers", "1\ta…@example.com\n")
	_, err := s.Command(refused("drop table app.orders"))
	must(t, err)
	must(t, s.Event("settings", "search_path is app"))
	run(t, s, "select '<&>\u202e\x7f\u009b'", "\x00\x01\xff binary")
	return closeSession(t, s)
}

// sealedSession is a folder with the recordings of n small sessions.
func sealedSession(t testing.TB, n int) (dir string, sums map[string]Summary) {
	t.Helper()
	dir = t.TempDir()
	j := testJournal(t, testOptions(dir))
	sums = map[string]Summary{}
	for i := range n {
		s := recordSession(t, j, i+1)
		sums[s.Session] = s
	}
	must(t, j.Close())
	return dir, sums
}

func verifyAll(t testing.TB, dir string, sums map[string]Summary) Report {
	t.Helper()
	r, err := Verify(context.Background(), VerifyInput{Dir: dir, Verify: trust, Summaries: sums})
	must(t, err)
	return r
}

func verifyClean(t testing.TB, dir string, sums map[string]Summary) Report {
	t.Helper()
	r := verifyAll(t, dir, sums)
	for _, p := range r.Problems {
		t.Errorf("unexpected problem: %s", p)
	}
	return r
}

func recordingFile(dir string, s Summary) string {
	return filepath.Join(dir, recordingsDir, filepath.FromSlash(s.Recording))
}

func types(t testing.TB, dir, session string) []Type {
	t.Helper()
	var all []Type
	for _, r := range records(t, dir, session) {
		all = append(all, r.Type)
	}
	return all
}

func records(t testing.TB, dir, session string) []*Record {
	t.Helper()
	r, err := Find(dir, session)
	must(t, err)
	var all []*Record
	for rec, err := range r.Records() {
		must(t, err)
		all = append(all, rec)
	}
	return all
}
