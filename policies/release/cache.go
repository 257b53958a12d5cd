package release

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// Cache remembers from one Build to the next the bundles of unchanged connections,
// how unchanged reviews are written, and that unchanged policies compile. All that decides the result is compared, so a
// Build with a cache makes the same bytes as one without. It serves one Build at a time.
type Cache struct {
	shards   map[string]*shard // of the Build before, by connection
	compiled map[string][]byte // policies that compile, nil before the first
}

// NewCache is an empty cache.
func NewCache() *Cache { return &Cache{shards: map[string]*shard{}} }

// shard is the bundle of one connection with everything that it was made of. A
// review that reviews.Load returns never changes, so it is known by its address.
type shard struct {
	documents string // digest of the connection's own
	reviews   []*reviews.Review
	since     []Seen
	sightings map[string]int64 // unix seconds by sha256; 0 for none

	entries map[entryKey]json.RawMessage
	packed  []byte
	sum     string // sha256 hex of packed
}

// entryKey is what an entry is made of: lines and document follow from the bytes.
type entryKey struct {
	name, sha256, commit, approvers string
	approvedAt                      int64 // unix seconds
}

func keyOf(r *reviews.Review, s Seen) entryKey {
	return entryKey{r.Metadata.Name, r.Source.SHA256, s.Commit, strings.Join(r.Source.Approvals, " "), s.At.Unix()}
}

// addConnections makes the bundles of all connections, on all cores.
func (b *Built) addConnections(ctx context.Context, in BuildInput, open map[string][]*reviews.Review) error {
	names := slices.Sorted(maps.Keys(in.Tree.Connections))
	shards := make([]*shard, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range names {
		documents := documentsDigest(in.Tree.Connections[name])
		before := in.Cache.shards[name]
		if before.is(in, documents, open[name]) {
			shards[i] = before
			continue
		}
		group.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			shards[i], err = newShard(in, in.Tree.Connections[name], documents, open[name], before)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	in.Cache.shards = make(map[string]*shard, len(names)) // what this Build did not use is forgotten
	for i, name := range names {
		in.Cache.shards[name] = shards[i]
		b.put(ConnectionBundle(name), shards[i].packed, shards[i].sum)
	}
	return nil
}

func newShard(in BuildInput, c *reviews.Connection, documents string, open []*reviews.Review, before *shard) (*shard, error) {
	s := &shard{documents: documents, reviews: open, entries: make(map[entryKey]json.RawMessage, len(open)), sightings: map[string]int64{}}
	var known map[entryKey]json.RawMessage
	if before != nil {
		known = before.entries
	}
	file := connectionFileOf(in, c, open, known, s.entries)
	for _, r := range open {
		s.since = append(s.since, seen(in, r))
	}
	for name, b := range file.documents {
		if in.Seen != nil && isApproval(name) {
			sum := digest(b)
			s.sightings[sum] = unix(in.Seen(sum))
		}
	}
	name := c.Metadata.Name
	packed, err := pack(map[string][]byte{connectionData(name): file.encode()}, connectionRoots(name))
	if err != nil {
		return nil, bundleError(ConnectionBundle(name), err)
	}
	s.packed, s.sum = packed, digest(packed)
	return s, nil
}

// is tells whether the shard is what would be made of these.
func (s *shard) is(in BuildInput, documents string, open []*reviews.Review) bool {
	if s == nil || s.documents != documents || !slices.Equal(s.reviews, open) {
		return false
	}
	for i, r := range open {
		if now := seen(in, r); now.Commit != s.since[i].Commit || !now.At.Equal(s.since[i].At) {
			return false
		}
	}
	if in.Seen == nil {
		return len(s.sightings) == 0
	}
	for sum, at := range s.sightings {
		if unix(in.Seen(sum)) != at {
			return false
		}
	}
	return true
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// documentsDigest is of all documents of the connection itself, and of what they say to Rego.
func documentsDigest(c *reviews.Connection) string {
	file := connectionFileOf(BuildInput{}, c, nil, nil, nil)
	return digest(file.encode())
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
