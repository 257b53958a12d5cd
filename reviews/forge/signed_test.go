package forge

import (
	"slices"
	"strings"
	"testing"
)

// id is a full commit id that is told apart by one letter.
func id(letter string) string { return strings.Repeat(letter, 40) }

// A pull request: alice (1) wrote commit b on a, bob (2) added a signature in c, carol (3) one in d, which is the head.
func TestOnlySigned(t *testing.T) {
	a, b, c, d := id("a"), id("b"), id("c"), id("d")
	bob, carol := Signed{Commit: c, Parent: b, Account: 2}, Signed{Commit: d, Parent: c, Account: 3}
	by := func(who int64, before, after string) push {
		return push{user: User{ID: who}, before: before, after: after}
	}
	listed := func(who int64, commits ...string) push { return push{user: User{ID: who}, commits: commits} }
	forced := func(p push) push { p.forced = true; return p }
	made := func(id string, author, committer int64) commit {
		return commit{id: id, author: User{ID: author}, committer: User{ID: committer}}
	}
	commits := []commit{made(b, 1, 1), made(c, 2, 2), made(d, 0, 3)}
	pushes := []push{by(3, c, d), by(2, b, c), by(1, a, b)}
	for name, tt := range map[string]struct {
		signed  []Signed
		commits []commit
		pushes  []push
		same    []string // commits of which an approval is one of the head
		users   []int64  // whose pushes are more than signatures
	}{
		"each pushes their own":          {[]Signed{bob, carol}, commits, pushes, []string{b, c}, []int64{1}},
		"told by commits":                {[]Signed{bob, carol}, commits, []push{listed(3, d), listed(2, c), by(1, a, b)}, []string{b, c}, []int64{1}},
		"told twice":                     {[]Signed{bob, carol}, commits, append([]push{listed(3, d), listed(2, c)}, pushes...), []string{b, c}, []int64{1}},
		"none of it is only signatures":  {nil, commits, pushes, nil, []int64{1, 2, 3}},
		"more was committed after":       {[]Signed{bob}, commits, pushes, nil, []int64{1, 2, 3}},
		"they do not follow each other":  {[]Signed{{Commit: c, Parent: a, Account: 2}, {Commit: d, Parent: b, Account: 3}}, commits, append(pushes, by(3, b, d)), []string{b}, []int64{1, 2, 3}},
		"a signer without an account":    {[]Signed{{Commit: c, Parent: b}, carol}, commits, pushes, []string{c}, []int64{1, 2}},
		"the last signer has no account": {[]Signed{bob, {Commit: d, Parent: c}}, commits, pushes, nil, []int64{1, 2, 3}},

		"alice pushes bob's signature":           {[]Signed{bob, carol}, commits, []push{by(3, c, d), by(1, b, c), by(1, a, b)}, []string{c}, []int64{1}},
		"bob pushes both":                        {[]Signed{bob, carol}, commits, []push{by(2, b, d), by(1, a, b)}, nil, []int64{1, 2}},
		"bob pushes both, told by commits":       {[]Signed{bob, carol}, commits, []push{listed(2, d, c), by(1, a, b)}, nil, []int64{1, 2}},
		"a signature pushed with the change":     {[]Signed{bob, carol}, commits, []push{by(3, c, d), by(2, a, c)}, []string{c}, []int64{2}},
		"the same, told by commits":              {[]Signed{bob, carol}, commits, []push{by(3, c, d), listed(2, b, c)}, []string{c}, []int64{2}},
		"a push of which nothing is told":        {[]Signed{bob, carol}, commits, []push{by(3, c, d), listed(2), by(1, a, b)}, []string{c}, []int64{1, 2}},
		"a forced push":                          {[]Signed{bob, carol}, commits, []push{by(3, c, d), forced(by(2, b, c)), by(1, a, b)}, []string{c}, []int64{1, 2}},
		"forced, told by commits":                {[]Signed{bob, carol}, commits, []push{by(3, c, d), forced(listed(2, c)), by(1, a, b)}, []string{c}, []int64{1, 2}},
		"a push back and forth":                  {[]Signed{bob, carol}, commits, append([]push{by(2, c, b)}, pushes...), []string{b, c}, []int64{1, 2}},
		"mallory replaced it meanwhile":          {[]Signed{bob, carol}, commits, append([]push{forced(by(4, c, a)), forced(by(4, a, c))}, pushes...), []string{b, c}, []int64{1, 4}},
		"the signer pushed the change, too":      {[]Signed{bob, carol}, commits, append(pushes, by(3, a, b)), []string{b, c}, []int64{1, 3}},
		"nobody is known to have pushed it":      {[]Signed{bob, carol}, commits, []push{by(2, b, c), by(1, a, b)}, nil, []int64{1, 2}},
		"pushed by nobody":                       {[]Signed{bob, {Commit: d, Parent: c, Account: 0}}, commits, []push{by(0, c, d), by(2, b, c)}, nil, []int64{0, 2}},
		"one push of two signatures by bob":      {[]Signed{bob, {Commit: d, Parent: c, Account: 2}}, []commit{made(c, 2, 2), made(d, 2, 2)}, []push{by(2, b, d), by(1, a, b)}, []string{b, c}, []int64{1}},
		"a push that begins before what is left": {[]Signed{{Commit: c, Parent: b, Account: 2}, {Commit: d, Parent: c, Account: 2}}, []commit{made(c, 1, 2), made(d, 2, 2)}, []push{by(2, b, d), by(1, a, b)}, nil, []int64{1, 2}},

		"alice is named as the author":       {[]Signed{bob, carol}, []commit{made(c, 1, 2), made(d, 3, 3)}, pushes, []string{c}, []int64{1, 2}},
		"alice is named as the committer":    {[]Signed{bob, carol}, []commit{made(c, 2, 2), made(d, 3, 1)}, pushes, nil, []int64{1, 2, 3}},
		"the forge does not list the commit": {[]Signed{bob, carol}, []commit{made(d, 3, 3)}, pushes, []string{c}, []int64{1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			only := onlySigned(tt.signed, d, tt.commits, tt.pushes)
			if got := only.before(); !slices.Equal(got, tt.same) {
				t.Errorf("an approval of %v is one of the head, want %v", got, tt.same)
			}
			var users []int64
			for _, p := range tt.pushes {
				if !only.holds(p) {
					users = append(users, p.user.ID)
				}
			}
			slices.Sort(users)
			if users = slices.Compact(users); !slices.Equal(users, tt.users) {
				t.Errorf("had a hand in it: %v, want %v", users, tt.users)
			}
		})
	}
}

// What Gitea tells of a push is taken for nothing else than it says.
func TestGiteaPushes(t *testing.T) {
	a, b := id("a"), id("b")
	content := func(compare, head string) string {
		return `{"Commits":[],"HeadCommit":{"Sha1":"` + head + `"},"CompareURL":"` + compare + `","Len":1}`
	}
	for name, tt := range map[string]struct{ content, before, after string }{
		"a push":         {content("root/access/compare/"+a+"..."+b, b), a, b},
		"another head":   {content("root/access/compare/"+a+"..."+b, a), "", ""},
		"short ids":      {content("root/access/compare/aaaa...bbbb", "bbbb"), "", ""},
		"no comparison":  {content("", b), "", ""},
		"a new branch":   {"", "", ""},
		"not what it is": {`[]`, "", ""},
	} {
		if got := (activity{Content: tt.content, ActUser: &giteaUser{ID: 2}}).push(); got.before != tt.before || got.after != tt.after || got.user.ID != 2 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := timelinePush(User{ID: 2}, `{"is_force_push":true,"commit_ids":["`+a+`"]}`); !got.forced || !slices.Equal(got.commits, []string{a}) {
		t.Errorf("%+v", got)
	}
	if got := timelinePush(User{ID: 2}, "hello"); got.forced || got.commits != nil || got.user.ID != 2 {
		t.Errorf("%+v", got)
	}
}
