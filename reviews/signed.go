package reviews

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// SignedBy is the one principal of the trust root whose good signatures, of documents
// in fsys, the files are. The error says which of them is anything else: a signature
// by another key, of other bytes, or under another name, or no signature at all.
func (t *Tree) SignedBy(fsys fs.FS, files []string) (principal string, err error) {
	l := &loader{fsys: fsys, tree: t}
	for _, file := range files {
		by, err := l.signedBy(file)
		switch {
		case err != nil:
			return "", fmt.Errorf("%s: %w", printable(file), err)
		case principal != "" && by != principal:
			return "", fmt.Errorf("%s is by %s, another one by %s", printable(file), by, principal)
		}
		principal = by
	}
	if principal == "" {
		return "", fmt.Errorf("there is no signature")
	}
	return principal, nil
}

func (l *loader) signedBy(file string) (string, error) {
	doc, isSidecar := strings.CutSuffix(path.Dir(file), sidecarSuffix)
	kind := KindOf(doc)
	if !isSidecar || kind == "" || !sidecarForm.MatchString(path.Base(file)) {
		return "", fmt.Errorf("it is not a signature of a document")
	}
	most := int64(MaxDocument)
	if kind == KindCatalog {
		most = maxCatalog
	}
	b, err := l.readFile(doc, most)
	if err != nil {
		return "", err
	}
	signature, err := l.readFile(file, maxSignature)
	if err != nil {
		return "", err
	}
	key, err := Verify(signature, NamespaceFor(kind), b)
	if err != nil {
		return "", err
	}
	digest := KeyDigest(key)
	owned, known := l.tree.keys.owners[digest]
	if !known {
		return "", fmt.Errorf("the key is not one of the trust root")
	}
	if path.Base(file) != fileName(owned.principal)+"."+digest+".sig" {
		return "", fmt.Errorf("it is by %s, and the file name says otherwise", owned.principal)
	}
	return owned.principal, l.tree.keys.usable(owned.principal, owned.key, l.tree.now)
}

// Account is the principal's account on a forge, 0 for none.
func (r *Root) Account(forge, principal string) int64 {
	for _, p := range r.Spec.Principals {
		if p.Name == principal {
			return p.Forge[forge]
		}
	}
	return 0
}
