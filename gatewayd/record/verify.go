package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/sallyport-dev/sallyport/policies"
)

// VerifyInput says what to verify and against what.
type VerifyInput struct {
	// Dir is the gateway's folder, or a copy of it.
	Dir string
	// Verify checks a seal: armored is an SSHSIG over statement, namespace
	// sallyport.checkpoint.v1, by the key that the trust root gave to gateway at
	// that time, which the statement names. Required.
	Verify func(gateway string, at time.Time, statement, armored []byte) error
	// Summaries are the audit trail's, by Summary.Session. nil means that there is none to compare with.
	Summaries map[string]Summary
	// Granted checks that what a recording says it stood on was granted. nil leaves that out.
	Granted func(Grant) error
	// Session restricts verification to one session; "" means all.
	Session string
}

// Grant is what a session, or from some command on a part of it, stood on.
type Grant struct {
	At                    time.Time // when it was used first
	Principal, Connection string
	Review, ReviewSHA256  string
	ReviewCommit          string   // "" for bytes that a reload brought during the session
	Approvers             []string // nil likewise
	Release               int64
	ReleaseDigest         string
	ReleaseCommit         string // "" likewise
}

// lateBy is how much older than the audit trail's newest a session may be
// before the lack of its summary is no delay any more: summaries are committed
// in the order in which sessions end, but for those that a full disk held up.
const lateBy = time.Hour

// Report is what Verify found.
type Report struct {
	Recordings  int       `json:"recordings"`            // sealed ones that were checked, good or bad
	Records     int64     `json:"records"`               // that held, open sessions' included
	Summaries   int       `json:"summaries"`             // of the audit trail that fit their recording
	Open        []string  `json:"open,omitempty"`        // sessions that are not sealed yet: their chain holds, no signature covers it
	Unconfirmed []string  `json:"unconfirmed,omitempty"` // sealed sessions and refused logins that the audit trail may still get a summary of
	Problems    []Problem `json:"problems,omitempty"`    // the first of each recording, and summaries without one
}

// Verify checks recordings: each chain record by record, each seal, each
// summary recomputed, and each summary of the audit trail against its
// recording. What is wrong is in Report.Problems and stops nothing; the error says that the folder cannot be read.
func Verify(ctx context.Context, in VerifyInput) (Report, error) {
	if in.Verify == nil {
		return Report{}, errors.New("record: seals cannot be verified without the trust root's keys")
	}
	v := &verification{in: in, waiting: maps.Clone(in.Summaries), newest: map[string]time.Time{}}
	for _, s := range in.Summaries {
		if s.Ended.After(v.newest[s.Gateway]) {
			v.newest[s.Gateway] = s.Ended
		}
	}
	err := v.run(ctx)
	return v.report, err
}

// verification is one run of Verify.
type verification struct {
	in      VerifyInput
	waiting map[string]Summary   // of the audit trail, not met yet
	newest  map[string]time.Time // by gateway: when the last session ended that the audit trail knows of
	report  Report
}

func (v *verification) run(ctx context.Context) error {
	open, err := openSessions(v.in.Dir) // first: a session moves from here to the recordings
	if err != nil {
		return err
	}
	for p, err := range recorded(v.in.Dir, noTime) {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		delete(open, sessionOf(p))
		if v.wanted(sessionOf(p)) {
			v.file(p)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(open)) {
		if v.wanted(id) {
			v.openSession(open[id])
		}
	}
	v.missing()
	slices.Sort(v.report.Unconfirmed)
	return nil
}

// wanted says whether to look at a recording. To check one refused login, all denial logs are looked at.
func (v *verification) wanted(id string) bool {
	return v.in.Session == "" || id == v.in.Session || isDenialLog(id) && !sessionID.MatchString(v.in.Session)
}

// asked says whether a session's or a refused login's summary is to be confirmed.
func (v *verification) asked(id string) bool { return v.in.Session == "" || id == v.in.Session }

// file verifies one sealed recording.
func (v *verification) file(p string) {
	v.report.Recordings++
	if !recordedName.MatchString(p) {
		v.problem(&Problem{Session: sessionOf(p), Path: p, Reason: "this is not a recording's name: move the file away"})
		return
	}
	r := sealedAt(v.in.Dir, p)
	last, t, err := v.records(r)
	if err == nil {
		err = v.check(r, last, &t)
	}
	if err != nil {
		v.failed(r, err)
		return
	}
	if isDenialLog(r.Session) {
		return
	}
	sum := *t.last
	sum.Digest, sum.Records = digestLine(last.Line), last.Seq
	v.confirm(sum, &Problem{Session: r.Session, Path: p})
}

// openSession verifies what the journal has of a session that has not ended.
func (v *verification) openSession(r *Recording) {
	v.report.Open = append(v.report.Open, r.Session)
	if _, _, err := v.records(r); err != nil {
		v.failed(r, err)
	}
}

// records follows the chain and returns its last record and what it adds up to.
func (v *verification) records(r *Recording) (*Record, tally, error) {
	t := newTally()
	var last *Record
	var ungranted error // named only when the chain holds: what it says is said by the gateway
	asked := map[string]bool{}
	for rec, err := range r.Records() {
		if err != nil {
			return nil, t, err
		}
		t.add(rec)
		last = rec
		v.report.Records++
		if ungranted == nil {
			ungranted = v.granted(rec, &t, asked)
		}
		if rec.Type == TypeDenied && v.asked(rec.Summary.Session) {
			v.confirm(deniedSummary(rec), &Problem{Session: rec.Summary.Session, Path: r.Path, Record: rec.Seq})
		}
	}
	if last == nil {
		return nil, t, &Problem{Session: r.Session, Path: r.Path, Record: 1, Reason: "missing: the recording is empty"}
	}
	if p, ok := ungranted.(*Problem); ok {
		p.Session, p.Path = r.Session, r.Path
		v.problem(p)
	}
	return last, t, nil
}

// check holds a recording whose chain is unbroken against its name, its summary and its signature.
func (v *verification) check(r *Recording, seal *Record, t *tally) error {
	bad := func(record int64, format string, args ...any) error {
		return &Problem{Session: r.Session, Path: r.Path, Record: record, Reason: fmt.Sprintf(format, args...)}
	}
	if want := recordingPath(t.header); want != r.Path {
		return bad(1, "this is the recording %s: files were exchanged or moved", want)
	}
	if err := v.in.Verify(t.header.Gateway, seal.Time, []byte(seal.Statement), []byte(seal.Signature)); err != nil {
		return bad(seal.Seq, "the seal is not by gateway %s: %v", t.header.Gateway, err)
	}
	if want := t.summary(t.last.End, t.last.Ended); !sameSummary(want, *t.last) {
		return bad(seal.Seq-1, "the summary is not what the records add up to")
	}
	return nil
}

// granted asks about what a recording stood on: its header's grant, and other
// bytes of the review that later commands ran under.
func (v *verification) granted(r *Record, t *tally, asked map[string]bool) error {
	h := t.header
	if v.in.Granted == nil || h.Review == "" {
		return nil
	}
	g := Grant{At: r.Time, Principal: h.Principal, Connection: h.Connection, Review: h.Review}
	switch {
	case r.Type == TypeOpen:
		g.ReviewSHA256, g.ReviewCommit, g.Approvers = h.ReviewSHA256, h.ReviewCommit, h.Approvers
		g.Release, g.ReleaseDigest, g.ReleaseCommit = h.Release, h.ReleaseDigest, h.ReleaseCommit
	case r.Type == TypeCommand && r.Command.Verdict == policies.Allow:
		g.ReviewSHA256, g.Release, g.ReleaseDigest = r.Command.ReviewSHA256, r.Command.Release, r.Command.ReleaseDigest
	default:
		return nil
	}
	key := g.ReviewSHA256 + " " + g.ReleaseDigest
	if asked[key] {
		return nil
	}
	asked[key] = true
	if err := v.in.Granted(g); err != nil {
		return &Problem{Record: r.Seq, Reason: "it was not granted as it says: " + err.Error()}
	}
	return nil
}

// confirm compares what a recording says with the audit trail's summary.
func (v *verification) confirm(recorded Summary, at *Problem) {
	if v.in.Summaries == nil {
		return
	}
	kept, ok := v.waiting[recorded.Session]
	delete(v.waiting, recorded.Session)
	switch {
	case !ok && recorded.Ended.Add(lateBy).Before(v.newest[recorded.Gateway]):
		at.Reason = fmt.Sprintf("its summary is missing: the audit trail has one of a session of gateway %s that ended later, at %s", recorded.Gateway, v.newest[recorded.Gateway].UTC().Format(time.RFC3339))
		v.problem(at)
	case !ok:
		v.report.Unconfirmed = append(v.report.Unconfirmed, recorded.Session)
	case kept.Digest != recorded.Digest:
		at.Reason = fmt.Sprintf("it is not the one that the audit trail confirms: its digest is %s, the committed summary says %s", short(recorded.Digest), short(kept.Digest))
		v.problem(at)
	case !sameSummary(kept, recorded):
		at.Reason = "the committed summary of it was changed: it says something else than the recording"
		v.problem(at)
	default:
		v.report.Summaries++
	}
}

// missing reports the summaries that no recording was found for.
func (v *verification) missing() {
	for _, id := range slices.Sorted(maps.Keys(v.waiting)) {
		if !v.asked(id) {
			continue
		}
		s := v.waiting[id]
		v.problem(&Problem{Session: id, Path: s.Recording, Record: deniedRecord(s), Reason: "missing: the audit trail has a summary of it"})
	}
}

// deniedRecord is which record of its denial log a refused login is, 0 for a session.
func deniedRecord(s Summary) int64 {
	if isDenialLog(path.Base(s.Recording)) {
		return s.Records
	}
	return 0
}

// failed reports a recording that does not hold. The audit trail's summary of
// it is not missing a recording, only a good one.
func (v *verification) failed(r *Recording, err error) {
	delete(v.waiting, r.Session)
	p, ok := err.(*Problem)
	if !ok {
		p = &Problem{Session: r.Session, Path: r.Path, Reason: err.Error()}
	}
	v.problem(p)
}

func (v *verification) problem(p *Problem) { v.report.Problems = append(v.report.Problems, *p) }

// sameSummary compares as JSON does, which is how summaries travel.
func sameSummary(a, b Summary) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

func short(digest string) string {
	if digest == "" {
		return "nothing"
	}
	return digest[:min(12, len(digest))] + "…"
}
