package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd/record"
)

// writeCast writes one command's output, or with n 0 all of a session's, as an asciicast v3
// (https://docs.asciinema.org/manual/asciicast/v3): what players of terminals show. A recording holds more, so
// this is for looking, not for evidence: bytes that are not UTF-8 become U+FFFD here.
func writeCast(out io.Writer, recording *record.Recording, n int64) error {
	h := recording.Header
	w := &castWriter{out: out, last: h.Started, cols: 80, rows: 24}
	title := fmt.Sprintf("%s: %s on %s under %s", h.Session, h.Principal, h.Connection, h.Review)
	for r, err := range recording.Records() {
		if err != nil {
			return hint(err, "the recording is damaged here: nothing behind it can be relied on")
		}
		switch {
		case r.Event == "terminal" || r.Event == "resize":
			w.resize(r.Time, r.Data, title, h.Started)
		case n != 0 && r.N != n:
		case r.Command != nil && n == 0:
			w.marker(r.Time, r.Command.Statement, title, h.Started)
		case r.Stream == "stdout" || r.Stream == "stderr":
			w.event(r.Time, "o", string(r.Output()), title, h.Started)
		}
		if w.err != nil {
			return w.err
		}
	}
	w.begin(title, h.Started)
	return w.err
}

type castWriter struct {
	out        io.Writer
	last       time.Time
	cols, rows int
	begun      bool
	err        error
}

func (w *castWriter) line(v any) {
	if w.err == nil {
		e := json.NewEncoder(w.out)
		e.SetEscapeHTML(false)
		w.err = e.Encode(v)
	}
}

// begin writes the header, once the terminal's size is known or something is shown.
func (w *castWriter) begin(title string, at time.Time) {
	if w.begun {
		return
	}
	w.begun = true
	w.line(map[string]any{"version": 3, "term": map[string]int{"cols": w.cols, "rows": w.rows}, "timestamp": at.Unix(), "title": title})
}

// event writes what happened, with the seconds since what happened before.
func (w *castWriter) event(at time.Time, code, data, title string, started time.Time) {
	w.begin(title, started)
	interval := max(0, at.Sub(w.last))
	w.last = at
	w.line([]any{json.Number(fmt.Sprintf("%.6f", interval.Seconds())), code, strings.ToValidUTF8(data, "\uFFFD")})
}

func (w *castWriter) marker(at time.Time, text, title string, started time.Time) {
	w.event(at, "m", text, title, started)
}

func (w *castWriter) resize(at time.Time, size, title string, started time.Time) {
	var cols, rows int
	if _, err := fmt.Sscanf(size, "%dx%d", &cols, &rows); err != nil || cols < 1 || rows < 1 {
		return
	}
	if !w.begun {
		w.cols, w.rows = cols, rows
		w.begin(title, started)
		return
	}
	w.event(at, "r", fmt.Sprintf("%dx%d", cols, rows), title, started)
}
