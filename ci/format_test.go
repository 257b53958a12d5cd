package ci

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/reviews"
)

// hostileText is what documents may hold that logs, terminals and Markdown take for more than text.
var hostileText = []string{
	"::error file=x,line=1::owned", "\n::set-output name=x::y", "a\r\n::add-mask::b", "  ::stop-commands::x", "##[error]x", "x ##vso[task.setvariable variable=a]b",
	"\x1b[2J\x1b]8;;http://x\x07", "\u202egnp.exe", "\u2028::error::x", "</code><script>alert(1)</script>", "` `` ``` **x** [a](http://b) ![i](http://c)",
	"| a | b |\n|---|---|", "]]>", "<![CDATA[", "\x00\x0b", "%0A::error::x", "a,b:c%", "\xff\xfe", "@everyone <!-- x", "\u200b::error::", "\u0085::error::x",
}

func hostileReport() *Report {
	r := &Report{Checked: 3}
	for i, s := range hostileText {
		severity := []Severity{Error, Warning, Note}[i%3]
		r.problems(RuleExample, severity, reviews.Problem{Position: reviews.Position{File: "reviews/" + s, Line: i, Column: i % 4}, Message: s, Fix: s})
		r.Changes = append(r.Changes, Effect{Path: s, Action: "changed", Says: []string{s}})
		r.Pending = append(r.Pending, reviews.Pending{Path: s, Needs: []reviews.Need{{Rule: s, Groups: []string{s}, Eligible: []string{s}}}, Ignored: []string{s}})
		r.outcome(Outcome{Position: reviews.Position{File: s}, Run: s, Expect: "allow", Got: "allow", Passed: i%2 == 0, Message: s})
	}
	r.finish()
	return r
}

// ownCommand is what our annotations look like, and nothing else may.
var ownCommand = regexp.MustCompile(`^::(error|warning|notice) (file=[^:,\r\n]*,)?(line=\d+,)?(col=\d+,)?title=sallyport [a-z_]+::[^\r\n]*$`)

// checkLog refuses a log in which a line does what it should only say.
func checkLog(t *testing.T, form, log string, commands int) {
	t.Helper()
	for _, l := range strings.FieldsFunc(log, func(r rune) bool { return strings.ContainsRune("\n\r\v\f\u0085\u2028\u2029", r) }) {
		if strings.HasPrefix(strings.TrimSpace(l), "::") {
			if commands--; !ownCommand.MatchString(l) {
				t.Errorf("%s: a command of somebody else's: %q", form, l)
			}
		}
		if strings.Contains(l, "##[") || strings.Contains(l, "##vso[") || strings.ContainsAny(l, "\x00\x1b\u202e\u2066\u200b") {
			t.Errorf("%s: not safe to print: %q", form, l)
		}
	}
	if commands != 0 {
		t.Errorf("%s: %d commands too few", form, commands)
	}
}

func TestHostileTextStaysText(t *testing.T) {
	r := hostileReport()
	var out, annotations bytes.Buffer
	Text(&out, &out, r)
	TestText(&out, &out, r)
	checkLog(t, "text", out.String(), 0)
	if err := Write(&annotations, "github", r, "v1"); err != nil {
		t.Fatal(err)
	}
	checkLog(t, "github", annotations.String(), len(r.Findings))
	checkMarkdown(t, Summary(r))
}

// checkMarkdown takes code spans out as CommonMark does and looks at what is left.
func checkMarkdown(t *testing.T, text string) {
	t.Helper()
	ticks := regexp.MustCompile("`+")
	for l := range strings.SplitSeq(text, "\n") {
		rest := ""
		for l != "" {
			open := ticks.FindStringIndex(l)
			if open == nil {
				rest, l = rest+l, ""
				continue
			}
			rest += l[:open[0]]
			fence, after, closed := l[open[0]:open[1]], l[open[1]:], false
			for _, c := range ticks.FindAllStringIndex(after, -1) {
				if after[c[0]:c[1]] == fence {
					after, closed = after[c[1]:], true
					break
				}
			}
			if !closed {
				t.Errorf("a code span that never ends: %q", l)
			}
			l = after
		}
		if !regexp.MustCompile(`^[A-Za-z0-9 ,.:#*_–-]*$`).MatchString(rest) {
			t.Errorf("text outside of code spans: %q", rest)
		}
	}
}

func FuzzWrite(f *testing.F) {
	for _, s := range hostileText {
		f.Add(s, s, s)
	}
	f.Fuzz(func(t *testing.T, file, message, fix string) {
		r := &Report{}
		r.problems(RuleDocument, Error, reviews.Problem{Position: reviews.Position{File: file, Line: 1, Column: 1}, Message: message, Fix: fix})
		r.finish()
		var annotations, text bytes.Buffer
		if err := Write(&annotations, "github", r, ""); err != nil {
			t.Fatal(err)
		}
		checkLog(t, "github", annotations.String(), 1)
		Text(&text, &text, r)
		checkLog(t, "text", text.String(), 0)
		checkMarkdown(t, Summary(r))
		checkJUnit(t, r)
		checkSARIF(t, r)
	})
}

func TestJUnit(t *testing.T) { checkJUnit(t, hostileReport()); checkJUnit(t, &Report{OK: true}) }

// checkJUnit holds the counts to what is there, and every character to XML.
func checkJUnit(t *testing.T, r *Report) {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, "junit", r, ""); err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(bytes.NewReader(b.Bytes()))
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%v in %s", err, b.String())
		}
	}
	var all junitSuites
	if err := xml.Unmarshal(b.Bytes(), &all); err != nil {
		t.Fatal(err)
	}
	tests, failures := 0, 0
	for _, s := range all.Suites {
		for _, c := range s.Cases {
			tests++
			if c.Failure != nil {
				failures++
			}
		}
	}
	if tests == 0 || tests != all.Tests || failures != all.Failures || failures != r.Count(Error) {
		t.Errorf("%d tests and %d failures, and it says %d and %d; %d errors", tests, failures, all.Tests, all.Failures, r.Count(Error))
	}
}

func TestSARIF(t *testing.T) { checkSARIF(t, hostileReport()); checkSARIF(t, &Report{}) }

var sarifURI = regexp.MustCompile(`^[A-Za-z0-9._~!$&'()*+,;=:@/%-]+$`)

// checkSARIF holds the log to what the schema of SARIF 2.1.0 requires of the parts we use.
func checkSARIF(t *testing.T, r *Report) {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, "sarif", r, "v1"); err != nil {
		t.Fatal(err)
	}
	var log map[string]any
	if err := json.Unmarshal(b.Bytes(), &log); err != nil {
		t.Fatal(err)
	}
	run := log["runs"].([]any)[0].(map[string]any)
	driver := run["tool"].(map[string]any)["driver"].(map[string]any)
	if log["version"] != "2.1.0" || driver["name"] == "" || run["columnKind"] != "unicodeCodePoints" {
		t.Errorf("head: %s", b.String())
	}
	rules := driver["rules"].([]any)
	fingerprints := make(map[any]bool)
	results := run["results"].([]any)
	if len(results) != len(r.Findings) {
		t.Errorf("%d results of %d findings", len(results), len(r.Findings))
	}
	for _, x := range results {
		result := x.(map[string]any)
		rule := rules[int(result["ruleIndex"].(float64))].(map[string]any)
		if rule["id"] != result["ruleId"] || rule["shortDescription"].(map[string]any)["text"] == "" {
			t.Errorf("rule %v of %v", rule, result)
		}
		if !slices.Contains([]any{"error", "warning", "note", "none"}, result["level"]) || result["message"].(map[string]any)["text"] == "" {
			t.Errorf("result %v", result)
		}
		place := result["locations"].([]any)[0].(map[string]any)["physicalLocation"].(map[string]any)
		uri := place["artifactLocation"].(map[string]any)["uri"].(string)
		if !sarifURI.MatchString(uri) || strings.HasPrefix(uri, "/") {
			t.Errorf("uri %q", uri)
		}
		if region, ok := place["region"].(map[string]any); ok {
			for _, n := range region {
				if n.(float64) < 1 {
					t.Errorf("region %v", region)
				}
			}
		}
		print := result["partialFingerprints"].(map[string]any)["sallyport/v1"]
		if fingerprints[print] {
			t.Errorf("fingerprint %v twice", print)
		}
		fingerprints[print] = true
	}
}

// A finding that moves to another line is the same finding.
func TestFingerprintsSurviveMoves(t *testing.T) {
	f := Finding{RuleMask, Error, reviews.Problem{Position: reviews.Position{File: "a", Line: 1}, Message: "m"}}
	g := f
	g.Line = 90
	if fingerprint(f, map[string]int{}) != fingerprint(g, map[string]int{}) {
		t.Error("the line is part of the fingerprint")
	}
	g.Message = "n"
	if fingerprint(f, map[string]int{}) == fingerprint(g, map[string]int{}) {
		t.Error("the message is not")
	}
}

// Every rule that a finding can name is described.
func TestRulesAreDescribed(t *testing.T) {
	for _, x := range hostileAttacks() {
		if rules[x.rule] == "" {
			t.Errorf("rule %q has no description", x.rule)
		}
	}
	if len(rules) < 19 {
		t.Errorf("only %d rules", len(rules))
	}
}

func TestUnknownFormat(t *testing.T) {
	if err := Write(io.Discard, "csv", &Report{}, ""); err == nil || !strings.Contains(err.Error(), "sarif") {
		t.Errorf("got %v", err)
	}
}
