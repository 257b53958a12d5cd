package postgres

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/reviews"
)

// Survey is what the login roles of a database may do in it today, for drafts of
// documents. Names are as the server has them: they may hold any character.
type Survey struct {
	Server   string        `json:"server"`
	Database string        `json:"database"`
	Roles    []SurveyRole  `json:"roles"`
	Grants   []SurveyGrant `json:"grants"` // none of superusers
}

// SurveyRole is a role that may log in to the database.
type SurveyRole struct {
	Name                string   `json:"name"`
	Superuser           bool     `json:"superuser"`
	Replication         bool     `json:"replication"`
	BypassesRowSecurity bool     `json:"bypassesRowSecurity"`
	CreatesRoles        bool     `json:"createsRoles"`
	CreatesDatabases    bool     `json:"createsDatabases"`
	Connections         int      `json:"connections"` // at most; -1: no limit
	Until               string   `json:"until"`       // when its password ends, RFC 3339; "" for never
	Settings            int      `json:"settings"`    // of its own, by ALTER ROLE SET
	Inherits            []string `json:"inherits"`    // roles whose grants it has
	MayBecome           []string `json:"mayBecome"`   // roles whose grants it has after SET ROLE only
	Creates             []string `json:"creates"`     // schemas in which it may create
	Functions           int      `json:"functions"`   // outside of the system's schemas that it may call
}

// SurveyGrant is what one role may do with one relation.
type SurveyGrant struct {
	Role        string              `json:"role"`
	Schema      string              `json:"schema"`
	Relation    string              `json:"relation"`
	Kind        string              `json:"kind"`       // pg_class.relkind
	Privileges  []string            `json:"privileges"` // on the whole of it: SELECT …
	Columns     map[string][]string `json:"columns"`    // privilege to columns, where it has it on these only
	Owns        bool                `json:"owns"`
	Reachable   bool                `json:"reachable"` // it has USAGE on the schema
	Grantable   bool                `json:"grantable"` // it may pass some of it on
	RowSecurity bool                `json:"rowSecurity"`
}

//go:embed survey.sql
var surveyQuery string

// SurveyTarget logs in to the target of a connection document and reads what its
// roles may do. It reads no data and no password hash, and changes nothing.
func SurveyTarget(ctx context.Context, doc *reviews.Connection, secret credential.Secret) (*Survey, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*loginTimeout)
	defer cancel()
	conn, err := connect(ctx, doc, secret, map[string]string{
		"client_encoding": "UTF8", "standard_conforming_strings": "on", "search_path": "pg_catalog", "application_name": "sallyport",
		"default_transaction_read_only": "on",
	})
	if err != nil {
		refused := loginError(doc.Metadata.Name, err)
		return nil, fmt.Errorf("%s: %w", refused.Why, refused.Cause)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	row, err := oneRow(ctx, conn, surveyQuery)
	if err != nil {
		return nil, fmt.Errorf("the roles and grants cannot be read: %w", err)
	}
	s := &Survey{}
	if err := json.Unmarshal([]byte(row[0]), s); err != nil {
		return nil, fmt.Errorf("the roles and grants cannot be understood: %w", err)
	}
	return s, nil
}
