package gitrepo

import "errors"

// Added is a commit that has one parent, and files that this one has not; nothing else of it changed.
type Added struct {
	Commit *Commit
	Parent *Commit
	Tree   *Tree    // of Commit
	Files  []string // at least one, sorted within each folder
}

// maxAdded is how many commits LastAdded goes back.
const maxAdded = 64

// LastAdded are the last commits up to head that only add files, the newest first: it ends
// before the first one that changes or removes any, merges, or adds none.
func (m *Mirror) LastAdded(head string) ([]Added, error) { return m.objects.lastAdded(head) }

// LastAdded is that of Mirror.
func (w *Worktree) LastAdded(head string) ([]Added, error) { return w.objects.lastAdded(head) }

func (s *store) lastAdded(head string) ([]Added, error) {
	c, err := s.commit(head)
	if err != nil {
		return nil, err
	}
	var list []Added
	for len(list) < maxAdded && len(c.Parents) == 1 {
		parent, err := s.commit(c.Parents[0])
		if err != nil {
			return nil, err
		}
		one := Added{Commit: c, Parent: parent, Tree: newTree(s, c)}
		changes, err := Diff(newTree(s, parent), one.Tree, nil)
		if errors.Is(err, ErrTooMuch) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		for _, change := range changes {
			if change.Before != "" || change.After == "" {
				return list, nil
			}
			one.Files = append(one.Files, change.Path)
		}
		if len(one.Files) == 0 {
			return list, nil
		}
		list, c = append(list, one), parent
	}
	return list, nil
}
