package syncer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/policies/release"
)

func logFile(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(logOf(dir, "*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("logs %v, %v", found, err)
	}
	return found[0]
}

func reread(t *testing.T, h *harness) (*state, error) {
	t.Helper()
	return loadState(h.opt.StateDir, "main", h.opt.TrustRoot)
}

func asText(t *testing.T, s *state) string {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What is on disk after each round is the state, whether it was written whole or
// as what changed, and a round over many documents writes little.
func TestTheLogIsTheState(t *testing.T) {
	a := newAccess(t)
	for i := range 100 {
		a.write(reviewPath(fmt.Sprint("r", i)), review(fmt.Sprint("r", i), 1, "app.orders"))
		a.sign(reviewPath(fmt.Sprint("r", i)), "user:bob")
	}
	a.commit("many")
	h := a.syncer()
	h.once()
	whole, err := os.ReadFile(filepath.Join(h.opt.StateDir, stateFile))
	if err != nil {
		t.Fatal(err)
	}
	steps := []func(){
		func() { a.put(reviewPath("etl"), review("etl", 2, "app.items")) },
		func() { a.remove(reviewPath("etl")) },
		func() { a.put(connectionPath, "# other\n"+connection("email")) },
		func() { a.put(reviewPath("etl"), review("etl", 1, "app.items")) },
	}
	for i, step := range steps {
		before := maps.Collect(h.state.Documents.all())
		step()
		a.commit("step")
		h.once()
		if reflect.DeepEqual(before, maps.Collect(h.state.Documents.all())) {
			t.Fatalf("step %d changed nothing", i)
		}
		got, err := reread(t, h)
		if err != nil {
			t.Fatal(err)
		}
		if asText(t, got) != asText(t, h.state) {
			t.Fatalf("step %d: on disk\n%s\nis not\n%s", i, asText(t, got), asText(t, h.state))
		}
	}
	if now, _ := os.ReadFile(filepath.Join(h.opt.StateDir, stateFile)); !bytes.Equal(now, whole) {
		t.Error("all was written again")
	}
	info, err := os.Stat(logFile(t, h.opt.StateDir))
	if err != nil || info.Size() > int64(len(whole))/2 {
		t.Errorf("the log has %v bytes, the file %d: %v", info.Size(), len(whole), err)
	}
	h.restart()
	a.commit("after a restart")
	h.once()
	if got, err := reread(t, h); err != nil || asText(t, got) != asText(t, h.state) {
		t.Error("after a restart the state on disk is another one: ", err)
	}
}

func TestADamagedLog(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.once()
	a.put(reviewPath("etl"), review("etl", 2, "app.items"))
	h.once() // two saves
	name := logFile(t, h.opt.StateDir)
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	want := asText(t, h.state)
	lines := bytes.SplitAfter(good, []byte("\n"))
	write := func(b []byte) {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		write(bad)
		if s, err := reread(t, h); err == nil && asText(t, s) == want {
			t.Fatalf("a flipped bit of byte %d makes no difference", i)
		} else if err == nil && i < len(good)-len(lines[len(lines)-2]) {
			t.Fatalf("a flipped bit of byte %d, not in the last line, is taken for the end", i)
		}
	}
	if len(lines) < 3 {
		t.Fatalf("%d lines", len(lines))
	}
	for cut := 1; cut < len(lines[len(lines)-2]); cut += 7 { // a crash while the last line was written
		write(good[:len(good)-cut])
		s, err := reread(t, h)
		if err != nil {
			t.Fatalf("cut by %d: %v", cut, err)
		}
		if s.Sequence != h.state.Sequence {
			t.Fatalf("cut by %d: the sequence that was reserved before is lost: %d, want %d", cut, s.Sequence, h.state.Sequence)
		}
	}
	write(good)
	if err := os.Rename(name, logOf(h.opt.StateDir, strings.Repeat("0", 64))); err != nil {
		t.Fatal(err)
	}
	if s, err := reread(t, h); err != nil || asText(t, s) == want {
		t.Errorf("a log of another file was taken in: %v", err)
	}
}

// A save that fails half-way does not make the next one write behind half a line.
func TestASaveFails(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.once()
	a.put(reviewPath("etl"), review("etl", 2, "app.items"))
	publish := h.publish
	h.publish = func(ctx context.Context, to release.Target, in release.BuildInput, signer ssh.Signer) (*release.Built, error) {
		h.publish = publish
		name := logFile(t, h.opt.StateDir)
		f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("half a line"); err != nil {
			t.Fatal(err)
		}
		h.state.disk.log = "" // as save notes it
		return nil, errors.Join(errors.New("no room"), f.Close())
	}
	if _, err := h.Once(context.Background()); err == nil {
		t.Fatal("no error")
	}
	h.once()
	if s, err := reread(t, h); err != nil || asText(t, s) != asText(t, h.state) {
		t.Errorf("on disk is another state: %v", err)
	}
}

// A field that equal forgets would not be saved.
func TestEveryFieldOfMemoryCounts(t *testing.T) {
	values := map[reflect.Kind]any{reflect.String: "x", reflect.Int64: int64(1)}
	for i := range reflect.TypeFor[memory]().NumField() {
		var m memory
		f := reflect.ValueOf(&m).Elem().Field(i)
		switch {
		case f.Type() == reflect.TypeFor[time.Time]():
			f.Set(reflect.ValueOf(start))
		case f.Kind() == reflect.Map:
			f.Set(reflect.ValueOf(map[string]string{"a": "b"}))
		default:
			f.Set(reflect.ValueOf(values[f.Kind()]))
		}
		if m.equal(memory{}) || !m.equal(m) {
			t.Errorf("field %s", reflect.TypeFor[memory]().Field(i).Name)
		}
	}
}
