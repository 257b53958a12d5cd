package gatewayd

import (
	"time"

	"github.com/sallyport-dev/sallyport/reviews"
)

const (
	defaultLookups = 100 // when the review does not say
	lookupWindow   = time.Hour
)

// lookupWindows count the values of masked columns that the sessions of each
// review looked up. Who connects again has no more of them.
type lookupWindows map[string]*lookupCount

type lookupCount struct {
	since time.Time
	n     int64
}

func lookupLimit(l reviews.Limits) int64 {
	if l.Lookups > 0 {
		return l.Lookups
	}
	return defaultLookups
}

// takeLookups counts n lookups of a review, or reports that they are too many.
func (g *Gateway) takeLookups(review string, n, limit int64, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.lookups[review]
	switch {
	case c == nil || now.Sub(c.since) >= lookupWindow:
		c = &lookupCount{since: now}
		g.lookups[review] = c
	case now.Before(c.since): // the clock went back: what was counted stays
		c.since = now
	}
	if c.n+n > limit {
		return false
	}
	c.n += n
	return true
}
