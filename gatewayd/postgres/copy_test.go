package postgres

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"
)

// What goes into a COPY is recorded as a count and a digest, whatever way it is cut up.
func TestCopyInIsRecordedAsADigest(t *testing.T) {
	w := newWorld(t, variant{})
	c := w.connect()
	long := "9001\t1\t" + strings.Repeat("x", 3*streamFrom) + "\n" // streamed in pieces
	rows := "9000\t1\tcopied in\n" + long
	if _, err := c.CopyFrom(t.Context(), strings.NewReader(rows), "copy app.orders from stdin"); err != nil {
		t.Fatal(err)
	}
	r := w.raw()
	r.send(query("copy app.orders from stdin"), message('d', []byte("9002\t1\t")), message('d', []byte(strings.Repeat("y", 2*streamFrom)+"\n")), message('c', nil))
	r.until('Z')
	r.send(query("copy app.orders from stdin"), message('d', []byte("9003\t1\tx\n")), message('f', []byte("no\x00")))
	r.until('Z')
	r.send(query("copy app.orders from stdin"), message('c', nil))
	r.until('Z')
	recorded := w.recorded()
	for _, data := range []string{rows, "9002\t1\t" + strings.Repeat("y", 2*streamFrom) + "\n", "9003\t1\tx\n", ""} {
		want := fmt.Sprintf("%d bytes, sha256:%x", len(data), sha256.Sum256([]byte(data)))
		if !strings.Contains(recorded, want) {
			t.Errorf("not recorded: %s", want)
		}
	}
	if strings.Contains(recorded, "copied in") {
		t.Error("the data itself is recorded")
	}
	if got := w.one("select count(*) from app.orders where id between 9000 and 9002"); got != "3" {
		t.Errorf("%s rows", got)
	}
}

// A digest of a few masked values could be guessed.
func TestCopyIntoMaskedColumnsHasNoPlainDigest(t *testing.T) {
	w := newWorld(t, variant{masks: `[{column: app.customers.ssn, with: redact}]`})
	c := w.connect()
	row := "501\tx\ty\t918-00-777\n"
	if _, err := c.CopyFrom(t.Context(), strings.NewReader(row), "copy app.customers from stdin"); err != nil {
		t.Fatal(err)
	}
	recorded := w.recorded()
	if !strings.Contains(recorded, fmt.Sprintf("%d bytes, ", len(row))) || strings.Contains(recorded, fmt.Sprintf("%x", sha256.Sum256([]byte(row)))) {
		t.Error("the digest is missing or plain")
	}
}

// Without the record of it, the target takes no row.
func TestCopyThatCannotBeRecordedIsNotDone(t *testing.T) {
	w := newWorld(t, variant{})
	r := w.raw()
	r.send(query("copy app.orders from stdin"))
	r.until('G')
	r.send(message('d', []byte("9100\t1\tx\n")))
	if err := os.Rename(w.dir+"/journal", w.dir+"/away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.dir+"/journal", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.send(message('c', nil))
	var got []byte
	for {
		f, err := r.in.next()
		if err != nil {
			break // the session was cut
		}
		got = append(got, f.raw...)
	}
	if !bytes.Contains(got, []byte("recorded")) {
		t.Errorf("the client is told %q", got)
	}
	if got := w.one("select count(*) from app.orders where id = 9100"); got != "0" {
		t.Errorf("%s rows", got)
	}
}
