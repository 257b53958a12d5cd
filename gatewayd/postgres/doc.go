// Package postgres is the PostgreSQL engine: it speaks the wire protocol to
// clients and targets, and turns the denials of package gatewayd into errors
// that drivers understand. It decides nothing itself: sqlguard says what a
// statement does, gatewayd says whether it may.
//
// The stream is walked by its 5-byte headers and forwarded in large writes.
// Only startup, authentication and the few messages that are inspected or built
// are decoded, with pgproto3, after their lengths, inner ones included, were checked here.
//
// The invariant: a statement's bytes go to the target only after gatewayd
// started the command and made its record durable. A denied statement leaves
// nothing of itself at the target: in its place goes an Execute of a portal that
// cannot exist, so that the server itself rolls back and reports the true
// transaction state.
package postgres
