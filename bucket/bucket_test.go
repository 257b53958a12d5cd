package bucket_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/bucket"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/internal/s3test"
	"github.com/sallyport-dev/sallyport/policies/release"
)

func open(t *testing.T, location string) *bucket.Bucket {
	t.Helper()
	l, err := bucket.Parse(location)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bucket.Open(t.Context(), l, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLocations(t *testing.T) {
	for location, want := range map[string]bucket.Location{
		"s3://releases": {Bucket: "releases"},
		"s3://releases/prod/eu/?region=eu-west-1":   {Bucket: "releases", Prefix: "prod/eu", Region: "eu-west-1"},
		"s3://r/p?endpoint=https://minio.internal":  {Bucket: "r", Prefix: "p", Endpoint: "https://minio.internal"},
		"s3://r/../p?endpoint=http://127.0.0.1:900": {Bucket: "r", Prefix: "p", Endpoint: "http://127.0.0.1:900"},
	} {
		if got, err := bucket.Parse(location); err != nil || got != want {
			t.Errorf("%s: %+v, %v", location, got, err)
		}
	}
	for _, location := range []string{
		"s3://", "s3:///prefix", "s3:releases", "https://releases", "s3://r:80/p", "s3://r/p#hunter2", "s3://key:hunter2@r/p", "s3://hunter2:%zz@r",
		"s3://r?secret=hunter2", "s3://r?region=a&region=b", "s3://r?endpoint=http://minio.internal", "s3://r?endpoint=https://key:hunter2@minio.internal",
		"s3://r?endpoint=minio.internal", "s3://r?endpoint=http://127.0.0.1.example.org", "s3://r?region=%zzhunter2", "s3://r?profile=hunter2", "s3://r?anonymous=true",
	} {
		_, err := bucket.Parse(location)
		if err == nil {
			t.Errorf("%s was accepted", location)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows what may be a secret: %v", err)
		}
	}
}

func TestFiles(t *testing.T) {
	server := s3test.Start(t)
	b, other := open(t, server.Location("prod")), open(t, server.Location("prod2"))
	if _, _, err := b.Get(t.Context(), "release.json", "", 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	if err := b.Remove(t.Context(), "release.json"); err != nil {
		t.Errorf("nothing to remove: %v", err)
	}
	large := strings.Repeat("x", 12<<20) // in several parts
	for name, text := range map[string]string{"release.json": "one", "bundles/a": large, "bundles/b": "", "bundles/deep/c": "no"} {
		if err := b.Put(t.Context(), name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := b.List(t.Context(), "bundles"); err != nil || !maps.Equal(got, map[string]int64{"bundles/a": 12 << 20, "bundles/b": 0}) {
		t.Errorf("list: %v, %v", got, err)
	}
	if got, err := other.List(t.Context(), "bundles"); err != nil || len(got) > 0 {
		t.Errorf("another prefix: %v, %v", got, err)
	}
	if got, _, err := b.Get(t.Context(), "bundles/a", "", 12<<20); err != nil || string(got) != large {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, _, err := b.Get(t.Context(), "bundles/a", "", 12<<20-1); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("too large: %v", err)
	}
	got, tag, err := b.Get(t.Context(), "release.json", "", 100)
	if err != nil || string(got) != "one" || tag == "" {
		t.Fatalf("%q %q %v", got, tag, err)
	}
	if got, again, err := b.Get(t.Context(), "release.json", tag, 100); err != nil || got != nil || again != tag {
		t.Errorf("unchanged: %q %q %v", got, again, err)
	}
	if err := b.Put(t.Context(), "release.json", []byte("two")); err != nil {
		t.Fatal(err)
	}
	if got, _, err := b.Get(t.Context(), "release.json", tag, 100); err != nil || string(got) != "two" {
		t.Errorf("changed: %q %v", got, err)
	}
	if err := b.Remove(t.Context(), "release.json"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Get(t.Context(), "release.json", tag, 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed: %v", err)
	}
	_, _, err = open(t, strings.Replace(server.Location("prod"), s3test.Bucket, "missing", 1)).Get(t.Context(), "release.json", "", 100)
	if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("no bucket looks like no release: %v", err)
	}
}

func TestStorageThatRefusesOrLies(t *testing.T) {
	server := s3test.Start(t)
	b := open(t, server.Location("prod"))
	if err := b.Put(t.Context(), "release.json", []byte("one")); err != nil {
		t.Fatal(err)
	}
	elsewhere := s3test.Start(t)
	for _, tt := range []struct {
		name, want string
		answer     http.HandlerFunc
	}{
		{"denied", "s3:ListBucket", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`)
		}},
		{"redirect", "307", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
		}},
		{"cut short", "EOF", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("on"))
		}},
		{"endless", "larger than", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server.Put(func(w http.ResponseWriter, r *http.Request) bool { tt.answer(w, r); return true })
			defer server.Put(nil)
			got, _, err := b.Get(t.Context(), "release.json", "", 1<<20)
			if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%q, %v", got, err)
			}
			if strings.Contains(fmt.Sprint(err), "canary") {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
	if asked := elsewhere.Requests(); len(asked) > 0 {
		t.Errorf("another server was asked: %v", asked)
	}
}

// A release goes into a bucket, bundles first, and comes out at a gateway.
func TestReleaseThroughABucket(t *testing.T) {
	server := s3test.Start(t)
	b := open(t, server.Location("prod"))
	repo := accesstest.New(t, time.Now())
	repo.Connection("orders-db", "")
	repo.Seen("orders-db/etl", time.Now().Add(-time.Hour))
	state := t.TempDir()
	mark, err := release.OpenHighWater(filepath.Join(state, "mark"))
	if err != nil {
		t.Fatal(err)
	}
	m := &release.Mirror{From: b, Copy: release.Opener{Dir: filepath.Join(state, "release"), Trust: release.Trust{RootDigest: repo.RootDigest()}, HighWater: mark}}
	var current *release.Release
	for sequence := int64(1); sequence <= 4; sequence++ {
		if sequence != 3 { // which only signs the same documents anew
			repo.Review("orders-db/etl", int(sequence), "agent:etl", "  allow: [{verbs: [select], on: [app.orders]}]\n")
		}
		server.Requests()
		if err := repo.PublishTo(b, sequence); err != nil {
			t.Fatal(err)
		}
		var wrote []string
		for _, r := range server.Requests() {
			if name, is := strings.CutPrefix(r, "PUT /releases/prod/"); is {
				wrote = append(wrote, name)
			}
		}
		bundles := map[int64]int{1: 3, 2: 2, 3: 0, 4: 2}[sequence]
		if len(wrote) != bundles+1 || wrote[bundles] != "release.json" {
			t.Errorf("release %d wrote %q, want %d bundles and then release.json", sequence, wrote, bundles)
		}
		r, err := m.Next(t.Context(), current, time.Now())
		if err != nil || r == nil || r.Envelope.Sequence != sequence {
			t.Fatalf("release %d: %+v, %v", sequence, r, err)
		}
		if err := mark.Advance(r); err != nil {
			t.Fatal(err)
		}
		current = r
		if again, err := m.Next(t.Context(), current, time.Now()); again != nil || err != nil {
			t.Errorf("nothing new: %+v, %v", again, err)
		}
	}
	have, err := b.List(t.Context(), "bundles")
	if err != nil || len(have) != 5 { // the policy's, the present two of the connection and the two before
		t.Errorf("bundles left: %v, %v", slices.Sorted(maps.Keys(have)), err)
	}
	// An older envelope with all its bundles.
	old := accesstest.New(t, time.Now())
	old.Connection("orders-db", "")
	if err := b.Remove(t.Context(), release.EnvelopeFile); err != nil {
		t.Fatal(err)
	}
	if err := old.PublishTo(b, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Next(t.Context(), current, time.Now()); !errors.Is(err, release.ErrRolledBack) {
		t.Errorf("an older release: %v", err)
	}
	if r, err := m.Copy.Open(t.Context(), nil, time.Now()); err != nil || r.Envelope.Sequence != 4 {
		t.Errorf("the copy: %+v, %v", r, err)
	}
}

// A publication that breaks off leaves the release before.
func TestPublicationThatBreaksOff(t *testing.T) {
	server := s3test.Start(t)
	b := open(t, server.Location("prod"))
	repo := accesstest.New(t, time.Now())
	repo.Connection("orders-db", "")
	if err := repo.PublishTo(b, 1); err != nil {
		t.Fatal(err)
	}
	before, _, err := b.Get(t.Context(), release.EnvelopeFile, "", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	server.Put(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/bundles/") {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`)
		return true
	})
	repo.Connection("reports-db", "")
	if err := repo.PublishTo(b, 2); err == nil || !strings.Contains(err.Error(), "s3:PutObject") {
		t.Errorf("publish: %v", err)
	}
	if after, _, err := b.Get(t.Context(), release.EnvelopeFile, "", 1<<20); err != nil || string(after) != string(before) {
		t.Errorf("the envelope changed although a bundle is missing: %v", err)
	}
}

// However a location is written: its parameters never leave, and nothing but https or loopback is spoken to.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"s3://b/p?endpoint=https://h&region=eu", "s3://b", "s3://key:secret@b/p", "s3://b/../../x", "s3://b?endpoint=http://127.0.0.1:9000", "s3://b?endpoint=http://h", "s3://b?endpoint=file:///etc", "S3://b", "s3:b", "s3://b?x=%zz"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := bucket.Parse(text)
		if err != nil {
			return
		}
		if strings.HasPrefix(l.Prefix, "/") || strings.Contains("/"+l.Prefix+"/", "/../") || l.Bucket == "" {
			t.Fatalf("%q is %+v", text, l)
		}
		if at := strings.ToLower(l.Endpoint); at != "" && !strings.HasPrefix(at, "https://") && !strings.HasPrefix(at, "http://localhost") && !strings.HasPrefix(at, "http://127.") && !strings.HasPrefix(at, "http://[") {
			t.Fatalf("%q speaks to %q", text, l.Endpoint)
		}
	})
}
