# METADATA
# title: Which effects of a command on an ssh host a rule covers
# description: |
#   exec   covers a plain command line whose words fit one by one. A word of the rule is
#          exact, or has one "*", which stands for any characters but "/"; a word that
#          begins with "*" fits no argument that begins with "-", so that options are
#          always named. A last "**" fits any further arguments, options too.
#   text   covers the command that is this text, byte for byte.
#   sftp   covers the operation on a path that fits. A path of the rule is exact, or its
#          last part has one "*", or is "**" for all that is below. An effect whose path ends
#          in "/**" means all that is below it, and is covered by a "**" only.
#          That a path is there, sftp_stat, is covered by any rule for sftp on it.
#          sftp itself opens with any such rule.
#   shell  covers a shell; forward covers exactly its host:port.
#
#   touches: what a hold rule covers, and a whole tree in which something of it lies.
package sallyport.hosts

covers(rule, effect) if {
	effect.verb == "exec"
	shape(rule.exec, effect.argv)
} else if {
	effect.verb == "exec"
	rule.text == effect.text
} else if {
	effect.verb == concat("_", ["sftp", rule.sftp])
	path_fits(rule.path, effect.object)
} else if { # the top of a tree can be listed and made with it, and nothing else
	effect.verb in ["sftp_read", "sftp_write"]
	effect.verb == concat("_", ["sftp", rule.sftp])
	rule.path == concat("", [effect.object, "/**"])
} else if { # sftp is opened for whoever has a rule for it; each operation is asked about again
	effect.verb == "sftp"
	rule.sftp
} else if { # that something is there, by any rule about it
	effect.verb == "sftp_stat"
	known_by(rule.path, effect.object)
} else if {
	effect.verb == "shell"
	rule.shell == true
} else if {
	effect.verb == "forward"
	rule.forward == effect.object
}

touches(rule, effect) if {
	not effect.verb in ["sftp", "sftp_stat"]
	covers(rule, effect)
}

touches(rule, effect) if {
	effect.verb == concat("_", ["sftp", rule.sftp])
	endswith(effect.object, "/**")
	startswith(rule.path, trim_suffix(effect.object, "**"))
}

shape(words, argv) if {
	count(words) == count(argv)
	fits(words, argv)
}

shape(words, argv) if {
	words[count(words) - 1] == "**"
	fixed := array.slice(words, 0, count(words) - 1)
	count(argv) >= count(fixed)
	fits(fixed, argv)
}

fits(words, argv) if {
	every i, word in words {
		word_fits(word, argv[i])
	}
}

word_fits(word, arg) if {
	word == arg
	not contains(word, "*")
} else if {
	word != "**"
	[before, after] := split(word, "*")
	starred(before, after, arg)
	not hidden_option(before, arg)
}

hidden_option("", arg) if startswith(arg, "-")

# starred: before, any characters but "/", after.
starred(before, after, text) if {
	startswith(text, before)
	endswith(text, after)
	count(text) >= count(before) + count(after)
	not contains(substring(text, count(before), (count(text) - count(before)) - count(after)), "/")
}

known_by(pattern, path) if path_fits(pattern, path)

known_by(pattern, path) if pattern == concat("", [path, "/**"])

path_fits(pattern, path) if {
	pattern == path
	not contains(pattern, "*")
} else if {
	endswith(pattern, "/**")
	startswith(path, trim_suffix(pattern, "**"))
} else if {
	not endswith(pattern, "/**")
	not endswith(path, "/**")
	[before, after] := split(pattern, "*")
	starred(before, after, path)
}
