// Package cmdline understands what a client of an ssh host asks to run: the text
// of an exec request, an operation of sftp, a shell, a forwarding. It knows no
// wire and no policy; sshd and the command line tool share it.
//
// The text of an exec is read by a shell on the host, which nobody knows in
// advance. So argv is taken from it only where every shell of the Bourne family,
// fish and csh read the same words: unquoted characters that mean nothing to any
// of them, and quotes with nothing inside that any of them replaces. Everything else is
// not a plain command line: it has no argv, and only a review that allows this
// very text lets it run.
package cmdline

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sallyport-dev/sallyport/policies"
)

// Protocol is what commands of this package carry.
const Protocol = "ssh"

// maxText bounds a command's text, in bytes; OpenSSH's own limit is the packet of 256 KiB.
const maxText = 64 << 10

// Exec is the command of an exec request. It never has a refusal for what a text
// rule may allow.
func Exec(text string) policies.Command {
	c := policies.Command{Protocol: Protocol, Statement: text, Effects: []policies.Effect{{Verb: "exec", Text: text}}}
	switch {
	case len(text) > maxText:
		c.Statement, c.Effects[0].Text = text[:256], ""
		c.Refusal = &policies.Refusal{Rule: "command_too_long", Reason: fmt.Sprintf("the command has %d bytes, and at most %d are looked at: put it into a file on the host", len(text), maxText)}
		return c
	case strings.ContainsRune(text, 0) || !utf8.ValidString(text):
		c.Refusal = &policies.Refusal{Rule: "command_unreadable", Reason: "the command has a zero byte or is not UTF-8, so it is not the same text to everybody"}
		return c
	}
	argv, err := Split(text)
	if err != nil {
		return c
	}
	if effects, is := copyOf(argv); is {
		c.Effects = effects
		return c
	}
	c.Effects[0].Argv = argv
	return c
}

// Shell is the command of a shell request.
func Shell() policies.Command {
	return policies.Command{Protocol: Protocol, Statement: "(shell)", Effects: []policies.Effect{{Verb: "shell"}}}
}

// Forward is the command that opens a connection from the host to another.
func Forward(address string) policies.Command {
	return policies.Command{Protocol: Protocol, Statement: "(forward to " + address + ")", Effects: []policies.Effect{{Verb: "forward", Object: address}}}
}

// Files is the command that opens sftp, in which each operation is a command of its own.
func Files() policies.Command {
	return policies.Command{Protocol: Protocol, Statement: "(sftp)", Effects: []policies.Effect{{Verb: "sftp"}}}
}

// File is one operation of sftp on absolute paths: read, write, rename, remove,
// attributes or links. Rename and links have two.
func File(operation string, paths ...string) policies.Command {
	c := policies.Command{Protocol: Protocol, Statement: "(sftp) " + operation + " " + quoted(paths), Effects: []policies.Effect{}}
	for _, p := range paths {
		c.Effects = append(c.Effects, policies.Effect{Verb: "sftp_" + operation, Object: p})
		if !clean(p) && c.Refusal == nil {
			c.Refusal = &policies.Refusal{Rule: "path_unclear", Reason: "a path must be UTF-8, absolute and without . and .. and double slashes, so that everybody reads the same place in it"}
		}
	}
	if len(paths) == 0 {
		c.Refusal = &policies.Refusal{Rule: "path_unclear", Reason: "the operation names no path"}
	}
	return c
}

func clean(p string) bool {
	return path.IsAbs(p) && path.Clean(p) == p && !strings.ContainsRune(p, 0) && utf8.ValidString(p) && !strings.HasSuffix(p, "/**")
}

func quoted(paths []string) string {
	list := make([]string, len(paths))
	for i, p := range paths {
		list[i] = fmt.Sprintf("%q", p)
	}
	return strings.Join(list, " ")
}

// Understand reads a case of a review's examples, or of `sallyport explain`: the
// text of an exec; or "sftp: OPERATION PATH [PATH]", "shell:" or "forward: HOST:PORT".
func Understand(text string) policies.Command {
	kind, rest, _ := strings.Cut(text, ":")
	rest = strings.TrimSpace(rest)
	switch {
	case kind == "sftp" && strings.HasPrefix(text, "sftp: "):
		if words, err := Split(rest); err == nil && len(words) > 1 {
			return File(words[0], words[1:]...)
		}
		return File(rest)
	case text == "shell:":
		return Shell()
	case kind == "forward" && strings.HasPrefix(text, "forward: "):
		return Forward(rest)
	}
	return Exec(text)
}

// Why a text is not a plain command line.
var (
	errEmpty   = errors.New("it is empty")
	errComplex = errors.New("it is not a plain command line")
)

// Error says where a text stops being a plain command line.
type Error struct {
	Offset int    // bytes into the text
	What   string // such as `"$"`
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s at byte %d means something to a shell, so this is not a plain command line", e.What, e.Offset)
}

func (e *Error) Unwrap() error { return errComplex }

// safe are the characters that no shell gives a meaning to within a word.
func safe(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_@%+:,./-", c) >= 0
}

// reserved are words with which a shell begins something else than a command.
var reserved = []string{
	"if", "then", "else", "elif", "fi", "do", "done", "case", "esac", "while", "until", "for", "foreach", "in", "function", "select",
	"time", "coproc", "end", "begin", "switch", "and", "or", "not", "repeat", "builtin", "command", "exec", "eval", "source", ".", "nocorrect", "noglob",
	"alias", "trap", "goto", "onintr", "@", ":",
}

// Split takes the words of a plain command line. The error is *Error, or says that there are none.
func Split(text string) ([]string, error) {
	var words []string
	var word []byte
	inWord := false
	end := func() {
		if inWord {
			words = append(words, string(word))
		}
		word, inWord = nil, false
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == ' ':
			end()
			continue
		case c == '\'' || c == '"':
			n := strings.IndexByte(text[i+1:], c)
			if n < 0 {
				return nil, &Error{i, "a quote without its end"}
			}
			inside := text[i+1 : i+1+n]
			if j := badInside(c, inside); j >= 0 {
				return nil, &Error{i + 1 + j, describe(inside[j])}
			}
			word, inWord = append(word, inside...), true
			i += n + 1
			continue
		case c == '=' && len(words) > 0 && inWord: // after the program's name, and not first in a word: zsh has =program
		case c == '%' && !inWord: // fish had %job
			return nil, &Error{i, describe(c)}
		case safe(c):
		default:
			return nil, &Error{i, describe(c)}
		}
		word, inWord = append(word, c), true
	}
	end()
	if len(words) == 0 {
		return nil, errEmpty
	}
	if words[0] == "" || slices.Contains(reserved, words[0]) || strings.HasPrefix(words[0], "-") || strings.ContainsAny(words[0], "= ") {
		return nil, &Error{0, fmt.Sprintf("%q as the first word", words[0])}
	}
	return words, nil
}

// badInside finds what some shell replaces within quotes; -1 when there is nothing.
func badInside(quote byte, inside string) int {
	for i := 0; i < len(inside); i++ {
		c := inside[i]
		switch {
		case c < ' ' || c == 0x7f:
			return i
		case c == '!': // csh, also within single quotes
			return i
		case c == '\\' && (quote == '"' || i+1 == len(inside) || inside[i+1] == '\\'): // fish, also within single quotes
			return i
		case quote == '"' && (c == '$' || c == '`'):
			return i
		}
	}
	return -1
}

func describe(c byte) string {
	switch {
	case c == '\n':
		return "a line feed"
	case c < ' ' || c == 0x7f:
		return fmt.Sprintf("the control character 0x%02x", c)
	case c >= 0x80:
		return "a character beyond ASCII, unquoted"
	}
	return fmt.Sprintf("%q", string(c))
}

// copyOf reads what the old protocol of scp runs on the host: `scp -f PATH …` sends
// files and `scp -t PATH` takes them. Then the effects are those of the files.
func copyOf(argv []string) ([]policies.Effect, bool) {
	if argv[0] != "scp" {
		return nil, false
	}
	var verb string
	var whole bool
	i := 1
	for ; i < len(argv) && strings.HasPrefix(argv[i], "-"); i++ {
		if argv[i] == "--" {
			i++
			break
		}
		for _, c := range argv[i][1:] {
			switch c {
			case 'f', 't':
				if verb != "" {
					return nil, false
				}
				verb = map[rune]string{'f': "sftp_read", 't': "sftp_write"}[c]
			case 'r', 'd': // -d: the path must be a folder, into which names of the client's go
				whole = true
			case 'p', 'v':
			default:
				return nil, false
			}
		}
	}
	if verb == "" || i == len(argv) || verb == "sftp_write" && i+1 != len(argv) {
		return nil, false
	}
	var effects []policies.Effect
	for _, p := range argv[i:] {
		folder := whole || verb == "sftp_write" && strings.HasSuffix(p, "/")
		p = strings.TrimSuffix(p, "/")
		if !clean(p) || strings.ContainsAny(p, "*?[]{}~") { // scp -f matches these itself, through the shell
			return nil, false
		}
		if !folder {
			effects = append(effects, policies.Effect{Verb: verb, Object: p})
		}
		if folder || verb == "sftp_write" { // a folder at that path takes any name that the client gives
			effects = append(effects, policies.Effect{Verb: verb, Object: p + "/**"})
		}
	}
	return effects, true
}
