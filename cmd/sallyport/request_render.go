package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/reviews"
)

// renderReview writes a review as people read it best: one rule a line.
func renderReview(r *reviews.Review) []byte {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	s := r.Spec
	line("apiVersion: %s", reviews.APIVersion)
	line("kind: %s", reviews.KindReview)
	line("metadata: {repo: %s, name: %s}", r.Metadata.Repo, r.Metadata.Name)
	line("spec:")
	line("  sequence: %d", s.Sequence)
	line("  requester: %s", s.Requester)
	line("  subject: %s", s.Subject)
	line("  connection: %s", s.Connection)
	renderRules(line, "allow", s.Allow)
	renderRules(line, "hold", s.Hold)
	if len(s.Mask) > 0 {
		line("  mask:")
		for _, m := range s.Mask {
			lookup := ""
			if m.Lookup {
				lookup = ", lookup: true"
			}
			what := "column: " + scalar(m.Column)
			switch {
			case m.Pattern != "":
				what = "pattern: " + scalar(m.Pattern)
			case m.Detect != "":
				what = "detect: " + scalar(m.Detect)
			}
			line("    - {%s, with: %s%s}", what, scalar(m.With), lookup)
		}
	}
	if len(s.Unmask) > 0 {
		line("  unmask: %s", flow(s.Unmask))
	}
	renderLimits(line, s.Limits)
	line("  validity:")
	line("    notBefore: %q", s.Validity.NotBefore.UTC().Format(time.RFC3339))
	line("    expires: %q", s.Validity.Expires.UTC().Format(time.RFC3339))
	line("  justification:")
	if s.Justification.Ticket != "" {
		line("    ticket: %s", scalar(s.Justification.Ticket))
	}
	line("    reason: %s", scalar(s.Justification.Reason))
	if len(s.Examples) > 0 {
		line("  examples:")
		for _, e := range s.Examples {
			line("    - {run: %s, expect: %s}", scalar(e.Run), scalar(e.Expect))
		}
	}
	return []byte(b.String())
}

func renderRules(line func(string, ...any), field string, rules []reviews.Rule) {
	if len(rules) == 0 {
		return
	}
	line("  %s:", field)
	for _, r := range rules {
		if fields := renderSSHRule(r); fields != "" {
			line("    - {%s}", fields)
			continue
		}
		fields := "verbs: " + flow(r.Verbs)
		if len(r.On) > 0 {
			fields += ", on: " + flow(r.On)
		}
		if len(r.Columns) > 0 {
			fields += ", columns: " + flow(r.Columns)
		}
		line("    - {%s}", fields)
	}
}

// renderSSHRule is a rule for an ssh host; "" for others.
func renderSSHRule(r reviews.Rule) string {
	switch {
	case len(r.Exec) > 0:
		return "exec: " + flow(r.Exec)
	case r.Text != "":
		return "text: " + scalar(r.Text)
	case r.SFTP != "":
		return "sftp: " + scalar(r.SFTP) + ", path: " + scalar(r.Path)
	case r.Shell:
		return "shell: true"
	case r.Forward != "":
		return "forward: " + scalar(r.Forward)
	}
	return ""
}

func renderLimits(line func(string, ...any), l reviews.Limits) {
	var fields []string
	span := func(name string, d reviews.Duration) {
		if d > 0 {
			fields = append(fields, name+": "+d.String())
		}
	}
	count := func(name string, n int64) {
		if n > 0 {
			fields = append(fields, fmt.Sprintf("%s: %d", name, n))
		}
	}
	span("session", l.Session)
	span("idle", l.Idle)
	span("statement", l.Statement)
	count("rows", l.Rows)
	count("bytes", l.Bytes)
	count("sessions", l.Sessions)
	count("commands", l.Commands)
	count("lookups", l.Lookups)
	if len(fields) > 0 {
		line("  limits: {%s}", strings.Join(fields, ", "))
	}
}

func flow(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = scalar(w)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

func contains(words []string, word string) bool { return slices.Contains(words, word) }

// joinSorted lists names for people.
func joinSorted(names []string) string {
	return strings.Join(slices.Sorted(slices.Values(names)), ", ")
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
