package record

import (
	"bytes"
	"testing"
	"time"
	"unicode/utf8"
)

// Output, of which there is most, is written by a shorter way, to the same bytes.
func FuzzOutputLine(f *testing.F) {
	for _, s := range []string{"", "plain\n", "\x00\x01\b\f\t\r\n\x1b[1m\x7f", `"quoted\"`, "grün \u2028\u2029 \u202e \u0085 \ufeff 😀 \ufffd <b>&", "\xff\xc3"} {
		f.Add([]byte(s), "stdout", int64(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, stream string, n int64) {
		if !utf8.ValidString(stream) || stream == "" || n <= 0 {
			return
		}
		short := outputRecord(n, stream, data)
		short.Seq, short.Time, short.Prev = 7, time.Date(2026, 11, 25, 7, 0, 0, 120, time.UTC), genesis
		if short.text == nil {
			return
		}
		long := *short
		long.text, long.Data = nil, string(data)
		if len(data) == 0 {
			return // never recorded
		}
		got, want := bytes.NewBufferString("x "), bytes.NewBufferString("x ")
		if err := encode(got, short); err != nil {
			t.Fatal(err)
		}
		if err := encode(want, &long); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Errorf("%q\nwant %q", got, want)
		}
	})
}

func BenchmarkOutputLine(b *testing.B) {
	text := bytes.Repeat([]byte("2026-11-25T07:00:00Z web-1 INFO GET /orders/1234 status=200 agent=\"curl/8.5\"\n"), 800)
	r := outputRecord(1, "stdout", text)
	r.Prev, r.Time = genesis, time.Now().UTC()
	var dst bytes.Buffer
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		dst.Reset()
		if err := encode(&dst, r); err != nil {
			b.Fatal(err)
		}
	}
}
