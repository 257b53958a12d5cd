package ci

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sallyport-dev/sallyport/reviews"
)

// Known remembers on disk which reviews were found good, by digests of all bytes
// that decide that: the review and its signatures, and everything that judges it or
// that it stands on (trust root, settings, policies, principals, connections, the program).
// An entry ends when the review or the first key does.
//
// It is for one person's machine, where whoever can write the file can replace
// the program as well. A job of a CI system must not use it: what restores such
// files between jobs lets one branch write what another believes.
//
// Trees that are checked with it must allow concurrent reads.
type Known struct {
	path, program string

	mu       sync.Mutex
	old, now map[digest]int64 // to the unix second at which it ends
	current  map[string]digest
}

type digest = [sha256.Size]byte

const (
	knownHeader = "sallyport known reviews 1\n"
	knownRecord = sha256.Size + 8
	maxKnown    = 64 << 20 // bytes of the file
)

// OpenKnown reads the file at path. A file that is missing, damaged, too large or
// that others could write is not used. The program is part of what decides: a new version finds anew.
func OpenKnown(path, program string) *Known {
	k := &Known{path: path, program: program, now: make(map[digest]int64), current: make(map[string]digest)}
	k.old = readKnown(path)
	return k
}

func readKnown(path string) map[digest]int64 {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 || info.Size() > maxKnown {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKnown))
	if err != nil {
		return nil
	}
	return decodeKnown(b)
}

// decodeKnown reads the file's bytes; nil for what was not written by encode.
func decodeKnown(b []byte) map[digest]int64 {
	rest, ok := bytes.CutPrefix(b, []byte(knownHeader))
	if !ok || len(rest)%knownRecord != sha256.Size {
		return nil
	}
	body, sum := rest[:len(rest)-sha256.Size], rest[len(rest)-sha256.Size:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:]) {
		return nil // half written, or a bad disk; this is no seal
	}
	all := make(map[digest]int64, len(body)/knownRecord)
	for ; len(body) > 0; body = body[knownRecord:] {
		all[digest(body[:sha256.Size])] = int64(binary.BigEndian.Uint64(body[sha256.Size:]))
	}
	return all
}

func encodeKnown(all map[digest]int64) []byte {
	b := make([]byte, 0, len(knownHeader)+len(all)*knownRecord+sha256.Size)
	b = append(b, knownHeader...)
	for id, until := range all {
		b = append(b, id[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(until))
	}
	sum := sha256.Sum256(b[len(knownHeader):])
	return append(b, sum[:]...)
}

// Save writes what the checks since OpenKnown used or found.
func (k *Known) Save() error {
	dir := filepath.Dir(k.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".known-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(encodeKnown(k.now))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), k.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// recall finds the reviews of a tree that are known to be good at that time.
func (k *Known) recall(tree fs.FS, now time.Time) ([]string, error) {
	k.current = make(map[string]digest)
	foundation, err := k.foundation(tree)
	if err != nil {
		return nil, err
	}
	var good []string
	var group errgroup.Group
	group.SetLimit(2 * runtime.GOMAXPROCS(0))
	folders, err := fs.ReadDir(tree, "reviews")
	if err != nil {
		return nil, nil // loading says why
	}
	for _, f := range folders {
		dir := path.Join("reviews", f.Name())
		entries, err := fs.ReadDir(tree, dir)
		if err != nil {
			continue
		}
		signed := make(map[string]bool)
		for _, e := range entries {
			signed[e.Name()] = e.IsDir()
		}
		for _, e := range entries {
			doc := path.Join(dir, e.Name())
			if reviews.KindOf(doc) != reviews.KindReview || !e.Type().IsRegular() || !signed[e.Name()+".sigs"] {
				continue
			}
			group.Go(func() error {
				id, err := documentDigest(tree, foundation, doc)
				if err != nil {
					return nil // loading says why
				}
				k.mu.Lock()
				defer k.mu.Unlock()
				k.current[doc] = id
				if until := k.old[id]; now.Unix() < until {
					k.now[id] = until
					good = append(good, doc)
				}
				return nil
			})
		}
	}
	return good, group.Wait()
}

// foundation is a digest of everything that judges reviews or that they stand on.
func (k *Known) foundation(tree fs.FS) (digest, error) {
	all, err := contents(foundationOf(tree))
	if err != nil {
		return digest{}, err
	}
	h := newHasher()
	h.add(k.program, []byte(runtime.Version()))
	for _, name := range sorted(all) {
		h.add(fmt.Sprintf("%s %o", name, all[name].mode), all[name].bytes)
	}
	return h.sum(), nil
}

// foundationOf is a tree without its reviews.
func foundationOf(tree fs.FS) fs.FS {
	return view{head: tree, pick: func(doc string) side {
		if strings.HasPrefix(doc, "reviews/") {
			return nowhere
		}
		return head
	}}
}

func documentDigest(tree fs.FS, foundation digest, doc string) (digest, error) {
	h := newHasher()
	h.add("foundation", foundation[:])
	info, err := fs.Stat(tree, doc)
	if err != nil {
		return digest{}, err
	}
	b, err := fs.ReadFile(tree, doc)
	if err != nil {
		return digest{}, err
	}
	h.add(fmt.Sprintf("%s %o", doc, info.Mode()), b)
	sigs, err := fs.ReadDir(tree, doc+".sigs")
	if err != nil {
		return digest{}, err
	}
	for _, e := range sigs {
		if !e.Type().IsRegular() {
			return digest{}, errors.New("not a plain file")
		}
		b, err := fs.ReadFile(tree, doc+".sigs/"+e.Name())
		if err != nil {
			return digest{}, err
		}
		h.add(e.Name(), b)
	}
	return h.sum(), nil
}

// learn remembers the reviews of a checked tree about which nothing was found.
func (k *Known) learn(t *reviews.Tree, r *Report, now time.Time) {
	if t.Root == nil {
		return
	}
	found := make(map[string]bool)
	for _, f := range r.Findings {
		found[documentOf(f.File)] = true
	}
	for _, p := range r.Pending {
		found[p.Path] = true
	}
	ends := keysEnd(t, now)
	for _, review := range t.Reviews {
		id, there := k.current[review.Source.Path]
		if !there || found[review.Source.Path] {
			continue
		}
		k.now[id] = min(ends, review.Spec.Validity.Expires.Unix())
	}
}

// keysEnd is the unix second at which the first key of the trust root runs out.
func keysEnd(t *reviews.Tree, now time.Time) int64 {
	ends := int64(math.MaxInt64)
	for _, p := range t.Root.Spec.Principals {
		for _, key := range p.Keys {
			if key.NotAfter.After(now) {
				ends = min(ends, key.NotAfter.Unix())
			}
		}
	}
	return ends
}
