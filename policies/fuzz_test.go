package policies

import (
	"errors"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/reviews"
)

// Whatever a policy says, it compiles shut or is refused with its place.
func FuzzCompile(f *testing.F) {
	for _, text := range []string{
		"deny contains \"x\" if input.command.effects[_].verb == \"drop\"\n", "hold contains \"x\" if data.access.deny\n", "auto_approve contains \"x\"\n",
		"deny contains http.send({}).x\n", "deny contains \"x\" if opa.runtime().env.X\n", "deny contains \"x\" with data.sallyport as {}\n", "import data.sallyport as x\n",
		"deny contains x if x := numbers.range(1, 1000000)[_]\n", "deny contains {\n", "deny := true\n", "default deny := {}\n", "allow := true\n", "f(x) := f(x)\n",
		"deny contains \"x\" if rego.parse_module(\"a\", \"b\")\n", "p[x] contains y if { x := 1; y := 2 }\n", "# METADATA\n# scope: package\ndeny contains \"x\"\n",
		strings.Repeat("deny contains \"x\" if {", 200),
	} {
		f.Add("package access\n\n" + text)
	}
	f.Add("package sallyport.decision\n\nverdict := \"allow\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		const at = "policies/a.rego"
		p, err := Compile(t.Context(), map[string][]byte{at: []byte(text)})
		if (p == nil) == (err == nil) {
			t.Fatal("neither compiled nor refused")
		}
		var problems reviews.Problems
		if err != nil && (!errors.As(err, &problems) || len(problems) == 0 || problems[0].File != at || problems[0].Message == "" || problems[0].Fix == "") {
			t.Fatalf("refused without a place or a next step: %T %+v", err, err)
		}
		for _, shut := range []string{"http.send(", "opa.runtime(", "time.now_ns(", "bits.lsh(", "net.lookup_ip_addr("} {
			if err == nil && strings.Contains(strings.SplitN(text, "#", 2)[0], shut) && !strings.ContainsAny(text, "\"`") {
				t.Fatalf("compiled with %s", shut)
			}
		}
	})
}
