package release_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport-dev/sallyport/policies/release"
)

func TestHighWaterRefusesToGoBack(t *testing.T) {
	base := opened(t, 7)
	cases := map[string]struct {
		change func(*release.Release)
		ok     bool
	}{
		"the same":                   {func(*release.Release) {}, true},
		"newer":                      {func(e *release.Release) { e.Envelope.Sequence++ }, true},
		"newer review":               {func(e *release.Release) { e.Envelope.Sequence++; set(e, "etl-nightly", 5) }, true},
		"new review":                 {func(e *release.Release) { e.Envelope.Sequence++; set(e, "x", 1) }, true},
		"older":                      {func(e *release.Release) { e.Envelope.Sequence-- }, false},
		"another of the same number": {func(e *release.Release) { e.Envelope.Commit = "x" }, false},
		"older trust":                {func(e *release.Release) { e.Envelope.Sequence++; e.Envelope.TrustVersion-- }, false},
		"older review":               {func(e *release.Release) { e.Envelope.Sequence++; set(e, "etl-nightly", 3) }, false},
		"forgotten review":           {func(e *release.Release) { e.Envelope.Sequence++; set(e, "etl-nightly", 0) }, false},
		"forgotten connection": {func(e *release.Release) {
			e.Envelope.Sequence++
			e.Sequences = nil
			delete(e.Envelope.Bundles, "sequences/orders-db")
		}, false},
		"another repo": {func(e *release.Release) { e.Envelope.Sequence++; e.Envelope.Repo = "other" }, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "mark.json")
			h := openMark(t, path)
			if err := h.Check(base); err != nil || !h.Fresh() {
				t.Fatalf("an empty mark: %v", err)
			}
			if err := h.Advance(base); err != nil {
				t.Fatal(err)
			}
			next := *base
			next.Envelope.Bundles = maps.Clone(base.Envelope.Bundles)
			c.change(&next)
			h = openMark(t, path) // as after a restart
			if h.Fresh() || h.Sequence() != 7 {
				t.Fatal("the mark was not kept")
			}
			checked, advanced := h.Check(&next), h.Advance(&next)
			if (checked == nil) != c.ok || (advanced == nil) != c.ok {
				t.Fatalf("check: %v, advance: %v", checked, advanced)
			}
			if !c.ok && !errors.Is(checked, release.ErrRolledBack) {
				t.Errorf("%v is not ErrRolledBack", checked)
			}
			if after := openMark(t, path); !c.ok && after.Sequence() != 7 {
				t.Error("a refused release moved the mark")
			}
		})
	}
}

// opened is the fixture's release of that sequence.
func opened(t *testing.T, sequence int64) *release.Release {
	t.Helper()
	r := newRepo(t)
	opened, err := r.open(r.publish(sequence))
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

// set changes the sequence of one review, 0 for none.
func set(r *release.Release, review string, to int64) {
	highest := maps.Clone(r.Sequences["orders-db"])
	if highest[review] = to; to == 0 {
		delete(highest, review)
	}
	r.Sequences = map[string]release.Sequences{"orders-db": highest}
	r.Envelope.Bundles["sequences/orders-db"] = "another"
}

func openMark(t *testing.T, path string) *release.HighWater {
	t.Helper()
	h, err := release.OpenHighWater(path)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestDamagedHighWaterIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mark.json")
	if err := openMark(t, path).Advance(opened(t, 7)); err != nil {
		t.Fatal(err)
	}
	good := read(t, path)
	damaged := [][]byte{{}, []byte("{}"), []byte("null"), good[:len(good)/2], append(good[:len(good):len(good)], '\n')}
	for at := range good {
		bad := append([]byte{}, good...)
		bad[at] ^= 1
		damaged = append(damaged, bad)
	}
	for _, bad := range damaged {
		if err := os.WriteFile(path, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := release.OpenHighWater(path); err == nil {
			t.Errorf("accepted: %s", bad)
		}
	}
	_, err := release.OpenHighWater(filepath.Join(t.TempDir(), "missing", "mark.json"))
	wantError(t, err, "high-water mark")
}

func TestOpenConsultsTheHighWaterMark(t *testing.T) {
	r := newRepo(t)
	mark := openMark(t, filepath.Join(t.TempDir(), "mark.json"))
	if err := mark.Advance(opened(t, 8)); err != nil {
		t.Fatal(err)
	}
	_, err := release.Open(t.Context(), r.publish(7), r.trust(), mark, now)
	if !errors.Is(err, release.ErrRolledBack) {
		t.Errorf("an older release: %v", err)
	}
	if _, err := release.Open(t.Context(), r.publish(8), r.trust(), mark, now); err != nil {
		t.Errorf("the same release: %v", err)
	}
}

// What cannot be made durable is not in force.
func TestAdvanceThatCannotWriteKeepsTheMark(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	h := openMark(t, filepath.Join(folder, "mark.json"))
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	wantError(t, h.Advance(opened(t, 7)), "high-water mark")
	if !h.Fresh() {
		t.Error("the mark moved without being written")
	}
}
