package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

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

// ErrOvertaken means that somebody else published a release meanwhile.
var ErrOvertaken = errors.New("another sync published there meanwhile: read what it published, and publish anew")

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

// Publish is PublishTo for a directory.
func Publish(dir string, built *Built, signer ssh.Signer) error {
	return PublishTo(context.Background(), Folder(dir), built, signer)
}

// PublishTo signs the envelope and writes the release: bundles first, release.json
// last, each as a whole, so that whoever reads sees the release before or this one.
// It refuses a sequence that is not above the published one, and to replace any other
// release than the one that it saw at the beginning, which is ErrOvertaken. Bundles that neither
// this release nor the one before it names are removed.
func PublishTo(ctx context.Context, to Target, built *Built, signer ssh.Signer) error {
	before, tag, err := published(ctx, to)
	if err != nil {
		return err
	}
	if before != nil && before.Sequence >= built.Envelope.Sequence {
		return fmt.Errorf("release: %s already holds sequence %d; sequence %d does not follow it", to, before.Sequence, built.Envelope.Sequence)
	}
	text, err := sign(built.Envelope, signer)
	if err != nil {
		return err
	}
	have, err := to.List(ctx, bundlesFolder)
	if err != nil {
		return err
	}
	writes, writesCtx := errgroup.WithContext(ctx)
	writes.SetLimit(parallelWrites)
	for sum, bundle := range built.Bundles {
		if size, is := have[bundleFile(sum)]; is && size == int64(len(bundle)) && whole(to, sum) {
			continue
		}
		writes.Go(func() error { return to.Put(writesCtx, bundleFile(sum), bundle) })
	}
	if err := writes.Wait(); err != nil {
		return err
	}
	if err := to.Replace(ctx, EnvelopeFile, text, tag); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("release: %s of %s: %w; sequence %d was not published", EnvelopeFile, to, ErrOvertaken, built.Envelope.Sequence)
	} else if err != nil {
		return err
	}
	return prune(ctx, to, have, built.Envelope, before)
}

// parallelWrites is how many bundles are written at a time: each waits for a disk or a server.
const parallelWrites = 8

// whole reads a bundle back where that costs nothing, to mend what a disk damaged.
// Object storage does not keep half of an object.
func whole(to Target, sum string) bool {
	dir, local := to.(Folder)
	if !local {
		return true
	}
	b, err := os.ReadFile(dir.path(bundleFile(sum)))
	return err == nil && digest(b) == sum
}

// published is the envelope that is there, nil when there is none. It is not
// verified: it serves only to count on and to tidy up.
func published(ctx context.Context, at Source) (e *Envelope, tag string, err error) {
	b, tag, err := at.Get(ctx, EnvelopeFile, "", maxEnvelope)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("release: %w", err)
	}
	s, err := decode[signed](b)
	if err != nil {
		return nil, "", fmt.Errorf("release: %s of %s: %w; move it away if it is not a release", EnvelopeFile, at, err)
	}
	envelope, err := decode[Envelope](s.Payload)
	if err != nil {
		return nil, "", fmt.Errorf("release: %s of %s: payload: %w; move it away if it is not a release", EnvelopeFile, at, err)
	}
	return &envelope, tag, nil
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
func prune(ctx context.Context, to Target, have map[string]int64, now Envelope, before *Envelope) error {
	keep := map[string]bool{}
	for _, sum := range now.Bundles {
		keep[sum] = true
	}
	if before != nil {
		for _, sum := range before.Bundles {
			keep[sum] = true
		}
	}
	for name := range have {
		if sum := bundleIn(name); sum == "" || keep[sum] {
			continue
		}
		if err := to.Remove(ctx, name); err != nil {
			return fmt.Errorf("release: remove an old bundle: %w", err)
		}
	}
	return nil
}

func isDigest(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
