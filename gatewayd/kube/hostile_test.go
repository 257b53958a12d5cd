package kube

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/gatewayd/kube/jsonmask"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
)

const wide = `
  allow:
    - {verbs: [get, list, watch, create, update, patch, delete, deletecollection], resources: [pods, secrets, configmaps, deployments.apps, events], namespaces: ["*"], cluster: true}
    - {verbs: [get], resources: [pods/log], namespaces: ["*"]}
    - {verbs: [create], resources: [pods/exec], namespaces: [a], command: [ls, "**"]}`

const podList = `{"kind":"PodList","apiVersion":"v1","items":[]}`

// Nothing that could be read in two ways, or that names somebody else, reaches the API server. Rows 29 to 33 and 36.
func TestHostileRequestsReachNothing(t *testing.T) {
	up := newScripted(t, jsonAnswer(podList))
	w := newWorld(t, up.api, wide, "")
	const ns = "/api/v1/namespaces/a/"
	for _, row := range []struct {
		rule, method, path, body string
		header                   http.Header
	}{
		{rule: "request_unclear", path: ns + "../b/pods"},
		{rule: "request_unclear", path: "/api/v1//pods"},
		{rule: "request_unclear", path: "/api/v1/namespaces/a%2fb/pods"},
		{rule: "request_unclear", path: "/api/v1/%2e%2e/pods"},
		{rule: "request_unclear", path: ns + "pods;x=1"},
		{rule: "request_unclear", path: ns + "pods?watch=true&watch=false"},
		{rule: "api_unknown", path: "/api/v1/watch/pods"},
		{rule: "api_unknown", path: "/metrics"},
		{rule: "proxy_refused", path: "/api/v1/nodes/n/proxy/exec/a/b/c?command=id"},
		{rule: "proxy_refused", path: ns + "services/x/proxy"},
		{rule: "proxy_refused", path: ns + "pods/x/proxy/y"},
		{rule: "token_refused", method: "POST", path: ns + "serviceaccounts/default/token", body: `{}`},
		{rule: "impersonation_refused", path: ns + "pods", header: http.Header{"Impersonate-User": {"admin"}}},
		{rule: "impersonation_refused", path: ns + "pods", header: http.Header{"Impersonate-Extra-Scopes": {"x"}}},
		{rule: "impersonation_refused", path: ns + "pods", header: http.Header{"X-Remote-User": {"admin"}}},
		{rule: "impersonation_refused", path: ns + "pods", header: http.Header{"X-Remote-Group": {"system:masters"}}},
		{rule: "header_refused", path: ns + "pods", header: http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}}},
		{rule: "header_refused", path: ns + "pods", header: http.Header{"Upgrade": {"h2c"}, "Connection": {"Upgrade, HTTP2-Settings"}, "Http2-Settings": {""}}},
		{rule: "header_refused", path: ns + "pods", header: http.Header{"Connection": {"Authorization"}}},
		{rule: "header_refused", path: ns + "pods", header: http.Header{"Connection": {"close, Audit-ID"}}},
		{rule: "header_refused", path: ns + "pods", header: http.Header{"Proxy-Authorization": {"x"}}},
		{rule: "format_unsupported", path: ns + "pods", header: http.Header{"Accept": {"application/vnd.kubernetes.protobuf"}}},
		{rule: "format_unsupported", path: ns + "pods", header: http.Header{"Accept": {"application/cbor"}}},
		{rule: "format_unsupported", path: ns + "pods", header: http.Header{"Accept": {"application/yaml"}}},
		{rule: "format_unsupported", path: ns + "pods?watch=true", header: http.Header{"Accept": {"application/vnd.kubernetes.protobuf;stream=watch"}}},
		{rule: "format_unsupported", path: ns + "pods", header: http.Header{"Accept": {"application/json;as=Table;g=evil;v=v1"}}},
		{rule: "body_refused", method: "POST", path: ns + "pods", body: "k8s\x00", header: http.Header{"Content-Type": {"application/vnd.kubernetes.protobuf"}}},
		{rule: "body_refused", method: "POST", path: ns + "pods", body: "kind: Pod", header: http.Header{"Content-Type": {"application/yaml"}}},
		{rule: "body_refused", method: "PATCH", path: ns + "pods/x", body: "kind: Pod", header: http.Header{"Content-Type": {"application/apply-patch+yaml"}}},
		{rule: "body_refused", method: "POST", path: ns + "pods", body: `{"metadata":{"name":"a","name":"b"}}`},
		{rule: "body_refused", method: "POST", path: ns + "pods", body: `{"a":1} {"b":2}`},
		{rule: "body_refused", method: "POST", path: ns + "pods", body: `{"a":1}`, header: http.Header{"Content-Encoding": {"gzip"}}},
		{rule: "body_refused", method: "POST", path: ns + "pods", body: `{"a":1}`, header: http.Header{"Content-Type": {"application/json; charset=utf-16"}}},
		{rule: "body_refused", method: "POST", path: ns + "pods", body: `{"a":"` + strings.Repeat("x", maxBody) + `"}`},
		{rule: "body_refused", method: "GET", path: ns + "pods", body: `{}`},
		{rule: "mask_written_back", method: "PUT", path: ns + "secrets/x", body: `{"metadata":{"resourceVersion":"1"},"data":{"a":"` + jsonmask.MarkBase64 + `"}}`},
		{rule: "mask_written_back", method: "PATCH", path: ns + "configmaps/x", body: `[{"op":"add","path":"/data/a","value":"x\u005bmasked by sallyport]"}]`, header: http.Header{"Content-Type": {"application/json-patch+json"}}},
		{rule: "default", path: ns + "services"},
		{rule: "default", path: ns + "pods/x/exec?command=sh"},
		{rule: "stream_unsupported", method: "POST", path: ns + "pods/x/exec?command=ls&command=-l"}, // allowed, and still no stream
	} {
		if row.method == "" {
			row.method = "GET"
		}
		client := w.client(row.header.Get("Connection") != "" || row.header.Get("Upgrade") != "") // which HTTP/2 has not
		a := w.send(client, row.method, "/prod"+row.path, row.body, row.header)
		if a.code < 400 || !strings.Contains(a.body, row.rule) || !strings.Contains(a.message(), "sallyport: ") {
			t.Errorf("%s %.80s: %d %.300s, want %s", row.method, row.path, a.code, a.body, row.rule)
		}
	}
	if n := up.requests(); n != 0 {
		t.Errorf("%d requests reached the API server", n)
	}
	if strings.Contains(w.everything(), upstreamToken) {
		t.Error("the gateway's own credential is in a record or a log")
	}
}

// Row 36: one request that two servers could read as two.
func TestRawRequests(t *testing.T) {
	up := newScripted(t, jsonAnswer(podList))
	w := newWorld(t, up.api, wide, "")
	auth := "Authorization: Bearer " + w.token("agent:etl", nil) + "\r\n"
	for name, text := range map[string]string{
		"two hosts":       "GET /prod/api/v1/pods HTTP/1.1\r\nHost: a\r\nHost: b\r\n" + auth + "\r\n",
		"absolute form":   "GET https://elsewhere/prod/api/v1/pods HTTP/1.1\r\nHost: a\r\n" + auth + "\r\n",
		"both lengths":    "POST /prod/api/v1/namespaces/a/pods HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n" + auth + "\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
		"two lengths":     "POST /prod/api/v1/namespaces/a/pods HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n" + auth + "\r\n{}",
		"two credentials": "GET /prod/api/v1/pods HTTP/1.1\r\nHost: a\r\n" + auth + auth + "\r\n",
		"large header":    "GET /prod/api/v1/pods HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n",
		"folded header":   "GET /prod/api/v1/pods HTTP/1.1\r\nHost: a\r\nX: a\r\n Impersonate-User: admin\r\n\r\n",
		"null":            "GET /prod/api/v1/pods\x00 HTTP/1.1\r\nHost: a\r\n" + auth + "\r\n",
		"no path":         "OPTIONS * HTTP/1.1\r\nHost: a\r\n" + auth + "\r\n",
		"connect":         "CONNECT elsewhere:443 HTTP/1.1\r\nHost: a\r\n" + auth + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			roots := x509.NewCertPool()
			roots.AddCert(w.cert.Leaf)
			conn, err := tls.Dial("tcp", w.address, &tls.Config{RootCAs: roots, ServerName: "sallyport-gateway", NextProtos: []string{"http/1.1"}})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			io.WriteString(conn, text)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err == nil && resp.StatusCode < 400 {
				t.Errorf("answered %s", resp.Status)
			}
		})
	}
	if n := up.requests(); n != 0 {
		t.Errorf("%d requests reached the API server", n)
	}
}

// What the API server gets is the gateway's own: of the client's headers nothing is left.
func TestHeadersAreMadeAnew(t *testing.T) {
	up := newScripted(t, jsonAnswer(podList))
	w := newWorld(t, up.api, wide, "impersonate")
	a := w.do("GET", "/api/v1/namespaces/a/pods?limit=500", "", http.Header{
		"Accept": {"application/json;as=Table;v=v1;g=meta.k8s.io,application/vnd.kubernetes.protobuf,application/json"}, "Accept-Encoding": {"gzip"},
		"X-Forwarded-For": {"1.2.3.4"}, "Cookie": {"a=b"}, "User-Agent": {"kubectl/x"}, "Audit-Id": {"client"}, "Forwarded": {"x"}, "X-Custom": {"y"}, "Via": {"z"},
	})
	if a.code != 200 || a.body != podList {
		t.Fatalf("%d %s", a.code, a.body)
	}
	r := up.seen[0]
	for name, values := range r.Header {
		want, allowed := map[string]string{
			"Authorization": "Bearer " + upstreamToken, "Impersonate-User": "agent:etl", "User-Agent": "sallyport-gatewayd",
			"Accept": "application/json;as=Table;g=meta.k8s.io;v=v1,application/json", "Accept-Encoding": "identity", "Audit-Id": r.Header.Get("Audit-Id"),
		}[name]
		if !allowed || len(values) != 1 || values[0] != want {
			t.Errorf("%s: %q", name, values)
		}
	}
	if r.RequestURI != "/api/v1/namespaces/a/pods?limit=500" || !strings.HasPrefix(r.Host, "127.0.0.1:") || len(r.Header.Get("Audit-Id")) != 36 {
		t.Errorf("%s at %s, audit id %q", r.RequestURI, r.Host, r.Header.Get("Audit-Id"))
	}
	records := w.records()
	found := false
	for _, one := range records {
		if one.Command != nil {
			found = strings.Contains(strings.Join(one.Command.Parameters, " "), r.Header.Get("Audit-Id"))
		}
	}
	if !found {
		t.Error("the Audit-ID is not in the record")
	}
}

func TestWhoIsLetIn(t *testing.T) {
	up := newScripted(t, jsonAnswer(podList))
	w := newWorld(t, up.api, wide, "")
	const path = "/api/v1/namespaces/a/pods"
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
	for name, row := range map[string]struct {
		header http.Header
		rule   string
		code   int
	}{
		"nothing":         {http.Header{"X-No-Token": {"1"}}, "token_missing", 403},
		"basic":           {http.Header{"Authorization": {"Basic YTpi"}}, "credential_unclear", 403},
		"garbage":         {bearer("x"), "token_malformed", 403},
		"the target's":    {bearer(upstreamToken), "token_malformed", 403},
		"another's key":   {bearer(w.token("agent:report", nil)), "token_unknown_key", 403},
		"another gateway": {bearer(w.token("agent:etl", func(c *identity.Claims) { c.Gateway = "SHA256:x" })), "token_foreign_gateway", 403},
		"expired": {bearer(w.token("agent:etl", func(c *identity.Claims) {
			c.Issued, c.Expires = time.Now().Add(-time.Minute), time.Now().Add(-time.Second)
		})), "token_expired", 401},
		"another target":  {bearer(w.token("agent:etl", func(c *identity.Claims) { c.Connection = "other" })), "token_foreign", 403},
		"no review":       {bearer(w.token("agent:report", func(c *identity.Claims) { c.Principal = "agent:report" })), "review_missing", 403},
		"bound elsewhere": {bearer(w.token("agent:etl", func(c *identity.Claims) { c.Exporter = bytes.Repeat([]byte{1}, identity.ExporterSize) })), "token_wrong_channel", 403},
	} {
		if a := w.do("GET", path, "", row.header); a.code != row.code || !strings.Contains(a.body, row.rule) {
			t.Errorf("%s: %d %s, want %s", name, a.code, a.body, row.rule)
		}
	}
	for _, path := range []string{"/api/v1/pods", "/", "/prod", "/PROD/api", "/../api"} {
		if a := w.send(w.client(false), "GET", path, "", nil); a.code < 400 {
			t.Errorf("%s: %d", path, a.code)
		}
	}
	if n := up.requests(); n != 0 {
		t.Errorf("%d requests reached the API server", n)
	}
}

// A client certificate whose key is one of the principal's lets it in; whoever signed it, and no other key.
func TestClientCertificates(t *testing.T) {
	up := newScripted(t, jsonAnswer(podList))
	w := newWorld(t, up.api, wide, "")
	certificate := func(name string, key any, public any, until time.Duration) tls.Certificate {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(until)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	etl, report := accesstest.Key("agent:etl"), accesstest.Key("agent:report")
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		cert tls.Certificate
		code int
	}{
		"its key":       {certificate("agent:etl", etl, etl.Public(), time.Hour), 200},
		"another's key": {certificate("agent:etl", report, report.Public(), time.Hour), 403},
		"no one's key":  {certificate("agent:etl", stranger, stranger.Public(), time.Hour), 403},
		"another name":  {certificate("agent:report", etl, etl.Public(), time.Hour), 403},
		"expired":       {certificate("agent:etl", etl, etl.Public(), -time.Minute), 403},
	} {
		a := w.send(w.client(false, row.cert), "GET", "/prod/api/v1/namespaces/a/pods", "", http.Header{"X-No-Token": {"1"}})
		if a.code != row.code {
			t.Errorf("%s: %d %s", name, a.code, a.body)
		}
	}
}

// Answers that the gateway cannot look through do not leave it, and nobody is told a lie about them.
func TestAnswersThatCannotBeRead(t *testing.T) {
	const canary = "canary-7f3a"
	body := `{"kind":"Secret","data":{"a":"` + canary + `"}}`
	answer := func(status int, header http.Header, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for name, values := range header {
				w.Header()[name] = values
			}
			w.WriteHeader(status)
			io.WriteString(w, text)
		}
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	io.WriteString(z, body)
	z.Close()
	for name, row := range map[string]struct {
		handle http.HandlerFunc
		code   int
	}{
		"protobuf":          {answer(200, http.Header{"Content-Type": {"application/vnd.kubernetes.protobuf"}}, "k8s\x00"+canary), 502},
		"cbor":              {answer(200, http.Header{"Content-Type": {"application/cbor"}}, canary), 502},
		"no type":           {answer(200, http.Header{"Content-Type": {""}}, body), 502},
		"yaml":              {answer(200, http.Header{"Content-Type": {"application/yaml"}}, "data: "+canary), 502},
		"not JSON":          {answer(200, http.Header{"Content-Type": {"application/json"}}, "data: "+canary), 502},
		"two documents":     {answer(200, http.Header{"Content-Type": {"application/json"}}, body+body), 502},
		"deflate":           {answer(200, http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"deflate"}}, canary), 502},
		"false gzip":        {answer(200, http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}, body), 502},
		"gzip":              {answer(200, http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}, zipped.String()), 200},
		"redirection":       {answer(302, http.Header{"Location": {"https://elsewhere/?" + canary}}, ""), 502},
		"text error":        {answer(500, http.Header{"Content-Type": {"text/plain"}}, canary), 500},
		"status":            {answer(422, http.Header{"Content-Type": {"application/json"}}, `{"kind":"Status","reason":"Invalid","message":"data: Invalid value: `+canary+`","details":{"causes":[{"field":"data","message":"Invalid value: `+canary+`"}]},"code":422}`), 422},
		"status, no reason": {answer(400, http.Header{"Content-Type": {"application/json"}}, `{"kind":"Status","message":"`+canary+`","code":400}`), 400},
		"a warning":         {answer(200, http.Header{"Content-Type": {"application/json"}, "Warning": {`299 - "` + canary + `"`}, "X-Leak": {canary}}, body), 200},
	} {
		t.Run(name, func(t *testing.T) {
			up := newScripted(t, row.handle)
			w := newWorld(t, up.api, wide, "")
			a := w.do("GET", "/api/v1/namespaces/a/secrets/x", "", nil)
			if a.code != row.code || !json.Valid([]byte(a.body)) {
				t.Errorf("%d %s", a.code, a.body)
			}
			if strings.Contains(a.body+fmt.Sprint(a.header)+w.everything(), canary) {
				t.Errorf("it shows the secret: %v %s", a.header, a.body)
			}
		})
	}
}

// Large lists go through object by object; a watch goes through event by event, at once.
func TestStreamsAnswers(t *testing.T) {
	const canary = "canary-7f3a"
	item := `{"metadata":{"name":"x"},"data":{"a":"` + canary + strings.Repeat("x", 2000) + `"}}`
	events := make(chan string)
	up := newScripted(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") == "" {
			io.WriteString(w, `{"kind":"SecretList","items":[`+item+strings.Repeat(","+item, 999)+`]}`)
			return
		}
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		for e := range events {
			io.WriteString(w, e)
			w.(http.Flusher).Flush()
		}
	})
	w := newWorld(t, up.api, wide, "")
	a := w.do("GET", "/api/v1/secrets", "", nil)
	if a.code != 200 || strings.Contains(a.body, canary) || strings.Count(a.body, jsonmask.MarkBase64) != 1000 || !json.Valid([]byte(a.body)) {
		t.Errorf("%d, %d bytes, %d masks", a.code, len(a.body), strings.Count(a.body, jsonmask.MarkBase64))
	}
	r, err := http.NewRequest("GET", "https://"+w.address+"/prod/api/v1/secrets?watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.token("agent:etl", nil))
	resp, err := w.client(false).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for range 3 { // each arrives before the next is sent
		events <- `{"type":"ADDED","object":{"kind":"Secret","data":{"a":"` + canary + `"}}}` + "\n"
		line, err := lines.ReadString('\n')
		if err != nil || strings.Contains(line, canary) || !strings.Contains(line, jsonmask.MarkBase64) {
			t.Fatalf("%q, %v", line, err)
		}
	}
	// Taking the review out ends the watch, and says so in its own way.
	w.repo.Remove("reviews/prod/etl.yaml")
	w.release()
	line, err := lines.ReadString('\n')
	if err != nil || !strings.Contains(line, `"ERROR"`) || !strings.Contains(line, "review_removed") {
		t.Errorf("%q, %v", line, err)
	}
	if _, err := lines.ReadByte(); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
	close(events)
	if a := w.do("GET", "/api/v1/secrets", "", nil); a.code != 403 || !strings.Contains(a.message(), "sallyport request prod") {
		t.Errorf("without a review: %d %s", a.code, a.body)
	}
}

// One token is one session; its requests are commands of it.
func TestSessionGroupsRequests(t *testing.T) {
	up := newScripted(t, jsonAnswer(podList))
	w := newWorld(t, up.api, wide, "")
	header := http.Header{"Authorization": {"Bearer " + w.token("agent:etl", nil)}}
	client := w.client(false)
	for range 3 {
		if a := w.send(client, "GET", "/prod/api/v1/namespaces/a/pods", "", header.Clone()); a.code != 200 {
			t.Fatalf("%d %s", a.code, a.body)
		}
	}
	w.send(client, "GET", "/prod/api/v1/namespaces/a/services", "", header.Clone())
	client.CloseIdleConnections()
	w.eventually("the session has ended", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.summaries) > 0 })
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.summaries[0]; len(w.summaries) != 1 || s.Allowed != 3 || s.Denied != 1 || s.Counts["list pods in a"] != 3 || s.Protocol != "kubernetes" || s.End != "closed" {
		t.Errorf("%+v", w.summaries)
	}
}

// What a body says decides as well: the name of what is made, and whether a write may make something.
func TestBodiesDecide(t *testing.T) {
	up := newScripted(t, jsonAnswer(`{"kind":"ConfigMap"}`))
	w := newWorld(t, up.api, `
  allow:
    - {verbs: [create], resources: [configmaps], namespaces: [a], names: ["app-*"]}
    - {verbs: [update, patch], resources: [configmaps], namespaces: [a]}`, "")
	const path = "/api/v1/namespaces/a/configmaps"
	apply := http.Header{"Content-Type": {"application/apply-patch+yaml"}}
	for _, row := range []struct {
		method, path, body string
		header             http.Header
		code               int
	}{
		{"POST", path, `{"metadata":{"name":"app-x"}}`, nil, 200},
		{"POST", path, `{"metadata":{"name":"other"}}`, nil, 403},
		{"POST", path, `{"metadata":{"generateName":"app-"}}`, nil, 403},
		{"POST", path, `{"Metadata":{"name":"app-x"},"metadata":{"name":"other"}}`, nil, 403},
		{"PUT", path + "/other", `{"metadata":{"name":"other","resourceVersion":"7"}}`, nil, 200},
		{"PUT", path + "/other", `{"metadata":{"name":"other"}}`, nil, 403},
		{"PATCH", path + "/other", `{"data":{}}`, http.Header{"Content-Type": {"application/merge-patch+json"}}, 200},
		{"PATCH", path + "/other", `{"data":{}}`, apply, 403},
		{"PATCH", path + "/app-x", `{"data":{}}`, apply, 200},
	} {
		if a := w.do(row.method, row.path, row.body, row.header.Clone()); a.code != row.code {
			t.Errorf("%s %s %s: %d %s", row.method, row.path, row.body, a.code, a.body)
		}
	}
}

// Values that are written into Secrets are in no record.
func TestRecordsHoldNoSecrets(t *testing.T) {
	const canary = "canary-7f3a"
	up := newScripted(t, jsonAnswer(`{"kind":"Secret","data":{"a":"`+canary+`"}}`))
	w := newWorld(t, up.api, wide, "")
	const path = "/api/v1/namespaces/a/secrets"
	for _, row := range []struct{ method, path, kind, body string }{
		{"POST", path, "application/json", `{"kind":"Secret","metadata":{"name":"x"},"stringData":{"a":"` + canary + `"}}`},
		{"PATCH", path + "/x", "application/json-patch+json", `[{"op":"add","path":"/data/a","value":"` + canary + `"}]`},
		{"PATCH", path + "/x", "application/strategic-merge-patch+json", `{"data":{"a":"` + canary + `"}}`},
	} {
		if a := w.do(row.method, row.path, row.body, http.Header{"Content-Type": {row.kind}}); a.code != 200 || strings.Contains(a.body, canary) {
			t.Errorf("%s: %d %s", row.kind, a.code, a.body)
		}
	}
	if len(up.sent) != 3 || !strings.Contains(up.sent[0], canary) {
		t.Errorf("the API server got %q", up.sent)
	}
	w.records()
	if strings.Contains(w.everything(), canary) {
		t.Error("a record holds the secret")
	}
}

func TestTargetThatIsNotThere(t *testing.T) {
	up := newScripted(t, jsonAnswer(podList))
	w := newWorld(t, api{port: 1, ca: up.ca, token: upstreamToken}, wide, "")
	if a := w.do("GET", "/api/v1/pods", "", nil); a.code != 503 || !strings.Contains(a.message(), "target_unavailable") {
		t.Errorf("%d %s", a.code, a.body)
	}
	other := newScripted(t, jsonAnswer(podList))
	w = newWorld(t, api{port: other.port, ca: w.certFile(), token: upstreamToken}, wide, "")
	if a := w.do("GET", "/api/v1/pods", "", nil); a.code != 503 || other.requests() != 0 {
		t.Errorf("a server of another authority: %d %s", a.code, a.body)
	}
}
