package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgproto3/v2"

	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
)

const (
	replyLimit = 64 << 10 // how much is gathered before it is written to the client
	wholeLimit = 1 << 20  // a longer row is passed on in pieces
)

// relay reads what the target answers until it ends the connection.
func (s *session) relay() error {
	for {
		if !s.from.ready() || len(s.reply) > replyLimit {
			if err := s.deliver(); err != nil {
				return err
			}
		}
		kind, length, err := s.from.header()
		if err != nil {
			return targetError(err)
		}
		if (kind == 'D' || kind == 'd') && length > wholeLimit {
			err = s.stream(length)
		} else {
			var f frame
			if f, err = s.from.next(); err != nil {
				return targetError(err)
			}
			err = s.answered(f)
		}
		if err != nil {
			return err
		}
	}
}

func targetError(err error) error {
	if errors.Is(err, io.EOF) {
		return errTargetGone
	}
	return fmt.Errorf("read the target: %w", err)
}

// bug ends the session because the target said what it cannot have said.
func (s *session) bug(format string, args ...any) error {
	why := fmt.Sprintf(format, args...)
	s.log.Error("the target's answer was not understood; session cut", "why", why)
	s.core.Cut("protocol_desync", "the target's answer was not understood, so nothing more of it is passed on")
	return errors.New(why)
}

// forward queues a message for the client.
func (s *session) forward(raw []byte) { s.reply = append(s.reply, raw...) }

// deliver counts and records what is queued, then writes it to the client.
func (s *session) deliver() error {
	if err := s.account(s.head()); err != nil {
		return err
	}
	if len(s.reply) == 0 {
		return nil
	}
	err := s.writer.write(s.reply, false)
	s.reply = s.reply[:0]
	return err
}

// account counts and records the rows that are queued; e is the command that they belong to.
func (s *session) account(e *entry) error {
	text, err := s.counted(e)
	if err != nil || len(text) == 0 {
		return err
	}
	return e.command.Output("rows", text)
}

// end is account for a command of which nothing more comes, and records how it ended.
func (s *session) end(e *entry) error {
	text, err := s.counted(e)
	if err != nil {
		return err
	}
	return e.command.Finish("rows", text, e.result)
}

// counted counts the rows that are queued and returns what is to be recorded of
// them, which holds until the next row.
func (s *session) counted(e *entry) ([]byte, error) {
	text := s.text
	s.text = s.text[:0]
	if e == nil || e.command == nil || s.writer.quiet.Load() {
		s.rows, s.bytes = 0, 0
		return nil, nil
	}
	if s.bytes > 0 {
		if err := e.command.AddRows(s.rows, s.bytes); err != nil {
			return nil, err
		}
		e.result.Rows, e.result.Bytes = e.result.Rows+s.rows, e.result.Bytes+s.bytes
		s.rows, s.bytes = 0, 0
	}
	if len(text) == 0 {
		return nil, nil
	}
	return s.secrets.hide(text), nil
}

// answered handles one message of the target's.
func (s *session) answered(f frame) error {
	switch f.kind {
	case 'N':
		return s.notice(f)
	case 'A':
		return s.notification(f)
	case 'S':
		return s.parameter(f)
	}
	e := s.head()
	if f.kind == 'E' {
		return s.failed(e, f)
	}
	if e == nil {
		return s.bug("message %q, but nothing was asked", f.kind)
	}
	if e.kind == kindPoison {
		return s.bug("message %q for a portal that cannot exist", f.kind)
	}
	if e.answer != nil {
		return s.own(e, f)
	}
	switch f.kind {
	case '1', '2', '3':
		return s.confirmed(e, f)
	case 't':
		return s.parameterTypes(e, f)
	case 'T', 'n':
		return s.described(e, f)
	case 'D', 'd':
		return s.row(e, f)
	case 'C', 'I', 's':
		return s.completed(e, f)
	case 'G', 'H':
		return s.copyBegins(e, f)
	case 'c':
		s.forward(f.raw)
		return nil
	case 'Z':
		return s.readyForQuery(e, f)
	}
	return s.bug("message of type %q", f.kind)
}

// confirmed handles ParseComplete, BindComplete and CloseComplete.
func (s *session) confirmed(e *entry, f frame) error {
	if e.kind != "PBC"[f.kind-'1'] {
		return s.bug("message %q for %q", f.kind, e.kind)
	}
	s.mu.Lock()
	switch e.kind {
	case 'P':
		e.statement.confirmed = true
	case 'B':
		e.portal.confirmed = true
	}
	s.mu.Unlock()
	s.pop()
	s.forward(f.raw)
	return nil
}

func (s *session) parameterTypes(e *entry, f frame) error {
	body := f.body()
	if e.kind != 'D' || len(body) < 2 || len(body) != 2+4*int(binary.BigEndian.Uint16(body)) {
		return s.bug("ParameterDescription for %q", e.kind)
	}
	if e.statement != nil {
		types := make([]uint32, 0, len(body)/4)
		for rest := body[2:]; len(rest) >= 4; rest = rest[4:] {
			types = append(types, binary.BigEndian.Uint32(rest))
		}
		s.mu.Lock()
		e.statement.types = types
		s.mu.Unlock()
	}
	s.forward(f.raw)
	return nil
}

// described handles RowDescription and NoData. A masked column in it means that
// the rewriting failed: nothing of its rows may leave.
func (s *session) described(e *entry, f frame) error {
	if e.kind != 'D' && e.kind != 'Q' {
		return s.bug("message %q for %q", f.kind, e.kind)
	}
	var fields []pgproto3.FieldDescription
	if f.kind == 'T' {
		var err error
		if fields, err = parseFields(f.body()); err != nil {
			return s.bug("%v", err)
		}
		s.mu.Lock()
		hidden := s.guard.hidden
		s.mu.Unlock()
		for _, field := range fields {
			if name := hidden[originOf(field)]; name != "" {
				s.log.Error("BUG: a masked column was about to leave unmasked; session cut", "column", name)
				s.core.Cut("mask_tripwire", "the answer named masked column "+name+" itself; this is a bug of the gateway")
				return errors.New("masked column in RowDescription")
			}
		}
	}
	if e.kind == 'D' {
		if e.portal != nil {
			e.portal.fields = fields
		}
		if e.statement != nil {
			s.mu.Lock()
			e.statement.fields = fields
			s.mu.Unlock()
		}
		s.pop()
	} else if e.fields = fields; e.command.Room() {
		s.text = appendHeading(s.text, fields)
	}
	if !e.hidden {
		s.forward(f.raw)
	}
	return nil
}

func originOf(f pgproto3.FieldDescription) sqlguard.Origin {
	return sqlguard.Origin{Relation: f.TableOID, Attribute: f.TableAttributeNumber}
}

// proven checks, before the first row of an answer leaves, that it was read from
// the tables that the statement was understood to read.
func (s *session) proven(e *entry) error {
	if e.understood == nil || len(e.understood.Origins) == 0 || e.proven {
		return nil
	}
	fields := e.fields
	if e.kind == 'E' {
		fields = e.portal.fields
	}
	for _, o := range e.understood.Origins {
		if slices.ContainsFunc(fields, func(f pgproto3.FieldDescription) bool { return originOf(f) == o }) {
			continue
		}
		s.watched.hurry()
		s.core.Cut("schema_changed", "others were changing the schema of the target, so that its answer could not be masked with certainty; nothing of it is shown; connect again")
		return errors.New("the answer is not from the tables that the statement was understood to read")
	}
	e.proven = true
	return nil
}

// row handles DataRow and CopyData.
func (s *session) row(e *entry, f frame) error {
	if e.kind != 'E' && e.kind != 'Q' {
		return s.bug("rows for %q", e.kind)
	}
	if err := s.proven(e); err != nil {
		return err
	}
	s.rows++
	s.bytes += int64(len(f.body()))
	if !s.writer.quiet.Load() && e.command.Room() && len(s.text) < wholeLimit {
		if e.understood != nil && e.understood.ShowsPlan() {
			s.text = append(s.text, "(a line of a plan, which may repeat what is compared with masked columns)\n"...)
		} else if f.kind == 'd' {
			s.text = append(s.text, f.body()...)
		} else {
			fields, formats := s.layout(e)
			var whole bool
			if s.text, whole = appendRow(s.text, f.body(), fields, formats); !whole {
				return s.bug("a malformed row")
			}
		}
	}
	s.forward(f.raw)
	return nil
}

// layout is what the rows of an entry look like, as far as known.
func (s *session) layout(e *entry) ([]pgproto3.FieldDescription, []int16) {
	if e.kind == 'Q' {
		return e.fields, nil
	}
	if e.fields == nil {
		s.mu.Lock()
		e.fields = e.statement.fields
		s.mu.Unlock()
	}
	return e.fields, e.portal.formats
}

// stream passes a long row on in pieces; the recording says only that there was one.
func (s *session) stream(length int) error {
	e := s.head()
	if e == nil || e.answer != nil || e.kind != 'E' && e.kind != 'Q' {
		return s.bug("a long row that nobody asked for")
	}
	if err := s.proven(e); err != nil {
		return err
	}
	s.rows++
	s.bytes += int64(length)
	if e.command.Room() {
		s.text = fmt.Appendf(s.text, "(a row of %d bytes, too long to be recorded)\n", length)
	}
	if err := s.deliver(); err != nil {
		return err
	}
	for left := headerSize + length; left > 0; {
		part, err := s.from.take(left)
		if err != nil {
			return targetError(err)
		}
		left -= len(part)
		if err := s.writer.write(part, left > 0); err != nil {
			return err
		}
	}
	return nil
}

// completed handles CommandComplete, EmptyQueryResponse and PortalSuspended.
func (s *session) completed(e *entry, f frame) error {
	if e.kind != 'E' && (e.kind != 'Q' || f.kind == 's') {
		return s.bug("message %q for %q", f.kind, e.kind)
	}
	if err := s.proven(e); err != nil {
		return err
	}
	tag := ""
	switch f.kind {
	case 'C':
		text, _, err := cString(f.body())
		if err != nil {
			return s.bug("CommandComplete: %v", err)
		}
		tag = text
		if e.part < len(e.parts) {
			s.shifted(e, e.parts[e.part])
		}
		e.part++
	case 's':
		tag = "suspended"
	}
	if e.result.Tag == "" {
		e.result.Tag = tag
	} else if e.tags++; e.tags < 16 {
		e.result.Tag += "; " + tag
	}
	s.mu.Lock()
	s.copying = false
	s.mu.Unlock()
	if e.kind == 'E' {
		e.result.Outcome = "done"
		if err := s.end(e); err != nil {
			return err
		}
		s.pop()
	}
	s.forward(f.raw)
	return nil
}

// copyBegins handles CopyInResponse and CopyOutResponse.
func (s *session) copyBegins(e *entry, f frame) error {
	if e.kind != 'E' && e.kind != 'Q' {
		return s.bug("message %q for %q", f.kind, e.kind)
	}
	s.forward(f.raw)
	if f.kind == 'G' {
		if err := s.deliver(); err != nil {
			return err
		}
		s.mu.Lock()
		s.copying = true
		s.changed.Broadcast()
		s.mu.Unlock()
	}
	return nil
}

// failed handles an error: of the head's statement, or of nothing in particular.
func (s *session) failed(e *entry, f frame) error {
	m, err := parseError(f.body())
	if err != nil {
		return s.bug("%v", err)
	}
	final := m.Severity == "FATAL" || m.SeverityUnlocalized == "FATAL" || m.SeverityUnlocalized == "PANIC"
	if e != nil && e.answer != nil {
		e.answer.err = m
		if e.answer.shared && e.answer.stopped() != nil {
			s.forward(encode(nil, e.answer.stopped().response("ERROR")))
		}
		s.fail()
		return nil
	}
	if e != nil && e.kind == kindPoison && !final {
		return s.poisoned(e, m)
	}
	if e != nil && (e.kind == 'E' || e.kind == 'Q' && e.fields != nil) && !final {
		if err := s.proven(e); err != nil {
			return err
		}
	}
	s.unfenced(m)
	s.clean(e, m)
	if !final && m.Code == "57014" {
		s.explain(e, m)
	}
	s.mu.Lock()
	s.copying = false
	s.fatal = s.fatal || final
	s.mu.Unlock()
	if e != nil && e.command != nil {
		if err := s.account(e); err != nil {
			return err
		}
		e.result.Outcome, e.result.SQLState, e.result.Message = s.outcome(m.Code), m.Code, m.Message
		if e.kind == 'E' || final {
			if err := s.end(e); err != nil {
				return err
			}
		}
	}
	if e != nil && !final && e.kind != 'S' && e.kind != 'Q' {
		s.fail()
	}
	s.forward(encode(nil, m))
	return nil
}

// unfenced looks at an error for what it says of the schema: a fence of the guard's
// that failed is explained, and a name that is missing makes the session look again.
func (s *session) unfenced(m *pgproto3.ErrorResponse) {
	if !s.masked {
		return
	}
	switch m.Code {
	case "42P01", "42703", "42P10":
		s.watched.hurry()
	}
	if why := sqlguard.FenceError(m.Code, m.Message); why != "" {
		s.watched.hurry()
		m.Code, m.Message, m.Hint, m.Position = "40001", why, "", 0
	}
}

// poisoned turns the target's complaint about the impossible portal into the denial that it stands for.
func (s *session) poisoned(e *entry, m *pgproto3.ErrorResponse) error {
	switch m.Code {
	case "34000":
		m = e.poison.response("ERROR")
	case "57014": // a cancel or timeout came first
		s.clean(nil, m)
	default:
		return s.bug("SQLSTATE %s for a portal that cannot exist", m.Code)
	}
	s.fail()
	s.forward(encode(nil, m))
	return nil
}

// clean makes an error or notice fit to leave: positions count in what the
// client sent, and on a masked connection no field carries a value.
func (s *session) clean(e *entry, m *pgproto3.ErrorResponse) {
	if e != nil && e.understood != nil && m.Position > 0 {
		m.Position = int32(e.understood.MapPosition(int(m.Position)))
	}
	if s.masked {
		scrub(m, e == nil || e.understood == nil || e.understood.ScrubErrors)
	}
}

// notice handles NoticeResponse.
func (s *session) notice(f frame) error {
	e := s.head()
	s.mu.Lock()
	early := s.greeting != nil
	s.mu.Unlock()
	if early || e != nil && e.answer != nil {
		return nil
	}
	m, err := parseError(f.body())
	if err != nil {
		return s.bug("%v", err)
	}
	s.clean(e, m)
	s.forward(encode(nil, (*pgproto3.NoticeResponse)(m)))
	return nil
}

// notification handles NotificationResponse. Its payload comes from other
// sessions, which no mask has seen.
func (s *session) notification(f frame) error {
	if !s.masked {
		s.forward(f.raw)
		return nil
	}
	var m pgproto3.NotificationResponse
	if err := m.Decode(f.body()); err != nil {
		return s.bug("NotificationResponse: %v", err)
	}
	m.Payload = ""
	s.forward(encode(nil, &m))
	return nil
}

// parameter handles ParameterStatus. A pinned setting that changed means that
// the target reads statements otherwise than the gateway.
func (s *session) parameter(f frame) error {
	name, rest, err := cString(f.body())
	if err != nil {
		return s.bug("ParameterStatus: %v", err)
	}
	value, _, err := cString(rest)
	if err != nil {
		return s.bug("ParameterStatus: %v", err)
	}
	if want, pinned := pinnedSettings[strings.ToLower(name)]; pinned && value != want {
		s.core.Cut("setting_changed", "the target changed "+name+", which must stay "+want)
		return errors.New("a pinned setting changed")
	}
	s.mu.Lock()
	early := s.greeting != nil
	if early {
		s.greeting[name] = value
	}
	s.mu.Unlock()
	if !early {
		s.forward(f.raw)
	}
	return nil
}

// readyForQuery handles ReadyForQuery: a simple Query or a group has ended.
func (s *session) readyForQuery(e *entry, f frame) error {
	if e.kind != 'S' && e.kind != 'Q' || len(f.body()) != 1 {
		return s.bug("ReadyForQuery for %q", e.kind)
	}
	if e.kind == 'Q' {
		if e.result.Outcome == "" {
			e.result.Outcome = "done"
		}
		if err := s.end(e); err != nil {
			return err
		}
	}
	s.boundary(e, f.body()[0])
	s.forward(f.raw)
	return nil
}

// boundary notes the transaction's state behind a ReadyForQuery and removes the head.
func (s *session) boundary(e *entry, status byte) {
	s.mu.Lock()
	s.status, s.copying = status, false
	if e.kind == 'Q' { // which destroys the unnamed ones
		if st := s.statements[""]; st != nil && st.group <= e.group {
			delete(s.statements, "")
		}
		if p := s.portals[""]; p != nil && p.group <= e.group {
			delete(s.portals, "")
		}
	}
	if status == 'I' {
		for name, p := range s.portals {
			if p.group <= e.group {
				delete(s.portals, name)
			}
		}
		s.dirty, s.stale = s.dirty || s.touched, s.stale || s.altered
		s.touched, s.altered = false, false
	}
	s.mu.Unlock()
	s.pop()
}

// own collects the answer to a query of the gateway's own.
func (s *session) own(e *entry, f frame) error {
	switch f.kind {
	case '1', '2', '3', 'C':
		s.pop()
	case 'Z':
		if len(f.body()) != 1 {
			return s.bug("a malformed ReadyForQuery")
		}
		s.boundary(e, f.body()[0])
	case 'D':
		row, err := texts(f.body())
		if err != nil {
			return s.bug("%v", err)
		}
		e.answer.rows = append(e.answer.rows, row)
	default:
		return s.bug("message %q for a query of the gateway's own", f.kind)
	}
	return nil
}

// texts reads a DataRow in text format; NULL is "".
func texts(body []byte) ([]string, error) {
	rest, err := skipValues(body)
	if err != nil || len(rest) != 0 {
		return nil, fmt.Errorf("%w: DataRow", errMessage)
	}
	var m pgproto3.DataRow
	if err := m.Decode(body); err != nil {
		return nil, err
	}
	row := make([]string, len(m.Values))
	for i, v := range m.Values {
		row[i] = string(v)
	}
	return row, nil
}
