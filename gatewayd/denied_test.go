package gatewayd

import (
	"testing"

	"github.com/sallyport-dev/sallyport/reviews"
)

// Where a forge is, the one command of a challenge opens the pull request, too; elsewhere it would only fail to.
func TestRequestCommand(t *testing.T) {
	settings := reviews.ConfigSpec{Repository: "https://git.example/acme/access.git"}
	want := `ask for access with: sallyport request orders-db --as agent:etl --repo https://git.example/acme/access.git --reason "why"`
	if got := RequestCommand(settings, "agent:etl", "orders-db"); got != want {
		t.Error(got)
	}
	settings.Forge.Kind = "gitea"
	want = `ask for access with: sallyport request orders-db --as agent:etl --repo https://git.example/acme/access.git --pr --reason "why"`
	if got := RequestCommand(settings, "agent:etl", "orders-db"); got != want {
		t.Error(got)
	}
}
