package sqlguard

import (
	"strings"
	"testing"
)

// TestToolsAnswerAsDirect sends testdata/tools.sql: what reads masked tables is
// compared with the mirror, everything else with another session of the same database.
func TestToolsAnswerAsDirect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldMasks)
	mirror, sibling := newMirror(t, w), w.sibling(t)
	for _, line := range corpus(t, "tools.sql") {
		direct := sibling
		w.enter(t, line)
		for text := range strings.SplitSeq(line, " ;; ") {
			if w.guard.Understand(text, w.scope).Masked {
				direct = mirror
			}
		}
		compare(t, w, direct, line)
	}
}
