package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// reviewReport is what a reviewer reads about a proposal: what would be different
// if it were merged now. It is data; reviewText and reviewMarkdown render it.
type reviewReport struct {
	Ref       string             `json:"ref"`
	Branch    string             `json:"branch,omitempty"` // without the remote
	Commit    string             `json:"commit"`
	Author    string             `json:"author"`
	Against   string             `json:"against"` // what is merged: "origin/main"
	Base      string             `json:"base"`    // and its commit
	Risk      string             `json:"risk"`
	Digest    string             `json:"digest"` // of everything that --approve would sign or that gives it its meaning
	Warnings  []string           `json:"warnings"`
	Problems  reviews.Problems   `json:"problems"`
	Documents []documentReport   `json:"documents"`
	Verdicts  []changedVerdict   `json:"changedVerdicts"` // of examples elsewhere
	Awaiting  []reviewsToApprove `json:"awaiting"`
}

// reviewsToApprove is a document that still needs approvals.
type reviewsToApprove struct {
	Path    string         `json:"path"`
	Needs   []reviews.Need `json:"needs"`
	Ignored []string       `json:"ignored,omitempty"` // signatures that do not count, and why
}

// documentReport is one changed document.
type documentReport struct {
	Path      string   `json:"path"`
	Kind      string   `json:"kind"`
	Change    string   `json:"change"` // new | changed | removed | unchanged
	SHA256    string   `json:"sha256,omitempty"`
	Risk      string   `json:"risk"`
	Facts     []fact   `json:"facts"` // who, where, when, why
	Changes   []change `json:"changes"`
	Keeps     []string `json:"keeps"` // what it granted as before
	Notes     []string `json:"notes"`
	Approvals []string `json:"approvals"` // who has approved these bytes

	Examples []ci.Outcome `json:"examples"`
	Untested string       `json:"untested,omitempty"` // why the examples could not run
}

// fact is one line about a document.
type fact struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// changedVerdict is an example of another document for which the answer changes.
type changedVerdict struct {
	At     string `json:"at"`
	Run    string `json:"run"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// report says what a proposal would change. only is the path of the one document
// that is asked for; "" is for all.
func (p *proposal) report(ctx context.Context, now time.Time, only string) (*reviewReport, error) {
	r := &reviewReport{
		Ref: p.name, Branch: p.branch, Commit: p.commit, Author: p.author, Against: p.merged.ref, Base: p.merged.commit, Risk: p.risk(),
		Warnings: p.warnings(now), Problems: p.problems(), Documents: []documentReport{}, Verdicts: []changedVerdict{}, Awaiting: []reviewsToApprove{},
	}
	policy, err := policyOf(ctx, p.after)
	if err != nil { // a change that mends them has to be readable
		policy = nil
		r.Warnings = append(r.Warnings, fmt.Sprintf("nothing can be granted and no example can run on %s: %v", p.merged.ref, err))
	}
	if p.rules != p.after {
		if _, err := policyOf(ctx, p.rules); err != nil {
			r.Problems = append(r.Problems, asProblems(err)...)
		}
	}
	for _, path := range p.paths {
		if only != "" && path != only {
			continue
		}
		d, err := p.document(ctx, policy, path, now)
		if err != nil {
			return nil, err
		}
		r.Documents = append(r.Documents, d)
		if pending := p.pending(path); pending != nil {
			r.Awaiting = append(r.Awaiting, reviewsToApprove{path, pending.Needs, pending.Ignored})
		}
	}
	if r.Verdicts, err = p.elsewhere(ctx, policy); err != nil {
		return nil, err
	}
	r.Digest = p.digest(only)
	return r, nil
}

// digest is over the bytes that are proposed and the bytes that give them their
// meaning: the connection, the trust root, the settings. Another approval leaves it as it is.
func (p *proposal) digest(only string) string {
	h := sha256.New()
	line := func(what, path string, b []byte) {
		fmt.Fprintf(h, "%s %s %s\n", what, path, sha256Hex(b))
	}
	fmt.Fprintln(h, p.after.Repo)
	for _, path := range p.paths {
		if only == "" || path == only {
			line("proposed", path, p.bytes[path])
			if before := sourceIn(p.before, path); before != nil {
				line("instead of", path, before.Bytes)
			}
		}
		r := p.after.Reviews[documentName(path)]
		if r == nil || reviews.KindOf(path) != reviews.KindReview {
			continue
		}
		if c := p.after.Connections[r.Spec.Connection]; c != nil {
			line("on", c.Source.Path, c.Source.Bytes)
			line("with", reviews.CatalogPath(r.Spec.Connection), c.Catalog)
		}
		if subject := p.after.Principals[r.Spec.Subject]; subject != nil { // whose keys come in
			line("for", subject.Source.Path, subject.Source.Bytes)
		}
	}
	for _, path := range sortedKeys(p.after.Policies) {
		line("under", path, p.after.Policies[path].Source.Bytes)
	}
	line("under", reviews.RootPath, p.after.Root.Source.Bytes)
	if p.after.Config != nil {
		line("under", reviews.ConfigPath, p.after.Config.Source.Bytes)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// warnings are what a reviewer should know about the change as a whole.
func (p *proposal) warnings(now time.Time) []string {
	warnings := []string{}
	rules, others := false, false
	for _, path := range p.paths {
		if control(path) {
			rules = true
		} else {
			others = true
		}
	}
	if rules && others {
		warnings = append(warnings, "it changes trust root, settings or policies together with what they judge: sync does not accept that in one commit, split it")
	}
	if p.unrelated {
		warnings = append(warnings, "it shares no history with what is merged")
	}
	for _, path := range p.conflicts {
		warnings = append(warnings, path+" has been changed on "+p.merged.ref+" meanwhile: this has to be brought up to date before it can be merged")
	}
	if len(p.others) > 0 {
		warnings = append(warnings, fmt.Sprintf("it also changes %s that no signature covers, read them with git diff: %s", count(len(p.others), "file"), shortList(p.others, 10)))
	}
	for _, path := range p.catalogs {
		warnings = append(warnings, path+" changes: no approval rule is for this catalog, so nobody signs it; it only serves to check and to show examples")
	}
	if p.before.Config == nil || len(p.before.Problems) > 0 {
		for _, path := range p.paths {
			if control(path) && sourceIn(p.before, path) == nil {
				warnings = append(warnings, "trust root, settings or policies of "+p.merged.ref+" are not all in force yet")
				break
			}
		}
	}
	return warnings
}

// document describes one document, by kind.
func (p *proposal) document(ctx context.Context, policy *policies.Policy, path string, now time.Time) (documentReport, error) {
	d := documentReport{
		Path: path, Kind: string(reviews.KindOf(path)), Risk: p.riskOf(path), Facts: []fact{}, Changes: []change{}, Keeps: []string{},
		Notes: []string{}, Approvals: []string{}, Examples: []ci.Outcome{},
	}
	before := sourceIn(p.before, path)
	after := p.bytes[path]
	switch {
	case after == nil:
		d.Change = "removed"
	case before == nil:
		d.Change = "new"
	case bytes.Equal(before.Bytes, after):
		d.Change = "unchanged"
	default:
		d.Change = "changed"
	}
	if after != nil {
		d.SHA256 = sha256Hex(after)
		if source := sourceIn(p.judging(path), path); source != nil && source.Approvals != nil {
			d.Approvals = source.Approvals
		}
	}
	var err error
	switch reviews.KindOf(path) {
	case reviews.KindReview:
		err = p.aboutReview(ctx, policy, &d, now)
	case reviews.KindConnection:
		p.aboutConnection(&d)
	case reviews.KindPrincipal:
		p.aboutPrincipal(&d)
	case reviews.KindPolicy:
		d.lines(before, after)
		if d.Change == "removed" {
			d.note("What it denied is denied no longer.")
		}
	case reviews.KindCatalog:
		d.lines(before, after)
		d.note("Examples and masks are checked with it, and reviewers see what it says. Gateways read the live schema.")
	case reviews.KindRoot:
		var old, now any
		if p.before.Root != nil {
			old = p.before.Root.Spec
		}
		if p.all.Root != nil && after != nil {
			now = p.all.Root.Spec
		}
		d.Changes = compareFields(old, now)
		d.note("It decides whose approvals count from now on.")
	case reviews.KindConfig:
		var old, now any
		if p.before.Config != nil && p.before.Config.Source.SHA256 != d.SHA256 {
			old = p.before.Config.Spec
		}
		if p.all.Config != nil && after != nil {
			now = p.all.Config.Spec
		}
		d.Changes = compareFields(old, now)
		d.note("It decides how many approvals documents need from now on.")
	}
	return d, err
}

func (d *documentReport) note(text string)      { d.Notes = append(d.Notes, text) }
func (d *documentReport) add(list ...change)    { d.Changes = append(d.Changes, list...) }
func (d *documentReport) fact(name, txt string) { d.Facts = append(d.Facts, fact{name, txt}) }

// aboutReview says who newly may do what, where, until when and why.
func (p *proposal) aboutReview(ctx context.Context, policy *policies.Policy, d *documentReport, now time.Time) error {
	name := documentName(d.Path)
	before, after := p.before.Reviews[name], p.after.Reviews[name]
	d.whoAndWhy(p, before, after, now)
	if after == nil && d.Change != "removed" {
		d.note("As it is it cannot be used: merged like this, it would be closed.")
	}
	if before != nil && after != nil && (before.Spec.Subject != after.Spec.Subject || before.Spec.Connection != after.Spec.Connection) {
		d.note(fmt.Sprintf("It was for %s before; for %s everything is new.", before.Spec.Subject, after.Spec.Subject))
		d.add(compareGrants(grantsOf(before), granted{})...)
		before = nil
	}
	d.add(compareGrants(grantsOf(before), grantsOf(after))...)
	connectionName, _, _ := strings.Cut(name, "/")
	old, connection := p.before.Connections[connectionName], p.after.Connections[connectionName]
	if after != nil {
		if before != nil {
			d.add(compareMasks(masksIn(old, before), masksIn(connection, after))...)
			d.add(compareFields(before.Spec, after.Spec, toldOtherwise...)...)
			d.Keeps = kept(grantsOf(before), grantsOf(after))
		} else {
			d.add(compareFields(reviews.ReviewSpec{}, after.Spec, toldOtherwise...)...)
		}
		d.add(shownMasked(connection, after)...)
		d.Notes = append(d.Notes, wildcards(after, connection)...)
		if err := p.sequence(ctx, d, name, after); err != nil {
			return err
		}
		if connection != nil {
			return p.examples(ctx, policy, d, connection, after)
		}
	}
	return nil
}

// toldOtherwise are the fields of a review that are told in other words.
var toldOtherwise = []string{"sequence", "allow", "hold", "mask", "examples", "justification", "requester", "subject", "connection", "validity"}

// kept are the grants that stay as they are.
func kept(before, after granted) []string {
	var allow, hold []atom
	for _, a := range after.allow {
		if before.state(a) == "allow" && after.state(a) == "allow" {
			allow = append(allow, a)
		}
	}
	for _, a := range after.hold {
		if before.state(a) == "hold" {
			hold = append(hold, a)
		}
	}
	lines := append([]string{}, together(allow)...)
	for _, line := range together(hold) {
		lines = append(lines, line+", each time only after a person agreed")
	}
	return lines
}

func (d *documentReport) whoAndWhy(p *proposal, before, after *reviews.Review, now time.Time) {
	r := after
	if r == nil {
		r = before
	}
	if r == nil {
		return // it cannot be read; the problems say why
	}
	s := r.Spec
	d.fact("who", s.Subject+answersFor(p.after.Owner(s.Subject)))
	where := s.Connection
	if c := p.after.Connections[s.Connection]; c != nil {
		where += fmt.Sprintf(": %s on %s:%d as role %s, risk %s", c.Spec.Target.Database, c.Spec.Target.Host, c.Spec.Target.Port, c.Spec.Target.User, labelOf(c))
	}
	d.fact("where", where)
	if after == nil && d.Change != "removed" {
		return
	}
	if after == nil {
		d.fact("when", "ends as soon as this is merged and released; live sessions are cut")
		return
	}
	when := fmt.Sprintf("%s until %s (%s)", stamp(s.Validity.NotBefore), stamp(s.Validity.Expires), span(s.Validity.Expires.Sub(s.Validity.NotBefore)))
	if r.Expired(now) {
		when += "; that is over, so it granted nothing"
	}
	if before != nil && !before.Spec.Validity.Expires.Equal(s.Validity.Expires) {
		when += "; until " + stamp(before.Spec.Validity.Expires) + " before"
	}
	d.fact("when", when)
	ticket := ""
	if s.Justification.Ticket != "" {
		ticket = " (" + s.Justification.Ticket + ")"
	}
	d.fact("why", s.Justification.Reason+ticket)
	d.fact("asked by", s.Requester+answersFor(p.after.Owner(s.Requester)))
}

func answersFor(owner string) string {
	if owner == "" {
		return ""
	}
	return ", for which " + owner + " answers"
}

// sequence says when sync would close the review instead of granting it.
// The merged history counts, deleted reviews included.
func (p *proposal) sequence(ctx context.Context, d *documentReport, name string, after *reviews.Review) error {
	if b, err := fs.ReadFile(p.merged.files, d.Path); err == nil && bytes.Equal(b, p.bytes[d.Path]) {
		return nil // it is merged already, and waits for approvals
	}
	next, err := nextSequence(ctx, p.repo, d.Path, p.merged.commit)
	if err == nil && after.Spec.Sequence < next {
		d.note(fmt.Sprintf("Its sequence is %d and has to be more than the merged %d: sync would close this review. Write it anew with the next one (sallyport revert, sallyport request --renew).",
			after.Spec.Sequence, next-1))
	}
	return err
}

// examples runs those of a review through the real guard and policies.
func (p *proposal) examples(ctx context.Context, policy *policies.Policy, d *documentReport, connection *reviews.Connection, review *reviews.Review) error {
	outcomes, untested, err := runExamples(ctx, policy, connection, review)
	if outcomes != nil {
		d.Examples = outcomes
	}
	d.Untested = untested
	if len(review.Spec.Examples) == 0 {
		d.note("It has no examples.")
	}
	return err
}

// runExamples are the verdicts on the examples of a review, or why there are none.
func runExamples(ctx context.Context, policy *policies.Policy, connection *reviews.Connection, review *reviews.Review) (outcomes []ci.Outcome, untested string, err error) {
	if policy == nil {
		return nil, "the policies do not compile", nil
	}
	outcomes, problems, err := ci.Options{Classifiers: classifiers()}.Examples(ctx, policy, connection, review)
	if len(problems) > 0 {
		return nil, strings.TrimPrefix(problems[0].Message, "its examples cannot run: "), nil
	}
	return outcomes, "", err
}

func (p *proposal) aboutConnection(d *documentReport) {
	name := documentName(d.Path)
	before, after := p.before.Connections[name], p.after.Connections[name]
	used := 0
	for _, r := range p.before.Reviews {
		if r.Spec.Connection == name {
			used++
		}
	}
	if after == nil && d.Change != "removed" {
		return // it cannot be read
	}
	c := after
	if c == nil {
		c = before
	}
	if c == nil {
		return
	}
	t := c.Spec.Target
	d.fact("where", fmt.Sprintf("%s on %s:%d as role %s, tls %s", t.Database, t.Host, t.Port, t.User, t.TLS))
	d.fact("reviews", count(used, "review")+" on it in force")
	var old, now any
	if before != nil {
		old = before.Spec
	}
	if after != nil {
		now = after.Spec
	}
	if after != nil || before != nil && d.Change == "removed" {
		if after != nil {
			d.add(compareMasks(masksIn(before, nil), masksIn(after, nil))...)
		}
		d.add(compareFields(old, now, "mask")...)
	}
	if d.Change == "removed" {
		d.note("Every review on it ends.")
	}
}

func (p *proposal) aboutPrincipal(d *documentReport) {
	find := func(t *reviews.Tree) any {
		for _, principal := range t.Principals {
			if principal.Source.Path == d.Path {
				d.Facts = []fact{{"who", principal.Metadata.Name + answersFor(principal.Spec.Owner)}}
				return principal.Spec
			}
		}
		return nil
	}
	old := find(p.before)
	now := find(p.after)
	if now == nil && d.Change != "removed" {
		return // it cannot be read
	}
	d.add(compareFields(old, now)...)
	if d.Change == "removed" {
		d.note("It can no longer log in, and every review of it ends.")
	}
}

// lines counts those of a text that nothing here can put in words: what it means
// is in it, and in the examples whose verdict it changes.
func (d *documentReport) lines(before *reviews.Source, now []byte) {
	var old []byte
	if before != nil {
		old = before.Bytes
	}
	gone, come := lineDifference(old, now)
	d.add(change{changes, fmt.Sprintf("%s added, %s removed: read them with git diff", count(come, "line"), count(gone, "line")), gone > 0})
}

// lineDifference counts lines that only one of two texts has.
func lineDifference(old, now []byte) (gone, come int) {
	lines := make(map[string]int)
	for line := range bytes.Lines(old) {
		lines[string(line)]++
	}
	for line := range bytes.Lines(now) {
		lines[string(line)]--
	}
	for _, n := range lines {
		gone, come = gone+max(n, 0), come+max(-n, 0)
	}
	return gone, come
}

// elsewhere are examples of reviews that the change does not touch, and whose
// verdict it changes: by a connection, a catalog or a policy.
func (p *proposal) elsewhere(ctx context.Context, policy *policies.Policy) ([]changedVerdict, error) {
	list := []changedVerdict{}
	touched := make(map[string]bool) // connections
	everything := false
	for _, path := range append(slices.Clone(p.paths), p.catalogs...) {
		switch reviews.KindOf(path) {
		case reviews.KindPolicy:
			everything = true
		case reviews.KindConnection, reviews.KindCatalog:
			touched[documentName(path)] = true
		}
	}
	if !everything && len(touched) == 0 {
		return list, nil
	}
	old, err := policyOf(ctx, p.before)
	if err != nil {
		return list, nil // nothing is in force to compare with
	}
	if everything {
		if policy, err = policyOf(ctx, p.rules); err != nil {
			return list, nil // a problem of the change
		}
	}
	for _, name := range sortedKeys(p.before.Reviews) {
		review := p.before.Reviews[name]
		connection := review.Spec.Connection
		if slices.Contains(p.paths, review.Source.Path) || !everything && !touched[connection] || len(review.Spec.Examples) == 0 {
			continue
		}
		was, _, err := runExamples(ctx, old, p.before.Connections[connection], review)
		if err != nil {
			return nil, err
		}
		var is []ci.Outcome
		untested := "the connection would be closed"
		if after := p.rules.Connections[connection]; after != nil {
			if is, untested, err = runExamples(ctx, policy, after, review); err != nil {
				return nil, err
			}
		}
		for i, o := range was {
			got := "cannot run: " + untested
			if i < len(is) {
				got = is[i].Got
			}
			if got != o.Got {
				list = append(list, changedVerdict{o.Position.String(), o.Run, o.Got, got})
			}
		}
	}
	return list, nil
}

func asProblems(err error) reviews.Problems {
	var problems reviews.Problems
	if errors.As(err, &problems) {
		return problems
	}
	return reviews.Problems{{Message: err.Error()}}
}
