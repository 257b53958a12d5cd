package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgproto3/v2"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
)

const (
	outLimit   = 256 << 10 // how much is gathered before it is written to the target
	streamFrom = 64 << 10  // a longer CopyData message is passed on in pieces
)

// serve reads what the client sends until the session ends.
func (s *session) serve() error {
	for {
		if !s.in.ready() || len(s.out) > outLimit {
			if err := s.flush(); err != nil {
				return err
			}
		}
		if s.stopping.Load() {
			return context.Cause(s.core.Context())
		}
		kind, length, err := s.in.header()
		if err != nil {
			return readError(err)
		}
		if kind == 'd' && length > streamFrom {
			err = s.copyStream(length)
		} else {
			var f frame
			if f, err = s.in.next(); err != nil {
				return readError(err)
			}
			err = s.receive(f)
		}
		if err != nil {
			return err
		}
	}
}

// receive handles one message of the client's.
func (s *session) receive(f frame) error {
	switch {
	case f.kind == 'X':
		if err := s.flush(); err != nil {
			return err
		}
		return errTerminated
	case f.kind == 'd' || f.kind == 'c' || f.kind == 'f':
		return s.copyMessage(f)
	case s.isCopying():
		return s.duringCopy(f)
	case f.kind == 'S':
		return s.sync()
	case s.dropping || s.skippingNow():
		return nil
	}
	switch f.kind {
	case 'Q':
		return s.query(f)
	case 'P':
		return s.parse(f)
	case 'B':
		return s.bind(f)
	case 'D':
		return s.describe(f)
	case 'E':
		return s.execute(f)
	case 'C':
		return s.close(f)
	case 'H':
		s.out = append(s.out, flushMessage...)
		return s.flush()
	case 'F':
		return s.refuseNow("(a FunctionCall message)", "function_call_unsupported", "FunctionCall messages are not supported: write select function(…)")
	}
	return s.refuseNow(fmt.Sprintf("(a message of type %q)", f.kind), "message_unsupported", fmt.Sprintf("messages of type %q are not supported", f.kind))
}

// send queues a message for the target unless the target would ignore it.
func (s *session) send(e *entry, raw []byte) {
	e.group = s.group
	if e.kind != 'S' && e.kind != 'Q' {
		s.open = true
	}
	if s.push(e) {
		s.out = append(s.out, raw...)
	}
}

// flush makes what was started durable and writes what is queued to the target.
func (s *session) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	for _, st := range s.unrecorded {
		if st.recorded {
			continue
		}
		if err := s.core.Event("parse", st.understood.Recorded); err != nil {
			s.core.Cut("recording_unavailable", "the session can no longer be recorded")
			return err
		}
		st.recorded, s.durable = true, false
	}
	s.unrecorded = s.unrecorded[:0]
	if !s.durable {
		if err := s.core.Barrier(s.core.Context()); err != nil {
			return err
		}
		s.durable = true
	}
	s.sending.Lock()
	//lint:ignore SA2001 it only waits: a cancel request on its way is for what was sent before
	s.sending.Unlock()
	err := s.writeTarget(s.out)
	s.out = s.out[:0]
	if cap(s.out) > 4*outLimit {
		s.out = nil
	}
	return err
}

// writeTarget writes, and notices a client that dies while the target takes nothing.
func (s *session) writeTarget(b []byte) error {
	s.midFrame = true
	if len(b) > 32<<10 {
		defer s.watch()()
	}
	if _, err := s.back.conn.Write(b); err != nil {
		if cause := context.Cause(s.core.Context()); cause != nil {
			return cause
		}
		return fmt.Errorf("%w: %w", errTargetGone, err)
	}
	s.midFrame = false
	return nil
}

// settle waits until the target has answered everything that was sent.
func (s *session) settle() error {
	if s.open {
		s.out = append(s.out, flushMessage...)
	}
	if err := s.flush(); err != nil {
		return err
	}
	return s.await(func() bool { return len(s.pending) == 0 })
}

// sync ends a group of messages.
func (s *session) sync() error {
	s.dropping = false
	s.send(&entry{kind: 'S'}, syncMessage)
	s.group++
	s.open = false
	return s.flush()
}

// plan understands and decides a text as it means now.
func (s *session) plan(text string) (*gatewayd.Plan, *sqlguard.Statement, error) {
	if err := s.current(); err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	if s.meaning == "" {
		s.meaning = s.guard.key + s.scope.Key()
	}
	g, scope, meaning := s.guard, s.scope, s.meaning
	s.mu.Unlock()
	p, err := s.core.Plan(gatewayd.Statement{Text: text, Scope: meaning}, func(text string) gatewayd.Understood {
		return s.server.understand(g.Guard, text, scope, meaning)
	})
	if err != nil {
		return nil, nil, err
	}
	return p, p.Payload.(*sqlguard.Statement), nil
}

// understand is the classifier of this engine. meaning names guard and scope.
func (v *server) understand(g *sqlguard.Guard, text string, scope sqlguard.Scope, meaning string) gatewayd.Understood {
	st, known := sqlguard.Statement{}, false
	skeleton := sqlguard.SkeletonOf(text)
	key := shapeKey{meaning, skeleton.Key}
	if shape, found := v.shapes.Get(key); found {
		st, known = shape.Understand(text, skeleton)
	}
	if !known {
		st = g.Understand(text, scope)
		if shape := g.Shape(st); shape != nil {
			v.shapes.Add(key, shape)
		}
	}
	u := gatewayd.Understood{Command: st.Command, Recorded: st.Recorded, Payload: &st, Lookups: st.Lookups}
	if st.Rewritten != text {
		u.Sent = st.RecordedRewritten
	}
	return u
}

// current sees to it that scope and catalog are those that the next statement will meet.
func (s *session) current() error {
	if s.shifting() {
		if err := s.settle(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	failed := s.status == 'E'
	s.mu.Unlock()
	if failed {
		return nil // nothing can be asked, and nothing runs
	}
	if err := s.look(); err != nil {
		return err
	}
	changes := s.watched.count()
	s.mu.Lock()
	s.stale = s.stale || s.masked && changes != s.changes
	s.changes = changes
	again, catalog := s.dirty || s.stale, s.stale
	s.mu.Unlock()
	if !again {
		return nil
	}
	return s.refresh(catalog)
}

// query handles a simple Query.
func (s *session) query(f frame) error {
	text, err := parseQuery(f.body())
	if err != nil {
		return err
	}
	if s.open { // only when all is answered is it known whether the target ignores this
		if err := s.settle(); err != nil {
			return err
		}
		if s.skippingNow() {
			return nil
		}
	}
	plan, understood, err := s.examine(text)
	if err != nil {
		return s.denyQuery(err)
	}
	s.secrets.remember(understood.Secrets...)
	command, err := s.core.Start(s.core.Context(), plan, gatewayd.Args{})
	if err != nil {
		return s.denyQuery(err)
	}
	s.durable = false
	e := &entry{kind: 'Q', command: command, understood: understood, parts: understood.Parts, shifts: s.shifts(understood.Parts)}
	s.send(e, encode(nil, &pgproto3.Query{String: understood.Rewritten}))
	s.group++
	s.open = false
	if err := s.flush(); err != nil {
		return err
	}
	return s.awaitCopy(e)
}

// examine checks a text's encoding and plans it.
func (s *session) examine(text string) (*gatewayd.Plan, *sqlguard.Statement, error) {
	if !utf8.ValidString(text) {
		return nil, nil, &failure{code: "22021", message: "the statement is not valid UTF-8"}
	}
	return s.plan(text)
}

// shifts says whether statements may change what later ones mean.
func (s *session) shifts(parts []sqlguard.Part) bool {
	s.mu.Lock()
	touched := s.touched
	s.mu.Unlock()
	for _, p := range parts {
		switch p.Kind {
		case sqlguard.KindCommit, sqlguard.KindRollback, sqlguard.KindRollbackTo:
			if touched {
				return true
			}
		default:
			if scope, _ := effect(p); scope || renames(p) {
				return true
			}
		}
	}
	return false
}

// parse handles Parse: the statement is decided here for the first time.
func (s *session) parse(f frame) error {
	m, err := parseParse(f.body())
	if err != nil {
		return err
	}
	_, understood, err := s.examine(m.Query)
	if err != nil {
		return s.deny(err)
	}
	st := &statement{name: m.Name, text: m.Query, group: s.group, understood: understood, types: m.ParameterOIDs}
	m.Query = understood.Rewritten
	e := &entry{kind: 'P', statement: st, understood: understood}
	e.undo = s.note(s.statements, m.Name, st)
	s.unrecorded = append(s.unrecorded, st)
	s.send(e, encode(nil, m))
	return nil
}

// note sets a name and returns what takes that back, unless it was set anew meanwhile.
func (s *session) note(names map[string]*statement, name string, st *statement) (undo func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := names[name]
	set(names, name, st)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if names[name] == st {
			set(names, name, before)
		}
	}
}

func set(names map[string]*statement, name string, st *statement) {
	if st == nil {
		delete(names, name)
	} else {
		names[name] = st
	}
}

// lookup finds what a statement's name means at the target. A Parse of an
// earlier group may have failed there and left an older statement of that name:
// then the answer is awaited first.
func (s *session) lookup(name string) (*statement, error) {
	find := func() (st *statement, sure bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		st = s.statements[name]
		return st, st != nil && (st.confirmed || st.group == s.group) || len(s.pending) == 0
	}
	st, sure := find()
	if sure && !s.shifting() {
		return st, nil
	}
	if err := s.settle(); err != nil {
		return nil, err
	}
	st, _ = find()
	return st, nil
}

func (s *session) lookupPortal(name string) (*portal, error) {
	find := func() (p *portal, sure bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		p = s.portals[name]
		return p, p != nil && (p.confirmed || p.group == s.group) || len(s.pending) == 0
	}
	p, sure := find()
	if sure && !s.shifting() {
		return p, nil
	}
	if err := s.settle(); err != nil {
		return nil, err
	}
	p, _ = find()
	return p, nil
}

// bind handles Bind.
func (s *session) bind(f frame) error {
	m, err := parseBind(f.body())
	if err != nil {
		return err
	}
	st, err := s.lookup(m.PreparedStatement)
	if err != nil {
		return err
	}
	if s.skippingNow() {
		return nil
	}
	if st == nil {
		return s.deny(&failure{code: "26000", message: fmt.Sprintf("prepared statement %q does not exist", m.PreparedStatement)})
	}
	p := &portal{group: s.group, statement: st, formats: m.ResultFormatCodes}
	p.parameters = s.recordable(m, st)
	e := &entry{kind: 'B', statement: st, understood: st.understood, portal: p}
	e.undo = s.notePortal(m.DestinationPortal, p)
	s.send(e, f.raw)
	return nil
}

func (s *session) notePortal(name string, p *portal) (undo func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.portals[name]
	setPortal(s.portals, name, p)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.portals[name] == p {
			setPortal(s.portals, name, before)
		}
	}
}

func setPortal(portals map[string]*portal, name string, p *portal) {
	if p == nil {
		delete(portals, name)
	} else {
		portals[name] = p
	}
}

// execute handles Execute: the statement is decided again, as it means now.
func (s *session) execute(f frame) error {
	name, err := parseExecute(f.body())
	if err != nil {
		return err
	}
	p, err := s.lookupPortal(name)
	if err != nil {
		return err
	}
	if s.skippingNow() {
		return nil
	}
	if p == nil {
		return s.deny(&failure{code: "34000", message: fmt.Sprintf("portal %q does not exist", name)})
	}
	plan, understood, err := s.plan(p.statement.text)
	if err != nil {
		return s.deny(err)
	}
	if understood.Rewritten != p.statement.understood.Rewritten {
		return s.deny(&failure{code: "26000", message: fmt.Sprintf("prepared statement %q means something else now: the schema or the search path has changed; prepare it again", p.statement.name)})
	}
	s.secrets.remember(understood.Secrets...)
	command, err := s.core.Start(s.core.Context(), plan, gatewayd.Args{Parameters: p.parameters})
	if err != nil {
		return s.deny(err)
	}
	p.statement.recorded, s.durable = true, false
	if len(understood.Origins) > 0 && !p.described {
		s.send(&entry{kind: 'D', statement: p.statement, portal: p, understood: understood, hidden: true}, encode(nil, &pgproto3.Describe{ObjectType: 'P', Name: name}))
		p.described = true
	}
	e := &entry{kind: 'E', command: command, statement: p.statement, understood: understood, portal: p,
		parts: understood.Parts, shifts: s.shifts(understood.Parts)}
	s.send(e, f.raw)
	if s.core.Limits().Statement > 0 { // else the target keeps it to itself when a statement has ended
		s.out = append(s.out, flushMessage...)
	}
	return s.awaitCopy(e)
}

// describe handles Describe. A name that only the target knows, a cursor say, is the target's to answer.
func (s *session) describe(f frame) error {
	t, err := parseTarget(f.body())
	if err != nil {
		return err
	}
	e := &entry{kind: 'D'}
	if t.kind == 'S' {
		e.statement, err = s.lookup(t.name)
	} else if e.portal, err = s.lookupPortal(t.name); e.portal != nil {
		e.statement = e.portal.statement
	}
	if err != nil {
		return err
	}
	if e.statement != nil {
		e.understood = e.statement.understood
	}
	if e.portal != nil {
		e.portal.described = true
	}
	s.send(e, f.raw)
	return nil
}

// close handles Close.
func (s *session) close(f frame) error {
	t, err := parseTarget(f.body())
	if err != nil {
		return err
	}
	e := &entry{kind: 'C'}
	if t.kind == 'S' {
		e.undo = s.note(s.statements, t.name, nil)
	} else {
		e.undo = s.notePortal(t.name, nil)
	}
	s.send(e, f.raw)
	return nil
}

// deny puts the poison in the place of a message of the extended protocol: the
// target itself fails there, rolls back and skips to Sync. Errors that are no
// denial end the session.
func (s *session) deny(err error) error {
	f, err := asFailure(err)
	if err != nil {
		return err
	}
	s.dropping = true
	s.durable = false // a denial is durable before the client hears of it
	s.send(&entry{kind: kindPoison, poison: f}, encode(nil, &pgproto3.Execute{Portal: s.poison}))
	return nil
}

// denyQuery is deny for a simple Query, which is its own Sync.
func (s *session) denyQuery(err error) error {
	if err := s.deny(err); err != nil {
		return err
	}
	return s.sync()
}

// refuseNow denies a message that is answered like a simple Query.
func (s *session) refuseNow(what, rule, reason string) error {
	if s.open {
		if err := s.settle(); err != nil {
			return err
		}
		if s.skippingNow() {
			return nil
		}
	}
	return s.denyQuery(s.core.Refuse(what, rule, reason))
}

// asFailure is the error that the client gets for a denial. Anything else ends the session.
func asFailure(err error) (*failure, error) {
	var denied *gatewayd.Denied
	if errors.As(err, &denied) {
		return &failure{code: stateOf(denied, "42501"), message: denied.Error(), hint: denied.Next}, nil
	}
	var f *failure
	if errors.As(err, &f) {
		return f, nil
	}
	return nil, err
}

func (s *session) isCopying() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copying
}

// awaitCopy waits, behind a COPY FROM STDIN, until the target takes data or has
// answered otherwise: nothing else may be sent into a COPY.
func (s *session) awaitCopy(e *entry) error {
	copies := false
	for _, p := range e.parts {
		copies = copies || p.Kind == sqlguard.KindCopyIn
	}
	if !copies {
		return nil
	}
	if e.kind == 'E' {
		s.out = append(s.out, flushMessage...)
		if err := s.flush(); err != nil {
			return err
		}
	}
	return s.await(func() bool { return s.copying || len(s.pending) == 0 })
}

// copyMessage passes on CopyData, CopyDone and CopyFail; outside of a COPY they mean nothing.
func (s *session) copyMessage(f frame) error {
	if !s.isCopying() {
		return nil
	}
	if f.kind == 'd' {
		s.copied.add(f.body())
		s.out = append(s.out, f.raw...)
		return nil
	}
	if err := s.recordCopy(); err != nil {
		return err
	}
	s.out = append(s.out, f.raw...)
	return s.endCopy()
}

// copied is what a client has sent into a COPY FROM STDIN.
type copied struct {
	sum   hash.Hash // sha256, framing left out; nil: nothing yet
	bytes int64
}

func (c *copied) add(b []byte) {
	if c.sum == nil {
		c.sum = sha256.New()
	}
	c.sum.Write(b)
	c.bytes += int64(len(b))
}

// recordCopy records how much went into a COPY and its digest, before the
// target is told that this was all: without the record it takes no row. A digest
// of data that may hold masked values is made under the gateway's key, so that they cannot be guessed.
func (s *session) recordCopy() error {
	c := s.copied
	s.copied = copied{}
	if c.sum == nil {
		c.add(nil)
	}
	digest := "sha256:" + hex.EncodeToString(c.sum.Sum(nil))
	if len(s.core.Masks()) > 0 {
		digest = s.server.options.Digest(digest)
	}
	of := ""
	if e := s.head(); e != nil && e.command != nil {
		of = fmt.Sprintf("command %d: ", e.command.Number())
	}
	if err := s.core.Event("copy_in", fmt.Sprintf("%s%d bytes, %s", of, c.bytes, digest)); err != nil {
		s.core.Cut("recording_unavailable", "the session can no longer be recorded")
		return err
	}
	s.durable = false
	return nil
}

// endCopy waits until the target knows that the data is complete, when the same
// query may have another COPY.
func (s *session) endCopy() error {
	s.mu.Lock()
	s.copying = false
	e := (*entry)(nil)
	if len(s.pending) > 0 {
		e = s.pending[0]
	}
	s.mu.Unlock()
	if err := s.flush(); err != nil {
		return err
	}
	if e == nil || e.kind != 'Q' {
		return nil
	}
	return s.await(func() bool { return s.copying || len(s.pending) == 0 })
}

// duringCopy handles what else a client sends into a COPY: Flush and Sync mean
// nothing there, everything else fails it, as at the server itself.
func (s *session) duringCopy(f frame) error {
	if f.kind == 'H' || f.kind == 'S' {
		return nil
	}
	if err := s.recordCopy(); err != nil {
		return err
	}
	s.out = append(s.out, encode(nil, &pgproto3.CopyFail{Message: fmt.Sprintf("unexpected message type %q during COPY from stdin", f.kind)})...)
	return s.endCopy()
}

// copyStream passes a long CopyData message on in pieces.
func (s *session) copyStream(length int) error {
	copying := s.isCopying()
	if err := s.flush(); err != nil {
		return err
	}
	for left := headerSize + length; left > 0; {
		part, err := s.in.take(left)
		if err != nil {
			s.midFrame = copying
			return readError(err)
		}
		if copying {
			s.copied.add(part[min(max(0, left-length), len(part)):])
		}
		left -= len(part)
		if !copying {
			continue
		}
		if err := s.writeTarget(append(s.out[:0], part...)); err != nil {
			return err
		}
		s.midFrame = left > 0
	}
	return nil
}

// recordable is a Bind's parameters in the form in which they are recorded.
func (s *session) recordable(m *pgproto3.Bind, st *statement) []string {
	if len(m.Parameters) == 0 {
		return nil
	}
	s.mu.Lock()
	types := st.types
	s.mu.Unlock()
	sensitive := map[int]bool{}
	for _, n := range st.understood.SensitiveParameters {
		sensitive[n] = true
	}
	out := make([]string, len(m.Parameters))
	for i, value := range m.Parameters {
		text := "NULL"
		format, oid := formatOf(m.ParameterFormatCodes, i), typeOf(types, i)
		switch {
		case value == nil:
		case sensitive[i+1]:
			plain := readable(value, format, oid)
			s.secrets.remember(plain)
			text = s.server.options.Digest(plain)
		case len(value) > parameterLimit:
			text = clip(readable(value[:parameterLimit], format, oid), len(value))
		default:
			text = readable(value, format, oid)
		}
		out[i] = text
	}
	return out
}

// parameterLimit is how much of a parameter is recorded, in bytes.
const parameterLimit = 4 << 10

// clip bounds a recorded parameter, which was of n bytes.
func clip(s string, n int) string {
	return strings.ToValidUTF8(s[:min(parameterLimit, len(s))], "") + fmt.Sprintf("… (%d bytes)", n)
}
