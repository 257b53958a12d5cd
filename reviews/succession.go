package reviews

import (
	"errors"
	"fmt"
)

// Succeeds is nil when the trust root may follow the one before: it is of the
// same repository, its version is one higher, and the threshold of the one
// before approved its bytes. That its own threshold did, too, is for Load, which
// every root has to pass. The error is a Problems.
func (r *Root) Succeeds(before *Root, opt LoadOptions) error {
	if opt.Now.IsZero() {
		return errors.New("reviews: Succeeds needs the time")
	}
	at := func(element, message, fix string) error {
		return Problems{{Position: Position{File: r.Source.Path, Line: r.Source.Lines[element]}, Message: message, Fix: fix}}
	}
	switch {
	case r.Metadata.Repo != before.Metadata.Repo:
		return at("", fmt.Sprintf("it belongs to repository %s, the one before to %s", quote(r.Metadata.Repo), before.Metadata.Repo), "keep metadata.repo as it was")
	case r.Spec.Version != before.Spec.Version+1:
		return at("version", fmt.Sprintf("version %d does not follow %d", r.Spec.Version, before.Spec.Version), fmt.Sprintf("write version: %d and have it signed anew", before.Spec.Version+1))
	}
	l := &loader{opt: opt, tree: newTree(opt.Now)}
	l.opt.Approvals, l.opt.Standing = RequireApprovals, nil
	l.trustIn(before)
	source := r.Source // its approvals under the one before are not those that Load found
	err := l.approve(subject{kind: KindRoot, source: &source})
	var ps Problems
	if errors.As(err, &ps) {
		for i := range ps {
			ps[i].Message = fmt.Sprintf("under the trust root before it, version %d, it is %s", before.Spec.Version, ps[i].Message)
		}
	}
	return err
}
