//go:build sqlsmith

package postgres

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// TestSQLSmith lets sqlsmith send 10,000 statements that it makes up, for each of
// three seeds, through a gateway whose role may do everything. No byte to the
// client may hold a masked value, no session may be cut, nothing may crash.
func TestSQLSmith(t *testing.T) {
	smith, err := peers.SQLSmith(t.Context(), func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	for seed, major := range map[int]int{1: 15, 2: 17, 3: 18} {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			target := peers.SharedPostgresMajor(t, major)
			c := corpora[1]
			c.on += `, "smith.*"`
			w := newCorpusWorld(t, target, c, smithSchema(t)...)
			w.exec("alter role " + w.role + " set search_path = smith, pg_catalog, public")
			started := w.one("select pg_postmaster_start_time()")
			tap := newTap(t, w.address)
			config := w.config()
			dsn := fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=%s sslmode=disable", tap.port, config.User, config.Database)
			out, err := smith.With("PGPASSWORD="+config.Password).Run(t.Context(), t.TempDir(),
				"--target="+dsn, fmt.Sprint("--seed=", seed), "--max-queries=10000", "--exclude-catalog")
			if err != nil {
				t.Errorf("sqlsmith: %v\n%.2000s", err, out[max(0, len(out)-2000):])
			}
			tap.end(t)
			if tap.done < 5000 || tap.sessions != 3 { // two look at the schema: more would be those that began anew after a cut
				t.Errorf("only %d statements ran, in %d connections", tap.done, tap.sessions)
			}
			t.Logf("PostgreSQL %s: %d statements ran, %d failed in PostgreSQL, %d were refused", target.Version, tap.done, tap.failed, tap.refused)
			if again := w.one("select pg_postmaster_start_time()"); again != started || strings.Contains(target.Log(), "terminated by signal") {
				t.Error("the server crashed")
			}
			until(t, "the summaries are there", func() bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				return len(w.summaries) >= 3
			})
			w.keepsNothing(t, "select")
			for _, s := range w.summaries {
				if s.End != "closed" {
					t.Errorf("a session ended as %+v", s)
				}
			}
			if strings.Contains(w.logged.String(), "panic") {
				t.Errorf("the gateway panicked")
			}
		})
	}
}

// smithSchema shows sqlsmith, which asks pg_proc for functions to call, those alone
// that a statement may call: nearly all that it made up would be refused otherwise.
func smithSchema(t *testing.T) []string {
	b, err := os.ReadFile("sqlguard/functions.txt")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`[a-z_0-9]+`).FindAllString(regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(string(b), ""), -1)
	slices.Sort(names)
	return []string{"create schema smith", `create view smith.pg_proc as select p.* from pg_catalog.pg_proc p
		where pronamespace = 'pg_catalog'::regnamespace and proname = any ('{` + strings.Join(slices.Compact(names), ",") + `}')
		and proname not in ('pg_sleep', 'pg_sleep_for', 'pg_sleep_until')`}
}

// tap stands between a client and the gateway and looks at all that the client gets.
type tap struct {
	port     int
	listener net.Listener
	wait     sync.WaitGroup

	mu                    sync.Mutex
	sessions              int
	done, failed, refused int
	shown                 []string
}

func newTap(t *testing.T, address string) *tap {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{port: listener.Addr().(*net.TCPAddr).Port, listener: listener}
	p.wait.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", address)
			if err != nil {
				client.Close()
				continue
			}
			p.mu.Lock()
			p.sessions++
			p.mu.Unlock()
			p.wait.Go(func() { io.Copy(server, client); server.(*net.TCPConn).CloseWrite() })
			p.wait.Go(func() { p.look(client, server); client.Close(); server.Close() })
		}
	})
	t.Cleanup(func() { listener.Close() })
	return p
}

// look forwards the messages of the gateway one by one.
func (p *tap) look(client io.Writer, server io.Reader) {
	var recent []byte // what the statement at hand has been answered
	for {
		head := make([]byte, headerSize)
		if _, err := io.ReadFull(server, head); err != nil {
			return
		}
		raw := append(head, make([]byte, binary.BigEndian.Uint32(head[1:])-4)...)
		if _, err := io.ReadFull(server, raw[headerSize:]); err != nil {
			return
		}
		p.mu.Lock()
		switch raw[0] {
		case 'C':
			if !regexp.MustCompile(`^(BEGIN|ROLLBACK|SET)`).Match(raw[headerSize:]) {
				p.done++
			}
		case 'E':
			if bytes.Contains(raw, []byte("(denial d-")) {
				p.refused++
			} else {
				p.failed++
			}
		}
		recent = append(recent, raw...)
		if raw[0] == 'Z' || len(recent) > 1<<20 {
			if c := shows(recent); c != "" && len(p.shown) < 20 {
				p.shown = append(p.shown, fmt.Sprintf("%q in %.1000q", c, recent))
			}
			recent = recent[:0]
		}
		p.mu.Unlock()
		if _, err := client.Write(raw); err != nil {
			return
		}
	}
}

func (p *tap) end(t *testing.T) {
	p.listener.Close()
	p.wait.Wait()
	for _, s := range p.shown {
		t.Errorf("shown: %s", s)
	}
}
