package reviews

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// packedFolder holds the reviews of a Folder in few bytes and without pointers, of
// which 100,000 reviews have millions: a collector of garbage that follows them all
// takes more time than everything else does. It is made only of a folder in which
// everything is well.
type packedFolder struct {
	reviews []byte // []packedReview by path, as gob, deflated
	count   int
	unsaved map[string]bool // paths whose facts are not on disk; nil: all are
}

type packedReview struct {
	At          string
	ID          [sha256.Size]byte
	Bytes       []byte
	Signatures  map[string][]byte
	Notes       Problems
	Fact        []byte // JSON of a fact
	Approvals   []string
	Attestation []byte
}

// pack replaces what is known of the reviews, unless something is known that
// cannot be packed.
func (f *Folder) pack() {
	p := &packedFolder{count: len(f.known), unsaved: make(map[string]bool)}
	list := make([]packedReview, 0, len(f.known))
	for _, r := range f.reviews {
		k := f.known[r.Source.Path]
		fact, ok := k.fact(r.Source.Path)
		if !ok {
			return
		}
		if !k.saved {
			p.unsaved[r.Source.Path] = true
		}
		list = append(list, packedReview{r.Source.Path, k.id, k.bytes, k.signatures, k.notes, fact, r.Source.Approvals, r.Source.Attestation})
	}
	if len(list) != len(f.known) {
		return
	}
	var out bytes.Buffer
	deflated, err := flate.NewWriter(&out, flate.BestSpeed)
	if err == nil {
		err = gob.NewEncoder(deflated).Encode(list)
	}
	if err != nil || deflated.Close() != nil {
		return // it stays as it is
	}
	p.reviews = bytes.Clone(out.Bytes())
	if len(p.unsaved) == 0 {
		p.unsaved = nil
	}
	f.packed, f.known, f.reviews = p, nil, nil
}

func (p *packedFolder) list() ([]packedReview, error) {
	var list []packedReview
	if err := gob.NewDecoder(flate.NewReader(bytes.NewReader(p.reviews))).Decode(&list); err != nil {
		return nil, fmt.Errorf("reviews: unpack: %w", err)
	}
	return list, nil
}

// facts calls keep with all facts, or with those that are not on disk.
func (p *packedFolder) facts(all bool, keep func(factID, []byte)) error {
	if p.unsaved == nil && !all {
		return nil
	}
	list, err := p.list()
	if err != nil {
		return err
	}
	for _, r := range list {
		if all || p.unsaved[r.At] {
			keep(factIDOf(r.At, &known{bytes: r.Bytes, signatures: r.Signatures}), r.Fact)
		}
	}
	return nil
}

// known is what pack replaced, with the cache's own keys.
func (r packedReview) known(c *Cache, saved bool) (*known, error) {
	k := &known{id: r.ID, bytes: r.Bytes, signatures: r.Signatures, notes: r.Notes, saved: saved}
	var f fact
	if err := json.Unmarshal(r.Fact, &f); err != nil {
		return nil, err
	}
	for _, s := range f.Signers {
		key, err := c.sharedKey(s.Key)
		if err != nil {
			return nil, err
		}
		k.signers = append(k.signers, verified{name: s.Name, key: key})
	}
	k.review = f.review(r.At, r.Bytes)
	return k, nil
}

// Reviews are those of the folder, sorted by name. They must not be changed.
func (f *Folder) Reviews() ([]*Review, error) {
	if f.packed == nil {
		return f.reviews, nil
	}
	list, err := f.packed.list()
	if err != nil {
		return nil, err
	}
	all := make([]*Review, 0, len(list))
	for _, packed := range list {
		k, err := packed.known(f.cache, false)
		if err != nil {
			return nil, fmt.Errorf("reviews: unpack %s: %w", packed.At, err)
		}
		k.review.Source.Signatures, k.review.Source.Approvals, k.review.Source.Attestation = packed.Signatures, packed.Approvals, packed.Attestation
		all = append(all, k.review)
	}
	slices.SortFunc(all, func(a, b *Review) int { return strings.Compare(a.Metadata.Name, b.Metadata.Name) })
	return all, nil
}

// recollect is what is known of the files of the folder. What cannot be unpacked is
// not known, and found out again.
func (f *Folder) recollect() map[string]*known {
	switch {
	case f == nil:
		return nil
	case f.packed == nil:
		return f.known
	}
	list, err := f.packed.list()
	if err != nil {
		return nil
	}
	all := make(map[string]*known, len(list))
	for _, packed := range list {
		if k, err := packed.known(f.cache, !f.packed.unsaved[packed.At]); err == nil {
			all[packed.At] = k
		}
	}
	return all
}

// count is how many files the folder has.
func (f *Folder) count() int {
	if f.packed != nil {
		return f.packed.count
	}
	return len(f.known)
}
