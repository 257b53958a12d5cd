package ci

import (
	"embed"
	"path"
	"strings"

	"github.com/sallyport-dev/sallyport/reviews"
)

//go:embed schemas/*.json
var schemas embed.FS

// SchemaKinds are the kinds of documents that have a JSON Schema.
var SchemaKinds = []reviews.Kind{reviews.KindReview, reviews.KindConnection, reviews.KindPrincipal, reviews.KindConfig, reviews.KindRoot}

// Schema is the JSON Schema (draft 7) of a kind of document, for editors; nil for
// what has none. It is made from the structs of package reviews and their
// comments, by go test ./ci -run 'TestSchemas$' -update. It helps while writing and judges nothing:
// the strict loader does, and knows much that a schema cannot say.
func Schema(kind reviews.Kind) []byte {
	b, err := schemas.ReadFile("schemas/" + string(kind) + ".json")
	if err != nil {
		return nil
	}
	return b
}

// SchemaPath is where an access repo keeps the schema of a kind for its editors.
func SchemaPath(kind reviews.Kind) string { return ".sallyport/schemas/" + string(kind) + ".json" }

// EditorLine is the comment that tells editors the schema of the document at
// doc, as yaml-language-server reads it.
func EditorLine(kind reviews.Kind, doc string) string {
	up := strings.Repeat("../", strings.Count(path.Clean(doc), "/"))
	return "# yaml-language-server: $schema=" + up + SchemaPath(kind)
}
