package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// startHost starts an OpenSSH server, whose account only the gateway has a key for, and a folder on it with a log.
func (d *demo) startHost() error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.path("keys", "web-1"), pem.EncodeToMemory(block), 0o600); err != nil {
		return err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return err
	}
	d.host, err = peers.SSHD(d.ctx, peers.SSHOptions{AuthorizedKeys: []string{string(ssh.MarshalAuthorizedKey(key))}, Progress: d.stage})
	if missing := (*peers.Missing)(nil); errors.As(err, &missing) {
		d.stage("the scene with an ssh host is left out: " + err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	d.listenSSH = fmt.Sprintf("127.0.0.1:%d", port)
	d.stage("an OpenSSH server with a log to read; the key to it is in a file that gatewayd reads")
	for name, text := range map[string]string{"web.log": "GET /orders 200 key tok_a1b2c3d4e5\n", "private.key": "the key\n"} {
		if err := os.WriteFile(filepath.Join(d.host.Dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// sshListener is the gateway's configuration of it.
func (d *demo) sshListener() string {
	if d.host == nil {
		return ""
	}
	return fmt.Sprintf("ssh: {listen: %q}\n", d.listenSSH)
}

// describeHost adds the host to the access repo: where the gateway listens, and the connection.
func (d *demo) describeHost() error {
	if d.host == nil {
		return nil
	}
	d.note("bob adds an ssh host: where clients find the gateway, the host with its pinned key, and what output never shows.")
	if err := d.edit(d.bob, "sallyport.yaml", "postgres: \""+d.listen+"\"", "postgres: \""+d.listen+"\", ssh: \""+d.listenSSH+"\""); err != nil {
		return err
	}
	repo := strings.TrimSpace(d.quiet(d.bob, "", "sh", "-c", `sed -n 's/.*repo: "*\([0-9a-f-]\{36\}\).*/\1/p' sallyport.yaml | head -n 1`).stdout)
	text := fmt.Sprintf(`apiVersion: sallyport.dev/v1
kind: Connection
metadata: {repo: %s, name: web-1}
spec:
  protocol: ssh
  target: {host: 127.0.0.1, port: %d, user: %s, hostKeys: ["%s"]}
  credential: "file:%s"
  risk: low
  mask:
    - {pattern: 'tok_[a-z0-9]{10}', with: redact}
`, repo, d.host.Port, d.host.User, d.host.HostKey, d.path("keys", "web-1"))
	if err := os.WriteFile(filepath.Join(d.bob.clone, "connections", "web-1.yaml"), []byte(text), 0o644); err != nil {
		return err
	}
	for _, words := range [][]string{
		{"git", "add", "."},
		{"git", "commit", "--quiet", "--message", "Add the host web-1"},
		{"sallyport", "sign", "sallyport.yaml", "connections/web-1.yaml", "--as", "user:bob"},
		{"git", "push", "--quiet", "origin", "HEAD:main"},
	} {
		if r := d.run(d.bob, words...); r.code != 0 {
			return errors.New("that should have worked")
		}
	}
	return nil
}

const hostReview = "reviews/web-1/etl.yaml"

// onHost is how etl runs an ssh client.
func (d *demo) onHost(client ...string) []string {
	return append([]string{"sallyport", "connect", "web-1", "--as", "agent:etl", "--repo", d.remote, "--"}, client...)
}

func (d *demo) sshHost() error {
	if d.host == nil {
		d.note("Left out: there is no OpenSSH server here.")
		return nil
	}
	log := filepath.Join(d.host.Dir, "web.log")
	repo := strings.TrimSpace(d.quiet(d.bob, "", "sh", "-c", `sed -n 's/.*repo: "*\([0-9a-f-]\{36\}\).*/\1/p' sallyport.yaml | head -n 1`).stdout)
	now := time.Now().UTC()
	text := fmt.Sprintf(`apiVersion: sallyport.dev/v1
kind: AccessReview
metadata: {repo: %s, name: web-1/etl}
spec:
  sequence: 1
  requester: user:alice
  subject: agent:etl
  connection: web-1
  allow:
    - {exec: [tail, -n, "*", "%[2]s"]}
    - {sftp: read, path: "%[2]s"}
  validity: {notBefore: "%[3]s", expires: "%[4]s"}
  justification: {ticket: OPS-813, reason: look for slow orders}
  examples:
    - {run: "tail -n 5 %[2]s", expect: mask}
    - {run: "tail -n 5 %[2]s; id", expect: deny}
`, repo, log, now.Add(-time.Minute).Format(time.RFC3339), now.Add(24*time.Hour).Format(time.RFC3339))
	path := filepath.Join(d.bob.clone, hostReview)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	d.note("A review for an ssh host says which command lines and which files, word by word.")
	d.run(d.bob, "cat", hostReview)
	d.run(d.bob, "git", "add", ".")
	d.run(d.bob, "git", "commit", "--quiet", "--message", "Let etl read the log of web-1")
	r := d.run(d.bob, "sallyport", "sign", hostReview, "--as", "user:bob")
	d.assert(r.code == 0, "bob signed it")
	if _, err := d.pushMain(); err != nil {
		return err
	}
	r = d.run(d.etl, d.onHost("ssh", "web-1", "tail", "-n", "5", log)...)
	d.assert(r.code == 0 && strings.Contains(r.stdout, "key [masked]") && !strings.Contains(r.all(), "tok_a1b2"), "the log is there, the token in it is masked")
	r = d.run(d.etl, d.onHost("ssh", "web-1", "tail -n 5 "+log+"; id")...)
	d.assert(r.code == 77 && strings.Contains(r.stderr, "denial d-") && !strings.Contains(r.all(), "uid="), "with another command behind it, nothing of it ran")
	r = d.run(d.etl, d.onHost("scp", "-q", "web-1:"+log, "web.log")...)
	d.assert(r.code == 0, "scp may copy the log")
	r = d.run(d.etl, d.onHost("scp", "-q", "web-1:"+filepath.Join(d.host.Dir, "private.key"), "stolen")...)
	d.assert(r.code != 0, "and no other file")
	return nil
}
