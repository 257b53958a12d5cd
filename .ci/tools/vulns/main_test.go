package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const stream = `{"config":{"protocol_version":"v1.0.0"}}
{"osv":{"id":"GO-1"}}
{"finding":{"osv":"GO-1","trace":[{"module":"example.com/a"}]}}
{"finding":{"osv":"GO-1","trace":[{"module":"example.com/a","function":"F"}]}}
{"finding":{"osv":"GO-2","trace":[{"module":"example.com/b","package":"example.com/b"}]}}
`

func TestCompare(t *testing.T) {
	found, err := readFindings(strings.NewReader(stream))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		known map[string]string
		want  string // part of the error, "" for none
	}{
		{"reached and unknown", map[string]string{}, "GO-1 in example.com/a is reached"},
		{"reached and known", map[string]string{"GO-1": "why"}, ""},
		{"a stale line", map[string]string{"GO-1": "why", "GO-3": "why"}, "GO-3 is in the list but is not reported any more"},
	} {
		err := compare(found, test.known)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	if err := compare(nil, map[string]string{"GO-1": "why"}); err == nil {
		t.Error("an empty database passed for a clean one")
	}
}

func TestBrokenStreamIsAnError(t *testing.T) {
	if _, err := readFindings(strings.NewReader(stream + `{"finding":`)); err == nil {
		t.Error("a stream that breaks off was taken for a whole one")
	}
}

func TestKnownNeedsAReason(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known")
	if err := os.WriteFile(path, []byte("# comment\nGO-1  because\nGO-2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readKnown(path); err == nil || !strings.Contains(err.Error(), ":3: GO-2 has no reason") {
		t.Error(err)
	}
}
