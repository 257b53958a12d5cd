package forge

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// Whatever makes somebody ask another host, or the same one in the open, the token does not go there.
func TestTransportKnowsOneHost(t *testing.T) {
	asked := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer server.Close()
	for _, home := range []string{"https://git.example.com", strings.Replace(server.URL, "http:", "https:", 1), strings.Replace(server.URL, "127.0.0.1", "127.0.0.2", 1)} {
		api, err := url.Parse(home)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newTransport(api, "token", "secret").client().Get(server.URL); err == nil || !strings.Contains(err.Error(), "refused to ask") {
			t.Errorf("%s: %v", home, err)
		}
	}
	if asked {
		t.Error("another host was asked")
	}
}
