package redact

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/reviews"
)

func rules(t testing.TB) *Rules {
	r, err := New([]string{`tok_[a-z0-9]{8}`, `secret=\S+`}, Detectors())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fixtures are an input and what must be left of it.
var fixtures = []struct{ in, out string }{
	{"nothing here\n", "nothing here\n"},
	{"a tok_abcd1234 b\n", "a [masked] b\n"},
	{"no line's end tok_abcd1234", "no line's end [masked]"},
	{"two tok_abcd1234,tok_wxyz5678\r\nnext\r\n", "two [masked],[masked]\r\nnext\r\n"},
	{"secret=hunter2 and secret=x\n", "[masked] and [masked]\n"},
	{"\x1b[31mtok_\x1b[0mabcd\x1b[1m1234\x1b[0m!\n", "\x1b[31m[masked]\x1b[0m\x1b[1m\x1b[0m!\n"},
	{"\x1b]0;title tok_\x07abc\n", "\x1b]0;title tok_\x07abc\n"},
	{"tok_\x1b]8;;http://x\x1b\\abcd1234\n", "[masked]\x1b]8;;http://x\x1b\\\n"},
	{"tok_ab\x00cd12\x0834\n", "[masked]\x00\x08\n"},
	{"card 4111111111111111.\n", "card [masked].\n"},
	{"card 4111 1111 1111 1111, 4111-1111-1111-1111\n", "card [masked], [masked]\n"},
	{"amex 3782 822463 10005\n", "amex [masked]\n"},
	{"order 12345 4111111111111111 67\n", "order 12345 [masked] 67\n"},
	{"not one 4111111111111112\n", "not one 4111111111111112\n"},
	{"epoch 1732521600123, id 7c9e6679-7425-40de-944b-e07fc1f90ae7\n", "epoch 1732521600123, id 7c9e6679-7425-40de-944b-e07fc1f90ae7\n"},
	{"hex 0x4111111111111111f and x4111111111111111\n", "hex 0x4111111111111111f and x4111111111111111\n"},
	{"to DE89 3704 0044 0532 0130 00 please\n", "to [masked] please\n"},
	{"to GB82WEST12345698765432 NOW\n", "to [masked] NOW\n"},
	{"to DE89370400440532013001\n", "to DE89370400440532013001\n"},
	{"mail ann.lee+x@example.co.uk, not a@b\n", "mail [masked], not a@b\n"},
	{"AKIAIOSFODNN7EXAMPLE aws\n", "[masked] aws\n"},
	{"j eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl x\n", "j [masked] x\n"},
	{"x\n-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\nAAAA\n-----END OPENSSH PRIVATE KEY-----\ny\n", "x\n[masked]\n[masked]\n[masked]\n[masked]\ny\n"},
	{"grün tok_abcd1234 ü\xff\n", "grün [masked] ü\xff\n"},
	{strings.Repeat("x", 70<<10) + " tok_abcd1234 " + strings.Repeat("y", 70<<10) + "\n", strings.Repeat("x", 70<<10) + " [masked] " + strings.Repeat("y", 70<<10) + "\n"},
	{strings.Repeat("x", window-Longest-5) + " tok_abcd1234 " + strings.Repeat("y ", 40<<10), strings.Repeat("x", window-Longest-5) + " [masked] " + strings.Repeat("y ", 40<<10)},
	{strings.Repeat("\x1b[1m", 30<<10) + "tok_abcd1234\n", strings.Repeat("\x1b[1m", 30<<10) + "[masked]\n"},
}

func TestFixtures(t *testing.T) {
	r := rules(t)
	for _, f := range fixtures {
		s := r.NewStream()
		got := string(append(bytes.Clone(s.Push([]byte(f.in))), s.Flush()...))
		if got != f.out {
			t.Errorf("%.80q: %.200q, want %.200q", f.in, got, f.out)
		}
	}
}

// Wherever a stream is cut, the same bytes leave.
func TestEverySplit(t *testing.T) {
	r := rules(t)
	for _, f := range fixtures {
		step := 1
		if len(f.in) > 1000 {
			step = 997
		}
		for cut := 0; cut <= len(f.in); cut += step {
			s := r.NewStream()
			got := bytes.Clone(s.Push([]byte(f.in[:cut])))
			got = append(got, s.Push([]byte(f.in[cut:]))...)
			got = append(got, s.Flush()...)
			if string(got) != f.out {
				t.Fatalf("%.80q cut at %d: %.200q", f.in, cut, got)
			}
		}
		s := r.NewStream()
		var got []byte
		for i := range len(f.in) {
			got = append(got, s.Push([]byte(f.in[i:i+1]))...)
		}
		if got = append(got, s.Flush()...); string(got) != f.out {
			t.Errorf("%.80q byte by byte: %.200q", f.in, got)
		}
	}
}

func FuzzStream(f *testing.F) {
	for _, x := range fixtures {
		f.Add([]byte(x.in), uint16(3))
	}
	r := rules(f)
	secret := regexp.MustCompile(`tok_[a-z0-9]{8}`)
	f.Fuzz(func(t *testing.T, in []byte, size uint16) {
		whole := r.NewStream()
		want := append(bytes.Clone(whole.Push(in)), whole.Flush()...)
		s := r.NewStream()
		var got []byte
		step := int(size)%100 + 1
		for i := 0; i < len(in); i += step {
			got = append(got, s.Push(in[i:min(i+step, len(in))])...)
		}
		if got = append(got, s.Flush()...); !bytes.Equal(got, want) {
			t.Fatalf("in pieces of %d: %q, at once %q", step, got, want)
		}
		for _, line := range bytes.FieldsFunc(want, func(c rune) bool { return c == '\n' || c == '\r' }) {
			if seen, _ := visible(line); secret.Match(seen) && !secret.Match(in) {
				continue // made of what was left
			} else if secret.Match(line) {
				t.Fatalf("left in %q", line)
			}
		}
	})
}

func TestDetectorsAreThoseOfReviews(t *testing.T) {
	if _, err := New(nil, reviews.OutputDetectors); err != nil {
		t.Error(err)
	}
	if len(Detectors()) != len(reviews.OutputDetectors) {
		t.Errorf("%v here, %v in reviews", Detectors(), reviews.OutputDetectors)
	}
}

func BenchmarkStream(b *testing.B) {
	r := rules(b)
	line := []byte(strings.Repeat("2026-11-25T07:00:00Z web-1 GET /orders/1234 200 12ms\n", 600))
	b.SetBytes(int64(len(line)))
	s := r.NewStream()
	for b.Loop() {
		s.Push(line)
	}
}
