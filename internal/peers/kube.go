package peers

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kubeVersion is what internal/peers/kube/go.mod requires.
const kubeVersion = "1.37.2"

// kubePrograms are what is built of that module, by the name of the program.
var kubePrograms = map[string]string{
	"kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver", "kubectl": "k8s.io/kubernetes/cmd/kubectl",
	"etcd": "./etcd", "kubelet": "./kubelet", "client": "./client",
}

// KubeServer is a running API server of our own, with etcd behind it and one node, whose kubelet is a stand-in: what is executed in a
// pod runs as a process of this machine, in the folder Node.
type KubeServer struct {
	Host     string // 127.0.0.1
	Port     int
	CA       string // PEM file
	Token    string // of an administrator, user admin
	Node     string // folder that commands run in; NAMESPACE_POD_CONTAINER.log is a container's log
	Programs string // folder of kubectl and client
	AuditLog string // file of the server's audit log, JSON lines

	dir                  string
	etcd, kubelet, serve *Process
}

// PrepareKube makes sure that the API server and what belongs to it are built and in the cache, and returns their folder. A first build
// takes ten minutes of processor time. $SALLYPORT_KUBE_PROGRAMS names a folder that has them already.
func PrepareKube(ctx context.Context, progress Progress) (dir string, err error) {
	if dir := os.Getenv("SALLYPORT_KUBE_PROGRAMS"); dir != "" {
		for name := range kubePrograms {
			if !exists(filepath.Join(dir, name)) {
				return "", missingKube(fmt.Errorf("$SALLYPORT_KUBE_PROGRAMS has no %s", name))
			}
		}
		return dir, nil
	}
	gitea, err := giteaSource(ctx)
	if err != nil {
		return "", missingKube(err)
	}
	source := filepath.Join(filepath.Dir(gitea), "kube")
	digest := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "client/main.go", "etcd/main.go", "kubelet/main.go"} {
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", missingKube(err)
		}
		fmt.Fprintf(digest, "%s %d\n%s", name, len(text), text)
	}
	dir, err = cached(ctx, fmt.Sprintf("kube-%s-%.6x", kubeVersion, digest.Sum(nil)), func(ctx context.Context, dir string) error {
		return buildKube(ctx, source, dir, progress)
	})
	if err != nil {
		return "", missingKube(err)
	}
	progress.say("Kubernetes: %s from %s", kubeVersion, dir)
	return dir, nil
}

func missingKube(err error) error {
	return &Missing{Peer: "Kubernetes " + kubeVersion, Reason: err.Error(), Install: "go run ./internal/peers/prepare kube (in a checkout)"}
}

func buildKube(ctx context.Context, source, dir string, progress Progress) error {
	progress.say("Kubernetes: building %s from its Go modules, once; this takes ten minutes of processor time", kubeVersion)
	const version = "k8s.io/component-base/version."
	for _, name := range []string{"kubelet", "client", "etcd", "kubectl", "kube-apiserver"} {
		start := time.Now()
		// Without its version a client cannot tell what the server is.
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-mod=readonly",
			"-ldflags", "-s -w -X "+version+"gitVersion=v"+kubeVersion+" -X "+version+"gitMajor=1 -X "+version+"gitMinor=37",
			"-o", filepath.Join(dir, name), kubePrograms[name])
		build.Dir = source
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
		if _, err := output(build); err != nil {
			return err
		}
		progress.say("Kubernetes: built %s in %v", name, time.Since(start).Round(time.Second))
	}
	return nil
}

// Kube builds Kubernetes unless the cache has it, and starts it in a folder of its own. It returns when the server is ready and
// its node is there. The caller stops it with Stop; when this process dies first, all of it goes too.
func Kube(ctx context.Context, progress Progress) (*KubeServer, error) {
	programs, err := PrepareKube(ctx, progress)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sallyport-kube-")
	if err != nil {
		return nil, err
	}
	s := &KubeServer{Host: "127.0.0.1", dir: dir, Programs: programs, Node: filepath.Join(dir, "node"), AuditLog: filepath.Join(dir, "audit.log"), Token: rand.Text()}
	if err := s.start(ctx, progress); err != nil {
		err = fmt.Errorf("Kubernetes %s: %w", kubeVersion, err)
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *KubeServer) start(ctx context.Context, progress Progress) error {
	ctx, cancel := context.WithTimeout(ctx, 2*startTimeout)
	defer cancel()
	if err := os.Mkdir(s.Node, 0o700); err != nil {
		return err
	}
	if err := s.writeFiles(); err != nil {
		return err
	}
	if err := s.startKubelet(ctx); err != nil {
		return fmt.Errorf("kubelet: %w", err)
	}
	// A port is free when it is chosen and may be taken before a server has it.
	for try := 1; ; try++ {
		err := s.startServers(ctx)
		if err == nil {
			break
		}
		if try == 5 || !strings.Contains(err.Error(), "address already in use") {
			return err
		}
	}
	progress.say("Kubernetes: %s answers on %s:%d", kubeVersion, s.Host, s.Port)
	return s.makeNode(ctx)
}

// writeFiles makes certificates, the key of service accounts, the token of the administrator and what is to be audited.
func (s *KubeServer) writeFiles() error {
	ca, err := newAuthority("kube test authority")
	if err != nil {
		return err
	}
	s.CA = filepath.Join(s.dir, "ca.pem")
	if err := writePEM(s.CA, "CERTIFICATE", ca.cert.Raw, 0o644); err != nil {
		return err
	}
	if err := ca.issue(s.dir, "server", &x509.Certificate{DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(s.dir, "sa.key"), "EC PRIVATE KEY", der, 0o600); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"tokens.csv": s.Token + ",admin,1,system:masters\n",
		"audit.yaml": "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n",
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (s *KubeServer) guard(name string, args ...string) (*Process, error) {
	log, err := os.Create(filepath.Join(s.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(s.Programs, name), args...)
	cmd.Dir = s.dir
	cmd.Env = CleanEnv(os.Environ(), s.dir)
	cmd.Stdout, cmd.Stderr = log, log
	remove := ""
	if name == "etcd" { // the last to go
		remove = s.dir
	}
	return Guard(cmd, "TERM", remove)
}

func (s *KubeServer) startKubelet(ctx context.Context) error {
	cert, key := Certificate("server").files(s.dir)
	var err error
	if s.kubelet, err = s.guard("kubelet", "-dir", s.Node, "-cert", cert, "-key", key); err != nil {
		return err
	}
	return s.kubelet.awaitReady(ctx, func(context.Context) error {
		_, err := os.Stat(filepath.Join(s.Node, "port"))
		return err
	}, func() string { return s.Log("kubelet") })
}

func (s *KubeServer) startServers(ctx context.Context) error {
	client, err := choosePort()
	if err != nil {
		return err
	}
	peer, err := choosePort()
	if err != nil {
		return err
	}
	if s.Port, err = choosePort(); err != nil {
		return err
	}
	etcdURL, peerURL := fmt.Sprintf("http://127.0.0.1:%d", client), fmt.Sprintf("http://127.0.0.1:%d", peer)
	data := filepath.Join(s.dir, fmt.Sprintf("etcd-%d", client))
	if s.etcd, err = s.guard("etcd", "--data-dir="+data, "--listen-client-urls="+etcdURL, "--advertise-client-urls="+etcdURL, "--listen-peer-urls="+peerURL,
		"--initial-advertise-peer-urls="+peerURL, "--initial-cluster=default="+peerURL, "--unsafe-no-fsync", "--log-level=warn"); err != nil {
		return err
	}
	cert, key := Certificate("server").files(s.dir)
	account := filepath.Join(s.dir, "sa.key")
	if s.serve, err = s.guard("kube-apiserver", "--etcd-servers="+etcdURL, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		"--secure-port="+strconv.Itoa(s.Port), "--cert-dir="+s.dir, "--tls-cert-file="+cert, "--tls-private-key-file="+key, "--service-cluster-ip-range=10.0.0.0/24",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-signing-key-file="+account, "--service-account-key-file="+account,
		"--token-auth-file="+filepath.Join(s.dir, "tokens.csv"), "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount",
		"--endpoint-reconciler-type=none", "--kubelet-certificate-authority="+s.CA,
		"--audit-policy-file="+filepath.Join(s.dir, "audit.yaml"), "--audit-log-path="+s.AuditLog, "--audit-log-mode=blocking"); err != nil {
		return errors.Join(err, s.stopServers())
	}
	if err := s.serve.awaitReady(ctx, func(ctx context.Context) error { return s.Call(ctx, "GET", "/readyz", nil, nil) }, func() string { return s.Log("kube-apiserver") }); err != nil {
		return errors.Join(err, s.stopServers())
	}
	return nil
}

// makeNode makes the node whose kubelet is the stand-in.
func (s *KubeServer) makeNode(ctx context.Context) error {
	text, err := os.ReadFile(filepath.Join(s.Node, "port"))
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(string(text))
	if err != nil {
		return err
	}
	if err := s.Call(ctx, "POST", "/api/v1/nodes", map[string]any{"kind": "Node", "apiVersion": "v1", "metadata": map[string]any{"name": "node"}}, nil); err != nil {
		return err
	}
	return s.Call(ctx, "PATCH", "/api/v1/nodes/node/status", map[string]any{"status": map[string]any{
		"addresses": []any{map[string]any{"type": "InternalIP", "address": "127.0.0.1"}}, "daemonEndpoints": map[string]any{"kubeletEndpoint": map[string]any{"Port": port}},
	}}, nil)
}

// NewPod makes a pod that runs, with one container "main", on the node.
func (s *KubeServer) NewPod(ctx context.Context, namespace, name string) error {
	pods := "/api/v1/namespaces/" + namespace + "/pods"
	if err := s.Call(ctx, "POST", pods, map[string]any{"kind": "Pod", "apiVersion": "v1", "metadata": map[string]any{"name": name, "labels": map[string]any{"app": name}},
		"spec": map[string]any{"nodeName": "node", "containers": []any{map[string]any{"name": "main", "image": "none"}}}}, nil); err != nil {
		return err
	}
	return s.Call(ctx, "PATCH", pods+"/"+name+"/status", map[string]any{"status": map[string]any{"phase": "Running", "conditions": []any{map[string]any{"type": "Ready", "status": "True"}},
		"containerStatuses": []any{map[string]any{"name": "main", "image": "none", "imageID": "none", "ready": true, "restartCount": 0, "state": map[string]any{"running": map[string]any{}}}}}}, nil)
}

// Call does one request as the administrator, directly: body is sent as JSON, a PATCH as a merge, and the answer is read
// into answer unless nil. Any status but 2xx is an error.
func (s *KubeServer) Call(ctx context.Context, method, path string, body, answer any) error {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = strings.NewReader(string(text))
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("https://%s:%d%s", s.Host, s.Port, path), sent)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+s.Token)
	request.Header.Set("Content-Type", map[string]string{"PATCH": "application/merge-patch+json"}[method])
	if method != "PATCH" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := s.HTTP().Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %d %s", method, path, response.StatusCode, strings.TrimSpace(string(text)))
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// HTTP is a client that knows the server's authority.
func (s *KubeServer) HTTP() *http.Client {
	roots := x509.NewCertPool()
	if text, err := os.ReadFile(s.CA); err == nil {
		roots.AppendCertsFromPEM(text)
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
}

// Kubeconfig writes a configuration for kubectl that goes to a server with a token.
func Kubeconfig(file, server, authority, serverName, token string) error {
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- {name: c, cluster: {server: %q, certificate-authority-data: %s, tls-server-name: %q}}\n"+
		"contexts:\n- {name: c, context: {cluster: c, user: u}}\nusers:\n- {name: u, user: {token: %q}}\n", server, base64.StdEncoding.EncodeToString([]byte(authority)), serverName, token)
	return os.WriteFile(file, []byte(text), 0o600)
}

// CertificatePEM is a certificate as files have it.
func CertificatePEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// Log is what one of the programs wrote so far.
func (s *KubeServer) Log(program string) string {
	text, err := os.ReadFile(filepath.Join(s.dir, program+".log"))
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	return string(text)
}

// stopServers ends the API server first: without etcd it takes long to end.
func (s *KubeServer) stopServers() error {
	for _, p := range []*Process{s.serve, s.etcd} {
		if p != nil {
			p.Stop(10*time.Second, syscall.SIGTERM)
		}
	}
	s.serve, s.etcd = nil, nil
	return nil
}

// Stop ends all of it and removes its folder.
func (s *KubeServer) Stop() error {
	err := s.stopServers()
	if s.kubelet != nil {
		s.kubelet.Stop(5*time.Second, syscall.SIGTERM)
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// StartKube starts a KubeServer for a test.
func StartKube(t testing.TB) *KubeServer {
	t.Helper()
	s, err := Kube(context.WithoutCancel(t.Context()), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log := s.Log("kube-apiserver")
			t.Logf("kube-apiserver: %s\nkubelet: %s", log[max(0, len(log)-2000):], s.Log("kubelet"))
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}
