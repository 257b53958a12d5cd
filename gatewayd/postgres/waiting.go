package postgres

import (
	"container/list"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// waitingLimit is how many connections may wait for their login to be through.
const waitingLimit = 1000

// waitingRoom holds the connections that have not logged in yet. A full room
// turns nobody away: it closes, of the source that has most in it, the one that
// has waited longest. A flood thus pushes out its own connections, and a client
// among them still has the time in which a whole room is filled anew.
type waitingRoom struct {
	log *slog.Logger

	mu      sync.Mutex
	sources map[netip.Prefix]*list.List // connections of each, oldest first
	count   int
	evicted int       // since told
	told    time.Time // when the log last heard of evictions
}

// enter adds a connection until leave is called, which may be called twice.
func (r *waitingRoom) enter(conn net.Conn) (leave func()) {
	source := sourceOf(conn.RemoteAddr())
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count >= waitingLimit {
		r.evict()
	}
	if r.sources[source] == nil {
		r.sources[source] = list.New()
	}
	r.count++
	place := r.sources[source].PushBack(conn)
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.remove(source, place)
	})
}

// evict closes one connection. mu is held.
func (r *waitingRoom) evict() {
	var source netip.Prefix
	most := 0
	for s, waiting := range r.sources {
		if waiting.Len() > most {
			source, most = s, waiting.Len()
		}
	}
	oldest := r.sources[source].Front()
	oldest.Value.(net.Conn).Close()
	r.remove(source, oldest)
	r.evicted++
	if time.Since(r.told) > 10*time.Second {
		r.log.Warn("too many connections wait for their login: the oldest were closed", "limit", waitingLimit, "closed", r.evicted, "source", source.String())
		r.evicted, r.told = 0, time.Now()
	}
}

// remove takes a connection out, unless it is out already. mu is held.
func (r *waitingRoom) remove(source netip.Prefix, place *list.Element) {
	waiting := r.sources[source]
	if waiting == nil {
		return
	}
	before := waiting.Len()
	waiting.Remove(place) // does nothing when it is of an older list
	r.count -= before - waiting.Len()
	if waiting.Len() == 0 {
		delete(r.sources, source)
	}
}

// sourceOf is what one client can be expected to hold: an IPv4 address, a /64 of IPv6.
func sourceOf(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	address := tcp.AddrPort().Addr().Unmap()
	bits := 32
	if address.Is6() {
		bits = 64
	}
	prefix, err := address.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}
