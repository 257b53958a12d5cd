package record

import (
	"maps"
	"slices"
	"time"

	"github.com/sallyport-dev/sallyport/policies"
)

// Bounds of one summary: git keeps it for ever, and a hostile client must not
// decide how large it gets. Totals go on counting beyond them.
const (
	maxDenials = 200  // denials listed one by one
	maxCounts  = 1000 // distinct "verb relation" pairs; the rest is counted under otherCount
	otherCount = "other"
)

// tally adds a session's records up to its summary. The gateway, recovery and
// verification use this one, so they cannot disagree.
type tally struct {
	header Header
	sum    Summary
	open   map[int64]bool // allowed commands without a result
	last   *Summary       // the close record's
	closed bool
	sealed bool
}

func newTally() tally { return tally{open: map[int64]bool{}} }

func (t *tally) add(r *Record) {
	switch r.Type {
	case TypeOpen:
		t.begin(*r.Header)
	case TypeCommand:
		t.command(r)
	case TypeResult:
		if t.open[r.N] {
			delete(t.open, r.N)
			t.sum.Rows += r.Result.Rows
		}
	case TypeDenied:
		t.sum.Denied++
	case TypeClose:
		t.closed, t.last = true, r.Summary
	case TypeSeal:
		t.sealed = true
	}
}

func (t *tally) begin(h Header) {
	t.header = h
	t.sum = Summary{
		APIVersion: summaryVersion, Kind: summaryKind,
		Session: h.Session, Gateway: h.Gateway, Protocol: h.Protocol,
		Principal: h.Principal, Connection: h.Connection, Remote: h.Remote,
		Review: h.Review, ReviewSHA256: h.ReviewSHA256, ReviewCommit: h.ReviewCommit, Approvers: h.Approvers,
		Release: h.Release, ReleaseDigest: h.ReleaseDigest, ReleaseCommit: h.ReleaseCommit,
		Started: h.Started, Recording: recordingPath(h),
	}
}

func (t *tally) command(r *Record) {
	c := r.Command
	t.sum.Commands++
	if c.Verdict != policies.Allow {
		t.sum.Denied++
		if len(t.sum.Denials) < maxDenials {
			t.sum.Denials = append(t.sum.Denials, Denial{ID: c.Denial, Time: r.Time, Rule: c.Rule, Reason: c.Reason})
		}
		return
	}
	t.sum.Allowed++
	t.open[r.N] = true
	for _, effect := range distinctEffects(c.Effects) {
		t.count(effect)
		if effect == "shell" {
			t.sum.Enforcement = SessionLevel
		}
	}
}

func (t *tally) count(effect string) {
	if t.sum.Counts == nil {
		t.sum.Counts = map[string]int64{}
	}
	if _, known := t.sum.Counts[effect]; !known && len(t.sum.Counts) >= maxCounts {
		effect = otherCount
	}
	t.sum.Counts[effect]++
}

// distinctEffects names each verb and relation of a command once, sorted.
func distinctEffects(effects []policies.Effect) []string {
	names := make([]string, len(effects))
	for i, e := range effects {
		names[i] = e.Verb
		if e.Object != "" {
			names[i] += " " + e.Object
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// unended are the commands whose result nobody recorded, in order.
func (t *tally) unended() []int64 { return slices.Sorted(maps.Keys(t.open)) }

// summary is what the close record carries. Digest and Records are known only after the seal.
func (t *tally) summary(end string, ended time.Time) Summary {
	s := t.sum
	s.End, s.Ended = end, ended.UTC()
	s.Counts = maps.Clone(s.Counts)
	s.Denials = slices.Clone(s.Denials)
	return s
}
