//go:build kube

package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// No way of reading shows a value of a Secret, or what the connection masks, in any byte: what the client sees, and what is recorded.
func TestNoWayShowsSecrets(t *testing.T) {
	w := newKubeWorld(t, everyday, patterns+"    - {resource: configmaps, path: .data.token, with: redact}\n")
	ways := 0
	see := func(what, text string) {
		ways++
		noCanary(t, what, text)
	}
	seen := 0 // ways that show the mask, so that the test is known to look at something
	note := func(text string) {
		if strings.Contains(text, "masked") || strings.Contains(text, "W21hc2tlZCBieSBzYWxseXBvcnRd") {
			seen++
		}
	}
	kubectl := func(args ...string) said {
		s := w.kubectl(args...)
		see("kubectl "+strings.Join(args, " "), s.out+s.err)
		note(s.out + s.err)
		return s
	}
	for _, what := range [][]string{{"secret", "db"}, {"secrets"}, {"configmap", "app"}, {"configmaps"}, {"secret/db", "configmap/app"}} {
		for _, form := range []string{"", "-o=yaml", "-o=json", "-o=wide", "-o=name", "-o=jsonpath={..data}", "-o=go-template={{.}}", "-o=custom-columns=D:..data", "--show-managed-fields -o=yaml", "-v=9"} {
			kubectl(append(append([]string{"get"}, what...), strings.Fields(form)...)...)
		}
		kubectl(append([]string{"describe"}, what...)...)
	}
	write := func(name, text string) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	relabelled := write("s.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: db, labels: {a: b}}\n")
	for _, args := range [][]string{
		{"apply", "-f", relabelled, "-o", "yaml", "--dry-run=server"}, {"apply", "-f", relabelled, "-o", "yaml", "--dry-run=client"}, {"apply", "--server-side", "--force-conflicts", "-f", relabelled, "-o", "yaml"},
		{"apply", "view-last-applied", "secret", "db"}, {"diff", "-f", relabelled}, {"patch", "secret", "db", "-p", `{"metadata":{"labels":{"c":"d"}}}`, "-o", "yaml"},
		{"patch", "secret", "db", "--type=json", "-p", `[{"op":"test","path":"/data/password","value":"x"}]`}, {"patch", "secret", "db", "--type=merge", "-p", `{"data":{"bad":"not base64"}}`},
		{"label", "secret", "db", "e=f", "-o", "json"}, {"annotate", "secret", "db", "g=h", "-o", "yaml"}, {"create", "secret", "generic", "db", "--from-literal=a=b"},
		{"create", "secret", "generic", "new", "--from-literal=a=b", "-o", "yaml", "--dry-run=server"}, {"get", "events", "-o", "yaml"}, {"get", "secrets", "--chunk-size=1", "-o", "yaml"}, {"get", "all", "-o", "yaml"},
		{"logs", "web"}, {"logs", "web", "--timestamps"}, {"logs", "web", "--tail=2"}, {"logs", "-l", "app=web", "--prefix"},
		{"exec", "web", "--", "cat", w.ns + "_web_main.log"}, {"exec", "web", "--", "sh", "-c", "cat " + w.ns + "_web_main.log >&2"}, {"exec", "web", "--", "sh", "-c", "printf " + canary[:8] + "; printf " + canary[8:]},
	} {
		kubectl(args...)
	}
	const base = "/api/v1/namespaces/"
	for _, accept := range []string{
		"", "*/*", "application/json", "application/json;as=Table;g=meta.k8s.io;v=v1", "application/json;as=Table;g=meta.k8s.io;v=v1beta1", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
		"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json", "application/cbor", "application/yaml",
		"application/cbor-seq", "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1", "text/plain",
	} {
		for _, path := range []string{"/secrets/db", "/secrets", "/secrets?includeObject=Object", "/configmaps/app", "/secrets?watch=true&timeoutSeconds=1"} {
			header := http.Header{}
			if accept != "" {
				header.Set("Accept", accept)
			}
			a := w.do("GET", base+w.ns+path, "", header)
			see(path+" as "+accept, a.body+fmt.Sprint(a.header))
			note(a.body)
		}
	}
	for _, kind := range []string{"", "application/json", "application/vnd.kubernetes.protobuf"} {
		for _, args := range [][]string{{"list", w.ns, "secrets"}, {"inform", w.ns, "secrets", "1"}} {
			s := w.runEnv([]string{"CLIENT_CONTENT_TYPE=" + kind}, "", "client", args...)
			see("client-go "+kind+" "+args[0], s.out+s.err)
			note(s.out)
			if kind != "application/vnd.kubernetes.protobuf" && s.code != 0 {
				t.Errorf("client-go %q %v: %+v", kind, args, s)
			}
		}
	}
	if s := w.runEnv(nil, "", "client", "exec", w.ns, "web", "cat", w.ns+"_web_main.log"); s.code != 0 || !strings.Contains(s.out, "password is [masked]") {
		t.Errorf("client-go exec: %+v", s)
	}
	w.records()
	see("recordings, summaries and logs", w.everything())
	t.Logf("%d ways, of which %d showed a mask", ways, seen)
	if ways < 80 || seen < 40 {
		t.Errorf("only %d ways were tried, and %d showed a mask", ways, seen)
	}
	// What is not masked is there.
	if s := w.kubectl("get", "configmap", "app", "-o", "jsonpath={.data.plain}"); s.out != "visible" {
		t.Errorf("%+v", s)
	}
}

// A watch is live, and what changes in a Secret is not in it.
func TestInformerSeesChanges(t *testing.T) {
	w := newKubeWorld(t, everyday, "")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := w.command(ctx, "client", "inform", w.ns, "secrets", "2")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	events := json.NewDecoder(out)
	var first, second struct {
		Metadata struct{ ResourceVersion string }
	}
	if err := events.Decode(&first); err != nil {
		t.Fatal(err)
	}
	if err := w.server.Call(ctx, "PATCH", "/api/v1/namespaces/"+w.ns+"/secrets/db", map[string]any{"stringData": map[string]any{"password": canary + "-2"}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := events.Decode(&second); err != nil || first == second {
		t.Errorf("%v: %+v", err, second)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// The cluster's own audit log has each request under the id that is in the record, by the user that the connection says.
func TestAuditIDAndImpersonation(t *testing.T) {
	w := newKubeWorld(t, everyday, "impersonate")
	// Nobody gave agent:etl anything in the cluster, so its own RBAC says no, after the review said yes.
	if s := w.kubectl("get", "pods"); s.code == 0 || !strings.Contains(s.err, `User "agent:etl" cannot list resource "pods"`) {
		t.Errorf("%+v", s)
	}
	ids := 0
	log, err := os.ReadFile(w.server.AuditLog)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range w.records() {
		if r.Command == nil || r.Command.Verdict.String() != "allow" {
			continue
		}
		for _, p := range r.Command.Parameters {
			if id, is := strings.CutPrefix(p, "Audit-ID "); is {
				ids++
				if !strings.Contains(string(log), `"auditID":"`+id+`"`) {
					t.Errorf("%s is not in the cluster's audit log", id)
				}
			}
		}
	}
	if ids == 0 || !strings.Contains(string(log), `"impersonatedUser":{"username":"agent:etl"`) {
		t.Errorf("%d ids; nobody was impersonated", ids)
	}
	for _, what := range []struct{ kind, name string }{{"Role", "roles"}, {"RoleBinding", "rolebindings"}} {
		body := map[string]any{"metadata": map[string]any{"name": "r"}, "rules": []any{map[string]any{"apiGroups": []string{""}, "resources": []string{"pods"}, "verbs": []string{"list"}}}}
		if what.kind == "RoleBinding" {
			body = map[string]any{"metadata": map[string]any{"name": "r"}, "roleRef": map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}, "subjects": []any{map[string]any{"kind": "User", "name": "agent:etl", "apiGroup": "rbac.authorization.k8s.io"}}}
		}
		if err := w.server.Call(t.Context(), "POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/"+w.ns+"/"+what.name, body, nil); err != nil {
			t.Fatal(err)
		}
	}
	w.eventually("the cluster's RBAC allows it", func() bool { return w.kubectl("get", "pods").code == 0 })
}

// kubectl edit and replace would write the mask in place of the value.
func TestMaskIsNotWrittenBack(t *testing.T) {
	w := newKubeWorld(t, everyday, "")
	file := filepath.Join(t.TempDir(), "s.json")
	if err := os.WriteFile(file, []byte(w.kubectl("get", "secret", "db", "-o", "json").out), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"replace", "-f", file}, {"apply", "--server-side", "--force-conflicts", "-f", file}} {
		if s := w.kubectl(args...); s.code == 0 || !strings.Contains(s.err, "mask_written_back") {
			t.Errorf("%v: %+v", args, s)
		}
	}
	editor := filepath.Join(t.TempDir(), "editor")
	if err := os.WriteFile(editor, []byte("#!/bin/sh\nsed -i 's/^metadata:/metadata:\\n  labels: {a: b}/' \"$1\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	// An edit sends only what was changed.
	if s := w.runEnv([]string{"KUBE_EDITOR=" + editor}, "", "kubectl", "-n", w.ns, "edit", "secret", "db"); s.code != 0 || !strings.Contains(s.out, "edited") {
		t.Errorf("edit: %+v", s)
	}
	var kept struct{ Data map[string][]byte }
	if err := w.server.Call(t.Context(), "GET", "/api/v1/namespaces/"+w.ns+"/secrets/db", nil, &kept); err != nil || string(kept.Data["password"]) != canary {
		t.Errorf("the secret is now %q, %v", kept.Data["password"], err)
	}
}
