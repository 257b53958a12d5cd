package syncer

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Alarm is something that somebody has to look at.
type Alarm struct {
	Kind    AlarmKind `json:"kind"`
	Message string    `json:"message"`
	Next    string    `json:"next"` // what to do
}

// AlarmKind names an alarm in logs, metrics and status.
type AlarmKind string

// The alarms. The last three are notices: sync does what it should.
const (
	AlarmRollback AlarmKind = "rollback_detected" // the branch was rewound or rewritten
	AlarmExpired  AlarmKind = "expired"           // gateways deny everything
	AlarmFrozen   AlarmKind = "frozen"            // nothing new could be signed for half of the validity
	AlarmBroken   AlarmKind = "broken"            // trust, config or policies at the head are not usable
	AlarmFailing  AlarmKind = "failing"           // the last round failed
	AlarmClosed   AlarmKind = "closed"            // documents that are not granted
	AlarmPending  AlarmKind = "pending"           // documents that wait for an attestation
	AlarmLog      AlarmKind = "log_behind"        // releases that are not in the log yet
)

// AlarmKinds are all of them, the worst first.
var AlarmKinds = []AlarmKind{AlarmRollback, AlarmExpired, AlarmFrozen, AlarmBroken, AlarmFailing, AlarmClosed, AlarmPending, AlarmLog}

// Notice says that the kind asks for no action of who runs sync.
func (k AlarmKind) Notice() bool {
	return k == AlarmClosed || k == AlarmPending || k == AlarmLog
}

// alarms are those of a round that ended with err.
func (r Result) alarms(err error) []Alarm {
	var list []Alarm
	add := func(kind AlarmKind, next, format string, args ...any) {
		list = append(list, Alarm{Kind: kind, Message: fmt.Sprintf(format, args...), Next: next})
	}
	rollback := errors.Is(err, ErrRollback)
	if rollback {
		from := r.Commit
		if back := (*rewoundError)(nil); errors.As(err, &back) {
			from = back.from
		}
		add(AlarmRollback, fmt.Sprintf("find out who rewrote the branch; put it back to a commit that continues %s, or have the root's members sign `sallyport accept-rewind --from %s`", short(from), from), "%s", err)
	}
	list = append(list, r.aging(r.Time)...)
	if r.Broken != "" {
		add(AlarmBroken, "`sallyport check` in a clone shows every problem; until they are mended, nothing new is granted", "trust, config or policies at %s are not usable, those of %s stay in force: %s", short(r.Commit), short(r.Good), r.Broken)
	}
	if err != nil && !rollback {
		add(AlarmFailing, "mend what the message names; sync tries again by itself", "%s", err)
	}
	if n := len(r.Problems); n > 0 {
		var files []string
		for _, p := range r.Problems {
			files = append(files, p.File)
		}
		slices.Sort(files)
		add(AlarmClosed, "`sallyport status` says why each is closed, and what to do", "%s not granted: %s", plural(n, "document"), some(slices.Compact(files)))
	}
	if n := len(r.Pending); n > 0 {
		var files []string
		for _, p := range r.Pending {
			files = append(files, p.Path)
		}
		add(AlarmPending, "approve the pull requests, or sign the documents", "%s merged and not yet approved as the rules ask: %s: %s", plural(n, "document"), some(files), r.Awaiting)
	}
	return append(list, r.behind()...)
}

// behind is the alarm about the log.
func (r Result) behind() []Alarm {
	if r.LogError == "" {
		return nil
	}
	return []Alarm{{AlarmLog, "releases are not in the log on the audit branch yet: " + r.LogError,
		"make the audit repository reachable, and let sync push to it; nothing is lost meanwhile"}}
}

// AlarmsAt are the alarms at a time after the round: some come with time alone,
// whether sync runs or not.
func (r Result) AlarmsAt(now time.Time) []Alarm {
	list := slices.DeleteFunc(slices.Clone(r.Alarms), func(a Alarm) bool { return a.Kind == AlarmExpired || a.Kind == AlarmFrozen })
	list = append(list, r.aging(now)...)
	slices.SortStableFunc(list, func(a, b Alarm) int {
		return cmp.Compare(slices.Index(AlarmKinds, a.Kind), slices.Index(AlarmKinds, b.Kind))
	})
	return list
}

// aging are the alarms that come with time alone.
func (r Result) aging(now time.Time) []Alarm {
	if r.Sequence == 0 {
		return nil
	}
	half := r.IssuedAt.Add(r.ValidUntil.Sub(r.IssuedAt) / 2)
	switch {
	case !now.Before(r.ValidUntil):
		return []Alarm{{AlarmExpired, fmt.Sprintf("release %d ran out at %s, and gateways deny everything", r.Sequence, r.ValidUntil.UTC().Format(time.RFC3339)),
			"make sync reach the remote again; `sallyport extend` bridges the time until then"}}
	case !now.Before(half):
		return []Alarm{{AlarmFrozen, fmt.Sprintf("nothing could be signed since %s, which is more than half of the time that a release holds; at %s gateways begin to deny everything (the remote last answered at %s)",
			r.IssuedAt.UTC().Format(time.RFC3339), r.ValidUntil.UTC().Format(time.RFC3339), r.Reached.UTC().Format(time.RFC3339)),
			"find out what keeps sync from the remote; `sallyport extend` bridges an outage"}}
	}
	return nil
}

// some is a list of names that fits into a line.
func some(names []string) string {
	const most = 5
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// raise logs each alarm when it comes or changes, and when it is over.
func (s *Syncer) raise(before, now []Alarm) {
	for _, a := range now {
		switch {
		case slices.Contains(before, a):
		case a.Kind.Notice():
			s.log.Warn(a.Message, "alarm", string(a.Kind), "next", a.Next)
		case a.Kind != AlarmFailing: // which is logged as what it is
			s.log.Error(a.Message, "alarm", string(a.Kind), "next", a.Next)
		}
	}
	for _, a := range before {
		if !slices.ContainsFunc(now, func(b Alarm) bool { return b.Kind == a.Kind }) {
			s.log.Info("no longer: "+string(a.Kind), "alarm", string(a.Kind))
		}
	}
}
