// Prepare finds or fetches all that the tests talk to and says where each comes from, so that a fetch is seen as one and is not mistaken
// for a slow test. It starts nothing.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := peers.Prepare(ctx, func(line string) { fmt.Println(line) }); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
