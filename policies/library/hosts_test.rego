# METADATA
# title: Tests of what covers commands on ssh hosts
package sallyport.hosts_test

import data.sallyport.decision

review := {"name": "web/r", "spec": {
	"subject": "agent:etl",
	"connection": "web",
	"allow": [
		{"exec": ["systemctl", "restart", "web-*"]},
		{"exec": ["ls", "**"]},
		{"exec": ["cat", "*.log"]},
		{"text": "cd /srv && ./deploy.sh"},
		{"sftp": "read", "path": "/var/log/**"},
		{"sftp": "write", "path": "/srv/in/*.csv"},
		{"sftp": "remove", "path": "/srv/in/old"},
		{"forward": "db.internal:5432"},
		{"sftp": "remove", "path": "/tmp/x/**"},
		{"sftp": "read", "path": "/etc/**"},
		{"sftp": "write", "path": "/srv/all/*"},
	],
	"hold": [
		{"exec": ["reboot"]},
		{"sftp": "remove", "path": "/tmp/x/keep/**"},
		{"sftp": "read", "path": "/etc/shadow"},
	],
}}

request(effects) := {
	"now": "2026-11-24T12:00:00Z", "principal": "agent:etl",
	"connection": {"name": "web", "spec": {"protocol": "ssh"}}, "review": review,
	"command": {"protocol": "ssh", "statement": "…", "effects": effects},
}

run(argv) := [{"verb": "exec", "argv": argv}]

file(operation, path) := [{"verb": concat("_", ["sftp", operation]), "object": path}]

cases := {
	"shape": {"effects": run(["systemctl", "restart", "web-1"]), "is": ["allow", "allow[0]"]},
	"star is nothing": {"effects": run(["systemctl", "restart", "web-"]), "is": ["allow", "allow[0]"]},
	"star and a slash": {"effects": run(["systemctl", "restart", "web-/../ssh"]), "is": ["deny", "default"]},
	"one more": {"effects": run(["systemctl", "restart", "web-1", "ssh"]), "is": ["deny", "default"]},
	"one fewer": {"effects": run(["systemctl", "restart"]), "is": ["deny", "default"]},
	"another order": {"effects": run(["restart", "systemctl", "web-1"]), "is": ["deny", "default"]},
	"another program": {"effects": run(["/tmp/systemctl", "restart", "web-1"]), "is": ["deny", "default"]},
	"any arguments": {"effects": run(["ls", "-la", "/etc"]), "is": ["allow", "allow[1]"]},
	"none of any": {"effects": run(["ls"]), "is": ["allow", "allow[1]"]},
	"begins alike": {"effects": run(["lsof"]), "is": ["deny", "default"]},
	"star first": {"effects": run(["cat", "a.log"]), "is": ["allow", "allow[2]"]},
	"star first is no option": {"effects": run(["cat", "-f.log"]), "is": ["deny", "default"]},
	"no argv": {"effects": [{"verb": "exec"}], "is": ["deny", "default"]},
	"empty argv": {"effects": run([]), "is": ["deny", "default"]},
	"forward": {"effects": [{"verb": "forward", "object": "db.internal:5432"}], "is": ["allow", "allow[7]"]},
	"another port": {"effects": [{"verb": "forward", "object": "db.internal:543"}], "is": ["deny", "default"]},
	"shell": {"effects": [{"verb": "shell"}], "is": ["deny", "default"]},
	"tree": {"effects": file("read", "/var/log/a/b.log"), "is": ["allow", "allow[4]"]},
	"top of the tree": {"effects": file("read", "/var/log"), "is": ["allow", "allow[4]"]},
	"top of a tree is not removed": {"effects": file("remove", "/tmp/x"), "is": ["deny", "default"]},
	"beside the tree": {"effects": file("read", "/var/logs/a"), "is": ["deny", "default"]},
	"whole tree": {"effects": file("read", "/var/log/a/**"), "is": ["allow", "allow[4]"]},
	"whole tree above": {"effects": file("read", "/var/**"), "is": ["deny", "default"]},
	"star in a path": {"effects": file("write", "/srv/in/a.csv"), "is": ["allow", "allow[5]"]},
	"star does not go down": {"effects": file("write", "/srv/in/x/a.csv"), "is": ["deny", "default"]},
	"tree for a star": {"effects": file("write", "/srv/in/**"), "is": ["deny", "default"]},
	"tree for any name": {"effects": file("write", "/srv/all/**"), "is": ["deny", "default"]},
	"beginning of what is held": {"effects": file("read", "/etc/shad"), "is": ["allow", "allow[9]"]},
	"exact path": {"effects": file("remove", "/srv/in/old"), "is": ["allow", "allow[6]"]},
	"other operation": {"effects": file("write", "/var/log/a"), "is": ["deny", "default"]},
	"sftp": {"effects": [{"verb": "sftp"}], "is": ["allow", "allow[4]"]},
	"known": {"effects": file("stat", "/srv/in/a.csv"), "is": ["allow", "allow[5]"]},
	"known top": {"effects": file("stat", "/var/log"), "is": ["allow", "allow[4]"]},
	"unknown": {"effects": file("stat", "/srv"), "is": ["deny", "default"]},
	"known and not held": {"effects": file("stat", "/etc/shadow"), "is": ["allow", "allow[9]"]},
	"held": {"effects": run(["reboot"]), "is": ["hold", "hold[0]"]},
	"held beside an allow": {"effects": file("remove", "/tmp/x/keep/a"), "is": ["hold", "hold[1]"]},
	"held in a tree": {"effects": file("remove", "/tmp/x/**"), "is": ["hold", "hold[1]"]},
	"held file in a tree": {"effects": file("read", "/etc/**"), "is": ["hold", "hold[2]"]},
	"not held": {"effects": file("read", "/etc/hosts"), "is": ["allow", "allow[9]"]},
}

test_cases if {
	every name, c in cases {
		print(name)
		d := decision with input as request(c.effects)
		[d.verdict, d.rule] == c.is
	}
}

test_text if {
	d := decision with input as request([{"verb": "exec", "text": "cd /srv && ./deploy.sh"}])
	[d.verdict, d.rule] == ["allow", "allow[3]"]
	every effect in [{"verb": "exec", "text": "cd /srv && ./deploy.sh "}, {"verb": "shell", "text": "cd /srv && ./deploy.sh"}] {
		e := decision with input as request([effect])
		e.verdict == "deny"
	}
}

# Rules of the two protocols do not cover each other's effects.
test_apart if {
	every effect in [{"verb": "select", "object": "app.orders"}, {"verb": "sftp_", "object": "/var/log/x"}] {
		d := decision with input as request([effect])
		d.verdict == "deny"
	}
}
