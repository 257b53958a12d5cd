package release_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// Whatever one byte of a published release becomes, it does not open.
func TestFlippedByteAnywhereIsRefused(t *testing.T) {
	r := newRepo(t)
	dir := r.publish(7)
	files, err := filepath.Glob(filepath.Join(dir, "bundles", "*"))
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	for _, name := range append(files, filepath.Join(dir, "release.json")) {
		good := read(t, name)
		for at := 0; at < len(good); at += 1 + len(good)/60 {
			bad := bytes.Clone(good)
			bad[at] ^= 1
			if err := os.WriteFile(name, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := r.open(dir); err == nil {
				t.Errorf("%s: accepted with byte %d flipped", filepath.Base(name), at)
			}
		}
		if err := os.WriteFile(name, good, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.open(dir); err != nil {
		t.Errorf("restored, it has to open: %v", err)
	}
}

func TestTruncatedReleaseIsRefused(t *testing.T) {
	r := newRepo(t)
	built := r.build(7)
	for _, name := range []string{release.PolicyBundle, release.ConnectionBundle("orders-db")} {
		dir := t.TempDir()
		if err := release.Publish(dir, built, r.keys["release"]); err != nil {
			t.Fatal(err)
		}
		edit(t, bundlePath(dir, built, name), func(b []byte) []byte { return b[:len(b)/2] })
		_, err := r.open(dir)
		wantError(t, err, name, "truncated")

		whole := built.Bundles[built.Envelope.Bundles[name]]
		for _, cut := range []int{0, 5, len(whole) / 2, len(whole) - 8, len(whole) - 1} {
			if _, err := r.open(r.replaceBundle(built, name, whole[:cut])); err == nil {
				t.Errorf("%s cut to %d bytes was accepted", name, cut)
			}
		}
		_, err = r.open(r.replaceBundle(built, name, append(bytes.Clone(whole), whole...)))
		wantError(t, err, name, "bytes follow")
	}
	dir := r.publish(7)
	edit(t, filepath.Join(dir, "release.json"), func(b []byte) []byte { return b[:len(b)-10] })
	_, err := r.open(dir)
	wantError(t, err, "release.json")
}

func TestMissingFilesAreRefused(t *testing.T) {
	r := newRepo(t)
	_, err := r.open(t.TempDir())
	wantError(t, err, "release.json")
	built := r.build(7)
	for _, name := range []string{release.PolicyBundle, release.ConnectionBundle("orders-db")} {
		dir := r.publish(7)
		if err := os.Remove(bundlePath(dir, built, name)); err != nil {
			t.Fatal(err)
		}
		_, err := r.open(dir)
		wantError(t, err, name)
	}
}

// envelopeFile is release.json as an attacker rewrites it.
type envelopeFile struct {
	PayloadType string           `json:"payloadType"`
	Payload     []byte           `json:"payload"`
	Signatures  []signatureEntry `json:"signatures"`
}

type signatureEntry struct {
	Fingerprint string `json:"fingerprint"`
	Signature   string `json:"signature"`
}

func (r *repo) entry(key, namespace string, payload []byte) signatureEntry {
	r.t.Helper()
	armored, err := reviews.Sign(r.keys[key], namespace, payload)
	if err != nil {
		r.t.Fatal(err)
	}
	return signatureEntry{ssh.FingerprintSHA256(r.keys[key].PublicKey()), string(armored)}
}

func TestSignaturesThatDoNotCount(t *testing.T) {
	r := newRepo(t)
	r.keys["stranger"] = signerFor(t, "stranger")
	good := func(p []byte) signatureEntry { return r.entry("release", reviews.NamespaceRelease, p) }
	cases := map[string]struct {
		signatures func(payload []byte) []signatureEntry
		want       string
	}{
		"none": {func([]byte) []signatureEntry { return []signatureEntry{} }, "no signature"},
		"unknown key": {func(p []byte) []signatureEntry {
			return []signatureEntry{r.entry("stranger", reviews.NamespaceRelease, p)}
		}, "does not list it"},
		"approver's key": {func(p []byte) []signatureEntry {
			return []signatureEntry{r.entry("user:bob", reviews.NamespaceRelease, p)}
		}, "does not list it"},
		"gateway's key": {func(p []byte) []signatureEntry {
			return []signatureEntry{r.entry("gateway", reviews.NamespaceRelease, p)}
		}, "does not list it"},
		"revoked key": {func(p []byte) []signatureEntry {
			return []signatureEntry{r.entry("revoked-release", reviews.NamespaceRelease, p)}
		}, "stolen laptop"},
		"expired key": {func(p []byte) []signatureEntry {
			return []signatureEntry{r.entry("expired-release", reviews.NamespaceRelease, p)}
		}, "expired"},
		"other namespace": {func(p []byte) []signatureEntry {
			return []signatureEntry{r.entry("release", reviews.NamespaceReview, p)}
		}, "another purpose"},
		"other bytes": {func([]byte) []signatureEntry { return []signatureEntry{good([]byte("{}"))} }, "not over these bytes"},
		"twice":       {func(p []byte) []signatureEntry { return []signatureEntry{good(p), good(p)} }, "twice"},
		"extra stranger": {func(p []byte) []signatureEntry {
			return []signatureEntry{good(p), r.entry("stranger", reviews.NamespaceRelease, p)}
		}, "does not list it"},
		"other fingerprint": {func(p []byte) []signatureEntry {
			e := good(p)
			e.Fingerprint = ssh.FingerprintSHA256(r.keys["gateway"].PublicKey())
			return []signatureEntry{e}
		}, "listed as"},
		"garbage": {func([]byte) []signatureEntry { return []signatureEntry{{"SHA256:x", "garbage"}} }, "not an SSH signature"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := r.publish(7)
			edit(t, filepath.Join(dir, "release.json"), func(b []byte) []byte {
				var f envelopeFile
				if err := json.Unmarshal(b, &f); err != nil {
					t.Fatal(err)
				}
				f.Signatures = c.signatures(f.Payload)
				return mustJSON(t, f)
			})
			_, err := r.open(dir)
			wantError(t, err, "release.json", c.want)
			if !errors.Is(err, release.ErrUntrusted) {
				t.Errorf("%v is not ErrUntrusted", err)
			}
		})
	}
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOtherPinsAndTimes(t *testing.T) {
	r := newRepo(t)
	dir := r.publish(7)
	cases := map[string]struct {
		trust release.Trust
		at    time.Time
		is    error
		want  string
	}{
		"wrong pin":    {release.Trust{RootDigest: strings.Repeat("0", 64)}, now, release.ErrUntrusted, "pinned"},
		"no pin":       {release.Trust{}, now, release.ErrUntrusted, "pinned"},
		"other repo":   {release.Trust{RootDigest: r.root, Repo: "11111111-1d2b-4c3a-9e8f-0a1b2c3d4e5f"}, now, nil, "access repo"},
		"expired":      {r.trust(), now.Add(24 * time.Hour), release.ErrExpired, "2026-11-25T12:00:00Z"},
		"long expired": {r.trust(), now.AddDate(0, 0, 30), release.ErrExpired, "expired"},
		"from ahead":   {r.trust(), now.Add(-6 * time.Minute), nil, "in the future"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := release.Open(context.Background(), dir, c.trust, nil, c.at)
			wantError(t, err, c.want)
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v is not %v", err, c.is)
			}
		})
	}
	if _, err := release.Open(context.Background(), dir, r.trust(), nil, now.Add(24*time.Hour-time.Second)); err != nil {
		t.Errorf("just before its end: %v", err)
	}
}

// A release key signs an envelope that lies about what it holds.
func TestEnvelopeThatDisagreesWithItsBundles(t *testing.T) {
	r := newRepo(t)
	in := r.input(7)
	in.History = seen(release.Seen{Sequence: 5})
	higher, err := release.Build(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		change func(*release.Envelope)
		want   string
	}{
		"swapped bundles": {func(e *release.Envelope) {
			e.Bundles["policy"], e.Bundles["connection/orders-db"] = e.Bundles["connection/orders-db"], e.Bundles["policy"]
		}, "roots"},
		"a connection's bundle under another name": {func(e *release.Envelope) {
			e.Bundles["connection/billing-db"] = e.Bundles["connection/orders-db"]
		}, "roots of bundles must not overlap"},
		"path as digest":   {func(e *release.Envelope) { e.Bundles["policy"] = "../../../../etc/passwd" }, "names no bundle"},
		"no policy":        {func(e *release.Envelope) { delete(e.Bundles, "policy") }, "names no bundle"},
		"path as name":     {func(e *release.Envelope) { e.Bundles["connection/../x"] = e.Bundles["policy"] }, "not the name of a bundle"},
		"unknown bundle":   {func(e *release.Envelope) { e.Bundles["more"] = e.Bundles["policy"] }, "not the name of a bundle"},
		"other repo":       {func(e *release.Envelope) { e.Repo = "11111111-1d2b-4c3a-9e8f-0a1b2c3d4e5f" }, "access repo"},
		"other repository": {func(e *release.Envelope) { e.Repository = "https://evil.example" }, "repository"},
		"other trust":      {func(e *release.Envelope) { e.TrustVersion = 2 }, "trust version"},
		"sequence 0":       {func(e *release.Envelope) { e.Sequence = 0 }, "sequence is 0"},
		"ends first":       {func(e *release.Envelope) { e.ValidUntil = e.IssuedAt }, "before it begins"},
		"higher sequence": {func(e *release.Envelope) {
			e.Bundles["sequences/orders-db"] = higher.Envelope.Bundles["sequences/orders-db"]
		}, "sequence 4 where the highest is 5"},
		"unlisted sequence": {func(e *release.Envelope) { delete(e.Bundles, "sequences/orders-db") }, "sequence 4 where the highest is 0"},
		"path as sequences": {func(e *release.Envelope) { e.Bundles["sequences/../x"] = e.Bundles["policy"] }, "not the name of a bundle"},
		"sequences of another connection": {func(e *release.Envelope) {
			e.Bundles["sequences/billing-db"] = e.Bundles["sequences/orders-db"]
		}, "roots of bundles must not overlap"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			built := r.build(7)
			c.change(&built.Envelope)
			maps.Copy(built.Bundles, higher.Bundles)
			dir := t.TempDir()
			if err := release.Publish(dir, built, r.keys["release"]); err != nil {
				t.Fatal(err)
			}
			_, err := r.open(dir)
			wantError(t, err, c.want)
		})
	}
}

// Another spelling of the same JSON could be read in two ways, so it is refused
// even under a good signature.
func TestOtherSpellingsOfThePayload(t *testing.T) {
	r := newRepo(t)
	cases := map[string]func(string) string{
		"duplicate key": func(s string) string { return strings.Replace(s, `"sequence":7`, `"sequence":9,"sequence":7`, 1) },
		"other case":    func(s string) string { return strings.Replace(s, `"sequence"`, `"Sequence"`, 1) },
		"unknown key":   func(s string) string { return strings.Replace(s, `{`, `{"admin":true,`, 1) },
		"white space":   func(s string) string { return s + "\n" },
		"second value":  func(s string) string { return s + "{}" },
		"not an object": func(string) string { return "[]" },
		"empty":         func(string) string { return "" },
		"deep nesting":  func(string) string { return strings.Repeat("[", 1<<20) },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			dir := r.publish(7)
			edit(t, filepath.Join(dir, "release.json"), func(b []byte) []byte {
				var f envelopeFile
				if err := json.Unmarshal(b, &f); err != nil {
					t.Fatal(err)
				}
				f.Payload = []byte(change(string(f.Payload)))
				f.Signatures = []signatureEntry{r.entry("release", reviews.NamespaceRelease, f.Payload)}
				return mustJSON(t, f)
			})
			_, err := r.open(dir)
			wantError(t, err, "release.json: payload")
		})
	}
	dir := r.publish(7)
	edit(t, filepath.Join(dir, "release.json"), func(b []byte) []byte { return bytes.Replace(b, []byte("release.v1"), []byte("release.v2"), 1) })
	_, err := r.open(dir)
	wantError(t, err, "not supported by this version")
}

type member struct {
	name string
	kind byte
	data []byte
}

func unpackAll(t testing.TB, bundle []byte) []member {
	t.Helper()
	unzipped, err := gzip.NewReader(bytes.NewReader(bundle))
	if err != nil {
		t.Fatal(err)
	}
	var members []member
	for archive := tar.NewReader(unzipped); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return members
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, member{h.Name, h.Typeflag, b})
	}
}

func packAll(t testing.TB, members []member) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	for _, m := range members {
		h := &tar.Header{Typeflag: m.kind, Name: m.name, Mode: 0o644, Size: int64(len(m.data))}
		if m.kind != tar.TypeReg {
			h.Size, h.Linkname = 0, "/etc/passwd"
		}
		if err := archive.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if m.kind == tar.TypeReg {
			if _, err := archive.Write(m.data); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(archive.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// sealed gives the members the manifest that belongs to them, as a careful attacker would.
func sealed(t testing.TB, members []member, roots []string) []member {
	t.Helper()
	files := map[string][]byte{}
	for _, m := range members {
		if m.name != ".manifest" {
			files[m.name] = m.data
		}
	}
	return append([]member{{".manifest", tar.TypeReg, release.Manifest(files, roots)}}, without(members, ".manifest")...)
}

func without(members []member, name string) []member {
	var kept []member
	for _, m := range members {
		if m.name != name {
			kept = append(kept, m)
		}
	}
	return kept
}

var ordersRoots = []string{"sallyport/connections/orders-db"}

func TestHostileBundles(t *testing.T) {
	r := newRepo(t)
	built := r.build(7)
	name := release.ConnectionBundle("orders-db")
	good := unpackAll(t, built.Bundles[built.Envelope.Bundles[name]])
	regular := func(name, data string) member { return member{name, tar.TypeReg, []byte(data)} }
	cases := map[string]struct {
		members []member
		want    string
	}{
		"path traversal":     {append(good[:len(good):len(good)], regular("../../etc/cron.d/x", "")), "name that bundles never have"},
		"dots inside":        {append(good[:len(good):len(good)], regular("a/../../x", "")), "name that bundles never have"},
		"absolute path":      {append(good[:len(good):len(good)], regular("/etc/passwd", "")), "name that bundles never have"},
		"backslashes":        {append(good[:len(good):len(good)], regular(`..\x`, "")), "name that bundles never have"},
		"symlink":            {append(good[:len(good):len(good)], member{"link", tar.TypeSymlink, nil}), "not a regular file"},
		"hard link":          {append(good[:len(good):len(good)], member{"link", tar.TypeLink, nil}), "not a regular file"},
		"folder":             {append(good[:len(good):len(good)], member{"folder/", tar.TypeDir, nil}), "not a regular file"},
		"duplicate member":   {append(good[:len(good):len(good)], good[len(good)-1]), "there twice"},
		"delta":              {append(good[:len(good):len(good)], regular("patch.json", `{"data":[]}`)), "delta bundle"},
		"delta below":        {append(good[:len(good):len(good)], regular("sallyport/patch.json", `{"data":[]}`)), "delta bundle"},
		"OPA signature":      {append(good[:len(good):len(good)], regular(".signatures.json", `{}`)), "name that bundles never have"},
		"no manifest":        {without(good, ".manifest"), "no .manifest"},
		"changed, unsealed":  {append(without(good, "x"), regular("more.rego", "package sallyport.more")), "digest of the members"},
		"more Rego":          {sealed(t, append(without(good, "x"), regular("more.rego", "package sallyport.decision\nverdict := \"allow\"")), ordersRoots), "2 members"},
		"overlapping roots":  {sealed(t, good, []string{"sallyport"}), "must not overlap"},
		"root of everything": {sealed(t, good, []string{""}), "must not overlap"},
		"second root":        {sealed(t, good, []string{"access", "sallyport/connections/orders-db"}), "must not overlap"},
		"only a manifest":    {sealed(t, nil, ordersRoots), "0 members"},
		"empty":              {nil, "no .manifest"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := r.open(r.replaceBundle(built, release.ConnectionBundle("orders-db"), packAll(t, c.members)))
			wantError(t, err, "connection/orders-db", c.want)
		})
	}
	t.Run("not gzip", func(t *testing.T) {
		_, err := r.open(r.replaceBundle(built, name, []byte("hello")))
		wantError(t, err, "not gzip")
	})
}

// 300 MiB of zeroes pack into 300 KiB. Reading has to stop at the limit.
func TestGzipBomb(t *testing.T) {
	r := newRepo(t)
	var out bytes.Buffer
	zipped, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	archive := tar.NewWriter(zipped)
	if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "data.json", Size: release.MaxBundle + 1<<20}); err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, 1<<20)
	for range release.MaxBundle>>20 + 1 {
		if _, err := archive.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{release.PolicyBundle, release.ConnectionBundle("orders-db")} {
		_, err := r.open(r.replaceBundle(r.build(7), name, out.Bytes()))
		wantError(t, err, name, "unpacks to more than 256 MiB")
	}
}

// rewrite changes one member of a bundle and seals it again.
func (r *repo) rewrite(built *release.Built, bundle, name string, roots []string, change func(string) string) string {
	r.t.Helper()
	members := unpackAll(r.t, built.Bundles[built.Envelope.Bundles[bundle]])
	for i, m := range members {
		if m.name != name {
			continue
		}
		changed := change(string(m.data))
		if changed == string(m.data) {
			r.t.Fatalf("%s: the edit changes nothing", name)
		}
		members[i].data = []byte(changed)
	}
	return r.replaceBundle(built, bundle, packAll(r.t, sealed(r.t, members, roots)))
}

func swap(old, new string) func(string) string {
	return func(s string) string { return strings.Replace(s, old, new, 1) }
}

// swapInside changes a base64 document.
func swapInside(document []byte, old, new string) func(string) string {
	changed := bytes.Replace(document, []byte(old), []byte(new), 1)
	return swap(base64.StdEncoding.EncodeToString(document), base64.StdEncoding.EncodeToString(changed))
}

// Whoever holds a release key must not be able to say one thing to OPA and have
// another in the signed documents.
func TestDataAndDocumentsHaveToAgree(t *testing.T) {
	r := newRepo(t)
	r.files["connections/orders-db.catalog.json"] = &fstest.MapFile{Data: []byte("\n")} // Cg== in base64
	built := r.build(7)
	connection, data := release.ConnectionBundle("orders-db"), "sallyport/connections/orders-db/data.json"
	review := r.files["reviews/orders-db/etl-nightly.yaml"].Data
	cases := map[string]struct {
		change func(string) string
		want   string
	}{
		"review data widened":        {swap(`"verbs":["select"]`, `"verbs":["delete"]`), "is not what reviews/orders-db/etl-nightly.yaml says"},
		"review document edited":     {swapInside(review, "verbs: [select]", "verbs: [delete]"), "does not have the sha256"},
		"connection data edited":     {swap(`"risk":"high"`, `"risk":"low"`), "is not what connections/orders-db.yaml says"},
		"connection document edited": {swapInside(r.files["connections/orders-db.yaml"].Data, "risk: high", "risk: low"), "is not what connections/orders-db.yaml says"},
		"mask dropped from document": {swapInside(r.files["connections/orders-db.yaml"].Data, "ssn", "sex"), "is not what connections/orders-db.yaml says"},
		"lines moved":                {swap(`"allow[0]":10`, `"allow[0]":11`), "is not what reviews/orders-db/etl-nightly.yaml says"},
		"commit missing":             {swap(`"commit":"`+strings.Repeat("b", 40)+`"`, `"commit":""`), "lacks its commit"},
		"approval time missing":      {swap(`"approvedAt":"2026-11-24T11:00:00Z"`, `"approvedAt":"soon"`), "time of approval"},
		"entry removed":              {swap(`"reviews":{`, `"reviews":{},"gone":{`), "canonical form"},
		"entry renamed":              {swap(`{"orders-db/etl-nightly":{`, `{"orders-db/other":{`), "has no entry in this bundle"},
		"duplicate entry":            {swap(`"reviews":{`, `"reviews":{"a/b":{},`), "canonical form"},
		"broken document":            {swapInside(r.files["connections/orders-db.yaml"].Data, "protocol: postgres", "protocol: [postgres"), "connections/orders-db.yaml"},
		"entry with another key":     {swap(`"orders-db/etl-nightly":{`, `"orders-db/etl-nightly":{"more":1,`), "canonical form"},
		"entry with white space":     {swap(`"approvers":[`, `"approvers": [`), "canonical form"},
		"data with a repeated key":   {swap(`"document":{`, `"document":{"kind":"AccessReview",`), "is not what reviews/orders-db/etl-nightly.yaml says"},
		"key spelled otherwise":      {swap(`"orders-db/etl-nightly":{`, `"orders-db/etl\u002dnightly":{`), "canonical form"},
		"base64 spelled otherwise":   {swap(`"Cg=="`, `"Ch=="`), "canonical form"},
		"bytes behind the end":       {func(s string) string { return s + "\n" }, "canonical form"},
		"not JSON":                   {func(string) string { return "{" }, "not the expected JSON"},
	}
	before, err := r.open(r.publish(6))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := r.rewrite(built, connection, data, ordersRoots, c.change)
			_, err := r.open(dir)
			wantError(t, err, "connection/orders-db", c.want)
			// Whoever has the good release in hand sees it just as well.
			_, err = release.Opener{Dir: dir, Trust: r.trust()}.Open(context.Background(), before, now)
			wantError(t, err, "connection/orders-db", c.want)
		})
	}
}

func TestPolicyBundleHasToAgree(t *testing.T) {
	r := newRepo(t)
	built := r.build(7)
	roots := release.PolicyRoots()
	trust, policy := "sallyport/trust/data.json", r.files["policies/hours.rego"].Data
	cases := map[string]struct {
		member string
		change func(string) string
		want   string
	}{
		"library weakened":         {"sallyport/library/judgement.rego", swap("not refused", "true"), "not the built-in library"},
		"library removed":          {"sallyport/library/judgement.rego", func(string) string { return "package sallyport.judgement\n" }, "not the built-in library"},
		"policy module edited":     {"policies/hours.rego", swap("deny contains", "hold contains"), "not the signed policy"},
		"policy document edited":   {trust, swapInside(policy, "deny contains", "hold contains"), "not the signed policy"},
		"root edited":              {trust, swapInside(r.files["trust/root.yaml"].Data, "version: 1", "version: 2"), "pinned"},
		"config of another repo":   {trust, swapInside(r.files["sallyport.yaml"].Data, repoID, "11111111-1d2b-4c3a-9e8f-0a1b2c3d4e5f"), "access repo"},
		"principal of another one": {trust, swapInside(r.files["principals/agent_etl.yaml"].Data, repoID, "11111111-1d2b-4c3a-9e8f-0a1b2c3d4e5f"), "access repo"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := r.open(r.rewrite(built, release.PolicyBundle, c.member, roots, c.change))
			wantError(t, err, "policy", c.want)
		})
	}
	t.Run("module without a document", func(t *testing.T) {
		members := append(unpackAll(t, built.Bundles[built.Envelope.Bundles["policy"]]), member{"policies/more.rego", tar.TypeReg, []byte("package access\n")})
		_, err := r.open(r.replaceBundle(built, "policy", packAll(t, sealed(t, members, roots))))
		wantError(t, err, "policies/more.rego", "does not belong")
	})
}

func TestRevokedKeysMayNotLogIn(t *testing.T) {
	r := newRepo(t)
	r.writeRoot("    - {fingerprint: \"" + ssh.FingerprintSHA256(r.keys["agent:etl"].PublicKey()) + "\", reason: leaked}\n")
	opened, err := r.open(r.publish(7))
	if err != nil {
		t.Fatal(err)
	}
	if p := opened.Principals["agent:etl"]; p == nil || len(p.Keys) != 0 {
		t.Errorf("principal %+v", p)
	}
}

func FuzzOpenBundle(f *testing.F) {
	r := newRepo(f)
	for _, bundle := range r.build(7).Bundles {
		f.Add(bundle)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		members, err := release.ReadMembers(b, 1<<20)
		if err != nil {
			return
		}
		for name := range members {
			if !filepath.IsLocal(name) || filepath.Base(name) == "patch.json" {
				t.Errorf("member %q was let in", name)
			}
		}
	})
}

// However a connection's data is written: what is accepted is what encoding/json
// reads, to the byte, as far as its parts are JSON.
func FuzzDecodeConnection(f *testing.F) {
	r := newRepo(f)
	built := r.build(7)
	for _, m := range unpackAll(f, built.Bundles[built.Envelope.Bundles[release.ConnectionBundle("orders-db")]]) {
		if strings.HasSuffix(m.name, "data.json") {
			f.Add(m.data)
		}
	}
	for _, text := range []string{
		`{"connection":{},"reviews":{},"documents":{},"seen":{}}`,
		`{"connection":{"a":"}\\\""},"reviews":{"a":{"b":["]"]},"c":{}},"documents":{"a":"Cg==","b":""},"seen":{"a":"2026-11-24T12:00:00Z"}}`,
		`{"connection":{},"reviews":{"a":{},"a":{}},"documents":{},"seen":{}}`,
		`{"connection":{},"reviews":{"\u0061":{}},"documents":{"\u003c":""},"seen":{"\u0061":"\u003c"}}`,
		`{"connection":"\\`, `{"connection":"`, `{"connection":}`, `{"connection":1,"reviews":{},"documents":{},"seen":{}}`, `{`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		connection, entries, documents, err := release.DecodeConnection(b)
		if err != nil || !json.Valid(b) {
			return
		}
		var want struct {
			Connection json.RawMessage            `json:"connection"`
			Reviews    map[string]json.RawMessage `json:"reviews"`
			Documents  map[string][]byte          `json:"documents"`
		}
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatalf("accepted %q: %v", b, err)
		}
		if !bytes.Equal(connection, want.Connection) || !maps.EqualFunc(entries, want.Reviews, equal) || !maps.EqualFunc(documents, want.Documents, bytes.Equal) {
			t.Errorf("%q was read as %q, %q, %q", b, connection, entries, documents)
		}
	})
}

func equal(a, b json.RawMessage) bool { return bytes.Equal(a, b) }
