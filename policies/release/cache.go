package release

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// Cache remembers from one Build to the next the bundles of unchanged connections,
// how unchanged reviews are written, and that unchanged policies compile. All that decides the result is compared, so a
// Build with a cache makes the same bytes as one without. It serves one Build at a time.
type Cache struct {
	mu        sync.Mutex
	shards    map[string]*shard // by connection
	sequences map[string]packedSequences
	compiled  map[string][]byte // policies that compile, nil before the first
}

// NewCache is an empty cache.
func NewCache() *Cache {
	return &Cache{shards: map[string]*shard{}, sequences: map[string]packedSequences{}}
}

// shard is the bundle of one connection with everything that it was made of.
type shard struct {
	documents string // digest of the connection's own
	reviews   reviewList
	history   History
	since     Seen // of reviews that the history does not know, zero without any
	sightings []sighted

	closed  map[string]string // reviews that are not in the bundle, and why
	highest Sequences         // of the reviews
	packed  []byte
	sum     string // sha256 hex of packed
}

type sighted struct {
	sha256 string
	at     int64 // unix seconds, 0 for none
}

// reviewList are the reviews of one connection: as a folder that a lean Load
// judged, or one by one. Neither changes, so both are known by their addresses.
type reviewList struct {
	folder *reviews.Folder
	list   []*reviews.Review
}

func (l reviewList) is(o reviewList) bool {
	return l.folder == o.folder && slices.Equal(l.list, o.list)
}

// all are sorted by name.
func (l reviewList) all() ([]*reviews.Review, error) {
	if l.folder == nil {
		return l.list, nil
	}
	return l.folder.Reviews()
}

// Prepare makes the bundle of a connection ahead of Build, if what the cache holds
// is another. Of the input only History, Seen, Commit and Now count. It may be called concurrently.
func (c *Cache) Prepare(in BuildInput, connection *reviews.Connection, folder *reviews.Folder) error {
	_, err := c.shard(in, connection, reviewList{folder: folder})
	return err
}

// shard is the bundle of a connection.
func (c *Cache) shard(in BuildInput, connection *reviews.Connection, list reviewList) (*shard, error) {
	name, documents := connection.Metadata.Name, documentsDigest(connection)
	c.mu.Lock()
	before := c.shards[name]
	c.mu.Unlock()
	if before.is(in, name, documents, list) {
		return before, nil
	}
	s, err := newShard(in, connection, documents, list, before)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.shards[name] = s
	c.mu.Unlock()
	return s, nil
}

// addConnections makes the bundles of all connections, on all cores.
func (b *Built) addConnections(ctx context.Context, in BuildInput) error {
	lists := b.reviewsByConnection(in)
	names := slices.Sorted(maps.Keys(in.Tree.Connections))
	shards := make([]*shard, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range names {
		group.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			shards[i], err = in.Cache.shard(in, in.Tree.Connections[name], lists[name])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	in.Cache.shards = make(map[string]*shard, len(names)) // what this Build did not use is forgotten
	for i, name := range names {
		s := shards[i]
		in.Cache.shards[name] = s
		b.put(ConnectionBundle(name), s.packed, s.sum)
		maps.Copy(b.Closed, s.closed)
	}
	return b.addSequences(in, in.Cache.shards)
}

// reviewsByConnection are those of the tree. Reviews without a connection are closed.
func (b *Built) reviewsByConnection(in BuildInput) map[string]reviewList {
	lists := map[string]reviewList{}
	for name, folder := range in.Tree.Folders {
		lists[name] = reviewList{folder: folder}
	}
	for name, r := range in.Tree.Reviews {
		connection := r.Spec.Connection
		if in.Tree.Connections[connection] == nil {
			b.Closed[name] = fmt.Sprintf("its connection %s is missing or has problems", connection)
			continue
		}
		lists[connection] = reviewList{list: append(lists[connection].list, r)}
	}
	for _, l := range lists {
		slices.SortFunc(l.list, func(a, b *reviews.Review) int { return strings.Compare(a.Metadata.Name, b.Metadata.Name) })
	}
	return lists
}

func newShard(in BuildInput, c *reviews.Connection, documents string, list reviewList, before *shard) (*shard, error) {
	name := c.Metadata.Name
	open, err := list.all()
	if err != nil {
		return nil, bundleError(ConnectionBundle(name), err)
	}
	file, closed := connectionFileOf(in, c, open, before.entries(name))
	s := &shard{documents: documents, reviews: list, history: in.History[name], closed: closed, highest: make(Sequences, len(open))}
	for _, r := range open {
		review := path.Base(r.Metadata.Name)
		s.highest[review] = r.Spec.Sequence
		if _, known := s.history[review]; !known {
			s.since = Seen{Commit: in.Commit, At: in.Now}
		}
	}
	for name, b := range file.documents {
		if in.Seen != nil && isApproval(name) {
			sum := digest(b)
			s.sightings = append(s.sightings, sighted{sum, unix(in.Seen(sum))})
		}
	}
	if s.packed, err = pack(map[string][]byte{connectionData(name): file.encode()}, connectionRoots(name)); err != nil {
		return nil, bundleError(ConnectionBundle(name), err)
	}
	s.sum = digest(s.packed)
	return s, nil
}

// entries are how the bundle describes the reviews.
func (s *shard) entries(name string) map[string]json.RawMessage {
	if s == nil {
		return nil
	}
	members, err := unpack(s.packed, connectionRoots(name))
	if err != nil {
		return nil // then they are written anew
	}
	file, err := decodeConnection(members[connectionData(name)])
	if err != nil {
		return nil
	}
	return file.reviews
}

// is tells whether the shard is what would be made of these.
func (s *shard) is(in BuildInput, name, documents string, list reviewList) bool {
	if s == nil || s.documents != documents || !s.reviews.is(list) || !sameHistory(s.history, in.History[name]) {
		return false
	}
	if s.since != (Seen{}) && (s.since.Commit != in.Commit || !s.since.At.Equal(in.Now)) {
		return false
	}
	if in.Seen == nil {
		return len(s.sightings) == 0
	}
	return !slices.ContainsFunc(s.sightings, func(seen sighted) bool { return unix(in.Seen(seen.sha256)) != seen.at })
}

// sameHistory tells whether two are one.
func sameHistory(a, b History) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}

// packedSequences is the bundle of a connection's sequences, and what it was made of.
type packedSequences struct {
	history History
	shard   *shard // nil when the connection is not open
	packed  []byte
	sum     string // sha256 hex of packed
}

// addSequences makes the bundles of the highest sequences of every connection that
// ever had a review.
func (b *Built) addSequences(in BuildInput, shards map[string]*shard) error {
	names := map[string]bool{}
	for name := range in.History {
		names[name] = true
	}
	for name, s := range shards {
		if len(s.highest) > 0 {
			names[name] = true
		}
	}
	now := make(map[string]packedSequences, len(names))
	for name := range names {
		p := in.Cache.sequences[name]
		if p.packed == nil || !sameHistory(p.history, in.History[name]) || p.shard != shards[name] {
			p = packedSequences{history: in.History[name], shard: shards[name]}
			highest := Sequences{}
			if p.shard != nil {
				maps.Copy(highest, p.shard.highest)
			}
			for review, seen := range p.history {
				highest[review] = max(highest[review], seen.Sequence)
			}
			var err error
			if p.packed, err = pack(map[string][]byte{sequencesData(name): canonical(highest)}, sequencesRoots(name)); err != nil {
				return bundleError(SequencesBundle(name), err)
			}
			p.sum = digest(p.packed)
		}
		now[name] = p
		b.put(SequencesBundle(name), p.packed, p.sum)
	}
	in.Cache.sequences = now
	return nil
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// documentsDigest is of all documents of the connection itself, and of what they say to Rego.
func documentsDigest(c *reviews.Connection) string {
	file, _ := connectionFileOf(BuildInput{}, c, nil, nil)
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
