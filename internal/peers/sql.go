package peers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// DSN is a connection URL for the user, with TLS checked in full (or off, when the server has none).
func (s *PostgresServer) DSN(database, user, password string) string {
	return s.dsn("verify-full", database, user, password)
}

func (s *PostgresServer) dsn(sslmode, database, user, password string) string {
	query := url.Values{"sslmode": {"disable"}}
	if s.tls {
		query = url.Values{"sslmode": {sslmode}, "sslrootcert": {s.CAFile}}
	}
	dsn := url.URL{
		Scheme: "postgres", User: url.UserPassword(user, password), Host: fmt.Sprintf("%s:%d", s.Host, s.Port),
		Path: "/" + database, RawQuery: query.Encode(),
	}
	return dsn.String()
}

// SuperuserDSN is the connection URL of the superuser.
func (s *PostgresServer) SuperuserDSN(database string) string {
	return s.DSN(database, s.User, s.Password)
}

// ownDSN is what this package itself connects with: it accepts the certificate with the wrong name too.
func (s *PostgresServer) ownDSN(database string) string {
	return s.dsn("verify-ca", database, s.User, s.Password)
}

// Connect opens a connection by URL; environment variables add no parameter to it. The error never holds the password.
func Connect(ctx context.Context, dsn string) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams = map[string]string{"application_name": "sallyport-test"}
	config.Fallbacks = nil
	return pgconn.ConnectConfig(ctx, config)
}

func (s *PostgresServer) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := Connect(ctx, s.ownDSN("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// Exec runs one or more statements as the superuser, on a connection of its own.
func (s *PostgresServer) Exec(ctx context.Context, database, sql string) error {
	_, err := s.Query(ctx, database, sql)
	return err
}

// Query runs one or more statements as the superuser and returns the rows of the last one as text; NULL is "".
func (s *PostgresServer) Query(ctx context.Context, database, sql string) ([][]string, error) {
	conn, err := Connect(ctx, s.ownDSN(database))
	if err != nil {
		return nil, errors.Join(err, s.Err())
	}
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))); err != nil {
		return nil, errors.Join(fmt.Errorf("as %s in database %s: %w", s.User, database, err), s.Err())
	}
	var rows [][]string
	if len(results) == 0 {
		return nil, nil
	}
	for _, row := range results[len(results)-1].Rows {
		texts := make([]string, len(row))
		for i, value := range row {
			texts[i] = string(value)
		}
		rows = append(rows, texts)
	}
	return rows, nil
}

// CreateDatabase makes a database and runs the statements in it, as the superuser.
func (s *PostgresServer) CreateDatabase(ctx context.Context, name string, statements ...string) error {
	if err := s.Exec(ctx, "postgres", "create database "+QuoteIdentifier(name)); err != nil {
		return err
	}
	for _, statement := range statements {
		if err := s.Exec(ctx, name, statement); err != nil {
			return err
		}
	}
	return nil
}

// CreateRole makes a role that may log in with the password and has no other rights.
func (s *PostgresServer) CreateRole(ctx context.Context, name, password string) error {
	return s.Exec(ctx, "postgres", fmt.Sprintf("create role %s login password %s", QuoteIdentifier(name), QuoteLiteral(password)))
}

// QuoteIdentifier quotes a name for SQL.
func QuoteIdentifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// QuoteLiteral quotes a text for SQL, as read with standard_conforming_strings on, the default.
func QuoteLiteral(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// ShowCertificate makes the running server present another certificate, and returns when it does.
func (s *PostgresServer) ShowCertificate(ctx context.Context, which Certificate) error {
	cert, key := which.files(s.dir)
	for name, value := range map[string]string{"ssl_cert_file": cert, "ssl_key_file": key} {
		if err := s.Exec(ctx, "postgres", fmt.Sprintf("alter system set %s = %s", name, QuoteLiteral(value))); err != nil {
			return err
		}
	}
	if err := s.process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return s.process.awaitReady(ctx, func(ctx context.Context) error { return s.shows(ctx, which) }, s.Log)
}

// shows checks which names the server's certificate is for.
func (s *PostgresServer) shows(ctx context.Context, which Certificate) error {
	config, err := pgconn.ParseConfig(s.ownDSN("postgres"))
	if err != nil {
		return err
	}
	var leaf *x509.Certificate
	config.TLSConfig = &tls.Config{
		InsecureSkipVerify: true, // only looks at the certificate
		VerifyConnection: func(state tls.ConnectionState) error {
			leaf = state.PeerCertificates[0]
			return nil
		},
	}
	config.Fallbacks = nil
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	if err := conn.Close(ctx); err != nil {
		return err
	}
	if isRight := leaf.VerifyHostname(s.Host) == nil; isRight != (which == RightName) {
		return fmt.Errorf("the server still shows the certificate for %v", leaf.DNSNames)
	}
	return nil
}
