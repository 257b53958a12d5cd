package postgres

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/sallyport-dev/sallyport/gatewayd"
)

// limitStates are the SQLSTATEs by which a client can tell limits apart. All other denials and cuts share one each.
var limitStates = map[string]string{
	"session_count_limit": "53300", // too_many_connections
	"session_limit":       "57P03", // cannot_connect_now: not for longer than this
	"idle_limit":          "57P05", // idle_session_timeout
	"statement_limit":     "57014", // query_canceled
	"row_limit":           "54000", // program_limit_exceeded
	"byte_limit":          "53400", // configuration_limit_exceeded
	"lookup_limit":        "53000", // insufficient_resources
	"command_count_limit": "53001", // of that class; PostgreSQL has no such limit
}

// stateOf is the SQLSTATE of a denial or cut.
func stateOf(err error, other string) string {
	rule := ""
	if denied := (*gatewayd.Denied)(nil); errors.As(err, &denied) {
		rule = denied.Rule
	} else if cut := (*gatewayd.Cut)(nil); errors.As(err, &cut) {
		rule = cut.Rule
	}
	if state := limitStates[rule]; state != "" {
		return state
	}
	return other
}

// timeStep is how often running statements are looked at. They get so much more than their limit.
const timeStep = 100 * time.Millisecond

// keepTime cancels statements that run for longer than the review allows, until
// the session ends. The time that one waits for others of its pipeline is not counted.
func (s *session) keepTime() {
	tick := time.NewTicker(timeStep)
	defer tick.Stop()
	for {
		select {
		case <-s.life.Done():
			return
		case now := <-tick.C:
			if limit := s.core.Limits().Statement.Std(); limit > 0 {
				s.checkTime(now, limit)
			}
		}
	}
}

func (s *session) checkTime(now time.Time, limit time.Duration) {
	s.mu.Lock()
	first := slices.IndexFunc(s.pending, func(e *entry) bool { return e.command != nil })
	if first < 0 {
		s.mu.Unlock()
		return
	}
	e := s.pending[first] // what comes before it takes no time
	if e.began.IsZero() {
		e.began = now
	}
	ran, again := now.Sub(e.began), e.overrun
	e.overrun = ran >= limit
	s.mu.Unlock()
	switch {
	case ran < limit:
	case !again:
		s.sending.Lock()
		defer s.sending.Unlock()
		if !s.isPending(e) {
			return
		}
		if err := s.back.cancel(s.life); err != nil {
			s.log.Warn("cancel a statement that ran too long", "error", err)
		}
	case ran >= limit+endTimeout:
		s.core.Cut("statement_limit", overrunReason(limit)+", and the target does not stop it")
	}
}

func (s *session) isPending(e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.pending, e)
}

func overrunReason(limit time.Duration) string {
	return fmt.Sprintf("the review allows a statement %s", limit)
}

// explain says in a cancelled statement's error that it ran too long.
func (s *session) explain(e *entry, m *pgproto3.ErrorResponse) {
	if e == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.overrun {
		m.Message = overrunReason(s.core.Limits().Statement.Std()) + " (rule statement_limit)"
		m.Hint = "make it shorter, or ask for more: limits.statement of the review"
	}
}
