package ci

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sallyport-dev/sallyport/reviews"
)

// Formats are the forms in which Write prints a report, beside Text.
var Formats = []string{"json", "sarif", "junit", "github"}

// Write prints a report in one of the Formats. Program is the version that
// checked, for the forms that name it.
func Write(w io.Writer, format string, r *Report, program string) error {
	switch format {
	case "json":
		return writeJSON(w, r)
	case "sarif":
		return writeJSON(w, sarif(r, program))
	case "junit":
		return junit(w, r)
	case "github":
		return github(w, r)
	}
	return fmt.Errorf("format %q does not exist: write one of %s", format, strings.Join(Formats, ", "))
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// line makes text from documents safe for one line of a terminal and of a CI
// system's log, both of which take some of it for commands: escape sequences,
// text that runs right to left, and lines that begin with :: or have ##[ or ##vso[ in them.
func line(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < ' ', r >= 0x7f && r < 0xa0, r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0xfeff:
			return '\ufffd'
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
	s = strings.ReplaceAll(s, "##", "# #")
	if strings.HasPrefix(strings.TrimSpace(s), "::") {
		s = ". " + s
	}
	return s
}

// Text prints a report for people: errors to errOut, then everything else, with the
// conclusion last, to out or, when it is bad, to errOut.
func Text(out, errOut io.Writer, r *Report) {
	for _, s := range []Severity{Error, Warning, Note} {
		for _, f := range r.Findings {
			switch {
			case f.Severity != s:
			case s == Error:
				fmt.Fprintln(errOut, line(f.String()))
			default:
				fmt.Fprintln(out, line(string(s)+": "+f.String()))
			}
		}
	}
	item := func(head string, lines []string) {
		fmt.Fprintln(out, line(head))
		for _, l := range lines {
			fmt.Fprintln(out, "  "+line(l))
		}
	}
	for _, e := range r.Changes {
		item(e.Action+": "+e.Path, e.Says)
	}
	for _, path := range r.Automatic {
		item("automatic: "+path, []string{automatically})
	}
	for _, p := range r.Pending {
		item("pending: "+p.Path, pendingLines(p))
	}
	if !r.OK {
		out = errOut
	}
	fmt.Fprintln(out, line(conclusion(r)))
}

// automatically is what is said of a review that nobody needs to approve.
const automatically = "approved by an auto_approve rule of the merged policies; sync asks that rule again"

// TestText prints the outcomes of a Test for people, like Text.
func TestText(out, errOut io.Writer, r *Report) {
	for _, f := range r.Findings {
		if f.Rule != RuleExample && f.Rule != RulePolicyTest { // those are outcomes below
			fmt.Fprintln(errOut, line(f.String()))
		}
	}
	for _, o := range r.Outcomes {
		if o.Passed {
			fmt.Fprintln(out, line(fmt.Sprintf("ok   %s: %s: %s", o.Position, o.Got, o.Run)))
		} else {
			fmt.Fprintln(errOut, line(fmt.Sprintf("FAIL %s: %s: %s", o.Position, o.Run, o.Message)))
		}
	}
	fmt.Fprintf(out, "%d passed, %d failed\n", r.Passed, r.Failed)
}

func pendingLines(p reviews.Pending) []string {
	var list []string
	for _, need := range p.Needs {
		who := "nobody could: those groups have no other member"
		if len(need.Eligible) > 0 {
			who = strings.Join(need.Eligible, " or ")
		}
		list = append(list, fmt.Sprintf("%s; who can: %s", need, who))
	}
	return slices.Concat(list, p.Ignored)
}

// conclusion is the last line of a report.
func conclusion(r *Report) string {
	if n := r.Count(Error); n > 0 {
		return count(n, "problem")
	}
	end := "ok: " + count(r.Checked, "document") + " checked"
	if r.Passed > 0 {
		end += ", " + count(r.Passed, "example") + " as expected"
	}
	if n := r.Count(Warning); n > 0 {
		end += ", " + count(n, "warning")
	}
	if n := len(r.Pending); n > 0 {
		return fmt.Sprintf("%s, %d still to be approved", end, n)
	}
	return end + ", all approved"
}

// count is "1 problem", "3 problems".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
