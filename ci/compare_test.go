package ci

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/reviews"
)

// expect finds a finding by rule, severity and words.
func expect(t *testing.T, r *Report, rule string, severity Severity, file, words string) {
	t.Helper()
	if !slices.ContainsFunc(r.Findings, func(f Finding) bool {
		return f.Rule == rule && f.Severity == severity && f.File == file && strings.Contains(f.Message+" "+f.Fix, words)
	}) {
		t.Errorf("no %s of rule %s at %s says %q: %v", severity, rule, file, words, r.Findings)
	}
}

// A merged widening that is reverted: the commit that git makes brings old signed bytes back.
func TestRevertedWidening(t *testing.T) {
	old := newAccess(t)
	base := old.fork(t)
	base.put(etlPath, strings.Replace(reviewText("orders-db/etl", 5, ""), "verbs: [select]", "verbs: [select, update]", 1), "user:bob")
	r := old.compare(base, true)
	expect(t, r, RuleSequence, Error, etlPath, "goes back from 5 to 4")
	expect(t, r, RuleSequence, Error, etlPath, "sallyport revert "+etlPath)
	expect(t, r, RuleSequence, Error, etlPath, "sequence 6")
}

// What a change shows is told, although people approved it.
func TestMasksThatGo(t *testing.T) {
	base := newAccess(t)
	a := base.fork(t)
	a.edit(ordersPath, "    - {column: app.customers.ssn, with: last4}\n", "", "user:bob")
	expect(t, a.compare(base, true), RuleMaskRemoved, Warning, ordersPath, "app.customers.ssn is masked with last4 on the base")

	a = base.fork(t)
	a.edit(ordersPath, "ssn, with: last4", "ssn, with: first", "user:bob")
	expect(t, a.compare(base, true), RuleMaskRemoved, Warning, ordersPath, "with first instead of last4")

	a = base.fork(t)
	a.edit(ordersPath, "ssn, with: last4}", "ssn, with: last4, lookup: true}", "user:bob")
	expect(t, a.compare(base, true), RuleMaskRemoved, Warning, ordersPath, "rows could be looked up by the value of app.customers.ssn")

	// The same database under another name, without the masks.
	a = base.fork(t)
	text := strings.Replace(connectionText("copy-db", ""), "copy-db.internal", "ORDERS-db.internal", 1)
	a.put("connections/copy-db.yaml", strings.Replace(text, "    - {column: app.customers.ssn, with: last4}\n", "", 1), "user:bob")
	a.write("connections/copy-db.catalog.json", a.read("connections/orders-db.catalog.json"))
	expect(t, a.compare(base, true), RuleMaskRemoved, Warning, "connections/copy-db.yaml", "connection orders-db reaches the same database and masks app.customers.ssn")

	with := base.fork(t)
	with.put(etlPath, reviewText("orders-db/etl", 5, "  mask: [{column: app.customers.name, with: first}]\n"), "user:bob")
	a = with.fork(t)
	a.put(etlPath, reviewText("orders-db/etl", 6, ""), "user:bob")
	expect(t, a.compare(with, true), RuleMaskRemoved, Warning, etlPath, "app.customers.name is masked with first on the base, and would not be masked by this review")
}

// Taking access away always works, and says what it closes.
func TestRemovalsClose(t *testing.T) {
	base := newAccess(t)
	a := base.fork(t)
	a.remove(agentPath)
	r := a.compare(base, true)
	if !r.OK {
		t.Errorf("refused: %v", r.Findings)
	}
	expect(t, r, RuleCloses, Warning, etlPath, "subject agent:etl is not a principal")
	expect(t, r, RuleCloses, Warning, prodPath, "subject agent:etl is not a principal")

	a = base.fork(t)
	a.put(reviews.RootPath, strings.Replace(rootText(2, ""), "reason: laptop lost}", "reason: laptop lost}, {fingerprint: \""+
		reviews.Key{Key: keyOf("user:carol")}.Fingerprint()+"\", reason: left}", 1), "user:bob", "user:dan")
	r = a.compare(base, true)
	if !r.OK {
		t.Errorf("revocation refused: %v", r.Findings)
	}
	expect(t, r, RuleCloses, Warning, reportPath, "its approvals would not be enough")
	expect(t, r, RuleCloses, Warning, prodPath, "its approvals would not be enough")

	// An edit that closes what it does not touch is a mistake.
	a = base.fork(t)
	a.edit(ordersPath, "  mask:\n", "  mask:\n    - {column: app.customers.name, with: first}\n", "user:bob")
	with := base.fork(t)
	with.put(etlPath, reviewText("orders-db/etl", 5, "  mask: [{column: app.customers.name, with: first}]\n"), "user:bob")
	a.files[etlPath] = with.files[etlPath]
	for name, f := range with.files {
		if strings.HasPrefix(name, etlPath) {
			a.files[name] = f
		}
	}
	expect(t, a.compare(with, true), RuleCloses, Error, etlPath, "the connection already masks app.customers.name")
}

// A stricter policy tells which approved examples it ends; a looser one is refused.
func TestGoldenExamples(t *testing.T) {
	base := newAccess(t)
	base.put(etlPath, strings.Replace(strings.Replace(reviewText("orders-db/etl", 4, ""), "verbs: [delete]", "verbs: [delete, drop]", 1), "drop table app.orders", "drop table app.orders", 1), "user:bob")
	a := base.fork(t)
	a.put(guardPath, guardText(guardRules+"\ndeny contains \"frozen\"\n"), "user:dan", "user:bob")
	a.remove(guardTest)
	r := a.compare(base, true)
	if !r.OK {
		t.Errorf("a freeze is refused: %v", r.Findings)
	}
	expect(t, r, RuleGolden, Warning, etlPath, "makes an approved example come out stricter")
	expect(t, r, RuleGolden, Warning, guardTest, "test_select_is_not, as it is merged, does not pass")

	a = base.fork(t)
	a.put(guardPath, guardText("# drops are fine\n"), "user:dan", "user:bob")
	a.remove(guardTest)
	r = a.compare(base, true)
	expect(t, r, RuleGolden, Error, etlPath, "come out looser: drop table app.orders")
	expect(t, r, RuleGolden, Warning, guardTest, "test_drop_is_denied")
}

// Approvals of rules are counted under the merged rules and under the new ones.
func TestRulesAreApprovedTwice(t *testing.T) {
	base := newAccess(t)
	a := base.fork(t)
	a.put(reviews.ConfigPath, strings.Replace(configText(""), "groups: [security]", "groups: [reviewers]", 1), "user:bob", "user:carol")
	a.put(guardPath, guardText(guardRules+"# more\n"), "user:bob")
	r := a.compare(base, false)
	if len(r.Pending) != 1 || r.Pending[0].Path != guardPath || !strings.HasSuffix(r.Pending[0].Needs[0].Rule, " as merged") {
		t.Errorf("pending %+v", r.Pending)
	}
	a = base.fork(t)
	a.put(reviews.RootPath, strings.Replace(rootText(2, ""), `root: ["user:bob", "user:carol", "user:dan"]`, `root: ["user:alice", "user:dan"]`, 1), "user:bob", "user:carol")
	r = a.compare(base, false)
	if len(r.Pending) != 1 || !strings.HasSuffix(r.Pending[0].Needs[0].Rule, " as changed") {
		t.Errorf("pending %+v", r.Pending)
	}
	a.sign(reviews.RootPath, "user:alice", "user:dan")
	r = a.compare(base, false)
	if len(r.Pending) != 1 || r.Pending[0].Needs[0].Rule != "threshold of the merged trust root" || !slices.Equal(r.Pending[0].Needs[0].Have, []string{"user:dan"}) {
		t.Errorf("pending %+v", r.Pending)
	}
}

// What is wrong on the base already is nobody's fault here, and no excuse either.
func TestBrokenBase(t *testing.T) {
	base := newAccess(t)
	base.put(reportPath, reviewText("orders-db/report", 1, "  nonsense: 1\n"), "user:carol")
	a := base.fork(t)
	a.put(etlPath, reviewText("orders-db/etl", 5, ""), "user:bob")
	if r := a.compare(base, true); !r.OK {
		t.Errorf("refused for what it does not touch: %v", r.Findings)
	}
	a.edit(ordersPath, "risk: high", "risk: medium", "user:bob") // now the report is looked at
	if r := a.compare(base, true); !r.OK {
		t.Errorf("refused for what it does not touch: %v", r.Findings)
	}
	a.put(reportPath, reviewText("orders-db/report", 2, ""), "user:carol")
	if r := a.compare(base, true); !r.OK {
		t.Errorf("a repair is refused: %v", r.Findings)
	}
	base.put(reviews.ConfigPath, "nonsense: 1\n")
	expect(t, a.compare(base, true), RuleBase, Error, reviews.ConfigPath, "the base cannot be judged by")
	empty := base.fork(t)
	clear(empty.files)
	expect(t, a.compare(empty, true), RuleBase, Error, reviews.RootPath, "missing")
}

// Both sides changed one document: the merge is seen by neither.
func TestConflicts(t *testing.T) {
	base, a := newAccess(t), newAccess(t)
	base.put(etlPath, reviewText("orders-db/etl", 5, ""), "user:bob")
	a.put(etlPath, reviewText("orders-db/etl", 6, ""), "user:bob")
	compare := func(paths, upstream []string) *Report {
		r, err := Compare(t.Context(), Change{Base: base.files, Head: a.files, Paths: paths, Upstream: upstream}, a.options(true))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	sidecar := reviews.SidecarPath(etlPath, "user:bob", signerOf("user:bob").PublicKey())
	expect(t, compare([]string{etlPath, sidecar}, []string{sidecar}), RuleConflict, Error, etlPath, "also changed on the base")
	if r := compare([]string{etlPath, sidecar}, []string{reportPath}); !r.OK {
		t.Errorf("another document is no conflict: %v", r.Findings)
	}
	a.files[etlPath], a.files[sidecar] = base.files[etlPath], base.files[sidecar]
	if r := compare([]string{etlPath, sidecar}, []string{etlPath, sidecar}); !r.OK {
		t.Errorf("the same change on both sides is no conflict: %v", r.Findings)
	}
	// What the branch did not touch is read from the base, however old the branch is.
	a.put(reportPath, "old\n")
	if r := compare([]string{}, []string{reportPath}); !r.OK || len(r.Changes) > 0 {
		t.Errorf("%v %v", r.Findings, r.Changes)
	}
}

// In words, what a change does.
func TestEffects(t *testing.T) {
	base := newAccess(t)
	a := base.fork(t)
	a.edit(etlPath, "on: [app.orders, app.customers]", "on: [app.orders], columns: [status, id]")
	a.edit(etlPath, "verbs: [delete]", "verbs: [delete, update]")
	a.edit(etlPath, "2027-03-01", "2027-03-05")
	a.edit(etlPath, "sequence: 4", "sequence: 5", "user:bob")
	a.sign(reportPath, "user:bob", "user:carol")
	a.remove(prodPath)
	a.put("principals/agent_new.yaml", principalText("agent:new", "user:alice", "agent:new"), "user:bob")
	r := a.compare(base, false)
	var got []string
	for _, e := range r.Changes {
		got = append(got, e.Action+" "+e.Path)
		for _, s := range e.Says {
			got = append(got, "  "+s)
		}
	}
	want := []string{
		"added principals/agent_new.yaml",
		"  now: agent:new may log in with key " + reviews.Key{Key: keyOf("agent:new")}.Fingerprint(),
		"  now: user:alice answers for it",
		"changed reviews/orders-db/etl.yaml",
		"  now: agent:etl may select on app.orders, only columns id, status",
		"  now: agent:etl may update on app.orders, each time only after a person agreed",
		"  now: from 2027-01-01 00:00Z until 2027-03-05 00:00Z",
		"  no longer: agent:etl may select on app.orders",
		"  no longer: agent:etl may select on app.customers",
		"  no longer: from 2027-01-01 00:00Z until 2027-03-01 00:00Z",
		"approvals reviews/orders-db/report.yaml",
		"deleted reviews/prod-db/etl.yaml",
		"  no longer: agent:etl may select on app.orders",
		"  no longer: agent:etl may select on app.customers",
		"  no longer: agent:etl may delete on app.orders, each time only after a person agreed",
		"  no longer: from 2027-01-01 00:00Z until 2027-03-01 00:00Z",
		"  no longer: asked for by user:alice",
	}
	if !slices.Equal(got, want) {
		t.Errorf("it says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// A credential is never told, old or new.
	a = base.fork(t)
	a.edit(ordersPath, "env:ORDERS_PASSWORD", "exec:/usr/bin/fetch hunter2", "user:bob")
	var out strings.Builder
	for _, format := range Formats {
		if err := Write(&out, format, a.compare(base, false), ""); err != nil {
			t.Fatal(err)
		}
	}
	Text(&out, &out, a.compare(base, false))
	if strings.Contains(out.String(), "hunter2") || strings.Contains(out.String(), "ORDERS_PASSWORD") {
		t.Error("a credential is shown")
	}
}

// A history that cannot be read is no history without the sequence.
func TestHistoryThatFails(t *testing.T) {
	base := newAccess(t)
	a := base.fork(t)
	a.put(etlPath, reviewText("orders-db/etl", 5, ""), "user:bob")
	o := a.options(true)
	broken := errors.New("shallow")
	o.Sequences = func(context.Context, string) (int64, error) { return 0, broken }
	if r, err := Compare(t.Context(), Change{Base: base.files, Head: a.files}, o); !errors.Is(err, broken) || r != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// Nobody can wait for an approval that cannot come.
func TestUnreachableApproval(t *testing.T) {
	base := newAccess(t)
	a := base.fork(t)
	a.put("principals/agent_b.yaml", principalText("agent:b", "user:bob", "agent:b"), "user:carol")
	a.put("reviews/prod-db/b.yaml", strings.Replace(strings.Replace(reviewText("prod-db/b", 1, ""), "agent:etl", "agent:b", 1), "user:alice", "user:carol", 1), "user:mallory")
	r := a.compare(base, false)
	if len(r.Pending) != 1 {
		t.Fatalf("pending %+v", r.Pending)
	}
	// bob answers for the agent, carol asks; eve's key ran out and mallory's is revoked, which a list of members does not show.
	if got := r.Pending[0].Needs[0].Eligible; slices.Contains(got, "user:bob") || slices.Contains(got, "user:carol") {
		t.Errorf("eligible %v", got)
	}
}

func TestProtection(t *testing.T) {
	r := &Report{OK: true}
	r.Add(Protection("main", nil)...)
	if !r.OK {
		t.Error("no weakness, and not OK")
	}
	r.Add(Protection("main", []string{"main can be force-pushed"})...)
	if r.OK {
		t.Error("a weakness, and OK")
	}
	expect(t, r, RuleProtection, Error, reviews.ConfigPath, "protection of branch main: main can be force-pushed")
}

// A cancelled check is no check.
func TestCancelled(t *testing.T) {
	a := newAccess(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Check(ctx, a.files, a.options(true)); err == nil {
		t.Error("Check says nothing")
	}
	b := a.fork(t)
	b.put(etlPath, reviewText("orders-db/etl", 5, ""), "user:bob")
	if _, err := Compare(ctx, Change{Base: a.files, Head: b.files}, a.options(true)); err == nil {
		t.Error("Compare says nothing")
	}
}

// The tree of a change that is in order is in order as well, once it is merged.
func TestValidTreesPass(t *testing.T) {
	base := newAccess(t)
	for _, s := range validSteps() {
		if strings.HasSuffix(s.name, "reviews later") || s.name == "stricter settings" {
			continue // these close reviews, which Compare tells
		}
		a := base.fork(t)
		s.bend(a)
		r, err := Check(t.Context(), a.files, a.options(true))
		if err != nil || !r.OK {
			t.Errorf("%s: %v, %v", s.name, r.Findings, err)
		}
	}
}

// Whoever gets hostile files merged without CI finds the whole tree refused: what
// needs no history is found without one.
func TestHostileTreesAreRefused(t *testing.T) {
	base := hostileBase(t)
	for _, x := range hostileAttacks() {
		if slices.Contains([]string{"sequence", "mixed", "trust", "policy", "mask", "principal", "meaning"}, x.group) && x.rule != RuleMask && x.rule != RulePolicy {
			continue // only a comparison shows some of these
		}
		t.Run(x.group+"/"+x.name, func(t *testing.T) {
			t.Parallel()
			a := base.fork(t)
			x.bend(a)
			if r, err := Check(t.Context(), a.files, a.options(true)); err != nil || r.OK {
				t.Errorf("accepted, %v", err)
			}
		})
	}
}

// Whatever a review says: unsigned bytes are not accepted, and what bob signed is
// accepted only when it parses, has not expired and goes up.
func FuzzCompare(f *testing.F) {
	base := hostileBase(f)
	for _, x := range yamlAttacks() {
		a := base.fork(f)
		x.bend(a)
		f.Add([]byte(a.read(etlPath)))
	}
	f.Add([]byte(reviewText("orders-db/etl", 5, "")))
	f.Fuzz(func(t *testing.T, b []byte) {
		a := base.fork(t)
		a.put(etlPath, string(b))
		if string(b) == base.read(etlPath) {
			return
		}
		if r := a.compare(base, true); r.OK {
			t.Fatalf("unsigned, and accepted: %q", b)
		}
		a.sign(etlPath, "user:bob")
		r := a.compare(base, true)
		v, err := reviews.ParseReview(etlPath, b)
		if r.OK && (err != nil || v.Spec.Sequence <= 4 || v.Expired(noon)) {
			t.Fatalf("accepted: %q", b)
		}
		for _, finding := range r.Findings {
			if finding.File == "" || finding.Fix == "" {
				t.Errorf("no place or no next step: %v", finding)
			}
		}
	})
}

// A view never shows what its pick does not name.
func FuzzView(f *testing.F) {
	f.Add("reviews/orders-db/etl.yaml")
	f.Add("reviews/orders-db/etl.yaml.sigs/x")
	f.Add("reviews/x.sigs.sigs/y")
	f.Fuzz(func(t *testing.T, name string) {
		if !fs.ValidPath(name) {
			return
		}
		a := newAccess(t)
		doc := documentOf(name)
		v := view{head: a.files, pick: func(d string) side {
			if d == doc {
				return nowhere
			}
			return head
		}}
		if b, err := fs.ReadFile(v, name); err == nil {
			t.Errorf("%s shows %q", name, b)
		}
		_ = fs.WalkDir(v, ".", func(at string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && documentOf(at) == doc {
				t.Errorf("%s is listed", at)
			}
			return nil
		})
	})
}
