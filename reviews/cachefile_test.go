package reviews_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/reviews"
)

var about = []string{"program 1", "root 1"}

// remembering is a repo with some reviews whose facts are in the folder.
func remembering(t *testing.T) (*access, string) {
	t.Helper()
	a, dir := newAccess(t), filepath.Join(t.TempDir(), "facts")
	a.review("orders-db/second", "  limits: {session: 30m, rows: 5}\n  hold: [{verbs: [delete], on: [app.orders]}]\n  examples: [{run: \"select 1\", expect: allow}]\n")
	a.connection("prod-db", "")
	a.review("prod-db/third", "  mask: [{column: app.orders.note, with: redact}]\n")
	a.sign("reviews/prod-db/third.yaml", "user:bob", "user:carol")
	a.remember(dir, about...)
	return a, dir
}

func (a *access) remember(dir string, about ...string) {
	a.t.Helper()
	cache := reviews.NewCache()
	if err := cache.Restore(dir, about...); err != nil {
		a.t.Fatal(err)
	}
	a.loaded(func(o *reviews.LoadOptions) { o.Cache = cache })
	if err := cache.Save(dir, about...); err != nil {
		a.t.Fatal(err)
	}
}

// recalled loads with what the folder holds. Whatever that is, the result is that
// of a load without.
func (a *access) recalled(dir string, about ...string) (count int64, refused error) {
	a.t.Helper()
	cache := reviews.NewCache()
	refused = cache.Restore(dir, about...)
	got, err := a.load(func(o *reviews.LoadOptions) { o.Cache = cache })
	want, wantErr := a.load()
	if fmt.Sprint(err) != fmt.Sprint(wantErr) || !reflect.DeepEqual(got, want) {
		a.t.Errorf("with facts from disk: %v, problems:\n%v\nwithout: %v, problems:\n%v", err, got.Problems, wantErr, want.Problems)
	}
	return reviews.Recalled(cache), refused
}

func TestFactsSurviveARestart(t *testing.T) {
	a, dir := remembering(t)
	if n, err := a.recalled(dir, about...); n != 3 || err != nil {
		t.Fatalf("%d of 3 reviews were recalled: %v", n, err)
	}
	a.review("orders-db/second", "  limits: {rows: 6}\n")
	if n, err := a.recalled(dir, about...); n != 2 || err != nil {
		t.Errorf("%d of 2 unchanged reviews were recalled: %v", n, err)
	}
	a.remember(dir, about...) // into a second file
	if n, err := a.recalled(dir, about...); n != 3 || err != nil {
		t.Errorf("%d of 3 reviews were recalled from two files: %v", n, err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*.facts")); len(files) != 2 {
		t.Errorf("files %v, want two", files)
	}
	for i := range 40 {
		a.review("orders-db/second", fmt.Sprintf("  limits: {rows: %d}\n", 7+i))
		a.remember(dir, about...)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*.facts")); len(files) > 32 {
		t.Errorf("%d files", len(files))
	}
	if n, err := a.recalled(dir, about...); n != 3 || err != nil {
		t.Errorf("%d of 3 reviews were recalled after many changes: %v", n, err)
	}
}

// Facts say nothing about trust: recalled puts side by side what a load with and
// without them makes of each change.
func TestFactsGrantNothing(t *testing.T) {
	const path = "reviews/orders-db/etl.yaml"
	for name, attack := range map[string]func(*access){
		"signer revoked": func(a *access) {
			a.sign(path, "user:carol")
			a.root("  revoked: [{fingerprint: \"" + ssh.FingerprintSHA256(a.keys["user:carol"].PublicKey()) + "\", reason: lost}]\n")
		},
		"tombstone": func(a *access) {
			a.root("  tombstones: [{sha256: " + digestOf(a.read(path)) + ", reason: incident}]\n")
		},
		"signer may not approve":      func(a *access) { a.sign(path, "user:dan") },
		"signature of another review": func(a *access) { a.moveSignatures("reviews/orders-db/second.yaml", path) },
		"signature under another name": func(a *access) {
			bob, carol := a.keys["user:bob"].PublicKey(), a.keys["user:carol"].PublicKey()
			a.write(reviews.SidecarPath(path, "user:carol", carol), a.read(reviews.SidecarPath(path, "user:bob", bob)))
			delete(a.files, reviews.SidecarPath(path, "user:bob", bob))
		},
		"signature gone":        func(a *access) { a.sign(path) },
		"other bytes":           func(a *access) { a.replace(path, "app.orders", "app.secrets") },
		"bytes of another path": func(a *access) { a.write(path, a.read("reviews/orders-db/second.yaml")) },
		"subject gone":          func(a *access) { delete(a.files, "principals/agent_etl.yaml") },
		"shorter lifetime":      func(a *access) { a.config("  maxReviewLifetime: 24h\n") },
	} {
		t.Run(name, func(t *testing.T) {
			a, dir := remembering(t)
			attack(a)
			if _, err := a.recalled(dir, about...); err != nil {
				t.Error(err)
			}
			if a.loaded().Reviews["orders-db/etl"] != nil {
				t.Error("the review is granted; this is no attack")
			}
		})
	}
}

func (a *access) moveSignatures(from, to string) {
	a.sign(to)
	for name, f := range maps.Clone(a.files) {
		if len(name) > len(from) && name[:len(from)] == from && name[len(from)] == '.' {
			a.files[to+name[len(from):]] = f
		}
	}
}

// Nothing of a folder is used that is not, as a whole, what this program wrote there
// under this trust root.
func TestFactsThatAreNotUsed(t *testing.T) {
	read := func(t *testing.T, name string) []byte {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	write := func(t *testing.T, name string, b []byte) {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(t *testing.T, a *access, dir string, about ...string) {
		t.Helper()
		if n, err := a.recalled(dir, about...); n != 0 || err == nil {
			t.Errorf("%d reviews were recalled, error %v", n, err)
		}
	}
	t.Run("any bit flipped", func(t *testing.T) {
		a, dir := remembering(t)
		name := filepath.Join(dir, "1.facts")
		good := read(t, name)
		for i := 0; i < len(good); i += 1 + i%23 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << (i % 8)
			write(t, name, bad)
			if err := reviews.NewCache().Restore(dir, about...); err == nil {
				t.Fatalf("bit %d of byte %d makes no difference", i%8, i)
			}
		}
		refused(t, a, dir, about...)
	})
	t.Run("cut off anywhere", func(t *testing.T) {
		a, dir := remembering(t)
		name := filepath.Join(dir, "1.facts")
		good := read(t, name)
		for size := 0; size < len(good); size += 1 + size%31 {
			write(t, name, good[:size])
			if err := reviews.NewCache().Restore(dir, about...); err == nil {
				t.Fatalf("%d of %d bytes are enough", size, len(good))
			}
		}
		refused(t, a, dir, about...)
	})
	for name, attack := range map[string]func(t *testing.T, a *access, dir string) []string{
		"bytes appended": func(t *testing.T, _ *access, dir string) []string {
			f := filepath.Join(dir, "1.facts")
			write(t, f, append(read(t, f), 0))
			return about
		},
		"under an older root": func(*testing.T, *access, string) []string { return []string{"program 1", "root 2"} },
		"by another program":  func(*testing.T, *access, string) []string { return []string{"program 2", "root 1"} },
		"words moved":         func(*testing.T, *access, string) []string { return []string{"program 1root 1"} },
		"files change names": func(t *testing.T, a *access, dir string) []string {
			a.review("orders-db/second", "  limits: {rows: 6}\n")
			a.remember(dir, about...)
			one, two := filepath.Join(dir, "1.facts"), filepath.Join(dir, "2.facts")
			b := read(t, one)
			write(t, one, read(t, two))
			write(t, two, b)
			return about
		},
		"a file of another repo": func(t *testing.T, _ *access, dir string) []string {
			_, other := remembering(t)
			write(t, filepath.Join(dir, "1.facts"), read(t, filepath.Join(other, "1.facts")))
			return about
		},
		"entries change places": func(t *testing.T, _ *access, dir string) []string {
			f := filepath.Join(dir, "1.facts")
			b := read(t, f)
			at := bytes.IndexByte(b, '\n') + 1
			next := at + 36 + int(binary.BigEndian.Uint32(b[at+32:]))
			for i := range 32 {
				b[at+i], b[next+i] = b[next+i], b[at+i]
			}
			write(t, f, b)
			return about
		},
		"another key": func(t *testing.T, _ *access, dir string) []string {
			key := make([]byte, 32)
			_, _ = rand.Read(key)
			write(t, filepath.Join(dir, "key"), key)
			return about
		},
		"a short key": func(t *testing.T, _ *access, dir string) []string {
			write(t, filepath.Join(dir, "key"), []byte("x"))
			return about
		},
		"no key": func(t *testing.T, _ *access, dir string) []string {
			check(t, os.Remove(filepath.Join(dir, "key")))
			return about
		},
		"a public key": func(t *testing.T, _ *access, dir string) []string {
			check(t, os.Chmod(filepath.Join(dir, "key"), 0o644))
			return about
		},
		"a file that others write": func(t *testing.T, _ *access, dir string) []string {
			check(t, os.Chmod(filepath.Join(dir, "1.facts"), 0o622))
			return about
		},
		"a link": func(t *testing.T, _ *access, dir string) []string {
			f := filepath.Join(dir, "1.facts")
			check(t, os.Rename(f, f+".real"))
			check(t, os.Symlink(f+".real", f))
			return about
		},
		"a folder": func(t *testing.T, _ *access, dir string) []string {
			f := filepath.Join(dir, "1.facts")
			check(t, os.Remove(f))
			check(t, os.Mkdir(f, 0o700))
			return about
		},
		"an older file brought back beside a damaged one": func(t *testing.T, a *access, dir string) []string {
			a.review("orders-db/second", "  limits: {rows: 6}\n")
			a.remember(dir, about...)
			write(t, filepath.Join(dir, "2.facts"), []byte("half"))
			return about
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, dir := remembering(t)
			about := attack(t, a, dir)
			refused(t, a, dir, about...)
			if t.Failed() {
				return
			}
			if name == "a folder" {
				check(t, os.Remove(filepath.Join(dir, "1.facts")))
			}
			cache := reviews.NewCache() // and the next Save mends it
			_ = cache.Restore(dir, about...)
			a.loaded(func(o *reviews.LoadOptions) { o.Cache = cache })
			check(t, cache.Save(dir, about...))
			if n, err := a.recalled(dir, about...); n != 3 || err != nil {
				t.Errorf("after a Save %d of 3 reviews were recalled: %v", n, err)
			}
		})
	}
}

// What does not check leaves nothing on disk.
func TestOnlyGoodFactsAreKept(t *testing.T) {
	a, dir := newAccess(t), t.TempDir()
	a.replace("reviews/orders-db/etl.yaml", "nightly", "daily") // its signature is now over other bytes
	a.remember(dir, about...)
	a.write("reviews/orders-db/bad.yaml", "x")
	a.remember(dir, about...)
	if n, err := a.recalled(dir, about...); n != 0 || err != nil {
		t.Errorf("%d reviews recalled: %v", n, err)
	}
}

// A validity that ends meanwhile ends as it would without facts.
func TestFactsDoNotStopTime(t *testing.T) {
	a, dir := newAccess(t), t.TempDir()
	a.sign("reviews/orders-db/etl.yaml", "user:carol")
	a.replace(reviews.RootPath, a.key("user:carol")+`"`, a.key("user:carol")+`", notAfter: "2027-02-01T00:00:00Z"`)
	a.sign(reviews.RootPath, "user:alice", "user:bob")
	a.remember(dir, about...)
	cache := reviews.NewCache()
	check(t, cache.Restore(dir, about...))
	tree := a.loaded(func(o *reviews.LoadOptions) {
		o.Cache, o.Now = cache, time.Date(2027, 2, 2, 0, 0, 0, 0, time.UTC)
	})
	if tree.Reviews["orders-db/etl"] != nil || reviews.Recalled(cache) != 1 {
		t.Errorf("a key that ran out approves: %v", tree.Problems)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
