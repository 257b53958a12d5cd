package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
)

// Relation is how a branch's head stands to the commit accepted before it.
type Relation int

const (
	// First: nothing was accepted before.
	First Relation = iota
	// Same: the head is the accepted commit.
	Same
	// Ahead: the accepted commit is on the first-parent line of the head.
	Ahead
	// Behind: the head is an ancestor of the accepted commit; the branch was rewound.
	Behind
	// Diverged: they share history, but the accepted commit is not on the
	// first-parent line of the head; the branch was rewritten.
	Diverged
	// Unrelated: they share no history, or the accepted commit is nowhere any more.
	Unrelated
)

// String is the relation as it is used in messages.
func (r Relation) String() string {
	return [...]string{"first", "same", "ahead", "behind", "diverged", "unrelated"}[r]
}

// Fetched is what a fetch found.
type Fetched struct {
	Head     string
	Relation Relation
}

// relation compares the accepted commit with a fetched head.
func (m *Mirror) relation(ctx context.Context, last, head string) (Relation, error) {
	switch last {
	case "":
		return First, nil
	case head:
		return Same, nil
	}
	if _, err := m.Commit(last); errors.Is(err, plumbing.ErrObjectNotFound) {
		return Unrelated, nil
	} else if err != nil {
		return Unrelated, err
	}
	line, err := m.FirstParents(ctx, head, last)
	if err == nil && len(line) > 0 {
		return Ahead, nil
	}
	if err != nil && !errors.Is(err, ErrNotOnLine) {
		return Unrelated, err
	}
	return m.apart(ctx, last, head)
}

// apart tells Behind, Diverged and Unrelated from each other.
func (m *Mirror) apart(ctx context.Context, last, head string) (Relation, error) {
	old, err := m.ancestors(ctx, last)
	if err != nil {
		return Unrelated, err
	}
	if old[head] {
		return Behind, nil
	}
	relation := Unrelated
	err = m.walk(ctx, head, func(id string) bool {
		if old[id] {
			relation = Diverged
		}
		return relation == Unrelated
	})
	return relation, err
}

// ancestors are all commits that id reaches, itself included.
func (m *Mirror) ancestors(ctx context.Context, id string) (map[string]bool, error) {
	all := map[string]bool{}
	err := m.walk(ctx, id, func(id string) bool { all[id] = true; return true })
	return all, err
}

// walk visits every commit that id reaches once, until visit returns false.
func (m *Mirror) walk(ctx context.Context, id string, visit func(id string) bool) error {
	queued := map[string]bool{id: true}
	for queue := []string{id}; len(queue) > 0; {
		next := queue[0]
		queue = queue[1:]
		if err := ctx.Err(); err != nil {
			return err
		}
		if !visit(next) {
			return nil
		}
		c, err := m.Commit(next)
		if err != nil {
			return err
		}
		for _, p := range c.Parents {
			if !queued[p] {
				queued[p] = true
				queue = append(queue, p)
			}
		}
	}
	return nil
}

// ErrNotOnLine means that a commit is not on the first-parent line of another.
var ErrNotOnLine = errors.New("not on the first-parent line")

// FirstParents lists the first-parent line that leads from after (exclusive,
// "" for the very beginning) to head (inclusive), oldest first. These are the
// states that the branch really had when every change came by a merge.
func (m *Mirror) FirstParents(ctx context.Context, head, after string) ([]*Commit, error) {
	var line []*Commit
	for id := head; id != after; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c, err := m.Commit(id)
		if err != nil {
			return nil, err
		}
		line = append(line, c)
		if len(c.Parents) > 0 {
			id = c.Parents[0]
			continue
		}
		if after != "" {
			return nil, fmt.Errorf("commit %s and head %s: %w", after, head, ErrNotOnLine)
		}
		break
	}
	slices.Reverse(line)
	return line, nil
}

// FirstHolding is the oldest commit of the unbroken stretch of head's
// first-parent line, head included, in which path holds exactly the file that
// it holds at head. It walks back only as far as that stretch reaches.
func (m *Mirror) FirstHolding(ctx context.Context, head, path string) (*Commit, error) {
	c, err := m.Commit(head)
	if err != nil {
		return nil, err
	}
	want, err := m.Tree(c).ID(path)
	if err != nil {
		return nil, err
	}
	for len(c.Parents) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		parent, err := m.Commit(c.Parents[0])
		if err != nil {
			return nil, err
		}
		if id, err := m.Tree(parent).ID(path); err != nil || id != want {
			return c, nil
		}
		c = parent
	}
	return c, nil
}
