package release

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"strings"

	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// Cache remembers from one Build to the next how unchanged reviews are written,
// and that unchanged policies compile. All that decides the result is compared, so a
// Build with a cache makes the same bytes as one without. It serves one Build at a time.
type Cache struct {
	old, now map[entryKey]json.RawMessage // of the Build before, used in this one
	compiled map[string][]byte            // policies that compile, nil before the first
}

// entryKey is what an entry is made of: lines and document follow from the bytes.
type entryKey struct {
	name, sha256, commit, approvers string
	approvedAt                      int64 // unix seconds
}

// NewCache is an empty cache.
func NewCache() *Cache {
	return &Cache{old: map[entryKey]json.RawMessage{}, now: map[entryKey]json.RawMessage{}}
}

// turn ends a Build: what it did not use is forgotten.
func (c *Cache) turn() {
	c.old, c.now = c.now, make(map[entryKey]json.RawMessage, len(c.now))
}

func (c *Cache) entry(r *reviews.Review, s Seen) json.RawMessage {
	key := entryKey{r.Metadata.Name, r.Source.SHA256, s.Commit, strings.Join(r.Source.Approvals, " "), s.At.Unix()}
	entry, ok := c.old[key]
	if !ok {
		entry = canonical(entryOf(r, s))
	}
	c.now[key] = entry
	return entry
}

func (c *Cache) compile(ctx context.Context, sources map[string][]byte) error {
	if c.compiled != nil && maps.EqualFunc(c.compiled, sources, bytes.Equal) {
		return nil
	}
	if _, err := policies.Compile(ctx, sources); err != nil {
		return err
	}
	c.compiled = maps.Clone(sources)
	return nil
}
