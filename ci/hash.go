package ci

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"maps"
	"slices"
)

// hasher digests named parts so that no two lists of parts have the same input.
type hasher struct{ h hash.Hash }

func newHasher() hasher { return hasher{sha256.New()} }

func (h hasher) add(name string, b []byte) {
	var sizes [16]byte
	binary.BigEndian.PutUint64(sizes[:8], uint64(len(name)))
	binary.BigEndian.PutUint64(sizes[8:], uint64(len(b)))
	h.h.Write(sizes[:])
	h.h.Write([]byte(name))
	h.h.Write(b)
}

func (h hasher) sum() (d digest) {
	h.h.Sum(d[:0])
	return d
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
