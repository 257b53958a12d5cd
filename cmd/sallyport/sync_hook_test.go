package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const hookSecret = "0123456789abcdef-the-secret"

func signedHook(url, secret, body string, headers ...string) *http.Request {
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	r.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	r.Header.Set("X-Gitea-Signature", hex.EncodeToString(mac.Sum(nil)))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

func sendHook(t *testing.T, client *http.Client, r *http.Request) int {
	t.Helper()
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil || strings.Contains(string(b), hookSecret) {
		t.Errorf("answers %q, %v", b, err)
	}
	return response.StatusCode
}

// startHooks serves webhooks as sync does.
func startHooks(t *testing.T, o hookOptions) (url string, wake <-chan struct{}, log *bytes.Buffer) {
	t.Helper()
	t.Setenv("HOOK_SECRET", hookSecret)
	o.listen, o.secret = "127.0.0.1:0", "env:HOOK_SECRET"
	woken := make(chan struct{}, 1)
	log = &bytes.Buffer{}
	ctx, stop := context.WithCancel(t.Context())
	l, h, err := o.open(ctx, woken, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- h.serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String(), woken, log
}

func TestHooksWakeAndNothingElse(t *testing.T) {
	address, wake, log := startHooks(t, hookOptions{})
	at := "http://" + address + "/hook"
	woken := func() bool {
		select {
		case <-wake:
			return true
		default:
			return false
		}
	}
	const push = `{"ref": "refs/heads/main", "after": "x", "repository": {"full_name": "acme/access"}}`
	get := signedHook(at, hookSecret, push, "X-GitHub-Event", "push")
	get.Method = http.MethodGet
	big := strings.Repeat(" ", 5<<20)
	for name, r := range map[string]*http.Request{
		"another secret":  signedHook(at, "0123456789abcdef-the-guess", push, "X-GitHub-Event", "push"),
		"no signature":    signedHook(at, hookSecret, push, "X-GitHub-Event", "push", "X-Hub-Signature-256", ""),
		"Gitea, unsigned": signedHook(at, hookSecret, push, "X-Gitea-Event", "push", "X-Gitea-Signature", ""),
		"SHA-1":           signedHook(at, hookSecret, push, "X-GitHub-Event", "push", "X-Hub-Signature-256", "", "X-Hub-Signature", "sha1=00"),
		"not JSON":        signedHook(at, hookSecret, "[", "X-GitHub-Event", "push"),
		"too big":         signedHook(at, hookSecret, big, "X-GitHub-Event", "push"),
		"a GET":           get,
		"another path":    signedHook("http://"+address+"/metrics", hookSecret, push, "X-GitHub-Event", "push"),
	} {
		if code := sendHook(t, http.DefaultClient, r); code/100 != 4 || woken() {
			t.Errorf("%s: %d, or it woke sync", name, code)
		}
	}
	if text := log.String(); strings.Count(text, "webhook ignored") != 1 || strings.Contains(text, hookSecret) {
		t.Errorf("several refusals in a minute are logged as\n%s", text)
	}
	for name, c := range map[string]struct {
		r     *http.Request
		wakes bool
	}{
		"GitHub push":   {signedHook(at, hookSecret, push, "X-GitHub-Event", "push"), true},
		"Gitea push":    {signedHook(at, hookSecret, push, "X-Gitea-Event", "push"), true},
		"GitHub review": {signedHook(at, hookSecret, `{"action": "submitted", "pull_request": {"number": 7}}`, "X-GitHub-Event", "pull_request_review"), true},
		"Gitea merge":   {signedHook(at, hookSecret, `{"action": "closed", "pull_request": {"number": 7, "merged": true}}`, "X-Gitea-Event", "pull_request"), true},
		"anybody":       {signedHook(at, hookSecret, "merged"), true},
		"GitHub ping":   {signedHook(at, hookSecret, `{"zen": "x"}`, "X-GitHub-Event", "ping"), false},
		"GitHub star":   {signedHook(at, hookSecret, `{"action": "created"}`, "X-GitHub-Event", "star"), false},
	} {
		if code := sendHook(t, http.DefaultClient, c.r); code != http.StatusNoContent || woken() != c.wakes {
			t.Errorf("%s: %d, want that it wakes sync: %v", name, code, c.wakes)
		}
	}
	// Sent again and again it is one wake, and beyond the rate nothing is even read.
	codes := map[int]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				code := sendHook(t, http.DefaultClient, signedHook(at, hookSecret, push, "X-GitHub-Event", "push"))
				mu.Lock()
				codes[code]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if codes[http.StatusNoContent] == 0 || codes[http.StatusTooManyRequests] == 0 || codes[http.StatusNoContent]+codes[http.StatusTooManyRequests] != 200 || !woken() || woken() {
		t.Errorf("a flood: %v", codes)
	}
}

// Slow senders may take all places, and then one more is refused at once, without anything of it being kept.
func TestHooksAtOnce(t *testing.T) {
	h := &hooks{}
	now := time.Now()
	for range hooksAtOnce {
		if !h.enter(now) {
			t.Fatal("refused too early")
		}
	}
	if h.enter(now) {
		t.Error("one more than may be read at once")
	}
	h.leave()
	if !h.enter(now) {
		t.Error("a place that became free stays taken")
	}
	h = &hooks{}
	for range hooksPerSecond {
		if !h.enter(now) {
			t.Fatal("refused too early")
		}
		h.leave()
	}
	if h.enter(now.Add(900 * time.Millisecond)) {
		t.Error("more than may come in a second")
	}
	if !h.enter(now.Add(time.Second)) {
		t.Error("the next second refuses, too")
	}
}

func TestHooksWithTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS() // for its certificate
	defer server.Close()
	pair := server.TLS.Certificates[0]
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	private, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address, wake, log := startHooks(t, hookOptions{cert: cert, key: key})
	if code := sendHook(t, server.Client(), signedHook("https://"+address+"/hook", hookSecret, "x")); code != http.StatusNoContent || len(wake) != 1 {
		t.Errorf("%d", code)
	}
	old := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MaxVersion: tls.VersionTLS11, InsecureSkipVerify: true}}}
	if _, err := old.Do(signedHook("https://"+address+"/hook", hookSecret, "x")); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	if strings.Contains(log.String(), "without TLS") {
		t.Error(log)
	}
}

func TestHookFlags(t *testing.T) {
	t.Setenv("SHORT_SECRET", "too short")
	t.Setenv("HOOK_SECRET", hookSecret)
	dir := t.TempDir()
	base := []string{"sync", "--remote", dir, "--out", filepath.Join(dir, "out"), "--state", filepath.Join(dir, "state"), "--key", filepath.Join(dir, "key"), "--trust-root", "sha256:" + strings.Repeat("a", 64)}
	w := newWorkplace(t)
	for want, flags := range map[string][]string{
		"--hooks goes with --watch":            {"--hooks", "127.0.0.1:0", "--hook-secret", "env:HOOK_SECRET"},
		"--hooks needs --hook-secret":          {"--watch", "--hooks", "127.0.0.1:0"},
		"go with --hooks":                      {"--watch", "--hook-secret", "env:HOOK_SECRET"},
		"--hook-cert and --hook-key":           {"--watch", "--hooks", "127.0.0.1:0", "--hook-secret", "env:HOOK_SECRET", "--hook-cert", "x"},
		"--forge-token and --attester-key go ": {"--forge-token", "env:HOOK_SECRET"},
	} {
		if _, errOut, code := w.run(configuredForge, append(base, flags...)...); code != exitUsage || !strings.Contains(errOut, want) {
			t.Errorf("%v: %d %s; want %q", flags, code, errOut, want)
		}
	}
	for want, o := range map[string]hookOptions{
		"fewer than 16":            {listen: "127.0.0.1:0", secret: "env:SHORT_SECRET"},
		"not set or empty":         {listen: "127.0.0.1:0", secret: "env:NO_SUCH_SECRET"},
		"takes env:NAME or file:/": {listen: "127.0.0.1:0", secret: hookSecret},
		"no such file":             {listen: "127.0.0.1:0", secret: "env:HOOK_SECRET", cert: filepath.Join(dir, "none"), key: filepath.Join(dir, "none")},
	} {
		if _, _, err := o.open(t.Context(), nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), hookSecret) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	var log bytes.Buffer
	o := hookOptions{listen: "0.0.0.0:0", secret: "env:HOOK_SECRET"}
	l, _, err := o.open(t.Context(), nil, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !strings.Contains(log.String(), "without TLS from other machines") {
		t.Errorf("an open listener without TLS is told as %q", log.String())
	}
}
