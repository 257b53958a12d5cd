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
var lookEvery = time.Second // tests change it

// markQuery comes to another value when relations, columns, views, inheritance,
// functions or operators change: it adds up the transactions that wrote their rows.
// Of relations it takes the names, because TRUNCATE and its like write those rows
// too. It runs with pg_catalog as the search path.
const markQuery = `with relation as (
	select oid, relname, relnamespace, relkind from pg_class where oid >= 16384 and relpersistence <> 't' and relkind in ('r', 'v', 'm', 'p', 'f', 'c', 'S')
) select concat_ws(' ', count(*), sum(oid::int8 * 31 # hashname(relname)::int8 * 1009 # relnamespace::int8 * 7 # ascii(relkind::text)),
	(select concat_ws(' ', count(*), sum(age(a.xmin)::int8 - age('100'::xid))) from pg_attribute a join relation r on r.oid = a.attrelid where a.attnum > 0),
	(select concat_ws(' ', count(*), sum(age(xmin)::int8 - age('100'::xid))) from pg_rewrite where oid >= 16384),
	(select concat_ws(' ', count(*), sum(age(i.xmin)::int8 - age('100'::xid))) from pg_inherits i join relation r on r.oid = i.inhrelid),
	(select concat_ws(' ', count(*), sum(age(xmin)::int8 - age('100'::xid))) from pg_namespace where nspname !~ '^pg_t'),
	(select concat_ws(' ', count(*), sum(age(xmin)::int8 - age('100'::xid))) from pg_proc where oid >= 16384),
	(select concat_ws(' ', count(*), sum(age(xmin)::int8 - age('100'::xid))) from pg_operator where oid >= 16384))
	, current_setting('transaction_isolation') like 'read %'
	from relation`

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

// hurry makes the next statement look, whenever the last look was.
func (w *watched) hurry() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looked = time.Time{}
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
	if err == nil && mark.rows[0][1] == "t" { // else the snapshot is an old one
		s.watched.saw(mark.rows[0][0])
	}
	return err
}
