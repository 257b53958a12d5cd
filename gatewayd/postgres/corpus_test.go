package postgres

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// The corpora of sqlguard, sent through the whole gateway: every byte that the
// client gets is looked at, and everything that the gateway keeps.

// corpus is a world of sqlguard's testdata and what is sent to it.
type corpus struct {
	world     string // NAME.sql, NAME.masks
	path      string // search_path of its clients
	schemas   string // what the gateway's role gets
	on        string // what the review is about
	functions string // that the connection lists
	evasions  string // files
	everyday  []string
	restart   string // puts sequences, which no rollback does, where they started
	mirror    string
	refresh   []string // materialised views that the mirror computes again
}

var corpora = []corpus{
	{world: "world", path: "app, public", schemas: "app, other", on: `"app.*", "other.*", "public.*", "reports.*"`, functions: "[app.listed]",
		evasions: "evasions.sql", everyday: []string{"everyday.sql", "tools.sql", "newer.sql"}, mirror: "mirror.sql",
		refresh: []string{"app.customer_mat", "app.customer_agg", "app.ssn_mat"}},
	{world: "shop", path: "\"$user\", public", schemas: "public, hr", on: `"public.*", "hr.*", "staging.*"`, functions: "[public.add_one]",
		restart:  "select setval('users_id_seq', 100), setval('accounts_id_seq', 24), setval('audit_log_id_seq', 1, false)",
		evasions: "shop_evasions.sql", everyday: []string{"shop_everyday.sql", "shop_tools.sql"}, mirror: "shop_mirror.sql",
		refresh: []string{"user_mat", "plan_mat"}},
}

// onCorpora runs a test of each corpus on PostgreSQL 15 and 18.
func onCorpora(t *testing.T, test func(t *testing.T, target *peers.PostgresServer, c corpus)) {
	for _, c := range corpora {
		t.Run(c.world, func(t *testing.T) {
			t.Parallel()
			onEach(t, []int{15, 18}, func(t *testing.T, target *peers.PostgresServer) { t.Parallel(); test(t, target, c) })
		})
	}
}

// forms are the ways in which a text can be sent. The last two ask for the answer by COPY.
var forms = []string{"simple", "text", "binary", "copy", "copy binary"}

// wire is a client that reads every byte that a server sends.
type wire struct {
	conn net.Conn
	got  []byte // since the last send
}

func dial(t testing.TB, config *pgconn.Config) *wire {
	t.Helper()
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	hijacked, err := conn.Hijack()
	if err != nil {
		t.Fatal(err)
	}
	return &wire{conn: hijacked.Conn}
}

// queryable says whether a text is a query that COPY takes.
var queryable = regexp.MustCompile(`(?is)^(select|with|values|table)\b[^;]*$`)

// notQueryable are those that COPY does not take: the gateway allows set_config only as a statement of its own.
var notQueryable = regexp.MustCompile(`(?i)\$1|^select\s.*set_config`)

// send sends a text in a form and returns the messages of the answer.
func (c *wire) send(text, form string) ([]frame, error) {
	if queryable.MatchString(text) && !notQueryable.MatchString(text) {
		switch form {
		case "copy":
			text = "copy (" + text + "\n) to stdout"
		case "copy binary":
			text = "copy (" + text + "\n) to stdout (format binary)"
		}
	}
	var out []byte
	if form == "text" || form == "binary" {
		out = encode(out, &pgproto3.Parse{Query: text})
		formats := []int16{0}
		if form == "binary" {
			formats[0] = 1
		}
		out = encode(out, &pgproto3.Bind{ResultFormatCodes: formats})
		out = encode(out, &pgproto3.Describe{ObjectType: 'P'})
		out = encode(out, &pgproto3.Execute{})
		out = append(out, syncMessage...)
	} else {
		out = encode(out, &pgproto3.Query{String: text})
	}
	c.conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.conn.Write(out); err != nil {
		return nil, err
	}
	c.got = c.got[:0]
	var frames []frame
	for {
		f, err := c.frame()
		if err != nil {
			return frames, err
		}
		frames = append(frames, f)
		switch f.kind {
		case 'G': // an empty COPY
			c.conn.Write([]byte{'c', 0, 0, 0, 4})
			if form == "text" || form == "binary" { // the Sync before was ignored
				c.conn.Write(syncMessage)
			}
		case 'Z':
			return frames, nil
		}
	}
}

func (c *wire) frame() (frame, error) {
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(c.conn, head); err != nil {
		return frame{}, err
	}
	c.got = append(c.got, head...)
	raw := append(head, make([]byte, binary.BigEndian.Uint32(head[1:])-4)...)
	n, err := io.ReadFull(c.conn, raw[headerSize:])
	c.got = append(c.got, raw[headerSize:headerSize+n]...)
	return frame{kind: raw[0], raw: raw}, err
}

// canaries are the values of the masked columns in every form that SQL or the protocol can give them.
var canaries = func() [][]byte {
	forms := []string{"Zq7Ca", "Canary", "e0301", "1918-02-0", "1918203", "918273", "8675309", "91827391-8273",
		"\x00\x0e\x03\x01", "\x00\x84\x5f\xed", "\x00\x5b\x20\x51", "\x03\x63\x14\xdd", "\x91\x82\x73\x91\x82"}
	for _, f := range []string{"Zq7Canary", "zq7canary", "ZQ7CANARY"} {
		reversed := []byte(f)
		slices.Reverse(reversed)
		forms = append(forms, f, string(reversed[:6]), hex.EncodeToString([]byte(f)), hex.EncodeToString([]byte(f[3:])))
		for _, before := range []string{"", "x", "xx"} {
			forms = append(forms, base64.StdEncoding.EncodeToString([]byte(before + f))[4:10])
		}
	}
	for _, value := range []string{"Zq7CanaryAnn@example.test", "Zq7CanaryBob@example.test", "Zq7Canary-111", "Zq7Canary-222"} {
		sum := md5.Sum([]byte(value)) // as SQL's md5() has it
		forms = append(forms, hex.EncodeToString(sum[:]))
	}
	out := make([][]byte, len(forms))
	for i, f := range forms {
		out[i] = []byte(f)
	}
	return out
}()

// shows says which canary the bytes hold, as they are or with everything between letters left out.
func shows(seen []byte) string {
	seen = bytes.ReplaceAll(bytes.ReplaceAll(seen, []byte("D\x00\x00"), nil), []byte("d\x00\x00"), nil) // of rows, which may hold one letter each
	flat := bytes.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, seen)
	for _, c := range canaries {
		if bytes.Contains(seen, c) || len(c) > 5 && bytes.Contains(flat, c) {
			return string(c)
		}
	}
	return ""
}

// lines reads a file of sqlguard's testdata; those that start with "--" are comments.
func lines(t testing.TB, name string) []string {
	t.Helper()
	b, err := os.ReadFile("sqlguard/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(strings.Split(string(b), "\n"), func(line string) bool { return line == "" || strings.HasPrefix(line, "--") })
}

// newCorpusWorld is the world of the corpora behind a gateway whose role may do everything.
func newCorpusWorld(t testing.TB, target *peers.PostgresServer, c corpus, more ...string) *world {
	t.Helper()
	var masks []string
	for _, line := range lines(t, c.world+".masks") {
		column, with, _ := strings.Cut(line, ": ")
		if strings.Contains(column, " ") {
			continue // documents have no such names: the cases with them are the guard's own
		}
		masks = append(masks, fmt.Sprintf("{column: %q, with: %q}", column, with))
	}
	return newWorld(t, variant{
		target: target, schema: append(lines(t, c.world+".sql"), more...), schemas: c.schemas, masks: "[" + strings.Join(masks, ", ") + "]", functions: c.functions, superuser: true, privileged: true,
		verbs: strings.Join(everyVerb, ", "), on: c.on,
	})
}

var everyVerb = []string{"select", "insert", "update", "delete", "truncate", "create", "alter", "drop", "grant", "lock", "notify", "listen",
	"analyze", "vacuum", "refresh", "reindex", "comment", "call"}

// seat is one client of a world.
type seat struct {
	t      *testing.T
	corpus corpus
	config func() *pgconn.Config
	domain []byte // the OID of app.address
	wire   *wire
}

func (s *seat) reset() {
	s.t.Helper()
	for _, text := range []string{"rollback", "discard all", "set search_path = " + s.corpus.path} {
		if s.wire != nil {
			if _, err := s.wire.send(text, "simple"); err == nil {
				continue
			}
			s.wire.conn.Close()
		}
		s.wire = dial(s.t, s.config())
		if _, err := s.wire.send("set search_path = "+s.corpus.path, "simple"); err != nil {
			s.t.Fatal(err)
		}
	}
}

// enter puts the session where a sequence starts.
func (s *seat) enter(sequence string) {
	s.t.Helper()
	s.reset()
	if s.corpus.restart != "" {
		s.wire.send(s.corpus.restart, "simple")
	}
	if !ownTransaction(sequence) {
		s.wire.send("begin", "simple")
	}
}

// ownTransaction says whether a sequence cannot run inside a transaction, or makes its own.
func ownTransaction(sequence string) bool {
	first, _, _ := strings.Cut(strings.ToLower(sequence), " ")
	return slices.Contains([]string{"begin;", "begin", "start", "discard", "vacuum", "commit", "rollback", "checkpoint", "prepare"}, strings.TrimSuffix(first, ";")) &&
		(first != "prepare" || strings.HasPrefix(strings.ToLower(sequence), "prepare transaction"))
}

// all sends a sequence and returns every byte of the answers.
func (s *seat) all(sequence, form string) []byte {
	s.enter(sequence)
	var seen []byte
	for text := range strings.SplitSeq(sequence, " ;; ") {
		_, err := s.wire.send(text, form)
		seen = append(seen, s.wire.got...)
		if err != nil {
			s.wire.conn.Close()
			s.wire = dial(s.t, s.config())
			s.wire.send("set search_path = "+s.corpus.path, "simple")
		}
	}
	return seen
}

func (w *world) gated(t *testing.T, c corpus) *seat {
	return &seat{t: t, corpus: c, domain: w.domain(t, c), config: func() *pgconn.Config {
		c := w.config()
		c.TLSConfig = nil
		return c
	}}
}

func (w *world) direct(t *testing.T, c corpus, database string) *seat {
	return &seat{t: t, corpus: c, domain: w.domain(t, c), config: func() *pgconn.Config {
		c, err := pgconn.ParseConfig(w.target.DSN(database, w.role, w.secret))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}}
}

func (w *world) domain(t *testing.T, c corpus) []byte {
	b, err := hex.DecodeString(w.one("select encode(oidsend(min(oid::text)::oid), 'hex') from pg_type where typname in ('address', 'iban') and typtype = 'd'"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// formsOf are the forms that one case is sent in: by default one, another one on
// each version; $SALLYPORT_CORPUS=all sends all.
func formsOf(i, major int) []string {
	if os.Getenv("SALLYPORT_CORPUS") == "all" {
		return forms
	}
	return forms[(i+major)%len(forms):][:1]
}

// TestEvasionsThroughTheGateway sends each evasion directly, where it must show a
// canary, and through the gateway, where no byte to the client may hold one, nor
// any recording, log or summary.
func TestEvasionsThroughTheGateway(t *testing.T) {
	t.Parallel()
	onCorpora(t, func(t *testing.T, target *peers.PostgresServer, c corpus) {
		cases := slices.DeleteFunc(lines(t, c.evasions), func(line string) bool { return strings.Contains(line, "Odd") })
		w := newCorpusWorld(t, target, c)
		gated, direct := w.gated(t, c), w.direct(t, c, w.database)
		proven := map[string]int{}
		for i, line := range cases {
			sequence, unproven := strings.CutPrefix(line, "! ")
			for _, form := range formsOf(i, target.Major) {
				if shows(direct.all(sequence, form)) != "" {
					proven[form]++
				} else if !unproven && form == "simple" {
					t.Errorf("%s\n  shows no canary directly", sequence)
				}
				direct.reset()
				if seen := gated.all(sequence, form); shows(seen) != "" {
					t.Errorf("%s\n  as %s shows %q: %.500q", sequence, form, shows(seen), seen)
				}
				gated.reset()
			}
		}
		t.Logf("%d evasions, proven %v", len(cases), proven)
		for form, n := range proven {
			if n < 300*len(formsOf(0, 0))/len(forms) {
				t.Errorf("only %d evasions are proven as %s", n, form)
			}
		}
		w.keepsNothing(t, "discard all")
	})
}

// keepsNothing ends the sessions and looks at everything that the gateway kept.
func (w *world) keepsNothing(t *testing.T, sent string) {
	t.Helper()
	w.stop()
	until(t, "the summaries are there", func() bool { return w.backends() == "0" })
	recorded := w.recorded()
	if !strings.Contains(recorded, sent) {
		t.Errorf("the recordings hold %d bytes and no statement", len(recorded))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	summaries, err := json.Marshal(w.summaries)
	if err != nil || len(w.summaries) == 0 {
		t.Errorf("%d summaries, %v", len(w.summaries), err)
	}
	for what, kept := range map[string]string{"recordings": recorded, "log": w.logged.String(), "summaries": string(summaries)} {
		for _, c := range []string{"Zq7Canary", "91827391-8273"} {
			if at := strings.Index(kept, c); at >= 0 {
				t.Errorf("%s hold %s: %.300q", what, c, kept[max(0, at-200):])
			}
		}
	}
}

// told is the answer to a text as the client sees it, but for what a mask cannot keep: that a value is of a domain.
func (s *seat) told(text, form string) string {
	frames, err := s.wire.send(text, form)
	var all strings.Builder
	for _, f := range frames {
		switch f.kind {
		case 'T':
			fields, problem := parseFields(f.body())
			if problem != nil {
				return problem.Error()
			}
			for _, d := range fields {
				oid, modifier := d.DataTypeOID, d.TypeModifier
				if oid >= 16384 || oid == 2249 || oid == 1009 {
					oid = 0 // a row type, or an array of a domain, is one of its plain type here
				}
				fmt.Fprintf(&all, "%s:%d:%d:%d ", d.Name, oid, modifier, d.Format)
			}
			all.WriteByte('\n')
		case 'E', 'N':
			e, problem := parseError(f.body())
			if problem != nil {
				return problem.Error()
			}
			if f.kind == 'N' {
				e.Message = "" // a masked connection hides it
			}
			fmt.Fprintf(&all, "%c %s %s\n", f.kind, e.Code, e.Message)
		case 'A':
			fmt.Fprintf(&all, "A %q\n", f.raw[headerSize+4:])
		default:
			body := bytes.ReplaceAll(f.body(), s.domain, []byte{0, 0, 0, 25})
			body = bytes.TrimPrefix(body, []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")) // before the first row, whichever that is
			fmt.Fprintf(&all, "%c %q\n", f.kind, body)
		}
	}
	if err != nil {
		fmt.Fprintf(&all, "cut: %v", err)
	}
	return all.String()
}

// sorted is an answer with its lines in order.
func sorted(answer string) string {
	all := strings.Split(answer, "\n")
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// TestEverydayThroughTheGateway sends the everyday statements through the gateway,
// and directly to a server whose masked cells hold their masks: what comes back must be the same bytes.
func TestEverydayThroughTheGateway(t *testing.T) {
	t.Parallel()
	onCorpora(t, func(t *testing.T, target *peers.PostgresServer, c corpus) {
		var cases []string
		for _, name := range c.everyday {
			cases = append(cases, lines(t, name)...)
		}
		cases = slices.DeleteFunc(cases, func(line string) bool { return strings.Contains(line, "Odd") })
		w := newCorpusWorld(t, target, c)
		mirror := w.mirror(t, c)
		gated, direct, own := w.gated(t, c), w.direct(t, c, mirror), w.direct(t, c, w.database)
		ran, sent := 0, 0
		for i, line := range cases {
			for _, form := range formsOf(i, target.Major) {
				sent++
				if w.sameAnswers(t, gated, line, form, direct, own) {
					ran++
				}
			}
		}
		t.Logf("%d of %d ran", ran, sent)
	})
}

// mirror is a copy of the world's database, object ids and all, with the masks in the masked cells.
func (w *world) mirror(t *testing.T, c corpus) string {
	t.Helper()
	name := w.database + "_mirror"
	if err := w.target.Exec(t.Context(), "postgres", "create database "+name+" template "+w.database); err != nil {
		t.Fatal(err)
	}
	conn, err := peers.Connect(t.Context(), w.target.SuperuserDSN(name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	texts := append(lines(t, c.mirror), "set session_replication_role = origin")
	for _, view := range c.refresh {
		texts = append(texts, "refresh materialized view "+view)
	}
	for _, text := range texts {
		if _, err := conn.Exec(t.Context(), text).ReadAll(); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	for _, database := range []string{name, w.database} {
		w.compact(t, database)
	}
	return name
}

// compact leaves no dead row in a database, so that rows are where those of its
// like are. VACUUM FULL keeps what a snapshot may still see, and any backend that is
// logging in, to whatever database, has one.
func (w *world) compact(t *testing.T, database string) {
	t.Helper()
	conn, err := peers.Connect(t.Context(), w.target.SuperuserDSN(database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	until(t, "no dead row is left in "+database, func() bool {
		if _, err := conn.Exec(t.Context(), "vacuum full analyze").ReadAll(); err != nil {
			t.Fatal(err)
		}
		r, err := conn.Exec(t.Context(), compactQuery).ReadAll()
		if err == nil {
			r, err = conn.Exec(t.Context(), "select "+string(r[0].Rows[0][0])).ReadAll()
		}
		if err != nil {
			t.Fatal(err)
		}
		return string(r[0].Rows[0][0]) == "t"
	})
}

// compactQuery makes the query that says whether the rows of small tables follow each other from the first place on.
const compactQuery = `select coalesce(string_agg(format('(select count(*) = coalesce(max((ctid::text::point)[1]), 0) or max((ctid::text::point)[0]) > 0 from %s)', oid::regclass), ' and '), 'true')
	from pg_class where relkind = 'r' and oid >= 16384`

// sameAnswers compares the answers to one sequence with those that a client gets
// directly, of either database: the catalogs of the two differ in what the mirror was
// made with. What fails directly, on an older server say, need not run.
func (w *world) sameAnswers(t *testing.T, gated *seat, line, form string, direct ...*seat) bool {
	t.Helper()
	sequence, onlyRuns := strings.CutPrefix(line, "~")
	onlyRuns = onlyRuns || strings.Contains(line, "nextval(") // a sequence never goes back
	texts := strings.Split(sequence, " ;; ")
	want := make([][]string, len(direct))
	for i, one := range direct {
		one.enter(sequence)
		for _, text := range texts {
			want[i] = append(want[i], one.told(text, form))
		}
		one.reset()
		if strings.Contains("\n"+strings.Join(want[i], "\n"), "\nE ") {
			if form == "simple" {
				t.Logf("%s\n  fails directly: %.1000s", sequence, want[i])
			}
			return true
		}
	}
	gated.enter(sequence)
	defer gated.reset()
	for i, text := range texts {
		got := gated.told(text, form)
		if seen := gated.wire.got; shows(seen) != "" && strings.Contains(string(seen), "Zq7") {
			t.Errorf("%s\n  as %s shows %q: %.500q", text, form, shows(seen), seen)
		}
		if slices.ContainsFunc(want, func(w []string) bool { return got == w[i] || sorted(got) == sorted(w[i]) }) ||
			onlyRuns && !strings.Contains("\n"+got, "\nE ") {
			continue
		}
		t.Errorf("%s\n  as %s\n  got  %.1500s\n  want %.1500s", text, form, got, want[0][i])
		return false
	}
	return true
}
