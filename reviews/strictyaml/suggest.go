package strictyaml

import (
	"fmt"
	"slices"
	"strings"
)

// Suggest is the fix for a name that is not one of known: a question when one
// of them is close, otherwise the list of them. "" when there are none.
func Suggest(name string, known []string) string {
	if len(known) == 0 {
		return ""
	}
	if best := closest(name, known); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	sorted := slices.Sorted(slices.Values(known))
	return "known here: " + strings.Join(sorted, ", ")
}

func closest(name string, known []string) string {
	if len(name) > 64 {
		return ""
	}
	best, bestDistance := "", 3
	for _, candidate := range known {
		if squash(candidate) == squash(name) {
			return candidate
		}
		d := distance(strings.ToLower(name), strings.ToLower(candidate))
		if d < bestDistance && d*2 <= len(candidate) {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// squash makes max_age, maxAge and max-age equal.
func squash(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s))
}

// distance counts the insertions, deletions, replacements and swaps of
// neighbours that turn a into b.
func distance(a, b string) int {
	two, one, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		two, one, row = one, row, two
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(one[j]+1, row[j-1]+1, one[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], two[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
