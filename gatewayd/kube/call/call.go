// Package call understands what a client asks of a Kubernetes API server: a
// method, a path and its query become verb, resource, namespace, name and argv.
// It knows no wire and no policy; kube and the command line tool share it.
//
// It reads paths as the API server's RequestInfo does (a test compares), and
// refuses what that would have to guess at: escapes, empty and dotted parts,
// paths that belong to no known shape, parameters that are unknown there or given
// twice. So what is decided on is what the server will do.
package call

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sallyport-dev/sallyport/policies"
)

// Protocol is what commands of this package carry.
const Protocol = "kubernetes"

// Kind is how a call is answered.
type Kind int

const (
	Document    Kind = iota // one JSON document
	Watch                   // JSON documents without an end
	Log                     // text, perhaps without an end
	Exec                    // streams of a new process
	Attach                  // streams of a process that runs already
	PortForward             // bytes that nobody looks at
	Discovery               // what the server serves; names no object
)

// Call is one request. The zero value is none.
type Call struct {
	Kind        Kind
	Verb        string // get, list, watch, create, update, patch, delete or deletecollection; "" for Discovery
	Resource    string // "pods", "deployments.apps"; with the group unless that is the core's
	Subresource string // "exec", "status" …
	Namespace   string // "" for what has none, and for all namespaces at once
	Name        string // "" when the call names no object, or all
	Argv        []string
	Terminal    bool // an exec or attach that is typed at
	DryRun      bool
	creates     bool // an update or patch that may create the object
	refusal     *policies.Refusal
	statement   string
}

// Rules are the ids of the refusals of this package.
func Rules() []string {
	return []string{"request_unclear", "api_unknown", "proxy_refused", "token_refused"}
}

// maxTarget bounds path and query, in bytes. Selectors of controllers get long; nothing else does.
const maxTarget = 32 << 10

var (
	segmentForm  = regexp.MustCompile(`^[A-Za-z0-9:@_.-]+$`)
	groupForm    = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)
	versionForm  = regexp.MustCompile(`^v[0-9]+((alpha|beta)[0-9]+)?$`)
	resourceForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
)

// Parse reads the target of a request: path and query, as they came. It always
// returns a Call whose Command can be decided on; what is not understood has a refusal.
func Parse(method, target string) *Call {
	c := &Call{statement: method + " " + clip(target)}
	c.refusal = c.parse(method, target)
	return c
}

func clip(s string) string {
	if len(s) > maxTarget {
		s = s[:256] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}

func unclear(format string, args ...any) *policies.Refusal {
	return &policies.Refusal{Rule: "request_unclear", Reason: fmt.Sprintf(format, args...)}
}

func unknown(format string, args ...any) *policies.Refusal {
	return &policies.Refusal{Rule: "api_unknown", Reason: fmt.Sprintf(format, args...)}
}

func (c *Call) parse(method, target string) *policies.Refusal {
	if len(target) > maxTarget {
		return unclear("the path and the query have %d bytes, and at most %d are looked at", len(target), maxTarget)
	}
	path, rawQuery, _ := strings.Cut(target, "?")
	parts := strings.Split(path, "/")
	if parts[0] != "" || len(parts) < 2 {
		return unclear("the path does not begin with a slash")
	}
	parts = parts[1:]
	for _, p := range parts {
		if !segmentForm.MatchString(p) || p == "." || p == ".." {
			return unclear("the path has an empty, dotted or escaped part, so that it could be read in several ways")
		}
	}
	query, refusal := parseQuery(rawQuery)
	if refusal != nil {
		return refusal
	}
	if refusal := c.route(method, parts, query); refusal != nil {
		return refusal
	}
	return c.parameters(query)
}

// parseQuery is stricter than url.ParseQuery: no semicolons, and only text.
func parseQuery(raw string) (url.Values, *policies.Refusal) {
	query, err := url.ParseQuery(raw)
	if err != nil || strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }) { // which some take for the end
		return nil, unclear("the query cannot be read") // the cause may quote it
	}
	for name, values := range query {
		for _, v := range append(values, name) {
			if !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
				return nil, unclear("the query is not text")
			}
		}
	}
	return query, nil
}

// route finds what the path is about.
func (c *Call) route(method string, parts []string, query url.Values) *policies.Refusal {
	if discovers(parts) {
		c.Kind = Discovery
		if method != http.MethodGet {
			return unknown("%s can only be read", "/"+strings.Join(parts, "/"))
		}
		return nil
	}
	group, rest := "", parts
	switch {
	case parts[0] == "api" && len(parts) > 2 && versionForm.MatchString(parts[1]):
		rest = parts[2:]
	case parts[0] == "apis" && len(parts) > 3 && groupForm.MatchString(parts[1]) && strings.Contains(parts[1], ".") && versionForm.MatchString(parts[2]),
		parts[0] == "apis" && len(parts) > 3 && slices.Contains(plainGroups, parts[1]) && versionForm.MatchString(parts[2]):
		group, rest = parts[1], parts[3:]
	default:
		return unknown("/%s is no path of the Kubernetes API that is served here", strings.Join(parts, "/"))
	}
	if rest[0] == "watch" || rest[0] == "proxy" {
		return unknown("the paths …/%s/… are not served: they are older than ?watch=true and subresources", rest[0])
	}
	if rest[0] == "namespaces" && len(rest) > 2 && rest[2] == "namespaces" {
		return unknown("there is no namespace within a namespace")
	}
	return c.resource(method, group, c.namespaced(rest), query)
}

// plainGroups are the groups without a dot, which are older than the rule that there is one.
var plainGroups = []string{"apps", "autoscaling", "batch", "extensions", "policy"}

// discovers reports whether a path says what the server serves.
func discovers(parts []string) bool {
	switch parts[0] {
	case "version":
		return len(parts) == 1
	case "api":
		return len(parts) == 1 || len(parts) == 2 && versionForm.MatchString(parts[1])
	case "apis":
		return len(parts) <= 2 || len(parts) == 3 && versionForm.MatchString(parts[2])
	case "openapi":
		return len(parts) == 2 && parts[1] == "v2" || len(parts) >= 2 && len(parts) <= 5 && parts[1] == "v3"
	}
	return false
}

// namespaced takes the namespace from the beginning of a path.
func (c *Call) namespaced(rest []string) []string {
	if rest[0] != "namespaces" || len(rest) == 1 {
		return rest
	}
	c.Namespace = rest[1]
	if len(rest) == 2 || rest[2] == "status" || rest[2] == "finalize" {
		return rest
	}
	return rest[2:]
}

// resource reads RESOURCE[/NAME[/SUBRESOURCE]].
func (c *Call) resource(method, group string, rest []string, query url.Values) *policies.Refusal {
	if !resourceForm.MatchString(rest[0]) {
		return unknown("%q is not the name of a resource", rest[0])
	}
	c.Resource = rest[0]
	if group != "" {
		c.Resource += "." + group
	}
	if len(rest) > 1 {
		c.Name = rest[1]
	}
	if len(rest) > 2 {
		c.Subresource = rest[2]
		if c.Subresource == "proxy" {
			return &policies.Refusal{Rule: "proxy_refused", Reason: c.Resource + "/proxy reaches what is behind it around every rule, so it is never served; use port-forward where a review allows that"}
		}
	}
	if len(rest) > 3 {
		return unknown("nothing is known below %s/%s", c.Resource, c.Subresource)
	}
	if c.Subresource != "" {
		return c.subresource(method)
	}
	return c.verb(method, query)
}

// subresources lists what may be done with each, as verbs by method. Those of "" are there for every resource.
var subresources = map[string]map[string][]string{
	"": {
		"status": {"GET", "PUT", "PATCH"},
		"scale":  {"GET", "PUT", "PATCH"},
	},
	"namespaces": {"finalize": {"PUT"}},
	"pods": {
		"log": {"GET"}, "exec": {"GET", "POST"}, "attach": {"GET", "POST"}, "portforward": {"GET", "POST"},
		"eviction": {"POST"}, "binding": {"POST"},
		"ephemeralcontainers": {"GET", "PUT", "PATCH"}, "resize": {"GET", "PUT", "PATCH"},
	},
	"certificatesigningrequests.certificates.k8s.io": {"approval": {"GET", "PUT", "PATCH"}},
	"serviceaccounts": {"token": {"POST"}},
}

var kinds = map[string]Kind{"log": Log, "exec": Exec, "attach": Attach, "portforward": PortForward}

func (c *Call) subresource(method string) *policies.Refusal {
	methods, known := subresources[c.Resource][c.Subresource]
	if !known {
		methods, known = subresources[""][c.Subresource]
	}
	if !known || !slices.Contains(methods, method) {
		return unknown("%s on %s/%s is not known here", method, c.Resource, c.Subresource)
	}
	if c.Subresource == "token" {
		return &policies.Refusal{Rule: "token_refused", Reason: "a service account's token is a credential that goes around the gateway, so none is ever made through it"}
	}
	c.Kind = kinds[c.Subresource]
	switch {
	case c.Kind == Exec || c.Kind == Attach || c.Kind == PortForward: // by GET and by POST the same
		c.Verb = "create"
	default:
		c.Verb = map[string]string{"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch"}[method]
	}
	return nil
}

func (c *Call) verb(method string, query url.Values) *policies.Refusal {
	named := c.Name != ""
	switch {
	case method == "GET" && named:
		c.Verb = "get"
	case method == "GET":
		return c.listOrWatch(query)
	case method == "POST" && !named:
		c.Verb = "create"
	case method == "PUT" && named:
		c.Verb = "update"
	case method == "PATCH" && named:
		c.Verb = "patch"
	case method == "DELETE" && named:
		c.Verb = "delete"
	case method == "DELETE":
		c.Verb = "deletecollection"
	default:
		return unknown("%s is not known on this path", clip(method))
	}
	return nil
}

func (c *Call) listOrWatch(query url.Values) *policies.Refusal {
	c.Verb = "list"
	if values, there := query["watch"]; there {
		switch {
		case len(values) == 1 && (values[0] == "true" || values[0] == "1"):
			c.Verb, c.Kind = "watch", Watch
		case len(values) == 1 && (values[0] == "false" || values[0] == "0"):
		default:
			return unclear("watch has to be true or false, once")
		}
	}
	c.Name = selectedName(query["fieldSelector"])
	return nil
}

// selectedName is the one name that a field selector asks for; "" when it may be any.
func selectedName(selectors []string) string {
	if len(selectors) != 1 || strings.Contains(selectors[0], `\`) {
		return ""
	}
	name := ""
	for term := range strings.SplitSeq(selectors[0], ",") {
		field, value, found := strings.Cut(term, "=")
		if !found || field != "metadata.name" {
			continue
		}
		value = strings.TrimPrefix(value, "=")
		if name != "" || !segmentForm.MatchString(value) {
			return ""
		}
		name = value
	}
	return name
}

var (
	listing   = []string{"labelSelector", "fieldSelector", "resourceVersion", "resourceVersionMatch", "timeoutSeconds", "limit", "continue", "includeObject"}
	watching  = []string{"watch", "allowWatchBookmarks", "sendInitialEvents"}
	writing   = []string{"dryRun", "fieldManager", "fieldValidation", "force"}
	deleting  = []string{"dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"}
	logging   = []string{"container", "follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream"}
	streaming = []string{"command", "container", "stdin", "stdout", "stderr", "tty"}
	repeated  = []string{"command", "ports"}
)

// known are the parameters that the call may have.
func (c *Call) known() []string {
	switch {
	case c.Kind == Discovery:
		return []string{"hash"}
	case c.Kind == Log:
		return logging
	case c.Kind == Exec:
		return streaming
	case c.Kind == Attach:
		return streaming[1:]
	case c.Kind == PortForward:
		return []string{"ports"}
	}
	switch c.Verb {
	case "get":
		return []string{"resourceVersion", "includeObject"}
	case "list", "watch":
		return slices.Concat(listing, watching)
	case "delete":
		return deleting
	case "deletecollection":
		return slices.Concat(listing, deleting)
	}
	return writing
}

func (c *Call) parameters(query url.Values) *policies.Refusal {
	known := c.known()
	for name, values := range query {
		if !slices.Contains(known, name) && name != "pretty" && name != "timeout" {
			return unclear("the parameter %q is not known on this path", clip(name))
		}
		if len(values) > 1 && !slices.Contains(repeated, name) {
			return unclear("the parameter %s is there twice", name)
		}
	}
	on := func(name string) bool { v := query.Get(name); return v == "true" || v == "1" }
	c.DryRun = query.Get("dryRun") != ""
	if c.Kind == Exec {
		c.Argv = query["command"]
		if len(c.Argv) == 0 || c.Argv[0] == "" {
			return unclear("the exec names no command")
		}
	}
	c.Terminal = c.Kind == Attach || c.Kind == Exec && (on("stdin") || on("tty"))
	return nil
}

// Refused is why the call cannot be served whatever a review says; nil when it can.
func (c *Call) Refused() *policies.Refusal { return c.refusal }

// Refuse gives a call that was understood another refusal: of its body, say.
func (c *Call) Refuse(r *policies.Refusal) {
	if c.refusal == nil {
		c.refusal = r
	}
}

// Creates says that an update or a patch makes the object when it is not there.
func (c *Call) Creates() { c.creates = true }

// FullResource is resource and subresource: "pods/exec".
func (c *Call) FullResource() string {
	if c.Subresource == "" {
		return c.Resource
	}
	return c.Resource + "/" + c.Subresource
}

// Statement is the call as it is recorded.
func (c *Call) Statement() string { return c.statement }

// Command is what is decided on.
func (c *Call) Command() policies.Command {
	command := policies.Command{Protocol: Protocol, Statement: c.statement, Effects: []policies.Effect{}, Refusal: c.refusal}
	if c.Kind == Discovery || c.Verb == "" {
		return command
	}
	verbs := []string{c.Verb}
	if c.creates {
		verbs = append(verbs, "create")
	}
	for _, verb := range verbs {
		command.Effects = append(command.Effects, policies.Effect{
			Verb: verb, Object: c.where(), Resource: c.FullResource(), Namespace: c.Namespace, Name: c.Name, Argv: c.Argv,
		})
	}
	return command
}

// where is the object in words.
func (c *Call) where() string {
	if c.Namespace == "" {
		return c.FullResource() + " of the whole cluster"
	}
	return c.FullResource() + " in " + c.Namespace
}
