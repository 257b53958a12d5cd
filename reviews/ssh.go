package reviews

import (
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// ssh reports whether the rule is one for ssh connections.
func (r Rule) ssh() bool {
	return len(r.Exec) > 0 || r.Text != "" || r.SFTP != "" || r.Path != "" || r.Shell || r.Forward != ""
}

// EffectVerbs are the verbs of all effects that the rule can cover.
func (r Rule) EffectVerbs() []string {
	switch {
	case len(r.Exec) > 0 || r.Text != "":
		return []string{"exec"}
	case r.SFTP != "":
		return []string{"sftp_" + r.SFTP}
	case r.Shell:
		return []string{"shell"}
	case r.Forward != "":
		return []string{"forward"}
	}
	return r.Verbs
}

// Words is what a rule on an ssh or kubernetes connection allows, as it follows "may"; "" for other rules.
func (r Rule) Words() string {
	switch {
	case len(r.Exec) > 0:
		words := make([]string, len(r.Exec))
		for i, w := range r.Exec {
			words[i] = shellWord(w)
		}
		return "run " + strings.Join(words, " ")
	case r.Text != "":
		return "run exactly this text: " + r.Text
	case r.SFTP != "":
		return r.SFTP + " " + r.Path + " by sftp or scp"
	case r.Shell:
		return "open a shell, in which single commands are recorded and not decided on (enforcement: session)"
	case r.Forward != "":
		return "forward connections to " + r.Forward
	case r.kube():
		return r.kubeWords()
	}
	return ""
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./*-]+$`)

func shellWord(w string) string {
	if plainWord.MatchString(w) {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'"'"'`) + "'"
}

// Names is what the mask hides, as people write it.
func (m Mask) Names() string {
	switch {
	case m.Pattern != "":
		return "/" + m.Pattern + "/"
	case m.Detect != "":
		return "detected " + m.Detect
	case m.Resource != "":
		return m.Resource + " " + m.Path
	}
	return m.Column
}

// AllowsVariable reports whether a client may set an environment variable on the host.
func (s *ConnectionSpec) AllowsVariable(name string) bool {
	list := s.Environment
	if list == nil {
		list = []string{"LANG", "LC_*"}
	}
	return slices.ContainsFunc(list, func(pattern string) bool {
		prefix, open := strings.CutSuffix(pattern, "*")
		return name == pattern || open && strings.HasPrefix(name, prefix)
	})
}

// ssh checks what a connection to an ssh host has.
func (c *checker) ssh(s *ConnectionSpec) {
	c.address(&s.Target, "the ssh host")
	c.foreign("ssh", "spec.target.database", "spec.target.tls", "spec.target.ca", "spec.target.privileged", "spec.target.impersonate", "spec.functions", "spec.hashFunction")
	if len(s.Target.HostKeys) == 0 {
		c.missing("spec.target.hostKeys", `write the host's public keys, as ssh-keyscan prints them without the name: ["ssh-ed25519 AAAA…"]; compare them with the host's own /etc/ssh/*.pub`)
	}
	seen := make(map[string]bool)
	for i, text := range s.Target.HostKeys {
		at := fmt.Sprintf("spec.target.hostKeys[%d]", i)
		if _, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(text)); err != nil || len(options) > 0 || len(rest) > 0 {
			c.at(at, "this is not a public key", `write "ssh-ed25519 AAAA…", as ssh-keyscan prints it, without the host's name before it`)
		}
		c.unique(at, "host key", text, seen)
	}
	seen = make(map[string]bool)
	for i, name := range s.Environment {
		at := fmt.Sprintf("spec.environment[%d]", i)
		if bare := strings.TrimSuffix(name, "*"); !envForm.MatchString(bare) {
			c.at(at, quote(name)+" is not the name of a variable", "write a name, such as LANG, or a beginning and *, such as LC_*")
		}
		c.unique(at, "variable", name, seen)
	}
}

// protocol reports rules and masks that mean nothing on the connection.
func (c *crossCheck) protocol(protocol string, r *Review) {
	fixes := map[string]string{"ssh": "exec, text, sftp, shell or forward", "postgres": "verbs and on", "kubernetes": "verbs, resources and namespaces"}
	wrong := func(element string, rule Rule) {
		if of := rule.protocol(); of != protocol {
			c.line(element, "connection "+r.Spec.Connection+" speaks "+protocol+", and this rule is for "+of, "write "+fixes[protocol])
		}
	}
	for i, rule := range r.Spec.Allow {
		wrong(fmt.Sprintf("allow[%d]", i), rule)
	}
	for i, rule := range r.Spec.Hold {
		wrong(fmt.Sprintf("hold[%d]", i), rule)
	}
	for i, m := range r.Spec.Mask {
		if !m.Fits(protocol) {
			c.line(fmt.Sprintf("mask[%d]", i), "this mask does not fit connection "+r.Spec.Connection+", which speaks "+protocol, maskKinds[protocol])
		}
	}
	if protocol != "postgres" && len(r.Spec.Unmask) > 0 {
		c.line("unmask", "unmask is for columns, and connection "+r.Spec.Connection+" speaks "+protocol, "delete it")
	}
}

// outputMask checks a mask of an ssh connection.
func (c *checker) outputMask(at string, m Mask, seen map[string]bool) {
	if m.Column != "" || m.Pattern != "" && m.Detect != "" {
		c.at(at, "a mask has one of column, pattern and detect", "write several masks")
	}
	if m.Pattern != "" {
		re, err := regexp.Compile(m.Pattern)
		switch {
		case err != nil:
			c.at(at+".pattern", "this is not an RE2 expression: "+err.Error(), "see https://github.com/google/re2/wiki/Syntax")
		case re.MatchString(""):
			c.at(at+".pattern", "the pattern matches nothing at all, and so everywhere", "let it need at least one character")
		}
	} else {
		c.oneOf(at+".detect", "detector", m.Detect, OutputDetectors)
	}
	if m.With != "redact" {
		c.at(at+".with", "what is found in output can only be redacted", "write with: redact")
	}
	if m.Lookup {
		c.at(at+".lookup", "lookup is for columns", "delete it")
	}
	c.unique(at, "mask", m.Names(), seen)
}

// sshRule checks a rule on an ssh connection.
func (c *checker) sshRule(at string, r Rule) {
	kinds := 0
	for _, there := range []bool{len(r.Exec) > 0, r.Text != "", r.SFTP != "" || r.Path != "", r.Shell, r.Forward != ""} {
		if there {
			kinds++
		}
	}
	if kinds != 1 || len(r.Verbs)+len(r.On)+len(r.Columns) > 0 || r.kube() {
		c.at(at, "a rule has one of exec, text, sftp with path, shell and forward", "write several rules")
		return
	}
	switch {
	case len(r.Exec) > 0:
		c.shape(at+".exec", r.Exec)
	case r.SFTP != "" || r.Path != "":
		if r.SFTP == "" {
			c.missing(at+".sftp", "write one of "+strings.Join(SFTPOperations, ", "))
		} else {
			c.oneOf(at+".sftp", "operation", r.SFTP, SFTPOperations)
		}
		c.pathPattern(at+".path", r.Path)
	case r.Forward != "":
		if host, port, err := net.SplitHostPort(r.Forward); err != nil || host == "" || !isPort(port) {
			c.at(at+".forward", quote(r.Forward)+" is not host:port", "write for example db.internal:5432")
		}
	}
}

// shape checks the pattern of a command line.
func (c *checker) shape(at string, words []string) {
	for i, w := range words {
		path := fmt.Sprintf("%s[%d]", at, i)
		switch {
		case w == "**" && i == len(words)-1 && i > 0:
		case w == "":
			c.at(path, "an empty word", "an empty argument cannot be allowed by its shape; use text")
		case strings.Contains(w, "**"):
			c.at(path, "** stands for any further arguments, and only at the end", "write * for a part of one argument")
		case strings.Count(w, "*") > 1:
			c.at(path, "an argument has at most one *", "write several rules")
		case i == 0 && strings.Contains(w, "*"):
			c.at(path, "the program cannot be a pattern", "name each program in a rule of its own")
		}
	}
}

// pathPattern checks the pattern of a path on the host.
func (c *checker) pathPattern(at, p string) {
	dir, last := path.Split(p)
	switch {
	case p == "":
		c.missing(at, "write an absolute path, such as /var/log/** for all that is below it")
	case !path.IsAbs(p) || path.Clean(p) != p:
		c.at(at, quote(p)+" is not a clean absolute path", "write it from /, without . and .. and double slashes")
	case strings.Contains(dir, "*"), strings.Count(last, "*") > 1 && last != "**":
		c.at(at, quote(p)+" has a * where none can be", "only the last part may have one *, or be ** for the whole tree")
	}
}

// Revokes reports whether a key, or the principal with all its keys, is out of use.
func (r *Root) Revokes(key ssh.PublicKey, principal string) bool {
	fingerprint := ssh.FingerprintSHA256(key)
	return slices.ContainsFunc(r.Spec.Revoked, func(v Revocation) bool {
		return v.Fingerprint == fingerprint || v.Principal != "" && v.Principal == principal
	})
}
