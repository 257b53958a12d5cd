package syncer

import (
	"fmt"
	"testing"
)

// BenchmarkMerge is one round after one merged review, from the question to
// the remote up to the published release, with many reviews in the repo.
func BenchmarkMerge(b *testing.B) {
	for _, count := range []int{100, 10_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			a := newAccess(b)
			for i := range count {
				name := fmt.Sprintf("r%d", i)
				a.write(reviewPath(name), review(name, 1, "app.orders"))
				a.sign(reviewPath(name), "user:bob")
			}
			a.commit("many")
			h := a.syncer()
			h.once()
			sequence := 1
			for b.Loop() {
				b.StopTimer()
				sequence++
				a.put(reviewPath("etl"), review("etl", sequence, "app.orders"))
				b.StartTimer()
				h.once()
			}
		})
	}
}
