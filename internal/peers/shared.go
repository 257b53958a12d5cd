package peers

import (
	"context"
	"crypto/rand"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// shared are the servers of a test process by major version; 0 is any.
var shared struct {
	sync.Mutex
	servers map[int]*sharedServer
}

type sharedServer struct {
	once   sync.Once
	server *PostgresServer
	err    error
}

// SharedPostgres returns the PostgreSQL server of this test process, with LogStatements. The first test that asks
// starts it; it ends with the process. A test takes a database of its own from NewDatabase. Its version is
// $SALLYPORT_POSTGRES, a major version, or without that any supported one.
func SharedPostgres(t testing.TB) *PostgresServer {
	t.Helper()
	major := 0
	if wanted := os.Getenv("SALLYPORT_POSTGRES"); wanted != "" {
		var err error
		if major, err = strconv.Atoi(wanted); err != nil {
			t.Fatalf("SALLYPORT_POSTGRES=%s is no major version of PostgreSQL: write 15 to 18", wanted)
		}
	}
	return SharedPostgresMajor(t, major)
}

// SharedPostgresMajor is SharedPostgres of one major version; 0 is any.
func SharedPostgresMajor(t testing.TB, major int) *PostgresServer {
	t.Helper()
	shared.Lock()
	if shared.servers == nil {
		shared.servers = map[int]*sharedServer{}
	}
	s := shared.servers[major]
	if s == nil {
		s = &sharedServer{}
		shared.servers[major] = s
	}
	shared.Unlock()
	s.once.Do(func() {
		s.server, s.err = Postgres(context.WithoutCancel(t.Context()), PostgresOptions{Major: major, LogStatements: true})
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	if err := s.server.Err(); err != nil {
		t.Fatal(err)
	}
	return s.server
}

// NewDatabase makes a database for one test, runs the statements in it as the superuser and returns its name.
func (s *PostgresServer) NewDatabase(t testing.TB, statements ...string) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text())
	if err := s.CreateDatabase(t.Context(), name, statements...); err != nil {
		t.Fatal(err)
	}
	return name
}
