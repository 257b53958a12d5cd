package release_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

var regexpSignature = regexp.MustCompile(`"signatures":\[.*\]`)

// served is a release directory behind a file server, as docs/sync.md has it. What
// is in the way of the server answers first.
type served struct {
	*repo
	dir    string
	server *httptest.Server

	mu    sync.Mutex
	inWay func(http.ResponseWriter, *http.Request) bool // guarded by mu
	seen  []string                                      // "path status", guarded by mu
}

func serve(t *testing.T) *served {
	s := &served{repo: newRepo(t), dir: t.TempDir()}
	s.server = httptest.NewServer(s)
	t.Cleanup(s.server.Close)
	return s
}

func (s *served) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	inWay := s.inWay
	s.mu.Unlock()
	noted := &notes{ResponseWriter: w, status: http.StatusOK}
	if inWay == nil || !inWay(noted, r) {
		http.FileServer(http.Dir(s.dir)).ServeHTTP(noted, r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, fmt.Sprintf("%s %d", strings.TrimPrefix(r.URL.Path, "/"), noted.status))
}

// notes keeps the status of an answer.
type notes struct {
	http.ResponseWriter
	status int
}

func (n *notes) WriteHeader(status int) {
	n.status = status
	n.ResponseWriter.WriteHeader(status)
}

func (n *notes) Unwrap() http.ResponseWriter { return n.ResponseWriter }

// put places something in the way of the server; nil takes it away.
func (s *served) put(f func(http.ResponseWriter, *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inWay = f
}

// requests are those since the last call.
func (s *served) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

func (s *served) publishNext(sequence int64) *release.Built {
	s.t.Helper()
	s.review("orders-db/etl-nightly", int(3+sequence), "app.orders")
	built := s.build(sequence)
	if err := release.Publish(s.dir, built, s.keys["release"]); err != nil {
		s.t.Fatal(err)
	}
	return built
}

// follower uses a mirror as gatewayd does.
type follower struct {
	*release.Mirror
	t       *testing.T
	current *release.Release
}

func (s *served) follower(t *testing.T) *follower {
	t.Helper()
	from, err := release.NewHTTP(s.server.URL, release.HTTPOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s.followerFrom(t, from, t.TempDir())
}

func (s *served) followerFrom(t *testing.T, from release.Source, state string) *follower {
	t.Helper()
	mark, err := release.OpenHighWater(filepath.Join(state, "mark"))
	if err != nil {
		t.Fatal(err)
	}
	return &follower{t: t, Mirror: &release.Mirror{From: from,
		Copy: release.Opener{Dir: filepath.Join(state, "copy"), Trust: s.trust(), HighWater: mark}}}
}

// restart is the follower of a new process on the same state.
func (f *follower) restart(s *served) *follower {
	f.t.Helper()
	return s.followerFrom(f.t, f.From, filepath.Dir(f.Copy.Dir))
}

func (f *follower) next(now time.Time) (*release.Release, error) {
	f.t.Helper()
	r, err := f.Next(f.t.Context(), f.current, now)
	if err == nil && r != nil {
		f.current = r
		err = f.Copy.HighWater.Advance(r)
	}
	return r, err
}

// want demands that a new release of this sequence is taken.
func (f *follower) want(sequence int64) *release.Release {
	f.t.Helper()
	r, err := f.next(now)
	if err != nil || r == nil || r.Envelope.Sequence != sequence {
		f.t.Fatalf("wanted release %d: %+v, %v", sequence, r, err)
	}
	return r
}

// copied demands that the copy is a release of that sequence and nothing more.
func (f *follower) copied(sequence int64) {
	f.t.Helper()
	r, err := release.Open(f.t.Context(), f.Copy.Dir, f.Copy.Trust, nil, now)
	if err != nil || r.Envelope.Sequence != sequence {
		f.t.Errorf("the copy is not release %d: %+v, %v", sequence, r, err)
		return
	}
	have, err := filepath.Glob(filepath.Join(f.Copy.Dir, "bundles", "*"))
	if err != nil || len(have) != len(r.Envelope.Bundles) {
		f.t.Errorf("the copy of release %d has bundles %v, want those of %v", sequence, have, r.Envelope.Bundles)
	}
}

func TestMirrorFollowsAFileServer(t *testing.T) {
	s := serve(t)
	f := s.follower(t)
	if _, err := f.next(now); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing is published: %v", err)
	}
	s.publishNext(1)
	f.want(1)
	f.copied(1)
	s.requests()
	// Faster than a file server's times can tell.
	for sequence := int64(2); sequence <= 6; sequence++ {
		built := s.publishNext(sequence)
		f.want(sequence)
		var got []string
		for _, r := range s.requests() {
			if strings.HasPrefix(r, "bundles/") {
				got = append(got, r)
			}
		}
		var want []string
		for _, name := range []string{release.ConnectionBundle("orders-db"), release.SequencesBundle("orders-db")} {
			want = append(want, "bundles/"+built.Envelope.Bundles[name]+".tar.gz 200")
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("release %d: fetched %q, want %q", sequence, got, want)
		}
		if r, err := f.next(now); r != nil || err != nil {
			t.Errorf("nothing new: %+v, %v", r, err)
		}
	}
	f.copied(6)
	f.restart(s).starts(6)
}

// starts demands that a new process begins with the copy, and asks for no bundle.
func (f *follower) starts(sequence int64) *follower {
	f.t.Helper()
	r, err := f.Start(f.t.Context(), now)
	if err != nil || r.Envelope.Sequence != sequence {
		f.t.Fatalf("started with %+v, %v; want release %d", r, err, sequence)
	}
	f.current = r
	return f
}

// A bundle that was dropped and is named again is fetched again.
func TestMirrorGoesBackToAnOlderBundle(t *testing.T) {
	s := serve(t)
	f := s.follower(t)
	path := "connections/orders-db.yaml"
	document := string(s.files[path].Data)
	for i, risk := range []string{"high", "low", "high"} {
		s.write(path, reviews.KindConnection, strings.Replace(document, "risk: high", "risk: "+risk, 1))
		if err := release.Publish(s.dir, s.build(int64(i+1)), s.keys["release"]); err != nil {
			t.Fatal(err)
		}
		f.want(int64(i + 1))
	}
	f.copied(3)
}

func TestMirrorAsksWhatChanged(t *testing.T) {
	s := serve(t)
	s.publishNext(1)
	f := s.follower(t)
	old := time.Now().Add(-time.Minute)
	file := filepath.Join(s.dir, release.EnvelopeFile)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	f.want(1)
	s.requests()
	for range 3 {
		if r, err := f.next(now); r != nil || err != nil {
			t.Fatal(r, err)
		}
	}
	want := []string{"release.json 304", "extension.yaml 404", "release.json 304", "extension.yaml 404", "release.json 304", "extension.yaml 404"}
	if got := s.requests(); !slices.Equal(got, want) {
		t.Errorf("requests %q, want %q", got, want)
	}
	if _, err := f.next(now.Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got := s.requests(); got[0] != "release.json 200" {
		t.Errorf("a server is believed for ever that nothing changed: %q", got)
	}
}

// Whatever a server does with the second release: the first one stays, its copy
// too, and the second one is taken once the server mends.
func TestMirrorKeepsTheLastGoodRelease(t *testing.T) {
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	body := func(b func(*served) []byte, suffix string) func(*served) func(http.ResponseWriter, *http.Request) bool {
		return func(s *served) func(http.ResponseWriter, *http.Request) bool {
			text := b(s)
			return func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, suffix) {
					return false
				}
				w.Write(text)
				return true
			}
		}
	}
	answer := func(suffix string, f http.HandlerFunc) func(*served) func(http.ResponseWriter, *http.Request) bool {
		return func(*served) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, suffix) {
					return false
				}
				f(w, r)
				return true
			}
		}
	}
	// envelope is the second release as somebody with a release key would sign it.
	envelope := func(change func(*served, *release.Envelope)) func(*served) []byte {
		return func(s *served) []byte {
			forged := *s.build(2)
			forged.Envelope.Bundles = maps.Clone(forged.Envelope.Bundles)
			change(s, &forged.Envelope)
			dir := t.TempDir()
			if err := release.Publish(dir, &forged, s.keys["release"]); err != nil {
				t.Fatal(err)
			}
			return read(t, filepath.Join(dir, release.EnvelopeFile))
		}
	}
	forever := func(w http.ResponseWriter, r *http.Request) {
		junk := bytes.Repeat([]byte("x"), 1<<20)
		for r.Context().Err() == nil {
			if _, err := w.Write(junk); err != nil {
				return
			}
		}
	}
	for _, tt := range []struct {
		name string
		does func(*served) func(http.ResponseWriter, *http.Request) bool
		want string
	}{
		{"bundle with other bytes", answer(".tar.gz", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("other bytes")) }), "does not have the contents"},
		{"bundle cut short", answer(".tar.gz", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "4096")
			w.Write(make([]byte, 100))
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}), "unexpected EOF"},
		{"bundle that is not there yet", answer(".tar.gz", http.NotFound), "file does not exist"},
		{"bundle larger than any", answer(".tar.gz", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(release.MaxBundle+1))
			w.WriteHeader(http.StatusOK)
		}), "larger than"},
		{"envelope cut short", body(func(s *served) []byte {
			b := read(t, filepath.Join(s.dir, release.EnvelopeFile))
			return b[:len(b)/2]
		}, "release.json"), "not the expected JSON"},
		{"endless envelope", answer("release.json", forever), "larger than"},
		{"gone", answer("release.json", http.NotFound), "file does not exist"},
		{"failing", answer("", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "sorry", http.StatusBadGateway) }), "502"},
		{"not allowed any more", answer("", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusForbidden) }), "token"},
		{"a part of it", answer("release.json", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusPartialContent) }), "206"},
		{"unchanged, which nobody asked", answer("release.json", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotModified) }), "nobody had asked"},
		{"bundle unchanged, which nobody asked", answer(".tar.gz", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotModified) }), "nobody had asked"},
		{"redirect to another server", answer("", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+r.URL.Path, http.StatusFound)
		}), "redirects to another server"},
		{"redirect without end", answer("", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusTemporaryRedirect)
		}), "again and again"},
		{"a byte now and then", answer("release.json", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.Write([]byte(" "))
				http.NewResponseController(w).Flush()
				time.Sleep(5 * time.Millisecond)
			}
		}), "took longer than"},
		{"no answer", answer("release.json", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), "took longer than"},
		{"older than what was in force", body(envelope(func(_ *served, e *release.Envelope) { e.Sequence = 1 }), "release.json"), "two different releases"},
		{"of another access repo", body(envelope(func(_ *served, e *release.Envelope) { e.Repo = "11111111-1d2b-4c3a-9e8f-0a1b2c3d4e5f" }), "release.json"), "access repo"},
		{"expired", body(envelope(func(_ *served, e *release.Envelope) {
			e.IssuedAt, e.ValidUntil = now.Add(-2*time.Hour), now.Add(-time.Hour)
		}), "release.json"), "expired"},
		{"a bundle outside of the folder", body(envelope(func(_ *served, e *release.Envelope) { e.Bundles[release.PolicyBundle] = "../../mark" }), "release.json"), "not a digest"},
		{"without a signature", body(func(s *served) []byte {
			return regexpSignature.ReplaceAll(read(t, filepath.Join(s.dir, release.EnvelopeFile)), []byte(`"signatures":[]`))
		}, "release.json"), "no signature"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t)
			s.publishNext(1)
			f := s.follower(t)
			f.Patience(300 * time.Millisecond)
			if tt.name == "endless envelope" {
				f.Patience(time.Minute)
			}
			f.want(1)
			s.publishNext(2)
			s.put(tt.does(s))
			for range 2 {
				r, err := f.next(now)
				wantError(t, err, s.server.URL, tt.want)
				if r != nil || f.current.Envelope.Sequence != 1 {
					t.Errorf("taken: %+v", r)
				}
			}
			if elsewhere > 0 {
				t.Error("another server was asked")
			}
			f.restart(s).starts(1)
			s.put(nil)
			f.want(2)
		})
	}
}

// An older release with all that belongs to it, good signature included, stays out,
// for the process that saw the newer one and for those after it.
func TestMirrorIsNotRolledBack(t *testing.T) {
	s := serve(t)
	s.publishNext(1)
	old := t.TempDir()
	if err := os.CopyFS(old, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	f := s.follower(t)
	f.want(1)
	s.publishNext(2)
	f.want(2)
	good := s.dir
	s.dir = old
	for _, f := range []*follower{f, f.restart(s).starts(2)} {
		if _, err := f.next(now); !errors.Is(err, release.ErrRolledBack) {
			t.Errorf("an older release: %v", err)
		}
	}
	f.copied(2)
	s.dir = good
	f.want(2)
}

// Before a release key has vouched for an envelope, no more than one bundle is fetched for it.
func TestMirrorFetchesLittleForAnUnsignedEnvelope(t *testing.T) {
	s := serve(t)
	for i := range 20 {
		s.connection(fmt.Sprintf("db-%d", i))
	}
	s.publishNext(1)
	edit(t, filepath.Join(s.dir, release.EnvelopeFile), func(b []byte) []byte {
		return regexpSignature.ReplaceAll(b, []byte(`"signatures":[]`))
	})
	f := s.follower(t)
	_, err := f.next(now)
	wantError(t, err, "no signature")
	bundles := 0
	for _, r := range s.requests() {
		if strings.HasPrefix(r, "bundles/") {
			bundles++
		}
	}
	if bundles != 1 {
		t.Errorf("%d bundles were fetched", bundles)
	}
}

// Entity tags that lie hold a release up for a minute; weak ones, and ones made of a
// time, not at all.
func TestMirrorAndTagsThatLie(t *testing.T) {
	for _, tt := range []struct {
		name, tag string
		modified  string
		believed  bool
	}{
		{"reused", `"1"`, "", true},
		{"weak", `W/"1"`, "", false},
		{"of a time just now", `"5f1-2a"`, "now", false},
		{"none", "", "", false},
		{"garbage", "\tx", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t)
			s.put(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/release.json" {
					return false
				}
				if r.Header.Get("If-None-Match") != "" || r.Header.Get("If-Modified-Since") != "" {
					w.WriteHeader(http.StatusNotModified) // whatever it is
					return true
				}
				if tt.modified != "" {
					w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
				}
				w.Header().Set("ETag", tt.tag)
				w.Write(read(t, filepath.Join(s.dir, release.EnvelopeFile)))
				return true
			})
			s.publishNext(1)
			f := s.follower(t)
			f.want(1)
			s.publishNext(2)
			r, err := f.next(now.Add(50 * time.Second))
			if err != nil || (r == nil) != tt.believed {
				t.Errorf("after 50 s: %+v, %v", r, err)
			}
			if tt.believed {
				r, err = f.next(now.Add(61 * time.Second))
			}
			if err != nil || r == nil || r.Envelope.Sequence != 2 {
				t.Errorf("after a minute: %+v, %v", r, err)
			}
		})
	}
}

// While the server is away a gateway starts with the copy, if that is what it was
// and still valid.
func TestMirrorStartsWithoutItsServer(t *testing.T) {
	for _, tt := range []struct {
		name string
		at   time.Time
		does func(t *testing.T, s *served, dir, old string)
		is   error
		want string // "" when it starts, "-" when there is nothing to start with
	}{
		{"as it was", now, func(*testing.T, *served, string, string) {}, nil, ""},
		{"expired", now.Add(25 * time.Hour), func(*testing.T, *served, string, string) {}, release.ErrExpired, "expired"},
		{"bundle changed", now, func(t *testing.T, s *served, dir, _ string) {
			edit(t, bundlePath(dir, s.build(2), release.PolicyBundle), func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}, nil, "does not have the contents"},
		{"bundle removed", now, func(t *testing.T, s *served, dir, _ string) {
			if err := os.Remove(bundlePath(dir, s.build(2), release.ConnectionBundle("orders-db"))); err != nil {
				t.Fatal(err)
			}
		}, fs.ErrNotExist, "orders-db"},
		{"envelope changed", now, func(t *testing.T, _ *served, dir, _ string) {
			edit(t, filepath.Join(dir, release.EnvelopeFile), func(b []byte) []byte { return b[:len(b)-9] })
		}, nil, "not the expected JSON"},
		{"envelope removed", now, func(t *testing.T, _ *served, dir, _ string) {
			if err := os.Remove(filepath.Join(dir, release.EnvelopeFile)); err != nil {
				t.Fatal(err)
			}
		}, nil, "-"},
		{"an older release with its bundles", now, func(t *testing.T, _ *served, dir, old string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(dir, os.DirFS(old)); err != nil {
				t.Fatal(err)
			}
		}, release.ErrRolledBack, "sequence is 1"},
		{"a bundle that was offered and not taken", now, func(t *testing.T, _ *served, dir, old string) {
			if err := os.CopyFS(filepath.Join(dir, "offered"), os.DirFS(old)); err != nil {
				t.Fatal(err)
			}
		}, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t)
			s.publishNext(1)
			f := s.follower(t)
			f.want(1)
			old := t.TempDir()
			if err := os.CopyFS(old, os.DirFS(s.dir)); err != nil {
				t.Fatal(err)
			}
			s.publishNext(2)
			f.want(2)
			tt.does(t, s, f.Copy.Dir, old)
			s.put(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
			f = f.restart(s)
			if tt.want == "" {
				f.starts(2)
			} else if r, err := f.Start(t.Context(), tt.at); tt.want == "-" {
				if r != nil || err != nil {
					t.Errorf("there is no copy: %+v, %v", r, err)
				}
			} else if err == nil {
				t.Fatal("started")
			} else {
				wantError(t, err, tt.want)
				if tt.is != nil && !errors.Is(err, tt.is) {
					t.Errorf("%v is not %v", err, tt.is)
				}
			}
			if r, err := f.next(tt.at); err == nil || r != nil {
				t.Errorf("nobody answers: %+v, %v", r, err)
			}
			s.put(nil)
			f.want(2)
			f.copied(2)
		})
	}
}

func TestMirrorBringsExtensions(t *testing.T) {
	s := serve(t)
	s.publishNext(1)
	f := s.follower(t)
	first := f.want(1)
	ends := first.Envelope.ValidUntil
	order := func(dir string, until time.Time, who ...string) {
		t.Helper()
		s.extend(dir, repoID, first.Digest, until, reviews.NamespaceExtension, who...)
	}
	remove := func(dir string) {
		t.Helper()
		if err := errors.Join(os.Remove(filepath.Join(dir, reviews.ExtensionPath)), os.RemoveAll(filepath.Join(dir, reviews.ExtensionPath+".sigs"))); err != nil {
			t.Fatal(err)
		}
	}
	step := func(now time.Time) *release.Release {
		t.Helper()
		r, err := f.next(now)
		if err != nil || r == nil {
			t.Fatalf("%+v, %v", r, err)
		}
		return r
	}
	order(s.dir, ends.Add(time.Hour))
	if r := step(now); !r.Until.Equal(ends) || !strings.Contains(r.NotExtended, "not approved") {
		t.Errorf("nobody signed: %s %q", r.Until, r.NotExtended)
	}
	order(s.dir, ends.Add(time.Hour), "user:bob")
	if r := step(now); !r.Until.Equal(ends.Add(time.Hour)) || r.Extended == "" {
		t.Errorf("signed: %s %q", r.Until, r.NotExtended)
	}
	if r, err := f.next(now); r != nil || err != nil {
		t.Errorf("nothing new: %+v, %v", r, err)
	}
	order(s.dir, ends.Add(release.DefaultMaxExtension+time.Minute), "user:bob")
	if r := step(now); !r.Until.Equal(ends) || !strings.Contains(r.NotExtended, "maxExtension") {
		t.Errorf("too long: %s %q", r.Until, r.NotExtended)
	}
	order(s.dir, ends.Add(2*time.Hour), "user:bob")
	step(now)

	// Restarted after the end, with the server away, it holds.
	late := ends.Add(time.Hour)
	away := func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }
	s.put(away)
	f = f.restart(s)
	if r, err := f.Start(t.Context(), late); err != nil || r.Extended == "" {
		t.Fatalf("restarted: %+v, %v", r, err)
	}
	// Taken away, it holds no longer, and no restart brings it back.
	s.put(nil)
	remove(s.dir)
	if _, err := f.next(late); !errors.Is(err, release.ErrExpired) {
		t.Errorf("taken away: %v", err)
	}
	s.put(away)
	f = f.restart(s)
	if _, err := f.Start(t.Context(), late); !errors.Is(err, release.ErrExpired) {
		t.Errorf("brought back by a restart: %v", err)
	}
	// While the server is away, it may be put beside the copy, and taken away there.
	order(f.Copy.Dir, ends.Add(2*time.Hour), "user:bob")
	if r := step(late); r.Extended == "" {
		t.Errorf("put beside the copy: %+v", r)
	}
	if r, err := f.next(late); err == nil || r != nil {
		t.Errorf("the server is still away: %+v, %v", r, err)
	}
	remove(f.Copy.Dir)
	if _, err := f.next(late); !errors.Is(err, release.ErrExpired) {
		t.Errorf("taken away from the copy: %v", err)
	}
	// An extension that cannot be asked for holds no release back.
	s.put(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "extension") {
			http.Error(w, "no", http.StatusForbidden)
			return true
		}
		return false
	})
	s.publishNext(2)
	if r := f.want(2); !strings.Contains(r.NotExtended, "403") {
		t.Errorf("not told: %q", r.NotExtended)
	}
	if r, err := f.next(now); r != nil || err != nil {
		t.Errorf("nothing new: %+v, %v", r, err)
	}
	s.put(nil)
	if r := step(now); r.NotExtended != "" {
		t.Errorf("still told: %q", r.NotExtended)
	}
}

func TestMaxExtension(t *testing.T) {
	r := newRepo(t)
	dir := r.publish(1)
	opened, err := r.open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r.extend(dir, repoID, opened.Digest, opened.Envelope.ValidUntil.Add(2*time.Hour), reviews.NamespaceExtension, "user:bob")
	for longest, holds := range map[time.Duration]bool{0: true, 2 * time.Hour: true, 2*time.Hour - time.Second: false, time.Second: false} {
		o := release.Opener{Dir: dir, Trust: r.trust(), MaxExtension: longest}
		got, err := o.Open(t.Context(), nil, now)
		if err != nil || (got.Extended != "") != holds || (got.NotExtended == "") != holds {
			t.Errorf("at most %s: %+v, %v", longest, got, err)
		}
		if _, err := o.Open(t.Context(), nil, opened.Envelope.ValidUntil); (err == nil) != holds {
			t.Errorf("at most %s, at its end: %v", longest, err)
		}
	}
}

func TestHTTPWithTokenAndCA(t *testing.T) {
	s := serve(t)
	s.publishNext(1)
	const secret = "tok-3141592653"
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+secret {
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		s.ServeHTTP(w, r)
	}))
	defer server.Close()
	server.Config.ErrorLog = nil
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	token := func(value string, err error) func(context.Context) (string, error) {
		return func(context.Context) (string, error) { return value, err }
	}
	for _, tt := range []struct {
		name string
		o    release.HTTPOptions
		want string
	}{
		{"both", release.HTTPOptions{Token: token(secret, nil), CA: pool}, ""},
		{"no token", release.HTTPOptions{CA: pool}, "401"},
		{"wrong token", release.HTTPOptions{CA: pool, Token: token("wrong-2718", nil)}, "401"},
		{"token that cannot be read", release.HTTPOptions{CA: pool, Token: token("", errors.New("no such variable"))}, "no such variable"},
		{"unknown authority", release.HTTPOptions{Token: token(secret, nil)}, "certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from, err := release.NewHTTP(server.URL, tt.o)
			if err != nil {
				t.Fatal(err)
			}
			f := s.followerFrom(t, from, t.TempDir())
			if tt.want == "" {
				f.want(1)
				return
			}
			_, err = f.next(now)
			wantError(t, err, tt.want)
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "wrong-2718") {
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
}

func TestLocationsThatAreRefused(t *testing.T) {
	for _, location := range []string{
		"http://releases.example.org/prod", "http://127.0.0.1.example.org", "https://", "ftp://127.0.0.1/x", "https:release",
		"https://user:hunter2@releases.example.org", "https://releases.example.org/?token=hunter2", "https://releases.example.org/#hunter2", "https://hunter2:%zz@x",
	} {
		_, err := release.NewHTTP(location, release.HTTPOptions{})
		if err == nil {
			t.Errorf("%s was accepted", location)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
	for _, location := range []string{"https://releases.example.org", "https://releases.example.org:8443/a/b/", "http://127.0.0.1:1/x", "http://[::1]:1", "http://localhost"} {
		if _, err := release.NewHTTP(location, release.HTTPOptions{}); err != nil {
			t.Errorf("%s: %v", location, err)
		}
	}
}
