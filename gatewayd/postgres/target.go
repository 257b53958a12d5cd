package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
	"github.com/sallyport-dev/sallyport/reviews"
)

const (
	loginTimeout  = 15 * time.Second // of the target login
	cancelTimeout = 2 * time.Second  // of one cancel request
	// checkInterval is how often the target looks whether the gateway still lives while it runs a query.
	checkInterval = "1s"
)

// backend is a logged-in connection to a target.
type backend struct {
	conn       net.Conn
	tls        *tls.Config
	pid        uint32
	key        []byte
	parameters map[string]string // as the target reported them
	warning    string            // what an operator should know about the target role
}

// LoginError is why a target could not be used. Its text names no secret and
// may be told to the client; Cause is for the operator's log.
type LoginError struct {
	Connection string
	Why        string
	Cause      error
}

func (e *LoginError) Error() string {
	return fmt.Sprintf("connection %s: %s; tell the operator", e.Connection, e.Why)
}

func (e *LoginError) Unwrap() error { return e.Cause }

// login connects to the target of a connection document and logs in with the gateway's credential.
func login(ctx context.Context, doc *reviews.Connection, secret credential.Secret, settings map[string]string, masks []reviews.Mask) (*backend, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	// In the startup packet it outlives DISCARD ALL. Not every platform of the target has it; without it a dead gateway's query ends later.
	watched := maps.Clone(settings)
	watched["client_connection_check_interval"] = checkInterval
	conn, err := connect(ctx, doc, secret, watched)
	if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) && refused.Code == "22023" {
		conn, err = connect(ctx, doc, secret, settings)
	}
	if err != nil {
		return nil, loginError(doc.Metadata.Name, err)
	}
	b := &backend{}
	if b.warning, err = powers(ctx, conn, masks); err == nil && b.warning != "" && len(masks) > 0 && !doc.Spec.Target.Privileged {
		err = &powerError{b.warning}
	}
	if err != nil {
		conn.Close(ctx)
		return nil, loginError(doc.Metadata.Name, err)
	}
	if err := conn.SyncConn(ctx); err != nil {
		conn.Close(ctx)
		return nil, loginError(doc.Metadata.Name, err)
	}
	h, err := conn.Hijack()
	if err != nil {
		conn.Close(ctx)
		return nil, loginError(doc.Metadata.Name, err)
	}
	if n := h.Frontend.ReadBufferLen(); n != 0 {
		h.Conn.Close()
		return nil, loginError(doc.Metadata.Name, fmt.Errorf("the target sent %d bytes that nobody asked for", n))
	}
	h.Conn.SetDeadline(time.Time{})
	b.conn, b.tls, b.pid, b.key, b.parameters = h.Conn, h.TLSConfig, h.PID, h.SecretKey, h.ParameterStatuses
	for name, want := range pinnedSettings {
		if got := b.parameters[name]; got != want {
			b.conn.Close()
			return nil, loginError(doc.Metadata.Name, fmt.Errorf("the target reports %s=%s instead of %s", name, got, want))
		}
	}
	return b, nil
}

// connect is the pgconn part of login.
func connect(ctx context.Context, doc *reviews.Connection, secret credential.Secret, settings map[string]string) (*pgconn.PgConn, error) {
	t := doc.Spec.Target
	if t.Host == "" || strings.ContainsAny(t.Host, ",/") || t.Port <= 0 || t.Port > 65535 {
		return nil, fmt.Errorf("target %q:%d is not a host and a port", t.Host, t.Port)
	}
	// Everything that matters is set below: neither the environment nor files of the gateway's account add to it.
	config, err := pgconn.ParseConfig("host=placeholder port=5432 user=placeholder dbname=placeholder sslmode=disable target_session_attrs=any sslnegotiation=postgres min_protocol_version=3.0 max_protocol_version=3.0 channel_binding=prefer passfile=/dev/null servicefile=/dev/null")
	if err != nil {
		return nil, fmt.Errorf("the gateway's environment has PG variables that cannot be read: %w", err)
	}
	config.Host, config.Port, config.Database, config.User = t.Host, uint16(t.Port), t.Database, t.User
	config.Password = secret.Reveal()
	config.Fallbacks, config.ValidateConnect, config.AfterConnect = nil, nil, nil
	config.RequireAuth = "scram-sha-256,md5"
	config.SSLCertMode = "disable"
	config.KerberosSrvName, config.KerberosSpn = "", ""
	config.MaxProtocolMessageBodyLen = 64 << 20
	config.RuntimeParams = settings
	config.DialFunc = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 4}}).DialContext
	if config.TLSConfig, err = targetTLS(t); err != nil {
		return nil, err
	}
	if config.TLSConfig == nil {
		config.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, c net.Conn) (net.Conn, error) {
			if !isLoopback(c.RemoteAddr()) {
				return nil, errors.New("tls: disable is for loopback targets only")
			}
			return c, nil
		}
	}
	return pgconn.ConnectConfig(ctx, config)
}

// targetTLS is the TLS configuration of a target; nil means none.
func targetTLS(t reviews.Target) (*tls.Config, error) {
	switch t.TLS {
	case "", "verify-full":
	case "disable":
		return nil, nil
	default:
		return nil, fmt.Errorf("tls: %s is not supported: write verify-full", t.TLS)
	}
	config := &tls.Config{ServerName: t.Host, MinVersion: tls.VersionTLS12}
	if t.CA == "" {
		return config, nil
	}
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, fmt.Errorf("target CA: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("target CA %s holds no PEM certificate", t.CA)
	}
	return config, nil
}

// loginError says in words that may reach the client what is wrong with the target.
func loginError(connection string, err error) *LoginError {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var verify *tls.CertificateVerificationError
	var server *pgconn.PgError
	var power *powerError
	why := "the target cannot be used"
	switch {
	case errors.As(err, &power):
		why = "the gateway does not mask with a role that can read around every mask: it " + power.powers + "; give it a role of its own (`sallyport harden " + connection + "` prints the SQL), or write privileged: true in the connection's target"
	case errors.As(err, &name):
		why = "the target's certificate is for another name"
	case errors.As(err, &unknown), errors.As(err, &verify):
		why = "the target's certificate cannot be verified"
	case errors.As(err, &server) && strings.HasPrefix(server.Code, "28"):
		why = "the target refused the gateway's credential"
	case errors.As(err, &server):
		why = "the target refused the login: " + condition(server.Code)
	case errors.Is(err, context.DeadlineExceeded):
		why = "the target did not answer in time"
	case errors.As(err, new(*net.OpError)):
		why = "the target cannot be reached"
	}
	return &LoginError{connection, why, err}
}

// powerError refuses to mask with a role that can read around every mask.
type powerError struct{ powers string }

func (e *powerError) Error() string { return "the target role " + e.powers }

// powersQuery lists in words what lets the role that is logged in read around
// masks. $1 is a JSON list of schema, table, column.
const powersQuery = `select pg_catalog.concat_ws(', ',
	case when r.rolsuper then 'is a superuser' end,
	case when r.rolreplication then 'may replicate' end,
	(select 'is a member of ' || pg_catalog.string_agg(m.rolname, ', ' order by m.rolname) from pg_catalog.pg_roles m
		where m.rolname operator(pg_catalog.=) any (array['pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program']::pg_catalog.name[])
			and not r.rolsuper and pg_catalog.pg_has_role(r.oid, m.oid, 'member')),
	(select 'owns ' || pg_catalog.string_agg(distinct n.nspname || '.' || c.relname, ', ') || ', which is masked'
		from pg_catalog.json_array_elements($1::pg_catalog.json) m
		join pg_catalog.pg_namespace n on n.nspname operator(pg_catalog.=) (m operator(pg_catalog.->>) 0)
		join pg_catalog.pg_class c on c.relnamespace operator(pg_catalog.=) n.oid and c.relname operator(pg_catalog.=) (m operator(pg_catalog.->>) 1)
		where not r.rolsuper and pg_catalog.pg_has_role(r.oid, c.relowner, 'member')))
	from pg_catalog.pg_roles r where r.rolname operator(pg_catalog.=) current_user`

// powers describes what a target role can do to read around the masks. "" for a role that cannot.
func powers(ctx context.Context, conn *pgconn.PgConn, masks []reviews.Mask) (string, error) {
	r := conn.ExecParams(ctx, powersQuery, [][]byte{[]byte(maskedColumns(masks))}, nil, nil, nil).Read()
	if r.Err == nil && len(r.Rows) != 1 {
		r.Err = errors.New("an unexpected answer")
	}
	if r.Err != nil {
		return "", fmt.Errorf("the target's role cannot be looked at: %w", r.Err)
	}
	return string(r.Rows[0][0]), nil
}

// cancel asks the target to stop what the backend runs. It returns when the
// target has taken the request, which it shows by closing the connection.
func (b *backend) cancel(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, cancelTimeout)
	defer stop()
	var d net.Dialer
	address := b.conn.RemoteAddr()
	conn, err := d.DialContext(ctx, address.Network(), address.String())
	if err != nil {
		return fmt.Errorf("cancel at the target: %w", err)
	}
	defer func() { hangUp(conn) }()
	raw := conn
	defer context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })()
	if b.tls != nil {
		if conn, err = cancelTLS(ctx, conn, b.tls); err != nil {
			return err
		}
	}
	packet := make([]byte, 12, 12+len(b.key))
	binary.BigEndian.PutUint32(packet, uint32(12+len(b.key)))
	binary.BigEndian.PutUint32(packet[4:], codeCancel)
	binary.BigEndian.PutUint32(packet[8:], b.pid)
	if _, err := conn.Write(append(packet, b.key...)); err != nil {
		return fmt.Errorf("cancel at the target: %w", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("cancel at the target: %w", err)
	}
	return nil
}

// cancelTLS does what the login did: a cancel key is as good as the session.
func cancelTLS(ctx context.Context, conn net.Conn, config *tls.Config) (net.Conn, error) {
	ask := []byte{0, 0, 0, 8, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(ask[4:], codeSSL)
	if _, err := conn.Write(ask); err != nil {
		return conn, fmt.Errorf("cancel at the target: %w", err)
	}
	answer := make([]byte, 1)
	if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != 'S' {
		return conn, errors.New("cancel at the target: it offers no TLS now")
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return conn, fmt.Errorf("cancel at the target: %w", err)
	}
	return secured, nil
}

// PullCatalog reads the schema of a connection's target, for
// connections/<name>.catalog.json. It logs in with the credential and reads no data.
func PullCatalog(ctx context.Context, doc *reviews.Connection, secret credential.Secret) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*loginTimeout)
	defer cancel()
	conn, err := connect(ctx, doc, secret, map[string]string{
		"client_encoding": "UTF8", "standard_conforming_strings": "on", "search_path": "pg_catalog", "application_name": "sallyport",
		"default_transaction_read_only": "on",
	})
	if err != nil {
		refused := loginError(doc.Metadata.Name, err)
		return nil, fmt.Errorf("connection %s: %s: %w", doc.Metadata.Name, refused.Why, refused.Cause)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	results, err := conn.Exec(ctx, sqlguard.PullQuery).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("connection %s: read the catalog: %w", doc.Metadata.Name, err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 1 {
		return nil, fmt.Errorf("connection %s: read the catalog: an unexpected answer", doc.Metadata.Name)
	}
	catalog, err := sqlguard.ParseCatalog(results[0].Rows[0][0])
	if err != nil {
		return nil, fmt.Errorf("connection %s: %w", doc.Metadata.Name, err)
	}
	return catalog.JSON(), nil
}
