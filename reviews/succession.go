package reviews

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// LoadRoot reads the trust root in fsys, with its signatures, and demands that
// its own threshold approved it. The error is a Problems.
func LoadRoot(fsys fs.FS, opt LoadOptions) (*Root, error) {
	source, err := ReadSource(fsys, RootPath)
	if err != nil {
		return nil, err
	}
	root, err := ParseRoot(RootPath, source.Bytes)
	if err != nil {
		return nil, err
	}
	root.Source.Signatures = source.Signatures
	return root, root.ApprovesItself(opt)
}

// ReadSource reads one document with its signatures, as they are: nothing is verified.
func ReadSource(fsys fs.FS, path string) (Source, error) {
	l := &loader{fsys: fsys, tree: newTree(time.Time{})}
	b, signatures, err := l.read(path)
	return Source{Path: path, Bytes: b, SHA256: hexDigest(b), Signatures: signatures}, err
}

// Succeeds is nil when the trust root may follow the one before: it is of the
// same repository, its version is one higher, and the threshold of the one
// before approved its bytes. That its own threshold did, too, is for Load, which
// every root has to pass. The error is a Problems.
func (r *Root) Succeeds(before *Root, opt LoadOptions) error {
	at := func(element, message, fix string) error {
		return Problems{{Position: Position{File: r.Source.Path, Line: r.Source.Lines[element]}, Message: message, Fix: fix}}
	}
	switch {
	case r.Metadata.Repo != before.Metadata.Repo:
		return at("", fmt.Sprintf("it belongs to repository %s, the one before to %s", quote(r.Metadata.Repo), before.Metadata.Repo), "keep metadata.repo as it was")
	case r.Spec.Version != before.Spec.Version+1:
		return at("version", fmt.Sprintf("version %d does not follow %d", r.Spec.Version, before.Spec.Version), fmt.Sprintf("write version: %d and have it signed anew", before.Spec.Version+1))
	}
	source := r.Source // its approvals under the one before are not those that Load found
	err := before.approves(KindRoot, opt, &source)
	var ps Problems
	if errors.As(err, &ps) {
		for i := range ps {
			ps[i].Message = fmt.Sprintf("under the trust root before it, version %d, it is %s", before.Spec.Version, ps[i].Message)
		}
	}
	return err
}

// ApprovesItself demands that the root's own threshold approved it. The error is a Problems.
func (r *Root) ApprovesItself(opt LoadOptions) error {
	source := r.Source
	return r.approves(KindRoot, opt, &source)
}

// approves demands the root threshold's approval of a document.
func (r *Root) approves(kind Kind, opt LoadOptions, source *Source) error {
	if opt.Now.IsZero() {
		return errors.New("reviews: judging under a trust root needs the time")
	}
	opt.Approvals, opt.Standing = RequireApprovals, nil
	l := &loader{opt: opt, tree: newTree(opt.Now)}
	l.trustIn(r)
	return l.approve(subject{kind: kind, source: source})
}
