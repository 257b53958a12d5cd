package reviews

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
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
// same repository, its version is one higher, it takes nothing back that is void
// for good, and the threshold of the one before approved its bytes. That its own
// threshold did, too, is for Load, which every root has to pass. The error is a Problems.
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
	if err := r.Revives(before).Err(); err != nil {
		return err
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

// Revives is what the trust root before took out of use for good, and this one would let
// back in. Nobody's signatures make up for that: what a thief signed would count again.
func (r *Root) Revives(before *Root) Problems {
	at := Position{File: r.Source.Path, Line: r.Source.Lines["revoked"]}
	var list Problems
	revoked := make(map[string]Revocation)
	for _, v := range r.Spec.Revoked {
		revoked[v.String()] = v
	}
	for _, v := range before.Spec.Revoked {
		now, still := revoked[v.String()]
		switch {
		case !still:
			list = append(list, Problem{Position: at, Message: v.String() + " would not be revoked any more", Fix: "put it back; a revoked key stays revoked: give its owner a new one"})
		case now.At.After(v.At): // the zero time is mode all, before every other
			list = append(list, Problem{Position: at, Message: v.String() + " would be revoked for less than it is", Fix: "put its mode and time back; approvals that are void stay void"})
		}
	}
	at.Line = r.Source.Lines["tombstones"]
	for _, t := range before.Spec.Tombstones {
		if !slices.ContainsFunc(r.Spec.Tombstones, func(now Tombstone) bool { return now.SHA256 == t.SHA256 }) {
			list = append(list, Problem{Position: at, Message: "the document of sha256 " + t.SHA256 + " would not be closed any more", Fix: "put its tombstone back; to grant the same again, write it anew"})
		}
	}
	return list
}

// String names who or what is revoked.
func (v Revocation) String() string {
	if v.Principal != "" {
		return v.Principal
	}
	return "key " + v.Fingerprint
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
