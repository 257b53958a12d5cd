package forge_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/reviews/forge"
)

var hookSecret = []byte("the secret of the hook")

func sign(with func() hash.Hash, secret []byte, body string) string {
	mac := hmac.New(with, secret)
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

func hook(body string, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/hook", strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

const pushBody = `{"ref": "refs/heads/main", "before": "x", "after": "` + head + `", "repository": {"full_name": "acme/access"}}`

func TestHookRefuses(t *testing.T) {
	right := sign(sha256.New, hookSecret, pushBody)
	big := `{"x": "` + strings.Repeat("x", 5<<20) + `"}`
	for name, r := range map[string]*http.Request{
		"unsigned":              hook(pushBody, "X-GitHub-Event", "push"),
		"unsigned Gitea":        hook(pushBody, "X-Gitea-Event", "push"),
		"unsigned, untold":      hook(pushBody),
		"untold, as Gitea":      hook(pushBody, "X-Gitea-Signature", right),
		"untold, other body":    hook(pushBody+" ", "X-Hub-Signature-256", "sha256="+right),
		"empty signature":       hook(pushBody, "X-GitHub-Event", "push", "X-Hub-Signature-256", "sha256="),
		"another secret":        hook(pushBody, "X-GitHub-Event", "push", "X-Hub-Signature-256", "sha256="+sign(sha256.New, []byte("guess"), pushBody)),
		"no secret":             hook(pushBody, "X-GitHub-Event", "push", "X-Hub-Signature-256", "sha256="+sign(sha256.New, nil, pushBody)),
		"another body":          hook(pushBody+" ", "X-GitHub-Event", "push", "X-Hub-Signature-256", "sha256="+right),
		"a part of it":          hook(pushBody, "X-GitHub-Event", "push", "X-Hub-Signature-256", "sha256="+right[:32]),
		"SHA-1 only":            hook(pushBody, "X-GitHub-Event", "push", "X-Hub-Signature", "sha1="+sign(sha1.New, hookSecret, pushBody)),
		"SHA-1 as SHA-256":      hook(pushBody, "X-GitHub-Event", "push", "X-Hub-Signature-256", "sha256="+sign(sha1.New, hookSecret, pushBody)),
		"Gitea, signed GitHub":  hook(pushBody, "X-Gitea-Event", "push", "X-Hub-Signature-256", "sha256="+right),
		"too big":               hook(big, "X-GitHub-Event", "push", "X-Hub-Signature-256", "sha256="+sign(sha256.New, hookSecret, big)),
		"signed, but no object": hook("[", "X-GitHub-Event", "push", "X-Hub-Signature-256", "sha256="+sign(sha256.New, hookSecret, "[")),
	} {
		if e, err := forge.ReadHook(r, hookSecret); !errors.Is(err, forge.ErrHook) || e != nil || name == "too big" && !strings.Contains(err.Error(), "MiB") {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	if _, err := forge.ReadHook(hook(pushBody, "X-GitHub-Event", "push", "X-Hub-Signature-256", "sha256="+sign(sha256.New, nil, pushBody)), nil); !errors.Is(err, forge.ErrHook) {
		t.Errorf("without a secret: %v", err)
	}
	get := hook(pushBody, "X-GitHub-Event", "push", "X-Hub-Signature-256", "sha256="+right)
	get.Method = http.MethodGet
	if _, err := forge.ReadHook(get, hookSecret); !errors.Is(err, forge.ErrHook) {
		t.Errorf("GET: %v", err)
	}
}

func TestHookEvents(t *testing.T) {
	about := func(action, more string) string {
		return `{"action": "` + action + `", "number": 7, "pull_request": {"number": 7, ` + more + `"head": {"sha": "` + head + `"}, "base": {"ref": "main"}}, "repository": {"full_name": "acme/access"}}`
	}
	for name, c := range map[string]struct {
		event, body string
		want        forge.Event
	}{
		"push":      {"push", pushBody, forge.Event{Kind: forge.Pushed, Repo: "acme/access", Branch: "main", Commit: head}},
		"tag":       {"push", strings.Replace(pushBody, "heads", "tags", 1), forge.Event{Kind: forge.Other, Repo: "acme/access"}},
		"opened":    {"pull_request", about("opened", ""), forge.Event{Kind: forge.Changed, Repo: "acme/access", Branch: "main", Commit: head, Number: 7}},
		"closed":    {"pull_request", about("closed", `"merged": false, `), forge.Event{Kind: forge.Changed, Repo: "acme/access", Branch: "main", Commit: head, Number: 7}},
		"merged":    {"pull_request", about("closed", `"merged": true, `), forge.Event{Kind: forge.Merged, Repo: "acme/access", Branch: "main", Commit: head, Number: 7}},
		"submitted": {"pull_request_review", about("submitted", ""), forge.Event{Kind: forge.Reviewed, Repo: "acme/access", Branch: "main", Commit: head, Number: 7}},
		"dismissed": {"pull_request_review", about("dismissed", ""), forge.Event{Kind: forge.Reviewed, Repo: "acme/access", Branch: "main", Commit: head, Number: 7}},
		"ping":      {"ping", `{"zen": "x", "repository": {"full_name": "acme/access"}}`, forge.Event{Kind: forge.Other, Repo: "acme/access"}},
	} {
		r := hook(c.body, "X-GitHub-Event", c.event, "X-Hub-Signature-256", "sha256="+sign(sha256.New, hookSecret, c.body))
		if e, err := forge.ReadHook(r, hookSecret); err != nil || *e != c.want {
			t.Errorf("%s: %+v, %v; want %+v", name, e, err, c.want)
		}
	}
}

// A sender that is no forge signs as GitHub does; what it writes is not read.
func TestHookOfAnybody(t *testing.T) {
	for _, body := range []string{"", "merged", pushBody} {
		e, err := forge.ReadHook(hook(body, "X-Hub-Signature-256", "sha256="+sign(sha256.New, hookSecret, body)), hookSecret)
		if err != nil || *e != (forge.Event{Kind: forge.Untold}) {
			t.Errorf("%q: %+v, %v", body, e, err)
		}
	}
}

func FuzzReadHook(f *testing.F) {
	f.Add("push", pushBody)
	f.Add("pull_request", `{"action": "closed", "pull_request": {"number": 7, "merged": true}}`)
	f.Add("pull_request_review", `{"pull_request": null}`)
	f.Fuzz(func(t *testing.T, event, body string) {
		r := hook(body, "X-GitHub-Event", event, "X-Hub-Signature-256", "sha256="+sign(sha256.New, hookSecret, body))
		e, err := forge.ReadHook(r, hookSecret)
		if err == nil && event != "" && e.Kind == forge.Untold {
			t.Errorf("%+v", e)
		}
		if err == nil && (e.Kind == forge.Reviewed || e.Kind == forge.Merged || e.Kind == forge.Changed) && e.Number <= 0 {
			t.Errorf("%+v", e)
		}
	})
}
