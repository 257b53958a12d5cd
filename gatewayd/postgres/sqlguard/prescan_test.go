package sqlguard

import (
	"strings"
	"testing"
)

// The branches of a CASE stand beside each other, however many they are; what a
// chain has before, between and behind them still counts, and so does all that only looks like a CASE.
func TestDepthOfCase(t *testing.T) {
	whens := strings.Repeat("when a = 1 then 'x' ", 3000)
	for text, ok := range map[string]bool{
		"select case " + whens + "end":                                                                                       true,
		"select case " + whens + "else case " + whens + "end end from t":                                                     true,
		"select (case a " + whens + "end), case a " + whens + "end":                                                          true,
		"select " + strings.Repeat("a + ", 3000) + "case " + whens + "end" + strings.Repeat(" + a", 1500):                    false,
		"select case when " + strings.Repeat("a + ", 2600) + "a then 1 when a then 2 end":                                    false,
		"select case when a then 1 when " + strings.Repeat("a + ", 1500) + "a then 2 end" + strings.Repeat(" + a", 1500):     false,
		"select case when a then 1 end + " + strings.Repeat("a.when + ", 1500) + "a":                                         false,
		"select 1 as case, " + strings.Repeat("a.when + ", 1500) + "a":                                                       false,
		"select a.case + " + strings.Repeat("a.when + ", 1500) + "a":                                                         false,
		"select 1 case from t where " + strings.Repeat("a + ", 2600) + "a = 1":                                               false,
		"insert into t select 1 case from t where " + strings.Repeat("a + ", 2600) + "a = 1 returning 1 when":                false,
		"select " + strings.Repeat("case when a then ", 201) + "1" + strings.Repeat(" end", 201):                             false,
		"select case when a then (" + strings.Repeat("a + ", 2600) + "a) when b then 1 end":                                  false,
		"select case " + strings.Repeat("when (select a from t where a = 1 and b in (1, 2)) > 1 then 1 ", 1000) + "end as x": true,
	} {
		if got := prescan(text) == ""; got != ok {
			t.Errorf("%.60s … %.40s: passes %v, want %v", text, text[len(text)-40:], got, ok)
		}
	}
}
