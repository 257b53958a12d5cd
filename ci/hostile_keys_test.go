package ci

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"io/fs"
	"strings"
	"testing/fstest"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/reviews"
)

// foreignKeys are keys that nobody may use, in authorized_keys form.
func foreignKeys() map[string]string {
	line := func(k ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) }
	weak, errWeak := rsa.GenerateKey(rand.Reader, 1024)
	curve, errCurve := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if errWeak != nil || errCurve != nil {
		panic(fmt.Sprint(errWeak, errCurve))
	}
	weakKey, errWeak := ssh.NewPublicKey(&weak.PublicKey)
	curveKey, errCurve := ssh.NewPublicKey(&curve.PublicKey)
	if errWeak != nil || errCurve != nil {
		panic(fmt.Sprint(errWeak, errCurve))
	}
	certificate := &ssh.Certificate{Key: signerOf("agent:x").PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"user:bob"}, ValidBefore: ssh.CertTimeInfinity}
	if err := certificate.SignCert(rand.Reader, signerOf("ca")); err != nil {
		panic(err)
	}
	good := keyOf("agent:x")
	return map[string]string{
		"RSA of 1024 bits": line(weakKey), "ECDSA": line(curveKey), "a certificate": line(certificate),
		"an authority": "cert-authority " + good, "options": `command="sh" ` + good, "a restriction": "restrict " + good,
		"cut off": good[:len(good)-6], "empty": "ssh-ed25519 ", "a type that lies": strings.Replace(good, "ssh-ed25519 ", "sk-ssh-ed25519@openssh.com ", 1),
		"a path": "/home/alice/.ssh/id_ed25519.pub", "a known host": "host.example " + good, "a URL": "https://github.com/alice.keys", "a fingerprint": ssh.FingerprintSHA256(signerOf("agent:x").PublicKey()),
		"OpenPGP": "-----BEGIN PGP PUBLIC KEY BLOCK-----", "X.509": "-----BEGIN CERTIFICATE-----", "minisign": "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3",
		"DSA": "ssh-dss AAAAB3NzaC1kc3MAAACBAA==", "base64 of nothing": "ssh-ed25519 " + base64.StdEncoding.EncodeToString([]byte("nothing")),
	}
}

// Only ed25519 keys, plain or on a security key, each of one principal.
func keyAttacks() []attack {
	var list []attack
	const x = "principals/agent_x.yaml"
	text := principalText("agent:x", "user:alice", "agent:x")
	next := rootText(2, "")
	for name, key := range foreignKeys() {
		list = append(list,
			attack{"key", name + " of an agent", RuleDocument, func(a *access) {
				a.put(x, strings.Replace(text, keyOf("agent:x"), strings.ReplaceAll(key, `"`, `\"`), 1), "user:bob")
			}},
			attack{"key", name + " of a reviewer", RuleDocument, func(a *access) {
				a.put(reviews.RootPath, strings.Replace(next, keyOf("user:dan"), strings.ReplaceAll(key, `"`, `\"`), 1), "user:bob", "user:carol")
			}})
	}
	add := func(name, rule, path, text string, by ...string) {
		list = append(list, attack{"key", name, rule, func(a *access) { a.put(path, text, by...) }})
	}
	add("listed twice", RuleDocument, x, strings.Replace(text, "]\n", fmt.Sprintf(", {key: %q}]\n", keyOf("agent:x")), 1), "user:bob")
	add("listed twice with another comment", RuleDocument, x, strings.Replace(text, "]\n", fmt.Sprintf(", {key: %q}]\n", keyOf("agent:x")+" laptop"), 1), "user:bob")
	add("two lines in one", RuleDocument, x, strings.Replace(text, keyOf("agent:x"), keyOf("agent:x")+`\n`+keyOf("agent:y"), 1), "user:bob")
	add("a window backwards", RuleDocument, x, strings.Replace(text, `"}]`, `", notBefore: "2027-02-01T00:00:00Z", notAfter: "2027-01-01T00:00:00Z"}]`, 1), "user:bob")
	add("a window in local time", RuleDocument, x, strings.Replace(text, `"}]`, `", notAfter: "2027-02-01T00:00:00+01:00"}]`, 1), "user:bob")
	add("one account of two people", RuleDocument, reviews.RootPath, strings.NewReplacer(`{name: "user:bob", `, `{name: "user:bob", forge: {github: 7}, `, `{name: "user:dan", `, `{name: "user:dan", forge: {github: 7}, `).Replace(next), "user:bob", "user:carol")
	add("a login for an account", RuleDocument, reviews.RootPath, strings.Replace(next, `{name: "user:bob", `, `{name: "user:bob", forge: {github: bob}, `, 1), "user:bob", "user:carol")
	add("account zero", RuleDocument, reviews.RootPath, strings.Replace(next, `{name: "user:bob", `, `{name: "user:bob", forge: {github: 0}, `, 1), "user:bob", "user:carol")
	add("a forge that is none", RuleDocument, reviews.RootPath, strings.Replace(next, `{name: "user:bob", `, `{name: "user:bob", forge: {gitlab: 7}, `, 1), "user:bob", "user:carol")
	add("a member twice in a group", RuleDocument, reviews.RootPath, strings.Replace(next, `root: ["user:bob", `, `root: ["user:bob", "user:bob", `, 1), "user:bob", "user:carol")
	add("a gateway's key that is no key", RuleDocument, reviews.RootPath, strings.Replace(next, keyOf("gateway"), "ssh-ed25519 AAAA", 1), "user:bob", "user:carol")
	add("a pin that is none", RuleDocument, reviews.RootPath, strings.Replace(next, "{name: gw1, ", "{name: gw1, tls: \"sha256:AB\", ", 1), "user:bob", "user:carol")
	add("two gateways of one name", RuleDocument, reviews.RootPath, strings.Replace(next, "gateways: [", fmt.Sprintf("gateways: [{name: gw1, key: %q}, ", keyOf("gateway two")), 1), "user:bob", "user:carol")
	add("a delegation of everybody", RuleDocument, reviews.RootPath, next+"  delegations: [{principals: \"*\", group: security}]\n", "user:bob", "user:carol")
	add("a delegation of people", RuleDocument, reviews.RootPath, next+"  delegations: [{principals: \"user:*\", group: security}]\n", "user:bob", "user:carol")
	add("delegations that overlap", RuleDocument, reviews.RootPath, next+"  delegations: [{principals: \"agent:a*\", group: security}, {principals: \"agent:ab*\", group: reviewers}]\n", "user:bob", "user:carol")
	add("a delegation to nobody", RuleDocument, reviews.RootPath, next+"  delegations: [{principals: \"agent:a*\", group: nobody}]\n", "user:bob", "user:carol")
	add("a revocation of nothing", RuleDocument, reviews.RootPath, strings.Replace(next, "  revoked: [", "  revoked: [{reason: x}, ", 1), "user:bob", "user:carol")
	add("a revocation from no moment on", RuleDocument, reviews.RootPath, strings.Replace(next, "  revoked: [", "  revoked: [{principal: \"user:dan\", mode: after, reason: x}, ", 1), "user:bob", "user:carol")
	add("a revocation in MD5", RuleDocument, reviews.RootPath, strings.Replace(next, "  revoked: [", "  revoked: [{fingerprint: \"MD5:aa:bb\", reason: x}, ", 1), "user:bob", "user:carol")
	add("a tombstone without a digest", RuleDocument, reviews.RootPath, next+"  tombstones: [{sha256: abc, reason: x}]\n", "user:bob", "user:carol")
	return list
}

// sidecarAttacks put good signatures where they do not belong, and bad ones where good ones do.
func sidecarAttacks() []attack {
	var list []attack
	text := reviewText("orders-db/etl", 5, "")
	add := func(name string, bend func(a *access)) {
		list = append(list, attack{"sidecar", name, RuleApproval, bend})
	}
	bob := reviews.SidecarPath(etlPath, "user:bob", signerOf("user:bob").PublicKey())
	base := bob[len(etlPath+".sigs/"):]
	// A good signature by bob, renamed.
	for name, to := range map[string]string{
		"in capitals": strings.ToUpper(base), "another fingerprint": "user_bob." + strings.Repeat("0", 64) + ".sig", "no fingerprint": "user_bob.sig", "half a fingerprint": base[:30] + ".sig",
		"another suffix": base + ".old", "no suffix": strings.TrimSuffix(base, ".sig"), "hidden": "." + base, "a space": "user bob" + base[8:], "a colon": "user:bob" + base[8:],
		"another kind": "agent_bob" + base[8:], "nobody": base[8:], "carol": "user_carol" + base[8:],
	} {
		add("renamed: "+name, func(a *access) {
			a.put(etlPath, text, "user:bob")
			a.files[etlPath+".sigs/"+to] = a.files[bob]
			delete(a.files, bob)
		})
	}
	add("beside another document", func(a *access) {
		a.put(etlPath, text, "user:bob")
		a.files[reportPath+".sigs/"+base] = a.files[bob]
		delete(a.files, bob)
	})
	add("in a folder of another case", func(a *access) {
		a.put(etlPath, text, "user:bob")
		a.files[etlPath+".SIGS/"+base] = a.files[bob]
		delete(a.files, bob)
	})
	add("in a folder beside", func(a *access) {
		a.put(etlPath, text, "user:bob")
		a.files["reviews/orders-db/etl.sigs/"+base] = a.files[bob]
		delete(a.files, bob)
	})
	add("the folder is a link", func(a *access) {
		a.put(etlPath, text)
		a.files[etlPath+".sigs"] = &fstest.MapFile{Data: []byte("report.yaml.sigs"), Mode: fs.ModeSymlink | 0o777}
	})
	add("the folder is a submodule", func(a *access) {
		a.put(etlPath, text)
		a.files[etlPath+".sigs"] = &fstest.MapFile{Mode: fs.ModeIrregular}
	})
	// Signatures that bob's key made, and that are not what is asked for.
	raw := func(name string, make func(a *access) []byte) {
		add(name, func(a *access) { a.put(etlPath, text); a.write(bob, string(make(a))) })
	}
	raw("over SHA-256", func(a *access) []byte {
		sig, err := sshsig.Sign(strings.NewReader(text), signerOf("user:bob"), sshsig.HashSHA256, reviews.NamespaceReview)
		if err != nil {
			a.t.Fatal(err)
		}
		return sshsig.Armor(sig)
	})
	raw("over the digest", func(a *access) []byte { return signatureOf(a, "user:bob", fmt.Sprintf("%x", text)) })
	raw("over an empty file", func(a *access) []byte { return signatureOf(a, "user:bob", "") })
	raw("over the path", func(a *access) []byte { return signatureOf(a, "user:bob", etlPath) })
	raw("over the text without its last line break", func(a *access) []byte { return signatureOf(a, "user:bob", strings.TrimSuffix(text, "\n")) })
	raw("over the text with Windows line ends", func(a *access) []byte { return signatureOf(a, "user:bob", strings.ReplaceAll(text, "\n", "\r\n")) })
	raw("with Windows line ends", func(a *access) []byte {
		return bytes.ReplaceAll(signatureOf(a, "user:bob", text), []byte("\n"), []byte("\r\n"))
	})
	raw("with a header", func(a *access) []byte {
		return bytes.Replace(signatureOf(a, "user:bob", text), []byte("\n"), []byte("\nVersion: 1\n\n"), 1)
	})
	raw("as OpenPGP", func(a *access) []byte {
		return bytes.ReplaceAll(signatureOf(a, "user:bob", text), []byte("SSH SIGNATURE"), []byte("PGP SIGNATURE"))
	})
	raw("without armour", func(a *access) []byte {
		b := signatureOf(a, "user:bob", text)
		lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
		return bytes.Join(lines[1:len(lines)-1], nil)
	})
	raw("the public key", func(*access) []byte { return []byte(keyOf("user:bob") + "\n") })
	raw("a link to a signature", func(*access) []byte { return []byte("../report.yaml.sigs/" + base) })
	raw("a pointer of a large file store", func(*access) []byte {
		return []byte("version https://git-lfs.github.com/spec/v1\noid sha256:" + strings.Repeat("ab", 32) + "\nsize 300\n")
	})
	raw("a conflict", func(a *access) []byte {
		b := string(signatureOf(a, "user:bob", text))
		return []byte("<<<<<<< HEAD\n" + b + "=======\n" + b + ">>>>>>> other\n")
	})
	return list
}

func signatureOf(a *access, who, message string) []byte {
	armored, err := reviews.Sign(signerOf(who), reviews.NamespaceReview, []byte(message))
	if err != nil {
		a.t.Fatal(err)
	}
	return armored
}

// fieldAttacks are well-formed YAML that says what must not be said.
func fieldAttacks() []attack {
	var list []attack
	add := func(name, path, text string, by ...string) {
		list = append(list, attack{"field", name, RuleDocument, func(a *access) { a.put(path, text, by...) }})
	}
	connection := func(name, from, to string) {
		text := connectionText("orders-db", "")
		if !strings.Contains(text, from) {
			panic("no " + from)
		}
		add("connection: "+name, ordersPath, strings.Replace(text, from, to, 1), "user:bob", "user:carol")
	}
	const target = "target: {host: orders-db.internal, database: orders, user: gateway}"
	connection("no TLS off this host", target, "target: {host: orders-db.internal, database: orders, user: gateway, tls: disable}")
	connection("TLS that checks nothing", target, "target: {host: orders-db.internal, database: orders, user: gateway, tls: require}")
	connection("a host with options", target, `target: {host: "orders-db.internal sslmode=disable", database: orders, user: gateway}`)
	connection("a URL for a host", target, `target: {host: "postgres://u:p@orders-db.internal/x", database: orders, user: gateway}`)
	connection("a socket for a host", target, "target: {host: /var/run/postgresql, database: orders, user: gateway}")
	connection("several hosts", target, `target: {host: "a.internal,b.internal", database: orders, user: gateway}`)
	connection("port zero", target, "target: {host: orders-db.internal, port: 0, database: orders, user: gateway}")
	connection("a port beyond all", target, "target: {host: orders-db.internal, port: 65536, database: orders, user: gateway}")
	connection("no database", target, "target: {host: orders-db.internal, user: gateway}")
	connection("no role", target, "target: {host: orders-db.internal, database: orders}")
	connection("an authority by a relative path", target, "target: {host: orders-db.internal, database: orders, user: gateway, ca: ../ca.pem}")
	connection("the password itself", "credential: env:ORDERS_PASSWORD", "credential: hunter2")
	connection("a credential from the network", "credential: env:ORDERS_PASSWORD", "credential: https://vault.example/orders")
	connection("a credential of a relative file", "credential: env:ORDERS_PASSWORD", "credential: file:secrets/orders")
	connection("a credential of a shell", "credential: env:ORDERS_PASSWORD", `credential: "exec:cat /etc/shadow"`)
	connection("no credential", "  credential: env:ORDERS_PASSWORD\n", "")
	connection("another protocol", "protocol: postgres", "protocol: mysql")
	connection("a protocol to come", "protocol: postgres", "protocol: ssh")
	connection("a risk that is none", "risk: high", "risk: none")
	connection("a mask of a table", "{column: app.customers.email, with: email}", "{column: app.customers, with: redact}")
	connection("a mask of everything", "{column: app.customers.email, with: email}", `{column: "app.*.*", with: redact}`)
	connection("a function without schema", "  risk: high\n", "  risk: high\n  functions: [pg_read_file]\n")

	settings := func(name, from, to string) {
		text := configText("")
		if !strings.Contains(text, from) {
			panic("no " + from)
		}
		add("settings: "+name, reviews.ConfigPath, strings.Replace(text, from, to, 1), "user:bob", "user:carol")
	}
	more := func(name, line string) { settings(name, "  policies:", "  "+line+"\n  policies:") }
	more("freshness for ever", "freshness: {validFor: 999999h}")
	more("freshness zero", "freshness: {validFor: 0s}")
	more("a forge without a repository", "forge: {kind: github}")
	more("a forge that is none", "forge: {kind: sourceforge, repository: a/b}")
	more("a forge over plain HTTP", "forge: {kind: gitea, url: \"http://git.example\", repository: a/b}")
	more("a forge with a password", "forge: {kind: gitea, url: \"https://u:p@git.example\", repository: a/b}")
	more("a branch that leaves", "branch: ../main")
	more("a lifetime for ever", "maxReviewLifetime: 9999999h")
	settings("a gateway nobody knows", "{name: gw1,", "{name: gw9,")
	settings("a policy in a folder", "[guardrails.rego]", "[../trust/root.yaml]")
	settings("a policy twice", "[guardrails.rego]", "[guardrails.rego, guardrails.rego]")
	settings("no group", "threshold: 1, groups: [reviewers]", "threshold: 1, groups: []")
	settings("a negative threshold", "threshold: 2", "threshold: -1")
	settings("a kind that is none", "kinds: [Policy]", "kinds: [Polcy]")
	settings("automatic approval by the forge's word", "threshold: 2, groups", "threshold: 2, groups: [reviewers], auto: yes, groups")

	review := func(name, from, to string) {
		text := reviewText("orders-db/etl", 5, "")
		if !strings.Contains(text, from) {
			panic("no " + from)
		}
		add("review: "+name, etlPath, strings.Replace(text, from, to, 1), "user:bob")
	}
	review("unmask without a rule for it", "  justification:", "  unmask: [app.customers.email]\n  justification:")
	review("unmask of everything", "  justification:", "  unmask: [\"app.customers.*\"]\n  justification:")
	review("unmask of a column that is not masked", "  justification:", "  unmask: [app.orders.status]\n  justification:")
	review("a relation with quotes", "on: [app.orders, app.customers]", `on: ["app.\"orders\""]`)
	review("a relation with a comment", "on: [app.orders, app.customers]", `on: ["app.orders -- x"]`)
	review("a relation of three parts", "on: [app.orders, app.customers]", "on: [prod.app.orders]")
	review("a verb in capitals", "verbs: [select]", "verbs: [SELECT]")
	review("a verb twice", "verbs: [select]", "verbs: [select, select]")
	review("a column with a table", "verbs: [select], on: [app.orders, app.customers]", "verbs: [select], on: [app.orders], columns: [app.orders.id]")
	review("sessions without bound", "  justification:", "  limits: {sessions: 0}\n  justification:")
	review("a statement's time in words", "  justification:", "  limits: {statement: long}\n  justification:")
	review("a time in milliseconds", "  justification:", "  limits: {session: 500ms}\n  justification:")
	review("a time in days", "  justification:", "  limits: {session: 1d}\n  justification:")
	review("rows as text", "  justification:", "  limits: {rows: \"10\"}\n  justification:")
	review("the year 10000", "2027-03-01T00:00:00Z", "10000-03-01T00:00:00Z")
	review("the year 0000", "2027-01-01T00:00:00Z", "0000-01-01T00:00:00Z")
	review("February 30", "2027-03-01", "2027-02-30")
	review("a leap second", "2027-03-01T00:00:00Z", "2027-02-28T23:59:60Z")
	review("hour 24", "2027-03-01T00:00:00Z", "2027-02-28T24:00:00Z")
	review("a fraction of a second", "2027-03-01T00:00:00Z", "2027-03-01T00:00:00.5Z")
	review("a lower-case z", "2027-03-01T00:00:00Z", "2027-03-01T00:00:00z")
	review("an agent in another script", `subject: "agent:etl"`, "subject: \"agent:\u0435tl\"")
	review("an agent with a NUL", `subject: "agent:etl"`, `subject: "agent:etl\0"`)
	review("a subject that is a list", `subject: "agent:etl"`, `subject: ["agent:etl", "agent:report"]`)
	review("an agent of no kind", `subject: "agent:etl"`, `subject: etl`)
	review("an agent that is false", `subject: "agent:etl"`, `subject: no`)
	review("a requester that is an agent's group", `requester: "user:alice"`, `requester: "group:reviewers"`)
	return list
}
