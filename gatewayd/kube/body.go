package kube

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd/kube/call"
	"github.com/sallyport-dev/sallyport/gatewayd/kube/jsonmask"
)

const (
	maxBody      = 3 << 20 // the API server's own limit
	bodyTime     = 30 * time.Second
	maxRecorded  = 16 << 10 // of a body
	maxBodyDepth = 512
)

// body is what a client wants to write.
type body struct {
	bytes       []byte
	contentType string
	object      bool // it is one JSON object, and not a list of changes
}

// written are the types that a body may have: JSON, whatever it is for.
var written = []string{
	"application/json", "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json",
	"application/apply-patch+yaml", // JSON is YAML too, and what kubectl sends
}

// readBody takes the body whole, since it has to be looked at before any of it goes on.
func readBody(w http.ResponseWriter, r *http.Request, c *call.Call) (*body, *refusal) {
	reads := !slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, c.Verb) || c.Kind != call.Document
	if reads {
		if r.ContentLength > 0 || r.ContentLength < 0 && r.Method != http.MethodGet {
			return nil, &refusal{"body_refused", "a request that writes nothing has no body"}
		}
		return nil, nil
	}
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	http.NewResponseController(w).SetReadDeadline(time.Time{})
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, &refusal{"body_refused", fmt.Sprintf("the body has more than %d bytes", maxBody)}
	} else if err != nil {
		return nil, &refusal{"body_refused", "the body did not come whole"}
	}
	if len(b) == 0 {
		if c.Verb != "delete" && c.Verb != "deletecollection" {
			return nil, &refusal{"body_refused", "there is no body that says what to write"}
		}
		return nil, nil
	}
	if r.Header.Get("Content-Encoding") != "" {
		return nil, &refusal{"body_refused", "a compressed body cannot be looked at: send it as it is"}
	}
	kind, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if charset := parameters["charset"]; err != nil || !slices.Contains(written, kind) || charset != "" && !strings.EqualFold(charset, "utf-8") || len(r.Header.Values("Content-Type")) != 1 {
		return nil, &refusal{"body_refused", "a body of type " + clip(printable(r.Header.Get("Content-Type"))) + " cannot be looked at: send JSON; a client of client-go is told with ContentType: application/json"}
	}
	return lookAt(&body{bytes: b, contentType: kind}, r.Method, c)
}

// lookAt understands a body: what it makes of the call, and that it carries nothing back that was masked.
func lookAt(b *body, method string, c *call.Call) (*body, *refusal) {
	facts, err := scan(b.bytes)
	switch {
	case err != nil && strings.HasSuffix(b.contentType, "+yaml"):
		return nil, &refusal{"body_refused", "the body is YAML, of which the gateway reads JSON only: kubectl apply --server-side sends that"}
	case err != nil:
		return nil, &refusal{"body_refused", "the body " + err.Error()}
	case facts.marked:
		return nil, &refusal{"mask_written_back", "the body holds " + jsonmask.Mark + ", which stands for a value that was not shown: writing it would destroy the value; leave the field out, with kubectl patch for example"}
	}
	b.object = facts.object
	switch {
	case c.Verb == "create" && c.Subresource == "":
		c.Name = facts.name
	case method == http.MethodPut && facts.resourceVersion == "" && c.Subresource == "", b.contentType == "application/apply-patch+yaml":
		c.Creates() // the API server makes the object when it is not there
	}
	return b, nil
}

// facts are what a body says that a decision needs.
type facts struct {
	object                bool
	name, resourceVersion string // of metadata
	marked                bool   // a string holds a mask
}

// scan reads a JSON text strictly: what is there twice could be read in two ways.
func scan(b []byte) (facts, error) {
	s := &scanner{d: json.NewDecoder(bytes.NewReader(b))}
	s.d.UseNumber()
	if err := s.value(0, ""); err != nil {
		return facts{}, err
	}
	if _, err := s.d.Token(); err != io.EOF {
		return facts{}, errNotJSON
	}
	return s.facts, nil
}

var (
	errNotJSON = errors.New("is not one JSON text")
	errTwice   = errors.New("has a member twice, so that it could be read in two ways")
)

type scanner struct {
	d *json.Decoder
	facts
}

// value reads one value at a path such as ".metadata.name".
func (s *scanner) value(depth int, path string) error {
	token, err := s.d.Token()
	if err != nil || depth > maxBodyDepth {
		return errNotJSON
	}
	switch t := token.(type) {
	case string:
		s.text(path, t)
	case json.Delim:
		if t == '{' {
			s.object = s.object || depth == 0
			return s.members(depth, path)
		}
		for s.d.More() {
			if err := s.value(depth+1, path+"[]"); err != nil {
				return err
			}
		}
		if _, err := s.d.Token(); err != nil {
			return errNotJSON
		}
	}
	return nil
}

func (s *scanner) members(depth int, path string) error {
	seen := map[string]bool{}
	for s.d.More() {
		token, err := s.d.Token()
		name, is := token.(string)
		if err != nil || !is {
			return errNotJSON
		}
		if seen[name] {
			return errTwice
		}
		seen[name] = true
		s.text("", name)
		below := "" // deeper paths are nobody's business
		if depth < 2 {
			below = path + "." + name
		}
		if err := s.value(depth+1, below); err != nil {
			return err
		}
	}
	if _, err := s.d.Token(); err != nil {
		return errNotJSON
	}
	return nil
}

func (s *scanner) text(path, t string) {
	switch path {
	case ".metadata.name":
		s.name = t
	case ".metadata.resourceVersion":
		s.resourceVersion = t
	}
	s.marked = s.marked || strings.Contains(t, jsonmask.Mark) || strings.Contains(t, jsonmask.MarkBase64)
}

// recorded is a body as it may be recorded.
func (b *body) recorded(rules *jsonmask.Rules) []string {
	if b == nil {
		return nil
	}
	list := []string{fmt.Sprintf("body of %d bytes, sha256:%x, %s", len(b.bytes), sha256.Sum256(b.bytes), b.contentType)}
	if rules.Masks() && !b.object {
		return list // a list of changes, whose places are not those of the object
	}
	shown, _, err := rules.Document(b.bytes)
	if err != nil {
		return list
	}
	if len(shown) > maxRecorded {
		shown = append(slices.Clone(shown[:maxRecorded]), "…"...)
	}
	return append(list, strings.ToValidUTF8(string(shown), "?"))
}

func clip(s string) string {
	if len(s) > 128 {
		s = s[:128] + "…"
	}
	return s
}
