package record

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const digestKeySize = 32 // bytes

// Digester replaces secrets in recordings and logs. Equal values have equal
// digests, so that a reader sees that two statements meant the same row;
// without the key a digest cannot be tried against guesses. Its zero value digests nothing: make it with NewDigester or OpenDigester.
type Digester struct{ key []byte }

// NewDigester uses key, which must have at least 32 bytes.
func NewDigester(key []byte) (*Digester, error) {
	if len(key) < digestKeySize {
		return nil, fmt.Errorf("digest key: want at least %d bytes, have %d", digestKeySize, len(key))
	}
	return &Digester{key: bytes.Clone(key)}, nil
}

// OpenDigester uses the key in a file of the gateway's, and makes one when there is none.
func OpenDigester(path string) (*Digester, error) {
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = newDigestKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("digest key: %w", err)
	}
	d, err := NewDigester(key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; remove the file to have a new one made", path, err)
	}
	return d, nil
}

// newDigestKey writes a key under a temporary name first: a crash leaves either a whole key or none.
func newDigestKey(path string) ([]byte, error) {
	key := make([]byte, digestKeySize)
	rand.Read(key) // never fails
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".digest-*") // readable by its owner only
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(key)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return key, err
}

// Digest is "hmac:" and 16 hex digits of HMAC-SHA256 over value.
func (d *Digester) Digest(value string) string {
	if len(d.key) == 0 {
		panic("record: a Digester without a key would digest nothing")
	}
	mac := hmac.New(sha256.New, d.key)
	mac.Write([]byte(value))
	return "hmac:" + hex.EncodeToString(mac.Sum(nil)[:8])
}

// String keeps the key out of logs.
func (d *Digester) String() string { return "digester (key redacted)" }

// GoString keeps the key out of %#v.
func (d *Digester) GoString() string { return d.String() }
