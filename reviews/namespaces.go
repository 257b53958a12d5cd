package reviews

// Every signature is made for one purpose, which SSHSIG calls its namespace. A
// signature for one purpose is worth nothing for another. This is the only list.
const (
	NamespaceConfig      = "sallyport.config.v1"
	NamespaceRoot        = "sallyport.root.v1"
	NamespacePrincipal   = "sallyport.principal.v1"
	NamespaceConnection  = "sallyport.connection.v1"
	NamespaceCatalog     = "sallyport.catalog.v1"
	NamespaceReview      = "sallyport.review.v1"
	NamespacePolicy      = "sallyport.policy.v1"
	NamespaceRewind      = "sallyport.rewind.v1"
	NamespaceExtension   = "sallyport.extension.v1"
	NamespaceRelease     = "sallyport.release.v1"     // the envelope that sync signs
	NamespaceAttestation = "sallyport.attestation.v1" // what sync says of a pull request's approvals
	NamespaceToken       = "sallyport.token.v1"       // what an agent shows to a gateway
	NamespaceCheckpoint  = "sallyport.checkpoint.v1"  // the head of a recording, signed by its gateway
	NamespaceGit         = "git"                      // commits, as git itself signs them
)

// NamespaceFor is the namespace that approvals of documents of that kind are
// signed in. It panics on a kind that does not exist.
func NamespaceFor(kind Kind) string {
	switch kind {
	case KindConfig:
		return NamespaceConfig
	case KindRoot:
		return NamespaceRoot
	case KindPrincipal:
		return NamespacePrincipal
	case KindConnection:
		return NamespaceConnection
	case KindCatalog:
		return NamespaceCatalog
	case KindReview:
		return NamespaceReview
	case KindPolicy:
		return NamespacePolicy
	case KindRewind:
		return NamespaceRewind
	case KindExtension:
		return NamespaceExtension
	}
	panic("reviews: no namespace for kind " + string(kind))
}
