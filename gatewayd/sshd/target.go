package sshd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/reviews"
)

const dialTimeout = 15 * time.Second

// dial logs in to the host with the gateway's own credential. The host has to
// prove a key that the connection document pins.
func dial(ctx context.Context, core *gatewayd.Session) (*ssh.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	target := core.Connection().Document.Spec.Target
	secret, err := core.Credential(ctx)
	if err != nil {
		return nil, fmt.Errorf("credential: %w", err)
	}
	signer, err := signerOf([]byte(secret.Reveal()))
	if err != nil {
		return nil, err
	}
	pinned, algorithms, err := pins(target)
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort(target.Host, strconv.Itoa(target.Port))
	conn, err := (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	c, channels, requests, err := ssh.NewClientConn(newWire(conn), address, &ssh.ClientConfig{
		User: target.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		ClientVersion: serverName, HostKeyAlgorithms: algorithms,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			for _, p := range pinned {
				if bytes.Equal(p.Marshal(), key.Marshal()) {
					return nil
				}
			}
			return fmt.Errorf("the host showed %s key %s, and the connection document pins others", key.Type(), ssh.FingerprintSHA256(key))
		},
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	if !stop() {
		conn.Close()
		return nil, context.Cause(ctx)
	}
	return ssh.NewClient(c, channels, requests), nil
}

// pins are the host keys of a document, and the algorithms that ask the host for just these.
func pins(t reviews.Target) (keys []ssh.PublicKey, algorithms []string, err error) {
	for _, text := range t.HostKeys {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
		if err != nil {
			return nil, nil, fmt.Errorf("spec.target.hostKeys: %w", err)
		}
		keys = append(keys, key)
		if key.Type() == ssh.KeyAlgoRSA {
			algorithms = append(algorithms, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
			continue
		}
		algorithms = append(algorithms, key.Type())
	}
	if len(keys) == 0 {
		return nil, nil, errors.New("spec.target.hostKeys is empty")
	}
	return keys, algorithms, nil
}

// signerOf reads a private key and, where a line of the secret holds one, its user certificate.
func signerOf(secret []byte) (ssh.Signer, error) {
	signer, err := ssh.ParsePrivateKey(secret)
	if err != nil {
		return nil, errors.New("credential: it is not a private SSH key without a passphrase") // the cause may quote it
	}
	for line := range bytes.Lines(secret) {
		key, _, _, _, err := ssh.ParseAuthorizedKey(line)
		if cert, is := key.(*ssh.Certificate); err == nil && is {
			certified, err := ssh.NewCertSigner(cert, signer)
			if err != nil {
				return nil, fmt.Errorf("credential: its certificate: %w", err)
			}
			return certified, nil
		}
	}
	return signer, nil
}
