package postgres

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/reviews"
)

// Probe is what a login at a target showed.
type Probe struct {
	Server string // "17.10"
	Role   string
	TLS    string // "TLS 1.3", "" without
	// Powers is what the role can do that reaches around masks and rules, or more
	// than a gateway needs, each as a verb phrase: "is a superuser".
	Powers []string
}

// probeQuery lists the powers of the role that is logged in. It reads no password
// hash (pg_roles has none) and no data.
const probeQuery = `select pg_catalog.current_setting('server_version'), r.rolname,
	pg_catalog.concat_ws('|',
		case when r.rolsuper then 'is a superuser' end,
		case when r.rolreplication then 'may replicate: it can read every row as it is' end,
		case when r.rolbypassrls then 'bypasses row security' end,
		case when r.rolcreaterole then 'may create roles' end,
		case when r.rolcreatedb then 'may create databases' end,
		(select 'is a member of ' || pg_catalog.string_agg(m.rolname, ', ' order by m.rolname)
			from pg_catalog.pg_roles m
			where m.rolname operator(pg_catalog.=) any (array['pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program',
				'pg_read_all_data', 'pg_write_all_data', 'pg_checkpoint', 'pg_signal_backend', 'pg_database_owner']::pg_catalog.name[])
				and not r.rolsuper and pg_catalog.pg_has_role(r.oid, m.oid, 'member')),
		(select 'owns ' || pg_catalog.count(*)::pg_catalog.text || ' relations, so that it can change them and their grants at will'
			from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
			where c.relowner operator(pg_catalog.=) r.oid and c.relkind operator(pg_catalog.=) any ('{r,p,v,m,f}'::"char"[])
				and n.nspname operator(pg_catalog.!~) '^(pg_|information_schema$)'
			having pg_catalog.count(*) operator(pg_catalog.>) 0),
		(select 'owns the database' from pg_catalog.pg_database d
			where d.datname operator(pg_catalog.=) pg_catalog.current_database() and d.datdba operator(pg_catalog.=) r.oid))
	from pg_catalog.pg_roles r where r.rolname operator(pg_catalog.=) current_user`

// ProbeTarget logs in to a connection's target as gatewayd does, and looks at what
// it got. The error says in words what is wrong; it holds no secret.
func ProbeTarget(ctx context.Context, doc *reviews.Connection, secret credential.Secret) (*Probe, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	conn, err := connect(ctx, doc, secret, map[string]string{
		"client_encoding": "UTF8", "search_path": "pg_catalog", "application_name": "sallyport", "default_transaction_read_only": "on",
	})
	if err != nil {
		refused := loginError(doc.Metadata.Name, err)
		return nil, fmt.Errorf("%s: %w", refused.Why, refused.Cause)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	row, err := oneRow(ctx, conn, probeQuery)
	if err != nil {
		return nil, fmt.Errorf("the role cannot be looked at: %w", err)
	}
	p := &Probe{Server: row[0], Role: row[1]}
	if row[2] != "" {
		p.Powers = strings.Split(row[2], "|")
	}
	if secured, is := conn.Conn().(*tls.Conn); is {
		p.TLS = tls.VersionName(secured.ConnectionState().Version)
	}
	return p, nil
}

// oneRow is the only row of a query, as text.
func oneRow(ctx context.Context, conn *pgconn.PgConn, sql string) ([]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return nil, fmt.Errorf("an unexpected answer")
	}
	row := make([]string, len(results[0].Rows[0]))
	for i, value := range results[0].Rows[0] {
		row[i] = string(value)
	}
	return row, nil
}
