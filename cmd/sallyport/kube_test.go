//go:build kube

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/gatewayd/kube"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/reviews"
)

// From a merged review to kubectl: the kubeconfig that connect writes, the tokens of kube-token, a gateway, and a real API server.
func TestKubectlByConnect(t *testing.T) {
	server := peers.StartKube(t)
	if err := server.NewPod(t.Context(), "default", "web"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret := file("token", server.Token)
	block, err := ssh.MarshalPrivateKey(accesstest.Key("agent:etl"), "")
	if err != nil {
		t.Fatal(err)
	}
	key := file("etl", string(pem.EncodeToMemory(block)))
	repo := accesstest.New(t, time.Now().Truncate(time.Second))
	repo.Write("connections/prod.yaml", reviews.KindConnection, "Connection", "prod", fmt.Sprintf(
		"\n  protocol: kubernetes\n  target: {host: 127.0.0.1, port: %d, ca: %q}\n  credential: \"file:%s\"\n", server.Port, server.CA, secret))
	repo.Review("prod/etl", 1, "agent:etl", "  allow: [{verbs: [get, list], resources: [pods], namespaces: [default]}]\n")
	address := gatewayBefore(t, repo, filepath.Join(dir, "recordings"), secret)

	access := filepath.Join(dir, "access")
	for name, f := range repo.Files {
		file(filepath.Join("access", name), string(f.Data))
	}
	git, err := peers.Git(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}, {"commit", "-q", "-m", "access"}} {
		if _, err := git.Run(t.Context(), access, args...); err != nil {
			t.Fatal(err)
		}
	}
	program, err := exec.LookPath("sallyport")
	if err != nil {
		t.Fatal(err)
	}
	run := func(env []string, name string, args ...string) (out, errs string, failed error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Env = append(peers.CleanEnv(os.Environ(), dir), env...)
		var o, e bytes.Buffer
		cmd.Stdout, cmd.Stderr = &o, &e
		err := cmd.Run()
		return o.String(), e.String(), err
	}
	flags := []string{"--as", "agent:etl", "--repo", access, "--key", key, "--gateway", "gw1@" + address}
	kubectl := filepath.Join(server.Programs, "kubectl")

	config := filepath.Join(dir, "kubeconfig")
	if out, errs, err := run(nil, program, append([]string{"connect", "prod", "--kubeconfig", config}, flags...)...); err != nil || !strings.Contains(out, "kubectl --kubeconfig") {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), server.Token) || strings.Contains(string(text), "PRIVATE") {
		t.Error("the kubeconfig holds a secret")
	}
	if out, errs, err := run([]string{"KUBECONFIG=" + config}, kubectl, "get", "pods"); err != nil || !strings.Contains(out, "web") {
		t.Errorf("%v: %s%s", err, out, errs)
	}
	if out, errs, err := run([]string{"KUBECONFIG=" + config}, kubectl, "get", "secrets"); err == nil || !strings.Contains(errs, "list on secrets in default is not in the allow rules of review prod/etl") {
		t.Errorf("%v: %s%s", err, out, errs)
	}
	if out, errs, err := run(nil, program, append(append([]string{"connect", "prod"}, flags...), "--", kubectl, "get", "pod", "web", "-o", "name")...); err != nil || out != "pod/web\n" {
		t.Errorf("%v: %s%s", err, out, errs)
	}
	// Without a review the first thing that kubectl asks for says why, and what to do.
	if _, errs, err := run([]string{"KUBECONFIG=" + config}, program, "connect", "prod", "--as", "agent:report", "--repo", access, "--key", key, "--gateway", "gw1@"+address, "--", kubectl, "get", "pods"); err == nil {
		t.Errorf("another's key: %s", errs)
	}
	if _, err := git.Run(t.Context(), access, "rm", "-q", "-r", "reviews"); err != nil {
		t.Fatal(err)
	}
	if _, err := git.Run(t.Context(), access, "commit", "-q", "-m", "over"); err != nil {
		t.Fatal(err)
	}
	if _, errs, err := run([]string{"KUBECONFIG=" + config}, kubectl, "get", "pods"); err != nil {
		t.Errorf("the gateway still has the release with the review: %s", errs)
	}
}

// gatewayBefore serves Kubernetes clients from the documents of a repo, and returns where.
func gatewayBefore(t *testing.T, repo *accesstest.Repo, recordings, secret string) string {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	journal, err := record.Open(record.Options{Dir: recordings, Gateway: "gw1", Durability: "process", Log: log, Sign: func(b []byte) ([]byte, error) {
		return reviews.Sign(accesstest.Signer("gw1"), reviews.NamespaceCheckpoint, b)
	}})
	if err != nil {
		t.Fatal(err)
	}
	credentials, err := credential.NewStore([]string{"file:" + secret})
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := gatewayd.New(gatewayd.Config{Name: "gw1", Fingerprint: ssh.FingerprintSHA256(accesstest.Signer("gw1").PublicKey()), Journal: journal,
		Credentials: credentials, Summaries: func(record.Summary) {}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	gateway.Swap(repo.Release(1))
	certificate, err := identity.GatewayCertificate(accesstest.Key("gw1"))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- kube.Serve(ctx, listener, kube.Options{Gateway: gateway, TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}, Log: log})
	}()
	t.Cleanup(func() {
		gateway.Drain()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		journal.Close()
	})
	return listener.Addr().String()
}
