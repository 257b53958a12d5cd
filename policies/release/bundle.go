package release

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/sallyport-dev/sallyport/policies"
)

const (
	// MaxBundle bounds a bundle, in bytes, both packed and unpacked.
	MaxBundle = 256 << 20

	// readAhead is how many bytes a member's header is believed before the member
	// is read.
	readAhead = 64 << 20

	manifestFile = ".manifest"
	trustData    = "sallyport/trust/data.json"
)

// memberForm is what members may be called: no empty, dotted or absolute parts but .manifest.
var memberForm = regexp.MustCompile(`^(\.manifest|[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*)$`)

// manifest is OPA's .manifest. The revision is a digest of the other members: it
// depends on contents only, so that an unchanged bundle keeps its address.
type manifest struct {
	Revision    string   `json:"revision"`
	Roots       []string `json:"roots"`
	RegoVersion int      `json:"rego_version"`
}

func policyRoots() []string {
	roots := append(policies.Roots(), "sallyport/trust")
	slices.Sort(roots)
	return roots
}

func connectionRoots(name string) []string { return []string{"sallyport/connections/" + name} }

func sequencesRoots(name string) []string { return []string{"sallyport/sequences/" + name} }

func sequencesData(name string) string { return "sallyport/sequences/" + name + "/data.json" }

func connectionData(name string) string { return "sallyport/connections/" + name + "/data.json" }

// pack makes the bundle of these members. Equal members make equal bytes.
func pack(members map[string][]byte, roots []string) ([]byte, error) {
	all := maps.Clone(members)
	all[manifestFile] = canonical(manifestOf(members, roots))
	var out bytes.Buffer
	// A merge waits for this, and documents shrink to about the same at any level.
	zipped, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	archive := tar.NewWriter(zipped)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !memberForm.MatchString(name) {
			return nil, fmt.Errorf("a bundle cannot have a member %q", name)
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(all[name])), Format: tar.FormatPAX}
		if err := archive.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := archive.Write(all[name]); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(archive.Close(), zipped.Close()); err != nil {
		return nil, err
	}
	if out.Len() > MaxBundle {
		return nil, fmt.Errorf("the bundle is larger than %d MiB; spread the reviews over several connections", MaxBundle>>20)
	}
	return out.Bytes(), nil
}

func manifestOf(members map[string][]byte, roots []string) manifest {
	var sums strings.Builder
	for _, name := range slices.Sorted(maps.Keys(members)) {
		fmt.Fprintf(&sums, "%s %s\n", digest(members[name]), name)
	}
	return manifest{Revision: digest([]byte(sums.String())), Roots: roots, RegoVersion: 1}
}

// unpack reads a bundle and returns its members without the manifest, which has
// to be the one that pack writes for these roots.
func unpack(bundle []byte, roots []string) (map[string][]byte, error) {
	members, err := readMembers(bundle, MaxBundle)
	if err != nil {
		return nil, err
	}
	text, ok := members[manifestFile]
	if !ok {
		return nil, errors.New("the bundle has no .manifest")
	}
	delete(members, manifestFile)
	got, err := decode[manifest](text)
	if err != nil {
		return nil, fmt.Errorf(".manifest: %w", err)
	}
	if !slices.Equal(got.Roots, roots) {
		return nil, fmt.Errorf(".manifest: the roots are %q where %q are expected; roots of bundles must not overlap", got.Roots, roots)
	}
	if want := manifestOf(members, roots); !slices.Equal(canonical(want), text) {
		return nil, errors.New(".manifest: the revision is not the digest of the members")
	}
	return members, nil
}

// readMembers reads all members of a .tar.gz that unpacks to at most limit bytes.
func readMembers(bundle []byte, limit int64) (map[string][]byte, error) {
	source := bytes.NewReader(bundle)
	unzipped, err := gzip.NewReader(source)
	if err != nil {
		return nil, fmt.Errorf("the bundle is not gzip: %w", err)
	}
	unzipped.Multistream(false)
	capped := &cappedReader{from: unzipped, left: limit}
	stream := bufio.NewReader(capped)
	members, err := readTar(stream)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, stream); err != nil { // to the gzip checksum
		return nil, fmt.Errorf("the bundle is damaged: %w", err)
	}
	if source.Len() > 0 {
		return nil, errors.New("bytes follow the bundle's end")
	}
	return members, nil
}

func readTar(stream io.Reader) (map[string][]byte, error) {
	members := map[string][]byte{}
	archive := tar.NewReader(stream)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return members, nil
		}
		if err != nil {
			return nil, fmt.Errorf("the bundle is damaged: %w", err)
		}
		if err := checkMember(header, members); err != nil {
			return nil, err
		}
		var b bytes.Buffer
		b.Grow(int(min(header.Size, readAhead)) + bytes.MinRead)
		if _, err := b.ReadFrom(archive); err != nil {
			return nil, fmt.Errorf("the bundle is damaged in member %s: %w", header.Name, err)
		}
		members[header.Name] = b.Bytes()
	}
}

func checkMember(h *tar.Header, members map[string][]byte) error {
	_, twice := members[h.Name]
	switch {
	case h.Typeflag != tar.TypeReg:
		return fmt.Errorf("member %q is not a regular file", h.Name)
	case !memberForm.MatchString(h.Name):
		return fmt.Errorf("member %q has a name that bundles never have", h.Name)
	case path.Base(h.Name) == "patch.json":
		return fmt.Errorf("member %q makes a delta bundle, which is never accepted", h.Name)
	case twice:
		return fmt.Errorf("member %q is there twice", h.Name)
	}
	return nil
}

// errTooLarge ends the reading of a bundle that unpacks to too much.
var errTooLarge = fmt.Errorf("the bundle unpacks to more than %d MiB", MaxBundle>>20)

// cappedReader fails, where io.LimitReader would only end, at its limit.
type cappedReader struct {
	from io.Reader
	left int64
}

func (r *cappedReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if r.left -= int64(n); r.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}
