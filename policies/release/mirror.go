package release

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sallyport-dev/sallyport/reviews"
)

const (
	offeredFolder = "offered"
	sidecars      = reviews.ExtensionPath + ".sigs"

	// A source that answers slower than this has not answered.
	pollTimeout   = 20 * time.Second
	bundleTimeout = 2 * time.Minute

	// believeTags is how long a source may say that nothing changed before it has to
	// show it: tags made of times and sizes, or by a broken cache, can lie.
	believeTags = time.Minute

	parallelFetches = 4
	maxSidecar      = 8 << 10
)

// Mirror keeps a copy of a release that lies elsewhere. What is offered replaces
// the copy only when it opened, so that the copy is a release directory that can
// be opened, whatever the source does, and with which a gateway starts while the
// source is away. It is used by one goroutine.
//
// Bundles are fetched into the copy under their digests, the policy's first; the
// others only once the envelope that names them is verified. An offered envelope
// and its extension lie in a folder of their own meanwhile:
//
//	release.json, extension.yaml, extension.yaml.sigs/, bundles/   the copy
//	offered/release.json …                                         what is being opened
type Mirror struct {
	From Source
	Copy Opener // its Dir is the copy

	tag     string    // of fetched
	fetched []byte    // the envelope that From held last
	shown   time.Time // when it was fetched as a whole

	opened []byte            // the envelope that opened last, nil after a failure
	root   *reviews.Root     // its trust root
	orders map[string][]byte // extension and signatures as they then were; nil when From did not tell

	patience struct{ poll, bundle time.Duration } // 0: pollTimeout, bundleTimeout

	mu    sync.Mutex
	whole map[string]bool // bundles of the copy that were looked at; guarded by mu while bundles are fetched
}

// Start opens the copy as it lies, after a restart. It is verified like any
// release. It is nil without an error when there is none yet.
func (m *Mirror) Start(ctx context.Context, now time.Time) (*Release, error) {
	if _, err := os.Stat(m.dir().path(EnvelopeFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	m.orders = m.ordersHere()
	r, err := m.Copy.Open(ctx, nil, now)
	if err != nil {
		return nil, err
	}
	if m.opened, err = readCapped(m.dir().path(EnvelopeFile), maxEnvelope); err != nil {
		return nil, err
	}
	m.root = r.Root
	return r, nil
}

// Next asks the source once, and opens what it offers. It is nil without an error
// while that is what was opened last. before is as for Opener.Open.
func (m *Mirror) Next(ctx context.Context, before *Release, now time.Time) (*Release, error) {
	envelope, err := m.ask(ctx, now)
	if err != nil {
		m.forget()
		r, here := m.reorderedHere(ctx, before, now)
		if r != nil {
			return r, nil
		}
		return nil, errors.Join(fmt.Errorf("release at %s: %w", m.From, err), here)
	}
	if m.opened != nil && bytes.Equal(m.opened, envelope) && !m.reordered(ctx) {
		return nil, nil
	}
	r, err := m.take(ctx, envelope, before, now)
	m.tidy(ctx)
	if err != nil {
		m.forget()
		return nil, fmt.Errorf("release at %s: %w", m.From, err)
	}
	m.opened, m.root = envelope, r.Root
	return r, nil
}

// forget makes the next round look at everything anew.
func (m *Mirror) forget() {
	m.tag, m.opened, m.whole = "", nil, nil
}

// ask returns the envelope that the source holds now.
func (m *Mirror) ask(ctx context.Context, now time.Time) ([]byte, error) {
	unless := m.tag
	if since := now.Sub(m.shown); since < 0 || since > believeTags {
		unless = ""
	}
	b, tag, err := m.get(ctx, EnvelopeFile, unless, maxEnvelope)
	if err != nil {
		return nil, err
	}
	if b != nil {
		m.fetched, m.shown = b, now
	}
	m.tag = tag
	return m.fetched, nil
}

func (m *Mirror) get(ctx context.Context, name, unless string, limit int64) ([]byte, string, error) {
	patience := cmp.Or(m.patience.poll, pollTimeout)
	if bundleIn(name) != "" {
		patience = cmp.Or(m.patience.bundle, bundleTimeout)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("it took longer than %s", patience))
	defer cancel()
	b, tag, err := m.From.Get(ctx, name, unless, limit)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, "", fmt.Errorf("%s: %w", name, context.Cause(ctx))
	case err != nil:
		return nil, "", fmt.Errorf("%s: %w", name, err)
	case b == nil && unless == "":
		return nil, "", fmt.Errorf("%s: the source says that it did not change, which nobody had asked", name)
	case int64(len(b)) > limit:
		return nil, "", fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return b, tag, nil
}

// take opens what is offered, and makes it the copy.
func (m *Mirror) take(ctx context.Context, envelope []byte, before *Release, now time.Time) (*Release, error) {
	o := m.Copy
	o.mirror = m
	if have, err := readCapped(m.dir().path(EnvelopeFile), maxEnvelope); err == nil && bytes.Equal(have, envelope) {
		return o.open(ctx, before, now)
	}
	o.Dir = string(m.offered())
	if err := os.RemoveAll(o.Dir); err != nil {
		return nil, err
	}
	if err := m.offered().Put(ctx, EnvelopeFile, envelope); err != nil {
		return nil, err
	}
	r, err := o.open(ctx, before, now)
	if err != nil {
		return nil, err
	}
	return r, m.keep()
}

// keep makes the offered release the copy. An extension comes after the release
// that it is about: a crash in between leaves none, which denies.
func (m *Mirror) keep() error {
	if err := m.dropOrders(m.dir()); err != nil {
		return err
	}
	for _, name := range []string{EnvelopeFile, sidecars, reviews.ExtensionPath} {
		err := os.Rename(m.offered().path(name), m.dir().path(name))
		if err != nil && (name == EnvelopeFile || !errors.Is(err, fs.ErrNotExist)) {
			return fmt.Errorf("keep the release: %w", err)
		}
		if err := syncDir(m.Copy.Dir); err != nil {
			return err
		}
	}
	return os.RemoveAll(string(m.offered()))
}

// fetch gets the bundles that are missing in the copy, or damaged.
func (m *Mirror) fetch(ctx context.Context, sums []string) error {
	fetches, ctx := errgroup.WithContext(ctx)
	fetches.SetLimit(parallelFetches)
	for _, sum := range sums {
		if !isDigest(sum) {
			return fmt.Errorf("%s: it names a bundle by something that is not a digest", EnvelopeFile)
		}
		if !m.has(sum) {
			fetches.Go(func() error { return m.fetchBundle(ctx, sum) })
		}
	}
	return fetches.Wait()
}

func (m *Mirror) has(sum string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.whole[sum]
}

func (m *Mirror) fetchBundle(ctx context.Context, sum string) error {
	name := bundleFile(sum)
	b, err := readCapped(m.dir().path(name), MaxBundle)
	if err != nil || digest(b) != sum {
		if b, _, err = m.get(ctx, name, "", MaxBundle); err != nil {
			return err
		}
		if digest(b) != sum {
			return fmt.Errorf("%s does not have the contents that its name promises: it is truncated or was changed", name)
		}
		if err := m.dir().Put(ctx, name, b); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.whole == nil {
		m.whole = map[string]bool{}
	}
	m.whole[sum] = true
	return nil
}

// reordered says whether the extension of the release that opened last came, went
// or changed. A source that tells of the envelope only holds nothing up.
func (m *Mirror) reordered(ctx context.Context) bool {
	orders, err := m.askOrders(ctx, m.root)
	return err == nil && (m.orders == nil || !maps.EqualFunc(orders, m.orders, bytes.Equal))
}

// askOrders gets the extension and those signatures that could count: sources
// cannot list files, and the names follow from the trust root.
func (m *Mirror) askOrders(ctx context.Context, root *reviews.Root) (map[string][]byte, error) {
	orders := map[string][]byte{}
	ask := func(name string, limit int64) (is bool, err error) {
		b, _, err := m.get(ctx, name, "", limit)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		orders[name] = b
		return true, err
	}
	if is, err := ask(reviews.ExtensionPath, reviews.MaxDocument); err != nil || !is {
		return map[string][]byte{}, err
	}
	for _, p := range root.Spec.Principals {
		if !slices.Contains(root.Spec.Groups["root"], p.Name) {
			continue
		}
		for _, k := range p.Keys {
			key, err := k.PublicKey()
			if err != nil {
				return nil, err
			}
			if _, err := ask(reviews.SidecarPath(reviews.ExtensionPath, p.Name, key), maxSidecar); err != nil {
				return nil, err
			}
		}
	}
	return orders, nil
}

// fetchOrders puts the extension that the source has, or none, into a folder.
func (m *Mirror) fetchOrders(ctx context.Context, dir string, root *reviews.Root) error {
	m.orders = nil
	orders, err := m.askOrders(ctx, root)
	if err != nil {
		return err
	}
	to := Folder(dir)
	if err := m.dropOrders(to); err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(orders))
	slices.Reverse(names) // extension.yaml last: it counts when its signatures are there
	for _, name := range names {
		if err := to.Put(ctx, name, orders[name]); err != nil {
			return err
		}
	}
	m.orders = orders
	return nil
}

func (m *Mirror) dropOrders(dir Folder) error {
	return errors.Join(dir.Remove(context.Background(), reviews.ExtensionPath), os.RemoveAll(dir.path(sidecars)))
}

// ordersHere are the extension and signatures that lie in the copy.
func (m *Mirror) ordersHere() map[string][]byte {
	orders := map[string][]byte{}
	names, _ := filepath.Glob(filepath.Join(m.dir().path(sidecars), "*.sig"))
	for _, file := range append(names, m.dir().path(reviews.ExtensionPath)) {
		name, err := filepath.Rel(m.Copy.Dir, file)
		if err != nil {
			continue
		}
		if b, err := readCapped(file, reviews.MaxDocument); err == nil {
			orders[filepath.ToSlash(name)] = b
		}
	}
	return orders
}

// reorderedHere opens the copy again when somebody put an extension beside it, or
// took one away, while the source is away; nil without an error when nobody did.
func (m *Mirror) reorderedHere(ctx context.Context, before *Release, now time.Time) (*Release, error) {
	orders := m.ordersHere()
	if maps.EqualFunc(orders, m.orders, bytes.Equal) {
		return nil, nil
	}
	m.orders = orders
	return m.Copy.Open(ctx, before, now)
}

// tidy removes bundles that neither the copy nor what is offered names. What it
// cannot remove, the next one will.
func (m *Mirror) tidy(ctx context.Context) {
	keep := map[string]bool{}
	for _, dir := range []Folder{m.dir(), m.offered()} {
		if e, _, err := published(ctx, dir); err == nil && e != nil {
			for _, sum := range e.Bundles {
				keep[sum] = true
			}
		}
	}
	have, err := m.dir().List(ctx, bundlesFolder)
	if err != nil {
		return
	}
	for name := range have {
		if sum := bundleIn(name); sum != "" && !keep[sum] {
			_ = m.dir().Remove(ctx, name)
			delete(m.whole, sum)
		}
	}
}

func (m *Mirror) dir() Folder     { return Folder(m.Copy.Dir) }
func (m *Mirror) offered() Folder { return Folder(filepath.Join(m.Copy.Dir, offeredFolder)) }
