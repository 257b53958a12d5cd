package postgres

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// behaviours are what a proxy that enforces something must do on this wire, one
// test each, on the oldest and the newest PostgreSQL: go test -run TestBehaviours/18/12
var behaviours = []struct {
	must string
	test func(t *testing.T, w *world)
}{
	1:  {"answer requests for encryption, in any order, once each, and take nothing that came before it", encryptionIsNegotiated},
	2:  {"take direct TLS only with ALPN postgresql", directTLSNamesItsProtocol},
	3:  {"bound the startup packet, and decide its parameters", startupParametersAreDecided},
	4:  {"speak 3.0 and 3.2, negotiate what is newer, refuse what is older", versionsAreNegotiated},
	5:  {"let a client cancel its own current query, and nothing else", cancelsHitOneQuery},
	6:  {"keep the credential and the target's login from the client", theCredentialStaysHere},
	7:  {"report every parameter, and keep those that change how text is read", parametersAreReported},
	8:  {"decide a text of many statements as one", aTextIsOneUnit},
	9:  {"decide at Execute, by what is bound to the portal", executeDecides},
	10: {"decide SQL that runs SQL by its effect", wrappedSQLIsDecided},
	11: {"deny FunctionCall and unknown messages in step", otherMessagesAreDenied},
	12: {"answer a pipeline with one error for the first denial and one ReadyForQuery for each Sync", pipelinesStayInStep},
	13: {"pass COPY both ways, and never begin one that is denied", copyIsPassed},
	14: {"pass asynchronous messages at any moment, without masked values", asynchronousMessages},
	15: {"mask whatever the way to the value", masksHoldOnEveryWay},
	16: {"pass long messages, and end on impossible lengths", lengthsAreChecked},
	17: {"end the work of a client that dies", aDeadClientsWorkEnds},
	18: {"refuse replication", replicationIsRefused},
	19: {"record before the reply, or deny", repliesFollowTheRecord},
	20: {"say 57P01 between messages, never inside one", cutsFallBetweenMessages},
}

func TestBehaviours(t *testing.T) {
	onEach(t, []int{15, 18}, func(t *testing.T, target *peers.PostgresServer) {
		w := newWorld(t, variant{target: target, rows: 1 << 30})
		for row, b := range behaviours {
			if b.test == nil {
				continue
			}
			t.Run(fmt.Sprintf("%02d %s", row, b.must), func(t *testing.T) {
				outer := w.t
				w.t = t // what a row opens is closed with it
				defer func() { w.t = outer }()
				b.test(t, w)
			})
		}
	})
}

// sibling is another world before the same server.
func (w *world) sibling(t *testing.T, v variant) *world {
	v.target = w.target
	return newWorld(t, v)
}

func (w *world) dial() net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	deadlineIn(conn, 20*time.Second)
	return conn
}

var (
	sslRequest = []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}
	gssRequest = []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30}
	etlLogin   = startupFrame(version30, "user", "agent:etl", "database", "orders-db")
)

// login finishes a login on a connection, from the startup packet on.
func (w *world) login(conn net.Conn, startup []byte) *rawClient {
	w.t.Helper()
	r := &rawClient{t: w.t, conn: conn, in: newFrameReader(conn, maxFrame)}
	r.send(startup)
	for {
		f, err := r.in.next()
		if err != nil {
			w.t.Fatalf("login: %v", err)
		}
		if f.kind == 'R' {
			break
		}
		r.seen = append(r.seen, f.raw...)
	}
	r.send(message('p', append([]byte(w.token()), 0)))
	for {
		f, err := r.in.next()
		if err != nil {
			w.t.Fatalf("login: %v", err)
		}
		r.seen = append(r.seen, f.raw...)
		if f.kind == 'Z' {
			return r
		}
	}
}

// wants sends messages and compares the types of the answers up to the last ReadyForQuery.
func (r *rawClient) wants(want string, messages ...[]byte) {
	r.t.Helper()
	r.send(messages...)
	if got := r.kinds(strings.Count(want, "Z")); got != want {
		r.t.Errorf("answers %s, want %s", got, want)
	}
}

// Row 1.
func encryptionIsNegotiated(t *testing.T, w *world) {
	secured := func(conn net.Conn) net.Conn {
		c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	ask := func(conn net.Conn, request []byte, want byte) {
		t.Helper()
		conn.Write(request)
		answer := make([]byte, 1)
		if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != want {
			t.Errorf("answer %q, %v, want %q", answer, err, want)
		}
	}
	conn := w.dial()
	ask(conn, gssRequest, 'N')
	ask(conn, sslRequest, 'S')
	w.login(secured(conn), etlLogin).wants("TDCZ", query("select 1"))
	conn = w.dial()
	ask(conn, gssRequest, 'N')
	w.login(conn, etlLogin).wants("TDCZ", query("select 1"))

	before := w.backends()
	for name, try := range map[string]func(conn net.Conn){
		"GSSENCRequest twice":            func(conn net.Conn) { ask(conn, gssRequest, 'N'); conn.Write(gssRequest) },
		"SSLRequest inside TLS":          func(conn net.Conn) { ask(conn, sslRequest, 'S'); secured(conn).Write(sslRequest) },
		"a startup behind SSLRequest":    func(conn net.Conn) { conn.Write(append(bytes.Clone(sslRequest), etlLogin...)) },
		"a request with bytes behind it": func(conn net.Conn) { conn.Write([]byte{0, 0, 0, 9, 0x04, 0xd2, 0x16, 0x2f, 0}) },
		"1,000 requests":                 func(conn net.Conn) { conn.Write(bytes.Repeat(gssRequest, 1000)) },
	} {
		conn := w.dial()
		try(conn)
		answer, err := io.ReadAll(conn)
		if isTimeout(err) || bytes.Contains(answer, []byte{'R', 0, 0, 0, 8}) {
			t.Errorf("%s: %q, %v", name, answer, err)
		}
	}
	if got := w.backends(); got != before {
		t.Errorf("%s connections at the target, before %s", got, before)
	}
}

// Row 2.
func directTLSNamesItsProtocol(t *testing.T, w *world) {
	for _, protocols := range [][]string{nil, {"h2"}, {"postgresql"}, {"h2", "postgresql"}} {
		wanted := strings.Contains(strings.Join(protocols, " "), "postgresql")
		conn := tls.Client(w.dial(), &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
		if wanted {
			w.login(conn, etlLogin).wants("TDCZ", query("select 1"))
			continue
		}
		conn.Write(etlLogin)
		if answer, err := io.ReadAll(conn); len(answer) != 0 || isTimeout(err) {
			t.Errorf("ALPN %q: %q, %v", protocols, answer, err)
		}
	}
}

// Row 3.
func startupParametersAreDecided(t *testing.T, w *world) {
	v := w.sibling(t, variant{startup: time.Second})
	long := strings.Repeat("x", 9000)
	for _, c := range []struct {
		pairs []string
		code  string // "" when a password is asked for
	}{
		{[]string{"user", "agent:etl", "database", "orders-db", "application_name", "x", "TimeZone", "UTC", "search_path", "app"}, ""},
		{[]string{"user", "agent:etl", "database", "orders-db", "application_name", long}, ""},
		{[]string{"user", "agent:etl"}, ""}, // the database is the user, which is no connection: said after the login
		{[]string{"database", "orders-db"}, "28000"},
		{[]string{"user", "", "database", "orders-db"}, "28000"},
		{[]string{"user", "a", "user", "b"}, "08P01"},
		{[]string{"user", "u", "replication", "true"}, "28000"},
		{[]string{"user", "u", "role", "postgres"}, "28000"},
		{[]string{"user", "u", "session_replication_role", "replica"}, "28000"},
		{[]string{"user", "u", "options", "-c role=postgres"}, "28000"},
		{[]string{"user", "u", "options", "-c session_preload_libraries=x"}, "28000"},
		{[]string{"user", "u", "search_path", `"app`}, "22023"},
		{[]string{"user", "u", "client_encoding", "GBK"}, "22023"},
		{[]string{"user", "u", "standard_conforming_strings", "off"}, "22023"},
	} {
		conn := v.dial()
		conn.Write(startupFrame(version30, c.pairs...))
		f, err := newFrameReader(conn, maxFrame).next()
		switch {
		case err != nil:
			t.Errorf("%.60q: %v", c.pairs, err)
		case c.code == "" && f.kind != 'R', c.code != "" && !bytes.Contains(f.raw, []byte("C"+c.code+"\x00")):
			t.Errorf("%.60q: %q, want %s", c.pairs, f.raw, c.code)
		}
	}
	for name, b := range map[string][]byte{
		"10,001 bytes": startupFrame(version30, "user", "agent:etl", "application_name", strings.Repeat("x", 9962)),
		"length 7":     {0, 0, 0, 7, 0, 3, 0},
		"length 2 GiB": {0x7f, 0xff, 0xff, 0xff},
		"half of it":   etlLogin[:20],
	} {
		conn := v.dial()
		start := time.Now()
		conn.Write(b)
		answer, err := io.ReadAll(conn)
		if isTimeout(err) || bytes.HasPrefix(answer, []byte{'R'}) || time.Since(start) > 3*time.Second {
			t.Errorf("%s: %q, %v after %s", name, answer, err, time.Since(start))
		}
	}
	if got := v.backends(); got != "0" {
		t.Errorf("%s connections reached the target", got)
	}
}

// Row 4.
func versionsAreNegotiated(t *testing.T, w *world) {
	for _, c := range []struct {
		version uint32
		extra   []string
		v       string // NegotiateProtocolVersion's body
		key     int
	}{
		{version30, nil, "", 4},
		{version32, nil, "", 32},
		{version30, []string{"_pq_.grease", "x"}, "\x00\x03\x00\x00\x00\x00\x00\x01_pq_.grease\x00", 4},
		{version30 + 1, nil, "\x00\x03\x00\x00\x00\x00\x00\x00", 4},
		{3<<16 | 9999, []string{"_pq_.test_protocol_negotiation", "", "_pq_.b", "1"}, "\x00\x03\x00\x02\x00\x00\x00\x02_pq_.b\x00_pq_.test_protocol_negotiation\x00", 32},
	} {
		r := w.login(w.dial(), startupFrame(c.version, append([]string{"user", "agent:etl", "database", "orders-db"}, c.extra...)...))
		v, key := "", 0
		for in := newFrameReader(&stream{data: r.seen, step: 1 << 20}, maxFrame); ; {
			f, err := in.next()
			if err != nil {
				break
			}
			switch f.kind {
			case 'v':
				v = string(f.body())
			case 'K':
				key = len(f.body()) - 4
			}
		}
		if v != c.v || key != c.key {
			t.Errorf("%d.%d %q: negotiated %q, a key of %d bytes", c.version>>16, c.version&0xffff, c.extra, v, key)
		}
		r.wants("12DCZTDCZ", parse("", "select 1"), bind("", ""), execute(""), synced(), query("select 2"))
	}
	for _, version := range []uint32{1 << 16, 2 << 16, 4 << 16, 0} {
		conn := w.dial()
		conn.Write(startupFrame(version, "user", "agent:etl", "database", "orders-db"))
		if answer, err := io.ReadAll(conn); !bytes.Contains(answer, []byte("C0A000\x00")) || isTimeout(err) {
			t.Errorf("%d.0: %q, %v", version>>16, answer, err)
		}
	}
}

// Row 5.
func cancelsHitOneQuery(t *testing.T, w *world) {
	c, other := w.connect(), w.connect()
	request := func(pid uint32, key []byte) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(12+len(key)))
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, codeCancel), pid)
		return append(b, key...)
	}
	send := func(conn net.Conn, pid uint32, key []byte) {
		t.Helper()
		conn.Write(request(pid, key))
		if answer, err := io.ReadAll(conn); len(answer) != 0 || isTimeout(err) {
			t.Errorf("a cancel request was answered: %q, %v", answer, err)
		}
	}
	secured := func() net.Conn {
		conn := w.dial()
		conn.Write(sslRequest)
		io.ReadFull(conn, make([]byte, 1))
		return tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	direct := func() net.Conn {
		return tls.Client(w.dial(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}})
	}
	for name, way := range map[string]func() net.Conn{"plain": w.dial, "TLS": secured, "direct TLS": direct} {
		sent := make(chan time.Time, 1)
		go func() {
			until(t, "the sleep runs", func() bool { return w.sleeping() == "1" })
			send(way(), c.PID(), []byte{1, 2, 3, 4})       // nobody's key
			send(way(), c.PID(), other.SecretKey())        // another session's
			send(way(), c.PID(), nil)                      // none
			send(way(), c.PID(), append(c.SecretKey(), 0)) // one that begins like it
			if got := w.sleeping(); got != "1" {
				t.Errorf("%s: a wrong key cancelled", name)
			}
			sent <- time.Now()
			send(way(), c.PID(), c.SecretKey())
		}()
		_, err := try(t, c, "select pg_sleep(30)")
		sqlstate(t, err, "57014")
		if took := time.Since(<-sent); took > time.Second {
			t.Errorf("%s: after %s", name, took)
		}
	}
	// One that comes behind the end of its query hits nothing.
	for range 50 {
		run(t, c, "select 1")
		send(w.dial(), c.PID(), c.SecretKey())
		run(t, c, "select pg_sleep(0.001)")
	}
	if c.PID() == other.PID() || bytes.Equal(c.SecretKey(), other.SecretKey()) {
		t.Error("two sessions share a key")
	}
	if got := w.one(fmt.Sprintf("select count(*) from pg_stat_activity where pid = %d", c.PID())); got != "0" {
		t.Log("the pid that the client was told is by chance one of the target's")
	}
}

// Row 6.
func theCredentialStaysHere(t *testing.T, w *world) {
	r := w.login(w.dial(), etlLogin)
	r.wants("TDCZ", query("select 1"))
	verifier := w.one("select rolpassword from pg_authid where rolname = '" + w.role + "'") // SCRAM-SHA-256$4096:salt$stored:server
	never := append(strings.FieldsFunc(verifier, func(c rune) bool { return c == '$' || c == ':' })[2:], w.secret, "SCRAM")
	for _, secret := range never {
		if bytes.Contains(r.seen, []byte(secret)) {
			t.Errorf("the client saw %q", secret)
		}
	}
	if strings.Contains(w.recorded(), w.secret) {
		t.Error("the recording holds the credential")
	}
	// A client that wants channel binding is asked for a token, which it does not send.
	psql, err := peers.Psql(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(w.address)
	_, err = psql.With("PGPASSWORD="+w.token()).Run(t.Context(), t.TempDir(), fmt.Sprintf("host=%s port=%s user=agent:etl dbname=orders-db sslmode=require channel_binding=require", host, port), "-c", "select 1")
	if err == nil || !strings.Contains(err.Error(), "channel binding") {
		t.Errorf("%v", err)
	}
}

// Row 7.
func parametersAreReported(t *testing.T, w *world) {
	direct, err := pgconn.Connect(t.Context(), w.target.SuperuserDSN(w.database))
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close(t.Context())
	c := w.connect()
	for _, name := range []string{
		"server_version", "server_encoding", "client_encoding", "application_name", "default_transaction_read_only", "in_hot_standby", "is_superuser",
		"session_authorization", "DateStyle", "IntervalStyle", "TimeZone", "integer_datetimes", "standard_conforming_strings", "search_path", "scram_iterations",
	} {
		want, got := direct.ParameterStatus(name), c.ParameterStatus(name)
		if (want == "") != (got == "") && name != "application_name" {
			t.Errorf("%s is %q, at the target itself %q", name, got, want)
		}
	}
	for name, value := range map[string]string{"TimeZone": "Asia/Tokyo", "application_name": "other", "DateStyle": "SQL, DMY"} {
		run(t, c, "set "+name+" = '"+value+"'")
		if got := c.ParameterStatus(name); got != value {
			t.Errorf("%s is %q behind SET", name, got)
		}
	}
	for _, sql := range []string{
		"set standard_conforming_strings = off", "set client_encoding = 'GBK'", "set names 'SJIS'", "set client_encoding to big5",
		"select set_config('standard_conforming_strings', 'off', false)", "select pg_catalog.set_config('client_encoding', 'GB18030', true)",
		"set local standard_conforming_strings = off", "update pg_settings set setting = 'off' where name = 'standard_conforming_strings'",
	} {
		c := w.connect()
		_, err := try(t, c, sql)
		if err == nil {
			t.Errorf("%s was run", sql)
		}
	}
	if out, err := try(t, c, `select '\''; drop table vault.keys; --'`); err != nil || out != `\'; drop table vault.keys; --` {
		t.Errorf("%q, %v", out, err)
	}
}

// Row 8.
func aTextIsOneUnit(t *testing.T, w *world) {
	c := w.connect()
	for i, sql := range []string{
		"insert into app.orders values (%d, 1, 'x'); drop table vault.keys",
		"insert into app.orders values (%d, 1, 'x');;; /* /* nested */ ; */ drop table vault.keys",
		"insert into app.orders values (%d, 1, $x$; select $x$); delete from vault.keys",
		"insert into app.orders values (%d, 1, U&'\\0027'); table vault.keys",
		"begin; insert into app.orders values (%d, 1, 'x'); commit; select * from vault.keys",
		"insert into app.orders values (%d, 1, 'x'); select * from U&\"v\\0061ult\".keys",
	} {
		_, err := try(t, c, fmt.Sprintf(sql, 3000+i))
		sqlstate(t, err, "42501")
	}
	if got := w.one("select count(*) from app.orders where id >= 3000"); got != "0" {
		t.Errorf("%s parts ran", got)
	}
	if got := run(t, c, "select 'a;b', $$;$$ /* ; */; select 2 -- ; drop"); got != "2" {
		t.Errorf("%q", got)
	}
}

// Row 9.
func executeDecides(t *testing.T, shared *world) {
	w := shared.sibling(t, variant{})
	r := w.raw()
	r.wants("1Z", parse("ins", "insert into app.orders values (4000, 1, 'x')"), synced())
	r.wants("1Z", parse("sel", "select 1 from app.orders where id = 1"), synced())
	r.wants("2CZ", bind("", "ins"), execute(""), synced())
	run(t, w.connect(), "delete from app.orders where id = 4000")
	// What was parsed is decided under the release that is current when it is executed.
	other := w.raw()
	other.wants("1Z", parse("ins", "insert into app.orders values (4001, 1, 'x')"), synced())
	w.review(variant{verbs: "select", rows: 1000})
	w.gateway.Swap(w.release())
	other.wants("2EZ", bind("", "ins"), execute(""), synced())
	if got := w.one("select count(*) from app.orders where id = 4001"); got != "0" {
		t.Error("a statement ran that was only allowed when it was parsed")
	}
	// Names: the unnamed one is replaced, Close frees, a simple Query destroys the unnamed portal and statement.
	r = w.raw()
	r.wants("11Z", parse("", "select 1 from app.orders"), parse("", "select 2 as two"), synced())
	r.wants("2DCZ", bind("", ""), execute(""), synced())
	r.wants("13Z", parse("n", "select 3"), encode(nil, &pgproto3.Close{ObjectType: 'S', Name: "n"}), synced())
	r.wants("EZ", bind("", "n"), execute(""), synced())
	r.wants("1Z", parse("", "select 4"), synced())
	r.wants("TDCZ", query("select 5"))
	r.wants("EZ", bind("", ""), execute(""), synced())
}

// Row 10.
func wrappedSQLIsDecided(t *testing.T, shared *world) {
	w := shared.sibling(t, variant{verbs: "select"})
	c := w.connect()
	for _, sql := range []string{
		"do $$ begin delete from app.orders; end $$", "explain analyze delete from app.orders",
		"explain (analyze true) with d as (delete from app.orders returning 1) select * from d",
		"with d as (delete from app.orders returning *) select count(*) from d", "copy app.orders to program 'cat > /tmp/x'",
		"copy app.orders from program 'echo 1'", "copy (select 1) to '/tmp/x'", "copy (delete from app.orders returning id) to stdout",
		"create function app.f() returns void language sql as 'delete from app.orders'", "set role postgres", "set session authorization postgres",
		"declare c cursor with hold for select * from vault.keys", "select * into app.other from app.orders", "create table app.other as select 1",
		"select query_to_xml('delete from app.orders', true, true, '')", "select pg_read_file('/etc/passwd')", "select lo_import('/etc/passwd')",
		"select dblink('', 'delete from app.orders')", "execute p", "lock table app.orders", "truncate app.orders", "notify x",
	} {
		try(t, c, "prepare p as delete from app.orders") // runs nothing by itself
		_, err := try(t, c, sql)
		if err == nil {
			t.Errorf("%s was run", sql)
			continue
		}
		sqlstate(t, err, "42501")
	}
	if got := w.one("select count(*) from app.orders"); got != "100" {
		t.Errorf("%s rows are left", got)
	}
	run(t, c, "prepare good as select count(*) from app.orders where id > $1")
	if got := run(t, c, "execute good(50)"); got != "50" {
		t.Errorf("EXECUTE: %s", got)
	}
	run(t, c, "begin; declare c cursor for select id from app.orders order by id")
	if got := run(t, c, "fetch 2 from c"); got != "1\n2" {
		t.Errorf("FETCH: %s", got)
	}
	run(t, c, "commit")
}

// Row 11.
func otherMessagesAreDenied(t *testing.T, w *world) {
	r := w.raw()
	call := message('F', []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	for _, m := range [][]byte{call, message('z', nil), message('p', []byte("x\x00")), message(0, nil), message('v', nil)} {
		r.wants("EZ", m)
		if !bytes.Contains(r.seen, []byte("C42501\x00")) {
			t.Errorf("%q: %q", m, r.seen)
		}
	}
	r.wants("TDCZ", query("select 1"))
	// In a transaction it fails that, as any error does.
	r.wants("CZEZEZCZ", query("begin"), call, query("select 1"), query("rollback"))
	// In a pipeline it waits its turn.
	r.wants("12DCEZ", parse("", "select 1"), bind("", ""), execute(""), call)
	r.wants("TDCZ", query("select 1"))
}

// Row 12.
func pipelinesStayInStep(t *testing.T, w *world) {
	r := w.raw()
	// 1,000 statements, a Sync each, each 7th denied, in one write.
	var all []byte
	want := ""
	for i := range 1000 {
		text := "select 1"
		if i%7 == 6 {
			text = "drop table vault.keys"
			want += "EZ"
		} else {
			want += "12DCZ"
		}
		all = append(all, bytes.Join([][]byte{parse("", text), bind("", ""), execute(""), synced()}, nil)...)
	}
	go r.conn.Write(all)
	if got := r.kinds(1000); got != want {
		t.Errorf("a Sync each: answers differ")
	}
	// The same with one Sync: the first denial fails all, the inserts before it included.
	all = nil
	for i := range 1000 {
		text := fmt.Sprintf("insert into app.orders values (%d, 1, 'x')", 10000+i)
		if i%7 == 6 {
			text = "drop table vault.keys"
		}
		all = append(all, bytes.Join([][]byte{parse("", text), bind("", ""), execute("")}, nil)...)
	}
	go r.conn.Write(append(all, synced()...))
	if got, want := r.kinds(1), strings.Repeat("12C", 6)+"EZ"; got != want {
		t.Errorf("one Sync: %s, want %s", got, want)
	}
	if got := w.one("select count(*) from app.orders where id >= 10000"); got != "0" {
		t.Errorf("%s rows were committed", got)
	}
	// Without any Sync: all is answered at the Flush.
	all = nil
	for range 10000 {
		all = append(all, bytes.Join([][]byte{parse("", "select 1"), bind("", ""), execute("")}, nil)...)
	}
	go r.conn.Write(append(append(all, flushMessage...), synced()...))
	if got, want := r.kinds(1), strings.Repeat("12DC", 10000)+"Z"; got != want {
		t.Errorf("no Sync: %d answers, want %d", len(got), len(want))
	}
	// Flush answers what came before it.
	r.send(parse("", "select 1"), bind("", ""), execute(""), flushMessage)
	for _, want := range []byte("12DC") {
		if f, err := r.in.next(); err != nil || f.kind != want {
			t.Fatalf("behind Flush: %q, %v, want %q", f.kind, err, want)
		}
	}
	r.send(parse("", "drop table vault.keys"), flushMessage)
	if f, err := r.in.next(); err != nil || f.kind != 'E' {
		t.Fatalf("a denial behind Flush: %q, %v", f.kind, err)
	}
	r.wants("Z", parse("", "select 1"), flushMessage, bind("", ""), execute(""), synced())
	// A transaction that a pipeline began is failed, not left open.
	r.wants("12CZ12CZEZEZ12CZ", parse("", "begin"), bind("", ""), execute(""), synced(),
		parse("", "insert into app.orders values (20000, 1, 'x')"), bind("", ""), execute(""), synced(),
		parse("", "drop table vault.keys"), bind("", ""), execute(""), synced(),
		parse("", "select 1"), bind("", ""), execute(""), synced(),
		parse("", "commit"), bind("", ""), execute(""), synced())
	if got := w.one("select count(*) from app.orders where id = 20000"); got != "0" {
		t.Error("a failed transaction was committed")
	}
	// Partial fetches of two portals in turn.
	part := func(portal string) []byte { return encode(nil, &pgproto3.Execute{Portal: portal, MaxRows: 2}) }
	r.wants("CZ122DDsDDsDDsDCZDDsZCZ", query("begin"), parse("s", "select generate_series(1, 5)"), bind("a", "s"), bind("b", "s"),
		part("a"), part("b"), part("a"), part("a"), flushMessage, synced(), part("b"), synced(), query("commit"))
}

// Row 13. What flows is in TestCopyInBoundedMemory and TestBackPressure.
func copyIsPassed(t *testing.T, w *world) {
	r := w.raw()
	line := func(id int) []byte { return message('d', []byte(fmt.Sprintf("%d\t1\tx\n", id))) }
	r.wants("EZ", query("copy vault.keys from stdin"))
	r.wants("EZ", query("copy vault.keys to stdout"))
	r.wants("TDCZ", line(1), message('c', nil), query("select 1")) // data outside of a COPY means nothing
	r.wants("GCZ", query("copy app.orders from stdin"), line(30000), synced(), flushMessage, line(30001), message('c', nil))
	r.wants("GEZ", query("copy app.orders from stdin"), line(30002), message('f', []byte("changed my mind\x00")))
	r.wants("GEZ", query("copy app.orders from stdin"), line(30003), message('d', []byte("not a number\t1\tx\n")), line(30004), message('c', nil))
	r.wants("GEZ", query("copy app.orders from stdin"), line(30005), query("delete from app.orders"))
	r.wants("12GCZ", parse("", "copy app.orders from stdin"), bind("", ""), execute(""), synced(), line(30006), message('c', nil), synced())
	r.wants("12HddcCZ", parse("", "copy (select id from app.orders where id in (1, 2)) to stdout"), bind("", ""), execute(""), synced())
	if got := w.one("select string_agg(id::text, ' ' order by id) from app.orders where id >= 30000"); got != "30000 30001 30006" {
		t.Errorf("rows %s", got)
	}
	run(t, w.connect(), "delete from app.orders where id >= 30000")
	masked := w.sibling(t, variant{masks: canaryMasks}).connect()
	for _, format := range []string{"", "(format csv, header)", "(format binary)"} {
		var out bytes.Buffer
		for _, from := range []string{"(select * from app.customers)", "app.customers", "app.customers (id, email, ssn)"} {
			_, err := masked.CopyTo(t.Context(), &out, "copy "+from+" to stdout "+format)
			if strings.Contains(out.String(), "canary.example") || strings.Contains(out.String(), "918-00") {
				t.Errorf("copy %s %s shows a masked value", from, format)
			}
			if from[0] == '(' && (err != nil || !strings.Contains(out.String(), "name 3")) {
				t.Errorf("copy %s %s: %v", from, format, err)
			}
		}
	}
}

// Row 14.
func asynchronousMessages(t *testing.T, shared *world) {
	for _, masks := range []string{"", canaryMasks} {
		w := shared.sibling(t, variant{masks: masks})
		w.exec(`create function app.hush() returns trigger language plpgsql as $$ begin raise notice 'value %', new.ssn; return new; end $$;
			create trigger hush before insert on app.customers for each row execute function app.hush()`)
		r := w.raw()
		r.wants("CZ", query(`listen "app.news"`))
		r.send(query("select pg_sleep(0.5)"))
		w.exec(`notify "app.news", '918-00-payload'`)
		if got := r.kinds(1); strings.ReplaceAll(got, "A", "") != "TDCZ" {
			t.Errorf("%s", got)
		}
		r.send(query("select 1")) // the notification may come behind ReadyForQuery
		r.kinds(1)
		got := string(r.seen)
		if !strings.Contains(got, "app.news\x00") {
			t.Error("the notification is lost")
		}
		if shows := strings.Contains(got, "918-00-payload"); shows != (masks == "") {
			t.Errorf("masks %q: the payload is shown: %t", masks, shows)
		}
		r.seen = nil
		r.send(query("insert into app.customers values (90, 'x', 'y', '918-00-7')")) // a notice, then an error with DETAIL: Key (ssn)=(918-00-7)
		r.kindsWithNotices(t, "NEZ")
		if shows := bytes.Contains(r.seen, []byte("918-00-7")); shows != (masks == "") {
			t.Errorf("masks %q: a notice or error shows the value: %t: %q", masks, shows, r.seen)
		}
		r.send(query("set timezone = 'Asia/Tokyo'"))
		r.kindsWithNotices(t, "CSZ")
	}
}

// kindsWithNotices is wants for asynchronous messages too.
func (r *rawClient) kindsWithNotices(t *testing.T, want string) {
	t.Helper()
	var got []byte
	for len(got) == 0 || got[len(got)-1] != 'Z' {
		f, err := r.in.next()
		if err != nil {
			t.Fatal(err)
		}
		got, r.seen = append(got, f.kind), append(r.seen, f.raw...)
	}
	if string(got) != want {
		t.Errorf("answers %s, want %s", got, want)
	}
}

// Row 15. More ways are in sqlguard's tests.
func masksHoldOnEveryWay(t *testing.T, shared *world) {
	w := shared.sibling(t, variant{masks: canaryMasks})
	w.exec("insert into app.customers values (50, 'null', null, null)")
	c := w.connect()
	check := func(how, out string, err error) {
		t.Helper()
		if strings.Contains(out, "canary") || strings.Contains(out, "918-00") {
			t.Errorf("%s: %s", how, out)
		}
		if err != nil {
			sqlstate(t, err, "42501")
		}
	}
	for range 2 { // the second time nothing is described
		for _, format := range []int16{0, 1} {
			if _, err := c.Prepare(t.Context(), "cached", "select id, email, ssn, email || ssn from app.customers where id = $1", nil); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				r := c.ExecPrepared(t.Context(), "cached", [][]byte{[]byte("3")}, nil, []int16{format}).Read()
				check("prepared", joined(r.Rows), r.Err)
				if r.Err != nil || len(r.Rows) != 1 {
					t.Errorf("%v, %d rows", r.Err, len(r.Rows))
				}
			}
			if err := c.Deallocate(t.Context(), "cached"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := run(t, c, "select email is null from app.customers where id = 50"); got != "t" {
		t.Errorf("NULL became %s", got)
	}
	r := w.raw()
	r.wants("1ZTDCZ", parse("", "select from app.customers"), synced(), query("select from app.customers where id = 1"))
	part := encode(nil, &pgproto3.Execute{Portal: "p", MaxRows: 3})
	r.wants("CZ12DDDsDDDsZCZ", query("begin"), parse("s", "select email from app.customers"), bind("p", "s"), part, part, synced(), query("rollback"))
	check("partial fetch", string(r.seen), nil)
	for _, sql := range []string{
		"select c::text from app.customers c", "select string_agg(email, ',') from app.customers", "select to_jsonb(c) from app.customers c",
		"select row_to_json(c) from app.customers c", "select max(ssn) from app.customers", "select ssn || '' from app.customers",
		"select email from app.customers union all select ssn from app.customers", "select c from app.customers c", "table app.customers",
		"select (select email from app.customers limit 1)", "values ((select ssn from app.customers limit 1))", "select array_agg(ssn) from app.customers",
		"select * from app.customers natural join (select id from app.customers) x", "with c as (select * from app.customers) select * from c",
		"select case when true then ssn end from app.customers", "select coalesce(email, ssn) from app.customers",
		"explain (verbose, analyze) select email from app.customers", "update app.customers set name = name where id = 1 returning ssn",
	} {
		out, err := try(t, c, sql)
		check(sql, out, err)
	}
}

// Row 16. How much memory a long message takes is in TestALongParameterInBoundedMemory.
func lengthsAreChecked(t *testing.T, w *world) {
	other := w.connect()
	bad := encode(nil, &pgproto3.Bind{Parameters: [][]byte{[]byte("abcd")}})
	binary.BigEndian.PutUint32(bad[bytes.Index(bad, []byte("abcd"))-4:], 0xfffffffe)
	for name, b := range map[string][]byte{
		"length 0": {'Q', 0, 0, 0, 0}, "length 3": {'Q', 0, 0, 0, 3}, "2 GiB": {'Q', 0x7f, 0xff, 0xff, 0xff}, "4 GiB": {'Q', 0xff, 0xff, 0xff, 0xff},
		"a byte over the cap": binary.BigEndian.AppendUint32([]byte{'d'}, maxFrame+5),
		"Bind with length -2": append(parse("", "select $1::text"), bad...), "no NUL": message('Q', []byte("select 1")),
		"an embedded NUL": message('Q', []byte("select 1\x00;drop table x\x00")), "an empty Parse": message('P', nil), "an empty Close": message('C', nil),
		"Execute without a row limit": message('E', []byte{0}), "Describe of what": message('D', []byte("x\x00")),
	} {
		r := w.raw()
		r.send(b)
		answer, err := io.ReadAll(r.conn)
		if !bytes.Contains(answer, []byte("C08P01\x00")) || isTimeout(err) {
			t.Errorf("%s: %q, %v", name, answer, err)
		}
		if got := run(t, other, "select 1"); got != "1" {
			t.Errorf("%s: the other session got %q", name, got)
		}
	}
	r := w.raw()
	for _, b := range bytes.Join([][]byte{parse("", "select 7 as x"), bind("", ""), execute(""), synced(), query("select 8")}, nil) {
		r.conn.Write([]byte{b})
	}
	if got := r.kinds(2); got != "12DCZTDCZ" {
		t.Errorf("a byte at a time: %s", got)
	}
}

// Row 17.
func aDeadClientsWorkEnds(t *testing.T, shared *world) {
	w := shared.sibling(t, variant{})
	gone := func(how string, since time.Time) {
		t.Helper()
		until(t, how+": the backend is gone", func() bool { return w.backends() == "0" })
		if took := time.Since(since); took > time.Second {
			t.Errorf("%s: the work ended after %s", how, took)
		}
	}
	psql, err := peers.Psql(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(w.address)
	cmd := psql.With("PGPASSWORD="+w.token()).Command(t.Context(), fmt.Sprintf("host=%s port=%s user=agent:etl dbname=orders-db sslmode=require", host, port), "-c", "select pg_sleep(60)")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the sleep runs", func() bool { return w.sleeping() == "1" })
	cmd.Process.Kill()
	gone("psql is killed", time.Now())
	cmd.Wait()
	for how, messages := range map[string][]byte{
		"in a query":                 query("select pg_sleep(60)"),
		"in a pipeline":              bytes.Join([][]byte{parse("", "select pg_sleep(60)"), bind("", ""), execute(""), synced(), query("select 2")}, nil),
		"behind what shifts":         append(query("create temp table x as select 1 as a from pg_sleep(60)"), query("select 1")...),
		"with half a message behind": append(query("select pg_sleep(60)"), 'Q', 0, 0),
	} {
		r := w.raw()
		r.send(messages)
		until(t, how+": the sleep runs", func() bool { return w.sleeping() == "1" })
		r.conn.Close()
		gone(how, time.Now())
	}
	r := w.raw()
	r.send(query("begin"), query("copy app.orders from stdin"))
	r.until('G')
	r.conn.Close()
	gone("in a COPY", time.Now())
	// And when it is the gateway that dies, the target itself looks, also behind DISCARD ALL.
	c := w.connect()
	for _, before := range []string{"select 1", "discard all", "reset all"} {
		try(t, c, before)
		if got := run(t, c, "select setting from pg_settings where name = 'client_connection_check_interval'"); got != "1000" {
			t.Errorf("behind %s the target looks every %s ms", before, got)
		}
	}
}

// Row 18.
func replicationIsRefused(t *testing.T, w *world) {
	before := w.backends()
	for _, value := range []string{"true", "database", "on", "1"} {
		conn := w.dial()
		conn.Write(startupFrame(version30, "user", "agent:etl", "database", "orders-db", "replication", value))
		if answer, err := io.ReadAll(conn); !bytes.Contains(answer, []byte("C28000\x00")) || isTimeout(err) {
			t.Errorf("replication=%s: %q, %v", value, answer, err)
		}
	}
	c := w.connect()
	for _, sql := range []string{"IDENTIFY_SYSTEM", "START_REPLICATION 0/0", "select pg_create_physical_replication_slot('x')"} {
		if _, err := try(t, c, sql); err == nil {
			t.Errorf("%s was run", sql)
		}
	}
	c.Close(t.Context())
	until(t, "nothing is left", func() bool { return w.backends() == before })
}

// Row 19. Full disks are in package record's tests.
func repliesFollowTheRecord(t *testing.T, shared *world) {
	w := shared.sibling(t, variant{})
	c := w.connect()
	for i := range 5 {
		sql := fmt.Sprintf("select 'recorded %d' from app.orders limit 1", i)
		run(t, c, sql)
		if !strings.Contains(w.recorded(), sql) {
			t.Errorf("%s is answered and not recorded", sql)
		}
		_, err := try(t, c, fmt.Sprintf("delete from vault.keys where id = %d", 7000+i))
		if message := sqlstate(t, err, "42501"); !strings.Contains(w.recorded(), message[strings.Index(message, "d-"):][:10]) {
			t.Errorf("the denial is answered and not recorded: %s", message)
		}
	}
	w.journal.Close()
	if _, err := try(t, c, "insert into app.orders values (2000, 1, 'unrecorded')"); err == nil {
		t.Error("a statement ran without a recording")
	}
	if got := w.one("select count(*) from app.orders where id = 2000"); got != "0" {
		t.Error("the statement reached the target")
	}
	if _, err := pgconn.ConnectConfig(t.Context(), w.config()); err == nil {
		t.Error("a session was opened without a recording")
	}
}

// Row 20.
func cutsFallBetweenMessages(t *testing.T, shared *world) {
	revoke := func(w *world) {
		for path := range w.files {
			if strings.HasPrefix(path, "reviews/") {
				delete(w.files, path)
			}
		}
		w.gateway.Swap(w.release())
	}
	const (
		rows = "select repeat('x', 700), generate_series(1, 10000000)"
		long = "select repeat('x', 3000000), generate_series(1, 10000)" // each is passed on in pieces
		copy = "copy (select repeat('x', 700), generate_series(1, 10000000)) to stdout"
	)
	for _, c := range []struct {
		how string
		cut func(w *world)
		sql string
	}{
		{"drained", func(w *world) { w.gateway.Drain() }, rows},
		{"revoked", revoke, long},
		{"stopped, as SIGTERM does", func(w *world) { w.stop() }, copy},
		{"stopped, as SIGTERM does", func(w *world) { w.stop() }, long},
	} {
		w := shared.sibling(t, variant{rows: 1 << 30})
		r := w.raw()
		idle := w.raw()
		r.send(query(c.sql))
		var last frame
		messages := 0
		for ; ; messages++ {
			if messages == 20 {
				go c.cut(w)
			}
			f, err := r.in.next()
			if err != nil {
				if err != io.EOF {
					t.Errorf("%s, %s: the stream ends inside a message: %v", c.how, c.sql, err)
				}
				break
			}
			last = frame{f.kind, bytes.Clone(f.raw[:min(200, len(f.raw))])}
		}
		if last.kind != 'E' || !bytes.Contains(last.raw, []byte("SFATAL\x00")) || !bytes.Contains(last.raw, []byte("C57P01\x00")) {
			t.Errorf("%s, %s: the last of %d messages is %q", c.how, c.sql, messages, last.raw)
		}
		if f, err := idle.in.next(); err != nil || f.kind != 'E' || !bytes.Contains(f.raw, []byte("C57P01\x00")) {
			t.Errorf("%s, %s: an idle client reads %q, %v", c.how, c.sql, f.raw, err)
		}
		until(t, "the backends are gone", func() bool { return w.backends() == "0" })
	}
}
