package syncer

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A sync that starts again takes over what the one before found out about bytes.
// When that is damaged, or lies about, it says so and finds the same by itself.
func TestFactsOfTheSyncBefore(t *testing.T) {
	for name, attack := range map[string]func(t *testing.T, dir string){
		"":           func(*testing.T, string) {},
		"a bit":      func(t *testing.T, dir string) { edit(t, dir, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }) },
		"half of it": func(t *testing.T, dir string) { edit(t, dir, func(b []byte) []byte { return b[:len(b)/2] }) },
		"another sync's": func(t *testing.T, dir string) {
			a := newAccess(t)
			other := a.syncer()
			other.once()
			b, err := os.ReadFile(filepath.Join(other.opt.StateDir, factsFolder, "1.facts"))
			if err != nil {
				t.Fatal(err)
			}
			edit(t, dir, func([]byte) []byte { return b })
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccess(t)
			h := a.syncer()
			h.expect("etl#1", "")
			bundles := h.envelope().Bundles
			attack(t, filepath.Join(h.opt.StateDir, factsFolder))
			var log bytes.Buffer
			h.opt.Log = slog.New(slog.NewTextHandler(&log, nil))
			h.restart()
			if told := strings.Contains(log.String(), "verified anew"); told != (name != "") {
				t.Errorf("log: %s", log.String())
			}
			a.commit("something else")
			h.expect("etl#1", "")
			for bundle, sum := range bundles {
				if now := h.envelope().Bundles[bundle]; now != sum {
					t.Errorf("bundle %s is %s, was %s", bundle, now, sum)
				}
			}
			if _, err := os.Stat(filepath.Join(h.opt.StateDir, factsFolder, "key")); err != nil {
				t.Error(err)
			}
		})
	}
}

func edit(t *testing.T, dir string, change func([]byte) []byte) {
	t.Helper()
	name := filepath.Join(dir, "1.facts")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}
