package release

import (
	"context"
	"os"
	"path/filepath"
	"time"
)

// PollInterval is how often a gateway looks for a new release unless told otherwise.
const PollInterval = 100 * time.Millisecond

// Watch calls changed once at the start and then whenever release.json in dir has
// been replaced, until ctx is done. It looks every so often (0: PollInterval),
// which costs one stat, and works on every file system. Calls do not overlap; a
// change during a call is followed by another call.
func Watch(ctx context.Context, dir string, every time.Duration, changed func()) {
	if every <= 0 {
		every = PollInterval
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	name := filepath.Join(dir, EnvelopeFile)
	last, _ := os.Stat(name)
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
		if same(last, now) {
			continue
		}
		last = now
		if now != nil {
			changed()
		}
	}
}

func same(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
