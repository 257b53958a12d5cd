package peers

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"testing"
)

// shared is the one server of a test process.
var shared struct {
	once   sync.Once
	server *PostgresServer
	err    error
}

// SharedPostgres returns the PostgreSQL server of this test process, any supported version, with LogStatements. The first test that asks
// starts it; it ends with the process. A test takes a database of its own from NewDatabase.
func SharedPostgres(t testing.TB) *PostgresServer {
	t.Helper()
	shared.once.Do(func() {
		shared.server, shared.err = Postgres(context.WithoutCancel(t.Context()), PostgresOptions{LogStatements: true})
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	if err := shared.server.Err(); err != nil {
		t.Fatal(err)
	}
	return shared.server
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
