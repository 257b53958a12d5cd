package ci

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/reviews"
)

// remembering checks a with what is remembered at path, and says what was recalled.
func (a *access) remembering(path, program string, now time.Time) (*Report, []string) {
	a.t.Helper()
	k := OpenKnown(path, program)
	o := a.options(true)
	o.Now, o.Known = now, k
	r, err := Check(a.t.Context(), a.files, o)
	if err != nil {
		a.t.Fatal(err)
	}
	recalled, err := k.recall(a.files, now)
	if err != nil {
		a.t.Fatal(err)
	}
	for _, doc := range recalled {
		if k.old[k.current[doc]] == 0 {
			a.t.Errorf("%s was recalled from nowhere", doc)
		}
	}
	if err := k.Save(); err != nil {
		a.t.Fatal(err)
	}
	slices.Sort(recalled)
	return r, recalled
}

// Whatever decides about a review makes it be judged anew.
func TestKnownForgetsWhatChanges(t *testing.T) {
	all := []string{etlPath, reportPath, prodPath}
	for name, c := range map[string]struct {
		bend func(a *access)
		left []string
		ok   bool
	}{
		"nothing":            {func(*access) {}, all, true},
		"a file of nobody's": {func(a *access) { a.write("README.md", "x") }, all, true},
		"the review":         {func(a *access) { a.write(etlPath, a.read(etlPath)+"# x\n") }, []string{reportPath, prodPath}, false},
		"its signature":      {func(a *access) { a.unsign(etlPath); a.sign(etlPath, "user:alice") }, []string{reportPath, prodPath}, false},
		"its mode":           {func(a *access) { f := *a.files[etlPath]; f.Mode = 0o755; a.files[etlPath] = &f }, []string{reportPath, prodPath}, false},
		"no signature":       {func(a *access) { a.unsign(prodPath) }, []string{etlPath, reportPath}, false},
		"another name":       {func(a *access) { a.copyDocument(etlPath, "reviews/orders-db/b.yaml") }, all, false},
		"the trust root":     {func(a *access) { a.put(reviews.RootPath, rootText(2, ""), "user:bob", "user:carol") }, nil, true},
		"a revocation": {func(a *access) {
			a.put(reviews.RootPath, strings.Replace(rootText(2, ""), "user:mallory", "user:bob", 1))
		}, nil, false},
		"the settings": {func(a *access) { a.put(reviews.ConfigPath, configText("# x\n"), "user:bob", "user:carol") }, nil, true},
		"a policy":     {func(a *access) { a.put(guardPath, guardText(guardRules+"# x\n"), "user:dan", "user:bob") }, nil, true},
		"a connection": {func(a *access) { a.edit(ordersPath, "risk: high", "risk: low", "user:bob") }, nil, true},
		"a catalog": {func(a *access) {
			a.write("connections/orders-db.catalog.json", a.read("connections/orders-db.catalog.json")+" ")
		}, nil, true},
		"a principal": {func(a *access) { a.put(agentPath, principalText("agent:etl", "user:bob", "agent:etl"), "user:carol") }, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "known")
			a := newAccess(t)
			if r, _ := a.remembering(file, "v1", noon); !r.OK {
				t.Fatal(r.Findings)
			}
			c.bend(a)
			cold, err := Check(t.Context(), a.files, a.options(true))
			if err != nil {
				t.Fatal(err)
			}
			k := OpenKnown(file, "v1")
			recalled, err := k.recall(a.files, noon)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(recalled)
			if want := slices.Sorted(slices.Values(c.left)); !slices.Equal(recalled, want) {
				t.Errorf("recalled %v, want %v", recalled, want)
			}
			warm, _ := a.remembering(file, "v1", noon)
			if warm.OK != cold.OK || warm.OK != c.ok || warm.Checked != cold.Checked || !slices.Equal(warm.Findings, cold.Findings) {
				t.Errorf("with what is remembered %v %d %v\nwithout %v %d %v", warm.OK, warm.Checked, warm.Findings, cold.OK, cold.Checked, cold.Findings)
			}
		})
	}
}

func TestKnownEnds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known")
	a := newAccess(t)
	a.remembering(file, "v1", noon)
	for _, c := range []struct {
		program string
		now     time.Time
		want    int
	}{
		{"v1", noon.Add(time.Hour), 3},
		{"v2", noon, 0},
		{"v1", time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC), 0}, // when the reviews expire
		{"v1", time.Date(2027, 2, 28, 23, 59, 59, 0, time.UTC), 3},
	} {
		got, err := OpenKnown(file, c.program).recall(a.files, c.now)
		if err != nil || len(got) != c.want {
			t.Errorf("%s at %s: %v, %v", c.program, c.now, got, err)
		}
	}
	// A key that runs out before the review does ends it too.
	b := newAccess(t)
	b.put(reviews.RootPath, strings.Replace(rootText(1, ""), keyOf("user:bob")+`"`, keyOf("user:bob")+`", notAfter: "2027-02-01T00:00:00Z"`, 1), "user:bob", "user:carol")
	b.remembering(file, "v1", noon)
	if got, _ := OpenKnown(file, "v1").recall(b.files, noon.Add(24*time.Hour)); len(got) != 3 {
		t.Errorf("a day later: %v", got)
	}
	if got, _ := OpenKnown(file, "v1").recall(b.files, time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)); len(got) != 0 {
		t.Errorf("after the key: %v", got)
	}
}

// A file that is damaged, or that others could have written, is not believed.
func TestKnownIsNotBelieved(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known")
	a := newAccess(t)
	a.remembering(file, "v1", noon)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	recalls := func() int {
		got, err := OpenKnown(file, "v1").recall(a.files, noon)
		if err != nil {
			t.Fatal(err)
		}
		return len(got)
	}
	for name, b := range map[string][]byte{
		"flipped": append(append(bytes.Clone(good[:60]), good[60]^1), good[61:]...), "cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0),
		"empty": nil, "header": []byte(knownHeader), "other version": bytes.Replace(good, []byte("reviews 1"), []byte("reviews 2"), 1),
	} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if n := recalls(); n != 0 {
			t.Errorf("%s: %d recalled", name, n)
		}
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := recalls(); n != 3 {
		t.Errorf("put back: %d recalled", n)
	}
	if err := os.Chmod(file, 0o620); err != nil {
		t.Fatal(err)
	}
	if n := recalls(); n != 0 {
		t.Errorf("writable by the group: %d recalled", n)
	}
}

func FuzzKnown(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte(knownHeader))
	f.Add(encodeKnown(nil))
	f.Add(encodeKnown(map[digest]int64{{1}: 5, {2}: -1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		all := decodeKnown(b)
		if all != nil && !maps.Equal(all, decodeKnown(encodeKnown(all))) {
			t.Error("it does not read back")
		}
	})
}
