package reviews

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

const (
	maxCatalog  = 32 << 20 // bytes of a catalog file
	maxSidecars = 64       // signatures of one document
)

var sidecarForm = regexp.MustCompile(`^((?:user|agent|workload|program)_[a-z0-9][a-z0-9.-]{0,62})\.([0-9a-f]{64})\.sig$`)

// managed are the folders that belong to the access repo. Files elsewhere are nobody's business.
var managed = []string{"trust", principalsFolder, connectionsFolder, reviewsFolder, policiesFolder}

// top refuses names at the top of the repo that some file systems would take for
// the managed ones.
func (l *loader) top() {
	entries, err := fs.ReadDir(l.fsys, ".")
	if err != nil {
		return // reading the trust root will say it better
	}
	for _, e := range entries {
		lower := strings.ToLower(e.Name())
		taken := lower == ConfigPath || lower == ConfigPath+sidecarSuffix || slices.Contains(managed, lower)
		if taken && e.Name() != lower {
			l.tree.Problems = append(l.tree.Problems, problemf(e.Name(), "rename it to "+lower+" or delete it", "the name differs from %s only in case", lower))
		}
	}
}

// files are the paths of the well-placed documents of a kind, sorted, and of the
// folders that reviews are in. What else stands in the folder is reported.
func (l *loader) files(folder string, kind Kind) []string {
	entries := l.entries(folder)
	names := make(map[string]bool, len(entries))
	for _, e := range entries {
		names[e.Name()] = true
	}
	var found []string
	for _, e := range entries {
		at := path.Join(folder, e.Name())
		switch {
		case e.IsDir() && strings.HasSuffix(e.Name(), sidecarSuffix):
			l.orphan(at, names)
		case e.IsDir() && kind == KindReview && !strings.Contains(folder, "/"):
			found = append(found, at)
		case KindOf(at) == kind:
			found = append(found, at)
		case strings.HasSuffix(at, catalogSuffix) && kind == KindConnection:
			l.orphanCatalog(at, names)
		default:
			l.tree.Problems = append(l.tree.Problems, problemf(at, misplaced(kind), "no %s is stored here or by such a name", kind))
		}
	}
	return found
}

func misplaced(kind Kind) string {
	switch kind {
	case KindReview:
		return "name it reviews/<connection>/<name>.yaml in lower-case letters, digits and dashes, or move it elsewhere"
	case KindPolicy:
		return "name it policies/<name>.rego in lower-case letters, digits, dashes and underscores, or move it elsewhere"
	}
	return "name it after its metadata.name with the suffix .yaml, or move it elsewhere"
}

// entries lists a folder without what must not be there at all. A folder that is
// missing is empty.
func (l *loader) entries(folder string) []fs.DirEntry {
	entries, err := fs.ReadDir(l.fsys, folder)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			l.tree.Problems = append(l.tree.Problems, problemf(folder, "make it a folder with files, or take it out", "it cannot be listed: %v", err))
		}
		return nil
	}
	byName, byLower := make(map[string]int, len(entries)), make(map[string]int, len(entries))
	for _, e := range entries {
		byName[e.Name()]++
		byLower[strings.ToLower(e.Name())]++
	}
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		at := path.Join(folder, e.Name())
		p := oddEntry(at, e)
		switch {
		case byName[e.Name()] > 1:
			p = twice(at)
		case isPlain(e.Name()) && byLower[strings.ToLower(e.Name())] > 1:
			odd := problemf(at, "rename all but one", "another name here differs from it only in case")
			p = &odd
		}
		if p != nil {
			l.tree.Problems = append(l.tree.Problems, *p)
		}
		return p != nil
	})
}

// twice refuses a name that a malformed tree of git has more than once.
func twice(at string) *Problem {
	p := problemf(at, "delete it and commit, then add it again: git writes no such folder by itself", "the name is there twice")
	return &p
}

// oddEntry refuses everything but plain files and folders with plain names.
func oddEntry(at string, e fs.DirEntry) *Problem {
	var p Problem
	switch {
	case e.Type()&fs.ModeSymlink != 0:
		p = problemf(at, "replace it with the file itself", "it is a symbolic link")
	case !e.IsDir() && !e.Type().IsRegular():
		p = problemf(at, "commit it anew as a plain file (mode 100644), or delete it; submodules, special files and other modes have no place here", "it is not a plain file")
	case !isPlain(e.Name()):
		p = problemf(path.Dir(at)+"/"+printable(e.Name()), "use lower-case ASCII letters, digits, dots, dashes and underscores", "the name is not plain")
	case !e.IsDir() && isExecutable(e):
		p = problemf(at, "git update-index --chmod=-x "+at, "it is executable")
	default:
		return nil
	}
	return &p
}

// isPlain tells whether a name has only ASCII letters, digits, "_", and not in
// front "." and "-".
func isPlain(name string) bool {
	for i, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_':
		case i > 0 && (c == '.' || c == '-'):
		default:
			return false
		}
	}
	return name != ""
}

func isExecutable(e fs.DirEntry) bool {
	info, err := e.Info()
	return err == nil && info.Mode()&0o111 != 0
}

// orphan notes signatures whose document is not among the names beside them.
func (l *loader) orphan(at string, siblings map[string]bool) {
	if !siblings[path.Base(strings.TrimSuffix(at, sidecarSuffix))] {
		l.tree.Notes = append(l.tree.Notes, problemf(at, "delete it", "these signatures belong to no document"))
	}
}

func (l *loader) orphanCatalog(at string, siblings map[string]bool) {
	if !siblings[path.Base(strings.TrimSuffix(at, catalogSuffix))+".yaml"] {
		l.tree.Notes = append(l.tree.Notes, problemf(at, "delete it", "this catalog belongs to no connection"))
	}
}

// read returns a document and its sidecars by file name.
func (l *loader) read(at string) ([]byte, map[string][]byte, error) {
	return l.readUpTo(at, MaxDocument)
}

// readUpTo is read for a document of another size, in bytes.
func (l *loader) readUpTo(at string, most int64) ([]byte, map[string][]byte, error) {
	if err := l.plainPath(at); err != nil {
		return nil, nil, err
	}
	b, err := l.readFile(at, most)
	if err != nil {
		return nil, nil, err
	}
	sigs := make(map[string][]byte)
	for _, e := range l.sidecars(at) {
		sidecar := path.Join(at+sidecarSuffix, e.Name())
		if e.IsDir() || !sidecarForm.MatchString(e.Name()) {
			l.tree.Notes = append(l.tree.Notes, problemf(sidecar, "delete it; sallyport sign names signatures", "this is not a signature's name"))
			continue
		}
		if len(sigs) == maxSidecars {
			l.tree.Notes = append(l.tree.Notes, problemf(sidecar, "delete signatures that are not needed", "only the first %d signatures are read", maxSidecars))
			break
		}
		sig, err := l.readFile(sidecar, maxSignature)
		if err != nil {
			l.note(err)
			continue
		}
		sigs[e.Name()] = sig
	}
	return b, sigs, nil
}

// Identified is implemented by a file system that can name the contents of a
// file or folder: equal ids are equal bytes below it. Load then does not read
// again what its Cache knows by these names. An error means that it has to.
type Identified interface {
	ID(name string) (string, error)
}

// id stands for the bytes of a document and of everything in its folder of signatures.
func (l *loader) id(at string) (id [sha256.Size]byte, ok bool) {
	files, ok := l.fsys.(Identified)
	if !ok {
		return id, false
	}
	document, err := files.ID(at)
	if err != nil {
		return id, false
	}
	signatures, err := files.ID(at + sidecarSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return id, false
	}
	return digestOf([]byte("contents"), []byte(at), []byte(document), []byte(signatures)), true
}

func (l *loader) sidecars(at string) []fs.DirEntry {
	before := len(l.tree.Problems)
	entries := l.entries(at + sidecarSuffix)
	// An odd sidecar does not count; that alone closes nothing.
	l.tree.Notes = append(l.tree.Notes, l.tree.Problems[before:]...)
	l.tree.Problems = l.tree.Problems[:before]
	return entries
}

func (l *loader) note(err error) {
	var ps Problems
	if errors.As(err, &ps) {
		l.tree.Notes = append(l.tree.Notes, ps...)
	}
}

// plainPath checks the config and the trust root the way entries checks folders.
func (l *loader) plainPath(at string) error {
	if at != ConfigPath && at != RootPath {
		return nil
	}
	entries, err := fs.ReadDir(l.fsys, path.Dir(at))
	if err != nil {
		return nil // the read that follows says why
	}
	found := slices.DeleteFunc(slices.Clone(entries), func(e fs.DirEntry) bool { return e.Name() != path.Base(at) })
	if len(found) > 1 {
		return Problems{*twice(at)}
	}
	for _, e := range found {
		if p := oddEntry(at, e); p != nil {
			return Problems{*p}
		}
	}
	return nil
}

// readFile reads a file of bounded size. The error is a Problems.
func (l *loader) readFile(at string, most int64) ([]byte, error) {
	f, err := l.fsys.Open(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Problems{problemf(at, "run sallyport init in an empty repository, or restore it", "the file is missing")}
	}
	if err != nil {
		return nil, Problems{problemf(at, "make it a plain file, or take it out", "it cannot be opened: %v", err)}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, Problems{problemf(at, "write it anew, or take it out", "it cannot be read: %v", err)}
	}
	if int64(len(b)) > most {
		return nil, Problems{problemf(at, "make it smaller", "%s", fmt.Sprintf("the file has more than %d bytes", most))}
	}
	return bytes.Clone(b), nil // documents are kept, and need no room to grow
}

// attestation is the file about a document's pull request, nil when there is none.
func (l *loader) attestation(sha256 string) ([]byte, error) {
	l.attestationAsked(sha256)
	f, err := l.fsys.Open(AttestationPath(sha256))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAttestation+1))
	if err == nil && len(b) > maxAttestation {
		err = fmt.Errorf("it is larger than %d bytes", maxAttestation)
	}
	return b, err
}
