package reviews_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/open-policy-agent/opa/v1/util"
	"gopkg.in/yaml.v3"

	"github.com/sallyport-dev/sallyport/reviews"
)

// parsers are those of all kinds, with what each gives Rego.
var parsers = []func(b []byte) (map[string]any, error){
	func(b []byte) (map[string]any, error) {
		_, err := reviews.ParseConfig(reviews.ConfigPath, b)
		return nil, err
	},
	func(b []byte) (map[string]any, error) {
		_, err := reviews.ParseRoot(reviews.RootPath, b)
		return nil, err
	},
	func(b []byte) (map[string]any, error) {
		_, err := reviews.ParsePrincipal("principals/agent_etl.yaml", b)
		return nil, err
	},
	func(b []byte) (map[string]any, error) {
		c, err := reviews.ParseConnection("connections/orders-db.yaml", b)
		if err != nil {
			return nil, err
		}
		return c.JSON(), nil
	},
	func(b []byte) (map[string]any, error) {
		r, err := reviews.ParseReview("reviews/orders-db/etl.yaml", b)
		if err != nil {
			return nil, err
		}
		return r.JSON(), nil
	},
	func(b []byte) (map[string]any, error) {
		_, err := reviews.ParseRewind(reviews.RewindPath, b)
		return nil, err
	},
	func(b []byte) (map[string]any, error) {
		_, err := reviews.ParseExtension(reviews.ExtensionPath, b)
		return nil, err
	},
}

// Whatever a file holds, each parser accepts it or says where and what to do. What is accepted means the
// same to every other reader of YAML.
func FuzzParse(f *testing.F) {
	a := newAccess(f)
	for name, file := range a.files {
		if strings.HasSuffix(name, ".yaml") {
			f.Add(file.Data)
		}
	}
	f.Add([]byte(header(reviews.KindRewind, "rewind") + "  from: " + strings.Repeat("a", 40) + "\n  to: " + strings.Repeat("b", 40) + "\n  reason: x\n"))
	f.Add([]byte(header(reviews.KindExtension, "extension") + "  release: " + strings.Repeat("a", 64) + "\n  until: \"2027-01-01T00:00:00Z\"\n  reason: x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for i, parse := range parsers {
			normal, err := parse(b)
			if err != nil {
				var problems reviews.Problems
				if !errors.As(err, &problems) || len(problems) == 0 {
					t.Fatalf("parser %d: %T %v", i, err, err)
				}
				for _, p := range problems {
					if p.File == "" || p.Message == "" || p.Fix == "" || len(p.String()) > 4<<10 {
						t.Fatalf("parser %d: without a place or a next step, or too long: %+v", i, p)
					}
				}
				continue
			}
			sameToAll(t, b)
			if normal != nil {
				if _, err := json.Marshal(normal); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// sameToAll demands that yaml.v3 and OPA read the same in a document.
func sameToAll(t *testing.T, b []byte) {
	t.Helper()
	var ours, theirs any
	if err := yaml.Unmarshal(b, &ours); err != nil {
		t.Fatalf("yaml.v3: %v", err)
	}
	if err := util.Unmarshal(b, &theirs); err != nil {
		t.Fatalf("OPA: %v", err)
	}
	x, errX := json.Marshal(ours)
	y, errY := json.Marshal(theirs)
	if errX != nil || errY != nil || string(x) != string(y) {
		t.Fatalf("yaml.v3 reads %s (%v) and OPA %s (%v)", x, errX, y, errY)
	}
}

// Names of documents and files turn into each other, and none leaves its folder.
func FuzzPaths(f *testing.F) {
	for _, name := range []string{"sallyport.yaml", "reviews/orders-db/etl.yaml", "principals/agent_etl.yaml", "policies/x_test.rego", "connections/a.yaml",
		"reviews/../trust/root.yaml", "principals/a/b.yaml", "reviews/a/b.yaml.sigs/user_bob.00.sig", "REVIEWS/a/b.yaml", "reviews/a\n/b.yaml"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if kind := reviews.KindOf(name); kind != "" {
			if !fs.ValidPath(name) && kind != reviews.KindPrincipal || path.Clean(name) != name {
				t.Fatalf("%q is a %s", name, kind)
			}
		}
		for is, kind := range map[bool]reviews.Kind{reviews.IsReview(name): reviews.KindReview, reviews.IsConnection(name): reviews.KindConnection, reviews.IsPrincipal(name): reviews.KindPrincipal} {
			if at := reviews.PathOf(kind, name); is && (reviews.KindOf(at) != kind || !fs.ValidPath(at) || strings.ToLower(at) != at) {
				t.Fatalf("%s %q stands at %q", kind, name, at)
			}
		}
	})
}

// Whatever lies among the signatures of a document, under whatever name, only bob's approves.
func FuzzSidecar(f *testing.F) {
	a := newAccess(f)
	bobs := reviews.SidecarPath(reviewPath, "user:bob", a.keys["user:bob"].PublicKey())
	signature := a.files[bobs].Data
	a.sign(reviewPath)
	f.Add(path.Base(bobs), signature)
	f.Add(path.Base(bobs), signature[:len(signature)-1])
	f.Add("user_bob.sig", signature)
	f.Add("x", []byte{})
	f.Add("user_alice."+strings.Repeat("0", 64)+".sig", []byte("-----BEGIN SSH SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		if !fs.ValidPath(name) || strings.Contains(name, "/") || name == "." {
			return
		}
		files := fstest.MapFS{reviewPath + ".sigs/" + name: {Data: b, Mode: 0o644}}
		for at, file := range a.files {
			files[at] = file
		}
		tree, err := reviews.Load(files, reviews.LoadOptions{Now: noon, Approvals: reviews.ReportApprovals})
		if err != nil {
			t.Fatal(err)
		}
		r := tree.Reviews["orders-db/etl"]
		if r == nil {
			return
		}
		key, err := reviews.Verify(b, reviews.NamespaceReview, files[reviewPath].Data)
		if got := len(r.Source.Approvals); got > 1 || got == 1 && (err != nil || string(key.Marshal()) != string(a.keys["user:bob"].PublicKey().Marshal())) {
			t.Fatalf("approved by %q through %q", r.Source.Approvals, name)
		}
	})
}

// What the attester signed is read in one spelling, and says nothing about other contents, repositories or forges.
func FuzzAttestation(f *testing.F) {
	a := newAccess(f)
	a.forge(forgeRule)
	at := reviews.AttestationPath(digestOf(a.read(reviewPath)))
	a.attest(a.approved(), "attester")
	var good struct{ Payload []byte }
	if err := json.Unmarshal(a.files[at].Data, &good); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Payload, true)
	f.Add(a.files[at].Data, false)
	for _, change := range [][2]string{{repo, "x"}, {"gitea", "github"}, {`"_type"`, `"_Type"`}, {`"approvals":[`, `"approvals":[],"approvals":[`}, {`"id":2`, `"id":1`}, {"main", "next"}} {
		f.Add([]byte(strings.Replace(string(good.Payload), change[0], change[1], 1)), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, signed bool) {
		if signed {
			armored, err := reviews.Sign(a.keys["attester"], reviews.NamespaceAttestation, b)
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(string(armored))
			if err != nil {
				t.Fatal(err)
			}
			b = fmt.Appendf(nil, `{"payloadType":"application/vnd.in-toto+json","payload":%q,"signature":%s}`, base64.StdEncoding.EncodeToString(b), text)
		}
		files := fstest.MapFS{}
		for name, file := range a.files {
			files[name] = file
		}
		files[at] = &fstest.MapFile{Data: b, Mode: 0o644}
		tree, err := reviews.Load(files, reviews.LoadOptions{Now: noon, Approvals: reviews.ReportApprovals})
		if err != nil {
			t.Fatal(err)
		}
		r := tree.Reviews["orders-db/etl"]
		if r == nil || len(r.Source.Approvals) == 0 {
			return
		}
		var st reviews.Statement
		var envelope struct{ Payload []byte }
		if json.Unmarshal(b, &envelope) != nil || json.Unmarshal(envelope.Payload, &st) != nil || st.Predicate.Repo != repo || st.Predicate.Forge != "gitea" || st.Predicate.Base != "main" {
			t.Fatalf("approved by %q because of %s", r.Source.Approvals, envelope.Payload)
		}
		if again, err := json.Marshal(st); err != nil || string(again) != string(envelope.Payload) {
			t.Fatalf("another spelling counts: %s", envelope.Payload)
		}
	})
}
