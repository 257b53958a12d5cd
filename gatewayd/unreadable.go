package gatewayd

import (
	"slices"

	"github.com/sallyport-dev/sallyport/policies/release"
)

// Unreadable is a connection some of whose relations cannot be read, because of
// their masks.
type Unreadable struct {
	Connection string   `json:"connection"`
	Problems   []string `json:"problems"`

	digest string // of the connection document
}

// unreadable replaces what is known of a connection.
func (g *Gateway) unreadable(name, digest string, problems []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.problems[name]
	if len(problems) == 0 {
		delete(g.problems, name)
		return
	}
	if !slices.Equal(before.Problems, problems) {
		g.config.Log.Error("masks make relations unreadable", "connection", name, "problems", problems)
	}
	g.problems[name] = Unreadable{Connection: name, Problems: slices.Clone(problems), digest: digest}
}

// checkMasks looks at every connection of a new release that changed.
func (g *Gateway) checkMasks(r *release.Release) {
	g.mu.Lock()
	for name, p := range g.problems {
		if c := r.Connections[name]; c == nil || c.Digest != p.digest {
			delete(g.problems, name)
		}
	}
	g.mu.Unlock()
	if g.config.CheckMasks == nil {
		return
	}
	for name, c := range r.Connections {
		g.mu.Lock()
		_, known := g.problems[name]
		g.mu.Unlock()
		if !known { // else a session has seen the target itself
			g.unreadable(name, c.Digest, g.config.CheckMasks(c))
		}
	}
}
