package policies

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// allowedBuiltins are the functions that Rego may call: pure ones, whose cost
// grows with the size of their arguments and which stop at the deadline. What is not
// here does not compile. Left out on purpose are, among others:
//
//   - http.send, net.*, opa.runtime, providers.*: they leave the process or read its environment
//   - time.now_ns, rand.*, uuid.rfc4122: a decision depends on its input alone; the time is input.now
//   - bits.*, rem, numbers.*, format_int, round, ceil and floor: a short text makes a number of a billion digits, which no deadline stops
//   - to_number, units.*, json.unmarshal, yaml.*: they make such numbers out of text
//   - trace, print, rego.*, io.jwt.*, crypto.x509.*, graphql.*, json.*_schema, walk, graph.*: nothing here needs them
var allowedBuiltins = []string{
	"eq", "assign", "equal", "neq", "gt", "gte", "lt", "lte",
	"internal.member_2", "internal.member_3", "internal.template_string",
	"plus", "minus", "abs",
	"and", "or", "count", "sum", "max", "min", "sort", "union", "intersection",
	"array.concat", "array.flatten", "array.reverse", "array.slice",
	"object.filter", "object.get", "object.keys", "object.remove", "object.subset", "object.union", "object.union_n",
	"concat", "contains", "endswith", "startswith", "indexof", "indexof_n", "lower", "upper", "replace", "strings.replace_n",
	"split", "sprintf", "substring", "trim", "trim_left", "trim_prefix", "trim_right", "trim_space", "trim_suffix",
	"strings.any_prefix_match", "strings.any_suffix_match", "strings.count", "strings.reverse",
	"regex.match", "regex.is_valid", "regex.split", "regex.replace", "regex.find_n", "regex.find_all_string_submatch_n",
	"glob.match", "glob.quote_meta",
	"is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string", "type_name",
	"time.parse_rfc3339_ns", "time.parse_duration_ns", "time.add_date", "time.clock", "time.date", "time.weekday", "time.diff", "time.format",
	"crypto.sha256", "hex.encode", "base64.encode", "base64.is_valid", "json.marshal",
	"semver.compare", "semver.is_valid",
}

// testBuiltins may be called by owners' tests on top of allowedBuiltins; the
// tester itself inserts them.
var testBuiltins = []string{"print", "internal.print", "internal.test_case"}

// capabilities is OPA's language of this version with only those builtins and no network.
func capabilities(more ...string) *ast.Capabilities {
	all := ast.CapabilitiesForThisVersion()
	all.Builtins = slices.DeleteFunc(all.Builtins, func(b *ast.Builtin) bool {
		return !slices.Contains(allowedBuiltins, b.Name) && !slices.Contains(more, b.Name)
	})
	all.AllowNet = []string{}
	return all
}
