package sqlguard

import (
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// Every function of pg_catalog is allowed, checked or denied: one that no list names
// could be called in the disguise of a field, (value).function.
func TestEveryFunctionIsInOneList(t *testing.T) {
	t.Parallel()
	for _, major := range []int{15, 18} {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			rows, err := peers.SharedPostgresMajor(t, major).Query(t.Context(), "postgres",
				"select distinct proname from pg_catalog.pg_proc where pronamespace = 'pg_catalog'::regnamespace order by 1")
			if err != nil || len(rows) < 2000 {
				t.Fatalf("%d functions, %v", len(rows), err)
			}
			for _, row := range rows {
				name, lists := row[0], 0
				for _, in := range []bool{allowedFunctions[name], deniedFunctions[name], checkedFunctions[name] != nil} {
					if in {
						lists++
					}
				}
				if lists != 1 {
					t.Errorf("%s is in %d lists", name, lists)
				}
			}
		})
	}
}

// The checked functions are no way around their checks when they are written as fields.
func TestCheckedFunctionsAreNoFields(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldMasks)
	for _, text := range []string{
		`select ('config_file'::text).current_setting`, `select (x.t).current_setting from (select 'data_directory'::text as t) x`,
		`select ('app.seq'::regclass).nextval`, `select ('app.seq'::regclass).currval`, `select x.nextval from (select 'app.seq'::regclass) x`,
	} {
		if st := w.guard.Understand(text, w.scope); st.Command.Refusal == nil || !strings.HasPrefix(st.Command.Refusal.Rule, "function_not_allowed") {
			t.Errorf("%s: %+v", text, st.Command)
		}
	}
}

// What a sequence function does to the sequence of a column is an effect on that column.
func TestSerialSequences(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldMasks)
	st := w.guard.Understand(`select setval(pg_get_serial_sequence('"orders"', 'id'), 5)`, w.scope)
	if st.Command.Refusal != nil || len(st.Command.Effects) != 1 || st.Command.Effects[0].Verb != "update" || st.Command.Effects[0].Object != "app.orders" ||
		!strings.Contains(st.Rewritten, `'"app"."orders"'`) {
		t.Errorf("%+v\n%s", st.Command, st.Rewritten)
	}
	for _, text := range []string{`select setval(pg_get_serial_sequence('app.nope', 'id'), 5)`, `select setval(pg_get_serial_sequence(name, 'id'), 5) from customers`,
		`select setval(pg_get_serial_sequence('pg_catalog.pg_class', 'oid'), 5)`} {
		if st := w.guard.Understand(text, w.scope); st.Command.Refusal == nil {
			t.Errorf("%s: %+v", text, st.Command)
		}
	}
}

// NOTIFY and LISTEN have no object: a rule that names them covers every channel.
func TestNotifyHasNoObject(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldMasks)
	for text, verb := range map[string]string{`notify jobs, 'x'`: "notify", `listen jobs`: "listen", `select pg_notify('jobs', 'x')`: "notify"} {
		st := w.guard.Understand(text, w.scope)
		if len(st.Command.Effects) != 1 || st.Command.Effects[0].Verb != verb || st.Command.Effects[0].Object != "" {
			t.Errorf("%s: %+v", text, st.Command.Effects)
		}
	}
}

// What puts a role back becomes what keeps the role of the login.
func TestResettingTheRoleKeepsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldMasks)
	for text, want := range map[string]string{
		`set session authorization default`: `set role to default`, `reset session authorization;`: `reset role;`, `/* pool */ set role none`: `/* pool */ set role to default`,
		`reset role`: `reset role`, `reset all; set session authorization default; unlisten *`: `reset all; set role to default; unlisten *`,
	} {
		if st := w.guard.Understand(text, w.scope); st.Rewritten != want {
			t.Errorf("%s: %q, %+v", text, st.Rewritten, st.Command.Refusal)
		}
	}
	for _, text := range []string{`set role postgres`, `set session authorization postgres`, `set local role x`} {
		if st := w.guard.Understand(text, w.scope); st.Command.Refusal == nil {
			t.Errorf("%s is allowed", text)
		}
	}
}
