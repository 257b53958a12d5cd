package call

import (
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/policies"
)

// The hostile rows: whatever could be read in two ways, or reaches around the rules, is refused, by every method.
func TestRefusesWhatIsUnclear(t *testing.T) {
	rows := map[string][]string{
		"request_unclear": {
			"", "/", "api", "http://elsewhere/api/v1/pods", "//api/v1/pods", "/api//v1/pods", "/api/v1/pods/", "/api/v1/namespaces/a/../b/pods",
			"/api/v1/./pods", "/api/v1/namespaces/a/pods/%2e%2e", "/api/v1/namespaces/a%2fb/pods", "/api/v1/pods%00", "/api/v1/pods;x=1",
			"/api/v1/namespaces/a/pods/x;y=1", "/api/v1/namespaces/a/%70ods", "/api/v1/pods#x", `/api/v1\pods`, "/api/v1/namespaces/ä/pods",
			"/api/v1/pods?watch=true&watch=false", "/api/v1/pods?watch", "/api/v1/pods?watch=", "/api/v1/pods?watch=yes", "/api/v1/pods?watch=TRUE",
			"/api/v1/pods?fieldSelector=a&fieldSelector=b", "/api/v1/pods?limit=1;watch=true", "/api/v1/pods?%zz", "/api/v1/pods?limit=%00", "/api/v1/pods?limit=%ff", "/api/v1/pods?limit=1#x", "/api/v1/namespaces/a/pods/x/exec?command=ls#x", "/api/v1/pods?limit=ä", "/api/v1/pods?limit=1 2",
			"/api/v1/pods?as=admin", "/api/v1/namespaces/a/pods/x?watch=true", "/api/v1/namespaces/a/pods/x/log?insecureSkipTLSVerifyBackend=true",
			"/api/v1/namespaces/a/pods/x/exec", "/api/v1/namespaces/a/pods/x/exec?command=", "/api/v1/namespaces/a/pods/x/exec?command=ls&container=a&container=b",
			"/api/v1/namespaces/a/pods/x/attach?command=ls", "/api/v1/pods?x=" + strings.Repeat("a", maxTarget), "/version?watch=true",
		},
		"api_unknown": {
			"/healthz", "/metrics", "/logs/x", "/debug/pprof", "/api/v1/watch/pods", "/api/v1/watch/namespaces/a/secrets", "/apis/apps/v1/watch/deployments",
			"/api/v1/proxy/nodes/n", "/api/v1x/pods", "/apis/nodot/v1/things", "/apis/apps/pods/x/y", "/API/v1/pods", "/api/V1/pods", "/api/v1/Pods",
			"/api/v1/namespaces/a/pods/x/unheard", "/api/v1/namespaces/a/pods/x/exec/y", "/api/v1/namespaces/a/pods/x/log/y", "/api/v1/nodes/n/exec",
			"/apis/metrics.k8s.io/v1beta1/namespaces/a/pods/x/exec", "/api/v1/namespaces/a/namespaces/b", "/api/v1/namespaces/a/namespaces/a", "/api/v1/namespaces/a/namespaces", "/apis/apps/v1/namespaces/a/deployments/x/log",
			"/.well-known/openid-configuration", "/openid/v1/jwks", "/openapi", "/openapi/v4", "/apis/a/b/c/d",
		},
		"proxy_refused": {
			"/api/v1/nodes/n/proxy", "/api/v1/nodes/n/proxy/exec/a/b/c", "/api/v1/namespaces/a/services/x/proxy/y", "/api/v1/namespaces/a/services/https:x:443/proxy",
			"/api/v1/namespaces/a/pods/x/proxy", "/apis/apps/v1/namespaces/a/deployments/x/proxy/y",
		},
	}
	for rule, targets := range rows {
		for _, target := range targets {
			for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "get", "PROPFIND"} {
				c := Parse(method, target)
				r := c.Command().Refusal
				if r == nil {
					t.Errorf("%s %s is taken for %q %q", method, target, c.Verb, c.FullResource())
				} else if method == "GET" && r.Rule != rule {
					t.Errorf("%s %s: %s (%s), want %s", method, target, r.Rule, r.Reason, rule)
				}
			}
		}
	}
}

func TestRefusesMethodsThatMeanNothing(t *testing.T) {
	const ns = "/api/v1/namespaces/a/"
	for _, row := range []struct{ method, target string }{
		{"POST", ns + "pods/x"}, {"PUT", ns + "pods"}, {"PATCH", ns + "pods"}, {"HEAD", ns + "pods/x"}, {"OPTIONS", ns + "pods"},
		{"DELETE", ns + "pods/x/exec"}, {"PUT", ns + "pods/x/exec?command=ls"}, {"POST", ns + "pods/x/log"}, {"POST", ns + "pods/x/status"},
		{"POST", "/version"}, {"DELETE", "/api/v1"}, {"GET", ns + "serviceaccounts/x/token"}, {"TRACE", "/apis"},
	} {
		if r := Parse(row.method, row.target).Command().Refusal; r == nil || r.Rule != "api_unknown" {
			t.Errorf("%s %s: %+v, want api_unknown", row.method, row.target, r)
		}
	}
	if r := Parse("POST", ns+"serviceaccounts/default/token").Command().Refusal; r == nil || r.Rule != "token_refused" {
		t.Errorf("a token can be made: %+v", r)
	}
}

func TestUnderstands(t *testing.T) {
	for _, row := range []struct {
		method, target string
		kind           Kind
		effect         policies.Effect
	}{
		{"GET", "/api/v1/pods", Document, policies.Effect{Verb: "list", Resource: "pods"}},
		{"GET", "/api/v1/pods?watch=1", Watch, policies.Effect{Verb: "watch", Resource: "pods"}},
		{"GET", "/api/v1/pods?watch=false", Document, policies.Effect{Verb: "list", Resource: "pods"}},
		{"GET", "/api/v1/namespaces", Document, policies.Effect{Verb: "list", Resource: "namespaces"}},
		{"GET", "/api/v1/namespaces/a", Document, policies.Effect{Verb: "get", Resource: "namespaces", Namespace: "a", Name: "a"}},
		{"DELETE", "/api/v1/namespaces/a", Document, policies.Effect{Verb: "delete", Resource: "namespaces", Namespace: "a", Name: "a"}},
		{"PUT", "/api/v1/namespaces/a/finalize", Document, policies.Effect{Verb: "update", Resource: "namespaces/finalize", Namespace: "a", Name: "a"}},
		{"GET", "/api/v1/namespaces/a/secrets/x?pretty=true", Document, policies.Effect{Verb: "get", Resource: "secrets", Namespace: "a", Name: "x"}},
		{"GET", "/api/v1/namespaces/a/secrets?fieldSelector=metadata.name%3Dx", Document, policies.Effect{Verb: "list", Resource: "secrets", Namespace: "a", Name: "x"}},
		{"GET", "/api/v1/namespaces/a/secrets?fieldSelector=type%3Da,metadata.name%3D%3Dx", Document, policies.Effect{Verb: "list", Resource: "secrets", Namespace: "a", Name: "x"}},
		{"GET", "/api/v1/namespaces/a/secrets?fieldSelector=metadata.name!%3Dx", Document, policies.Effect{Verb: "list", Resource: "secrets", Namespace: "a"}},
		{"GET", `/api/v1/namespaces/a/secrets?fieldSelector=metadata.name%3Dx%5C,y`, Document, policies.Effect{Verb: "list", Resource: "secrets", Namespace: "a"}},
		{"GET", "/api/v1/namespaces/a/secrets?fieldSelector=metadata.name%3Dx,metadata.name%3Dy", Document, policies.Effect{Verb: "list", Resource: "secrets", Namespace: "a"}},
		{"DELETE", "/api/v1/namespaces/a/pods?labelSelector=a%3Db", Document, policies.Effect{Verb: "deletecollection", Resource: "pods", Namespace: "a"}},
		{"PATCH", "/apis/apps/v1/namespaces/a/deployments/x/scale?fieldManager=k", Document, policies.Effect{Verb: "patch", Resource: "deployments.apps/scale", Namespace: "a", Name: "x"}},
		{"GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node", Document, policies.Effect{Verb: "get", Resource: "clusterroles.rbac.authorization.k8s.io", Name: "system:node"}},
		{"GET", "/api/v1/namespaces/a/pods/x/log?follow=true", Log, policies.Effect{Verb: "get", Resource: "pods/log", Namespace: "a", Name: "x"}},
		{"GET", "/api/v1/namespaces/a/pods/x/attach?stdin=true", Attach, policies.Effect{Verb: "create", Resource: "pods/attach", Namespace: "a", Name: "x"}},
		{"GET", "/api/v1/namespaces/a/pods/x/portforward?ports=1&ports=2", PortForward, policies.Effect{Verb: "create", Resource: "pods/portforward", Namespace: "a", Name: "x"}},
		{"POST", "/api/v1/namespaces/a/pods/x/eviction", Document, policies.Effect{Verb: "create", Resource: "pods/eviction", Namespace: "a", Name: "x"}},
	} {
		c := Parse(row.method, row.target)
		command := c.Command()
		if command.Refusal != nil || len(command.Effects) != 1 || c.Kind != row.kind {
			t.Errorf("%s %s: kind %d, %+v", row.method, row.target, c.Kind, command)
			continue
		}
		got := command.Effects[0]
		got.Object = ""
		if effectText(got) != effectText(row.effect) {
			t.Errorf("%s %s: %+v, want %+v", row.method, row.target, got, row.effect)
		}
	}
}

func effectText(e policies.Effect) string {
	return strings.Join(append([]string{e.Verb, e.Object, e.Resource, e.Namespace, e.Name}, e.Argv...), "|")
}

// An exec is one and the same command, by GET (WebSocket) and by POST (SPDY).
func TestExecIsOneCommandByEveryMethod(t *testing.T) {
	const target = "/api/v1/namespaces/a/pods/x/exec?command=ls&command=-l&container=c&stdout=true"
	get, post := Parse("GET", target).Command(), Parse("POST", target).Command()
	if get.Refusal != nil || post.Refusal != nil || effectText(get.Effects[0]) != effectText(post.Effects[0]) {
		t.Fatalf("%+v and %+v", get, post)
	}
	if want := "create|pods/exec in a|pods/exec|a|x|ls|-l"; effectText(get.Effects[0]) != want {
		t.Errorf("%s, want %s", effectText(get.Effects[0]), want)
	}
}

func TestDiscoveryTouchesNothing(t *testing.T) {
	for _, target := range []string{"/version", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/openapi/v2", "/openapi/v3", "/openapi/v3/apis/apps/v1?hash=AB", "/apis?timeout=32s"} {
		c := Parse("GET", target)
		if command := c.Command(); command.Refusal != nil || len(command.Effects) != 0 || c.Kind != Discovery {
			t.Errorf("%s: %+v", target, command)
		}
	}
}

// Lines of examples mean what kubectl would ask for.
func TestUnderstandsLines(t *testing.T) {
	for text, want := range map[string]string{
		"get pods nginx -n web-1":                       "get|pods|web-1|nginx",
		"kubectl get po -n web-1":                       "list|pods|web-1|",
		"get pod/nginx":                                 "get|pods|default|nginx",
		"list secrets -A":                               "list|secrets||",
		"get secrets x -n a -w":                         "watch|secrets|a|x",
		"watch deploy -n a":                             "watch|deployments.apps|a|",
		"get nodes":                                     "list|nodes||",
		"delete deploy web -n a":                        "delete|deployments.apps|a|web",
		"delete pods -n a -l app=web":                   "deletecollection|pods|a|",
		"scale deployments.apps web -n a":               "patch|deployments.apps/scale|a|web",
		"patch deploy web -n a":                         "patch|deployments.apps|a|web",
		"create configmaps -n a":                        "create|configmaps|a|",
		"get widgets.example.com x -n a":                "get|widgets.example.com|a|x",
		"exec nginx -n web-1 -- ls -l /tmp":             "create|pods/exec|web-1|nginx|ls|-l|/tmp",
		"kubectl exec -it nginx -c main -n a -- sh":     "create|pods/exec|a|nginx|sh",
		"logs nginx -n a -f":                            "get|pods/log|a|nginx",
		"attach nginx -n a":                             "create|pods/attach|a|nginx",
		"port-forward nginx 8080:80 -n a":               "create|pods/portforward|a|nginx",
		"GET /api/v1/namespaces/a/pods/x":               "get|pods|a|x",
		"DELETE /apis/apps/v1/namespaces/a/daemonsets/": "",
		"get":                           "",
		"":                              "",
		"explode pods x":                "",
		"get pods a b c":                "",
		"get pods --token x":            "",
		"exec nginx -n a":               "",
		"get pods -n":                   "",
		"get pods/x/proxy -n a":         "",
		"GET /api/v1/nodes/n/proxy/run": "",
	} {
		command := Understand(text).Command()
		if command.Refusal != nil {
			if want != "" {
				t.Errorf("%s: %s", text, command.Refusal.Reason)
			}
			continue
		}
		e := command.Effects[0]
		if got := strings.Join(append([]string{e.Verb, e.Resource, e.Namespace, e.Name}, e.Argv...), "|"); got != want {
			t.Errorf("%s: %s, want %q", text, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"/api/v1/namespaces/a/pods/x/exec?command=ls", "/apis/apps/v1/deployments?watch=true&fieldSelector=metadata.name%3Dx", "/api//", "/api/v1/nodes/n/proxy/x", "/version"} {
		f.Add("GET", s)
		f.Add("POST", s)
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		c := Parse(method, target)
		command := c.Command()
		if command.Refusal == nil && c.Kind != Discovery {
			if len(command.Effects) == 0 || c.Verb == "" || c.Resource == "" || strings.Contains(c.Name, "/") || strings.ContainsAny(strings.SplitN(target, "?", 2)[0], "%;\\") {
				t.Errorf("%q %q: %+v", method, target, c)
			}
		}
		Understand(target)
	})
}
