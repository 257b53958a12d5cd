package reviews_test

import (
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/reviews"
)

// A mask, rule or field that means nothing on the connection's protocol is refused, since it would protect nothing.
func TestConnectionsOfTwoProtocols(t *testing.T) {
	const hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC2S8Hq0cM8W4lQ1Jm0yJ0Z7n1xgQ0Wl7a6aH3l0u9fQ"
	connection := func(spec string) error {
		_, err := reviews.ParseConnection("connections/web.yaml", []byte("apiVersion: sallyport.dev/v1\nkind: Connection\nmetadata: {repo: 6f0c2f5e-8f0a-4f6e-9a43-0d3f6a1f8b11, name: web}\nspec:\n"+spec))
		return err
	}
	const ssh = "  protocol: ssh\n  target: {host: web, user: deploy, hostKeys: [\"" + hostKey + "\"]}\n  credential: env:KEY\n"
	const sql = "  protocol: postgres\n  target: {host: db, database: app, user: gateway}\n  credential: env:PASSWORD\n"
	for _, good := range []string{
		ssh, sql, ssh + "  environment: [LANG, \"APP_*\"]\n  mask: [{pattern: 'tok_[a-z]+', with: redact}, {detect: card, with: redact}]\n",
		sql + "  mask: [{column: app.customers.email, with: email}]\n",
	} {
		if err := connection(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, says := range map[string]string{
		ssh + "  mask: [{column: app.customers.email, with: email}]\n":       "does not fit protocol ssh",
		sql + "  mask: [{pattern: 'tok_[a-z]+', with: redact}]\n":            "does not fit protocol postgres",
		sql + "  mask: [{detect: card, with: redact}]\n":                     "does not fit protocol postgres",
		ssh + "  mask: [{pattern: 'a*', with: redact}]\n":                    "matches nothing at all",
		ssh + "  mask: [{pattern: '(', with: redact}]\n":                     "not an RE2 expression",
		ssh + "  mask: [{detect: card, with: email}]\n":                      "can only be redacted",
		ssh + "  functions: [app.f]\n":                                       "has no functions",
		sql + "  environment: [LANG]\n":                                      "has no environment",
		strings.Replace(ssh, ", hostKeys: [\""+hostKey+"\"]", "", 1):         "hostKeys",
		strings.Replace(ssh, hostKey, "web "+hostKey, 1):                     "not a public key",
		strings.Replace(ssh, "user: deploy", "user: deploy, database: x", 1): "has no database",
		ssh + "  environment: [\"*\"]\n":                                     "not the name of a variable",
	} {
		if err := connection(bad); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", bad, err, says)
		}
	}
}
