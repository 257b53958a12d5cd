package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
)

// stream is a connection that has these bytes to read, in pieces of at most step.
type stream struct {
	net.Conn
	data []byte
	step int
}

func (s *stream) Read(b []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.data[:min(len(s.data), s.step)])
	s.data = s.data[n:]
	return n, nil
}

func reader(data []byte, step int) *frameReader {
	return newFrameReader(&stream{data: data, step: step}, maxFrame)
}

func TestFrameWithAHugeLengthAllocatesNothing(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, length := range []uint32{0, 3, 1 << 31, 0x7fffffff, 0xffffffff, maxFrame + 5} {
		r := reader(binary.BigEndian.AppendUint32([]byte{'Q'}, length), 5)
		if _, err := r.next(); !errors.Is(err, errFrame) {
			t.Errorf("length %#x: %v, want errFrame", length, err)
		}
	}
	// The longest length there may be, of which nothing arrives.
	r := reader(binary.BigEndian.AppendUint32([]byte{'Q'}, maxFrame+4), 5)
	if _, err := r.next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v, want ErrUnexpectedEOF", err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d bytes were allocated for bytes that never came", grown)
	}
}

func TestFramesArriveWholeWhateverThePackets(t *testing.T) {
	var data []byte
	var want []string
	for i := range 200 {
		body := strings.Repeat(string(rune('a'+i%26)), i*37)
		want = append(want, body)
		data = append(data, message('Q', []byte(body))...)
	}
	for _, step := range []int{1, 3, 7, 4096, 1 << 20} {
		r := reader(bytes.Clone(data), step)
		for i, w := range want {
			f, err := r.next()
			if err != nil || f.kind != 'Q' || string(f.body()) != w {
				t.Fatalf("step %d, message %d: %q, %v", step, i, f.raw, err)
			}
		}
		if _, err := r.next(); !errors.Is(err, io.EOF) {
			t.Fatalf("step %d: %v at the end", step, err)
		}
	}
}

func TestReadingAheadLeavesTheFrameInHandAlone(t *testing.T) {
	data := append(message('Q', []byte("first")), message('Q', bytes.Repeat([]byte("x"), 100<<10))...)
	r := reader(data, 9)
	f, err := r.next()
	if err != nil {
		t.Fatal(err)
	}
	for r.fillBehind() == nil {
	}
	if string(f.body()) != "first" {
		t.Fatalf("the frame became %q", f.body())
	}
	if f, err = r.next(); err != nil || len(f.body()) != 100<<10 {
		t.Fatalf("%d bytes, %v", len(f.body()), err)
	}
}

func TestBindInnerLengths(t *testing.T) {
	good := encode(nil, &pgproto3.Bind{PreparedStatement: "s", Parameters: [][]byte{[]byte("abc"), nil}})[headerSize:]
	if m, err := parseBind(good); err != nil || string(m.Parameters[0]) != "abc" || m.Parameters[1] != nil {
		t.Fatalf("%v, %v", m, err)
	}
	at := bytes.Index(good, []byte("abc")) - 4
	for _, length := range []int32{-2, -1 << 31, 4 << 20, 1<<31 - 1} {
		bad := bytes.Clone(good)
		binary.BigEndian.PutUint32(bad[at:], uint32(length))
		if _, err := parseBind(bad); !errors.Is(err, errMessage) {
			t.Errorf("length %d: %v", length, err)
		}
	}
	for n := range good {
		if _, err := parseBind(good[:n]); err == nil {
			t.Errorf("the first %d bytes pass for a Bind", n)
		}
	}
}

func TestQueryMustEndWhereItEnds(t *testing.T) {
	for _, body := range []string{"select 1", "select 1\x00; drop table t\x00", ""} {
		if _, err := parseQuery([]byte(body)); !errors.Is(err, errMessage) {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func startupPacket(version uint32, pairs ...string) []byte {
	b := binary.BigEndian.AppendUint32(nil, version)
	for _, s := range pairs {
		b = append(append(b, s...), 0)
	}
	return append(b, 0)
}

func TestStartupPackets(t *testing.T) {
	for _, c := range []struct {
		name   string
		packet []byte
		code   string // "" when accepted
	}{
		{"3.0", startupPacket(version30, "user", "u"), ""},
		{"3.2", startupPacket(version32, "user", "u"), ""},
		{"3.9999", startupPacket(3<<16|9999, "user", "u", "_pq_.grease", "1"), ""},
		{"2.0", startupPacket(2<<16, "user", "u"), "0A000"},
		{"4.0", startupPacket(4<<16, "user", "u"), "0A000"},
		{"no user", startupPacket(version30, "database", "d"), "28000"},
		{"user twice", startupPacket(version30, "user", "u", "user", "v"), "08P01"},
		{"no end", startupPacket(version30, "user", "u")[:8], "08P01"},
		{"odd", startupPacket(version30, "user"), "08P01"},
		{"bytes behind the end", append(startupPacket(version30, "user", "u"), 'x'), "08P01"},
		{"empty", nil, "08P01"},
	} {
		st, f := parseStartup(c.packet)
		if got := codeOf(f); got != c.code {
			t.Errorf("%s: %q, want %q", c.name, got, c.code)
		}
		if f == nil && st.parameters["database"] != "u" {
			t.Errorf("%s: a missing database is not the user", c.name)
		}
	}
	st, _ := parseStartup(startupPacket(3<<16|9999, "user", "u", "_pq_.grease", "1"))
	want := message('v', append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, version32), 1), "_pq_.grease\x00"...))
	if !st.negotiate || !bytes.Equal(st.negotiation(), want) {
		t.Errorf("negotiation %q, want %q", st.negotiation(), want)
	}
}

func codeOf(f *failure) string {
	if f == nil {
		return ""
	}
	return f.code
}

func TestStartupParameters(t *testing.T) {
	for _, c := range []struct{ name, value, code string }{
		{"application_name", "x", ""}, {"TimeZone", "UTC", ""}, {"statement_timeout", "5s", ""},
		{"client_encoding", "utf-8", ""}, {"client_encoding", "SQL_ASCII", ""}, {"client_encoding", "'utf-8'", ""}, {"client_encoding", "'latin1'", "22023"},
		{"options", "-c work_mem=64MB -c enable_seqscan=off", ""}, {"client_min_messages", "log", "28000"},
		{"client_encoding", "SJIS", "22023"}, {"client_encoding", "GBK", "22023"},
		{"standard_conforming_strings", "on", ""}, {"standard_conforming_strings", "off", "22023"},
		{"search_path", `app, "$user"`, ""}, {"search_path", `app,,x`, "22023"}, {"search_path", `"app`, "22023"},
		{"replication", "database", "28000"}, {"role", "postgres", "28000"}, {"session_authorization", "x", "28000"},
		{"session_preload_libraries", "x", "28000"}, {"debug_print_plan", "on", "28000"},
		{"options", "-c geqo=off --statement-timeout=5s -cjit=off", ""},
		{"options", "-c role=postgres", "28000"}, {"options", `-c standard_conforming_strings=off`, "22023"},
		{"options", `-c search\_path=app`, ""}, {"options", "-e", "22023"}, {"options", "-c", "22023"}, {"options", "--role=x", "28000"},
	} {
		st := &startup{parameters: map[string]string{"user": "u", "database": "d", c.name: c.value}}
		if _, f := st.settings(); codeOf(f) != c.code {
			t.Errorf("%s=%q: %q, want %q", c.name, c.value, codeOf(f), c.code)
		}
	}
	got, f := (&startup{parameters: map[string]string{"options": `-c application_name=a\ b -c geqo=off`}}).settings()
	if f != nil || got["application_name"] != "a b" || got["geqo"] != "off" || got["client_encoding"] != "UTF8" {
		t.Errorf("%v, %v", got, f)
	}
}

func TestSearchPathIsReadAsTheServerDoes(t *testing.T) {
	for s, want := range map[string][]string{
		`"$user", public`: {"$user", "public"}, `App ,"App"`: {"app", "App"}, `"a""b"`: {`a"b`}, ``: {},
	} {
		if got, err := parseSearchPath(s); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q, %v", s, got, err)
		}
	}
}

func TestScrubbedErrorsHoldNoValue(t *testing.T) {
	e := &pgproto3.ErrorResponse{
		Severity: "ERROR", Code: "23505", Message: "secret", Detail: "secret", Hint: "secret", Where: "secret", InternalQuery: "secret",
		SchemaName: "secret", TableName: "secret", ColumnName: "secret", DataTypeName: "secret", ConstraintName: "secret",
		File: "secret", Routine: "secret", UnknownFields: map[byte]string{'z': "secret"},
	}
	scrub(e, true)
	if out := encode(nil, e); bytes.Contains(out, []byte("secret")) || !bytes.Contains(out, []byte("unique violation")) {
		t.Errorf("%q", out)
	}
}

func TestNothingIsReadBeyondAnSSLRequest(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	o := &opening{conn: server, plainOK: true}
	go func() {
		defer server.Close()
		deadlineIn(server, 5*time.Second)
		o.negotiate(t.Context())
	}()
	deadlineIn(client, 5*time.Second)
	ssl := []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}
	answers := make([]byte, 1)
	client.Write(ssl)
	if _, err := io.ReadFull(client, answers); err != nil || answers[0] != 'N' {
		t.Fatalf("%q, %v", answers, err)
	}
	client.Write(ssl) // a second one is refused
	if b, _ := io.ReadAll(client); len(b) == 0 || b[0] != 'E' {
		t.Fatalf("a second SSLRequest: %q", b)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(message('Q', []byte("select 1\x00")), 3)
	f.Add([]byte{'B', 0xff, 0xff, 0xff, 0xff}, 1)
	f.Fuzz(func(t *testing.T, data []byte, step int) {
		r := reader(data, max(1, step&0xffff))
		total := 0
		for {
			fr, err := r.next()
			if err != nil {
				break
			}
			total += len(fr.raw)
			inspect(fr)
		}
		if total > len(data) {
			t.Fatalf("%d bytes of frames out of %d", total, len(data))
		}
	})
}

// inspect calls every decoder of untrusted bytes.
func inspect(fr frame) {
	b := fr.body()
	parseQuery(b)
	parseParse(b)
	parseBind(b)
	parseTarget(b)
	parseExecute(b)
	parseFields(b)
	parseError(b)
	texts(b)
	appendRow(nil, b, nil, []int16{1})
}

func FuzzBind(f *testing.F) {
	f.Add(encode(nil, &pgproto3.Bind{PreparedStatement: "s", ParameterFormatCodes: []int16{1}, Parameters: [][]byte{[]byte("abc"), nil}, ResultFormatCodes: []int16{1, 0}})[headerSize:])
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := parseBind(body)
		if err != nil {
			return
		}
		if again := encode(nil, m)[headerSize:]; !bytes.Equal(again, body) {
			t.Fatalf("%q was read as %q", body, again)
		}
	})
}

func FuzzStartup(f *testing.F) {
	f.Add(startupPacket(version30, "user", "u", "options", `-c a\ b=c --d=e`, "search_path", `"a""b", c`))
	f.Add(startupPacket(3<<16|9999, "user", "u", "_pq_.x", "1"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		st, fail := parseStartup(packet)
		if (st == nil) == (fail == nil) {
			t.Fatal("neither accepted nor refused")
		}
		if st == nil {
			return
		}
		settings, fail := st.settings()
		for name, value := range settings {
			if !sqlguard.SettingAllowed(name, value) && pinnedSettings[name] == "" && targetPins[name] == "" {
				t.Fatalf("setting %q would reach the target", name)
			}
		}
		if fail == nil && (settings["client_encoding"] != "UTF8" || settings["standard_conforming_strings"] != "on") {
			t.Fatalf("a pin is gone: %v", settings)
		}
	})
}
