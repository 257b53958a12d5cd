# METADATA
# title: Tests of what covers requests to Kubernetes API servers
package sallyport.clusters_test

import data.sallyport.decision

review := {"name": "prod/r", "spec": {
	"subject": "agent:etl",
	"connection": "prod",
	"allow": [
		{"verbs": ["get", "list", "watch"], "resources": ["pods", "deployments.apps"], "namespaces": ["web-*"]},
		{"verbs": ["create"], "resources": ["pods/exec"], "namespaces": ["web-*"], "command": ["ls", "**"]},
		{"verbs": ["get", "list"], "resources": ["nodes"], "cluster": true},
		{"verbs": ["get", "delete", "list"], "resources": ["configmaps"], "namespaces": ["web-1"], "names": ["app-*-cfg", "exact"]},
		{"verbs": ["create"], "resources": ["pods/exec"], "namespaces": ["open"], "command": ["**"]},
		{"verbs": ["list"], "resources": ["events"], "namespaces": ["*"]},
		{"verbs": ["delete"], "resources": ["jobs.batch"], "namespaces": ["*"]},
		{"verbs": ["list", "get"], "resources": ["jobs.batch"], "namespaces": ["*"], "cluster": true},
	],
	"hold": [
		{"verbs": ["delete"], "resources": ["jobs.batch"], "namespaces": ["live"]},
		{"verbs": ["list"], "resources": ["jobs.batch"], "namespaces": ["live"], "names": ["x"]},
	],
}}

request(effects) := {
	"now": "2026-11-24T12:00:00Z", "principal": "agent:etl",
	"connection": {"name": "prod", "spec": {"protocol": "kubernetes"}}, "review": review,
	"command": {"protocol": "kubernetes", "statement": "…", "effects": effects},
}

one(verb, resource, namespace) := [{"verb": verb, "object": "…", "resource": resource, "namespace": namespace}]

object_of(verb, resource, namespace, name) := [{"verb": verb, "object": "…", "resource": resource, "namespace": namespace, "name": name}]

run(namespace, argv) := [{"verb": "create", "object": "…", "resource": "pods/exec", "namespace": namespace, "name": "x", "argv": argv}]

cases := {
	"listed": {"effects": one("list", "pods", "web-1"), "is": ["allow", "allow[0]"]},
	"a name is within all": {"effects": object_of("get", "pods", "web-1", "x"), "is": ["allow", "allow[0]"]},
	"group": {"effects": one("watch", "deployments.apps", "web-1"), "is": ["allow", "allow[0]"]},
	"no group": {"effects": one("list", "deployments", "web-1"), "is": ["deny", "default"]},
	"another group": {"effects": one("list", "pods.metrics.k8s.io", "web-1"), "is": ["deny", "default"]},
	"subresource": {"effects": one("get", "pods/log", "web-1"), "is": ["deny", "default"]},
	"another verb": {"effects": one("deletecollection", "pods", "web-1"), "is": ["deny", "default"]},
	"another namespace": {"effects": one("list", "pods", "db-1"), "is": ["deny", "default"]},
	"star is nothing": {"effects": one("list", "pods", "web-"), "is": ["allow", "allow[0]"]},
	"begins alike": {"effects": one("list", "pods", "web"), "is": ["deny", "default"]},
	"all namespaces": {"effects": [{"verb": "list", "object": "…", "resource": "pods"}], "is": ["deny", "default"]},
	"all namespaces, empty": {"effects": one("list", "pods", ""), "is": ["deny", "default"]},
	"any namespace is not all": {"effects": one("list", "events", ""), "is": ["deny", "default"]},
	"any namespace": {"effects": one("list", "events", "kube-system"), "is": ["allow", "allow[5]"]},
	"cluster": {"effects": one("list", "nodes", ""), "is": ["allow", "allow[2]"]},
	"cluster is no namespace": {"effects": one("list", "nodes", "web-1"), "is": ["deny", "default"]},
	"exec": {"effects": run("web-1", ["ls", "-l"]), "is": ["allow", "allow[1]"]},
	"another program": {"effects": run("web-1", ["sh", "-c", "ls"]), "is": ["deny", "default"]},
	"exec of nothing": {"effects": run("web-1", []), "is": ["deny", "default"]},
	"exec without argv": {"effects": object_of("create", "pods/exec", "open", "x"), "is": ["deny", "default"]},
	"any command": {"effects": run("open", ["sh"]), "is": ["allow", "allow[4]"]},
	"name": {"effects": object_of("get", "configmaps", "web-1", "app-x-cfg"), "is": ["allow", "allow[3]"]},
	"half a name": {"effects": object_of("get", "configmaps", "web-1", "app-something-else"), "is": ["deny", "default"]},
	"both ends in one": {"effects": object_of("get", "configmaps", "web-1", "app-cfg"), "is": ["deny", "default"]},
	"exact name": {"effects": object_of("delete", "configmaps", "web-1", "exact"), "is": ["allow", "allow[3]"]},
	"another name": {"effects": object_of("get", "configmaps", "web-1", "kube-root-ca.crt"), "is": ["deny", "default"]},
	"longer than a name": {"effects": object_of("get", "configmaps", "web-1", "exact-not"), "is": ["deny", "default"]},
	"all names": {"effects": one("list", "configmaps", "web-1"), "is": ["deny", "default"]},
	"one of two": {"effects": array.concat(one("get", "pods", "web-1"), one("create", "pods", "web-1")), "is": ["deny", "default"]},
	"resource of nothing": {"effects": [{"verb": "list", "object": "…", "namespace": "web-1"}], "is": ["deny", "default"]},
	"held": {"effects": object_of("delete", "jobs.batch", "live", "x"), "is": ["hold", "hold[0]"]},
	"not held": {"effects": object_of("delete", "jobs.batch", "other", "x"), "is": ["allow", "allow[6]"]},
	"held, all names": {"effects": one("list", "jobs.batch", "live"), "is": ["hold", "hold[1]"]},
	"held, all namespaces": {"effects": one("list", "jobs.batch", ""), "is": ["hold", "hold[1]"]},
	"held, another name": {"effects": object_of("list", "jobs.batch", "live", "y"), "is": ["allow", "allow[7]"]},
	"held, another verb": {"effects": object_of("get", "jobs.batch", "live", "x"), "is": ["allow", "allow[7]"]},
}

test_cases if {
	every name, case in cases {
		answer := decision with input as request(case.effects)
		print(name, answer)
		[answer.verdict, answer.rule] == case.is
	}
}

# A rule with a command grants nothing else, and what is granted by a rule of another protocol is nothing here.
test_foreign_rules if {
	every rule in [
		{"verbs": ["create"], "resources": ["pods"], "namespaces": ["*"], "command": ["ls"]},
		{"verbs": ["create"], "on": ["pods.*"]},
		{"exec": ["ls"]},
		{"verbs": ["create"], "resources": ["pods"], "namespaces": [""]},
		{"verbs": ["create"], "resources": ["pods"], "names": ["*"]},
	] {
		altered := json.patch(request(object_of("create", "pods", "web-1", "x")), [{"op": "replace", "path": "/review/spec/allow", "value": [rule]}])
		answer := decision with input as altered
		answer.verdict == "deny"
	}
}
