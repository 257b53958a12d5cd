package reviews

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// maxKeyFile bounds a key file in bytes.
const maxKeyFile = 64 << 10

// SignerOptions say where a signing key is: in a private key file, or in a
// running ssh-agent, chosen by public key file or fingerprint.
type SignerOptions struct {
	// KeyFile is a private key, or a public key (.pub) whose private half the agent
	// holds. A security key always signs through the agent.
	KeyFile string
	// Fingerprint chooses a key of the agent, "SHA256:…" as ssh-add -l prints it.
	// With neither KeyFile nor Fingerprint the agent has to hold exactly one usable key.
	Fingerprint string
	// AgentSocket is the agent's socket, usually $SSH_AUTH_SOCK; "" means there is none.
	AgentSocket string
	// Passphrase asks for the passphrase of an encrypted key file. nil: such a file is refused.
	Passphrase func(keyFile string) ([]byte, error)
}

// Signer is a key that can sign. Close it when done, which leaves the agent.
type Signer struct {
	ssh.Signer
	agent io.Closer
}

// Close drops the connection to the agent, if there is one.
func (s *Signer) Close() error {
	if s.agent == nil {
		return nil
	}
	return s.agent.Close()
}

// OpenSigner finds the key. Errors say what to do and never hold key material.
func OpenSigner(opt SignerOptions) (*Signer, error) {
	if opt.KeyFile == "" {
		return fromAgent(opt, "")
	}
	b, err := readKeyFile(opt.KeyFile)
	if err != nil {
		return nil, err
	}
	if key, _, _, _, err := ssh.ParseAuthorizedKey(b); err == nil {
		return fromAgent(opt, ssh.FingerprintSHA256(key))
	}
	signer, err := fromFile(opt, b)
	if errors.Is(err, errSecurityKey) {
		return securityKey(opt)
	}
	if err != nil {
		return nil, err
	}
	if err := AllowedKey(signer.PublicKey()); err != nil {
		return nil, fmt.Errorf("key file %s: %w", opt.KeyFile, err)
	}
	return &Signer{Signer: signer}, nil
}

func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	return b, nil
}

var errSecurityKey = errors.New("the private half is on a security key")

func fromFile(opt SignerOptions, b []byte) (ssh.Signer, error) {
	signer, err := ssh.ParsePrivateKey(b)
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		if missing.PublicKey != nil && missing.PublicKey.Type() == ssh.KeyAlgoSKED25519 {
			return nil, errSecurityKey
		}
		return decrypt(opt, b)
	}
	if err != nil {
		if isSecurityKeyFile(opt.KeyFile) {
			return nil, errSecurityKey
		}
		return nil, fmt.Errorf("key file %s is not an OpenSSH private or public key", opt.KeyFile)
	}
	return signer, nil
}

func decrypt(opt SignerOptions, b []byte) (ssh.Signer, error) {
	if opt.Passphrase == nil {
		return nil, fmt.Errorf("key file %s is encrypted and nobody can be asked for its passphrase; add it to an agent (ssh-add %s) and choose it by its .pub file", opt.KeyFile, opt.KeyFile)
	}
	passphrase, err := opt.Passphrase(opt.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("passphrase of %s: %w", opt.KeyFile, err)
	}
	defer clear(passphrase)
	signer, err := ssh.ParsePrivateKeyWithPassphrase(b, passphrase)
	if err != nil {
		return nil, fmt.Errorf("key file %s: the passphrase is wrong", opt.KeyFile)
	}
	return signer, nil
}

// isSecurityKeyFile looks at the public key beside a private key file.
func isSecurityKeyFile(path string) bool {
	key, err := publicHalf(path)
	return err == nil && key.Type() == ssh.KeyAlgoSKED25519
}

func publicHalf(path string) (ssh.PublicKey, error) {
	b, err := readKeyFile(path + ".pub")
	if err != nil {
		return nil, err
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(b)
	return key, err
}

func securityKey(opt SignerOptions) (*Signer, error) {
	key, err := publicHalf(opt.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("key file %s is for a security key, which signs through an agent; keep its public key beside it as %s.pub", opt.KeyFile, opt.KeyFile)
	}
	return fromAgent(opt, ssh.FingerprintSHA256(key))
}

// fromAgent chooses a key of the running agent. wanted is "" for any.
func fromAgent(opt SignerOptions, wanted string) (*Signer, error) {
	if wanted == "" {
		wanted = opt.Fingerprint
	}
	if opt.AgentSocket == "" {
		return nil, errors.New("no ssh-agent is running (SSH_AUTH_SOCK is not set); start one with: eval \"$(ssh-agent)\" && ssh-add, or name a private key file")
	}
	conn, err := net.Dial("unix", opt.AgentSocket)
	if err != nil {
		return nil, fmt.Errorf("ssh-agent: %w", err)
	}
	signer, err := choose(agent.NewClient(conn), wanted)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &Signer{Signer: signer, agent: conn}, nil
}

func choose(a agent.Agent, wanted string) (ssh.Signer, error) {
	signers, err := a.Signers()
	if err != nil {
		return nil, fmt.Errorf("ssh-agent: list keys: %w", err)
	}
	var usable []ssh.Signer
	var names []string
	for _, s := range signers {
		fingerprint := ssh.FingerprintSHA256(s.PublicKey())
		allowed := AllowedKey(s.PublicKey())
		if fingerprint == wanted {
			return s, allowed
		}
		if allowed == nil {
			usable, names = append(usable, s), append(names, fingerprint)
		}
	}
	switch {
	case wanted != "":
		return nil, fmt.Errorf("ssh-agent does not hold key %s; add it with ssh-add", wanted)
	case len(usable) == 0:
		return nil, errors.New("ssh-agent holds no ed25519 key; add one with ssh-add")
	case len(usable) > 1:
		return nil, fmt.Errorf("ssh-agent holds several keys (%s); choose one", strings.Join(names, ", "))
	}
	return usable[0], nil
}
