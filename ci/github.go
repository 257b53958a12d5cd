package ci

import (
	"fmt"
	"io"
	"strings"
)

// github is the report as annotations of GitHub Actions, which Gitea Actions
// reads too. Each is one workflow command on one line; no text of a document can
// begin another.
func github(w io.Writer, r *Report) error {
	var b strings.Builder
	for _, f := range r.Findings {
		command := map[Severity]string{Error: "error", Warning: "warning", Note: "notice"}[f.Severity]
		var properties []string
		property := func(name, value string) { properties = append(properties, name+"="+escapeProperty(value)) }
		if f.File != "" {
			property("file", f.File)
		}
		if f.Line > 0 {
			property("line", fmt.Sprint(f.Line))
		}
		if f.Column > 0 {
			property("col", fmt.Sprint(f.Column))
		}
		property("title", "sallyport "+f.Rule)
		message := f.Message
		if f.Fix != "" {
			message += "\n" + f.Fix
		}
		fmt.Fprintf(&b, "::%s %s::%s\n", command, strings.Join(properties, ","), escapeData(message))
	}
	fmt.Fprintln(&b, line(conclusion(r)))
	_, err := io.WriteString(w, b.String())
	return err
}

// visible keeps line breaks, which a command escapes, and no other way to break out.
func visible(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = line(lines[i])
	}
	return strings.Join(lines, "\n")
}

func escapeData(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(visible(s))
}

func escapeProperty(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace(visible(s))
}

// maxSummary is less than the MiB that GitHub takes for the summary of a step.
const maxSummary = 512 << 10

// Summary is the report in Markdown, as the summary of a CI job. Text of documents
// stands in code spans only, so that it cannot be a link, an image or HTML.
func Summary(r *Report) string {
	var b strings.Builder
	b.WriteString("### sallyport check\n\n")
	fmt.Fprintf(&b, "%s\n", conclusion(r))
	section := func(title string, severity Severity) {
		if r.Count(severity) == 0 {
			return
		}
		fmt.Fprintf(&b, "\n#### %s\n\n", title)
		for _, f := range r.Findings {
			if f.Severity != severity {
				continue
			}
			fmt.Fprintf(&b, "- %s **%s** %s", span(f.Position.String()), f.Rule, span(f.Message))
			if f.Fix != "" {
				fmt.Fprintf(&b, "  \n  %s", span(f.Fix))
			}
			b.WriteByte('\n')
			if b.Len() > maxSummary {
				b.WriteString("- and more: see the log\n")
				return
			}
		}
	}
	section("Problems", Error)
	section("To be read before merging", Warning)
	list := func(title string, n int, item func(i int) (head string, lines []string)) {
		if n == 0 || b.Len() > maxSummary {
			return
		}
		fmt.Fprintf(&b, "\n#### %s\n\n", title)
		for i := range n {
			head, lines := item(i)
			fmt.Fprintf(&b, "- %s\n", head)
			for _, l := range lines {
				fmt.Fprintf(&b, "  - %s\n", span(l))
			}
			if b.Len() > maxSummary {
				b.WriteString("- and more: see the log\n")
				return
			}
		}
	}
	list("What it changes", len(r.Changes), func(i int) (string, []string) {
		return r.Changes[i].Action + " " + span(r.Changes[i].Path), r.Changes[i].Says
	})
	list("Approved automatically", len(r.Automatic), func(i int) (string, []string) { return span(r.Automatic[i]), []string{automatically} })
	list("Still to be approved", len(r.Pending), func(i int) (string, []string) {
		return span(r.Pending[i].Path), pendingLines(r.Pending[i])
	})
	return b.String()
}

// span is text as a Markdown code span: fenced by more backticks than it has in a row.
func span(s string) string {
	s = strings.TrimSpace(line(s))
	if s == "" {
		return "–"
	}
	fence := "`"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	return fence + " " + s + " " + fence
}
