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
	base := newRepo(t).build(7).Envelope
	cases := map[string]struct {
		change func(*release.Envelope)
		ok     bool
	}{
		"the same":                   {func(*release.Envelope) {}, true},
		"newer":                      {func(e *release.Envelope) { e.Sequence++ }, true},
		"newer review":               {func(e *release.Envelope) { e.Sequence++; e.Reviews["orders-db/etl-nightly"]++ }, true},
		"new review":                 {func(e *release.Envelope) { e.Sequence++; e.Reviews["orders-db/x"] = 1 }, true},
		"older":                      {func(e *release.Envelope) { e.Sequence-- }, false},
		"another of the same number": {func(e *release.Envelope) { e.Commit = "x" }, false},
		"older trust":                {func(e *release.Envelope) { e.Sequence++; e.TrustVersion-- }, false},
		"older review":               {func(e *release.Envelope) { e.Sequence++; e.Reviews["orders-db/etl-nightly"]-- }, false},
		"forgotten review":           {func(e *release.Envelope) { e.Sequence++; delete(e.Reviews, "orders-db/etl-nightly") }, false},
		"another repo":               {func(e *release.Envelope) { e.Sequence++; e.Repo = "other" }, false},
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
			next := base
			next.Reviews = maps.Clone(base.Reviews)
			c.change(&next)
			h = openMark(t, path) // as after a restart
			if h.Fresh() || h.Sequence() != 7 {
				t.Fatal("the mark was not kept")
			}
			checked, advanced := h.Check(next), h.Advance(next)
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
	if err := openMark(t, path).Advance(newRepo(t).build(7).Envelope); err != nil {
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
	if err := mark.Advance(r.build(8).Envelope); err != nil {
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
	wantError(t, h.Advance(newRepo(t).build(7).Envelope), "high-water mark")
	if !h.Fresh() {
		t.Error("the mark moved without being written")
	}
}
