package sqlguard

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// canary is part of every value of a masked text column; the numbers are those of masked number columns.
const canary = "Zq7Canary"

var canaryNumbers = []string{"918273", "8675309"}

// worldMasks are those of testdata/world.masks.
var worldMasks = func() []Mask {
	b, err := os.ReadFile("testdata/world.masks")
	if err != nil {
		panic(err)
	}
	var masks []Mask
	for line := range strings.Lines(string(b)) {
		column, with, _ := strings.Cut(strings.TrimSpace(line), ": ")
		masks = append(masks, Mask{Column: column, With: with})
	}
	return masks
}()

// world is a real database with canaries in masked columns, and a guard of it.
type world struct {
	conn    *pgconn.PgConn
	config  *pgconn.Config
	catalog *Catalog
	guard   *Guard
	notices []string
	scope   Scope
	masks   []Mask
	// position is where the last error of answer pointed to, 0 for nowhere.
	position int
}

func newWorld(t testing.TB, masks []Mask) *world {
	t.Helper()
	ctx := context.Background()
	server := peers.SharedPostgres(t)
	name := server.NewDatabase(t, corpus(t, "world.sql")...)
	config, err := pgconn.ParseConfig(server.SuperuserDSN(name))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{config: config}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		w.notices = append(w.notices, n.Message+"|"+n.Detail+"|"+n.Hint+"|"+n.Where)
	}
	if w.conn, err = pgconn.ConnectConfig(ctx, config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.conn.Close(ctx) })
	w.catalog = w.pull(t)
	w.masks = masks
	w.guardAgain(t)
	w.reset(t)
	return w
}

// guardAgain makes the guard of the catalog that was pulled last.
func (w *world) guardAgain(t testing.TB) {
	t.Helper()
	var err error
	if w.guard, err = New(w.catalog, Options{Masks: w.masks, Functions: []string{"app.listed"}, Digest: func(string) string { return "hmac:x" }}); err != nil {
		t.Fatal(err)
	}
}

// corpus reads the lines of a file of testdata; those that start with "--" are comments.
func corpus(t testing.TB, name string) []string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(strings.Split(string(b), "\n"), func(line string) bool {
		return line == "" || strings.HasPrefix(line, "--")
	})
}

func (w *world) pull(t testing.TB) *Catalog {
	t.Helper()
	raw, _, err := w.exec("set search_path = pg_catalog; " + PullQuery)
	if err != nil {
		t.Fatalf("pull: %v", err)
	}
	c, err := ParseCatalog(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// exec runs a text as a simple query and returns the bytes of all rows.
func (w *world) exec(text string) (rows, columns []byte, err error) {
	results := w.conn.Exec(context.Background(), text)
	var out, names bytes.Buffer
	for results.NextResult() {
		r := results.ResultReader()
		for _, f := range r.FieldDescriptions() {
			names.WriteString(f.Name + " ")
		}
		for r.NextRow() {
			for _, v := range r.Values() {
				out.Write(v)
				out.WriteByte('\n')
			}
		}
		tag, _ := r.Close()
		names.WriteString(tag.String() + "\n")
	}
	return bytes.TrimSpace(out.Bytes()), names.Bytes(), results.Close()
}

// reset puts the session back to a known state.
func (w *world) reset(t testing.TB) {
	t.Helper()
	if w.conn.TxStatus() != 'I' {
		_, _, _ = w.exec("rollback")
	}
	for _, text := range []string{"discard all", "set search_path = app, public", "set sallyport.scope = 'test'"} {
		if _, _, err := w.exec(text); err != nil {
			t.Fatal(err)
		}
	}
	w.notices = nil
	w.scope = Scope{SearchPath: []string{"app", "public"}, Prepared: map[string]PreparedEffects{}}
}

// compact leaves no dead row, so that rows are where those of its like are. VACUUM
// FULL keeps what a snapshot may still see, and any backend that is logging in, to
// whatever database, has one.
func (w *world) compact(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
		if _, _, err := w.exec(`vacuum full analyze`); err != nil {
			t.Fatal(err)
		}
		rows, _, err := w.exec(`select (select count(*) = max((ctid::text::point)[1]) from app.customers) and (select count(*) = max((ctid::text::point)[1]) from app.orders)`)
		if err != nil {
			t.Fatal(err)
		}
		if string(rows) == "t" {
			return
		}
	}
	t.Fatal("dead rows stay: something holds a snapshot")
}

// send runs one text through the guard, as an engine would, and returns
// everything that a client would see of it.
func (w *world) send(text string) (seen string, refusal string, err error) {
	st := w.guard.Understand(text, w.scope)
	if st.Command.Refusal != nil {
		return st.Command.Refusal.Reason, st.Command.Refusal.Rule, nil
	}
	w.notices = nil
	var rows, names []byte
	if st.Parts[0].Kind == KindCopyIn {
		_, err = w.conn.CopyFrom(context.Background(), strings.NewReader(""), st.Rewritten)
	} else if st.Parts[0].Kind == KindCopyOut {
		var out bytes.Buffer
		_, err = w.conn.CopyTo(context.Background(), &out, st.Rewritten)
		rows = out.Bytes()
	} else {
		rows, names, err = w.exec(st.Rewritten)
	}
	seen = string(rows) + "\n" + string(names)
	if !st.ScrubErrors {
		seen += strings.Join(w.notices, "\n")
		if err != nil {
			var pg *pgconn.PgError
			seen += fmt.Sprintf("%v", err)
			if ok := asPgError(err, &pg); ok {
				seen += pg.Detail + pg.Hint + pg.Where
			}
		}
	}
	if err == nil {
		w.track(st.Parts)
	}
	return seen, "", err
}

func asPgError(err error, into **pgconn.PgError) bool {
	pg, ok := err.(*pgconn.PgError)
	*into = pg
	return ok
}

func (w *world) track(parts []Part) {
	for _, p := range parts {
		switch {
		case p.Kind == KindSet && p.Name == "search_path" && !p.Reset:
			w.scope.SearchPath = p.SearchPath
		case p.Kind == KindPrepare:
			w.scope.Prepared[p.Name] = *p.Prepared
		}
		if p.Temp != nil {
			w.scope.Temp = append(w.scope.Temp, *p.Temp)
		}
		w.scope.Temp = slices.DeleteFunc(w.scope.Temp, func(t TempRelation) bool { return slices.Contains(p.DropsTemp, t.Name) })
	}
}

// canaryForms are the canaries in the forms that SQL can give them.
var canaryForms = func() []string {
	forms := []string{canary[3:], canary[:5], "e0301", "1918-02-0", "1918203"}
	for _, f := range []string{canary, strings.ToLower(canary), strings.ToUpper(canary)} {
		reversed := []byte(f)
		slices.Reverse(reversed)
		forms = append(forms, f, string(reversed), string(reversed[:6]), hex.EncodeToString([]byte(f)), hex.EncodeToString([]byte(f[3:])))
		for _, before := range []string{"", "x", "xx"} { // base64 at each alignment, without the letters that others share
			forms = append(forms, base64.StdEncoding.EncodeToString([]byte(before + f))[4:10])
		}
	}
	for _, value := range []string{"Zq7CanaryAnn@example.test", "Zq7CanaryBob@example.test", "Zq7Canary-111", "Zq7Canary-222"} {
		sum := md5.Sum([]byte(value)) // as SQL's md5() has it
		forms = append(forms, hex.EncodeToString(sum[:]))
	}
	return append(forms, canaryNumbers...)
}()

// leaks says which canary a text holds.
func leaks(seen string) string {
	flat := strings.NewReplacer("\n", "", " ", "", ",", "", "|", "").Replace(seen)
	for _, f := range canaryForms {
		if strings.Contains(seen, f) || strings.Contains(flat, f) {
			return f
		}
	}
	return ""
}

func containsAny(s string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(s, p) })
}
