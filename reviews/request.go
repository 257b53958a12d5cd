package reviews

import "strings"

// RequestedName is what a review asked for by a principal is called unless it
// is named: "orders-db" and "agent:etl.v2" give "orders-db/etl-v2".
func RequestedName(connection, principal string) string {
	_, name, _ := strings.Cut(principal, ":")
	return connection + "/" + strings.ReplaceAll(name, ".", "-")
}

// RequestBranch is the branch on which a review of that name is asked for.
func RequestBranch(review string) string { return "request/" + review }
