package forge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxBody     = 16 << 20         // bytes of one answer
	maxCached   = 32 << 20         // bytes of all answers that are kept for conditional requests
	tryTimeout  = 30 * time.Second // one try of one request, its body included
	tries       = 3                // of a GET
	firstPause  = 250 * time.Millisecond
	longestWait = time.Hour // what a forge may ask for; GitHub counts by the hour
)

// Error is a forge's refusal.
type Error struct {
	Status  int    // the HTTP status
	Message string // what the forge said, shortened, without the token
}

func (e *Error) Error() string {
	hint := ""
	switch e.Status {
	case http.StatusUnauthorized:
		hint = "; the token is wrong or has expired: make a new one"
	case http.StatusForbidden:
		hint = "; the token may not do this: look at its permissions"
	case http.StatusNotFound:
		hint = "; it is not there, or the token may not see it"
	}
	return fmt.Sprintf("the forge answers %d %s: %s%s", e.Status, http.StatusText(e.Status), e.Message, hint)
}

func hasStatus(err error, statuses ...int) bool {
	var refused *Error
	if errors.As(err, &refused) {
		for _, s := range statuses {
			if refused.Status == s {
				return true
			}
		}
	}
	return false
}

// RateLimited means that the forge wants no request before Until. Nothing is sent before it.
type RateLimited struct {
	Until time.Time
}

func (e *RateLimited) Error() string {
	return fmt.Sprintf("the forge's rate limit is used up until %s; ask less often, or use a token of its own", e.Until.UTC().Format(time.RFC3339))
}

// transport is the only way to the forge. It alone knows the token, which goes to one host and nowhere else; it follows no
// redirect, reads answers whole, within bounds and only as JSON, asks again where that is harmless, and remembers rate limits and ETags.
type transport struct {
	host   url.URL // only Scheme and Host
	scheme string  // of the Authorization header
	token  Token
	nulls  bool // a body of null is an answer, which go-github would take for an empty list
	next   http.RoundTripper

	mu     sync.Mutex
	until  time.Time // of a rate limit
	cached map[string]answer
	size   int
}

// answer is one that was read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func newTransport(api *url.URL, scheme string, token Token) *transport {
	next := http.DefaultTransport.(*http.Transport).Clone()
	next.MaxResponseHeaderBytes = 256 << 10
	return &transport{host: url.URL{Scheme: api.Scheme, Host: api.Host}, scheme: scheme, token: token, next: next, cached: map[string]answer{}}
}

// client follows no redirect: to RoundTrip one is an error.
func (t *transport) client() *http.Client { return &http.Client{Transport: t} }

// RoundTrip returns an answer of 2xx whose body is whole and valid JSON, or an error. Only what changes something may be answered with
// no body.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != t.host.Scheme || r.URL.Host != t.host.Host {
		return nil, fmt.Errorf("refused to ask %s: the forge is %s", r.URL.Host, t.host.Host)
	}
	if until := t.limited(); time.Now().Before(until) {
		return nil, &RateLimited{Until: until}
	}
	pause := firstPause
	for try := 1; ; try++ {
		got, err := t.once(r)
		again := r.Method == http.MethodGet && try < tries && r.Context().Err() == nil
		switch {
		case err != nil && !again:
			return nil, err
		case err == nil && (got.status < 500 || !again):
			return t.judge(r, got)
		}
		if got.header != nil {
			if asked := retryAfter(got.header); asked > tryTimeout {
				return t.judge(r, got)
			} else if asked > pause {
				pause = asked
			}
		}
		select {
		case <-time.After(pause):
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
		pause *= 2
	}
}

// once does one try.
func (t *transport) once(r *http.Request) (answer, error) {
	ctx, cancel := context.WithTimeout(r.Context(), tryTimeout)
	defer cancel()
	sent := r.Clone(ctx)
	sent.Header.Set("Authorization", t.scheme+" "+string(t.token))
	sent.Header.Set("User-Agent", "sallyport")
	kept, known := t.remembered(r)
	if known {
		sent.Header.Set("If-None-Match", kept.header.Get("Etag"))
	}
	response, err := t.next.RoundTrip(sent)
	if err != nil {
		return answer{}, t.hide(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	if err != nil {
		return answer{}, t.hide(fmt.Errorf("the answer broke off: %w", err))
	}
	if len(body) > maxBody {
		return answer{}, fmt.Errorf("the answer has more than %d MiB", maxBody>>20)
	}
	got := answer{status: response.StatusCode, header: response.Header, body: body}
	if known && got.status == http.StatusNotModified {
		fresh := kept.header.Clone()
		for name, values := range got.header { // the rate limit is today's
			fresh[name] = values
		}
		return answer{status: kept.status, header: fresh, body: kept.body}, nil
	}
	return got, nil
}

// judge makes a response of what is a good answer, and an error of everything else.
func (t *transport) judge(r *http.Request, got answer) (*http.Response, error) {
	limited := t.note(got)
	switch {
	case limited != nil:
		return nil, limited
	case got.status >= 300 && got.status < 400:
		return nil, &Error{Status: got.status, Message: "the repository or the forge has moved, and a redirect is not followed: set the address to the new one"}
	case got.status < 200 || got.status >= 300:
		return nil, &Error{Status: got.status, Message: t.message(got.body)}
	case len(got.body) == 0 && r.Method != http.MethodGet: // Gitea's answer to a merge
	case !json.Valid(got.body) || isNull(got.body) && !t.nulls:
		return nil, fmt.Errorf("the forge answers %d with what is no JSON, or null; is %s its address?", got.status, t.host.String())
	}
	t.remember(r, got)
	header := got.header.Clone()
	for name := range header { // go-github would keep accounts of its own
		if strings.HasPrefix(name, "X-Ratelimit-") {
			header.Del(name)
		}
	}
	return &http.Response{
		StatusCode: got.status, Status: fmt.Sprintf("%d %s", got.status, http.StatusText(got.status)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(got.body)), ContentLength: int64(len(got.body)), Request: r,
	}, nil
}

func isNull(body []byte) bool { return bytes.Equal(bytes.TrimSpace(body), []byte("null")) }

func (t *transport) limited() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.until
}

// note remembers what an answer says of the rate limit, and returns an error when the answer is that it is used up.
func (t *transport) note(got answer) error {
	refused := got.status == http.StatusForbidden || got.status == http.StatusTooManyRequests
	wait := time.Duration(0)
	reset, err := strconv.ParseInt(got.header.Get("X-Ratelimit-Reset"), 10, 64)
	spent := err == nil && got.header.Get("X-Ratelimit-Remaining") == "0"
	switch {
	case refused && retryAfter(got.header) > 0:
		wait = retryAfter(got.header)
	case spent && (refused || got.status/100 == 2):
		wait = max(time.Until(time.Unix(reset, 0)), time.Second)
	case got.status == http.StatusTooManyRequests, refused && bytes.Contains(bytes.ToLower(got.body), []byte("secondary rate limit")):
		wait = time.Minute // what GitHub asks for when it names no time
	default:
		return nil
	}
	until := time.Now().Add(min(wait, longestWait))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = until
	if !refused {
		return nil // this one still went through
	}
	return &RateLimited{Until: until}
}

// retryAfter is 0 when the header is missing or says nothing.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if seconds, err := strconv.ParseInt(v, 10, 32); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

func cacheKey(r *http.Request) string { return r.URL.String() + " " + r.Header.Get("Accept") }

func (t *transport) remembered(r *http.Request) (answer, bool) {
	if r.Method != http.MethodGet {
		return answer{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	kept, ok := t.cached[cacheKey(r)]
	return kept, ok
}

// remember keeps an answer that has an ETag. When there is no room, all are forgotten: they are only a saving.
func (t *transport) remember(r *http.Request, got answer) {
	if r.Method != http.MethodGet || got.status != http.StatusOK || got.header.Get("Etag") == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.size -= len(t.cached[cacheKey(r)].body)
	if t.size+len(got.body) > maxCached {
		clear(t.cached)
		t.size = 0
	}
	t.cached[cacheKey(r)] = got
	t.size += len(got.body)
}

// message is what a refusal says, fit for a line of a log: a forge may repeat what it was sent.
func (t *transport) message(body []byte) string {
	var said struct {
		Message string
		Errors  json.RawMessage // GitHub: objects or plain strings
	}
	if json.Unmarshal(body, &said) != nil || said.Message == "" {
		return "(no reason given)"
	}
	var details []struct{ Message string }
	if json.Unmarshal(said.Errors, &details) == nil {
		for _, e := range details {
			if e.Message != "" {
				said.Message += "; " + e.Message
			}
		}
	}
	return t.line(said.Message)
}

// line removes the token and everything that does not print, and shortens.
func (t *transport) line(text string) string {
	text = strings.ReplaceAll(text, string(t.token), "(hidden)")
	text = strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
	if runes := []rune(text); len(runes) > 300 {
		text = string(runes[:300]) + "…"
	}
	return strings.TrimSpace(text)
}

// hide keeps an error's kind and removes the token from its text, should it be there.
func (t *transport) hide(err error) error {
	if !strings.Contains(err.Error(), string(t.token)) {
		return err
	}
	return errors.New(t.line(err.Error()))
}

// plain takes off the address that net/http puts before each error of a transport.
func plain(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
