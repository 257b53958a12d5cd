package syncer

import (
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// view is an access repo put together from several commits: trust, config and
// policies of some (the base), and those documents of another that keep lets
// through. Everything is judged by loading the right view.
type view struct {
	trust    *gitrepo.Tree // trust/
	config   *gitrepo.Tree // sallyport.yaml and its signatures
	policies *gitrepo.Tree // policies/
	docs     *gitrepo.Tree // everything else
	audit    fs.FS         // approvals/, of the audit branch; nil: there are none
	// gone, when set, stands in for policies that policies does not have any more.
	gone *gitrepo.Tree
	// keep decides about a document, and about each of its signatures, whose
	// path it gets as well. Nil keeps all.
	keep func(doc, path string) bool
	// whole says that keep lets through all signatures of a document or none, and
	// hidden are the folders in which it holds back a document.
	whole  bool
	hidden map[string]bool
}

// inBase says whether a path belongs to trust, config or policies.
func inBase(name string) bool {
	top, _, _ := strings.Cut(name, "/")
	return isConfig(name) || top == "trust" || top == "policies"
}

func isConfig(name string) bool { return docOf(name) == reviews.ConfigPath }

// docOf is the document that a path belongs to: itself or, for a signature
// and the folder of signatures, what was signed.
func docOf(name string) string {
	before, after, found := strings.Cut(name, ".sigs")
	if found && (after == "" || strings.HasPrefix(after, "/")) {
		return before
	}
	return name
}

// tree is where a path is read from, nil when the view does not have it.
func (v view) tree(name string) *gitrepo.Tree {
	switch {
	case isConfig(name):
		return v.config
	case name == "trust" || inTrust(name):
		return v.trust
	case v.gone != nil && strings.HasPrefix(name, "policies/"):
		if _, err := v.policies.Stat(docOf(name)); errors.Is(err, fs.ErrNotExist) {
			return v.gone
		}
		return v.policies
	case inBase(name):
		return v.policies
	}
	doc := docOf(name)
	if v.keep != nil && reviews.KindOf(doc) != "" && !v.keep(doc, name) {
		return nil
	}
	return v.docs
}

func absent(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

// Open implements fs.FS for files. Folders are listed with ReadDir.
func (v view) Open(name string) (fs.File, error) {
	if v.attestation(name) {
		if v.audit == nil {
			return nil, absent("open", name)
		}
		return v.audit.Open(name)
	}
	t := v.tree(name)
	if t == nil {
		return nil, absent("open", name)
	}
	f, err := t.Open(name)
	if err != nil {
		return nil, err
	}
	if _, isFolder := f.(fs.ReadDirFile); isFolder {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("is a folder: list it with ReadDir")}
	}
	return f, nil
}

// ReadFile implements fs.ReadFileFS.
func (v view) ReadFile(name string) ([]byte, error) {
	t := v.tree(name)
	if t == nil {
		return nil, absent("read", name)
	}
	return t.ReadFile(name)
}

// ID implements reviews.Identified. A folder of which something may be missing
// has no name.
func (v view) ID(name string) (string, error) {
	switch {
	case v.attestation(name) && v.audit == nil:
		return "", absent("id", name)
	case v.attestation(name):
		if files, ok := v.audit.(reviews.Identified); ok {
			return files.ID(name)
		}
	case v.whole && !v.hidden[name]:
		t := v.tree(name)
		if t == nil {
			return "", absent("id", name)
		}
		return t.ID(name)
	}
	return "", &fs.PathError{Op: "id", Path: name, Err: errors.ErrUnsupported}
}

// Stat implements fs.StatFS.
func (v view) Stat(name string) (fs.FileInfo, error) {
	if v.attestation(name) {
		if v.audit == nil {
			return nil, absent("stat", name)
		}
		return fs.Stat(v.audit, name)
	}
	t := v.tree(name)
	if t == nil {
		return nil, absent("stat", name)
	}
	return t.Stat(name)
}

// ReadDir implements fs.ReadDirFS.
func (v view) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == "." {
		return v.merged(name, v.trust, v.config, v.policies, v.docs)
	}
	if name == "policies" && v.gone != nil {
		return v.merged(name, v.gone, v.policies)
	}
	t := v.tree(name)
	if t == nil {
		return nil, absent("readdir", name)
	}
	list, err := t.ReadDir(name)
	if err != nil {
		return nil, err
	}
	kept := list[:0]
	for _, e := range list {
		if v.tree(path.Join(name, e.Name())) != nil {
			kept = append(kept, e)
		}
	}
	return kept, nil
}

// attestation tells whether a path is that of an attestation, which stands on the audit branch alone.
func (v view) attestation(name string) bool { return strings.HasPrefix(name, "approvals/") }

// merged lists a folder that comes from several commits: each entry from the
// commit that it is read from.
func (v view) merged(dir string, trees ...*gitrepo.Tree) ([]fs.DirEntry, error) {
	entries := map[string]fs.DirEntry{}
	for _, t := range trees {
		list, err := t.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range list {
			if v.tree(path.Join(dir, e.Name())) == t {
				entries[e.Name()] = e
			}
		}
	}
	list := make([]fs.DirEntry, 0, len(entries))
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		list = append(list, entries[name])
	}
	return list, nil
}

// same tells whether a path holds the same file in both trees.
func same(a, b *gitrepo.Tree, name string) bool {
	x, err := a.ID(name)
	if err != nil {
		return false
	}
	y, err := b.ID(name)
	return err == nil && x == y
}

// sameOrFolder is same for files; folders of signatures are compared file by file.
func sameOrFolder(a, b *gitrepo.Tree, name string) bool {
	if info, err := b.Stat(name); err == nil && info.IsDir() {
		return true
	}
	return same(a, b, name)
}
