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
}

// add puts the document and its signatures into the files.
func (d documents) add(s reviews.Source) {
	d[s.Path] = s.Bytes
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
