package reviews

import (
	"regexp"
	"strings"
)

// The names of the access repo. They are ASCII and lower case, so that no two of
// them look alike, and none of them can leave its folder.
var (
	uuidForm       = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	principalForm  = regexp.MustCompile(`^(user|agent|workload|program):[a-z0-9][a-z0-9.-]{0,62}$`)
	connectionForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	reviewForm     = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}/[a-z0-9][a-z0-9-]{0,62}$`)
	groupForm      = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	policyForm     = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}\.rego$`)
	gatewayForm    = connectionForm

	identifier   = `[A-Za-z_][A-Za-z0-9_$]{0,62}`
	relationForm = regexp.MustCompile(`^` + identifier + `\.(?:\*|` + identifier + `)$`)
	objectForm   = regexp.MustCompile(`^` + identifier + `\.` + identifier + `$`)
	maskForm     = regexp.MustCompile(MaskPattern)
	columnForm   = regexp.MustCompile(`^` + identifier + `\.` + identifier + `\.` + identifier + `$`)
	nameForm     = regexp.MustCompile(`^` + identifier + `$`)
)

// IsColumn reports whether documents can name a column so: schema.table.column in plain identifiers.
func IsColumn(s string) bool { return columnForm.MatchString(s) }

// IsPrincipal reports whether name is a well-formed principal such as "agent:etl".
func IsPrincipal(name string) bool { return principalForm.MatchString(name) }

// IsConnection reports whether name is a well-formed connection such as "orders-db".
func IsConnection(name string) bool { return connectionForm.MatchString(name) }

// IsReview reports whether name is a well-formed review such as "orders-db/etl-nightly".
func IsReview(name string) bool { return reviewForm.MatchString(name) }

// Paths of the documents, from the root of the access repo.
const (
	ConfigPath = "sallyport.yaml"
	RootPath   = "trust/root.yaml"
)

const (
	principalsFolder  = "principals"
	connectionsFolder = "connections"
	reviewsFolder     = "reviews"
	policiesFolder    = "policies"
	catalogSuffix     = ".catalog.json"
)

// PathOf is where the document of that kind and name has to stand, from the root
// of the access repo: PathOf(KindPrincipal, "agent:etl") is "principals/agent_etl.yaml".
func PathOf(kind Kind, name string) string {
	switch kind {
	case KindConfig:
		return ConfigPath
	case KindRoot:
		return RootPath
	case KindPrincipal:
		return principalsFolder + "/" + fileName(name) + ".yaml"
	case KindConnection:
		return connectionsFolder + "/" + name + ".yaml"
	case KindCatalog:
		return CatalogPath(name)
	case KindReview:
		return reviewsFolder + "/" + name + ".yaml"
	case KindPolicy:
		return policiesFolder + "/" + name
	case KindRewind:
		return RewindPath
	case KindExtension:
		return ExtensionPath
	}
	return ""
}

// CatalogPath is where the catalog of a connection stands.
func CatalogPath(connection string) string {
	return connectionsFolder + "/" + connection + catalogSuffix
}

// KindOf is the kind of document that has to stand at path, "" when none does.
func KindOf(path string) Kind {
	folder, name, _ := strings.Cut(path, "/")
	switch {
	case path == ConfigPath:
		return KindConfig
	case path == RootPath:
		return KindRoot
	case path == RewindPath:
		return KindRewind
	case path == ExtensionPath:
		return KindExtension
	case folder == policiesFolder && policyForm.MatchString(name):
		return KindPolicy
	}
	if connection, is := strings.CutSuffix(name, catalogSuffix); is && folder == connectionsFolder && connectionForm.MatchString(connection) {
		return KindCatalog
	}
	name, isYAML := strings.CutSuffix(name, ".yaml")
	switch {
	case !isYAML:
		return ""
	case folder == principalsFolder && !strings.Contains(name, "/"):
		return KindPrincipal
	case folder == connectionsFolder && connectionForm.MatchString(name):
		return KindConnection
	case folder == reviewsFolder && reviewForm.MatchString(name):
		return KindReview
	}
	return ""
}

// fileName replaces what principals' names may contain and file names may not.
func fileName(name string) string { return fileNames.Replace(name) }

var fileNames = strings.NewReplacer(":", "_", "/", "_")

// matches is a glob in which "*" stands for any run of characters.
func matches(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
	if !strings.HasPrefix(name, parts[0]) {
		return false
	}
	name = name[len(parts[0]):]
	for _, part := range parts[1 : len(parts)-1] {
		_, rest, found := strings.Cut(name, part)
		if !found {
			return false
		}
		name = rest
	}
	return strings.HasSuffix(name, parts[len(parts)-1])
}
