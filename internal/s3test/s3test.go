// Package s3test is an S3 server for tests: gofakes3 in memory, behind what it
// lacks of the real one. It checks no credentials and keeps nothing.
package s3test

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// Server is an S3 server with one bucket, "releases".
type Server struct {
	URL string

	s3 http.Handler

	mu      sync.Mutex
	writing sync.Mutex
	inWay   func(http.ResponseWriter, *http.Request) bool // guarded by mu
	seen    []string                                      // guarded by mu
}

// Bucket is the bucket that every Server has.
const Bucket = "releases"

// Start runs a server until the test ends, and sets credentials for it.
func Start(t testing.TB) *Server {
	t.Helper()
	s, stop, err := Run()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	for name, value := range Env() {
		t.Setenv(name, value)
	}
	return s
}

// Run runs a server until it is stopped.
func Run() (s *Server, stop func(), err error) {
	backend := s3mem.New()
	if err := backend.CreateBucket(Bucket); err != nil {
		return nil, nil, err
	}
	s = &Server{s3: gofakes3.New(backend, gofakes3.WithLogger(gofakes3.StdLog(log.New(io.Discard, "", 0)))).Server()}
	server := httptest.NewServer(s)
	s.URL = server.URL
	return s, server.Close, nil
}

// Env are variables with which a process uses a Server, and looks for credentials nowhere else.
func Env() map[string]string {
	return map[string]string{
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "canary-of-the-storage", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
	}
}

// Location is where a prefix of the bucket is.
func (s *Server) Location(prefix string) string {
	return "s3://" + Bucket + "/" + prefix + "?endpoint=" + url.QueryEscape(s.URL)
}

// Put places something in the way of the server, which answers when it returns true; nil takes it away.
func (s *Server) Put(f func(http.ResponseWriter, *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inWay = f
}

// Requests are those since the last call: "GET /releases/prod/release.json".
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.seen = append(s.seen, r.Method+" "+r.URL.Path)
	inWay := s.inWay
	s.mu.Unlock()
	if inWay != nil && inWay(w, r) {
		return
	}
	if unless := r.Header.Get("If-None-Match"); unless != "" && r.Method == http.MethodGet {
		s.conditional(w, r, unless)
		return
	}
	if r.Method == http.MethodPut || r.Method == http.MethodPost {
		s.write(w, r)
		return
	}
	s.s3.ServeHTTP(w, r)
}

// write decides on conditional writes as S3 does, and gofakes3 does not.
func (s *Server) write(w http.ResponseWriter, r *http.Request) {
	s.writing.Lock()
	defer s.writing.Unlock()
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	if match != "" || none != "" {
		there := &held{header: http.Header{}, status: http.StatusOK}
		s.s3.ServeHTTP(there, httptest.NewRequest(http.MethodHead, r.URL.Path, nil))
		if none == "*" && there.status == http.StatusOK || match != "" && there.header.Get("ETag") != match {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusPreconditionFailed)
			_, _ = w.Write([]byte(`<Error><Code>PreconditionFailed</Code><Message>At least one of the pre-conditions you specified did not hold</Message></Error>`))
			return
		}
	}
	s.s3.ServeHTTP(w, r)
}

// conditional answers a GET with If-None-Match as S3 does, and gofakes3 does not.
func (s *Server) conditional(w http.ResponseWriter, r *http.Request, unless string) {
	held := &held{header: http.Header{}, status: http.StatusOK}
	s.s3.ServeHTTP(held, r)
	if held.status == http.StatusOK && held.header.Get("ETag") == unless {
		w.Header().Set("ETag", unless)
		w.WriteHeader(http.StatusNotModified)
		return
	}
	for name, values := range held.header {
		w.Header()[name] = values
	}
	w.WriteHeader(held.status)
	_, _ = w.Write(held.body.Bytes())
}

// held is an answer that is not sent yet.
type held struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (h *held) Header() http.Header         { return h.header }
func (h *held) WriteHeader(status int)      { h.status = status }
func (h *held) Write(b []byte) (int, error) { return h.body.Write(b) }
