package cmdline

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	for text, want := range map[string][]string{
		"ls":                                 {"ls"},
		"  ls   -la  /var/log ":              {"ls", "-la", "/var/log"},
		"systemctl restart web-1":            {"systemctl", "restart", "web-1"},
		"grep 'a b' file":                    {"grep", "a b", "file"},
		`grep "it's" file`:                   {"grep", "it's", "file"},
		`grep 'x'"'"'y' z`:                   {"grep", "x'y", "z"},
		"git-upload-pack '/srv/git/app.git'": {"git-upload-pack", "/srv/git/app.git"},
		"rsync --server -vlogDtpre.iLsfxCIvu . /srv/in/": {"rsync", "--server", "-vlogDtpre.iLsfxCIvu", ".", "/srv/in/"},
		"env A=1 b":                      {"env", "A=1", "b"},
		"date +%s":                       {"date", "+%s"},
		"printf '%s' ''":                 {"printf", "%s", ""},
		"echo 'grüße'":                   {"echo", "grüße"},
		`grep '\.log$' a`:                {"grep", `\.log$`, "a"},
		`sh -c 'cd /srv && ./deploy.sh'`: {"sh", "-c", "cd /srv && ./deploy.sh"},
		`find /srv -name '*.log'`:        {"find", "/srv", "-name", "*.log"},
	} {
		if got, err := Split(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}

// What a shell would make something else of is no command line with words.
var notPlain = []string{
	"", " ", "ls; id", "ls;id", "ls & id", "ls && id", "ls || id", "ls | id", "ls\nid", "ls\rid", "ls\tid", "ls\x00id", "ls >x", "ls <x", "ls 2>x", "(ls)",
	"{ ls; }", "! ls", "ls $HOME", "ls ${HOME}", "ls $(id)", "ls `id`", `ls "$(id)"`, `ls "$HOME"`, "ls \"`id`\"", `ls "a\"b"`, `ls a\ b`, `ls \$x`, "ls *", "ls ?", "ls [a]",
	"ls {a,b}", "ls ~", "ls ~root", "ls #x", "ls 'a", `ls "a`, "ls 'a!b'", "A=1 ls", "PATH=/tmp ls", "=ls", "ls =ls", "ls %1", "%1", "-x", "if true", "while true",
	"exec ls", "eval ls", ". x", "source x", "command ls", "time ls", "@ x", "''", "'' ls", "' ls'", "ls \u00a0x", "ls é", "ls \u2028id", "ls 'a\nb'", `ls 'a\'`, `ls 'a\\b'`, "<(id)", "ls^x", "ls <<x\nid\nx",
	"builtin ls", "ls 'a\x1bb'", "ls a'b", `ls $'a'`, `ls $"a"`, "a=b", "'a=b' c",
}

func TestNotPlain(t *testing.T) {
	for _, text := range notPlain {
		if words, err := Split(text); err == nil {
			t.Errorf("%q has words %q", text, words)
		}
		if c := Exec(text); c.Refusal == nil && (len(c.Effects) != 1 || c.Effects[0].Verb != "exec" || c.Effects[0].Argv != nil) {
			t.Errorf("%q is %+v", text, c)
		}
	}
}

// shells of this machine that read a text as the host might.
func shells(t testing.TB) []string {
	var found []string
	for _, name := range []string{"sh", "bash", "dash", "zsh", "ksh", "busybox"} {
		if p, err := exec.LookPath(name); err == nil {
			found = append(found, p)
		}
	}
	if len(found) == 0 {
		t.Fatal("no shell was found: apt-get install dash")
	}
	return found
}

// agrees checks that the shells read the same words.
func agrees(t testing.TB, text string, words []string) {
	for _, shell := range shells(t) {
		args := []string{"-c", `printf '<%s>' ` + text}
		if strings.HasSuffix(shell, "busybox") {
			args = append([]string{"sh"}, args...)
		}
		out, err := exec.Command(shell, args...).CombinedOutput()
		want := "<" + strings.Join(words, "><") + ">"
		if err != nil || string(out) != want {
			t.Errorf("%s reads %q as %q, %v; want %q", shell, text, out, err, want)
		}
	}
}

func TestShellsAgree(t *testing.T) {
	for _, text := range []string{
		"ls -la /var/log", `grep 'x'"'"'y' "it's" ''`, "env A=1 b,c:d@e%f+g", `a '\.log$' '*' "*" '{a,b}' "#" '$HOME' '~' "&&" ';' '|' '<>' "(" 'é'`, "a -- --x=y '  '",
	} {
		words, err := Split(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		agrees(t, text, words)
	}
}

func FuzzSplit(f *testing.F) {
	for _, text := range notPlain {
		f.Add(text)
	}
	f.Add(`grep 'x'"'"'y' "it's" ''`)
	f.Fuzz(func(t *testing.T, text string) {
		words, err := Split(text)
		if err != nil || len(text) > 200 {
			return
		}
		agrees(t, text, words)
	})
}

func TestFiles(t *testing.T) {
	for _, p := range []string{"", "a", "./a", "/a/../b", "/a//b", "/a/", "/a/.", "/a\x00b", "/a/**", "/\xff"} {
		if File("read", p).Refusal == nil {
			t.Errorf("%q is a clean path", p)
		}
	}
	if c := File("rename", "/a", "/b"); c.Refusal != nil || len(c.Effects) != 2 || c.Effects[1].Object != "/b" || c.Effects[0].Verb != "sftp_rename" {
		t.Errorf("%+v", c)
	}
	for text, want := range map[string][]string{
		"scp -f /var/log/a":      {"sftp_read /var/log/a"},
		"scp -r -f -p /var/log":  {"sftp_read /var/log/**"},
		"scp -v -t /srv/in":      {"sftp_write /srv/in", "sftp_write /srv/in/**"},
		"scp -d -t /srv/in":      {"sftp_write /srv/in/**"},
		"scp -t /srv/in/":        {"sftp_write /srv/in/**"},
		"scp -f -- /a /b":        {"sftp_read /a", "sftp_read /b"},
		"scp -f '/var/log/*'":    {"exec "},
		"scp -f ../a":            {"exec "},
		"scp -f -S /tmp/x /a":    {"exec "},
		"scp -t -f /a":           {"exec "},
		"scp /a /b":              {"exec "},
		"scp -t /a /b":           {"exec "},
		"sftp: read /a":          {"sftp_read /a"},
		"sftp: rename /a '/b c'": {"sftp_rename /a", "sftp_rename /b c"},
		"shell:":                 {"shell "},
		"forward: db.local:5432": {"forward db.local:5432"},
		"ls; id":                 {"exec "},
	} {
		var got []string
		for _, e := range Understand(text).Effects {
			got = append(got, e.Verb+" "+e.Object)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
