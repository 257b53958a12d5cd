package postgres

import (
	"slices"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
)

// Kinds of entry beside the types of the messages that they stand for: P, B, D, E, C, S, Q.
const kindPoison = 'X'

// entry is one message that went to the target and that the target will answer.
type entry struct {
	kind  byte
	group int // which Sync it belongs to

	command    *gatewayd.Command // of E and Q
	statement  *statement        // of P, B, D and E
	understood *sqlguard.Statement
	portal     *portal // of E
	parts      []sqlguard.Part
	part       int  // index of the statement that is being answered
	shifts     bool // it may change what later statements mean
	poison     *failure
	proven     bool    // the answer is from where it was understood to be
	hidden     bool    // the client did not ask for the answer and does not get it
	undo       func()  // takes back what the client side noted when it was sent
	answer     *answer // set on the gateway's own queries: nothing of it goes to the client

	began   time.Time                   // when the target could begin with it, once the time keeper has seen it
	overrun bool                        // it was cancelled because it ran too long; guarded by session.mu
	fields  []pgproto3.FieldDescription // of the rows that flow now
	result  record.Result
	tags    int
}

// answer collects what a query of the gateway's own returns.
type answer struct {
	shared bool // the query is in a group of the client's, which its failure fails
	maybe  bool // it may have no rows
	rows   [][]string
	err    *pgproto3.ErrorResponse
}

// stopped is why the query was stopped by what the client wanted: a cancel
// request or a timeout that it set. nil when it was not.
func (a *answer) stopped() *failure {
	if a.err == nil || a.err.Code != "57014" && a.err.Code != "55P03" {
		return nil
	}
	return &failure{code: a.err.Code, message: a.err.Message}
}

// statement is a prepared statement of the extended protocol.
type statement struct {
	name       string
	text       string
	group      int
	confirmed  bool // the target has said so; guarded by session.mu
	understood *sqlguard.Statement
	types      []uint32                    // of parameters; guarded by session.mu
	fields     []pgproto3.FieldDescription // once described; guarded by session.mu
	recorded   bool                        // its text is in the journal
}

// portal is a statement with its parameters.
type portal struct {
	group      int
	confirmed  bool // guarded by session.mu
	statement  *statement
	described  bool                        // its answer's description goes before its rows
	fields     []pgproto3.FieldDescription // of that description; owned by the goroutine that reads the target
	parameters []string                    // as they may be recorded
	formats    []int16                     // of result columns
}

// push notes a message that is about to be sent. It reports false when the
// target is skipping to the next Sync and would ignore it: then do not send it.
func (s *session) push(e *entry) bool {
	s.mu.Lock()
	if s.skipGroup == e.group && e.kind != 'S' {
		s.mu.Unlock()
		s.skipped(e)
		return false
	}
	s.pending = append(s.pending, e)
	s.mu.Unlock()
	return true
}

// head is the entry that the target answers now, nil when there is none.
func (s *session) head() *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) == 0 {
		return nil
	}
	return s.pending[0]
}

// pop removes the head.
func (s *session) pop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending[0] = nil
	s.pending = s.pending[1:]
	if len(s.pending) == 0 {
		s.pending = nil
	}
	s.changed.Broadcast()
}

// fail removes the head, which failed, and everything that the target skips because of it.
func (s *session) fail() {
	s.mu.Lock()
	group := s.pending[0].group
	end := slices.IndexFunc(s.pending, func(e *entry) bool { return e.group != group || e.kind == 'S' })
	if end < 0 {
		end = len(s.pending)
		s.skipGroup = group
	}
	gone := slices.Clone(s.pending[:end])
	s.pending = slices.Clone(s.pending[end:])
	s.mu.Unlock()
	for i := len(gone) - 1; i >= 1; i-- {
		s.skipped(gone[i])
	}
	if gone[0].undo != nil {
		gone[0].undo()
	}
	s.mu.Lock()
	s.changed.Broadcast()
	s.mu.Unlock()
}

// skipped ends an entry that the target never looked at.
func (s *session) skipped(e *entry) {
	if e.undo != nil {
		e.undo()
	}
	if e.command != nil {
		e.command.End(record.Result{Outcome: "failed", Message: "not run: an earlier message of the pipeline failed"})
	}
}

// busy reports whether the target has something to answer.
func (s *session) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending) > 0
}

// shifting reports whether something that may change the meaning of later statements is unanswered.
func (s *session) shifting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.pending, func(e *entry) bool { return e.shifts })
}

// skippingNow reports whether the target ignores what the client sends now.
func (s *session) skippingNow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.skipGroup == s.group
}
