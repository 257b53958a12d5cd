package reviews

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

// Cache remembers parsed reviews and verified signatures from one Load to the
// next, by all the bytes that decide the result, so that loading again costs only what
// changed. Of single documents it holds facts about bytes and nothing about trust: whose
// key it is, and whether that key may approve, is judged again. Only where nothing at all
// changed that a whole folder of reviews was judged by does that judgement stand, see
// Folder. A nil *Cache remembers nothing. It serves one Load at a time.
type Cache struct {
	mu      sync.Mutex
	old     map[[sha256.Size]byte]any // from the last Load
	now     map[[sha256.Size]byte]any // used in this one
	folders map[string]*Folder        // reviews/<connection>, of the last Load
	keys    map[string]ssh.PublicKey  // one for all the signatures that it made

	disk     disk // not guarded: it changes between Loads only
	recalled atomic.Int64
}

// NewCache is an empty cache.
func NewCache() *Cache {
	return &Cache{old: make(map[[sha256.Size]byte]any), now: make(map[[sha256.Size]byte]any), keys: make(map[string]ssh.PublicKey)}
}

// turn ends a Load: what it did not use is forgotten.
func (c *Cache) turn(folders map[string]*Folder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.old, c.now = c.now, make(map[[sha256.Size]byte]any)
	if folders != nil {
		c.folders = folders
		c.disk.facts = nil // each review was asked about
	}
}

func (c *Cache) get(id [sha256.Size]byte) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.now[id]
	if !ok {
		if v, ok = c.old[id]; ok {
			c.now[id] = v
		}
	}
	return v, ok
}

func (c *Cache) put(id [sha256.Size]byte, v any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now[id] = v
}

// digestOf hashes parts so that no two lists of parts have the same input.
func digestOf(parts ...[]byte) [sha256.Size]byte {
	h := sha256.New()
	for _, p := range parts {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(p)))
		h.Write(size[:])
		h.Write(p)
	}
	var id [sha256.Size]byte
	h.Sum(id[:0])
	return id
}

// Review is ParseReview. A good review is remembered until the end of the next
// Load; each call returns its own copy of the parts that Load fills in.
func (c *Cache) Review(path string, b []byte) (*Review, error) {
	if c == nil {
		return ParseReview(path, b)
	}
	id := digestOf([]byte("review"), []byte(path), b)
	if v, ok := c.get(id); ok {
		r := *v.(*Review)
		return &r, nil
	}
	r, err := ParseReview(path, b)
	if err == nil {
		kept := *r
		c.put(id, &kept)
	}
	return r, err
}

// take is Review for who remembers the result: here it is forgotten.
func (c *Cache) take(path string, b []byte) (*Review, error) {
	id := digestOf([]byte("review"), []byte(path), b)
	c.mu.Lock()
	v, ok := c.now[id]
	if !ok {
		v, ok = c.old[id]
	}
	delete(c.now, id)
	delete(c.old, id)
	c.mu.Unlock()
	if ok {
		return v.(*Review), nil
	}
	return ParseReview(path, b)
}

// verified is what a signature turned out to be.
type verified struct {
	name string // of its file, for a review's
	key  ssh.PublicKey
	err  error
}

// verify is Verify.
func (c *Cache) verify(armored []byte, namespace string, message []byte) (ssh.PublicKey, error) {
	if c == nil {
		return Verify(armored, namespace, message)
	}
	id := digestOf([]byte("signature"), []byte(namespace), armored, message)
	if v, ok := c.get(id); ok {
		return v.(verified).key, v.(verified).err
	}
	key, err := Verify(armored, namespace, message)
	if err != nil && !errors.Is(err, ErrBadSignature) && !errors.Is(err, ErrWrongNamespace) {
		return key, err // cheap to find out again
	}
	c.put(id, verified{key: key, err: err})
	return key, err
}

// signers verifies a review's signatures.
func (c *Cache) signers(b []byte, sigs map[string][]byte) []verified {
	all := make([]verified, 0, len(sigs))
	for name, sig := range sigs {
		key, err := Verify(sig, NamespaceReview, b)
		if err == nil {
			key = c.shared(key)
		}
		all = append(all, verified{name, key, err})
	}
	return all
}

func (c *Cache) shared(key ssh.PublicKey) ssh.PublicKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	bytes := string(key.Marshal())
	if known, ok := c.keys[bytes]; ok {
		return known
	}
	c.keys[bytes] = key
	return key
}
