package postgres

import (
	_ "embed"
	"strings"

	"github.com/jackc/pgproto3/v2"
)

// conditionNames are the SQLSTATEs and the condition names that PostgreSQL's manual gives them, one pair a line.
//
//go:embed conditions.txt
var conditionNames string

var conditions = func() map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(conditionNames) {
		code, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		m[code] = strings.ReplaceAll(name, "_", " ")
	}
	return m
}()

// condition is the fixed text for a SQLSTATE.
func condition(code string) string {
	if name := conditions[code]; name != "" {
		return name
	}
	return "an error of class " + code[:min(2, len(code))]
}

// scrub removes from an error or notice of a masked connection everything that
// may carry a value: the fields that PostgreSQL fills from data always, the
// message itself too when hideMessage is set.
func scrub(e *pgproto3.ErrorResponse, hideMessage bool) {
	e.Detail, e.Where, e.InternalQuery, e.InternalPosition = "", "", "", 0
	e.UnknownFields = nil
	if !hideMessage {
		return
	}
	e.Message = condition(e.Code) + " (sallyport hides the text: it may hold masked values)"
	e.Hint, e.SchemaName, e.TableName, e.ColumnName, e.DataTypeName, e.ConstraintName = "", "", "", "", "", ""
	e.File, e.Line, e.Routine = "", 0, ""
}
