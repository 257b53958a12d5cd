package main

import (
	"bytes"
	"encoding/hex"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/reviews"
)

// object writes a git object of any kind, well-formed or not.
func (s *siege) object(kind, data string) string {
	s.Helper()
	return s.gitIn(strings.NewReader(data), "hash-object", "-t", kind, "-w", "--stdin", "--literally")
}

// entry is one of a tree object.
func (s *siege) entry(mode, name, id string) string {
	s.Helper()
	raw, err := hex.DecodeString(id)
	s.must(err)
	return mode + " " + name + "\x00" + string(raw)
}

// graft is a commit on main in which a folder holds more entries, or others. Entries of the folder that have the
// names in drop are left out; sorted says that the tree is to be in git's order.
func (s *siege) graft(folder string, more []string, drop ...string) string {
	s.Helper()
	tree := func(path string) string {
		var out bytes.Buffer
		for line := range strings.SplitSeq(s.git("ls-tree", "-z", "HEAD:"+path), "\x00") {
			meta, name, ok := strings.Cut(line, "\t")
			fields := strings.Fields(meta)
			if !ok || len(fields) != 3 {
				continue
			}
			dropped := false
			for _, d := range drop {
				dropped = dropped || path == folder && d == name
			}
			if !dropped {
				out.WriteString(s.entry(strings.TrimLeft(fields[0], "0"), name, fields[2]))
			}
		}
		return out.String()
	}
	id := s.object("tree", tree(folder)+strings.Join(more, ""))
	for at := folder; at != ""; {
		parent, name := "", at
		if i := strings.LastIndexByte(at, '/'); i >= 0 {
			parent, name = at[:i], at[i+1:]
		}
		var out bytes.Buffer
		for line := range strings.SplitSeq(s.git("ls-tree", "-z", "HEAD:"+parent), "\x00") {
			meta, entry, ok := strings.Cut(line, "\t")
			fields := strings.Fields(meta)
			switch {
			case !ok || len(fields) != 3:
			case entry == name:
				out.WriteString(s.entry("40000", name, id))
			default:
				out.WriteString(s.entry(strings.TrimLeft(fields[0], "0"), entry, fields[2]))
			}
		}
		id, at = s.object("tree", out.String()), parent
	}
	return s.git("commit-tree", id, "-p", "HEAD", "-m", "hostile")
}

// freshSync is another sync, which takes the branch in as it is now.
func (s *siege) freshSync() {
	s.Helper()
	s.must(s.sync.Close())
	dir := s.TempDir()
	s.options.StateDir, s.out, s.mark = filepath.Join(dir, "state"), filepath.Join(dir, "out"), filepath.Join(dir, "mark")
	s.options.OutDir = s.out
	s.startSync()
	s.granted("orders-db/etl#1")
}

// Trees that a work tree cannot hold, or that file systems and readers take for something else. The review that they
// bring is well signed: only its place or its shape is wrong.
func TestHostileGitTrees(t *testing.T) {
	s := newSiege(t)
	start := s.git("rev-parse", "HEAD")
	wide := strings.Replace(string(s.access.Files[siegeReview].Data), "sequence: 1", "sequence: 2", 1)
	wide = strings.Replace(wide, "[select]", "[select, delete]", 1)
	blob := s.object("blob", wide)
	same := s.git("rev-parse", "HEAD:"+siegeReview)
	link := s.object("blob", "../../connections/orders-db.yaml")
	signer := accesstest.Signer("user:bob")
	armored, err := reviews.Sign(signer, reviews.NamespaceReview, []byte(wide))
	s.must(err)
	sidecar := strings.TrimPrefix(reviews.SidecarPath("x", "user:bob", signer.PublicKey()), "x.sigs/")
	sigs := s.object("tree", s.entry("100644", sidecar, s.object("blob", string(armored))))
	folder := s.object("tree", s.entry("100644", "etl.yaml", blob)+s.entry("40000", "etl.yaml.sigs", sigs))
	const in = "reviews/orders-db"
	withSigs := func(mode, name, id string) []string {
		return []string{s.entry(mode, name, id), s.entry("40000", name+".sigs", sigs)}
	}
	// "etl" when the review that was there stays in force as it was; "" when its name closes.
	for name, c := range map[string]struct {
		make func() string
		want string
	}{
		"a link": {func() string { return s.graft(in, withSigs("120000", "etl.yaml", link), "etl.yaml", "etl.yaml.sigs") }, ""},
		"a link to a review": {func() string {
			return s.graft(in, []string{s.entry("120000", "other.yaml", s.object("blob", "etl.yaml"))})
		}, "etl"},
		"a submodule": {func() string {
			return s.graft(in, withSigs("160000", "etl.yaml", strings.Repeat("a", 40)), "etl.yaml", "etl.yaml.sigs")
		}, ""},
		"an executable":                   {func() string { return s.graft(in, withSigs("100755", "etl.yaml", blob), "etl.yaml", "etl.yaml.sigs") }, ""},
		"a folder for a file":             {func() string { return s.graft(in, withSigs("40000", "etl.yaml", folder), "etl.yaml", "etl.yaml.sigs") }, ""},
		"the name twice":                  {func() string { return s.graft(in, withSigs("100644", "etl.yaml", blob)) }, ""},
		"the name twice, the same bytes":  {func() string { return s.graft(in, []string{s.entry("100644", "etl.yaml", same)}) }, ""},
		"a file and a folder of one name": {func() string { return s.graft(in, []string{s.entry("40000", "etl.yaml", folder)}) }, ""},
		"a twin in capitals":              {func() string { return s.graft(in, withSigs("100644", "ETL.yaml", blob)) }, ""},
		"a twin in wide letters":          {func() string { return s.graft(in, withSigs("100644", "\uff45tl.yaml", blob)) }, "etl"},
		"a twin with a dotless i":         {func() string { return s.graft(in, withSigs("100644", "et\u0131.yaml", blob)) }, "etl"},
		"composed and decomposed": {func() string {
			return s.graft(in, append(withSigs("100644", "\u00e9.yaml", blob), s.entry("100644", "e\u0301.yaml", blob)))
		}, "etl"},
		"an ignorable character":       {func() string { return s.graft(in, withSigs("100644", "etl\u200c.yaml", blob)) }, "etl"},
		"a byte that is no UTF-8":      {func() string { return s.graft(in, withSigs("100644", "etl\xff.yaml", blob)) }, "etl"},
		"a trailing dot":               {func() string { return s.graft(in, withSigs("100644", "etl.yaml.", blob)) }, "etl"},
		"a trailing space":             {func() string { return s.graft(in, withSigs("100644", "etl.yaml ", blob)) }, "etl"},
		"a stream":                     {func() string { return s.graft(in, withSigs("100644", "etl.yaml::$DATA", blob)) }, "etl"},
		"a backslash":                  {func() string { return s.graft(in, withSigs("100644", `..\orders-db\etl.yaml`, blob)) }, "etl"},
		"a slash":                      {func() string { return s.graft(in, withSigs("100644", "x/etl.yaml", blob)) }, "etl"},
		"a colon":                      {func() string { return s.graft(in, withSigs("100644", "c:etl.yaml", blob)) }, "etl"},
		"an empty name":                {func() string { return s.graft(in, []string{s.entry("100644", "", blob)}) }, "etl"},
		"dots":                         {func() string { return s.graft(in, []string{s.entry("40000", "..", folder)}) }, "etl"},
		"a dot":                        {func() string { return s.graft(in, []string{s.entry("40000", ".", folder)}) }, "etl"},
		"a git folder":                 {func() string { return s.graft(in, []string{s.entry("40000", ".git", folder)}) }, "etl"},
		"a git folder in capitals":     {func() string { return s.graft(in, []string{s.entry("40000", ".GIT", folder)}) }, "etl"},
		"a short name of a git folder": {func() string { return s.graft(in, []string{s.entry("40000", "git~1", folder)}) }, "etl"},
		"a line break":                 {func() string { return s.graft(in, withSigs("100644", "etl\n.yaml", blob)) }, "etl"},
		"an escape sequence":           {func() string { return s.graft(in, withSigs("100644", "etl\x1b[2J.yaml", blob)) }, "etl"},
		"a folder in capitals":         {func() string { return s.graft("reviews", []string{s.entry("40000", "ORDERS-DB", folder)}) }, ""},
		"the top folder in capitals": {func() string {
			return s.graft("", []string{s.entry("40000", "Reviews", s.object("tree", s.entry("40000", "orders-db", folder)))})
		}, ""},
		"a folder that is a link": {func() string {
			return s.graft("reviews", []string{s.entry("120000", "prod-db", s.object("blob", "orders-db"))})
		}, "etl"},
		"reviews are a link": {func() string {
			return s.graft("", []string{s.entry("120000", "reviews", s.object("blob", "connections"))}, "reviews")
		}, ""},
		"reviews are a submodule": {func() string {
			return s.graft("", []string{s.entry("160000", "reviews", strings.Repeat("a", 40))}, "reviews")
		}, ""},
		"a review in a folder too deep": {func() string {
			return s.graft(in, []string{s.entry("40000", "deep", s.object("tree", s.entry("40000", "er", folder)))})
		}, "etl"},
		"a mode that is none": {func() string { return s.graft(in, withSigs("100777", "etl.yaml", blob), "etl.yaml", "etl.yaml.sigs") }, ""},
		"a mode of a device":  {func() string { return s.graft(in, withSigs("20000", "other.yaml", blob)) }, "etl"},
		"a pointer of a large file store": {func() string {
			return s.graft(in, withSigs("100644", "other.yaml", s.object("blob", "version https://git-lfs.github.com/spec/v1\noid sha256:"+strings.Repeat("ab", 32)+"\nsize 700\n")))
		}, "etl"},
		"a tree for a signature": {func() string {
			return s.graft(in, []string{s.entry("100644", "etl.yaml", blob), s.entry("40000", "etl.yaml.sigs", s.object("tree", s.entry("40000", sidecar, sigs)))}, "etl.yaml", "etl.yaml.sigs")
		}, ""},
		"a link for a signature": {func() string {
			return s.graft(in, []string{s.entry("100644", "etl.yaml", blob), s.entry("40000", "etl.yaml.sigs", s.object("tree", s.entry("120000", sidecar, link)))}, "etl.yaml", "etl.yaml.sigs")
		}, ""},
		"a link for the signatures": {func() string {
			return s.graft(in, []string{s.entry("100644", "etl.yaml", blob), s.entry("120000", "etl.yaml.sigs", link)}, "etl.yaml", "etl.yaml.sigs")
		}, ""},
		"an executable signature": {func() string {
			return s.graft(in, []string{s.entry("100644", "etl.yaml", blob), s.entry("40000", "etl.yaml.sigs", s.object("tree", s.entry("100755", sidecar, s.object("blob", string(armored)))))}, "etl.yaml", "etl.yaml.sigs")
		}, ""},
	} {
		s.git("update-ref", "refs/heads/main", start)
		commit := c.make()
		s.git("update-ref", "refs/heads/hostile", commit)
		if r, err := s.tryCheck(commit); r != nil && r.OK || r == nil && err == nil {
			t.Errorf("%s: check accepts it: %v", name, r)
		} else if r != nil {
			for _, f := range r.Findings {
				if f.File == "" || f.Fix == "" {
					t.Errorf("%s: without a place or a next step: %+v", name, f)
				}
			}
		}
		// Past CI, at a sync that has seen the branch as it was.
		s.freshSync()
		s.git("update-ref", "refs/heads/main", commit)
		r, err := s.sync.Once(t.Context())
		opened, errOpen := s.open(false)
		s.must(errOpen)
		held := map[bool]string{true: "etl", false: ""}
		v := opened.Connections["orders-db"]
		got := ""
		if v != nil {
			got = held[v.Review("orders-db/etl") != nil]
			for _, review := range v.Candidates("agent:etl") {
				if review.Document.Spec.Sequence != 1 {
					t.Errorf("%s: sync grants %s#%d", name, review.Name, review.Document.Spec.Sequence)
				}
			}
		}
		if got != c.want {
			t.Errorf("%s: in force %q, want %q; broken %q, %v; problems\n%v", name, got, c.want, r.Broken, err, r.Problems)
		}
		if err == nil && len(r.Problems) == 0 && r.Broken == "" {
			t.Errorf("%s: sync says nothing", name)
		}
	}
}

// usurped is an access repo of dan's own making, in which only his word counts and everything is as he signed it.
func (s *siege) usurped() string {
	s.Helper()
	honest := s.access.Files
	defer func() { s.access.Files = honest }()
	s.access.Files = maps.Clone(honest)
	text := strings.NewReplacer("threshold: 2", "threshold: 1", `root: ["user:bob", "user:carol", "user:dan"]`, `root: ["user:dan"]`, `reviewers: ["user:bob"`, `reviewers: ["user:dan", "user:bob"`).Replace(siegeRoot(1, ""))
	s.put(reviews.RootPath, reviews.KindRoot, "root", text, "user:dan")
	for path := range honest {
		if kind := reviews.KindOf(path); kind != "" && kind != reviews.KindRoot {
			s.sign(path, reviews.NamespaceFor(kind), "user:dan")
		}
	}
	s.git("checkout", "--quiet", "--detach", "main")
	id := s.merge("usurped")
	s.git("checkout", "--quiet", "main")
	return id
}

// What git itself can be told about a repository changes nothing of what is read.
func TestHostileGitSettings(t *testing.T) {
	s := newSiege(t)
	path := s.review("orders-db/own", 1, "select, delete", "user:dan")
	own := s.propose("own")
	s.refused(own, "approval")
	s.access.Remove(path)
	usurped := s.usurped()
	s.base = usurped
	if r := s.check(own); !r.OK {
		t.Fatalf("under dan's own rules it would be in order, or this shows nothing: %v", r.Findings)
	}
	s.base = ""
	judged := func(how string) {
		t.Helper()
		if r, err := s.tryCheck(own); r != nil && r.OK || r == nil && err == nil {
			t.Errorf("judged by %s", how)
		}
	}
	for _, object := range []string{"main", "main:" + reviews.RootPath, "main^{tree}"} {
		id := s.git("rev-parse", object)
		s.git("replace", "-f", id, s.git("rev-parse", strings.Replace(object, "main", usurped, 1)))
		s.refused(own, "approval")
		s.git("replace", "-d", id)
	}
	// Whoever may push may push tags and branches, and CI fetches them.
	for _, ref := range []string{"refs/tags/main", "refs/heads/refs/heads/main", "refs/tags/refs/heads/main", "refs/tags/heads/main", "refs/remotes/main"} {
		s.git("update-ref", ref, usurped)
		judged(ref)
		r, err := s.sync.Once(t.Context())
		if err != nil || r.Broken != "" || len(r.Problems) > 0 {
			t.Errorf("%s: sync: %v, %+v", ref, err, r)
		}
		s.git("update-ref", "-d", ref)
	}
	s.git("update-ref", "refs/remotes/origin/main", "main")
	s.git("update-ref", "refs/tags/origin/main", usurped)
	s.base = "origin/main"
	judged("a tag named like the remote's branch")
	s.base = "refs/remotes/origin/main"
	s.refused(own, "approval")
	s.base = ""
	s.git("update-ref", "-d", "refs/tags/origin/main")
	// A history that was cut off, or that says where it begins, hides which sequences were used.
	s.must(os.MkdirAll(filepath.Join(s.dir, ".git/info"), 0o755))
	s.access.Remove(siegeReview)
	s.merge("removed")
	s.review("orders-db/etl", 1, "select", "user:bob")
	again := s.propose("again")
	s.refused(again, "sequence")
	s.must(os.WriteFile(filepath.Join(s.dir, ".git/info/grafts"), []byte(s.git("rev-parse", "main")+"\n"), 0o644))
	if r, err := s.tryCheck(again); r != nil && r.OK || r == nil && err == nil {
		t.Error("a graft hides the history")
	}
	s.must(os.Remove(filepath.Join(s.dir, ".git/info/grafts")))
	shallow := filepath.Join(t.TempDir(), "shallow")
	s.git("clone", "--quiet", "--depth=1", "--no-single-branch", "file://"+s.dir, shallow)
	s.evidence.dir = shallow
	s.base = "origin/main"
	if r, err := s.tryCheck("origin/again"); r != nil && r.OK || r == nil && err == nil {
		t.Error("a shallow clone hides the history")
	}
}
