package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgproto3/v2"

	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// What a statement means depends on the search path, the temporary tables and
// the catalog. They are not worked out from what the session did, which savepoints,
// rollbacks and functions would make guesswork, but read from the target itself
// whenever something may have changed them.

// guard is a sqlguard.Guard with the name under which sessions share it.
type guard struct {
	*sqlguard.Guard
	key    string
	hidden map[sqlguard.Origin]string // masked columns as RowDescription names them
}

// effect says whether a statement that succeeded changes the scope, and whether the catalog.
func effect(p sqlguard.Part) (scope, catalog bool) {
	switch p.Kind {
	case sqlguard.KindSet:
		name := strings.ToLower(p.Name)
		return name == "search_path" || name == "" || name == "all" || name == "role" || p.SearchPath != nil, false
	case sqlguard.KindDDL:
		return true, true
	case sqlguard.KindCreateTemp, sqlguard.KindDiscard, sqlguard.KindPrepare, sqlguard.KindDeallocate:
		return true, false
	}
	return p.Temp != nil || len(p.DropsTemp) > 0, false
}

// shifted notes what a statement that has just succeeded changes.
func (s *session) shifted(e *entry, p sqlguard.Part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renamed(p)
	switch p.Kind {
	case sqlguard.KindPrepare:
		if p.Prepared != nil {
			s.setPrepared(p.Name, p.Prepared)
		}
		return
	case sqlguard.KindDeallocate:
		s.setPrepared(p.Name, nil)
		return
	case sqlguard.KindDeclare, sqlguard.KindClose:
		return
	case sqlguard.KindCommit, sqlguard.KindRollback, sqlguard.KindRollbackTo:
		s.dirty, s.stale = s.dirty || s.touched, s.stale || s.altered
		return
	case sqlguard.KindDiscard:
		if strings.EqualFold(p.Name, "all") {
			s.setPrepared("", nil)
		}
	}
	scope, catalog := effect(p)
	s.dirty, s.stale = s.dirty || scope, s.stale || catalog
	s.touched, s.altered = s.touched || scope, s.altered || catalog
}

// renames says whether a statement gives names of prepared statements or portals,
// which SQL and the extended protocol share, another meaning.
func renames(p sqlguard.Part) bool {
	switch p.Kind {
	case sqlguard.KindPrepare, sqlguard.KindDeallocate, sqlguard.KindDiscard, sqlguard.KindDeclare, sqlguard.KindClose:
		return true
	}
	return false
}

// renamed forgets what the extended protocol called by a name that SQL has just
// taken or freed, so that nothing runs under the decision about something else. mu is held.
func (s *session) renamed(p sqlguard.Part) {
	if !renames(p) {
		return
	}
	switch p.Kind {
	case sqlguard.KindDeclare, sqlguard.KindClose:
		if p.Name == "" {
			clear(s.portals)
		}
		delete(s.portals, p.Name)
	default:
		if p.Name == "" || p.Kind == sqlguard.KindDiscard {
			clear(s.statements)
		}
		delete(s.statements, p.Name)
	}
}

// setPrepared notes PREPARE, DEALLOCATE, or with name "" DEALLOCATE ALL. The map
// is replaced, never changed: plans in the making hold the old one. mu is held.
func (s *session) setPrepared(name string, p *sqlguard.PreparedEffects) {
	next := map[string]sqlguard.PreparedEffects{}
	if name != "" {
		maps.Copy(next, s.scope.Prepared)
		delete(next, name)
	}
	if p != nil {
		next[name] = *p
	}
	s.scope.Prepared, s.meaning = next, ""
}

// The gateway's own queries run with pg_catalog as the search path, so that
// nothing that a session made can stand in for a function or operator of theirs.
const (
	enterQuery = `select pg_catalog.set_config('sallyport.search_path', pg_catalog.current_setting('search_path'), true),
		pg_catalog.set_config('search_path', 'pg_catalog', true)`
	scopeQuery = `select current_setting('sallyport.search_path'), current_user,
		coalesce((select json_agg(relname) from pg_class where relnamespace = pg_my_temp_schema() and relkind in ('r','p','v','m','f','S')), '[]')`
	leaveQuery = `select pg_catalog.set_config('search_path', pg_catalog.current_setting('sallyport.search_path'), true)`
)

// catalogQuery reads schema and identities in one statement, so that both are of the same moment.
var catalogQuery = "select (" + sqlguard.PullQuery + "), (" + sqlguard.IdentityQuery + ")"

// refresh reads the scope, and the catalog too when it may have changed, from the target.
func (s *session) refresh(catalog bool) error {
	var scope, pull *answer
	err := s.consult(func() []*answer {
		if scope = s.ask(scopeQuery); !catalog {
			return []*answer{scope}
		}
		pull = s.ask(catalogQuery)
		return []*answer{scope, pull}
	})
	if err != nil {
		return err
	}
	if err := s.takeScope(scope.rows[0]); err != nil {
		return err
	}
	if !catalog {
		return nil
	}
	s.mu.Lock()
	s.altered = s.altered || s.status == 'T' // whose snapshot may be old: read it again when the transaction ends
	s.mu.Unlock()
	return s.takeCatalog([]byte(pull.rows[0][0]), []byte(pull.rows[0][1]))
}

// consult asks questions with pg_catalog as the search path and waits for their answers.
func (s *session) consult(questions func() []*answer) error {
	list := []*answer{s.ask(enterQuery)}
	list = append(list, questions()...)
	list = append(list, s.ask(leaveQuery))
	if s.ownGroup {
		s.send(&entry{kind: 'S', answer: &answer{}}, syncMessage)
		s.group++
		s.open, s.ownGroup = false, false
	}
	if err := s.settle(); err != nil {
		return err
	}
	for _, a := range list {
		if f := a.stopped(); f != nil {
			return f
		}
		if a.err != nil || len(a.rows) == 0 && !a.maybe {
			s.core.Cut("catalog_unavailable", "the target's schema could not be read")
			return a.problem()
		}
	}
	return nil
}

// problem is why an answer is of no use, for the log.
func (a *answer) problem() error {
	if a.err == nil {
		return errors.New("read the target's schema: no answer")
	}
	return fmt.Errorf("read the target's schema: SQLSTATE %s: %s", a.err.Code, a.err.Message)
}

// ask queues a query of the gateway's own. It uses names that clients do not
// know, so that their unnamed statement and portal stay.
func (s *session) ask(sql string, parameters ...string) *answer {
	if !s.open {
		s.ownGroup = true
	}
	a := &answer{shared: !s.ownGroup}
	name := s.poison + "_own"
	bind := &pgproto3.Bind{DestinationPortal: name, PreparedStatement: name}
	for _, p := range parameters {
		bind.Parameters = append(bind.Parameters, []byte(p))
	}
	s.send(&entry{kind: 'P', answer: a}, encode(nil, &pgproto3.Parse{Name: name, Query: sql}))
	s.send(&entry{kind: 'B', answer: a}, encode(nil, bind))
	s.send(&entry{kind: 'E', answer: a}, encode(nil, &pgproto3.Execute{Portal: name}))
	s.send(&entry{kind: 'C', answer: a}, encode(nil, &pgproto3.Close{ObjectType: 'P', Name: name}))
	s.send(&entry{kind: 'C', answer: a}, encode(nil, &pgproto3.Close{ObjectType: 'S', Name: name}))
	return a
}

// maskedColumns is the parameter of powersQuery.
func maskedColumns(masks []reviews.Mask) string {
	list := [][]string{}
	for _, m := range masks {
		if parts := strings.SplitN(m.Column, ".", 3); len(parts) == 3 {
			list = append(list, parts)
		}
	}
	b, err := json.Marshal(list)
	if err != nil {
		panic(err) // strings always marshal
	}
	return string(b)
}

// takeScope reads the answer to scopeQuery.
func (s *session) takeScope(row []string) error {
	if len(row) != 3 {
		return fmt.Errorf("read the search path: %d columns", len(row))
	}
	path, err := parseSearchPath(row[0])
	if err != nil {
		s.core.Cut("catalog_unavailable", "the target's search path could not be read")
		return fmt.Errorf("read the search path: %w", err)
	}
	for i, name := range path {
		if name == "$user" {
			path[i] = row[1]
		}
	}
	var names []string
	if err := json.Unmarshal([]byte(row[2]), &names); err != nil {
		return fmt.Errorf("read the temporary tables: %w", err)
	}
	temp := make([]sqlguard.TempRelation, 0, len(names))
	for _, name := range names {
		temp = append(temp, sqlguard.TempRelation{Name: name})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scope.SearchPath, s.scope.Temp, s.meaning = path, temp, ""
	s.dirty = false
	return nil
}

// takeCatalog makes the guard for the catalog that is live now.
func (s *session) takeCatalog(catalog, identities []byte) error {
	g, err := s.server.guardFor(s.core.Connection(), catalog, identities, s.core.Masks())
	if err != nil {
		s.core.Cut("catalog_unavailable", "the masks do not fit the target's schema: "+err.Error())
		return err
	}
	var unreadable []string
	for _, p := range g.Problems() {
		unreadable = append(unreadable, p.Error())
	}
	s.core.Unreadable(unreadable)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guard, s.stale, s.meaning = g, false, ""
	return nil
}

// guardFor returns the guard that all sessions with this connection, catalog and masks share.
func (v *server) guardFor(connection *release.Connection, raw, identities []byte, masks []reviews.Mask) (*guard, error) {
	catalog, err := sqlguard.ParseCatalog(raw)
	if err != nil {
		return nil, err
	}
	ids, err := sqlguard.ParseIdentities(identities)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %x %q", connection.Digest, catalog.Fingerprint(), ids.Fingerprint(), sha256.Sum256(connection.Catalog), fmt.Sprint(masks))
	key := hex.EncodeToString(h.Sum(nil))
	if g, ok := v.guards.Get(key); ok {
		return g, nil
	}
	options := GuardOptions(connection.Document, masks)
	options.Digest, options.Identities = v.options.Digest, ids
	if len(connection.Catalog) > 0 && len(masks) > 0 {
		if options.Reviewed, err = sqlguard.ParseCatalog(connection.Catalog); err != nil {
			return nil, fmt.Errorf("the reviewed catalog of connection %s: %w", connection.Name, err)
		}
	}
	made, err := sqlguard.New(catalog, options)
	if err != nil {
		return nil, err
	}
	g := &guard{made, key, made.Hidden()}
	v.guards.Add(key, g)
	return g, nil
}

// GuardOptions are those of sessions on a connection with the given masks.
func GuardOptions(doc *reviews.Connection, masks []reviews.Mask) sqlguard.Options {
	o := sqlguard.Options{Functions: doc.Spec.Functions, HashFunction: doc.Spec.HashFunction}
	for _, m := range masks {
		o.Masks = append(o.Masks, sqlguard.Mask{Column: m.Column, With: m.With, Lookup: m.Lookup})
	}
	return o
}

// CheckMasks says which masks of a connection its catalog cannot carry. The
// relations of those cannot be read.
func CheckMasks(c *release.Connection) []string {
	if len(c.Catalog) == 0 || len(c.Document.Spec.Mask) == 0 {
		return nil
	}
	catalog, err := sqlguard.ParseCatalog(c.Catalog)
	if err != nil {
		return []string{err.Error()}
	}
	var problems []string
	for _, p := range sqlguard.CheckMasks(catalog, GuardOptions(c.Document, c.Document.Spec.Mask)) {
		problems = append(problems, p.Error())
	}
	return problems
}

// hashes says whether the session needs a key of its own for hashes.
func hashes(doc *reviews.Connection, masks []reviews.Mask) bool {
	return doc.Spec.HashFunction == "" && slices.ContainsFunc(masks, func(m reviews.Mask) bool { return m.With == "hash" })
}
