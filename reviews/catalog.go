package reviews

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
)

// BindCatalog puts in front of a catalog, a JSON object with at least one member,
// which connection of which repository it is of, so that a signature over it
// means nothing anywhere else.
func BindCatalog(repo, connection string, object []byte) []byte {
	return append(catalogHeader(repo, connection), bytes.TrimPrefix(object, []byte("{"))...)
}

// catalogHeader is what a catalog that somebody approves has to begin with.
func catalogHeader(repo, connection string) []byte {
	return fmt.Appendf(nil, `{"repo": %q, "name": %q,`, repo, connection)
}

// CheckCatalog is nil when the catalog is bound to that connection of that
// repository, as BindCatalog does. The error is a Problems.
func CheckCatalog(repo, connection string, b []byte) error {
	if bytes.HasPrefix(b, catalogHeader(repo, connection)) {
		return nil
	}
	at := Position{File: CatalogPath(connection), Line: 1, Column: 1}
	return Problems{{Position: at, Message: "the file has to begin with the repository and the connection that it is of, so that it can be approved",
		Fix: "sallyport catalog pull " + connection + " writes it so; then have it signed"}}
}

// catalog reads the catalog of a connection. One that an approval rule is for and
// that is not approved is left out. That closes nothing else: what a gateway
// enforces is resolved with the live schema.
func (l *loader) catalog(c *Connection) error {
	name := c.Metadata.Name
	at := CatalogPath(name)
	if _, err := fs.Stat(l.fsys, at); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	b, signatures, err := l.readUpTo(at, maxCatalog)
	if err != nil {
		return err
	}
	source := &Source{Path: at, Bytes: b, SHA256: hexDigest(b), Signatures: signatures}
	s := subject{kind: KindCatalog, source: source, connection: name, risks: l.risks(c)}
	rules, err := l.rulesFor(s)
	ruled := len(rules) > 0
	if err == nil && ruled {
		err = CheckCatalog(l.tree.Repo, name, b)
	}
	if err == nil {
		err = l.approve(s)
	}
	if ruled {
		c.CatalogSource = *source
	}
	if err == nil {
		c.Catalog = b
	}
	return err
}
