package reviews_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/reviews"
)

func newKey(t testing.TB, seed byte) ssh.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(slices.Repeat([]byte{seed}, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func authorized(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func sign(t testing.TB, s ssh.Signer, namespace string, message []byte) []byte {
	t.Helper()
	armored, err := reviews.Sign(s, namespace, message)
	if err != nil {
		t.Fatal(err)
	}
	return armored
}

// TestVerifyRefuses has a row for every way in which a signature can be something else.
func TestVerifyRefuses(t *testing.T) {
	message := []byte("the document\n")
	key := newKey(t, 1)
	good := sign(t, key, reviews.NamespaceReview, message)
	block, _ := pem.Decode(good)
	rearmor := func(change func(*pem.Block)) []byte {
		b := &pem.Block{Type: block.Type, Headers: map[string]string{}, Bytes: slices.Clone(block.Bytes)}
		change(b)
		return pem.EncodeToMemory(b)
	}
	with := func(s ssh.Signer, hash sshsig.HashAlgorithm, namespace string) []byte {
		sig, err := sshsig.Sign(bytes.NewReader(message), s, hash, namespace)
		if err != nil {
			t.Fatal(err)
		}
		return sshsig.Armor(sig)
	}
	untouched := newSecurityKey(t, 2)
	untouched.flags = 0
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaSigner, err := ssh.NewSignerFromKey(rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	swapped, err := sshsig.Unarmor(good)
	if err != nil {
		t.Fatal(err)
	}
	swapped.PublicKey = newKey(t, 9).PublicKey()

	tests := []struct {
		name    string
		armored []byte
		want    error
	}{
		{"namespace of ssh-keygen's manual", with(key, sshsig.HashSHA512, "file"), reviews.ErrWrongNamespace},
		{"namespace of git", with(key, sshsig.HashSHA512, "git"), reviews.ErrWrongNamespace},
		{"namespace of another kind", sign(t, key, reviews.NamespaceConnection, message), reviews.ErrWrongNamespace},
		{"namespace of a token", sign(t, key, reviews.NamespaceToken, message), reviews.ErrWrongNamespace},
		{"namespace with a NUL", with(key, sshsig.HashSHA512, reviews.NamespaceReview+"\x00"), reviews.ErrWrongNamespace},
		{"other bytes", sign(t, key, reviews.NamespaceReview, []byte("the document")), reviews.ErrBadSignature},
		{"sha256", with(key, sshsig.HashSHA256, reviews.NamespaceReview), reviews.ErrMalformedSignature},
		{"RSA", with(rsaSigner, sshsig.HashSHA512, reviews.NamespaceReview), reviews.ErrKeyType},
		{"security key that nobody touched", sign(t, untouched, reviews.NamespaceReview, message), reviews.ErrBadSignature},
		{"key of somebody else", sshsig.Armor(swapped), reviews.ErrBadSignature},
		{"empty", nil, reviews.ErrMalformedSignature},
		{"text", []byte("hello\n"), reviews.ErrMalformedSignature},
		{"garbage before", append([]byte("x\n"), good...), reviews.ErrMalformedSignature},
		{"garbage behind", append(slices.Clone(good), "x"...), reviews.ErrMalformedSignature},
		{"two signatures", append(slices.Clone(good), good...), reviews.ErrMalformedSignature},
		{"headers", rearmor(func(b *pem.Block) { b.Headers["Comment"] = "x" }), reviews.ErrMalformedSignature},
		{"another type", rearmor(func(b *pem.Block) { b.Type = "OPENSSH PRIVATE KEY" }), reviews.ErrMalformedSignature},
		{"cut", rearmor(func(b *pem.Block) { b.Bytes = b.Bytes[:len(b.Bytes)-1] }), reviews.ErrMalformedSignature},
		{"longer", rearmor(func(b *pem.Block) { b.Bytes = append(b.Bytes, 0) }), reviews.ErrMalformedSignature},
		{"another magic", rearmor(func(b *pem.Block) { b.Bytes[0] = 'X' }), reviews.ErrMalformedSignature},
		{"another version", rearmor(func(b *pem.Block) { b.Bytes[9] = 2 }), reviews.ErrMalformedSignature},
		{"huge", bytes.Repeat([]byte("-----BEGIN SSH SIGNATURE-----\n"), 1000), reviews.ErrMalformedSignature},
		{"raw", block.Bytes, reviews.ErrMalformedSignature},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := reviews.Verify(tt.armored, reviews.NamespaceReview, message)
			if !errors.Is(err, tt.want) || got != nil {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if got, err := reviews.Verify(good, reviews.NamespaceReview, message); err != nil || !bytes.Equal(got.Marshal(), key.PublicKey().Marshal()) {
		t.Errorf("the good one: %v, %v", got, err)
	}
}

// TestVerifyFlips flips every bit of the binary signature: none may pass.
func TestVerifyFlips(t *testing.T) {
	message := []byte("the document\n")
	for _, key := range []ssh.Signer{newKey(t, 1), newSecurityKey(t, 2)} {
		block, _ := pem.Decode(sign(t, key, reviews.NamespaceReview, message))
		for i := range block.Bytes {
			for bit := range 8 {
				flipped := slices.Clone(block.Bytes)
				flipped[i] ^= 1 << bit
				armored := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: flipped})
				if got, err := reviews.Verify(armored, reviews.NamespaceReview, message); err == nil {
					t.Errorf("%s: byte %d bit %d flipped, and it verifies as %s", key.PublicKey().Type(), i, bit, ssh.FingerprintSHA256(got))
				}
			}
		}
	}
}

func FuzzVerify(f *testing.F) {
	message := []byte("m")
	f.Add(sign(f, newKey(f, 1), reviews.NamespaceReview, message))
	f.Add(sign(f, newSecurityKey(f, 2), reviews.NamespaceReview, message))
	f.Add([]byte("-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, armored []byte) {
		key, err := reviews.Verify(armored, reviews.NamespaceReview, message)
		if (err == nil) != (key != nil) {
			t.Fatal("a key without a verdict")
		}
		if err == nil && reviews.AllowedKey(key) != nil {
			t.Fatal("a key of a type that is not allowed")
		}
	})
}

func keygen(t *testing.T) *peers.Tool {
	t.Helper()
	tool, err := peers.SSHKeygen()
	if err != nil {
		t.Fatal(err)
	}
	return tool
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestInterchange signs with ssh-keygen and verifies here, and the other way
// round, for a plain key and a security key in an agent.
func TestInterchange(t *testing.T) {
	ctx := context.Background()
	tool := keygen(t)
	dir := t.TempDir()
	message := "apiVersion: sallyport.dev/v1\n"
	document := write(t, filepath.Join(dir, "document"), message)

	plainFile := filepath.Join(dir, "id")
	if out, err := tool.Run(ctx, dir, "-q", "-t", "ed25519", "-N", "", "-f", plainFile); err != nil {
		t.Fatal(out, err)
	}
	plain, err := reviews.OpenSigner(reviews.SignerOptions{KeyFile: plainFile})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	token := newSecurityKey(t, 3)
	tokenFile := write(t, filepath.Join(dir, "id_sk.pub"), authorized(token.PublicKey())+"\n")
	socket := serveAgent(t, token)
	viaAgent, err := reviews.OpenSigner(reviews.SignerOptions{KeyFile: tokenFile, AgentSocket: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { viaAgent.Close() }) // before the agent of the test waits for its clients

	tests := []struct {
		name    string
		signer  ssh.Signer
		keyFile string
		tool    *peers.Tool
	}{
		{"ed25519", plain, plainFile, tool},
		{"security key", viaAgent, tokenFile, tool.With("SSH_AUTH_SOCK=" + socket)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			armored := sign(t, tt.signer, reviews.NamespaceReview, []byte(message))
			signature := write(t, filepath.Join(dir, "ours.sig"), string(armored))
			allowed := write(t, filepath.Join(dir, "allowed"), "bob namespaces=\""+reviews.NamespaceReview+"\" "+authorized(tt.signer.PublicKey())+"\n")
			cmd := tt.tool.Command(ctx, "-Y", "verify", "-f", allowed, "-I", "bob", "-n", reviews.NamespaceReview, "-s", signature)
			cmd.Stdin = strings.NewReader(message)
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Good") {
				t.Errorf("ssh-keygen refuses our signature: %s %v", out, err)
			}
			os.Remove(document + ".sig")
			if out, err := tt.tool.Run(ctx, dir, "-Y", "sign", "-f", tt.keyFile, "-n", reviews.NamespaceReview, document); err != nil {
				t.Fatalf("ssh-keygen cannot sign: %s %v", out, err)
			}
			theirs, err := os.ReadFile(document + ".sig")
			if err != nil {
				t.Fatal(err)
			}
			key, err := reviews.Verify(theirs, reviews.NamespaceReview, []byte(message))
			if err != nil || ssh.FingerprintSHA256(key) != ssh.FingerprintSHA256(tt.signer.PublicKey()) {
				t.Errorf("we refuse ssh-keygen's signature: %v", err)
			}
			if _, err := reviews.Verify(theirs, reviews.NamespacePolicy, []byte(message)); !errors.Is(err, reviews.ErrWrongNamespace) {
				t.Errorf("another namespace: %v", err)
			}
		})
	}
}

func TestSignerFromEncryptedFile(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	file := filepath.Join(dir, "id")
	if out, err := keygen(t).Run(ctx, dir, "-q", "-t", "ed25519", "-N", "correct horse", "-f", file); err != nil {
		t.Fatal(out, err)
	}
	answer := func(text string) func(string) ([]byte, error) {
		return func(asked string) ([]byte, error) {
			if asked != file {
				t.Errorf("asked for %s", asked)
			}
			return []byte(text), nil
		}
	}
	s, err := reviews.OpenSigner(reviews.SignerOptions{KeyFile: file, Passphrase: answer("correct horse")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reviews.Verify(sign(t, s, reviews.NamespaceReview, nil), reviews.NamespaceReview, nil); err != nil {
		t.Error(err)
	}
	_, err = reviews.OpenSigner(reviews.SignerOptions{KeyFile: file, Passphrase: answer("battery staple")})
	if err == nil || !strings.Contains(err.Error(), "passphrase is wrong") || strings.Contains(err.Error(), "battery") {
		t.Errorf("wrong passphrase: %v", err)
	}
	_, err = reviews.OpenSigner(reviews.SignerOptions{KeyFile: file})
	if err == nil || !strings.Contains(err.Error(), "ssh-add") {
		t.Errorf("nobody to ask: %v", err)
	}
	refused := errors.New("not a terminal")
	_, err = reviews.OpenSigner(reviews.SignerOptions{KeyFile: file, Passphrase: func(string) ([]byte, error) { return nil, refused }})
	if !errors.Is(err, refused) {
		t.Errorf("the callback's error: %v", err)
	}
}

// TestSignerFromAgent uses a real ssh-agent, and one that holds a security key.
func TestSignerFromAgent(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	file := filepath.Join(dir, "id")
	if out, err := keygen(t).Run(ctx, dir, "-q", "-t", "ed25519", "-N", "", "-f", file); err != nil {
		t.Fatal(out, err)
	}
	real, err := peers.SSHAgent(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer real.Stop()
	open := func(opt reviews.SignerOptions) (*reviews.Signer, error) {
		s, err := reviews.OpenSigner(opt)
		if s != nil {
			t.Cleanup(func() { s.Close() })
		}
		return s, err
	}
	if _, err := open(reviews.SignerOptions{AgentSocket: real.Socket}); err == nil || !strings.Contains(err.Error(), "ssh-add") {
		t.Errorf("empty agent: %v", err)
	}
	if err := real.Add(ctx, file); err != nil {
		t.Fatal(err)
	}
	for name, opt := range map[string]reviews.SignerOptions{
		"the only key":       {AgentSocket: real.Socket},
		"by public key file": {AgentSocket: real.Socket, KeyFile: file + ".pub"},
	} {
		s, err := open(opt)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := reviews.Verify(sign(t, s, reviews.NamespaceReview, []byte("m")), reviews.NamespaceReview, []byte("m")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := open(reviews.SignerOptions{KeyFile: file + ".pub"}); err == nil || !strings.Contains(err.Error(), "SSH_AUTH_SOCK") {
		t.Errorf("no agent: %v", err)
	}
	if _, err := open(reviews.SignerOptions{AgentSocket: filepath.Join(dir, "nothing")}); err == nil {
		t.Error("a dead socket was accepted")
	}
	if _, err := open(reviews.SignerOptions{AgentSocket: real.Socket, Fingerprint: "SHA256:x"}); err == nil || !strings.Contains(err.Error(), "ssh-add") {
		t.Errorf("a key that the agent does not hold: %v", err)
	}

	a, b := newSecurityKey(t, 4), newKey(t, 5)
	socket := serveAgent(t, a, b)
	_, err = reviews.OpenSigner(reviews.SignerOptions{AgentSocket: socket})
	if err == nil || !strings.Contains(err.Error(), ssh.FingerprintSHA256(a.PublicKey())) {
		t.Errorf("several keys: %v", err)
	}
	s, err := reviews.OpenSigner(reviews.SignerOptions{AgentSocket: socket, Fingerprint: ssh.FingerprintSHA256(a.PublicKey())})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if key, err := reviews.Verify(sign(t, s, reviews.NamespaceReview, []byte("m")), reviews.NamespaceReview, []byte("m")); err != nil || key.Type() != ssh.KeyAlgoSKED25519 {
		t.Errorf("security key in an agent: %v", err)
	}
}

func TestSignerRefusesOtherKeys(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	file := filepath.Join(dir, "id_ecdsa")
	if out, err := keygen(t).Run(ctx, dir, "-q", "-t", "ecdsa", "-N", "", "-f", file); err != nil {
		t.Fatal(out, err)
	}
	if _, err := reviews.OpenSigner(reviews.SignerOptions{KeyFile: file}); !errors.Is(err, reviews.ErrKeyType) {
		t.Errorf("ecdsa: %v", err)
	}
	secret := "c2VjcmV0LWtleS1tYXRlcmlhbA"
	junk := write(t, filepath.Join(dir, "junk"), "-----BEGIN OPENSSH PRIVATE KEY-----\n"+secret+"\n-----END OPENSSH PRIVATE KEY-----\n")
	_, err := reviews.OpenSigner(reviews.SignerOptions{KeyFile: junk})
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("junk: %v", err)
	}
	if _, err := reviews.OpenSigner(reviews.SignerOptions{KeyFile: filepath.Join(dir, "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}
