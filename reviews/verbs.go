package reviews

// PostgresVerbs are the verbs that a rule on a postgres connection may list:
// everything a statement can do, one word for each effect.
var PostgresVerbs = []string{
	"select", "insert", "update", "delete", "truncate", "lock",
	"create", "alter", "drop", "grant", "comment",
	"call", "copy_file", "analyze", "vacuum", "reindex", "refresh",
	"notify", "listen",
}

// verbsWithoutObject act on nothing that has a schema, so a rule of only these needs no "on".
var verbsWithoutObject = []string{"notify", "listen", "copy_file"}

// verbsWithColumns are the ones whose effects name columns.
var verbsWithColumns = []string{"select", "insert", "update"}

// MaskFunctions are the ways in which a mask can hide a column; N stands for a
// number, PATH for names of JSON members joined by dots.
var MaskFunctions = []string{"redact", "null", "email", "hash", "first", "first(N)", "last4", "last(N)",
	"day", "week", "month", "quarter", "year", "bucket(N)", "json(redact PATH …)", "json(null PATH …)"}

// MaskPattern is what Mask.With has to match, as a regular expression. What the
// numbers and paths may be, and which types of columns a mask fits, is checked against the catalog.
const MaskPattern = `^(redact|null|email|hash|first|last4|(first|last)\([1-9][0-9]?\)|day|week|month|quarter|year|bucket\([1-9][0-9]{0,15}\)|` +
	`json\((redact|null)( (\*|[A-Za-z0-9_-]+)(\.(\*|[A-Za-z0-9_-]+)){0,7}){1,32}\))$`

// SSHVerbs are what a command on an ssh connection can do.
var SSHVerbs = []string{"exec", "shell", "sftp_read", "sftp_write", "sftp_rename", "sftp_remove", "sftp_attributes", "sftp_links", "forward"}

// SFTPOperations are what a rule for sftp and scp can allow on a path.
var SFTPOperations = []string{"read", "write", "rename", "remove", "attributes", "links"}

// KubernetesVerbs are those of requests to a Kubernetes API server.
var KubernetesVerbs = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}

// OutputDetectors are the built-in masks for output of ssh and kubernetes connections.
var OutputDetectors = []string{"card", "iban", "email", "private_key", "aws_key", "jwt"}

// Expectations are what an example of a review may expect.
var Expectations = []string{"allow", "mask", "hold", "deny"}

// Risks are the labels that a connection may carry for policies to read.
var Risks = []string{"low", "medium", "high"}
