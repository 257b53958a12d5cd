package sqlguard

import (
	"strings"
	"testing"
)

// TestAdvisoryLocksOfOnePrincipal: the same key is another lock for another principal, whatever it is written like.
func TestAdvisoryLocksOfOnePrincipal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	other := w.sibling(t)
	other.guardAgain(t)
	other.scope = w.scope
	other.mustExec(t, "set search_path = app, public", "set sallyport.scope = 'another'")
	same := w.sibling(t)
	same.guardAgain(t)
	same.scope = w.scope
	same.mustExec(t, "set search_path = app, public", "set sallyport.scope = 'test'")
	first := func(x *world, sql string) string {
		t.Helper()
		seen, rule, err := x.send(sql)
		if rule != "" || err != nil {
			t.Fatalf("%s: %s %s %v", sql, rule, seen, err)
		}
		return strings.Split(seen, "\n")[0]
	}
	for _, key := range []string{"5", "5, 7", "(2 + 3)::int, 7", "-9223372036854775808", "'5'", "(select max(id) from app.orders)"} {
		for _, lock := range []string{"pg_try_advisory_lock", "PG_CATALOG . pg_try_advisory_lock_shared", "pg_catalog.pg_try_advisory_lock /* (5) */ "} {
			call := lock + "( " + key + " )"
			shared := strings.Contains(lock, "shared")
			if first(w, "select "+call) != "t" || first(other, "select "+call) != "t" {
				t.Errorf("%s: one principal's lock keeps another's out", call)
			}
			if !shared && first(same, "select "+call) != "f" {
				t.Errorf("%s: another session of the same principal gets it, too", call)
			}
			if _, _, err := same.exec("select " + strings.ToLower(strings.Replace(call, " . ", ".", 1))); err != nil {
				t.Errorf("%s directly: %v", call, err)
			}
			unlock := strings.Replace(strings.ToLower(call), "pg_try_advisory_lock", "pg_advisory_unlock", 1)
			for _, x := range []*world{w, other} {
				if got := first(x, "select "+unlock); got != "t" {
					t.Errorf("%s: %s", unlock, got)
				}
			}
			same.mustExec(t, "select pg_advisory_unlock_all()")
		}
	}
	if first(w, "select pg_try_advisory_lock(1, 2)") != "t" || first(same, "select pg_try_advisory_lock(4294967298)") != "t" {
		t.Error("two keys are taken for one")
	}
	for _, sql := range []string{"select (5::bigint).pg_advisory_lock", "select (v.k).pg_try_advisory_lock from (values (5::bigint)) v(k)", "select pg_advisory_lock(key => 5)", "select pg_advisory_lock(variadic array[1, 2])", "select pg_advisory_lock()",
		"select current_setting('sallyport.scope')", "set sallyport.scope = 'another'", "select set_config('sallyport.scope', 'another', true)", "reset sallyport.scope"} {
		if _, rule, _ := w.send(sql); rule == "" {
			t.Errorf("%s is not refused", sql)
		}
	}
}

// TestOtherSessionsStatements: what other sessions of the role run, and call themselves, is not shown.
func TestOtherSessionsStatements(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil) // no masks: these are refused on every connection
	w.mustExec(t, `create extension if not exists pg_stat_statements schema public`, `create view app.busy as select * from public.pg_stat_statements`, `create view app.busier as select query from app.busy`)
	w.catalog = w.pull(t)
	w.guardAgain(t)
	w.reset(t)
	other := w.sibling(t)
	other.mustExec(t, `set application_name = 'Zq7CanaryApp'`, `select 'Zq7CanaryQuery'`, `prepare Zq7CanaryPrepared as select 'Zq7CanaryStatement'`, `begin`, `declare Zq7CanaryCursor cursor for select 'Zq7CanaryFetch'`)
	w.mustExec(t, `set application_name = 'mine'`)
	for _, sql := range []string{
		`select * from pg_stat_activity`, `select query, application_name from pg_catalog.pg_stat_activity a`, `select a from pg_stat_activity a`, `table pg_stat_activity`, `select to_jsonb(a) from pg_stat_activity a`, `copy (select * from pg_stat_activity) to stdout`,
		`select * from pg_prepared_statements`, `select * from pg_cursors`, `select * from pg_locks`, `select * from pg_stat_database`, `select * from pg_stat_user_tables`,
	} {
		seen, rule, err := w.send(sql)
		if rule != "" || err != nil || strings.Contains(strings.ToLower(seen), "zq7canary") {
			t.Errorf("%s: %s %s %v", sql, rule, seen, err)
		}
	}
	if seen, _, err := w.send(`select application_name, count(*) over () > 1 from pg_stat_activity where pid = pg_backend_pid()`); !strings.HasPrefix(seen, "mine\n") {
		t.Error(seen, err)
	}
	for _, sql := range []string{
		`select * from pg_stat_statements`, `select query from public.pg_stat_statements`, `select * from app.busy`, `select * from app.busier`, `copy app.busier to stdout`, `select pg_stat_statements(true)`, `select * from public.pg_stat_statements(true)`, `select pg_stat_statements_reset()`,
		`select pg_stat_get_activity(null)`, `select * from pg_stat_get_activity(null)`, `select pg_stat_get_backend_activity(1)`, `select (1).pg_stat_get_backend_activity`, `select pg_cancel_backend(1)`, `select pg_terminate_backend(pid) from pg_stat_activity`, `select (1).pg_cancel_backend`,
		`select pg_blocking_pids(1), pg_cancel_backend(1)`, `select * from pg_stat_ssl, pg_stat_get_activity(null)`, `select pg_log_backend_memory_contexts(1)`, `select * from pg_prepared_xacts`, `select pg_listening_channels(), pg_stat_get_backend_idset()`, `select * from pg_stat_replication`,
		`select pg_signal_backend(1)`, `create view app.mine as select * from public.pg_stat_statements`,
	} {
		if seen, rule, err := w.send(sql); rule == "" {
			t.Errorf("%s is not refused: %s %v", sql, seen, err)
		}
	}
	for verb, sql := range map[string]string{"listen": `listen somewhere`, "notify": `notify somewhere, 'x'`} { // only a review that says so allows these
		st := w.guard.Understand(sql, w.scope)
		if len(st.Command.Effects) != 1 || st.Command.Effects[0].Verb != verb {
			t.Errorf("%s: %+v", sql, st.Command)
		}
	}
	if st := w.guard.Understand(`select pg_notify('somewhere', 'x')`, w.scope); len(st.Command.Effects) != 1 || st.Command.Effects[0].Verb != "notify" {
		t.Errorf("%+v", st.Command)
	}
}
