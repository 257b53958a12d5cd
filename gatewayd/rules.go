package gatewayd

import "github.com/sallyport-dev/sallyport/gatewayd/identity"

// Rules are the ids of all denials and cuts that the session core makes, those
// of tokens included. Engines and policies add their own; docs/runbook.md has an
// entry for each, which a test compares.
func Rules() []string {
	return append([]string{
		// logins
		"no_release", "release_expired", "recording_unavailable", "internal_error",
		"token_missing", "token_foreign", "connection_unknown",
		"review_missing", "review_ambiguous", "review_superseded", "review_not_yet_valid", "review_expired", "review_stale", "session_count_limit",
		// commands
		"policy_error", "hold_unsupported", "lookup_limit", "command_count_limit", "default", "owner_deny", "session_ended",
		// cuts
		"drained", "connection_removed", "connection_changed", "principal_removed",
		"review_removed", "review_changed", "session_limit", "idle_limit", "row_limit", "byte_limit",
	}, identity.Rules()...)
}
