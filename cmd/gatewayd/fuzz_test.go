package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A configuration is one that gatewayd can start from, or every problem has a place.
func FuzzConfig(f *testing.F) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		f.Fatal(err)
	}
	for _, block := range strings.Split(string(page), "```") {
		if text, ok := strings.CutPrefix(block, "yaml\n"); ok {
			f.Add([]byte(text))
		}
	}
	f.Add([]byte("{}\n"))
	f.Add([]byte("listeners: [{}]\n"))
	path := filepath.Join(f.TempDir(), "gatewayd.yaml")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadConfig(path); err != nil && !strings.Contains(err.Error(), path) {
			t.Fatalf("without a place: %v", err)
		}
	})
}
