package release

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/reviews"
)

// RootSeen is a trust root with when sync first saw it.
type RootSeen struct {
	Source reviews.Source
	At     time.Time
}

// rootSeen says when sync first saw the trust root of a version: keys are
// judged as they stood then.
type rootSeen struct {
	Version int    `json:"version"`
	At      string `json:"at"` // RFC 3339
}

// historyPath is where a release keeps a trust root that was in force before,
// with its signatures beside it as those of any document.
func historyPath(version int) string { return fmt.Sprintf("trust/history/%d.yaml", version) }

// addRoots puts the trust roots before the present one among the documents.
func (d documents) addRoots(before []RootSeen) error {
	for _, r := range before {
		root, err := reviews.ParseRoot(reviews.RootPath, r.Source.Bytes)
		if err != nil {
			return err
		}
		source := r.Source
		source.Path = historyPath(root.Spec.Version)
		d.add(source)
	}
	return nil
}

// checkRoots demands that the trust root of the release is the pinned one or
// follows from it, one version after the other, each approved by the threshold
// of the one before and by its own. With a mark it must also follow from the trust root that was in force here.
func (r *Release) checkRoots(seen []rootSeen, pin string, mark *HighWater) error {
	chain, err := r.rootChain()
	if err != nil {
		return err
	}
	if len(seen) != len(chain) {
		return fmt.Errorf("it holds %d trust roots and says of %d when they were seen", len(chain), len(seen))
	}
	from := slices.IndexFunc(chain, func(root *reviews.Root) bool { return root.Source.SHA256 == pin })
	if from < 0 {
		return fmt.Errorf("%w: its trust root has sha256 %s where %q is pinned, and does not follow from that", ErrUntrusted, r.Root.Source.SHA256, pin)
	}
	if err := mark.checkRoots(chain); err != nil {
		return err
	}
	for i := from + 1; i < len(chain); i++ {
		at, err := time.Parse(time.RFC3339, seen[i].At)
		if err != nil || seen[i].Version != chain[i].Spec.Version {
			return fmt.Errorf("it does not say when trust root %d was seen", chain[i].Spec.Version)
		}
		opt := reviews.LoadOptions{Now: at}
		if err := chain[i].Succeeds(chain[i-1], opt); err != nil {
			return fmt.Errorf("%w: %w", ErrUntrusted, err)
		}
		if err := chain[i].ApprovesItself(opt); err != nil {
			return fmt.Errorf("%w: %w", ErrUntrusted, err)
		}
	}
	return nil
}

// rootChain are the trust roots that the release holds, the present one last.
func (r *Release) rootChain() ([]*reviews.Root, error) {
	signatures := r.documents.signatures()
	var chain []*reviews.Root
	for name, b := range r.documents {
		text, ok := strings.CutPrefix(strings.TrimSuffix(name, ".yaml"), "trust/history/")
		if !ok || strings.Contains(name, ".sigs/") {
			continue
		}
		root, err := reviews.ParseRoot(reviews.RootPath, b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path.Base(name), err)
		}
		if version, err := strconv.Atoi(text); err != nil || version != root.Spec.Version || name != historyPath(version) {
			return nil, fmt.Errorf("%s holds trust root %d", name, root.Spec.Version)
		}
		root.Source.Signatures = signatures[name]
		chain = append(chain, root)
	}
	slices.SortFunc(chain, func(a, b *reviews.Root) int { return a.Spec.Version - b.Spec.Version })
	r.Root.Source.Signatures = signatures[reviews.RootPath]
	return append(chain, r.Root), nil
}
