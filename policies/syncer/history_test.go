package syncer

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport-dev/sallyport/reviews"
)

// Whoever watched every commit, whoever polled now and then, and whoever
// starts from nothing come to the same state and to the same bundles.
func TestAnEmptyStateFindsTheSame(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			a := newAccess(t)
			each, some := a.syncer(), a.syncer()
			each.once()
			for range 20 {
				a.randomCommit(random)
				each.once()
				if random.IntN(4) == 0 {
					some.once()
				}
				if random.IntN(10) == 0 {
					each.restart()
				}
			}
			some.once()
			cold := a.syncer()
			cold.once()
			for name, h := range map[string]*harness{"polled": some, "cold": cold} {
				if got, want := lasting(t, h.state), lasting(t, each.state); got != want {
					t.Errorf("%s start differs:\ngot  %s\nwant %s", name, got, want)
				}
				if got, want := h.envelope().Bundles, each.envelope().Bundles; !maps.Equal(got, want) {
					t.Errorf("%s start publishes %v, want %v", name, got, want)
				}
			}
		})
	}
}

// lasting is what the history alone decides of a state.
func lasting(t *testing.T, s *state) string {
	t.Helper()
	c := *s
	c.Sequence, c.Published = 0, nil
	b, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// randomCommit makes one to three changes of every kind, good and bad.
func (a *access) randomCommit(random *rand.Rand) {
	for range 1 + random.IntN(3) {
		a.randomChange(random)
	}
	a.commit("random")
}

func (a *access) randomChange(random *rand.Rand) {
	var name, text string
	switch random.IntN(12) {
	case 0, 1, 2, 3, 4, 5:
		short := fmt.Sprintf("r%d", random.IntN(3))
		name = reviewPath(short)
		text = review(short, 1+random.IntN(4), fmt.Sprintf("app.t%d", random.IntN(2)))
	case 6:
		name, text = connectionPath, fmt.Sprintf("# %d\n", random.IntN(3))+connection("email")
	case 7:
		name, text = principalPath, a.principal(fmt.Sprint(random.IntN(3)))
	case 8:
		name, text = reviews.ConfigPath, fmt.Sprintf("# %d\n", random.IntN(4))+config(1)
	case 9:
		name, text = policyPath, policy(fmt.Sprintf("deny contains \"no\" if input.principal == \"x%d\"", random.IntN(2)))
	case 10:
		name, text = policyPath, policy("deny contains")
	case 11:
		name, text = "README.md", fmt.Sprint(random.IntN(100))
	}
	if random.IntN(5) == 0 && name != reviews.ConfigPath {
		a.remove(name)
		return
	}
	a.write(name, text)
	if reviews.KindOf(name) != "" && random.IntN(6) != 0 {
		a.sign(name, "user:bob")
	}
}

// A signature that is only added, moved or taken out counts like an edit.
func TestSignatureTakenOut(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.expect("etl#1", "")
	a.remove(filepath.Join(reviewPath("etl") + ".sigs"))
	a.commit("take the approval out")
	h.expect("", "not approved")
	a.sign(reviewPath("etl"), "user:carol")
	a.commit("another approval")
	h.expect("etl#1", "")
}

// While policies are broken, taking an approval out counts, adding one does not.
func TestSignaturesWhileBroken(t *testing.T) {
	a := newAccess(t)
	a.put(policyPath, policy("deny contains \"no\" if input.principal == \"x\""))
	a.write(reviewPath("report"), review("report", 1, "app.items"))
	a.commit("unsigned")
	h := a.syncer()
	h.expect("etl#1", "not approved")
	a.put(policyPath, policy("deny contains"))
	h.expect("etl#1", policyPath)
	a.sign(reviewPath("report"), "user:bob")
	a.commit("approve meanwhile")
	h.expect("etl#1", policyPath)
	a.remove(reviewPath("etl") + ".sigs")
	a.commit("take the approval out")
	h.expect("", policyPath)
}

// A link, a folder or a submodule in a document's place grants nothing, and
// the document is gone for good as if it had been deleted.
func TestSomethingElseInItsPlace(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	h.expect("etl#1", "")
	text := a.read(reviewPath("etl"))
	a.write("elsewhere.yaml", text)
	a.remove(reviewPath("etl"))
	if err := os.Symlink("../../elsewhere.yaml", filepath.Join(a.dir, reviewPath("etl"))); err != nil {
		t.Fatal(err)
	}
	a.sign(reviewPath("etl"), "user:bob")
	a.commit("a link")
	h.expect("", "etl.yaml")
	if err := os.Remove(filepath.Join(a.dir, reviewPath("etl"))); err != nil {
		t.Fatal(err)
	}
	a.put(reviewPath("etl"), text)
	h.expect("", "write it anew with sequence 2")
}
