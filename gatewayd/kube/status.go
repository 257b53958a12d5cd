package kube

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/sallyport-dev/sallyport/gatewayd"
)

// status is the API's own form of an error (meta/v1 Status).
type status struct {
	Kind       string         `json:"kind"`
	APIVersion string         `json:"apiVersion"`
	Metadata   struct{}       `json:"metadata"`
	Status     string         `json:"status"`
	Message    string         `json:"message"`
	Reason     string         `json:"reason"`
	Details    *statusDetails `json:"details,omitempty"`
	Code       int            `json:"code"`
}

type statusDetails struct {
	Causes []statusCause `json:"causes"`
}

type statusCause struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// newStatus is a failure. Clients show little more than its message, so everything is in that.
func newStatus(code int, reason, rule, message string) *status {
	s := &status{Kind: "Status", APIVersion: "v1", Status: "Failure", Message: message, Reason: reason, Code: code}
	if rule != "" {
		s.Details = &statusDetails{Causes: []statusCause{{Reason: rule, Message: message}}}
	}
	return s
}

func (s *status) text() []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // of strings and numbers it never fails
	}
	return append(b, '\n')
}

// plainErrors is the way to a client that asks what the server serves: client-go shows what is wrong there only when it is text.
type plainErrors struct{ http.ResponseWriter }

// Unwrap is for http.ResponseController.
func (w plainErrors) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func writeStatus(w http.ResponseWriter, code int, reason, rule, message string) {
	h := w.Header()
	if _, plain := w.(plainErrors); plain {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(code)
		io.WriteString(w, message+"\n")
		return
	}
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	w.Write(newStatus(code, reason, rule, message).text())
}

// codes are the HTTP statuses of denials that are no plain 403.
var codes = map[string]struct {
	code   int
	reason string
}{
	"token_expired":         {http.StatusUnauthorized, "Unauthorized"}, // client-go then runs its credential plugin again
	"target_unavailable":    {http.StatusServiceUnavailable, "ServiceUnavailable"},
	"recording_unavailable": {http.StatusServiceUnavailable, "ServiceUnavailable"},
	"format_unsupported":    {http.StatusNotAcceptable, "NotAcceptable"},
	"response_unreadable":   {http.StatusBadGateway, "InternalError"},
	"internal_error":        {http.StatusInternalServerError, "InternalError"},
}

// deny tells the client why.
func deny(w http.ResponseWriter, err error) {
	code, reason, rule := http.StatusForbidden, "Forbidden", ""
	denied, cut := (*gatewayd.Denied)(nil), (*gatewayd.Cut)(nil)
	switch {
	case errors.As(err, &denied):
		rule = denied.Rule
	case errors.As(err, &cut):
		rule = cut.Rule
	}
	if c, special := codes[rule]; special {
		code, reason = c.code, c.reason
	}
	writeStatus(w, code, reason, rule, printable("sallyport: "+err.Error()))
}

// printable is text that a terminal shows and does not obey.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r <= 0x9f {
			return '?'
		}
		return r
	}, text)
}
