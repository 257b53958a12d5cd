package reviews

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// JSON is the review as policies see it: {"apiVersion", "kind", "metadata",
// "spec", "name", "sha256"}, with defaults filled in. Each call makes a new value.
func (r *Review) JSON() map[string]any {
	return normalised(KindReview, r.Metadata, r.Spec, r.Source)
}

// JSON is the connection as policies see it, in the same form as a review. The
// credential is left out: policies do not need to know where it comes from.
func (c *Connection) JSON() map[string]any {
	spec := c.Spec
	spec.Credential = ""
	v := normalised(KindConnection, c.Metadata, spec, c.Source)
	delete(v["spec"].(map[string]any), "credential")
	return v
}

// Expired reports whether the review's time is over. A review is valid from
// notBefore, inclusive, until expires, exclusive.
func (r *Review) Expired(now time.Time) bool { return !now.Before(r.Spec.Validity.Expires) }

// Masks are those of a session under the review: the connection's without what
// the review unmasks or says again with lookup, then the review's own.
func (r *Review) Masks(c *Connection) []Mask {
	var masks []Mask
	for _, m := range c.Spec.Mask {
		if !slices.Contains(r.Spec.Unmask, m.Column) && !slices.ContainsFunc(r.Spec.Mask, func(own Mask) bool { return own.Lookup && own.Column == m.Column && own.With == m.With }) {
			masks = append(masks, m)
		}
	}
	return append(masks, r.Spec.Mask...)
}

// Unmasks reports whether the review shows a column that would be masked without it, or lets
// rows be looked up by one.
func (r *Review) Unmasks() bool {
	return len(r.Spec.Unmask) > 0 || slices.ContainsFunc(r.Spec.Mask, func(m Mask) bool { return m.Lookup })
}

// Started reports whether the review's time has begun.
func (r *Review) Started(now time.Time) bool { return !now.Before(r.Spec.Validity.NotBefore) }

// normalised goes through encoding/json, so that Rego sees exactly the json tags.
func normalised(kind Kind, metadata Metadata, spec any, source Source) map[string]any {
	b, err := json.Marshal(map[string]any{
		"apiVersion": APIVersion,
		"kind":       kind,
		"metadata":   metadata,
		"spec":       spec,
		"name":       metadata.Name,
		"sha256":     source.SHA256,
	})
	if err != nil {
		panic(fmt.Sprintf("reviews: marshal a %s: %v", kind, err)) // plain data always marshals
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v map[string]any
	if err := dec.Decode(&v); err != nil {
		panic(fmt.Sprintf("reviews: unmarshal a %s: %v", kind, err))
	}
	return withoutNulls(v).(map[string]any)
}

// withoutNulls drops members that are null, so that a policy sees a field or does not.
func withoutNulls(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if member == nil {
				delete(v, name)
				continue
			}
			v[name] = withoutNulls(member)
		}
	case []any:
		for i := range v {
			v[i] = withoutNulls(v[i])
		}
	}
	return v
}
