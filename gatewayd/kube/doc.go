// Package kube is the Kubernetes engine: a reverse proxy before an API server. It
// decides nothing itself: package call says what a request is, gatewayd says whether it
// may be, jsonmask hides what must not be seen.
//
// The requests of one token are one session, under one review. Each request is a
// command of it, and so is each exec, attach, log and forwarding of a port.
//
// The invariant: the API server gets a request only after gatewayd started its
// command and made the record durable; it gets no header that the client chose
// but those listed here, and the gateway's own credential. The client gets only what
// was understood, masked and recorded; an encoding that nobody looked through is refused.
package kube
