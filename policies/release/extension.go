package release

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport-dev/sallyport/reviews"
)

const (
	// DefaultMaxExtension is how far beyond its end a release is used, when it was
	// extended, unless a gateway is told otherwise.
	DefaultMaxExtension = 7 * 24 * time.Hour
	// MaxExtension is the most that a gateway can be told: longer outages are better
	// looked at again, because nothing can be revoked meanwhile.
	MaxExtension = 31 * 24 * time.Hour
)

// extend looks for an order of the trust root to use this very release longer than
// it says, and moves Until. One that does not hold changes nothing; why is in
// Release.NotExtended, because an operator waits for it.
func (o Opener) extend(ctx context.Context, r *Release, now time.Time) {
	r.Until = r.Envelope.ValidUntil
	if o.mirror != nil {
		if err := o.mirror.fetchOrders(ctx, o.Dir, r.Root); err != nil {
			r.NotExtended = fmt.Sprintf("whether %s is there is not known: %v", reviews.ExtensionPath, err)
		}
	}
	if _, err := os.Stat(filepath.Join(o.Dir, reviews.ExtensionPath)); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.NotExtended = err.Error()
		}
		return
	}
	longest := cmp.Or(o.MaxExtension, DefaultMaxExtension)
	order, err := reviews.LoadExtension(os.DirFS(o.Dir), r.Root, reviews.LoadOptions{Now: now})
	switch {
	case err != nil:
		r.NotExtended = err.Error()
	case order.Spec.Release != r.Digest:
		r.NotExtended = fmt.Sprintf("%s is about release %.12s, this is %.12s", reviews.ExtensionPath, order.Spec.Release, r.Digest)
	case order.Spec.Until.Sub(r.Until) > longest:
		r.NotExtended = fmt.Sprintf("%s goes %s beyond the release's end, where %s is the most that is taken here (maxExtension): extend for less",
			reviews.ExtensionPath, reviews.Duration(order.Spec.Until.Sub(r.Until).Round(time.Minute)), reviews.Duration(longest))
	case order.Spec.Until.After(r.Until):
		r.Until, r.Extended, r.NotExtended = order.Spec.Until.UTC(), order.Spec.Reason, ""
	}
}
