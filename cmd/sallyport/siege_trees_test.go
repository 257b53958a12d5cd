package main

import (
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/ci"
)

// Trees that git itself does not write: a name that is there twice, and a file mode of
// long ago that some read as a plain file. CI and sync refuse both, and say which.
func TestSiegeOddTrees(t *testing.T) {
	for name, x := range map[string]struct {
		folder        string
		bend          func(entries []string) []string
		says, granted string
	}{
		"reviews twice":    {".", doubled("reviews"), "the name is there twice", ""},
		"connection twice": {"connections", doubled("orders-db.yaml"), "the name is there twice", ""},
		"review twice":     {"reviews/orders-db", doubled("etl.yaml"), "the name is there twice", ""},
		"old mode":         {"reviews/orders-db", withMode("etl.yaml", "100664"), "it is not a plain file", ""},
		"old mode of one":  {"connections", withMode("prod-db.yaml", "100664"), "it is not a plain file", "orders-db/etl#1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSiege(t)
			head := s.crafted(x.folder, x.bend)
			s.refused(head, ci.RuleDocument)
			if found := findings(s.check(head)); !strings.Contains(found, x.says) {
				t.Errorf("check does not say %q:\n%s", x.says, found)
			}
			if whole := s.evidence.check("--ref", head, "--no-cache", "--require-approved"); whole.OK || !strings.Contains(findings(whole), x.says) {
				t.Errorf("check --ref: %+v", whole)
			}
			s.git("update-ref", "refs/heads/main", head)
			s.says(s.granted(x.granted), x.says)
		})
	}
}

func findings(r *ci.Report) string {
	text := ""
	for _, f := range r.Findings {
		text += f.Message + "\n"
	}
	return text
}

func doubled(name string) func([]string) []string {
	return func(entries []string) (bent []string) {
		for _, e := range entries {
			bent = append(bent, e)
			if strings.HasSuffix(e, "\t"+name) {
				bent = append(bent, e)
			}
		}
		return bent
	}
}

func withMode(name, mode string) func([]string) []string {
	return func(entries []string) (bent []string) {
		for _, e := range entries {
			if strings.HasSuffix(e, "\t"+name) {
				_, rest, _ := strings.Cut(e, " ")
				e = mode + " " + rest
			}
			bent = append(bent, e)
		}
		return bent
	}
}

// crafted commits main with one folder bent, which git's own tools refuse to write.
func (s *siege) crafted(folder string, bend func(entries []string) []string) string {
	s.Helper()
	tree := ""
	for at := folder; ; at = filepath.Dir(at) {
		entries := strings.Split(s.git("ls-tree", "main:"+strings.TrimPrefix(at, ".")), "\n")
		if at == folder {
			entries = bend(entries)
		} else {
			for i, e := range entries {
				if strings.HasSuffix(e, "\t"+filepath.Base(folder)) {
					entries[i] = "040000 tree " + tree + "\t" + filepath.Base(folder)
				}
			}
			folder = at
		}
		var b strings.Builder
		for _, e := range entries {
			meta, name, _ := strings.Cut(e, "\t")
			fields := strings.Fields(meta)
			id, err := hex.DecodeString(fields[2])
			s.must(err)
			b.WriteString(strings.TrimPrefix(fields[0], "0") + " " + name + "\x00" + string(id))
		}
		tree = s.gitIn(strings.NewReader(b.String()), "hash-object", "-w", "-t", "tree", "--literally", "--stdin")
		if at == "." {
			return s.git("commit-tree", "-p", "main", "-m", "crafted", tree)
		}
	}
}
