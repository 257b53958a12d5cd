package syncer

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/sallyport-dev/sallyport/policies/release"
)

// Whoever can push to the audit branch puts anything into the log; only releases of this branch that this
// sync's key signed are learned from.
func FuzzLog(f *testing.F) {
	a := newAccess(f)
	h := a.syncer()
	h.once()
	good, err := os.ReadFile(filepath.Join(h.out, release.EnvelopeFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("1.json", good)
	f.Add("1.json", good[:len(good)/2])
	f.Add("9223372036854775807.json", []byte(`{"payload":"e30=","signatures":[]}`))
	f.Add("x", []byte{})
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		if filepath.Base(name) != name || !filepath.IsLocal(name) {
			return
		}
		known, err := h.learn(fstest.MapFS{logFolder + "/" + name: {Data: b}})
		if err != nil {
			t.Fatal(err)
		}
		if (known.sequence != 0 || len(known.taken) > 0) && string(b) != string(good) {
			if e, err := release.Logged(b, a.sync.PublicKey()); err != nil || e.Digest() != h.envelope().Digest() {
				t.Fatalf("learned from %q", b)
			}
		}
		sequenceIn(b)
		sequenceOf(name)
	})
}
