// Command sallyport is what people use: requesters, reviewers, agents and
// auditors. It writes and signs documents in an access repo, checks them the way
// CI does, turns merged commits into releases, opens connections through a
// gateway and reads what gatewayd recorded.
//
// It holds no power of its own. What it writes counts once people signed it and
// git merged it; gatewayd takes nothing from it but releases whose signature it
// verifies itself. Every verb has a file of its own; this one only runs them.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	root := newRoot()
	command, err := root.ExecuteContextC(ctx)
	code := report(command, err)
	stop()
	os.Exit(code)
}
