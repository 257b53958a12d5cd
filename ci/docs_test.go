package ci

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// docs/ci.md lists exactly the rules that findings can name.
func TestRulesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/ci.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllSubmatch(page, -1) {
		listed = append(listed, string(m[1]))
	}
	if want := sorted(rules); !slices.Equal(listed, want) {
		t.Errorf("the page lists %v\nthere are %v", listed, want)
	}
}
