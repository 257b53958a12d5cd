package reviews_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/reviews"
)

func kubeConnection(spec string) error {
	_, err := reviews.ParseConnection("connections/prod.yaml", []byte("apiVersion: sallyport.dev/v1\nkind: Connection\nmetadata: {repo: 6f0c2f5e-8f0a-4f6e-9a43-0d3f6a1f8b11, name: prod}\nspec:\n"+
		"  protocol: kubernetes\n  credential: env:TOKEN\n"+spec))
	return err
}

// A field or mask that means nothing on a Kubernetes API server is refused, since it would protect nothing.
func TestKubernetesConnections(t *testing.T) {
	const target = "  target: {host: api.internal}\n"
	for _, good := range []string{
		target, "  target: {host: api.internal, port: 443, ca: /etc/ca.pem, impersonate: true}\n",
		target + "  mask: [{resource: configmaps, path: '.data[\"tls.key\"]', with: redact}, {resource: deployments.apps, path: '.spec.template.spec.containers[*].env[*].value', with: null}]\n",
		target + "  mask: [{pattern: 'tok_[a-z]+', with: redact}, {detect: card, with: redact}]\n",
	} {
		if err := kubeConnection(strings.Replace(good, "with: null", "with: \"null\"", 1)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, says := range map[string]string{
		"  target: {port: 443}\n":                                                              "host",
		"  target: {host: api, user: root}\n":                                                  "has no user",
		"  target: {host: api, database: x}\n":                                                 "has no database",
		"  target: {host: api, privileged: true}\n":                                            "has no privileged",
		"  target: {host: api, tls: disable}\n":                                                "on loopback only",
		target + "  functions: [app.f]\n":                                                      "has no functions",
		target + "  mask: [{column: app.customers.email, with: email}]\n":                      "does not fit protocol kubernetes",
		target + "  mask: [{resource: configmaps, with: redact}]\n":                            "path",
		target + "  mask: [{path: .data, with: redact}]\n":                                     "resource",
		target + "  mask: [{resource: configmaps, path: '.data[?(@.x)]', with: redact}]\n":     "is no step of one",
		target + "  mask: [{resource: configmaps, path: '..data', with: redact}]\n":            "is no step of one",
		target + "  mask: [{resource: configmaps, path: data, with: redact}]\n":                "is no step of one",
		target + "  mask: [{resource: configmaps, path: .data, with: email}]\n":                "email",
		target + "  mask: [{resource: pods/log, path: .data, with: redact}]\n":                 "is not a resource",
		target + "  mask: [{resource: configmaps, path: .data, pattern: x, with: redact}]\n":   "several masks",
		target + "  mask: [{resource: configmaps, path: .data, with: redact, lookup: true}]\n": "lookup is for columns",
	} {
		if err := kubeConnection(bad); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", bad, err, says)
		}
	}
}

func TestKubernetesRules(t *testing.T) {
	review := func(rule string) error {
		_, err := reviews.ParseReview("reviews/prod/r.yaml", []byte("apiVersion: sallyport.dev/v1\nkind: AccessReview\nmetadata: {repo: 6f0c2f5e-8f0a-4f6e-9a43-0d3f6a1f8b11, name: prod/r}\nspec:\n"+
			"  sequence: 1\n  requester: user:alice\n  subject: agent:etl\n  connection: prod\n  justification: {reason: x}\n"+
			"  validity: {notBefore: \"2026-11-23T00:00:00Z\", expires: \"2026-12-23T00:00:00Z\"}\n  allow:\n    - "+rule+"\n"))
		return err
	}
	for _, good := range []string{
		"{verbs: [get, list, watch], resources: [pods, deployments.apps], namespaces: [web-*]}",
		"{verbs: [create], resources: [pods/exec], namespaces: [web-*], command: [ls, \"**\"]}",
		"{verbs: [create], resources: [pods/exec], namespaces: [web-*], command: [\"**\"]}",
		"{verbs: [list], resources: [nodes], cluster: true}",
		"{verbs: [delete], resources: [configmaps], namespaces: [a], cluster: true, names: [\"a*b\"]}",
	} {
		if err := review(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, says := range map[string]string{
		"{resources: [pods], namespaces: [a]}":                                                "verbs",
		"{verbs: [get], namespaces: [a]}":                                                     "resources",
		"{verbs: [get], resources: [pods]}":                                                   "namespaces",
		"{verbs: [select], resources: [pods], namespaces: [a]}":                               "select",
		"{verbs: [get], resources: [\"*\"], namespaces: [a]}":                                 "a rule on everything",
		"{verbs: [get], resources: [\"pods/*\"], namespaces: [a]}":                            "a rule on everything",
		"{verbs: [get], resources: [nodes/proxy], cluster: true}":                             "around every rule",
		"{verbs: [create], resources: [serviceaccounts/token], namespaces: [a]}":              "goes around the gateway",
		"{verbs: [get], resources: [Pods], namespaces: [a]}":                                  "is not a resource",
		"{verbs: [get], resources: [pods], namespaces: [\"a*b*\"]}":                           "is not a namespace",
		"{verbs: [get], resources: [pods], namespaces: [\"\"]}":                               "is not a namespace",
		"{verbs: [create], resources: [pods/exec], namespaces: [a]}":                          "command",
		"{verbs: [get, create], resources: [pods/exec], namespaces: [a], command: [ls]}":      "only ever created",
		"{verbs: [create], resources: [pods/exec, pods], namespaces: [a], command: [ls]}":     "rule of its own",
		"{verbs: [create], resources: [pods], namespaces: [a], command: [ls]}":                "command is for pods/exec",
		"{verbs: [create], resources: [pods/exec], namespaces: [a], command: [\"s*\"]}":       "cannot be a pattern",
		"{verbs: [create], resources: [pods/exec], namespaces: [a], command: [a, \"**\", b]}": "only at the end",
		"{verbs: [get], resources: [pods], namespaces: [a], on: [app.x]}":                     "on and columns are for postgres",
		"{verbs: [get], resources: [pods], namespaces: [a], exec: [ls]}":                      "one of exec",
		"{verbs: [get], resources: [pods], namespaces: [a], cluster: false}":                  "means nothing",
		"{verbs: [get, get], resources: [pods], namespaces: [a]}":                             "twice",
	} {
		if err := review(bad); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", bad, err, says)
		}
	}
}

func TestObjectPath(t *testing.T) {
	for text, want := range map[string][]string{
		".data.password": {"data", "password"}, "$.data": {"data"}, "{.data}": {"data"}, `.data["tls.key"]`: {"data", "tls.key"},
		`.data['a b']`: {"data", "a b"}, ".spec.containers[*].env[*].value": {"spec", "containers", "*", "env", "*", "value"}, ".data.*": {"data", "*"},
	} {
		if got, err := reviews.ObjectPath(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "$", "data", "..data", ".data[0]", ".data[", ".data[?(@.a)]", ".a b", ".data..x", strings.Repeat(".a", 33)} {
		if got, err := reviews.ObjectPath(bad); err == nil {
			t.Errorf("%q is %q", bad, got)
		}
	}
}
