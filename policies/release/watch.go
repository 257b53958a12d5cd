package release

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sallyport-dev/sallyport/reviews"
)

// PollInterval is how often a gateway looks for a new release unless told otherwise.
const PollInterval = 100 * time.Millisecond

// Watch calls changed once at the start and then whenever release.json in dir, or
// an extension beside it, has been replaced, until ctx is done. It looks every so often (0: PollInterval),
// which costs three stats, and works on every file system. Calls do not overlap; a
// change during a call is followed by another call.
func Watch(ctx context.Context, dir string, every time.Duration, changed func()) {
	if every <= 0 {
		every = PollInterval
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	name := filepath.Join(dir, EnvelopeFile)
	// An order counts when its signatures are there, which come after it.
	orders := []string{filepath.Join(dir, reviews.ExtensionPath), filepath.Join(dir, reviews.ExtensionPath+".sigs")}
	last, _ := os.Stat(name)
	seen := stats(orders)
	changed()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now, err := os.Stat(name)
		if err != nil {
			now = nil // it is gone or unreadable: once it is back, that is a change
		}
		order := stats(orders)
		if same(last, now) && slices.EqualFunc(seen, order, same) {
			continue
		}
		last, seen = now, order
		if now != nil {
			changed()
		}
	}
}

// stats are those of the files, nil for one that is not there.
func stats(names []string) []os.FileInfo {
	list := make([]os.FileInfo, len(names))
	for i, name := range names {
		if info, err := os.Stat(name); err == nil {
			list[i] = info
		}
	}
	return list
}

func same(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
