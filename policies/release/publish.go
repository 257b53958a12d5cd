package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/reviews"
)

const (
	// EnvelopeFile is the file whose replacement publishes a release.
	EnvelopeFile = "release.json"

	payloadType   = "application/vnd.sallyport.release.v1+json"
	bundlesFolder = "bundles"
	bundleSuffix  = ".tar.gz"
	maxEnvelope   = 64 << 20
)

// signed is release.json.
type signed struct {
	PayloadType string      `json:"payloadType"`
	Payload     []byte      `json:"payload"` // the envelope's canonical JSON; base64 here
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	Fingerprint string `json:"fingerprint"` // SHA256:… of the release key
	Signature   string `json:"signature"`   // armoured SSHSIG over Payload
}

// Publish signs the envelope and writes the release into dir: bundles first,
// release.json last, each synced and renamed into place, so that whoever reads
// sees the release before or this one whole. It refuses a sequence that is not above the published one. Bundles that neither
// this release nor the one before it names are removed.
func Publish(dir string, built *Built, signer ssh.Signer) error {
	before, err := published(dir)
	if err != nil {
		return err
	}
	if before != nil && before.Sequence >= built.Envelope.Sequence {
		return fmt.Errorf("release: %s already holds sequence %d; sequence %d does not follow it", dir, before.Sequence, built.Envelope.Sequence)
	}
	text, err := sign(built.Envelope, signer)
	if err != nil {
		return err
	}
	folder := filepath.Join(dir, bundlesFolder)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	for sum, bundle := range built.Bundles {
		if err := writeBundle(folder, sum, bundle); err != nil {
			return err
		}
	}
	if err := syncDir(folder); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, EnvelopeFile), text); err != nil {
		return err
	}
	return prune(folder, built.Envelope, before)
}

// published is the envelope that dir holds, nil when there is none. It is not
// verified: it serves only to count on and to tidy up.
func published(dir string) (*Envelope, error) {
	name := filepath.Join(dir, EnvelopeFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("release: %w", err)
	}
	s, err := decode[signed](b)
	if err != nil {
		return nil, fmt.Errorf("release: %s: %w; move it away if it is not a release", name, err)
	}
	e, err := decode[Envelope](s.Payload)
	if err != nil {
		return nil, fmt.Errorf("release: %s: payload: %w; move it away if it is not a release", name, err)
	}
	return &e, nil
}

func sign(e Envelope, signer ssh.Signer) ([]byte, error) {
	payload := canonical(e)
	armored, err := reviews.Sign(signer, reviews.NamespaceRelease, payload)
	if err != nil {
		return nil, fmt.Errorf("release: %w", err)
	}
	return json.Marshal(signed{
		PayloadType: payloadType,
		Payload:     payload,
		Signatures:  []signature{{Fingerprint: ssh.FingerprintSHA256(signer.PublicKey()), Signature: string(armored)}},
	})
}

// writeBundle leaves a bundle alone that is there already and undamaged.
func writeBundle(folder, sum string, bundle []byte) error {
	name := filepath.Join(folder, sum+bundleSuffix)
	if b, err := os.ReadFile(name); err == nil && digest(b) == sum {
		return nil
	}
	return writeFile(name, bundle)
}

// writeFile replaces a file: written beside it, synced, renamed, directory synced.
func writeFile(name string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return fmt.Errorf("release: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
			err = fmt.Errorf("release: write %s: %w", name, err)
		}
	}()
	_, writeErr := f.Write(b)
	if err := errors.Join(writeErr, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("release: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("release: sync folder %s: %w", dir, err)
	}
	return nil
}

// prune keeps the bundles of the release before, which a gateway may be reading.
func prune(folder string, now Envelope, before *Envelope) error {
	keep := map[string]bool{}
	for _, sum := range now.Bundles {
		keep[sum] = true
	}
	if before != nil {
		for _, sum := range before.Bundles {
			keep[sum] = true
		}
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("release: %w", err)
	}
	for _, entry := range entries {
		sum, ok := strings.CutSuffix(entry.Name(), bundleSuffix)
		if !ok || keep[sum] || !isDigest(sum) {
			continue
		}
		if err := os.Remove(filepath.Join(folder, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("release: remove an old bundle: %w", err)
		}
	}
	return nil
}

func isDigest(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
