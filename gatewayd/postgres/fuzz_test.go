package postgres

import (
	"bytes"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
)

// What a target says of its rows and errors is read whole or refused, and a scrubbed error says nothing of its own.
func FuzzTarget(f *testing.F) {
	f.Add(encode(nil, &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("id"), TableOID: 1, DataTypeOID: 23}}})[headerSize:],
		encode(nil, &pgproto3.DataRow{Values: [][]byte{[]byte("1"), nil}})[headerSize:],
		encode(nil, &pgproto3.ErrorResponse{Severity: "ERROR", Code: "22P02", Message: "secret", Detail: "secret", Where: "secret"})[headerSize:])
	f.Add([]byte{0, 1}, []byte{0, 1, 0xff, 0xff, 0xff, 0xfe}, []byte{'M', 0})
	f.Fuzz(func(t *testing.T, description, row, failed []byte) {
		fields, err := parseFields(description)
		if err != nil {
			fields = nil
		}
		for _, format := range [][]int16{nil, {0}, {1}} {
			line, ok := appendRow(nil, row, fields, format)
			if ok && bytes.IndexByte(line, '\n') != len(line)-1 && len(line) > 0 {
				t.Fatalf("a row of several lines: %q", line)
			}
		}
		e, err := parseError(failed)
		if err != nil {
			return
		}
		scrub(e, true)
		for _, text := range []string{e.Detail, e.Hint, e.Where, e.InternalQuery} {
			if text != "" {
				t.Fatalf("a scrubbed error says %q", text)
			}
		}
	})
}

// Settings that a client names in a startup packet are split as PostgreSQL splits them, and none slips through beside them.
func FuzzSettings(f *testing.F) {
	for _, text := range []string{`-c a\ b=c --d=e`, `-csearch_path=x`, `-c role=postgres`, "-c\tx=y", `\`, `-c`, `--a-b=c`, `-c search_path="a""b",c`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		out, fail := (&startup{parameters: map[string]string{"options": text}}).settings()
		for name, value := range out {
			if !sqlguard.SettingAllowed(name, value) && pinnedSettings[name] == "" && targetPins[name] == "" {
				t.Fatalf("setting %q would reach the target", name)
			}
		}
		if fail == nil && out["client_encoding"] != "UTF8" {
			t.Fatal("a pin is gone")
		}
		if names, err := parseSearchPath(text); err == nil {
			quoted := make([]string, len(names))
			for i, name := range names {
				quoted[i] = `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
			}
			again, err := parseSearchPath(strings.Join(quoted, ", "))
			if err != nil || strings.Join(again, "\x00") != strings.Join(names, "\x00") {
				t.Fatalf("%q is %q, and written again %q (%v)", text, names, again, err)
			}
		}
	})
}
