package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/reviews"
)

// reviewText writes a report for a terminal. What comes from documents is one
// line without control characters, whatever is in it.
func reviewText(out io.Writer, r *reviewReport) {
	line := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	line("%s: %s", oneLine(r.Ref), riskWords(r.Risk))
	line("commit %.12s by %s, compared with %s at %.12s", r.Commit, oneLine(r.Author), r.Against, r.Base)
	for _, w := range r.Warnings {
		line("warning: %s", oneLine(w))
	}
	for _, p := range r.Problems {
		line("problem: %s", oneLine(p.Error()))
	}
	for _, d := range r.Documents {
		line("\n%s  %s, %s", oneLine(d.Path), d.Change, riskWords(d.Risk))
		for _, f := range d.Facts {
			line("  %-10s %s", f.Name, oneLine(f.Text))
		}
		for _, c := range d.Changes {
			line("  %s %s: %s", c.sign(), c.Effect, oneLine(c.What))
		}
		for _, k := range d.Keeps {
			line("  = as before: %s", oneLine(k))
		}
		if len(d.Changes)+len(d.Keeps) == 0 && d.Change == "changed" && len(d.Facts) > 0 {
			line("  = it grants what it granted before")
		}
		for _, n := range d.Notes {
			line("  note: %s", oneLine(n))
		}
		if d.Untested != "" {
			line("  examples cannot run: %s", oneLine(d.Untested))
		}
		for _, e := range d.Examples {
			line("  %s", exampleLine(e, oneLine))
		}
		if d.SHA256 != "" {
			line("  sha256     %s", d.SHA256)
		}
		if len(d.Approvals) > 0 {
			line("  approved   by %s", strings.Join(d.Approvals, ", "))
		}
	}
	if len(r.Verdicts) > 0 {
		line("\n%s of other reviews change their verdict:", count(len(r.Verdicts), "example"))
		for _, v := range r.Verdicts {
			line("  %s instead of %s: %s (%s)", oneLine(v.After), v.Before, oneLine(v.Run), oneLine(v.At))
		}
	}
	line("")
	for _, a := range r.Awaiting {
		for _, n := range a.Needs {
			line("still needed for %s: %s", oneLine(a.Path), needText(n))
		}
		for _, why := range a.Ignored {
			line("  %s", oneLine(why))
		}
	}
	if len(r.Awaiting) == 0 {
		line("nothing more has to be approved")
	}
	line("digest %s", r.Digest)
}

// sign shows at a glance whether somebody gains or loses.
func (c change) sign() string {
	switch c.Effect {
	case newlyAllows, newlyHolds, stopsAsking, unmasks:
		return "+"
	case noLonger, startsAsking, newlyMasks, comesMasked:
		return "-"
	}
	return "~"
}

func riskWords(risk string) string {
	switch risk {
	case "trust":
		return "it decides about everything else"
	case "unlabelled":
		return "risk not labelled, taken as high"
	}
	return risk + " risk"
}

func needText(n reviews.Need) string {
	who := "nobody else could"
	if len(n.Eligible) > 0 {
		who = strings.Join(n.Eligible, ", ") + " could"
	}
	have := ""
	if len(n.Have) > 0 {
		have = ", has " + strings.Join(n.Have, ", ")
	}
	return fmt.Sprintf("%d of %s (%s)%s; %s", n.Threshold, strings.Join(n.Groups, ", "), n.Rule, have, who)
}

// exampleLine is one example; show writes what comes from a document.
func exampleLine(e ci.Outcome, show func(string) string) string {
	if e.Passed {
		return fmt.Sprintf("ok   %s: %s", e.Got, show(e.Run))
	}
	return fmt.Sprintf("FAIL expected %s, got %s: %s", e.Expect, e.Got, show(e.Run))
}

// oneLine makes text from documents safe and honest on a terminal: no control
// sequence, no line of its own, nothing that is invisible or turns the text around.
// Such a character is written as its code.
func oneLine(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == ' ' || unicode.IsGraphic(r) && !unicode.Is(unicode.Zs, r) && !invisible(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u{%x}`, r)
		}
	}
	return b.String()
}

// invisible are letters and marks that take no room, or stand for nothing.
func invisible(r rune) bool {
	return unicode.Is(unicode.Variation_Selector, r) || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) ||
		r == '\u2800' || r == '\u3164' || r == '\uffa0' || r == '\u115f' || r == '\u1160' || r == '\ufffc' || r == unicode.ReplacementChar
}

// reviewMarker begins the one comment that a pull request gets, so that it can be
// found again and kept up to date.
const reviewMarker = "<!-- sallyport review -->"

const (
	markdownItem  = 600  // bytes of one text from a document
	markdownItems = 40   // lines of one kind in a document
	markdownWhole = 60e3 // bytes; forges take 65,536 characters
)

// reviewMarkdown writes a report as the comment of a pull request. Everything
// that comes from documents stands in code spans that it cannot end, so it is no
// markup, link, image, HTML or mention, and nobody is notified by it.
func reviewMarkdown(out io.Writer, r *reviewReport) {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("%s", reviewMarker)
	line("### What this changes: %s\n", riskWords(r.Risk))
	line("Commit %s by %s, compared with %s at %s.\n", code(short(r.Commit)), code(r.Author), code(r.Against), code(short(r.Base)))
	for _, w := range capped(line, r.Warnings, "warnings") {
		line("- ⚠️ %s", code(w))
	}
	for _, p := range capped(line, r.Problems, "problems") {
		line("- ❌ %s", code(p.Error()))
	}
	left := 0
	for _, d := range r.Documents {
		if b.Len() > markdownWhole/2 {
			left++
			continue
		}
		markdownDocument(line, d)
	}
	if left > 0 {
		line("\n**%s more: `sallyport review` in a clone shows all.**", count(left, "document"))
	}
	if len(r.Verdicts) > 0 {
		line("\n#### %s of other reviews change their verdict\n", count(len(r.Verdicts), "example"))
		for _, v := range capped(line, r.Verdicts, "examples") {
			line("- **%s** instead of %s: %s (%s)", v.After, v.Before, code(v.Run), code(v.At))
		}
	}
	line("\n#### Still to be approved\n")
	for _, a := range capped(line, r.Awaiting, "documents") {
		for _, n := range a.Needs {
			line("- %s: %s", code(a.Path), code(needText(n)))
		}
		for _, why := range a.Ignored {
			line("  - %s", code(why))
		}
	}
	if len(r.Awaiting) == 0 {
		line("Nothing more has to be approved.")
	}
	line("\nTo approve, in a clone: %s", code("sallyport review "+approvable(r)+" --as user:YOU --approve --digest "+short(r.Digest)))
	text := b.String()
	if len(text) > markdownWhole { // cannot be with the caps above, and must not be sent half
		text = reviewMarker + "\nThis change is too large to be shown here: `sallyport review` in a clone shows it.\n"
	}
	io.WriteString(out, text)
}

func markdownDocument(line func(string, ...any), d documentReport) {
	line("\n#### %s (%s, %s)\n", code(d.Path), d.Change, riskWords(d.Risk))
	for _, f := range d.Facts {
		line("- %s: %s", f.Name, code(f.Text))
	}
	for _, c := range capped(line, d.Changes, "changes") {
		line("- **%s**: %s", c.Effect, code(c.What))
	}
	for _, k := range capped(line, d.Keeps, "grants that stay") {
		line("- as before: %s", code(k))
	}
	for _, n := range capped(line, d.Notes, "notes") {
		line("- %s", code(n))
	}
	if d.Untested != "" {
		line("- examples cannot run: %s", code(d.Untested))
	}
	for _, e := range capped(line, d.Examples, "examples") {
		mark := "✅"
		if !e.Passed {
			mark = "❌"
		}
		line("- %s %s", mark, exampleLine(e, code))
	}
	if d.SHA256 != "" {
		line("- sha256 %s", code(d.SHA256))
	}
	if len(d.Approvals) > 0 {
		line("- approved by %s", code(strings.Join(d.Approvals, ", ")))
	}
}

// capped are as many elements as a comment has room for; it says what is left out
// before them, so that nothing is missed.
func capped[T any](line func(string, ...any), list []T, what string) []T {
	if len(list) <= markdownItems {
		return list
	}
	line("- **%d %s are not shown here; `sallyport review` in a clone shows all**", len(list)-markdownItems, what)
	return list[:markdownItems]
}

func short(hex string) string { return hex[:min(12, len(hex))] }

// approvable is how the branch is named on a command line, in quotes where a shell needs them.
func approvable(r *reviewReport) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("/._-", c)
	}
	name := r.Branch
	if name == "" || strings.HasPrefix(name, "-") || strings.ContainsFunc(name, func(c rune) bool { return !plain(c) }) {
		return r.Commit
	}
	return name
}

// code is a text as a Markdown code span: one line, and delimiters that are longer
// than any run of backticks in it.
func code(s string) string {
	s = oneLine(s)
	if s == "" {
		return "(empty)"
	}
	if len(s) > markdownItem {
		cut := markdownItem
		for cut > 0 && s[cut]&0xc0 == 0x80 { // not within a character
			cut--
		}
		s = fmt.Sprintf("%s … (%d bytes more)", s[:cut], len(s)-cut)
	}
	longest, run := 0, 0
	for _, r := range s {
		if r == '`' {
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	fence := strings.Repeat("`", longest+1)
	if longest > 0 || strings.HasPrefix(s, " ") || strings.HasSuffix(s, " ") {
		s = " " + s + " "
	}
	return fence + s + fence
}
