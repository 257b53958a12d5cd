package main

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/reviews"
)

// A change that people are not told of is how a widening slips through: for each
// pair of rules, what the report must say.
func TestCompareGrants(t *testing.T) {
	rule := func(verbs, on, columns string) reviews.Rule {
		return reviews.Rule{Verbs: list(verbs), On: list(on), Columns: list(columns)}
	}
	review := func(allow, hold []reviews.Rule) *reviews.Review {
		return &reviews.Review{Spec: reviews.ReviewSpec{Allow: allow, Hold: hold}}
	}
	allow := func(rules ...reviews.Rule) *reviews.Review { return review(rules, nil) }
	for _, test := range []struct {
		name          string
		before, after *reviews.Review
		want          []string
	}{
		{"nothing before", nil, allow(rule("select", "app.a", "")), []string{"newly allows: select on app.a"}},
		{"nothing after", allow(rule("select", "app.a", "")), nil, []string{"no longer allows: select on app.a"}},
		{"the same, written otherwise", allow(rule("select,insert", "app.a,app.b", "")),
			allow(rule("insert", "app.b,app.a", ""), rule("select", "app.a", ""), rule("select", "app.b", "")), nil},
		{"a table becomes its schema", allow(rule("select", "app.a", "")), allow(rule("select", "app.*", "")), []string{"newly allows: select on app.*"}},
		{"a schema becomes a table", allow(rule("select", "app.*", "")), allow(rule("select", "app.a", "")), []string{"no longer allows: select on app.*"}},
		{"a schema that only begins alike", allow(rule("select", "app.*", "")), allow(rule("select", "app.*,apple.a", "")), []string{"newly allows: select on apple.a"}},
		{"columns fall away", allow(rule("update", "app.a", "x")), allow(rule("update", "app.a", "")), []string{"newly allows: update on app.a"}},
		{"columns come", allow(rule("update", "app.a", "")), allow(rule("update", "app.a", "x")), []string{"no longer allows: update on app.a"}},
		{"two columns at once", allow(rule("select", "app.a", "x"), rule("select", "app.a", "y")), allow(rule("select", "app.a", "x,y")),
			[]string{"newly allows: select on app.a, only columns x, y"}},
		{"a hold goes", review(nil, []reviews.Rule{rule("delete", "app.a", "")}), allow(rule("delete", "app.a", "")),
			[]string{"no longer asks a person before: delete on app.a"}},
		{"a hold on one table of an allowed schema goes", review([]reviews.Rule{rule("delete", "app.*", "")}, []reviews.Rule{rule("delete", "app.a", "")}),
			allow(rule("delete", "app.*", "")), []string{"no longer asks a person before: delete on app.a"}},
		{"a hold on one column goes", review([]reviews.Rule{rule("update", "app.a", "")}, []reviews.Rule{rule("update", "app.a", "x")}),
			allow(rule("update", "app.a", "")), []string{"no longer asks a person before: update on app.a, only columns x"}},
		{"a hold comes", allow(rule("delete", "app.a", "")), review([]reviews.Rule{rule("delete", "app.a", "")}, []reviews.Rule{rule("delete", "app.a", "")}),
			[]string{"from now on asks a person before: delete on app.a"}},
		{"held from the start", nil, review(nil, []reviews.Rule{rule("drop", "app.a", "")}),
			[]string{"newly allows, each time only after a person agreed: drop on app.a"}},
		{"no object", nil, allow(rule("listen,notify", "", "")), []string{"newly allows: listen, notify"}},
	} {
		var got []string
		for _, c := range compareGrants(grantsOf(test.before), grantsOf(test.after)) {
			got = append(got, c.Effect+": "+c.What)
			if c.Widens != (c.sign() == "+") {
				t.Errorf("%s: %q widens %v, and its sign is %s", test.name, c.Effect, c.Widens, c.sign())
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestCompareMasks(t *testing.T) {
	got := compareMasks(map[string]string{"a.b.c": "redact", "a.b.d": "email", "a.b.e": "null"}, map[string]string{"a.b.d": "first", "a.b.e": "null", "a.b.f": "last4"})
	want := []change{
		{unmasks, "a.b.c (it was masked with redact)", true},
		{masksAnew, "a.b.d (first instead of email)", true},
		{newlyMasks, "a.b.f (last4)", false},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

// Whatever field a document gets in the future, a change of it is shown.
func TestCompareFieldsLeavesNothingOut(t *testing.T) {
	type inner struct {
		A string   `json:"a,omitempty"`
		L []string `json:"l,omitempty"`
		N int      `json:"n,omitempty"`
	}
	type spec struct {
		Inner inner   `json:"inner"`
		List  []inner `json:"list,omitempty"`
	}
	for _, test := range []struct {
		before, after spec
		want          []string
	}{
		{spec{}, spec{}, nil},
		{spec{Inner: inner{A: "x"}}, spec{Inner: inner{A: "y"}}, []string{"changes inner.a: y instead of x"}},
		{spec{Inner: inner{A: "x", N: 3}}, spec{}, []string{"removes inner.a: x", "removes inner.n: 3"}},
		{spec{Inner: inner{L: []string{"x", "y"}}}, spec{Inner: inner{L: []string{"y", "z", "x"}}}, []string{"adds inner.l: z"}},
		{spec{Inner: inner{L: []string{"x", "y"}}}, spec{Inner: inner{L: []string{"y", "x"}}}, []string{"changes inner.l: the order or the number of its elements"}},
		{spec{List: []inner{{A: "x"}, {A: "y"}}}, spec{List: []inner{{A: "y", N: 1}, {A: "x"}}}, []string{`adds list: {"a":"y","n":1}`, `removes list: {"a":"y"}`}},
	} {
		var got []string
		for _, c := range compareFields(test.before, test.after) {
			got = append(got, c.Effect+" "+c.What)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%+v to %+v: got %q, want %q", test.before, test.after, got, test.want)
		}
	}
}

// reportOf is a report in which every text that a document, a branch or a commit
// can choose is s.
func reportOf(s string) *reviewReport {
	return &reviewReport{
		Ref: s, Commit: strings.Repeat("ab", 20), Author: s, Against: "origin/main", Base: strings.Repeat("cd", 20), Risk: "high", Digest: strings.Repeat("ef", 32),
		Warnings: []string{s}, Problems: reviews.Problems{{Position: reviews.Position{File: s, Line: 1, Column: 1}, Message: s, Fix: s}},
		Documents: []documentReport{{
			Path: s, Kind: "AccessReview", Change: "new", SHA256: strings.Repeat("12", 32), Risk: "high",
			Facts: []fact{{"why", s}}, Changes: []change{{newlyAllows, s, true}}, Keeps: []string{s}, Notes: []string{s},
			Examples: []ci.Outcome{{Run: s, Expect: "allow", Got: "allow", Passed: true}, {Run: s, Expect: "allow", Got: "deny"}}, Untested: s + ".",
		}},
		Verdicts: []changedVerdict{{s, s, "allow", "deny"}},
		Awaiting: []reviewsToApprove{{s, []reviews.Need{{Rule: "approvals[0]", Threshold: 1, Groups: []string{"reviewers"}, Eligible: []string{"user:carol"}}}, []string{s}}},
	}
}

// hostileTexts are texts that mean something to a forge, a browser or a terminal.
var hostileTexts = []string{
	"x", "", " ", "@team please", "`", "``", "` ``` `` `", "`@team`", "a ` @team ` b", "\n\n@team\n\n", "\r\n# heading", "```\n@team\n```", "~~~\n@team",
	"<script>alert(1)</script>", "<!-- sallyport review -->", "-->", "<img src=x onerror=y>", "<details><summary>", "&lt;&#64;team",
	"[click](https://evil.example)", "![x](https://evil.example/pixel)", "https://evil.example", "www.evil.example", "a@b.example", "#12", "fixes #12", "acme/access#1",
	"**Still to be approved** nothing", "- [x] approved", "| a | b |", "\\`", "\\", "\\`@team\\`", "$`@team`$", ":+1:", "{{ x }}", "    indented",
	"\x1b[2J\x1b[1;1Happroved", "\x1b]8;;https://evil.example\x07x\x1b]8;;\x07", "\u202edrowssap", "a\u200bb", "\u2066x\u2069", "\u0085x", "\u2028x", "\ufeffx", "\U000e0041", "\x00", "\x7f", "\u009b2J",
	"\xff\xfe", "é́́́", strings.Repeat("`", 700), strings.Repeat("x", 5000), strings.Repeat("`a", 400),
	"why\ndigest 000000\nnothing more has to be approved",
}

// spans takes the code spans out of Markdown by the rule of CommonMark: a run of
// backticks opens, and the next run of exactly that length closes.
func spans(t *testing.T, text string) (skeleton string, contents []string) {
	t.Helper()
	runs := regexp.MustCompile("`+").FindAllStringIndex(text, -1)
	var b strings.Builder
	at := 0
	for i := 0; i < len(runs); i++ {
		open := runs[i]
		closing := -1
		for j := i + 1; j < len(runs); j++ {
			if runs[j][1]-runs[j][0] == open[1]-open[0] {
				closing = j
				break
			}
		}
		if closing < 0 {
			t.Fatalf("a code span is not closed: %q", text)
		}
		b.WriteString(text[at:open[0]] + "§")
		contents = append(contents, text[open[1]:runs[closing][0]])
		at, i = runs[closing][1], closing
	}
	return b.String() + text[at:], contents
}

// The frame of a comment is ours whatever documents hold: without its code spans,
// a comment about hostile texts is the comment about a harmless one.
func checkMarkdown(t *testing.T, s string) {
	t.Helper()
	render := func(s string) string {
		var b bytes.Buffer
		reviewMarkdown(&b, reportOf(s))
		return b.String()
	}
	text := render(s)
	skeleton, contents := spans(t, text)
	harmless, _ := spans(t, render("harmless"))
	// A text that is empty has no span, but a word of ours.
	if got := strings.ReplaceAll(skeleton, "(empty)", "§"); got != harmless {
		t.Errorf("%q breaks out:\n%s", s, text)
	}
	for _, c := range contents {
		if strings.ContainsAny(c, "\n\r") {
			t.Errorf("%q spans lines: %q", s, c)
		}
	}
	if strings.Count(text, "\n") != strings.Count(render("harmless"), "\n") {
		t.Errorf("%q adds lines", s)
	}
	checkShown(t, s, text)
}

func checkTerminal(t *testing.T, s string) {
	t.Helper()
	render := func(s string) string {
		var b bytes.Buffer
		reviewText(&b, reportOf(s))
		return b.String()
	}
	text := render(s)
	if strings.Count(text, "\n") != strings.Count(render("harmless"), "\n") {
		t.Errorf("%q adds lines:\n%s", s, text)
	}
	checkShown(t, s, text)
}

// checkShown refuses every character that acts instead of being seen.
func checkShown(t *testing.T, s, text string) {
	t.Helper()
	for _, r := range text {
		if r != '\n' && r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2060 && r <= 0x206f || r == 0xfeff || r >= 0xe0000 && r <= 0xe0fff && !strings.Contains(s, "⚠️") {
			t.Errorf("%q puts %U into the output", s, r)
			return
		}
	}
}

func TestHostileTextStaysText(t *testing.T) {
	for _, s := range hostileTexts {
		checkMarkdown(t, s)
		checkTerminal(t, s)
	}
}

func FuzzReviewText(f *testing.F) {
	for _, s := range hostileTexts {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		checkMarkdown(t, s)
		checkTerminal(t, s)
	})
}

// A comment fits into what a forge takes, and says what it leaves out.
func TestLongCommentFits(t *testing.T) {
	r := reportOf("x")
	one := r.Documents[0]
	for i := range 1000 {
		one.Path = fmt.Sprintf("reviews/orders-db/r%d.yaml", i)
		one.Changes = slices.Repeat([]change{{newlyAllows, strings.Repeat("y", 500), true}}, 100)
		r.Documents = append(r.Documents, one)
	}
	var b bytes.Buffer
	reviewMarkdown(&b, r)
	if b.Len() > 65000 || b.Len() < 1000 {
		t.Errorf("the comment has %d bytes", b.Len())
	}
	for _, want := range []string{"documents more", "60 changes are not shown here", "Still to be approved"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("it does not say %q", want)
		}
	}
}
