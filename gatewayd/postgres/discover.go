package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres/detect"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
	"github.com/sallyport-dev/sallyport/reviews"
)

// Proposal is a mask that a column probably needs, and why. It holds no value.
type Proposal struct {
	Column string `json:"column"` // schema.table.column
	With   string `json:"with"`
	Reason string `json:"reason"`
}

// Discovery is what Discover found.
type Discovery struct {
	Proposals []Proposal `json:"proposals"`
	Tables    int        `json:"tables"`  // that were looked at
	Columns   int        `json:"columns"` // that were judged
	// Unsampled are tables of which no value could be read, with the reason: their columns were judged by name.
	Unsampled []string `json:"unsampled"`
	// Unsaid are columns that need a mask and have a name that documents cannot say.
	Unsaid []string `json:"unsaid"`
}

const (
	sampleRows    = 200   // of a table
	sampleText    = 256   // characters of a value
	sampleJSON    = 20000 // characters of a document; longer ones are not looked at
	sampleFrom    = 20000 // rows from which on a table is sampled by its blocks
	sampleTimeout = "5000"
)

// Discover logs in to the target of a connection and proposes masks for the
// columns that the connection does not mask. It reads a bounded sample of each
// table in read-only transactions; values are forgotten at once, and are in no
// error, log or reason.
func Discover(ctx context.Context, doc *reviews.Connection, secret credential.Secret) (*Discovery, error) {
	conn, err := connect(ctx, doc, secret, map[string]string{
		"client_encoding": "UTF8", "standard_conforming_strings": "on", "search_path": "pg_catalog", "application_name": "sallyport",
		"default_transaction_read_only": "on", "statement_timeout": sampleTimeout, "lock_timeout": "1000", "datestyle": "ISO",
	})
	if err != nil {
		refused := loginError(doc.Metadata.Name, err)
		return nil, fmt.Errorf("connection %s: %s: %w", doc.Metadata.Name, refused.Why, refused.Cause)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	row, err := oneRow(ctx, conn, sqlguard.PullQuery)
	if err != nil {
		return nil, fmt.Errorf("connection %s: read the catalog: %w", doc.Metadata.Name, err)
	}
	catalog, err := sqlguard.ParseCatalog([]byte(row[0]))
	if err != nil {
		return nil, fmt.Errorf("connection %s: %w", doc.Metadata.Name, err)
	}
	d := &discovery{conn: conn, catalog: catalog, options: GuardOptions(doc, doc.Spec.Mask), masked: map[string]bool{}}
	for _, m := range doc.Spec.Mask {
		d.masked[m.Column] = true
	}
	for _, r := range catalog.Relations {
		// Partitions and children have the masks of their parents, views those of their tables; a foreign table is another server's.
		if (r.Kind == "r" || r.Kind == "p") && len(r.Parents) == 0 && r.Schema != "pg_catalog" {
			if err := d.table(ctx, r); err != nil {
				return nil, fmt.Errorf("connection %s: %w", doc.Metadata.Name, err)
			}
		}
	}
	d.generated()
	slices.SortFunc(d.found.Proposals, func(a, b Proposal) int { return strings.Compare(a.Column, b.Column) })
	return &d.found, nil
}

type discovery struct {
	conn    *pgconn.PgConn
	catalog *sqlguard.Catalog
	options sqlguard.Options
	masked  map[string]bool
	found   Discovery
}

func isJSON(col sqlguard.Column) bool { return col.Base == "json" || col.Base == "jsonb" }

// table judges the columns of one table.
func (d *discovery) table(ctx context.Context, r *sqlguard.Relation) error {
	object := r.Schema + "." + r.Name
	var columns []sqlguard.Column
	for _, col := range r.Columns {
		if !d.masked[object+"."+col.Name] {
			columns = append(columns, col)
		}
	}
	d.found.Tables++
	if len(columns) == 0 {
		return nil
	}
	samples, err := d.sample(ctx, r, columns)
	if server := (*pgconn.PgError)(nil); errors.As(err, &server) {
		d.found.Unsampled = append(d.found.Unsampled, object+": "+condition(server.Code)) // its own text may hold values
		samples = make([][]string, len(columns))
	} else if err != nil {
		return fmt.Errorf("sample %s: the connection failed", object)
	}
	for i, col := range columns {
		d.found.Columns++
		if isJSON(col) {
			d.documents(r, col, samples[i])
			continue
		}
		if f, ok := detect.Judge(detect.Column{Table: r.Name, Name: col.Name, Type: col.Base, Samples: samples[i]}); ok {
			d.propose(r, col, f.Kind.Masks(), string(f.Kind)+": "+f.Reason)
		}
	}
	return nil
}

// documents judges the members of JSON documents.
func (d *discovery) documents(r *sqlguard.Relation, col sqlguard.Column, samples []string) {
	var parsed []any
	for _, s := range samples {
		var v any
		if json.Unmarshal([]byte(s), &v) == nil {
			parsed = append(parsed, v)
		}
	}
	found := detect.Members(r.Name, parsed)
	paths := slices.Sorted(maps.Keys(found))
	if len(paths) == 0 {
		return
	}
	var reasons []string
	for _, p := range paths {
		reasons = append(reasons, p+" "+string(found[p].Kind)+": "+found[p].Reason)
	}
	with := "json(redact " + strings.Join(paths[:min(len(paths), 32)], " ") + ")"
	d.propose(r, col, []string{with, "redact", "null"}, strings.Join(reasons, "; "))
}

// propose adds the first mask that the column can carry.
func (d *discovery) propose(r *sqlguard.Relation, col sqlguard.Column, masks []string, reason string) {
	column := r.Schema + "." + r.Name + "." + col.Name
	if !reviews.IsColumn(column) {
		d.found.Unsaid = append(d.found.Unsaid, column+": "+reason)
		return
	}
	for _, with := range masks {
		o := d.options
		o.Masks = []sqlguard.Mask{{Column: column, With: with}}
		if slices.ContainsFunc(sqlguard.CheckMasks(d.catalog, o), func(p sqlguard.MaskProblem) bool { return !p.Revealed }) {
			continue
		}
		d.masked[column] = true
		d.found.Proposals = append(d.found.Proposals, Proposal{column, with, reason})
		return
	}
}

// generated adds the columns that would reveal a masked one.
func (d *discovery) generated() {
	for _, r := range d.catalog.Relations {
		for _, col := range r.Columns {
			object := r.Schema + "." + r.Name + "."
			from := slices.IndexFunc(col.From, func(name string) bool { return d.masked[object+name] })
			if from >= 0 && !d.masked[object+col.Name] {
				d.propose(r, col, []string{"redact", "null"}, "it is generated from "+col.From[from])
			}
		}
	}
}

// sample reads values other than NULL, by column.
func (d *discovery) sample(ctx context.Context, r *sqlguard.Relation, columns []sqlguard.Column) ([][]string, error) {
	name := ident(r.Schema) + "." + ident(r.Name)
	if _, err := d.conn.Exec(ctx, "begin transaction read only").ReadAll(); err != nil {
		return nil, err
	}
	defer func() { _, _ = d.conn.Exec(ctx, "rollback").ReadAll() }()
	row, err := oneRow(ctx, d.conn, "select coalesce((select reltuples::int8 from pg_catalog.pg_class where oid = pg_catalog.to_regclass("+literal(name)+")), 0)::text")
	if err != nil {
		return nil, err
	}
	clause := ""
	var rows float64
	if _, err := fmt.Sscan(row[0], &rows); err == nil && rows > sampleFrom {
		clause = fmt.Sprintf(" tablesample system (%.6f)", min(100, 100*10*sampleRows/rows))
	}
	list := make([]string, len(columns))
	for i, col := range columns {
		text := ident(col.Name) + "::pg_catalog.text"
		switch {
		case isJSON(col):
			list[i] = fmt.Sprintf("case when pg_catalog.length(%s) <= %d then %s end", text, sampleJSON, text)
		case col.Base == "bytea":
			list[i] = "null"
		default:
			list[i] = fmt.Sprintf("pg_catalog.left(%s, %d)", text, sampleText)
		}
	}
	results, err := d.conn.Exec(ctx, fmt.Sprintf("select %s from %s%s limit %d", strings.Join(list, ", "), name, clause, sampleRows)).ReadAll()
	if err != nil {
		return nil, err
	}
	values := make([][]string, len(columns))
	for _, result := range results {
		for _, cells := range result.Rows {
			for i, cell := range cells {
				if cell == nil {
					continue
				}
				if columns[i].Category == "A" {
					values[i] = append(values[i], strings.Split(strings.Trim(string(cell), "{}"), ",")...)
				} else {
					values[i] = append(values[i], string(cell))
				}
			}
		}
	}
	return values, nil
}
