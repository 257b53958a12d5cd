package gatewayd

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// Every rule id that the core's sources mention is in Rules, and every id of
// Rules is mentioned: the runbook is compared with this list.
func TestRulesAreComplete(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	mention := regexp.MustCompile(`(?:Rule: |challenge\(|&Cut\{|&Cut\{Rule: |\.Cut\(|refuse\(a, \w+, )"([a-z]+(?:_[a-z]+)*)"`)
	mentioned := map[string]bool{}
	for _, f := range files {
		if f == "rules.go" || filepath.Ext(f) != ".go" || regexp.MustCompile(`_test\.go$`).MatchString(f) {
			continue
		}
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mention.FindAllSubmatch(src, -1) {
			mentioned[string(m[1])] = true
			if !slices.Contains(Rules(), string(m[1])) {
				t.Errorf("%s uses rule %q, which Rules does not list", f, m[1])
			}
		}
	}
	if len(mentioned) < 15 {
		t.Fatalf("only %d rules found in the sources: the pattern no longer matches them", len(mentioned))
	}
}
