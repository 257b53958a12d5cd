package forge

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxHook caps the body of a webhook, in bytes.
const maxHook = 4 << 20

// Event is what a webhook says. It is only a reason to look: a hook may be sent again by whoever saw it, so nothing is believed
// because an event says so.
type Event struct {
	Kind   EventKind
	Repo   string // owner/name
	Branch string // of a push; the base of a pull request
	Commit string // of a push: the branch's new head; of a review and a merge: the pull request's head
	Number int    // of the pull request
}

// EventKind says what happened.
type EventKind string

// The kinds of event. Other is everything that says nothing new about branches and reviews.
const (
	Pushed   EventKind = "push"
	Reviewed EventKind = "review"
	Merged   EventKind = "merge"
	Changed  EventKind = "pull request" // opened, pushed to, closed …
	Other    EventKind = "other"
	Untold   EventKind = "untold" // signed like GitHub's, by a sender that names no event; the body is not read
)

// ErrHook means that a request is not from the forge, or not for us. Nothing of what it says may be used.
var ErrHook = errors.New("webhook refused")

// ReadHook checks a webhook's signature with the secret that the forge was given, and says what it tells. It knows GitHub's and
// Gitea's, which both sign with HMAC-SHA256, and that of anybody who signs as GitHub does, in X-Hub-Signature-256.
func ReadHook(r *http.Request, secret []byte) (*Event, error) {
	if len(secret) == 0 {
		return nil, fmt.Errorf("%w: no secret is set, so anybody could have sent it", ErrHook)
	}
	if r.Method != http.MethodPost {
		return nil, fmt.Errorf("%w: it is a %s", ErrHook, r.Method)
	}
	given, event := r.Header.Get("X-Gitea-Signature"), r.Header.Get("X-Gitea-Event")
	if event == "" {
		event = r.Header.Get("X-GitHub-Event")
		given, _ = strings.CutPrefix(r.Header.Get("X-Hub-Signature-256"), "sha256=")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxHook+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHook, err)
	}
	if len(body) > maxHook {
		return nil, fmt.Errorf("%w: it has more than %d MiB", ErrHook, maxHook>>20)
	}
	mac, err := hex.DecodeString(given)
	want := hmac.New(sha256.New, secret)
	want.Write(body)
	if err != nil || !hmac.Equal(mac, want.Sum(nil)) {
		return nil, fmt.Errorf("%w: its signature is not made with our secret", ErrHook)
	}
	if event == "" {
		return &Event{Kind: Untold}, nil
	}
	e, err := readEvent(event, body)
	if err != nil {
		return nil, fmt.Errorf("%w: event %q: %w", ErrHook, event, err)
	}
	return e, nil
}

func readEvent(name string, body []byte) (*Event, error) {
	var said struct {
		Ref         string `json:"ref"`
		After       string `json:"after"`
		PullRequest struct {
			Number int  `json:"number"`
			Merged bool `json:"merged"`
			Head   struct {
				SHA string `json:"sha"`
			} `json:"head"`
			Base struct {
				Ref string `json:"ref"`
			} `json:"base"`
		} `json:"pull_request"`
		Action     string `json:"action"`
		Repository struct {
			FullName string `json:"full_name"`
		} `json:"repository"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return nil, err
	}
	p := said.PullRequest
	e := &Event{Kind: Other, Repo: said.Repository.FullName}
	branch, onBranch := strings.CutPrefix(said.Ref, "refs/heads/")
	switch {
	case name == "push" && onBranch:
		e.Kind, e.Branch, e.Commit = Pushed, branch, said.After
	case p.Number <= 0 || !strings.HasPrefix(name, "pull_request"):
	default:
		e.Kind, e.Number, e.Branch, e.Commit = Changed, p.Number, p.Base.Ref, p.Head.SHA
		switch {
		case strings.HasPrefix(name, "pull_request_review") || name == "pull_request_approved" || name == "pull_request_rejected":
			e.Kind = Reviewed
		case said.Action == "closed" && p.Merged:
			e.Kind = Merged
		}
	}
	return e, nil
}
