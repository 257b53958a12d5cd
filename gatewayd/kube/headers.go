package kube

import (
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/sallyport-dev/sallyport/gatewayd/kube/call"
)

// refusal is a rule and a reason, of what the engine itself does not serve.
type refusal struct{ rule, reason string }

// checkHeaders refuses what could mean something to an API server behind the gateway's back. Nothing
// of it would be passed on anyway: a client is told instead of misunderstood.
func checkHeaders(r *http.Request, c *call.Call) *refusal {
	for name := range r.Header {
		lower := strings.ToLower(name)
		switch {
		case strings.HasPrefix(lower, "impersonate-"):
			return &refusal{"impersonation_refused", "the request asks to act as somebody else (" + printable(name) + "): who asks is who the review is for"}
		case strings.HasPrefix(lower, "x-remote-"):
			return &refusal{"impersonation_refused", "the header " + printable(name) + " is for proxies that an API server trusts, and is never taken from a client"}
		case strings.HasPrefix(lower, "proxy-"), lower == "te" && r.Header.Get(name) != "trailers", lower == "trailer":
			return &refusal{"header_refused", "the header " + printable(name) + " is not taken"}
		}
	}
	upgrade := false
	for _, value := range r.Header.Values("Connection") {
		for token := range strings.SplitSeq(value, ",") {
			switch strings.ToLower(strings.TrimSpace(token)) {
			case "keep-alive", "close", "":
			case "upgrade":
				upgrade = true
			default:
				return &refusal{"header_refused", "the header Connection names others, so that they could get lost on the way"}
			}
		}
	}
	switch streams := c.Kind == call.Exec || c.Kind == call.Attach || c.Kind == call.PortForward; {
	case (upgrade || r.Header.Get("Upgrade") != "") && !streams:
		return &refusal{"header_refused", "only exec, attach and port-forward take over a connection"}
	case streams && r.Method == http.MethodPost, streams && !isWebSocket(r.Header):
		return nil // refused once it is known whether a review allows it
	}
	if r.URL.Host != "" || r.URL.Scheme != "" {
		return &refusal{"request_unclear", "the request names a host in its first line, as for a proxy"}
	}
	return nil
}

func isWebSocket(h http.Header) bool {
	return strings.EqualFold(h.Get("Upgrade"), "websocket") && len(h.Values("Upgrade")) == 1
}

// groupVersions are the forms of an answer that are made for people and caches.
var forms = []string{"Table", "PartialObjectMetadata", "PartialObjectMetadataList"}

// accept is what the API server is asked for: of what the client takes, that which the gateway can read. It is "" when there is nothing.
func accept(values []string, tables bool) string {
	if len(values) == 0 {
		return "application/json"
	}
	var list []string
	add := func(s string) {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	for one := range strings.SplitSeq(strings.Join(values, ","), ",") {
		kind, parameters, err := mime.ParseMediaType(one)
		if err != nil {
			continue
		}
		switch form := parameters["as"]; {
		case kind == "*/*", kind == "application/*", kind == "application/json" && form == "":
			add("application/json")
		case kind == "application/json" && slices.Contains(forms, form) && parameters["g"] == "meta.k8s.io" && (parameters["v"] == "v1" || parameters["v"] == "v1beta1"):
			if form != "Table" || tables {
				add("application/json;as=" + form + ";g=meta.k8s.io;v=" + parameters["v"])
			}
		}
	}
	return strings.Join(list, ",")
}
