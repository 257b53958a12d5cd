package reviews

import (
	"errors"
	"regexp"
	"strings"
	"time"
)

// Duration is a positive span of time that documents write as hours, minutes and
// seconds: "30m", "1h30m", "720h". Its zero value means "not set".
type Duration time.Duration

var durationForm = regexp.MustCompile(`^([0-9]{1,7}h)?([0-9]{1,9}m)?([0-9]{1,9}s)?$`)

var errDuration = errors.New(`this is not a duration; write hours, minutes and seconds, such as "30m", "1h30m" or "720h"`)

// UnmarshalText accepts the one written form. Zero and negative spans are errors.
func (d *Duration) UnmarshalText(text []byte) error {
	if len(text) == 0 || !durationForm.Match(text) {
		return errDuration
	}
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return errDuration
	}
	if v <= 0 {
		return errors.New("a duration has to be longer than zero; delete it where none is wanted")
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes the shortest form that UnmarshalText reads back.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String is the written form, without zero parts; "0s" when not set.
func (d Duration) String() string {
	s := time.Duration(d).Truncate(time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Std is the duration as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }
