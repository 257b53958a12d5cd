package gatewayd

import (
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/reviews"
)

// Lookups come back after an hour, for each review by itself, and not by turning the clock back and forth in between.
func TestLookupsOfAnHour(t *testing.T) {
	g := &Gateway{lookups: lookupWindows{}}
	at := time.Date(2027, 1, 1, 12, 0, 0, 0, time.UTC)
	take := func(review string, n int64, after time.Duration, want bool) {
		t.Helper()
		if got := g.takeLookups(review, n, 10, at.Add(after)); got != want {
			t.Errorf("%d of %s after %s: %v", n, review, after, got)
		}
	}
	take("a", 11, 0, false)
	take("a", 8, 0, true)
	take("a", 3, time.Minute, false)
	take("a", 2, 59*time.Minute, true)
	take("a", 1, 59*time.Minute, false)
	take("b", 10, 59*time.Minute, true)
	take("a", 10, time.Hour, true)
	take("a", 1, time.Hour+time.Minute, false)
	take("a", 1, -time.Hour, false)
	take("a", 1, -time.Second, false)
	take("a", 1, 0, true)
	if lookupLimit(reviews.Limits{}) != defaultLookups || lookupLimit(reviews.Limits{Lookups: 3}) != 3 {
		t.Error("limits")
	}
}
