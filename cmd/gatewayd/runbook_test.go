package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/kube"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres"
	"github.com/sallyport-dev/sallyport/gatewayd/sshd"
)

// Every rule by which a login, a statement or a session is ended has its entry.
func TestRunbookHasEveryRule(t *testing.T) {
	page, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	rules := slices.Concat(gatewayd.Rules(), postgres.Rules(), sshd.Rules(), kube.Rules(), []string{"review_mismatch"})
	mention := regexp.MustCompile(`(?:refuse\(|refused\(\w+, |Rule: +|Refuse\([^,\n]+, |Cut\(|[rR]ule[A-Za-z]* += +|deny\()"([a-z]+(?:_[a-z]+)+)"`)
	err = filepath.WalkDir("../../gatewayd/postgres", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		for _, m := range mention.FindAllSubmatch(src, -1) {
			rules = append(rules, string(m[1]))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(rules) < 55 {
		t.Fatalf("only %d rules found: the pattern no longer matches the sources", len(rules))
	}
	for _, rule := range rules {
		if !strings.Contains(string(page), "`"+rule+"`") {
			t.Errorf("docs/runbook.md has no entry for %s", rule)
		}
	}
}
