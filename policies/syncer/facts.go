package syncer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// factsFolder of the state folder holds what was found out about the bytes of
// reviews, so that a restart costs no second look. It may be removed.
const factsFolder = "facts"

// recall takes in what a sync before this one found out.
func (s *Syncer) recall() {
	program, err := programDigest()
	if err == nil {
		err = s.cache.Restore(filepath.Join(s.opt.StateDir, factsFolder), s.about(program)...)
	}
	if err != nil {
		s.log.Warn("nothing is taken over from the sync before", "reason", err)
	}
}

// keepFacts leaves what was found out to the next sync.
func (s *Syncer) keepFacts() {
	program, err := programDigest()
	if err == nil {
		err = s.cache.Save(filepath.Join(s.opt.StateDir, factsFolder), s.about(program)...)
	}
	if err != nil {
		s.log.Warn("the next sync has to verify all signatures anew", "reason", err)
	}
}

// about is what facts belong to.
func (s *Syncer) about(program string) []string {
	return []string{program, s.opt.TrustRoot, s.state.Repo, s.state.root().SHA256}
}

// programDigest is of this program's file: another one may parse otherwise.
var programDigest = sync.OnceValues(func() (string, error) {
	name, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("read this program: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read this program: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
})
