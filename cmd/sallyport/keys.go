package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"github.com/sallyport-dev/sallyport/reviews"
)

const keyFlagHelp = "private key file, .pub file of a key in the ssh-agent, or \"agent\" (default: the key of the ssh-agent that the access repo gives you)"

// openKey opens a key file, or, for "" and "agent", the only usable key of the agent.
func openKey(file string) (*reviews.Signer, error) {
	if file == "agent" {
		file = ""
	}
	return reviews.OpenSigner(reviews.SignerOptions{
		KeyFile:     file,
		AgentSocket: os.Getenv("SSH_AUTH_SOCK"),
		Passphrase:  askPassphrase,
	})
}

// openKeyOf opens a key that the access repo gives to the principal: the given
// file, or whichever of the keys the ssh-agent holds.
func openKeyOf(principal string, keys []reviews.Key, file string) (*reviews.Signer, error) {
	if len(keys) == 0 {
		return nil, hint(fmt.Errorf("the access repo has no usable key of %s", principal),
			"a person's keys are in %s, all others in %s", reviews.RootPath, reviews.PathOf(reviews.KindPrincipal, principal))
	}
	if file != "" && file != "agent" {
		signer, err := openKey(file)
		if err != nil {
			return nil, err
		}
		if !holds(keys, signer.PublicKey()) {
			signer.Close()
			return nil, hint(fmt.Errorf("key %s is not a usable key of %s", ssh.FingerprintSHA256(signer.PublicKey()), principal),
				"its keys are: %s", strings.Join(fingerprints(keys), ", "))
		}
		return signer, nil
	}
	var last error
	for _, fingerprint := range fingerprints(keys) {
		signer, err := reviews.OpenSigner(reviews.SignerOptions{Fingerprint: fingerprint, AgentSocket: os.Getenv("SSH_AUTH_SOCK")})
		if err == nil {
			return signer, nil
		}
		last = err
	}
	return nil, hint(fmt.Errorf("no key of %s: %w", principal, last), "or name a private key file with --key")
}

func holds(keys []reviews.Key, wanted ssh.PublicKey) bool {
	for _, k := range keys {
		if key, err := k.PublicKey(); err == nil && bytes.Equal(key.Marshal(), wanted.Marshal()) {
			return true
		}
	}
	return false
}

func fingerprints(keys []reviews.Key) []string {
	var all []string
	for _, k := range keys {
		if key, err := k.PublicKey(); err == nil {
			all = append(all, ssh.FingerprintSHA256(key))
		}
	}
	return all
}

// askPassphrase asks on the terminal, where there is one.
func askPassphrase(file string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, errors.New("no terminal to ask on; add the key to an ssh-agent (ssh-add) instead")
	}
	defer tty.Close()
	fmt.Fprintf(tty, "Passphrase of %s: ", file)
	defer fmt.Fprintln(tty)
	return term.ReadPassword(int(tty.Fd()))
}

// authorized is a public key as documents hold it.
func authorized(key ssh.PublicKey, comment string) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " " + comment
}

// ensureKey opens a private key, and makes an ed25519 one first when there is
// no such file. created says which.
func ensureKey(path, comment string) (signer *reviews.Signer, created bool, err error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if err := writeKey(path, comment); err != nil {
			return nil, false, fmt.Errorf("key %s: %w", path, err)
		}
		created = true
	}
	signer, err = openKey(path)
	return signer, created, err
}

// writeKey makes an unencrypted ed25519 key, mode 0600, in a folder of mode 0700.
func writeKey(path, comment string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return err
	}
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		return err
	}
	if err := writeNew(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return err
	}
	return writeNew(path+".pub", []byte(authorized(public, comment)+"\n"), 0o644)
}

// writeNew writes a file that must not exist yet.
func writeNew(path string, b []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
