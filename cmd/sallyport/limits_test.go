package main

import (
	"os"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/reviews"
)

// A request that is made anew keeps every limit: one that got lost would be a wider grant that nobody wrote.
func TestEveryLimitIsRenderedAndDescribed(t *testing.T) {
	const path = "reviews/orders-db/etl-nightly.yaml"
	b, err := os.ReadFile("../../testdata/access/" + path)
	if err != nil {
		t.Fatal(err)
	}
	limits := "limits: {session: 30m, idle: 10m, statement: 90s, rows: 100000, bytes: 1000000, sessions: 2}"
	text := strings.Replace(string(b), "limits: {session: 30m, rows: 100000}", limits, 1)
	r, err := reviews.ParseReview(path, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	again, err := reviews.ParseReview(path, renderReview(r))
	if err != nil {
		t.Fatal(err)
	}
	if again.Spec.Limits != r.Spec.Limits || r.Spec.Limits.Sessions != 2 || r.Spec.Limits.Statement.String() != "1m30s" {
		t.Errorf("%+v became %+v", r.Spec.Limits, again.Spec.Limits)
	}
	described := describeReview(r)
	for _, want := range []string{"for 30m a session", "idle for 10m", "1m30s a statement", "100000 rows", "1000000 bytes", "2 sessions at once"} {
		if !strings.Contains(described, want) {
			t.Errorf("the description lacks %q:\n%s", want, described)
		}
	}
	for _, bad := range []string{"bytes: 0", "sessions: 0", "sessions: -1", "rows: 0", "idle: 0s", "statement: 1.5s", "idle: 10", "concurrency: 2"} {
		if _, err := reviews.ParseReview(path, []byte(strings.Replace(text, limits, "limits: {"+bad+"}", 1))); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
