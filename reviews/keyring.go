package reviews

import (
	"fmt"
	"slices"
	"time"
)

// keyring is what the trust root says about keys. Only its keys approve.
type keyring struct {
	owners     map[string]ownedKey   // by key digest
	keys       map[string]revocation // revoked, by fingerprint
	revoked    map[string]revocation // principals
	accounts   map[string]string     // "github/1234567" to its principal
	principals map[string]bool
	byOwner    map[string][]ownedKey // the values of owners
}

type ownedKey struct {
	principal   string
	key         Key
	fingerprint string
}

// revocation voids approvals that were first seen at after or later; with a
// zero after it voids all of them.
type revocation struct {
	after  time.Time
	reason string
}

func newKeyring(root *Root) keyring {
	ring := keyring{
		owners: make(map[string]ownedKey), keys: make(map[string]revocation), revoked: make(map[string]revocation),
		accounts: make(map[string]string), principals: make(map[string]bool), byOwner: make(map[string][]ownedKey),
	}
	for _, p := range root.Spec.Principals {
		ring.principals[p.Name] = true
		for _, k := range p.Keys {
			owned := ownedKey{p.Name, k, k.Fingerprint()}
			ring.owners[k.digest()] = owned
			ring.byOwner[p.Name] = append(ring.byOwner[p.Name], owned)
		}
		for forge, id := range p.Forge {
			ring.accounts[account(forge, id)] = p.Name
		}
	}
	for _, r := range root.Spec.Revoked {
		if r.Principal != "" {
			ring.revoked[r.Principal] = revocation{r.At, r.Reason}
		} else {
			ring.keys[r.Fingerprint] = revocation{r.At, r.Reason}
		}
	}
	return ring
}

func account(forge string, id int64) string { return fmt.Sprintf("%s/%d", forge, id) }

func (r keyring) owner(digest string) string { return r.owners[digest].principal }

// usable is nil when the principal may use the key now, otherwise why not. A
// key that is revoked in any way is of no use from then on.
func (r keyring) usable(principal string, k Key, now time.Time) error {
	if v, is := r.revoked[principal]; is {
		return fmt.Errorf("%s is revoked (%s)", principal, printable(v.reason))
	}
	if v, is := r.keys[k.Fingerprint()]; is {
		return fmt.Errorf("the key is revoked (%s)", printable(v.reason))
	}
	return k.Usable(now)
}

// stands is nil when an approval by the key that was first seen at that time
// counts, otherwise why not. Which time its maker wrote into it does not matter.
func (r keyring) stands(k ownedKey, seen time.Time) error {
	if err := r.vouches(k.principal, seen); err != nil {
		return err
	}
	if v, is := r.keys[k.fingerprint]; is && v.voids(seen) {
		return fmt.Errorf("the key is revoked (%s)", printable(v.reason))
	}
	return k.key.Usable(seen)
}

// signs reports whether the principal has a key whose signature would count now.
func (r keyring) signs(principal string, now time.Time) bool {
	return slices.ContainsFunc(r.byOwner[principal], func(k ownedKey) bool { return r.stands(k, now) == nil })
}

// vouches is nil when approvals by the principal that were first seen at that time count.
func (r keyring) vouches(principal string, seen time.Time) error {
	if v, is := r.revoked[principal]; is && v.voids(seen) {
		return fmt.Errorf("%s is revoked (%s)", principal, printable(v.reason))
	}
	return nil
}

func (v revocation) voids(seen time.Time) bool { return v.after.IsZero() || !seen.Before(v.after) }
