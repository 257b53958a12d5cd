package main

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/sshd"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// What request writes for an ssh host is read back as it was meant, and its examples come to what they say.
func TestRequestForSSHHosts(t *testing.T) {
	target := &reviews.Connection{Metadata: reviews.Metadata{Name: "web"}}
	target.Spec.Protocol = "ssh"
	policy, err := policies.Compile(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]reviews.Rule{
		"exec:systemctl restart web-*":    {Exec: []string{"systemctl", "restart", "web-*"}},
		"exec:journalctl -u web **":       {Exec: []string{"journalctl", "-u", "web", "**"}},
		"text:cd /srv && ./deploy.sh 'x'": {Text: "cd /srv && ./deploy.sh 'x'"},
		"sftp:read:/var/log/**":           {SFTP: "read", Path: "/var/log/**"},
		"shell":                           {Shell: true},
		"forward:db.internal:5432":        {Forward: "db.internal:5432"},
	} {
		rule, err := parseAllow(text, "ssh")
		if err != nil || !reflect.DeepEqual(rule, want) {
			t.Errorf("%s: %+v, %v", text, rule, err)
		}
		r := &reviews.Review{Metadata: reviews.Metadata{Repo: "6f0c2f5e-8f0a-4f6e-9a43-0d3f6a1f8b11", Name: "web/etl"}}
		r.Spec.Sequence, r.Spec.Requester, r.Spec.Subject, r.Spec.Connection = 1, "user:alice", "agent:etl", "web"
		r.Spec.Allow = []reviews.Rule{rule}
		r.Spec.Mask = []reviews.Mask{{Pattern: `tok_[a-z]{8}`, With: "redact"}, {Detect: "card", With: "redact"}}
		r.Spec.Limits.Commands = 7
		r.Spec.Validity = reviews.Validity{NotBefore: time.Now().Add(-time.Hour).UTC().Truncate(time.Second), Expires: time.Now().Add(time.Hour).UTC().Truncate(time.Second)}
		r.Spec.Justification.Reason = "a test"
		r.Spec.Examples = examplesFor(r, target)
		back, err := reviews.ParseReview("reviews/web/etl.yaml", renderReview(r))
		if err != nil {
			t.Errorf("%s: %v\n%s", text, err, renderReview(r))
			continue
		}
		if !reflect.DeepEqual(back.Spec, r.Spec) {
			t.Errorf("%s: %+v\nwant %+v", text, back.Spec, r.Spec)
		}
		outcomes, problems, err := ci.Options{Classifiers: classifiers()}.Examples(t.Context(), policy, target, back)
		if err != nil || len(problems) > 0 || len(outcomes) != len(r.Spec.Examples) {
			t.Errorf("%s: %v %v", text, problems, err)
		}
		for _, o := range outcomes {
			if !o.Passed {
				t.Errorf("%s: %s", o.Run, o.Message)
			}
		}
	}
	for _, bad := range []string{"select:app.orders", "exec:", "exec", "text:", "sftp:read", "shell:x", "forward:", ""} {
		if rule, err := parseAllow(bad, "ssh"); err == nil {
			t.Errorf("%q is %+v", bad, rule)
		}
	}
}

// doctor tells a host that is right from one with another key, another account or no server.
func TestProbeOfSSHHosts(t *testing.T) {
	host := peers.StartSSHD(t, peers.SSHOptions{AuthorizedKeys: []string{accesstest.PublicKey("target")}})
	secretOf := func(name string) credential.Secret {
		t.Helper()
		block, err := ssh.MarshalPrivateKey(accesstest.Key(name), "")
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		secret, err := credential.Resolve(t.Context(), "file:"+file)
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	right := reviews.Target{Host: "127.0.0.1", Port: host.Port, User: host.User, HostKeys: []string{host.HostKey}}
	if version, err := sshd.Probe(t.Context(), right, secretOf("target")); err != nil || !strings.HasPrefix(version, "SSH-2.0-OpenSSH") {
		t.Errorf("%q, %v", version, err)
	}
	other, closed := right, right
	other.HostKeys, closed.Port = []string{accesstest.PublicKey("another")}, 1
	if _, err := sshd.Probe(t.Context(), other, secretOf("target")); err == nil || !strings.Contains(err.Error(), "pins others") {
		t.Errorf("another host key: %v", err)
	}
	if _, err := sshd.Probe(t.Context(), right, secretOf("another")); err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
		t.Errorf("another key: %v", err)
	}
	if _, err := sshd.Probe(t.Context(), closed, secretOf("target")); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("no server: %v", err)
	}
}
