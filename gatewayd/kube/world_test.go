package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/reviews"
)

func TestMain(m *testing.M) {
	home, err := os.MkdirTemp("", "sallyport-kube-test")
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

const upstreamToken = "upstream-credential-9d1c"

// world is a gateway on loopback before an API server. agent:etl is let in by tokens.
type world struct {
	t        testing.TB
	repo     *accesstest.Repo
	gateway  *gatewayd.Gateway
	address  string
	cert     tls.Certificate
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

// api is what a world stands before.
type api struct {
	port      int
	ca, token string // ca is a file
}

// newWorld makes a gateway under one review, prod/etl. rules and connection are YAML of the review's and the connection's spec.
func newWorld(t testing.TB, a api, rules, connection string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), log: &syncBuffer{}, repo: accesstest.New(t, time.Now().Truncate(time.Second))}
	secret := filepath.Join(w.dir, "target")
	if err := os.WriteFile(secret, []byte(a.token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	target := fmt.Sprintf("host: 127.0.0.1, port: %d, ca: %q", a.port, a.ca)
	if strings.Contains(connection, "impersonate") {
		target += ", impersonate: true"
		connection = ""
	}
	w.repo.Write(reviews.PathOf(reviews.KindConnection, "prod"), reviews.KindConnection, "Connection", "prod", fmt.Sprintf(`
  protocol: kubernetes
  target: {%s}
  credential: "file:%s"
%s`, target, secret, connection))
	w.review(rules)
	journal, err := record.Open(record.Options{
		Dir: filepath.Join(w.dir, "recordings"), Gateway: "gw1", Durability: "process", Log: slog.New(slog.DiscardHandler),
		OutputCaps: map[string]int64{"kubernetes": 16 << 20},
		Sign: func(b []byte) ([]byte, error) {
			return reviews.Sign(accesstest.Signer("gw1"), reviews.NamespaceCheckpoint, b)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { journal.Close() })
	credentials, err := credential.NewStore([]string{"file:" + secret})
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
	if w.cert, err = identity.GatewayCertificate(accesstest.Key("gw1")); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- Serve(ctx, listener, Options{Gateway: w.gateway, TLS: &tls.Config{Certificates: []tls.Certificate{w.cert}}, Log: slog.New(slog.NewTextHandler(w.log, nil))})
	}()
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
			log := w.log.String()
			t.Logf("gateway: %s", log[max(0, len(log)-1500):])
		}
	})
	return w
}

func (w *world) review(rules string) {
	w.sequence++
	w.repo.Review("prod/etl", int(w.sequence), "agent:etl", rules+"\n")
}

func (w *world) release() {
	w.t.Helper()
	w.sequence++
	w.gateway.Swap(w.repo.Release(w.sequence))
}

// certFile is a file with the gateway's own certificate.
func (w *world) certFile() string {
	path := filepath.Join(w.dir, "gateway.pem")
	if err := os.WriteFile(path, []byte(peers.CertificatePEM(w.cert.Leaf.Raw)), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// token is one of agent:etl for the gateway, signed with the key of a principal.
func (w *world) token(signer string, change func(*identity.Claims)) string {
	w.t.Helper()
	claims := identity.Claims{
		Principal: "agent:etl", Connection: "prod", Gateway: ssh.FingerprintSHA256(accesstest.Signer("gw1").PublicKey()),
		Issued: time.Now(), Expires: time.Now().Add(5 * time.Minute),
	}
	if change != nil {
		change(&claims)
	}
	token, err := identity.Mint(accesstest.Signer(signer), claims)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// client knows the gateway and nothing else; http1 keeps it from HTTP/2.
func (w *world) client(http1 bool, certificates ...tls.Certificate) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(w.cert.Leaf)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "sallyport-gateway", Certificates: certificates}, ForceAttemptHTTP2: !http1, DisableCompression: true,
	}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// answer is what a request got.
type answer struct {
	code   int
	header http.Header
	body   string
}

// do sends one request with a fresh client. header may be nil; a path is for the API server, without the connection.
func (w *world) do(method, path, body string, header http.Header) answer {
	w.t.Helper()
	client := w.client(false)
	defer client.CloseIdleConnections()
	return w.send(client, method, "/prod"+path, body, header)
}

func (w *world) send(client *http.Client, method, path, body string, header http.Header) answer {
	w.t.Helper()
	r, err := http.NewRequest(method, "https://"+w.address, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	target, query, _ := strings.Cut(path, "?")
	if client.Transport.(*http.Transport).ForceAttemptHTTP2 {
		r.URL.Opaque = "//" + w.address + target // as it is, without being cleaned
	} else {
		r.URL.Path = target
	}
	r.URL.RawQuery = query
	if header == nil {
		header = http.Header{}
	}
	r.Header = header
	if r.Header.Get("Authorization") == "" && r.Header.Get("X-No-Token") == "" {
		r.Header.Set("Authorization", "Bearer "+w.token("agent:etl", nil))
	}
	if body == "" {
		r.Body, r.ContentLength = nil, 0
	} else if r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(r)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{resp.StatusCode, resp.Header, "(cut short) " + string(b)}
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// message is that of a Status.
func (a answer) message() string {
	var s status
	if json.Unmarshal([]byte(a.body), &s) != nil || s.Kind != "Status" {
		return ""
	}
	return s.Message
}

// records are those of all sessions, once all have ended.
func (w *world) records() []record.Record {
	w.t.Helper()
	w.eventually("the sessions have ended, and handed on their summaries", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		recorded := int64(0)
		for _, s := range w.summaries {
			if s.Recording != "" {
				recorded++
			}
		}
		return recorded == w.gateway.Status().Opened
	})
	w.mu.Lock()
	sums := append([]record.Summary(nil), w.summaries...)
	w.mu.Unlock()
	var list []record.Record
	for _, s := range sums {
		if s.Recording == "" {
			continue
		}
		recording, err := record.Find(filepath.Join(w.dir, "recordings"), s.Session)
		if err != nil {
			w.t.Fatal(err)
		}
		for r, err := range recording.Records() {
			if err != nil {
				w.t.Fatal(err)
			}
			list = append(list, *r)
		}
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

// everything is all that the gateway wrote anywhere: recordings, logs and summaries.
func (w *world) everything() string {
	w.t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(filepath.Join(w.dir, "recordings"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all.Write(b)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	text, err := json.Marshal(w.summaries)
	if err != nil {
		w.t.Fatal(err)
	}
	all.Write(text)
	all.WriteString(w.log.String())
	return all.String()
}

// scripted is an API server that answers what a test tells it, to see what reaches one, and what becomes of answers that a real one
// never gives.
type scripted struct {
	api
	mu   sync.Mutex
	seen []*http.Request
	sent []string
}

func newScripted(t testing.TB, handle http.HandlerFunc) *scripted {
	t.Helper()
	s := &scripted{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.seen, s.sent = append(s.seen, r), append(s.sent, string(b))
		s.mu.Unlock()
		handle(w, r)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Sscan(u.Port(), &s.port)
	s.token = upstreamToken
	s.ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(s.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *scripted) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

func jsonAnswer(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, text)
	}
}
