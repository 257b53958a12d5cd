package forge

import (
	"slices"
	"testing"
	"time"
)

// Entries of a feed, newest first, as Gitea 1.26 writes them: who, what, and how many seconds after the pull request was opened.
func TestPushWalk(t *testing.T) {
	const head, earlier = "1111111111111111111111111111111111111111", "2222222222222222222222222222222222222222"
	opened := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	entry := func(at int, op, content string, who int64) activity {
		return activity{OpType: op, RefName: "refs/heads/x", Content: content, ActUser: &giteaUser{ID: who}, Created: opened.Add(time.Duration(at) * time.Second)}
	}
	made := func(at int, who int64) activity { return entry(at, "commit_repo", "", who) }
	push := func(at int, commit string, who int64) activity {
		return entry(at, "commit_repo", `{"Commits":[],"HeadCommit":{"Sha1":"`+commit+`"},"Len":1}`, who)
	}
	removed := func(at int, who int64) activity { return entry(at, "delete_branch", "", who) }
	other := func(at int) activity {
		return activity{OpType: "commit_repo", RefName: "refs/heads/y", ActUser: &giteaUser{ID: 99}, Created: opened.Add(time.Duration(at) * time.Second)}
	}
	for name, c := range map[string]struct {
		feed  []activity
		users []int64
		known bool
	}{
		"made before":                         {[]activity{push(-5, head, 1), made(-5, 1)}, []int64{1}, true},
		"made in the same second":             {[]activity{push(0, head, 1), made(0, 1)}, []int64{1}, true},
		"told late":                           {[]activity{push(2, head, 1), made(2, 1), other(-10)}, []int64{1}, true},
		"told in another order":               {[]activity{made(2, 1), push(2, head, 1), other(-10)}, []int64{1}, true},
		"pushed on":                           {[]activity{push(50, earlier, 3), push(9, head, 2), push(0, earlier, 1), made(0, 1)}, []int64{1, 2, 3}, true},
		"the head not told yet":               {[]activity{push(0, earlier, 1), made(0, 1)}, []int64{1}, false},
		"nothing told yet":                    {[]activity{other(-10)}, nil, false},
		"where it was made not told":          {[]activity{push(0, head, 1), other(-7200)}, []int64{1}, false},
		"removed after the merge":             {[]activity{removed(60, 1), push(2, head, 1), made(2, 1)}, []int64{1}, true},
		"made anew":                           {[]activity{push(8, head, 1), made(8, 1), removed(7, 4), push(-90, earlier, 4), made(-90, 4)}, []int64{1, 4}, true},
		"made anew, and before it long ago":   {[]activity{push(8, head, 1), made(8, 1), removed(7, 4), other(-7200), push(-9000, earlier, 4), made(-9000, 4)}, []int64{1, 4}, true},
		"made anew within a second":           {[]activity{push(8, head, 1), made(8, 1), removed(8, 4), push(-90, earlier, 4), made(-90, 4)}, []int64{1, 4}, true},
		"made anew, told in another order":    {[]activity{removed(8, 4), push(8, head, 1), made(8, 1), push(-90, earlier, 4), made(-90, 4)}, []int64{1, 4}, true},
		"made anew, the removal not told":     {[]activity{push(8, head, 1), made(8, 1), push(-90, earlier, 4), made(-90, 4)}, []int64{1, 4}, true},
		"two who push in the second it began": {[]activity{made(-5, 1), push(-5, earlier, 1), push(-5, head, 4), other(-9)}, []int64{1, 4}, true},
		"another branch's beginning":          {[]activity{push(2, head, 1), other(2), other(-10)}, []int64{1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			walk := pushWalk{branch: "x", head: head, opened: opened}
			for _, a := range c.feed {
				walk.see(a)
			}
			var users []int64
			for _, p := range walk.pushes {
				users = append(users, p.user.ID)
			}
			slices.Sort(users)
			if users = slices.Compact(users); !slices.Equal(users, c.users) || walk.known() != c.known {
				t.Errorf("users %v, known %v; want %v, %v", users, walk.known(), c.users, c.known)
			}
		})
	}
}
