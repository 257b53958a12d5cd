package reviews

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// What a cache leaves on disk are facts about bytes, one for each review:
//
//	these bytes at this path parse to this review, and these signatures over
//	them, of these file names, verify and are by these keys.
//
// The key of a fact is the sha256 of the path, the bytes, and each signature's file
// name and bytes, so nothing else about the review can change without missing
// it. What the answer depends on besides is the program, which parses, so callers name
// it; they name the trust root as well, though no fact depends on it: whose key it is,
// whether it is revoked or expired or had signed in time, rules, masks, tombstones and
// the review's own validity are judged at every Load. Only what is good is kept:
// what is refused is found out again, with its reasons.
//
// Whoever writes to the state folder of sync can do as much without a cache, since
// the trust root in force is noted there. Still, files are copied, restored, mixed up
// and damaged, and a fact that is not true grants. So each file ends with an HMAC
// over all of it, over its own name, and over what the facts belong to, under a key that
// never leaves the folder. A file is used as a whole or not at all.
const (
	factsHeader  = "sallyport facts about reviews 1\n"
	factsKey     = "key"
	factsSuffix  = ".facts"
	maxFactFiles = 32      // or one for 100 reviews
	maxFacts     = 1 << 30 // bytes of one file
)

// fact is what is kept of one review. Its Source is made anew from the bytes.
type fact struct {
	Metadata Metadata       `json:"metadata"`
	Spec     ReviewSpec     `json:"spec"`
	Lines    map[string]int `json:"lines"`
	Signers  []signerFact   `json:"signers"`
}

type signerFact struct {
	Name string `json:"name"` // of the signature's file
	Key  []byte `json:"key"`  // as SSH writes it
}

type factID = [sha256.Size]byte

// disk is what a cache knows of its folder.
type disk struct {
	about string            // what the files there belong to
	files int               // that are there
	last  int64             // number of the newest
	facts map[factID][]byte // read and not asked for yet
	held  int               // facts in all files
}

func factIDOf(at string, k *known) factID {
	parts := [][]byte{[]byte("fact"), []byte(at), k.bytes}
	for _, name := range slices.Sorted(maps.Keys(k.signatures)) {
		parts = append(parts, []byte(name), k.signatures[name])
	}
	return digestOf(parts...)
}

// Restore reads what Save left in a private folder, about the same things: the
// program and the trust root, in any words. The cache can be used whatever it returns;
// the error says why facts that are there are not used, and will be found out again.
func (c *Cache) Restore(dir string, about ...string) error {
	c.disk = disk{about: aboutOf(about), facts: make(map[factID][]byte)}
	names, err := factFiles(dir)
	if err != nil || len(names) == 0 {
		return err
	}
	c.disk.last, c.disk.files = numberOf(names[len(names)-1]), len(names)
	key, err := readFactsKey(dir)
	if err == nil {
		for _, name := range names {
			if err = c.disk.read(dir, name, key); err != nil {
				break
			}
		}
	}
	if err != nil {
		c.disk.about, c.disk.facts, c.disk.held = "", nil, 0 // the next Save begins anew
		return fmt.Errorf("facts about reviews in %s are not used, all signatures are verified anew: %w", dir, err)
	}
	return nil
}

// Save writes what was found out since the last Save or Restore.
func (c *Cache) Save(dir string, about ...string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	key, err := readFactsKey(dir)
	if err != nil {
		if key, err = makeFactsKey(dir); err != nil {
			return err
		}
		c.disk.about = ""
	}
	live := 0
	for _, f := range c.folders {
		live += f.count()
	}
	all := c.disk.about != aboutOf(about) || c.disk.files >= max(maxFactFiles, live/100) || c.disk.held > 2*live+1000
	name := strconv.FormatInt(c.disk.last+1, 10) + factsSuffix
	written, err := c.write(dir, name, key, all, aboutOf(about))
	if err != nil || written == 0 && !all {
		return err
	}
	c.disk.last++
	c.disk.files++
	c.disk.held += written
	if !all {
		return nil
	}
	c.disk.about, c.disk.files, c.disk.held = aboutOf(about), 1, written
	names, err := factFiles(dir)
	left, _ := filepath.Glob(filepath.Join(dir, ".new-*")) // of a crash
	for _, old := range names {
		if old != name {
			left = append(left, filepath.Join(dir, old))
		}
	}
	for _, old := range left {
		err = errors.Join(err, os.Remove(old))
	}
	return err
}

// write makes one file of the facts that no file holds yet, or of all. It makes
// none when there are none.
func (c *Cache) write(dir, name string, key []byte, all bool, about string) (written int, err error) {
	f, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	var saved []func()
	mac := factsMAC(key, name, about)
	out := bufio.NewWriterSize(io.MultiWriter(f, mac), 1<<16)
	_, _ = out.WriteString(factsHeader) // an error stays until Flush
	keep := func(id factID, b []byte) {
		_, _ = out.Write(id[:])
		_, _ = out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		_, _ = out.Write(b)
		written++
	}
	for _, folder := range c.folders {
		if p := folder.packed; p != nil {
			if err := p.facts(all, keep); err != nil {
				return 0, errors.Join(err, f.Close())
			}
			saved = append(saved, func() { p.unsaved = nil })
		}
		for at, k := range folder.known {
			if k.saved && !all {
				continue
			}
			if b, ok := k.fact(at); ok {
				keep(factIDOf(at, k), b)
				saved = append(saved, func() { k.saved = true })
			}
		}
	}
	if written == 0 && !all {
		return 0, f.Close()
	}
	err = out.Flush()
	if err == nil {
		_, err = f.Write(mac.Sum(nil))
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return 0, err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return 0, err
	}
	for _, done := range saved {
		done()
	}
	return written, nil
}

// fact is what is kept of the review, if it is good and reads back as what it is.
func (k *known) fact(at string) ([]byte, bool) {
	if k.err != nil || k.review == nil || len(k.signers) != len(k.signatures) {
		return nil, false
	}
	kept := fact{Metadata: k.review.Metadata, Spec: k.review.Spec, Lines: k.review.Source.Lines}
	for _, v := range k.signers {
		if v.err != nil {
			return nil, false
		}
		kept.Signers = append(kept.Signers, signerFact{v.name, v.key.Marshal()})
	}
	b, err := json.Marshal(kept)
	if err != nil {
		return nil, false
	}
	var again fact
	if json.Unmarshal(b, &again) != nil || !reflect.DeepEqual(again.review(at, k.bytes), k.review) {
		return nil, false
	}
	return b, true
}

func (f *fact) review(at string, b []byte) *Review {
	source := (&checker{path: at, bytes: b}).source()
	source.Lines = f.Lines
	return &Review{Metadata: f.Metadata, Spec: f.Spec, Source: source}
}

// recall fills in what is known of a review's bytes from before this process began.
func (c *Cache) recall(at string, k *known) bool {
	if len(c.disk.facts) == 0 {
		return false
	}
	b, ok := c.disk.facts[factIDOf(at, k)]
	if !ok {
		return false
	}
	var f fact
	if json.Unmarshal(b, &f) != nil {
		return false
	}
	signers := make([]verified, 0, len(f.Signers))
	for _, s := range f.Signers {
		key, err := c.sharedKey(s.Key)
		if err != nil {
			return false
		}
		signers = append(signers, verified{name: s.Name, key: key})
	}
	k.review, k.signers, k.saved = f.review(at, k.bytes), signers, true
	c.recalled.Add(1)
	return true
}

func (c *Cache) sharedKey(wire []byte) (ssh.PublicKey, error) {
	c.mu.Lock()
	known, ok := c.keys[string(wire)]
	c.mu.Unlock()
	if ok {
		return known, nil
	}
	key, err := ssh.ParsePublicKey(wire)
	if err != nil {
		return nil, err
	}
	return c.shared(key), nil
}

// read takes in a file of facts as a whole, or nothing of it.
func (d *disk) read(dir, name string, key []byte) error {
	b, err := readPrivate(filepath.Join(dir, name), 0o022, maxFacts)
	if err != nil {
		return err
	}
	body, ok := bytes.CutPrefix(b, []byte(factsHeader))
	if !ok || len(body) < sha256.Size {
		return fmt.Errorf("%s is not a file of facts, or was not written to its end", name)
	}
	body, sum := body[:len(body)-sha256.Size], body[len(body)-sha256.Size:]
	mac := factsMAC(key, name, d.about)
	mac.Write(b[:len(b)-sha256.Size])
	if !hmac.Equal(mac.Sum(nil), sum) {
		return fmt.Errorf("%s was written by another program, under another trust root or elsewhere, or was changed", name)
	}
	for len(body) > 0 {
		if len(body) < sha256.Size+4 {
			return fmt.Errorf("%s is cut off", name)
		}
		id, size := factID(body[:sha256.Size]), int(binary.BigEndian.Uint32(body[sha256.Size:]))
		body = body[sha256.Size+4:]
		if size > len(body) {
			return fmt.Errorf("%s is cut off", name)
		}
		d.facts[id], body = body[:size:size], body[size:]
		d.held++
	}
	return nil
}

// factsMAC has taken in the name and what the facts belong to already.
func factsMAC(key []byte, name, about string) hash.Hash {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%d:%s%s", len(name), name, about)
	return mac
}

// aboutOf is a digest, so that no two lists come to the same.
func aboutOf(about []string) string {
	parts := make([][]byte, len(about))
	for i, a := range about {
		parts[i] = []byte(a)
	}
	sum := digestOf(parts...)
	return string(sum[:])
}

// factFiles are the names of the files of facts, the oldest first.
func factFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if numberOf(e.Name()) > 0 {
			names = append(names, e.Name())
		}
	}
	slices.SortFunc(names, func(a, b string) int { return int(min(max(numberOf(a)-numberOf(b), -1), 1)) })
	return names, nil
}

// numberOf is that of "12.facts", 0 for any other name.
func numberOf(name string) int64 {
	text, ok := strings.CutSuffix(name, factsSuffix)
	n, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil || strconv.FormatInt(n, 10) != text {
		return 0
	}
	return n
}

func readFactsKey(dir string) ([]byte, error) {
	key, err := readPrivate(filepath.Join(dir, factsKey), 0o077, sha256.Size)
	if err != nil {
		return nil, err
	}
	if len(key) != sha256.Size {
		return nil, fmt.Errorf("%s is no key", factsKey)
	}
	return key, nil
}

// makeFactsKey replaces whatever stands in its place.
func makeFactsKey(dir string) ([]byte, error) {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(key)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	return key, os.Rename(f.Name(), filepath.Join(dir, factsKey))
}

// readPrivate reads a plain file that has none of these permission bits.
func readPrivate(name string, bits fs.FileMode, most int64) ([]byte, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a plain file", filepath.Base(name))
	case info.Mode().Perm()&bits != 0:
		return nil, fmt.Errorf("%s has mode %o: others may have changed or read it", filepath.Base(name), info.Mode().Perm())
	case info.Size() > most:
		return nil, fmt.Errorf("%s has more than %d bytes", filepath.Base(name), most)
	}
	return os.ReadFile(name)
}
