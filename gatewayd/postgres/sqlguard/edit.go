package sqlguard

import (
	"fmt"
	"sort"
	"strings"
)

// edit replaces input[start:end] by text.
type edit struct {
	start, end int
	text       string
	reads      int  // how many relations the text itself reads: it is a sub-select that stands for a masked one
	names      bool // the text stands for a name of the input, so its position maps back
}

// apply splices the edits into the input. Edits that overlap are an error: two
// rules disagree about one place, which nobody may guess about.
func apply(input string, edits []edit) (string, []edit, error) {
	sort.SliceStable(edits, func(i, j int) bool {
		if edits[i].start != edits[j].start {
			return edits[i].start < edits[j].start
		}
		return edits[i].end < edits[j].end
	})
	var b strings.Builder
	at := 0
	for _, e := range edits {
		if e.start < at || e.end < e.start || e.end > len(input) {
			return "", nil, fmt.Errorf("two rewrites meet at byte %d", e.start)
		}
		b.WriteString(input[at:e.start])
		b.WriteString(e.text)
		at = e.end
	}
	b.WriteString(input[at:])
	return b.String(), edits, nil
}

// quoteIdent quotes an identifier for generated SQL, always.
func quoteIdent(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// quoteLiteral quotes a string for generated SQL under standard_conforming_strings,
// which the session pins.
func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func quoteQualified(schema, name string) string { return quoteIdent(schema) + "." + quoteIdent(name) }
