package reviews_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/reviews"
)

// identified is a file system that names contents the way git does.
type identified struct{ fstest.MapFS }

func (f identified) ID(name string) (string, error) {
	h, found := sha256.New(), false
	for _, path := range slices.Sorted(maps.Keys(f.MapFS)) {
		if path == name || strings.HasPrefix(path, name+"/") {
			fmt.Fprintf(h, "%q %o %q\n", path, f.MapFS[path].Mode, f.MapFS[path].Data)
			found = true
		}
	}
	if !found {
		return "", &fs.PathError{Op: "id", Path: name, Err: fs.ErrNotExist}
	}
	return string(h.Sum(nil)), nil
}

// Whatever happens to a review, its signatures and the trust in its signers:
// loading with a cache that knows what was there before comes to the same,
// and so do names of contents.
func TestCacheNeverShows(t *testing.T) {
	a, cache := newAccess(t), reviews.NewCache()
	path := reviews.PathOf(reviews.KindReview, "orders-db/etl")
	text, signatures := a.read(path), maps.Clone(a.files)
	steps := []struct {
		name string
		do   func()
		open bool // whether the review is granted
	}{
		{"first", func() {}, true},
		{"another's signature beside it", func() {
			a.addSignature(path, "user:dan", a.keys["user:dan"], reviews.NamespaceReview, []byte(text))
		}, true},
		{"a file that is no signature", func() { a.write(path+".sigs/notes.txt", "x") }, true},
		{"only the signature of who may not", func() { a.sign(path, "user:dan") }, false},
		{"signed again", func() { a.sign(path, "user:carol") }, true},
		{"no signature", func() { a.sign(path) }, false},
		{"other bytes under the old signature", func() {
			a.sign(path, "user:bob")
			a.replace(path, "[app.orders, ", "[app.items, app.orders, ")
		}, false},
		{"the old bytes", func() { a.write(path, text) }, true},
		{"executable", func() { a.files[path].Mode = 0o755 }, false},
		{"plain", func() { a.files[path].Mode = 0o644 }, true},
		{"the signer's key revoked", func() {
			a.sign(path, "user:carol")
			a.root("  revoked: [{fingerprint: \"" + ssh.FingerprintSHA256(a.keys["user:carol"].PublicKey()) + "\", reason: lost}]\n")
		}, false},
		{"the start", func() { a.files = signatures }, true},
		{"gone", func() { delete(a.files, path) }, false},
	}
	for _, step := range steps {
		step.do()
		want, wantErr := reviews.Load(a.files, reviews.LoadOptions{Now: noon})
		for range 2 { // the second one finds everything in the cache
			got, err := reviews.Load(identified{a.files}, reviews.LoadOptions{Now: noon, Cache: cache})
			if fmt.Sprint(err) != fmt.Sprint(wantErr) || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: with a cache %v, problems:\n%v\nnotes:\n%v\nwithout %v, problems:\n%v\nnotes:\n%v",
					step.name, err, got.Problems, got.Notes, wantErr, want.Problems, want.Notes)
			}
			if open := got.Reviews["orders-db/etl"] != nil; wantErr == nil && open != step.open {
				t.Errorf("%s: granted %v, want %v: %v", step.name, open, step.open, got.Problems)
			}
		}
	}
}
