// Package record writes down what a gateway does before it does it, and proves
// afterwards that nothing of it was changed. It is the only package that knows
// the format. It does not decide anything, and knows neither SQL nor git.
//
// The invariant: when Session.Barrier returns nil, everything recorded of the
// session so far survives what Options.Durability promises; when it returns an
// error, nothing may be forwarded.
//
// # Format
//
// Options.Dir holds journal/*.log, where the records of all live sessions are
// appended (each line is a session id, a space and the record), and
// recordings/yyyy/mm/dd/<session>.jsonl, one file per ended session, which gets
// its name only when it is whole. Refused logins share recordings that are
// called denied-<id>.jsonl.
//
// A recording is lines of JSON. Every record has seq (from 1), t (UTC), prev (the
// sha256 hex of the line before it, without its line feed; the first has that of
// nothing) and type:
//
//	open       header: whose session, under which review, approvals and release
//	command    n, command: statement, decision; secrets are digested
//	output     n, stream, data (or base64): what the client was shown, as masked
//	truncated  n, left: bytes of output that the cap left out
//	result     n, result: how the command ended
//	event      event, data: anything else, such as why the session was cut
//	denied     summary: one refused login
//	close      summary: how the session ended
//	seal       statement, signature: the gateway's SSHSIG over the chain's head,
//	           namespace sallyport.checkpoint.v1
package record
