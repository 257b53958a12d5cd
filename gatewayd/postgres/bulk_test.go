package postgres

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// bulk is how much the tests move each way, in bytes: 256 MiB, or SALLYPORT_BULK MiB.
func bulk(t testing.TB) int64 {
	text := os.Getenv("SALLYPORT_BULK")
	if text == "" {
		return 256 << 20
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		t.Fatalf("SALLYPORT_BULK=%s is no number of MiB", text)
	}
	return n << 20
}

// memoryLimit is by how much the memory of this process may grow for any amount of data, the client's part and the garbage collector's leeway included.
const memoryLimit = 48 << 20

// memory is what this process holds: resident memory, or where that is not to be had what Go got from the system.
func memory() int64 {
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		fields := strings.Fields(string(b))
		if pages, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
			return pages * int64(os.Getpagesize())
		}
	}
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}

// growth runs f and returns by how much the memory grew at most meanwhile.
func growth(f func()) int64 {
	before, most := memory(), int64(0)
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		select {
		case <-done:
			tick.Stop()
			return most
		case <-tick.C:
			most = max(most, memory()-before)
		}
	}
}

// pattern gives n bytes of lines for COPY.
type pattern struct {
	line []byte
	left int64
	off  int
}

func (p *pattern) Read(b []byte) (int, error) {
	if p.left <= 0 {
		return 0, io.EOF
	}
	n := 0
	for n < len(b) && p.left > 0 {
		c := copy(b[n:], p.line[p.off:])
		n += c
		p.left -= int64(c)
		p.off = (p.off + c) % len(p.line)
	}
	return n, nil
}

type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) { c.n += int64(len(b)); return len(b), nil }

func TestCopyInBoundedMemory(t *testing.T) {
	w := newWorld(t, variant{rows: 1 << 30})
	// What arrives is counted, not kept.
	w.exec(`create table app.sink (line text); create table app.seen (n bigint); grant all on app.sink, app.seen to ` + w.role + `;
		create function app.count() returns trigger language plpgsql as $$ begin return null; end $$;
		create trigger drop before insert on app.sink for each row execute function app.count()`)
	measure := func(name string, size int64, f func()) {
		t.Helper()
		start := time.Now()
		grown := growth(f)
		if t.Logf("%s: %d MiB in %s, memory grew by %d KiB", name, size>>20, time.Since(start), grown>>10); grown > memoryLimit {
			t.Errorf("%s: memory grew by %d MiB", name, grown>>20)
		}
	}
	size := bulk(t)
	lines := func(row, size int64) io.Reader {
		return &pattern{line: append(bytes.Repeat([]byte("x"), int(row)-1), '\n'), left: size}
	}
	c := w.connect()
	measure("in, small messages", size/4, func() {
		if tag, err := c.CopyFrom(t.Context(), lines(64<<10, size/4), "copy app.sink from stdin"); err != nil {
			t.Errorf("%v, %v", tag, err)
		}
	})
	measure("in, one message", size, func() {
		r := w.raw()
		r.send(query("copy app.sink from stdin"), binary.BigEndian.AppendUint32([]byte{'d'}, uint32(4+size)))
		if _, err := io.Copy(r.conn, lines(1<<20, size)); err != nil {
			t.Error(err)
		}
		r.send(message('c', nil))
		if got := r.kinds(1); got != "GCZ" {
			t.Errorf("%s", got)
		}
	})
	for row, size := range map[int64]int64{16 << 10: size / 4, 4 << 20: size} { // each row is one message
		measure(fmt.Sprintf("out, rows of %d KiB", row>>10), size, func() {
			out := &counter{}
			_, err := c.CopyTo(t.Context(), out, fmt.Sprintf("copy (select repeat('x', %d) from generate_series(1, %d)) to stdout", row-1, size/row))
			if err != nil || out.n != size {
				t.Errorf("%v, %d bytes of %d", err, out.n, size)
			}
		})
	}
}

// A long message that must be understood is held, once where it was read and once
// where it is sent; the client in this process holds it twice too.
func TestALongParameterInBoundedMemory(t *testing.T) {
	c := newWorld(t, variant{}).connect()
	const size = 64 << 20
	long := bytes.Repeat([]byte("x"), size)
	grown := growth(func() {
		if r := c.ExecParams(t.Context(), "select length($1::text)", [][]byte{long}, nil, nil, nil).Read(); r.Err != nil || string(r.Rows[0][0]) != fmt.Sprint(size) {
			t.Errorf("a parameter of %d bytes: %v", size, r.Err)
		}
	})
	if t.Logf("a parameter of %d MiB: memory grew by %d MiB", size>>20, grown>>20); grown > 6*size {
		t.Errorf("a parameter of %d MiB: memory grew by %d MiB", size>>20, grown>>20)
	}
}

// A side that does not take what is sent stops the other one, at bounded memory, and nothing is lost when it goes on.
func TestBackPressure(t *testing.T) {
	w := newWorld(t, variant{rows: 1 << 30})
	waiting := func(event string) bool {
		return w.one("select count(*) from pg_stat_activity where usename = '"+w.role+"' and wait_event = '"+event+"'") == "1"
	}
	const rows = 64 << 10 // of 1 KiB
	t.Run("the client", func(t *testing.T) {
		r := w.raw()
		grown := growth(func() {
			r.send(query(fmt.Sprintf("copy (select repeat('x', 1023) from generate_series(1, %d)) to stdout", rows)))
			until(t, "the target waits for the client", func() bool { return waiting("ClientWrite") })
			time.Sleep(300 * time.Millisecond)
			if !waiting("ClientWrite") {
				t.Error("the target goes on writing to a client that does not read")
			}
			messages := 1
			for {
				f, err := r.in.next()
				if err != nil {
					t.Fatal(err)
				}
				if f.kind == 'Z' {
					break
				}
				messages++
			}
			if messages != rows+len("HcCZ") {
				t.Errorf("%d messages", messages)
			}
		})
		if grown > memoryLimit {
			t.Errorf("memory grew by %d MiB", grown>>20)
		}
		r.conn.Close()
	})
	t.Run("the target", func(t *testing.T) {
		w.exec(`create table app.slow (line text); grant all on app.slow to ` + w.role + `;
			create function app.hold() returns trigger language plpgsql security definer as $$ begin perform pg_advisory_xact_lock_shared(7); return new; end $$;
			create trigger hold before insert on app.slow for each row execute function app.hold()`)
		lock, err := pgconn.Connect(t.Context(), w.target.SuperuserDSN(w.database))
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close(t.Context())
		run(t, lock, "select pg_advisory_lock(7)")
		c := w.connect()
		given := &counter{}
		source := io.TeeReader(&pattern{line: append(bytes.Repeat([]byte("x"), 1023), '\n'), left: rows << 10}, given)
		grown := growth(func() {
			done := make(chan error, 1)
			go func() {
				tag, err := c.CopyFrom(t.Context(), source, "copy app.slow from stdin")
				if err == nil && tag.RowsAffected() != rows {
					err = fmt.Errorf("%s", tag)
				}
				done <- err
			}()
			until(t, "the target waits for the lock", func() bool { return waiting("advisory") })
			select {
			case err := <-done:
				t.Errorf("all was taken: %v", err)
			case <-time.After(500 * time.Millisecond):
			}
			run(t, lock, "select pg_advisory_unlock(7)")
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		if grown > memoryLimit {
			t.Errorf("memory grew by %d MiB", grown>>20)
		}
	})
}
