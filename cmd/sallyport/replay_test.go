package main

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// hostile are texts that a terminal, or the eye of who reads one, would obey.
var hostile = []string{
	"\x1b[2J\x1b[H",                               // clear the screen
	"\x1b]0;title\x07",                            // set the title
	"\x1b]52;c;cm0gLXJmIC8=\x07",                  // set the clipboard
	"\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", // link
	"\x1b[?1049h", "\x1b[6n", "\x1bc",             // alternative screen, answer back, reset
	"\x1bP$q\"p\x1b\\", "\x1b_x\x1b\\", // DCS, APC
	"\u009b2J", "\u0090x\u009c", "\x9b2J", // the same in C1, as UTF-8 and as one byte
	"secret\rharmless", "abc\b\b\bxyz", // overwrite
	"\x00\x01\x0e\x7f",                     // controls
	"\u202ecod.exe\u202c", "\u2066x\u2069", // bidirectional overrides
	"\u200fx\u061c", "\ufeffx", "a\u2028b",
	"line\n    0.001s  #9 ALLOW (allow[0])", // a line that looks like replay's own
}

var ownLine = regexp.MustCompile(`^( *[0-9]+\.[0-9]{3}s  |            )`)

func TestReplayObeysNothingThatWasRecorded(t *testing.T) {
	dir := t.TempDir()
	j, err := record.Open(record.Options{Dir: dir, Gateway: "gw1", Sign: func(m []byte) ([]byte, error) {
		return reviews.Sign(accesstest.Signer("gw1"), reviews.NamespaceCheckpoint, m)
	}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := j.Begin(record.Header{Session: "s-0123456789abcdef", Principal: "agent:etl"})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range hostile {
		n, err := s.Command(record.Command{Statement: text, Parameters: []string{text}, Sent: text, Verdict: policies.Allow, Rule: "allow[0]"})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Output(n, "rows", []byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := s.Result(n, record.Result{Outcome: "failed", Tag: text, SQLState: "22P02", Message: text}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Command(record.Command{Statement: "x", Verdict: policies.Deny, Rule: "default", Reason: text}); err != nil {
			t.Fatal(err)
		}
		if err := s.Event("settings", text); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Close("closed"); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	recording, err := record.Find(dir, "s-0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	var shown, evidence bytes.Buffer
	if err := replay(t.Context(), &shown, recording, 0, false); err != nil {
		t.Fatal(err)
	}
	for _, r := range shown.String() {
		if r != '\n' && r != '\t' && clean(string(r)) != string(r) {
			t.Errorf("replay lets %q through", r)
		}
	}
	if !utf8.Valid(shown.Bytes()) {
		t.Error("replay lets bytes through that are not UTF-8")
	}
	begun := 0
	for line := range strings.Lines(shown.String()) {
		if !ownLine.MatchString(line) {
			t.Errorf("something recorded begins a line: %q", line)
		}
		if strings.Contains(line, "#9 ALLOW") && !strings.HasPrefix(line, "            ") {
			begun++
		}
	}
	if begun != 1 { // command 9 itself is a real one
		t.Errorf("%d lines say that command 9 was allowed", begun)
	}

	if err := replay(t.Context(), &evidence, recording, 0, true); err != nil {
		t.Fatal(err)
	}
	if bytes.ContainsAny(evidence.Bytes(), "\x1b\x7f\x00\r\b\a") || strings.ContainsAny(evidence.String(), "\u009b\u202e\u2066\u200f\ufeff") {
		t.Error("the evidence itself is not safe to show")
	}
	var outputs, statements []string
	for line := range bytes.Lines(evidence.Bytes()) {
		var r record.Record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		switch {
		case r.Type == record.TypeOutput:
			outputs = append(outputs, string(r.Output()))
		case r.Type == record.TypeCommand && r.Command.Verdict == policies.Allow:
			text := r.Command.Statement
			if b, ok := r.Raw["statement"]; ok {
				text = string(b)
			}
			statements = append(statements, text)
		}
	}
	for i, text := range hostile {
		if outputs[i] != text || statements[i] != text {
			t.Errorf("the evidence of %q is %q and %q", text, outputs[i], statements[i])
		}
	}
}

func TestTablesHaveOneLinePerRow(t *testing.T) {
	for _, text := range hostile {
		var b bytes.Buffer
		table(&b, []string{"A", "B"}, [][]string{{text, "x\ty"}})
		if strings.Count(b.String(), "\n") != 2 || clean(b.String()) != b.String() {
			t.Errorf("%q makes %q", text, b.String())
		}
	}
}
