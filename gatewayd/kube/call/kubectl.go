package call

import (
	"net/url"
	"slices"
	"strings"

	"github.com/sallyport-dev/sallyport/policies"
)

// Understand reads a case of a review's examples, or of `sallyport explain`: a
// line as for kubectl, with or without that word, or a method and a path.
//
//	get pods nginx -n web-1              list pods -A -l app=web
//	exec nginx -n web-1 -- ls -l         logs nginx -n web-1
//	scale deployments.apps web -n web-1  GET /api/v1/namespaces/web-1/pods
//
// What it does not understand has a refusal.
func Understand(text string) *Call {
	words := strings.Fields(text)
	if len(words) == 2 && strings.HasPrefix(words[1], "/") && slices.Contains([]string{"GET", "POST", "PUT", "PATCH", "DELETE"}, words[0]) {
		return Parse(words[0], words[1])
	}
	if len(words) > 0 && words[0] == "kubectl" {
		words = words[1:]
	}
	line, problem := readLine(words)
	var method, target string
	if problem == "" {
		method, target, problem = line.request()
	}
	if problem != "" {
		return &Call{statement: text, refusal: &policies.Refusal{Rule: "request_unclear", Reason: problem + "; write for example: get pods nginx -n web-1, exec nginx -n web-1 -- ls, or GET /api/v1/namespaces/web-1/pods"}}
	}
	c := Parse(method, target)
	c.statement = text
	return c
}

// line is a kubectl line taken apart.
type line struct {
	verb      string
	words     []string
	namespace string
	all       bool
	selector  string
	container string
	watch     bool
	typed     bool // -i or -t
	argv      []string
}

func readLine(words []string) (l line, problem string) {
	l.namespace = "default"
	if i := slices.Index(words, "--"); i >= 0 {
		words, l.argv = words[:i], words[i+1:]
	}
	for i := 0; i < len(words); i++ {
		name, value, inline := strings.Cut(words[i], "=")
		take := func() string {
			if inline {
				return value
			}
			i++
			if i < len(words) {
				return words[i]
			}
			problem = name + " needs a value"
			return ""
		}
		switch name {
		case "-n", "--namespace":
			l.namespace = take()
		case "-l", "--selector":
			l.selector = take()
		case "-c", "--container":
			l.container = take()
		case "-A", "--all-namespaces":
			l.all = true
		case "-w", "--watch":
			l.watch = true
		case "-i", "-t", "-it", "-ti", "--stdin", "--tty":
			l.typed = true
		case "-f", "--follow": // of logs: the same to a rule
		default:
			switch {
			case strings.HasPrefix(name, "-"):
				return l, "the flag " + name + " is not known here"
			case l.verb == "":
				l.verb = words[i]
			default:
				l.words = append(l.words, words[i])
			}
		}
	}
	if l.verb == "" {
		problem = "the line is empty"
	}
	return l, problem
}

var methods = map[string]string{"get": "GET", "list": "GET", "watch": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE", "deletecollection": "DELETE", "scale": "PATCH"}

// request is the one request that says what a line is about.
func (l *line) request() (method, target, problem string) {
	query := url.Values{}
	if l.selector != "" {
		query.Set("labelSelector", l.selector)
	}
	on := func(subresource string) (string, string, string) {
		if len(l.words) != 1 {
			return "", "", l.verb + " needs the name of one pod"
		}
		if l.container != "" {
			query.Set("container", l.container)
		}
		path := "/api/v1/namespaces/" + l.namespace + "/pods/" + strings.TrimPrefix(l.words[0], "pod/") + "/" + subresource
		return map[string]string{"log": "GET"}[subresource], path + encoded(query), ""
	}
	switch l.verb {
	case "exec":
		query["command"] = l.argv
		if l.typed {
			query.Set("stdin", "true")
		}
		_, target, problem = on("exec")
		return "POST", target, problem
	case "attach":
		_, target, problem = on("attach")
		return "POST", target, problem
	case "port-forward":
		if len(l.words) > 1 { // the ports, which no rule can tell apart
			l.words = l.words[:1]
		}
		_, target, problem = on("portforward")
		return "POST", target, problem
	case "logs":
		return on("log")
	}
	method = methods[l.verb]
	if method == "" {
		return "", "", "the verb " + l.verb + " is not known here"
	}
	if l.verb == "watch" || l.watch {
		query.Set("watch", "true")
	}
	path, problem := l.path(query)
	return method, path + encoded(query), problem
}

func encoded(query url.Values) string {
	if len(query) == 0 {
		return ""
	}
	return "?" + query.Encode()
}

// path is that of a resource, and of the object where the line names one.
func (l *line) path(query url.Values) (path, problem string) {
	if len(l.words) == 0 || len(l.words) > 2 {
		return "", l.verb + " needs a resource, and at most one name"
	}
	words := l.words
	full, sub, _ := strings.Cut(words[0], "/")
	if sub != "" && len(words) == 1 { // pod/nginx
		words, sub = []string{full, sub}, ""
	}
	resource := known(full)
	kind, group, _ := strings.Cut(resource, ".")
	path = "/api/v1"
	if group != "" {
		path = "/apis/" + group + "/v1"
	}
	if !l.all && !slices.Contains(clusterScoped, resource) {
		path += "/namespaces/" + l.namespace
	}
	path += "/" + kind
	switch named := len(words) == 2; {
	case named && (query.Has("watch") || l.verb == "list"):
		query.Set("fieldSelector", "metadata.name="+words[1])
	case named && l.verb == "create": // the name is in the body, which a line does not have
	case named:
		path += "/" + words[1]
		if l.verb == "scale" {
			sub = "scale"
		}
		if sub != "" {
			path += "/" + sub
		}
	}
	return path, ""
}

// clusterScoped are resources without a namespace, so that a line about them need not say so.
var clusterScoped = []string{
	"nodes", "namespaces", "persistentvolumes", "clusterroles.rbac.authorization.k8s.io", "clusterrolebindings.rbac.authorization.k8s.io",
	"customresourcedefinitions.apiextensions.k8s.io", "storageclasses.storage.k8s.io", "ingressclasses.networking.k8s.io", "priorityclasses.scheduling.k8s.io",
}

// short are the names that people write for resources.
var short = map[string]string{
	"pod": "pods", "po": "pods", "service": "services", "svc": "services", "secret": "secrets", "configmap": "configmaps", "cm": "configmaps",
	"namespace": "namespaces", "ns": "namespaces", "node": "nodes", "no": "nodes", "event": "events", "ev": "events",
	"serviceaccount": "serviceaccounts", "sa": "serviceaccounts", "pvc": "persistentvolumeclaims", "pv": "persistentvolumes", "endpoint": "endpoints",
	"deployment": "deployments.apps", "deployments": "deployments.apps", "deploy": "deployments.apps",
	"statefulset": "statefulsets.apps", "statefulsets": "statefulsets.apps", "sts": "statefulsets.apps",
	"daemonset": "daemonsets.apps", "daemonsets": "daemonsets.apps", "ds": "daemonsets.apps",
	"replicaset": "replicasets.apps", "replicasets": "replicasets.apps", "rs": "replicasets.apps",
	"job": "jobs.batch", "jobs": "jobs.batch", "cronjob": "cronjobs.batch", "cronjobs": "cronjobs.batch", "cj": "cronjobs.batch",
	"ingress": "ingresses.networking.k8s.io", "ingresses": "ingresses.networking.k8s.io", "ing": "ingresses.networking.k8s.io",
}

func known(word string) string {
	if full := short[strings.ToLower(word)]; full != "" {
		return full
	}
	return word
}
