package postgres

import (
	"sync"
	"time"
)

// Others change a target's schema without a word to the gateway. What a statement
// must not depend on is bound so that it cannot: columns of masked relations by
// position. For everything else (a table renamed to another's name, a column
// dropped and one added, a view replaced) the sessions of a connection look, once in
// lookEvery between them, whether the schema is still the one that they know.

// lookEvery is how long a change of the schema by others can go unnoticed while statements run.
const lookEvery = time.Second

// markQuery comes to another value when relations, columns, views, inheritance,
// functions or operators change. It runs with pg_catalog as the search path.
const markQuery = `select concat_ws(' ',
	(select sum(hashtextextended(concat_ws(' ', oid, relkind, relnamespace, relname), 0)) from pg_class where relpersistence <> 't' and oid >= 16384),
	(select sum(hashtextextended(concat_ws(' ', attrelid, attnum, attisdropped, atttypid, attname), 0)) from pg_attribute
		where attnum > 0 and attrelid >= 16384 and attrelid in (select oid from pg_class where relpersistence <> 't')),
	(select sum(hashtextextended(concat_ws(' ', oid, xmin), 0)) from pg_rewrite where oid >= 16384),
	(select sum(hashtextextended(concat_ws(' ', inhrelid, inhparent), 0)) from pg_inherits),
	(select sum(hashtextextended(concat_ws(' ', oid, nspname), 0)) from pg_namespace where nspname !~ '^pg_t'),
	(select sum(hashtextextended(concat_ws(' ', oid, xmin), 0)) from pg_proc where oid >= 16384),
	(select sum(hashtextextended(concat_ws(' ', oid, xmin), 0)) from pg_operator where oid >= 16384))`

// watched is what the sessions of one connection know together.
type watched struct {
	mu      sync.Mutex
	looked  time.Time
	mark    string
	changes int // how often a look found another mark than the one before
}

// due reports whether it is time to look, and then counts as having looked.
func (w *watched) due(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.looked) < lookEvery {
		return false
	}
	w.looked = now
	return true
}

// saw takes what a look found.
func (w *watched) saw(mark string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mark != mark { // the first one, too: nobody knows what changed since the catalog was read
		w.mark = mark
		w.changes++
	}
}

func (w *watched) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changes
}

// watchedFor is what the sessions of a connection share.
func (v *server) watchedFor(connection string) *watched {
	v.mu.Lock()
	defer v.mu.Unlock()
	w := v.watched[connection]
	if w == nil {
		w = &watched{}
		v.watched[connection] = w
	}
	return w
}

// look finds out whether others have changed the schema.
func (s *session) look() error {
	if !s.masked || !s.watched.due(time.Now()) {
		return nil
	}
	var mark *answer
	err := s.consult(func() []*answer {
		mark = s.ask(markQuery)
		return []*answer{mark}
	})
	if err == nil {
		s.watched.saw(mark.rows[0][0])
	}
	return err
}
