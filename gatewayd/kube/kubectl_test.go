//go:build kube

package kube

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd/kube/call"
	"github.com/sallyport-dev/sallyport/internal/peers"
)

var cluster struct {
	once   sync.Once
	server *peers.KubeServer
	err    error
}

// kubeServer is the one API server of this test process; it ends with the process.
func kubeServer(t testing.TB) *peers.KubeServer {
	t.Helper()
	cluster.once.Do(func() { cluster.server, cluster.err = peers.Kube(context.WithoutCancel(t.Context()), nil) })
	if cluster.err != nil {
		t.Fatal(cluster.err)
	}
	return cluster.server
}

const canary = "canary-7f3a-value"

// kubeWorld is a world before the real API server, with a namespace of its own that has a pod, a log and a Secret.
type kubeWorld struct {
	*world
	server *peers.KubeServer
	ns     string
}

func newKubeWorld(t testing.TB, rules, connection string) *kubeWorld {
	t.Helper()
	s := kubeServer(t)
	ctx := context.WithoutCancel(t.Context())
	ns := "t-" + strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.Call(ctx, "POST", "/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": ns}}, nil))
	must(s.NewPod(ctx, ns, "web"))
	must(os.WriteFile(filepath.Join(s.Node, ns+"_web_main.log"), []byte("started\npassword is "+canary+"\nready\n"), 0o600))
	b64 := base64.StdEncoding.EncodeToString([]byte(canary))
	must(s.Call(ctx, "POST", "/api/v1/namespaces/"+ns+"/secrets", map[string]any{"metadata": map[string]any{"name": "db",
		"annotations": map[string]any{"kubectl.kubernetes.io/last-applied-configuration": `{"apiVersion":"v1","kind":"Secret","data":{"password":"` + b64 + `"},"metadata":{"name":"db"}}`}},
		"data": map[string]any{"password": b64}}, nil))
	must(s.Call(ctx, "POST", "/api/v1/namespaces/"+ns+"/configmaps", map[string]any{"metadata": map[string]any{"name": "app"}, "data": map[string]any{"plain": "visible", "token": canary}}, nil))
	w := newWorld(t, api{port: s.Port, ca: s.CA, token: s.Token}, strings.ReplaceAll(rules, "NS", ns), connection)
	return &kubeWorld{world: w, server: s, ns: ns}
}

// said is how a program ended.
type said struct {
	out, err string
	code     int
}

func (w *kubeWorld) config() string {
	file := filepath.Join(w.t.TempDir(), "kubeconfig")
	if err := peers.Kubeconfig(file, "https://"+w.address+"/prod", peers.CertificatePEM(w.cert.Leaf.Raw), "sallyport-gateway", w.token("agent:etl", nil)); err != nil {
		w.t.Fatal(err)
	}
	return file
}

func (w *kubeWorld) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(w.server.Programs, program), args...)
	cmd.Env = append(peers.CleanEnv(os.Environ(), w.t.TempDir()), "KUBECONFIG="+w.config())
	return cmd
}

func (w *kubeWorld) runEnv(env []string, stdin, program string, args ...string) said {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 60*time.Second)
	defer cancel()
	cmd := w.command(ctx, program, args...)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	s := said{out: out.String(), err: errs.String()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		s.code = exit.ExitCode()
	} else if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *kubeWorld) kubectl(args ...string) said {
	w.t.Helper()
	return w.runEnv(nil, "", "kubectl", append([]string{"-n", w.ns}, args...)...)
}

const everyday = `
  allow:
    - {verbs: [get, list, watch, create, update, patch, delete], resources: [pods, secrets, configmaps, events, services, deployments.apps], namespaces: [NS]}
    - {verbs: [get], resources: [pods/log], namespaces: [NS]}
    - {verbs: [create], resources: [pods/exec], namespaces: [NS], command: [sh, "**"]}
    - {verbs: [create], resources: [pods/exec], namespaces: [NS], command: [cat, "**"]}
    - {verbs: [create], resources: [pods/exec], namespaces: [NS], command: [tar, "**"]}
    - {verbs: [create], resources: [pods/attach, pods/portforward], namespaces: [NS]}
    - {verbs: [get], resources: [namespaces], namespaces: [NS]}`

const patterns = "  mask:\n    - {pattern: 'canary-[a-z0-9-]+', with: redact}\n"

// Our reading of paths is the API server's own.
func TestReadsPathsAsTheServerDoes(t *testing.T) {
	s := kubeServer(t)
	parts := []string{"api", "apis", "v1", "v1beta1", "apps", "batch", "example.com", "namespaces", "a", "pods", "secrets", "deployments", "status", "exec", "log", "scale", "finalize", "token", "x", "watch", "proxy", "..", ".", "", "%2e%2e", "services"}
	queries := []string{"", "?watch=true", "?watch=1", "?watch=false", "?fieldSelector=metadata.name%3Dx", "?fieldSelector=metadata.name%3D%3Dx,spec.nodeName%3Dn", "?fieldSelector=metadata.name!%3Dx", "?command=ls", "?limit=5"}
	var lines []string
	var random uint64 = 12345
	pick := func(list []string) string {
		random = random*6364136223846793005 + 1442695040888963407
		return list[(random>>33)%uint64(len(list))]
	}
	for len(lines) < 120000 {
		path := ""
		prefix := pick([]string{"/api/v1", "/apis/apps/v1", "/apis/example.com/v1beta1", "", "/api/v1/namespaces/a", "/apis/apps/v1/namespaces/a"})
		for range random >> 60 % 5 {
			path += "/" + pick(parts)
		}
		lines = append(lines, pick([]string{"GET", "POST", "PUT", "PATCH", "DELETE"})+" "+prefix+path+pick(queries))
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(s.Programs, "client"), "requestinfo")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n"))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for i, answer := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		method, target, _ := strings.Cut(lines[i], " ")
		c := call.Parse(method, target)
		if c.Refused() != nil {
			continue
		}
		compared++
		if problem := compare(c, answer); problem != "" {
			t.Errorf("%s: %s; the server says %s", lines[i], problem, answer)
		}
	}
	t.Logf("%d of %d requests are served and were compared", compared, len(lines))
	if compared < 5000 {
		t.Errorf("only %d requests were compared", compared)
	}
}

// kubectl, as everybody uses it.
func TestKubectl(t *testing.T) {
	w := newKubeWorld(t, everyday, "")
	t.Run("get", func(t *testing.T) {
		s := w.kubectl("get", "pods")
		if s.code != 0 || !strings.Contains(s.out, "web") || !strings.Contains(s.out, "Running") {
			t.Errorf("%+v", s)
		}
	})
	t.Run("describe", func(t *testing.T) {
		if s := w.kubectl("describe", "pod", "web"); s.code != 0 || !strings.Contains(s.out, "Node:") {
			t.Errorf("%+v", s)
		}
	})
	t.Run("denied", func(t *testing.T) {
		s := w.kubectl("get", "serviceaccounts")
		if s.code == 0 || !strings.Contains(s.err, "list on serviceaccounts in "+w.ns+" is not in the allow rules of review prod/etl") || !strings.Contains(s.err, "sallyport request prod") {
			t.Errorf("%+v", s)
		}
	})
	t.Run("all namespaces", func(t *testing.T) {
		if s := w.kubectl("get", "pods", "-A"); s.code == 0 || !strings.Contains(s.err, "denial d-") {
			t.Errorf("%+v", s)
		}
	})
	t.Run("impersonation", func(t *testing.T) {
		if s := w.kubectl("get", "pods", "--as", "admin"); s.code == 0 || !strings.Contains(s.err, "impersonation_refused") {
			t.Errorf("%+v", s)
		}
	})
	t.Run("logs", func(t *testing.T) {
		if s := w.kubectl("logs", "web"); s.code != 0 || !strings.Contains(s.out, "ready") {
			t.Errorf("%+v", s)
		}
	})
	t.Run("exec", func(t *testing.T) {
		if s := w.kubectl("exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 3"); s.code != 3 || s.out != "out\n" || !strings.Contains(s.err, "err\n") {
			t.Errorf("%+v", s)
		}
	})
	t.Run("exec with input", func(t *testing.T) {
		if s := w.runEnv(nil, "typed", "kubectl", "-n", w.ns, "exec", "-i", "web", "--", "cat"); s.code != 0 || s.out != "typed" {
			t.Errorf("%+v", s)
		}
	})
	t.Run("exec denied", func(t *testing.T) {
		if s := w.kubectl("exec", "web", "--", "id"); s.code == 0 || !strings.Contains(s.err, "create on pods/exec in "+w.ns+" is not in the allow rules") {
			t.Errorf("%+v", s)
		}
	})
	t.Run("exec by SPDY", func(t *testing.T) {
		s := w.runEnv([]string{"KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false"}, "", "kubectl", "-n", w.ns, "exec", "web", "--", "sh", "-c", "true")
		if s.code == 0 || !strings.Contains(s.err, "stream_unsupported") {
			t.Errorf("%+v", s)
		}
	})
	t.Run("attach", func(t *testing.T) {
		if s := w.runEnv(nil, "hello", "kubectl", "-n", w.ns, "attach", "-i", "web"); !strings.Contains(s.out, "attached") {
			t.Errorf("%+v", s)
		}
	})
	t.Run("cp", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, []byte("copied"), 0o600); err != nil {
			t.Fatal(err)
		}
		if s := w.kubectl("cp", file, "web:g"); s.code != 0 {
			t.Fatalf("%+v", s)
		}
		if b, err := os.ReadFile(filepath.Join(w.server.Node, "g")); err != nil || string(b) != "copied" {
			t.Errorf("%q, %v", b, err)
		}
		if s := w.kubectl("cp", "web:g", file+"2"); s.code != 0 {
			t.Fatalf("%+v", s)
		}
		if b, err := os.ReadFile(file + "2"); err != nil || string(b) != "copied" {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("port-forward", func(t *testing.T) { w.portForward(t) })
	t.Run("apply", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "cm.yaml")
		if err := os.WriteFile(file, []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied}\ndata: {a: b}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"apply", "-f", file}, {"apply", "-f", file}, {"apply", "--server-side", "--force-conflicts", "-f", file}, {"diff", "-f", file}, {"delete", "-f", file}} {
			if s := w.kubectl(args...); s.code != 0 {
				t.Errorf("%v: %+v", args, s)
			}
		}
	})
}

func (w *kubeWorld) portForward(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); io.Copy(c, c) }()
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := w.command(ctx, "kubectl", "-n", w.ns, "port-forward", "web", fmt.Sprintf(":%d", echo.Addr().(*net.TCPAddr).Port))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); cmd.Wait() }()
	var line [256]byte
	n, err := out.Read(line[:])
	if err != nil {
		t.Fatalf("%v: %s", err, &errs)
	}
	var local int
	if _, err := fmt.Sscanf(string(line[:n]), "Forwarding from 127.0.0.1:%d", &local); err != nil {
		t.Fatalf("%q: %v", line[:n], err)
	}
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", local))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, "through")
	got := make([]byte, 7)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "through" {
		t.Errorf("%q, %v: %s", got, err, &errs)
	}
}

// Taking the review out ends an exec at once, at the client and on the node.
func TestRevocationCutsExec(t *testing.T) {
	w := newKubeWorld(t, everyday, "")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := w.command(ctx, "kubectl", "-n", w.ns, "exec", "web", "--", "sh", "-c", "echo begun; exec sleep 4711")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 6)
	if _, err := io.ReadFull(out, line); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	w.repo.Remove("reviews/prod/etl.yaml")
	w.release()
	err = cmd.Wait()
	if err == nil || !strings.Contains(errs.String(), "review_removed") {
		t.Errorf("%v after %v: %s", err, time.Since(start), &errs)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the cut took %v", took)
	}
}

// compare says in what a call differs from the server's own reading of it.
func compare(c *call.Call, answer string) string {
	var info struct {
		IsResourceRequest                                            bool
		Verb, Namespace, APIGroup, Resource, Subresource, Name, Path string
	}
	if err := json.Unmarshal([]byte(answer), &info); err != nil {
		return err.Error()
	}
	if c.Kind == call.Discovery {
		if info.IsResourceRequest {
			return "it is taken for discovery"
		}
		return ""
	}
	resource := info.Resource
	if info.APIGroup != "" {
		resource += "." + info.APIGroup
	}
	verb := info.Verb
	if (c.Kind == call.Exec || c.Kind == call.Attach || c.Kind == call.PortForward) && verb == "get" {
		verb = "create"
	}
	switch {
	case !info.IsResourceRequest:
		return "it is taken for a request of a resource"
	case c.Verb != verb, c.Resource != resource, c.Subresource != info.Subresource, c.Namespace != info.Namespace, c.Name != info.Name:
		return fmt.Sprintf("%s %s/%s %s/%s", c.Verb, c.Resource, c.Subresource, c.Namespace, c.Name)
	}
	return ""
}

// noCanary fails when a value of the Secret is in a text, in any common form.
func noCanary(t *testing.T, what, text string) {
	t.Helper()
	for _, form := range []string{canary, base64.StdEncoding.EncodeToString([]byte(canary)), strings.TrimRight(base64.URLEncoding.EncodeToString([]byte(canary)), "="), fmt.Sprintf("%x", canary)} {
		if strings.Contains(text, form) {
			t.Errorf("%s shows the secret: %.600s", what, text)
			return
		}
	}
}
