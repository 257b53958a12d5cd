package release

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/reviews"
)

// documents are raw files of the access repo by path: documents, their
// signatures and catalogs.
type documents map[string][]byte

// trustFile is data.sallyport.trust: everything a verifier needs to check
// the approvals of trust, config, principals and policies without git.
type trustFile struct {
	Roots     []rootSeen `json:"roots"`     // the present one last
	Documents documents  `json:"documents"` // JSON has them in base64
	Seen      sightings  `json:"seen"`
}

// sightings are when sync first saw signatures and attestations, RFC 3339, by the
// sha256 hex of the file. One that is missing counts as seen when the release was issued.
type sightings map[string]string

// add puts the document, its signatures and its attestation into the files.
func (d documents) add(s reviews.Source) {
	d[s.Path] = s.Bytes
	if s.Attestation != nil {
		d[reviews.AttestationPath(s.SHA256)] = s.Attestation
	}
	for name, signature := range s.Signatures {
		d[s.Path+".sigs/"+path.Base(name)] = signature
	}
}

// Documents is the raw access repo as the release carries it: documents,
// signatures, catalogs and policies. It reads like a checkout of the commit without
// what that commit got wrong.
func (r *Release) Documents() (fs.FS, error) {
	all := maps.Clone(r.documents)
	for _, c := range r.Connections {
		maps.Copy(all, c.documents)
	}
	return all.fs()
}

// fs is an archive in memory, because its directories are found by search and
// not by walking all files.
func (d documents) fs() (fs.FS, error) {
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(d)) {
		w, err := archive.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err != nil {
			return nil, fmt.Errorf("release: file %s: %w", name, err)
		}
		if _, err := w.Write(d[name]); err != nil {
			return nil, fmt.Errorf("release: file %s: %w", name, err)
		}
	}
	if err := archive.Close(); err != nil {
		return nil, fmt.Errorf("release: documents: %w", err)
	}
	return zip.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()))
}

// sightings are what seen tells about the signatures and attestations among the files.
func (d documents) sightings(seen func(sha256 string) time.Time) sightings {
	all := sightings{}
	if seen == nil {
		return all
	}
	for name, b := range d {
		if !isApproval(name) {
			continue
		}
		sum := digest(b)
		if at := seen(sum); !at.IsZero() {
			all[sum] = stamp(at)
		}
	}
	return all
}

// signatures are the sidecars by document and file name.
func (d documents) signatures() map[string]map[string][]byte {
	all := map[string]map[string][]byte{}
	for name, b := range d {
		document, sidecar, ok := strings.Cut(name, ".sigs/")
		if !ok {
			continue
		}
		if all[document] == nil {
			all[document] = map[string][]byte{}
		}
		all[document][sidecar] = b
	}
	return all
}
