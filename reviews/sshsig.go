package reviews

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// maxSignature bounds an armoured signature in bytes; real ones stay below 1 KiB.
const maxSignature = 8 << 10

// Errors that Verify's callers tell apart.
var (
	ErrMalformedSignature = errors.New("this is not an SSH signature as ssh-keygen -Y sign writes it")
	ErrWrongNamespace     = errors.New("the signature was made for another purpose")
	ErrBadSignature       = errors.New("the signature is not over these bytes")
	ErrKeyType            = errors.New("the key type is not allowed")
)

// Sign signs message for the purpose that namespace names and returns the
// armoured SSHSIG, as "ssh-keygen -Y sign -n namespace" writes it.
func Sign(signer ssh.Signer, namespace string, message []byte) ([]byte, error) {
	if err := AllowedKey(signer.PublicKey()); err != nil {
		return nil, err
	}
	sig, err := sshsig.Sign(bytes.NewReader(message), signer, sshsig.HashSHA512, namespace)
	if err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", ssh.FingerprintSHA256(signer.PublicKey()), err)
	}
	return sshsig.Armor(sig), nil
}

// Verify checks an armoured SSHSIG over message and returns the key that made it.
// It says nothing about whose key that is: a caller must look the key up among the
// keys it trusts. The error wraps one of ErrMalformedSignature,
// ErrWrongNamespace, ErrBadSignature and ErrKeyType.
func Verify(armored []byte, namespace string, message []byte) (ssh.PublicKey, error) {
	sig, err := unarmor(armored)
	if err != nil {
		return nil, err
	}
	if err := AllowedKey(sig.PublicKey); err != nil {
		return nil, err
	}
	if sig.Namespace != namespace {
		return nil, fmt.Errorf("%w: it has namespace %q where %q is needed", ErrWrongNamespace, printable(sig.Namespace), namespace)
	}
	if sig.HashAlgorithm != sshsig.HashSHA512 {
		return nil, fmt.Errorf("%w: it uses hash %q; sign with sha512, the default of ssh-keygen", ErrMalformedSignature, printable(sig.HashAlgorithm.String()))
	}
	if sig.Signature.Format != sig.PublicKey.Type() {
		return nil, fmt.Errorf("%w: a %q signature by a %s key", ErrMalformedSignature, printable(sig.Signature.Format), sig.PublicKey.Type())
	}
	if err := sshsig.Verify(bytes.NewReader(message), sig, sig.PublicKey, sshsig.HashSHA512, namespace); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBadSignature, err)
	}
	return sig.PublicKey, nil
}

// unarmor accepts one armoured signature and nothing before, behind or inside it.
func unarmor(armored []byte) (*sshsig.Signature, error) {
	if len(armored) > maxSignature {
		return nil, fmt.Errorf("%w: it is larger than %d bytes", ErrMalformedSignature, maxSignature)
	}
	const begin = "-----BEGIN SSH SIGNATURE-----\n"
	block, rest := pem.Decode(armored)
	if block == nil || !bytes.HasPrefix(armored, []byte(begin)) || block.Type != sshsig.PEMType ||
		len(block.Headers) > 0 || len(bytes.TrimSpace(rest)) > 0 {
		return nil, ErrMalformedSignature
	}
	sig, err := sshsig.ParseSignature(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMalformedSignature, err)
	}
	return sig, nil
}

// AllowedKey refuses every key type but ed25519, plain or on a security key.
func AllowedKey(key ssh.PublicKey) error {
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519:
		return nil
	}
	return fmt.Errorf("%w: %s; use ed25519 (ssh-keygen -t ed25519) or a security key (ssh-keygen -t ed25519-sk)", ErrKeyType, printable(key.Type()))
}

// PublicKey parses the key. Documents that Parse accepted hold only keys that parse.
func (k Key) PublicKey() (ssh.PublicKey, error) { return parseKey(k.Key) }

// Usable is nil when the key may be used at that time, otherwise why not.
func (k Key) Usable(now time.Time) error {
	if !k.NotBefore.IsZero() && now.Before(k.NotBefore) {
		return fmt.Errorf("the key is not valid before %s", k.NotBefore.Format(time.RFC3339))
	}
	if !k.NotAfter.IsZero() && !now.Before(k.NotAfter) {
		return fmt.Errorf("the key expired at %s", k.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// parseKey reads one public key in authorized_keys form, without options.
func parseKey(text string) (ssh.PublicKey, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("a key is one line")
	}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(text))
	switch {
	case err != nil || len(options) > 0:
		return nil, errors.New(`this is not a public key; write the line of the .pub file, such as "ssh-ed25519 AAAA… alice"`)
	case !strings.HasPrefix(text, key.Type()+" "):
		return nil, errors.New("a key starts with its type, without options before it")
	}
	return key, AllowedKey(key)
}

// KeyDigest is the lower-case hex sha256 of the key's wire form, which names sidecars.
func KeyDigest(key ssh.PublicKey) string {
	sum := sha256.Sum256(key.Marshal())
	return hex.EncodeToString(sum[:])
}

// SidecarPath is where the signature of that principal's key over the document
// at docPath has to stand, for example
// "reviews/orders-db/etl.yaml.sigs/user_bob.<hex sha256 of the key>.sig".
func SidecarPath(docPath, principal string, key ssh.PublicKey) string {
	return docPath + sidecarSuffix + "/" + fileName(principal) + "." + KeyDigest(key) + ".sig"
}

const sidecarSuffix = ".sigs"

// printable makes a hostile string safe and short for an error message.
func printable(s string) string {
	s = strings.Trim(fmt.Sprintf("%+q", s), `"`)
	return s[:min(len(s), 64)]
}

// Fingerprint is "SHA256:…" as ssh-keygen -l prints it, "" when the key does not parse.
func (k Key) Fingerprint() string {
	key, err := k.PublicKey()
	if err != nil {
		return ""
	}
	return ssh.FingerprintSHA256(key)
}

// digest is KeyDigest of the key, "" when it does not parse.
func (k Key) digest() string {
	key, err := k.PublicKey()
	if err != nil {
		return ""
	}
	return KeyDigest(key)
}
