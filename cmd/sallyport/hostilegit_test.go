package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
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

// Trees that a work tree cannot hold, or that file systems and readers take for something else. The review that they
// bring is well signed: only its place or its shape is wrong.
func TestHostileGitTrees(t *testing.T) {
	s := newSiege(t)
	start := s.git("rev-parse", "HEAD^{tree}")
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
		commit string
		want   string
	}{
		"a link":                          {s.graft(in, withSigs("120000", "etl.yaml", link), "etl.yaml", "etl.yaml.sigs"), ""},
		"a link to a review":              {s.graft(in, []string{s.entry("120000", "other.yaml", s.object("blob", "etl.yaml"))}), "etl"},
		"a submodule":                     {s.graft(in, withSigs("160000", "etl.yaml", strings.Repeat("a", 40)), "etl.yaml", "etl.yaml.sigs"), ""},
		"an executable":                   {s.graft(in, withSigs("100755", "etl.yaml", blob), "etl.yaml", "etl.yaml.sigs"), ""},
		"a folder for a file":             {s.graft(in, withSigs("40000", "etl.yaml", folder), "etl.yaml", "etl.yaml.sigs"), ""},
		"the name twice":                  {s.graft(in, withSigs("100644", "etl.yaml", blob)), ""},
		"the name twice, the same bytes":  {s.graft(in, []string{s.entry("100644", "etl.yaml", same)}), ""},
		"a file and a folder of one name": {s.graft(in, []string{s.entry("40000", "etl.yaml", folder)}), ""},
		"a twin in capitals":              {s.graft(in, withSigs("100644", "ETL.yaml", blob)), ""},
		"a twin in wide letters":          {s.graft(in, withSigs("100644", "\uff45tl.yaml", blob)), "etl"},
		"a twin with a dotless i":         {s.graft(in, withSigs("100644", "et\u0131.yaml", blob)), "etl"},
		"composed and decomposed":         {s.graft(in, append(withSigs("100644", "\u00e9.yaml", blob), s.entry("100644", "e\u0301.yaml", blob))), "etl"},
		"an ignorable character":          {s.graft(in, withSigs("100644", "etl\u200c.yaml", blob)), "etl"},
		"a byte that is no UTF-8":         {s.graft(in, withSigs("100644", "etl\xff.yaml", blob)), "etl"},
		"a trailing dot":                  {s.graft(in, withSigs("100644", "etl.yaml.", blob)), "etl"},
		"a trailing space":                {s.graft(in, withSigs("100644", "etl.yaml ", blob)), "etl"},
		"a stream":                        {s.graft(in, withSigs("100644", "etl.yaml::$DATA", blob)), "etl"},
		"a backslash":                     {s.graft(in, withSigs("100644", `..\orders-db\etl.yaml`, blob)), "etl"},
		"a slash":                         {s.graft(in, withSigs("100644", "x/etl.yaml", blob)), "etl"},
		"a colon":                         {s.graft(in, withSigs("100644", "c:etl.yaml", blob)), "etl"},
		"an empty name":                   {s.graft(in, []string{s.entry("100644", "", blob)}), "etl"},
		"dots":                            {s.graft(in, []string{s.entry("40000", "..", folder)}), "etl"},
		"a dot":                           {s.graft(in, []string{s.entry("40000", ".", folder)}), "etl"},
		"a git folder":                    {s.graft(in, []string{s.entry("40000", ".git", folder)}), "etl"},
		"a git folder in capitals":        {s.graft(in, []string{s.entry("40000", ".GIT", folder)}), "etl"},
		"a short name of a git folder":    {s.graft(in, []string{s.entry("40000", "git~1", folder)}), "etl"},
		"a line break":                    {s.graft(in, withSigs("100644", "etl\n.yaml", blob)), "etl"},
		"an escape sequence":              {s.graft(in, withSigs("100644", "etl\x1b[2J.yaml", blob)), "etl"},
		"a folder in capitals":            {s.graft("reviews", []string{s.entry("40000", "ORDERS-DB", folder)}), ""},
		"the top folder in capitals":      {s.graft("", []string{s.entry("40000", "Reviews", s.object("tree", s.entry("40000", "orders-db", folder)))}), "etl"},
		"a folder that is a link":         {s.graft("reviews", []string{s.entry("120000", "prod-db", s.object("blob", "orders-db"))}), "etl"},
		"reviews are a link":              {s.graft("", []string{s.entry("120000", "reviews", s.object("blob", "connections"))}, "reviews"), ""},
		"reviews are a submodule":         {s.graft("", []string{s.entry("160000", "reviews", strings.Repeat("a", 40))}, "reviews"), ""},
		"a review in a folder too deep":   {s.graft(in, []string{s.entry("40000", "deep", s.object("tree", s.entry("40000", "er", folder)))}), "etl"},
		"a mode that is none":             {s.graft(in, withSigs("100777", "etl.yaml", blob), "etl.yaml", "etl.yaml.sigs"), ""},
		"a mode of a device":              {s.graft(in, withSigs("20000", "other.yaml", blob)), "etl"},
		"a pointer of a large file store": {s.graft(in, withSigs("100644", "other.yaml", s.object("blob", "version https://git-lfs.github.com/spec/v1\noid sha256:"+strings.Repeat("ab", 32)+"\nsize 700\n"))), "etl"},
		"a tree for a signature":          {s.graft(in, []string{s.entry("100644", "etl.yaml", blob), s.entry("40000", "etl.yaml.sigs", s.object("tree", s.entry("40000", sidecar, sigs)))}, "etl.yaml", "etl.yaml.sigs"), ""},
		"a link for a signature":          {s.graft(in, []string{s.entry("100644", "etl.yaml", blob), s.entry("40000", "etl.yaml.sigs", s.object("tree", s.entry("120000", sidecar, link)))}, "etl.yaml", "etl.yaml.sigs"), ""},
		"a link for the signatures":       {s.graft(in, []string{s.entry("100644", "etl.yaml", blob), s.entry("120000", "etl.yaml.sigs", link)}, "etl.yaml", "etl.yaml.sigs"), ""},
		"an executable signature":         {s.graft(in, []string{s.entry("100644", "etl.yaml", blob), s.entry("40000", "etl.yaml.sigs", s.object("tree", s.entry("100755", sidecar, s.object("blob", string(armored)))))}, "etl.yaml", "etl.yaml.sigs"), ""},
	} {
		s.git("update-ref", "refs/heads/hostile", c.commit)
		if r, err := s.tryCheck(c.commit); r != nil && r.OK || r == nil && err == nil {
			t.Errorf("%s: check accepts it: %v", name, r)
		} else if r != nil {
			for _, f := range r.Findings {
				if f.File == "" || f.Fix == "" {
					t.Errorf("%s: without a place or a next step: %+v", name, f)
				}
			}
		}
		// Past CI, and taken back again.
		s.git("update-ref", "refs/heads/main", c.commit)
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
		if got != c.want && !(got == "" && c.want == "etl" && err == nil && r.Broken != "") {
			t.Errorf("%s: in force %q, want %q; broken %q, %v; problems\n%v", name, got, c.want, r.Broken, err, r.Problems)
		}
		if err == nil && len(r.Problems) == 0 && r.Broken == "" {
			t.Errorf("%s: sync says nothing", name)
		}
		back := s.git("commit-tree", start, "-p", c.commit, "-m", "back")
		s.git("update-ref", "refs/heads/main", back)
		s.granted("orders-db/etl#1")
	}
}

// What git itself can be told about a repository changes nothing of what is read.
func TestHostileGitSettings(t *testing.T) {
	s := newSiege(t)
	path := s.review("orders-db/own", 1, "select, delete", "user:alice")
	own := s.propose("own")
	s.refused(own, "approval")
	root := strings.Replace(string(s.access.Files[reviews.RootPath].Data), `reviewers: ["user:bob"`, `reviewers: ["user:alice", "user:bob"`, 1)
	config := strings.Replace(string(s.access.Files[reviews.ConfigPath].Data), "threshold: 1", "threshold: 1", 1)
	weak := s.object("blob", root)
	evil := s.git("commit-tree", s.replaced(reviews.RootPath, weak), "-p", "main", "-m", "evil base")

	t.Run("a replacement of the trust root", func(t *testing.T) {
		s.git("replace", "-f", s.git("rev-parse", "main:"+reviews.RootPath), weak)
		s.refused(own, "approval")
		s.git("replace", "-d", s.git("rev-parse", "main:"+reviews.RootPath))
	})
	t.Run("a replacement of the base commit", func(t *testing.T) {
		s.git("replace", "-f", "main", evil)
		s.refused(own, "approval")
		s.git("replace", "-d", "main")
	})
	// Whoever may push may push tags, and CI fetches them.
	for _, name := range []string{"main", "heads/main", "refs/heads/main"} {
		t.Run("a tag named "+name, func(t *testing.T) {
			s.git("update-ref", "refs/tags/"+name, evil)
			defer s.git("update-ref", "-d", "refs/tags/"+name)
			if r, err := s.tryCheck(own); r != nil && r.OK || r == nil && err == nil {
				t.Error("judged by the tag")
			}
			s.merged(own)
			s.says(s.granted("orders-db/etl#1"), path+": not approved")
		})
	}
	t.Run("a tag named like the remote's branch", func(t *testing.T) {
		s.git("update-ref", "refs/remotes/origin/main", "main~1")
		s.git("update-ref", "refs/tags/origin/main", evil)
		s.base = "origin/main"
		if r, err := s.tryCheck(own); r != nil && r.OK || r == nil && err == nil {
			t.Error("judged by the tag")
		}
		s.base = "refs/remotes/origin/main"
		s.refused(own, "approval")
		s.base = ""
	})
	t.Run("attributes", func(t *testing.T) {
		s.merged(s.git("rev-parse", "main~1"))
		s.git("checkout", "--quiet", "-B", "main", "main")
		_ = config
	})
}

// replaced is main's tree with other bytes at a path.
func (s *siege) replaced(path, blob string) string {
	s.Helper()
	index := s.TempDir() + "/index"
	run := func(args ...string) string {
		c := exec.Command("git", append([]string{"-C", s.dir}, args...)...)
		c.Env = append(os.Environ(), "GIT_INDEX_FILE="+index)
		out, err := c.CombinedOutput()
		if err != nil {
			s.Fatalf("git %v: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("read-tree", "main")
	run("update-index", "--cacheinfo", fmt.Sprintf("100644,%s,%s", blob, path))
	return run("write-tree")
}
