package release_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// However the file of a release is written, and whatever the release key signed: what opens is the release that was published.
func FuzzEnvelope(f *testing.F) {
	r := newRepo(f)
	dir := r.publish(7)
	path := filepath.Join(dir, release.EnvelopeFile)
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	var signed struct {
		PayloadType string `json:"payloadType"`
		Payload     []byte `json:"payload"`
		Signatures  []struct {
			Fingerprint string `json:"fingerprint"`
			Signature   string `json:"signature"`
		} `json:"signatures"`
	}
	if err := json.Unmarshal(good, &signed); err != nil {
		f.Fatal(err)
	}
	f.Add(good, false)
	f.Add(signed.Payload, true)
	f.Add([]byte(`{"repo":"x","sequence":-1}`), true)
	f.Fuzz(func(t *testing.T, b []byte, sign bool) {
		payload := b
		if sign {
			again := signed
			again.Payload = b
			armored, err := reviews.Sign(r.keys["release"], reviews.NamespaceRelease, b)
			if err != nil {
				t.Fatal(err)
			}
			again.Signatures = append(again.Signatures[:0:0], signed.Signatures...)
			again.Signatures[0].Signature = string(armored)
			if b, err = json.Marshal(again); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		opened, err := r.open(dir)
		if (opened == nil) == (err == nil) {
			t.Fatal("neither opened nor refused")
		}
		if e, _, err := release.Logged(b); err == nil && sign && e.Digest() != digestOf(payload) {
			t.Fatalf("another spelling of the payload is believed: %s", payload)
		}
		if err == nil && !sign && opened.Digest != digestOf(signed.Payload) {
			t.Fatalf("opened what nobody published: %s", b)
		}
	})
}

// A damaged mark is an error, and never an empty one.
func FuzzHighWater(f *testing.F) {
	r := newRepo(f)
	path := filepath.Join(f.TempDir(), "mark")
	mark, err := release.OpenHighWater(path)
	if err != nil {
		f.Fatal(err)
	}
	opened, err := r.open(r.publish(7))
	if err != nil {
		f.Fatal(err)
	}
	if err := mark.Advance(opened); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Add([]byte(`{"mark":{"version":2,"sequence":0},"sha256":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if mark, err := release.OpenHighWater(path); err == nil && (mark.Fresh() || mark.Sequence() < 1) {
			t.Fatalf("read as no mark: %q", b)
		}
	})
}

// Whatever lies beside a release for an extension, what is not signed by the root's members extends nothing.
func FuzzExtension(f *testing.F) {
	r := newRepo(f)
	dir := r.publish(7)
	f.Add([]byte("apiVersion: sallyport.dev/v1\nkind: Extension\nmetadata: {repo: "+repoID+", name: extension}\nspec:\n  release: "+r.root+"\n  until: \"2027-01-01T00:00:00Z\"\n  reason: x\n"), "user_bob.sig", []byte("-----BEGIN SSH SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte, name string, sidecar []byte) {
		if !filepath.IsLocal(name) || filepath.Base(name) != name {
			return
		}
		sigs := filepath.Join(dir, reviews.ExtensionPath+".sigs")
		if err := os.RemoveAll(sigs); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(sigs, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, reviews.ExtensionPath), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if os.WriteFile(filepath.Join(sigs, name), sidecar, 0o600) != nil {
			return // no name that the disk takes
		}
		opened, err := r.open(dir)
		if err != nil {
			t.Fatalf("an extension that does not hold takes the release away: %v", err)
		}
		if opened.Extended != "" || !opened.Until.Equal(opened.Envelope.ValidUntil) {
			t.Fatalf("extended because of %q", text)
		}
	})
}
