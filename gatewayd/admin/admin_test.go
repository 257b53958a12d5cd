package admin

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/gatewayd"
)

// A mask that makes a relation unreadable is told where a gateway is ready all the same.
func TestReadyzTellsMasks(t *testing.T) {
	report := Report{Status: gatewayd.Status{Ready: true}}
	server := httptest.NewServer(Handler(func() Report { return report }))
	defer server.Close()
	ask := func() (int, string) {
		t.Helper()
		r, err := http.Get(server.URL + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body := new(strings.Builder)
		if err := r.Write(body); err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, body.String()
	}
	if code, body := ask(); code != http.StatusOK || strings.Contains(body, "unreadable") {
		t.Error(code, body)
	}
	report.Unreadable = []gatewayd.Unreadable{{Connection: "orders-db", Problems: []string{`mask app.customers.mail: relation app.customers has no column "mail"`}}}
	if code, body := ask(); code != http.StatusOK || !strings.Contains(body, "unreadable: connection orders-db: mask app.customers.mail") {
		t.Error(code, body)
	}
	report.Ready, report.NextAction = false, "see lastError"
	if code, body := ask(); code != http.StatusServiceUnavailable || !strings.Contains(body, "see lastError") {
		t.Error(code, body)
	}
}
