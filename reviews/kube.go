package reviews

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// kube reports whether the rule is one for kubernetes connections.
func (r Rule) kube() bool {
	return len(r.Resources)+len(r.Namespaces)+len(r.Names)+len(r.Command) > 0 || r.Cluster
}

// protocol is what the rule is for.
func (r Rule) protocol() string {
	switch {
	case r.ssh():
		return "ssh"
	case r.kube():
		return "kubernetes"
	}
	return "postgres"
}

// kubeWords is what the rule allows, as it follows "may".
func (r Rule) kubeWords() string {
	text := strings.Join(r.Verbs, ", ") + " " + strings.Join(r.Resources, ", ")
	if len(r.Names) > 0 {
		text += " named " + strings.Join(r.Names, ", ")
	}
	switch {
	case len(r.Namespaces) > 0 && r.Cluster:
		text += " in " + strings.Join(r.Namespaces, ", ") + ", and of the whole cluster at once"
	case r.Cluster:
		text += " of the whole cluster"
	default:
		text += " in " + strings.Join(r.Namespaces, ", ")
	}
	if len(r.Command) > 0 {
		words := make([]string, len(r.Command))
		for i, w := range r.Command {
			words[i] = shellWord(w)
		}
		text += ", running " + strings.Join(words, " ")
	}
	return text
}

// Fits reports whether the mask means anything on connections of a protocol.
func (m Mask) Fits(protocol string) bool {
	switch {
	case m.Resource != "" || m.Path != "":
		return protocol == "kubernetes"
	case m.Pattern != "" || m.Detect != "":
		return protocol == "ssh" || protocol == "kubernetes"
	}
	return protocol == "postgres"
}

// maskKinds say which masks a protocol has.
var maskKinds = map[string]string{
	"postgres": "mask columns on postgres", "ssh": "mask patterns or detectors on ssh",
	"kubernetes": "mask a resource's path, patterns or detectors on kubernetes",
}

// kubernetes checks what a connection to a Kubernetes API server has.
func (c *checker) kubernetes(s *ConnectionSpec) {
	c.hostAndPort(&s.Target, "the API server")
	c.tls(&s.Target)
	c.foreign("kubernetes", "spec.target.user", "spec.target.database", "spec.target.hostKeys", "spec.target.privileged",
		"spec.functions", "spec.environment", "spec.hashFunction")
}

var (
	kubeResourceForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9.-]*[a-z0-9])?)?(/[a-z]+)?$`)
	kubePatternForm  = regexp.MustCompile(`^[A-Za-z0-9:@_.-]*\*?[A-Za-z0-9:@_.-]*$`)
)

// kubeStreams are resources that are only ever created, by GET as by POST.
var kubeStreams = []string{"pods/exec", "pods/attach", "pods/portforward"}

// kubeRule checks a rule on a kubernetes connection.
func (c *checker) kubeRule(at string, r Rule) {
	if len(r.On)+len(r.Columns) > 0 {
		c.at(at, "on and columns are for postgres", "write verbs, resources and namespaces")
	}
	if len(r.Verbs) == 0 {
		c.missing(at+".verbs", "write which verbs, such as [get, list, watch]")
	}
	seen := make(map[string]bool)
	for i, v := range r.Verbs {
		path := fmt.Sprintf("%s.verbs[%d]", at, i)
		c.oneOf(path, "verb", v, KubernetesVerbs)
		c.unique(path, "verb", v, seen)
	}
	if len(r.Resources) == 0 {
		c.missing(at+".resources", "write which resources, such as [pods, deployments.apps]")
	}
	seen = make(map[string]bool)
	for i, name := range r.Resources {
		path := fmt.Sprintf("%s.resources[%d]", at, i)
		c.kubeResource(path, name)
		c.unique(path, "resource", name, seen)
		if slices.Contains(kubeStreams, name) && !slices.Equal(r.Verbs, []string{"create"}) {
			c.at(path, name+" is only ever created", "write it into a rule of its own, with verbs: [create]")
		}
	}
	c.kubePatterns(at+".namespaces", "namespace", r.Namespaces)
	c.kubePatterns(at+".names", "name", r.Names)
	if len(r.Namespaces) == 0 && !r.Cluster {
		c.missing(at+".namespaces", "write which namespaces, such as [web-*]; or cluster: true for what has none, and for all of them at once")
	}
	if field := at + ".cluster"; !r.Cluster && c.lines.Has(field) {
		c.at(field, "cluster: false means nothing", "delete it")
	}
	switch execs := slices.Contains(r.Resources, "pods/exec"); {
	case execs && len(r.Resources) > 1:
		c.at(at+".resources", "pods/exec stands in a rule of its own", "write two rules: command is for pods/exec alone")
	case execs && len(r.Command) == 0:
		c.missing(at+".command", `write which command may be run, such as [ls, "**"]; ["**"] is any, a shell too`)
	case !execs && len(r.Command) > 0:
		c.at(at+".command", "command is for pods/exec", "delete it")
	case execs && !slices.Equal(r.Command, []string{"**"}):
		c.shape(at+".command", r.Command)
	}
}

func (c *checker) kubeResource(path, name string) {
	switch {
	case strings.Contains(name, "*"):
		c.at(path, "a rule on everything is not allowed", "name each resource, with its group: deployments.apps")
	case !kubeResourceForm.MatchString(name):
		c.at(path, quote(name)+" is not a resource", "write its plural and its group, such as pods, deployments.apps, pods/log")
	case strings.HasSuffix(name, "/proxy"):
		c.at(path, name+" reaches what is behind it around every rule, so the gateway never serves it", "use pods/portforward")
	case name == "serviceaccounts/token":
		c.at(path, "a service account's token is a credential that goes around the gateway, which never lets one be made", "delete it")
	}
}

func (c *checker) kubePatterns(at, what string, list []string) {
	seen := make(map[string]bool)
	for i, p := range list {
		path := fmt.Sprintf("%s[%d]", at, i)
		if p == "" || !kubePatternForm.MatchString(p) {
			c.at(path, quote(p)+" is not a "+what, "write a name, with at most one * for any characters")
		}
		c.unique(path, what, p, seen)
	}
}

// objectMask checks a mask of a field of Kubernetes objects.
func (c *checker) objectMask(at string, m Mask, seen map[string]bool) {
	if m.Column != "" || m.Pattern != "" || m.Detect != "" {
		c.at(at, "a mask has one of column, pattern, detect, and resource with path", "write several masks")
	}
	switch resource, sub, _ := strings.Cut(m.Resource, "/"); {
	case m.Resource == "":
		c.missing(at+".resource", "write whose field it is, such as configmaps")
	case sub != "" || !kubeResourceForm.MatchString(resource):
		c.at(at+".resource", quote(m.Resource)+" is not a resource", "write its plural and its group, such as configmaps or deployments.apps, without a subresource")
	}
	if m.Path == "" {
		c.missing(at+".path", "write which field, such as .data.password or .spec.template.spec.containers[*].env[*].value")
	} else if _, err := ObjectPath(m.Path); err != nil {
		c.at(at+".path", err.Error(), `write it from the object's top, such as .data.password, .data["tls.key"] or .spec.containers[*].env[*].value`)
	}
	if m.With != "redact" && m.With != "null" {
		c.oneOf(at+".with", "mask", m.With, []string{"redact", "null"})
	}
	if m.Lookup {
		c.at(at+".lookup", "lookup is for columns", "delete it")
	}
	c.unique(at, "mask", m.Names(), seen)
}

// ObjectPath takes the path of a mask apart: names of members, and "*" for every
// member or element. It is the part of JSONPath that names places: .name, ["name"], .* and [*].
func ObjectPath(text string) ([]string, error) {
	rest := strings.TrimPrefix(text, "$")
	if inner, braced := strings.CutPrefix(rest, "{"); braced {
		rest = strings.TrimSuffix(inner, "}")
	}
	var path []string
	for rest != "" {
		found := pathStep.FindStringSubmatch(rest)
		if found == nil {
			return nil, fmt.Errorf("%s is not a path of an object: %q is no step of one", quote(text), rest)
		}
		step := found[1] + found[2] + found[3]
		if strings.HasPrefix(found[0], "[*") {
			step = "*"
		}
		path = append(path, step)
		rest = rest[len(found[0]):]
	}
	if len(path) == 0 || len(path) > 32 {
		return nil, fmt.Errorf("%s is not a path of an object", quote(text))
	}
	return path, nil
}

var pathStep = regexp.MustCompile(`^(?:\.([A-Za-z0-9_$-]+|\*)|\["([^"\\\x00-\x1f]+)"\]|\['([^'\\\x00-\x1f]+)'\]|\[\*\])`)
