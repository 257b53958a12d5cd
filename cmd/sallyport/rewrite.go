package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/reviews"
)

var sequenceLine = regexp.MustCompile(`(?m)^\s+sequence:\s*([0-9]{1,15})\s*(#.*)?$`)

// nextSequence is one more than any that these commits or their ancestors ever
// held, also when the file has been deleted since, and also on lines of history
// whose outcome a merge threw away.
func nextSequence(ctx context.Context, repo *accessRepo, path string, commits ...string) (int64, error) {
	if len(commits) == 0 {
		commits = []string{"HEAD"}
	}
	args := append([]string{"log", "--full-history", "--format=%H"}, commits...)
	out, err := repo.git.git(ctx, append(args, "--", path)...)
	if err != nil {
		return 0, err
	}
	var highest int64
	for _, commit := range strings.Fields(out) {
		if b, ok := repo.git.blob(ctx, commit, path); ok { // else it is the commit that deleted it
			highest = max(highest, sequenceIn(path, b))
		}
	}
	return highest + 1, nil
}

// sequenceIn is the sequence of a review's bytes, also of ones that are no valid review.
func sequenceIn(path string, b []byte) int64 {
	if r, err := reviews.ParseReview(path, b); err == nil {
		return r.Spec.Sequence
	}
	if m := sequenceLine.FindSubmatch(b); m != nil {
		if n, err := strconv.ParseInt(string(m[1]), 10, 64); err == nil {
			return n
		}
	}
	return 0
}

// rewriting is what changes when a review is written anew.
type rewriting struct {
	sequence int64
	validity *reviews.Validity // nil: as it is
}

// rewrite writes a review anew and leaves everything else as it is, comments
// included. It refuses when it cannot: what people once read must not change by the way.
func rewrite(path string, old []byte, w rewriting) ([]byte, *reviews.Review, error) {
	before, err := reviews.ParseReview(path, old)
	if err != nil {
		return nil, nil, fmt.Errorf("%s cannot be read any more:\n%w", path, err)
	}
	want := before.Spec
	want.Sequence = w.sequence
	texts := map[string]string{"sequence": strconv.FormatInt(w.sequence, 10)}
	if w.validity != nil {
		want.Validity = *w.validity
		texts["notBefore"] = strconv.Quote(w.validity.NotBefore.UTC().Format(time.RFC3339))
		texts["expires"] = strconv.Quote(w.validity.Expires.UTC().Format(time.RFC3339))
	}
	text := old
	for key, value := range texts {
		text = replaceScalar(text, key, value)
	}
	after, err := reviews.ParseReview(path, text)
	if err == nil && reflect.DeepEqual(after.Spec, want) && after.Metadata == before.Metadata {
		return text, after, nil
	}
	return nil, nil, hint(errors.Join(fmt.Errorf("%s is written in a way that cannot be rewritten by itself", path), err),
		"write it anew by hand, with sequence %d", w.sequence)
}

// replaceScalar replaces the value of the first such key that begins a line or
// follows a brace or comma. The caller checks what became of the document.
func replaceScalar(text []byte, key, value string) []byte {
	form := regexp.MustCompile(`(?m)(^\s*|[{,]\s*)` + key + `:\s*("[^"\n]*"|'[^'\n]*'|[^\s,}"'#]+)`)
	at := form.FindSubmatchIndex(text)
	if at == nil {
		return text
	}
	return append(append(append([]byte{}, text[:at[4]]...), value...), text[at[5]:]...)
}
