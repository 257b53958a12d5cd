package forge

import "slices"

// Signed is a commit of a pull request that adds nothing but signatures of one principal. What git and the trust root say of it is
// true, and who brought it only the forge can tell.
type Signed struct {
	Commit  string
	Parent  string // its only one
	Account int64  // of that principal on this forge
}

// push is one to the branch of a pull request. What the forge does not tell is empty.
type push struct {
	user          User
	before, after string   // where the branch was and came to be
	commits       []string // that it brought, when before and after are not told
	forced        bool
}

// signatures are the last commits of a pull request, oldest first, that only add signatures, each made and pushed by nobody but the one
// whose signatures they are.
type signatures []Signed

// onlySigned takes the commits, oldest first and up to the head, that count as signatures. Whatever is doubtful about one, or about how
// it came, leaves it and all before it out: who made it then had a hand in the pull request, and voids what was approved before.
func onlySigned(all []Signed, head string, commits []commit, pushes []push) signatures {
	if len(all) == 0 || all[len(all)-1].Commit != head {
		return nil
	}
	s := signatures(all)
	for i := len(all) - 1; i >= 0; i-- {
		chained := i == len(all)-1 || all[i+1].Parent == all[i].Commit
		if !chained || all[i].Account <= 0 || !all[i].madeByItsSigner(commits) {
			s = signatures(all[i+1:])
			break
		}
	}
	for len(s) > 0 { // a push that reaches further back is none of signatures, so what it brought may not be left in either
		i := s.notPushed(pushes)
		if i < 0 {
			break
		}
		s = s[i+1:]
	}
	return s
}

// madeByItsSigner says that nobody else is named as its author or committer.
func (s Signed) madeByItsSigner(commits []commit) bool {
	i := slices.IndexFunc(commits, func(c commit) bool { return c.id == s.Commit })
	if i < 0 {
		return false
	}
	for _, u := range []User{commits[i].author, commits[i].committer} {
		if u.ID != 0 && u.ID != s.Account {
			return false
		}
	}
	return true
}

// notPushed is the place of the last commit that no signer is known to have pushed, -1 when there is none.
func (s signatures) notPushed(pushes []push) int {
	pushed := make([]bool, len(s))
	for _, p := range pushes {
		from, to := s.span(p)
		for i := from; i < to; i++ {
			pushed[i] = true
		}
	}
	for i := len(s) - 1; i >= 0; i-- {
		if !pushed[i] {
			return i
		}
	}
	return -1
}

// span are the places of the commits that a push brought, when these are signatures of who pushed and nothing else; else it is empty.
func (s signatures) span(p push) (from, to int) {
	switch {
	case p.forced || p.user.ID <= 0:
		return 0, 0
	case p.before != "" && p.after != "":
		from = slices.IndexFunc(s, func(c Signed) bool { return c.Parent == p.before })
		to = s.place(p.after) + 1
	case len(p.commits) > 0:
		from, to = len(s), 0
		for _, id := range p.commits {
			i := s.place(id)
			if i < 0 {
				return 0, 0
			}
			from, to = min(from, i), max(to, i+1)
		}
	}
	if from < 0 || from >= to {
		return 0, 0
	}
	for _, c := range s[from:to] {
		if c.Account != p.user.ID {
			return 0, 0
		}
	}
	return from, to
}

// holds says that a push brought nothing but signatures of who pushed.
func (s signatures) holds(p push) bool {
	from, to := s.span(p)
	return from < to
}

func (s signatures) place(commit string) int {
	return slices.IndexFunc(s, func(c Signed) bool { return c.Commit == commit })
}

func (s signatures) has(commit string) bool { return s.place(commit) >= 0 }

// before are the commits to which the signatures were added, the oldest first.
func (s signatures) before() []string {
	var ids []string
	for _, c := range s {
		ids = append(ids, c.Parent)
	}
	return ids
}
