package reviews_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// securityKey signs as a FIDO token does (OpenSSH's PROTOCOL.u2f), in software.
type securityKey struct {
	private ed25519.PrivateKey
	public  ssh.PublicKey
	flags   byte // 1: somebody touched it
	counter uint32
}

const application = "ssh:"

func newSecurityKey(t testing.TB, seed byte) *securityKey {
	t.Helper()
	private := ed25519.NewKeyFromSeed(slices.Repeat([]byte{seed}, ed25519.SeedSize))
	wire := ssh.Marshal(struct {
		Type, Key, Application string
	}{ssh.KeyAlgoSKED25519, string(private.Public().(ed25519.PublicKey)), application})
	public, err := ssh.ParsePublicKey(wire)
	if err != nil {
		t.Fatal(err)
	}
	return &securityKey{private: private, public: public, flags: 1}
}

func (k *securityKey) PublicKey() ssh.PublicKey { return k.public }

func (k *securityKey) Sign(_ io.Reader, message []byte) (*ssh.Signature, error) {
	k.counter++
	app, digest := sha256.Sum256([]byte(application)), sha256.Sum256(message)
	tail := binary.BigEndian.AppendUint32([]byte{k.flags}, k.counter)
	signed := slices.Concat(app[:], tail, digest[:])
	return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(k.private, signed), Rest: tail}, nil
}

// softwareAgent is an ssh-agent whose keys may be security keys, which the agent of
// golang.org/x/crypto cannot hold.
type softwareAgent struct {
	agent.Agent // nil: only List and Sign are ever asked for
	keys        []ssh.Signer
}

func (a *softwareAgent) List() ([]*agent.Key, error) {
	var list []*agent.Key
	for _, k := range a.keys {
		list = append(list, &agent.Key{Format: k.PublicKey().Type(), Blob: k.PublicKey().Marshal()})
	}
	return list, nil
}

func (a *softwareAgent) Sign(key ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	for _, k := range a.keys {
		if string(k.PublicKey().Marshal()) == string(key.Marshal()) {
			return k.Sign(nil, data)
		}
	}
	return nil, errors.New("no such key")
}

// serveAgent listens until the test ends and returns the socket. Clients have to
// close before that.
func serveAgent(t *testing.T, keys ...ssh.Signer) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var clients sync.WaitGroup
	clients.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			clients.Go(func() {
				defer conn.Close()
				_ = agent.ServeAgent(&softwareAgent{keys: keys}, conn) // ends with the client
			})
		}
	})
	t.Cleanup(func() { listener.Close(); clients.Wait() })
	return socket
}
