package release

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport-dev/sallyport/reviews"
)

// extend looks for an order of the trust root to use this very release longer than
// it says, and moves Until. One that does not hold changes nothing; why is in
// Release.NotExtended, because an operator waits for it.
func (o Opener) extend(r *Release, now time.Time) {
	r.Until = r.Envelope.ValidUntil
	if _, err := os.Stat(filepath.Join(o.Dir, reviews.ExtensionPath)); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.NotExtended = err.Error()
		}
		return
	}
	order, err := reviews.LoadExtension(os.DirFS(o.Dir), r.Root, reviews.LoadOptions{Now: now})
	switch {
	case err != nil:
		r.NotExtended = err.Error()
	case order.Spec.Release != r.Digest:
		r.NotExtended = fmt.Sprintf("%s is about release %.12s, this is %.12s", reviews.ExtensionPath, order.Spec.Release, r.Digest)
	case order.Spec.Until.After(r.Until):
		r.Until, r.Extended = order.Spec.Until.UTC(), order.Spec.Reason
	}
}
