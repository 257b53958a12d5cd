// Prepare finds or fetches all that the tests talk to and says where each comes from, so that a fetch is seen as one and is not mistaken
// for a slow test. It starts nothing. `prepare gitea` builds Gitea, which only `make test-forge` needs, and
// `prepare kube` builds Kubernetes, for `make test-kube`.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := prepare(ctx, os.Args[1:], func(line string) { fmt.Println(line) }); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func prepare(ctx context.Context, args []string, progress peers.Progress) error {
	switch {
	case len(args) == 0:
		return peers.Prepare(ctx, progress)
	case slices.Equal(args, []string{"gitea"}):
		_, err := peers.PrepareGitea(ctx, progress)
		return err
	case slices.Equal(args, []string{"kube"}):
		_, err := peers.PrepareKube(ctx, progress)
		return err
	}
	return fmt.Errorf("usage: prepare [gitea|kube], not %q", args)
}
