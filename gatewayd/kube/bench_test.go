package kube

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd/kube/call"
	"github.com/sallyport-dev/sallyport/policies"
)

// benchRules are as long as those of a real review.
const benchRules = `
  allow:
    - {verbs: [get, list, watch], resources: [pods, pods/log, services, endpoints], namespaces: ["web-*", "db-*"]}
    - {verbs: [get, list, watch], resources: [deployments.apps, statefulsets.apps, daemonsets.apps], namespaces: ["web-*"]}
    - {verbs: [create], resources: [pods/exec], namespaces: ["web-*"], command: [ls, "**"]}
    - {verbs: [get], resources: [configmaps], namespaces: ["web-*"], names: ["app-*"]}
    - {verbs: [get, list, watch], resources: [secrets], namespaces: ["web-*"]}`

const smallPod = `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web-0","namespace":"web-1","labels":{"app":"web"}},"spec":{"containers":[{"name":"main","image":"registry.example/web:1.2.3"}]},"status":{"phase":"Running"}}`

// bareProxy is what a gateway is compared with: the same TLS on both sides, the same credential, and nothing else.
func bareProxy(b *testing.B, w *world, up *scripted) string {
	b.Helper()
	pem, err := os.ReadFile(up.ca)
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	to := &url.URL{Scheme: "https", Host: fmt.Sprintf("127.0.0.1:%d", up.port)}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(to)
			p.Out.Header.Set("Authorization", "Bearer "+upstreamToken)
		},
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 32},
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: http.StripPrefix("/prod", proxy), TLSConfig: &tls.Config{Certificates: []tls.Certificate{w.cert}, NextProtos: []string{"h2", "http/1.1"}}}
	go server.ServeTLS(listener, "", "")
	b.Cleanup(func() { server.Close() })
	return listener.Addr().String()
}

// A small GET through the gateway, beside one through a bare reverse proxy: interleaved, on warm connections.
func BenchmarkSmallGet(b *testing.B) {
	up := newScripted(b, jsonAnswer(smallPod))
	w := newWorld(b, up.api, benchRules, "")
	bare := bareProxy(b, w, up)
	client, token := w.client(false), "Bearer "+w.token("agent:etl", nil)
	get := func(address string) time.Duration {
		r, err := http.NewRequest("GET", "https://"+address+"/prod/api/v1/namespaces/web-1/pods/web-0", nil)
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Authorization", token)
		r.Header.Set("Accept", "application/json")
		start := time.Now()
		resp, err := client.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || n != int64(len(smallPod)) {
			b.Fatalf("%d, %d bytes, %v", resp.StatusCode, n, err)
		}
		return time.Since(start)
	}
	for range 200 {
		get(w.address)
		get(bare)
	}
	var through, beside []time.Duration
	for b.Loop() {
		through = append(through, get(w.address))
		beside = append(beside, get(bare))
	}
	report(b, "gateway", through)
	report(b, "bare", beside)
	b.ReportMetric(float64(quantile(through, 0.5))/float64(quantile(beside, 0.5)), "p50-ratio")
}

func quantile(all []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func report(b *testing.B, what string, all []time.Duration) {
	b.ReportMetric(float64(quantile(all, 0.5).Microseconds()), what+"-p50-µs")
	b.ReportMetric(float64(quantile(all, 0.99).Microseconds()), what+"-p99-µs")
}

// Reading a request and asking the policy, without a cache.
func BenchmarkDecision(b *testing.B) {
	up := newScripted(b, jsonAnswer(smallPod))
	w := newWorld(b, up.api, benchRules, "")
	release := w.repo.Release(99)
	connection := release.Connections["prod"]
	review := connection.Review("prod/etl")
	b.ReportAllocs()
	for b.Loop() {
		c := call.Parse("GET", "/api/v1/namespaces/web-1/secrets?limit=500&resourceVersion=0")
		d, err := release.Policy.Decide(b.Context(), policies.Input{Now: time.Now(), Principal: "agent:etl", Connection: connection.JSON, Review: review.JSON, Command: c.Command()})
		if err != nil || d.Verdict != policies.Allow {
			b.Fatal(d, err)
		}
	}
}

// The API server's events come with the time they were sent; what the gateway adds is the difference to a bare proxy's.
func BenchmarkWatchEvent(b *testing.B) {
	events := make(chan struct{})
	up := newScripted(b, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		for {
			select {
			case <-events:
				fmt.Fprintf(w, `{"type":"MODIFIED","object":{"kind":"Secret","sent":%d,"data":{"a":"%s"}}}`+"\n", time.Now().UnixNano(), strings.Repeat("QUFB", 250))
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	w := newWorld(b, up.api, benchRules, "")
	bare := bareProxy(b, w, up)
	client := w.client(false)
	client.Timeout = 0
	watch := func(address string) func() (time.Duration, bool) {
		r, err := http.NewRequest("GET", "https://"+address+"/prod/api/v1/namespaces/web-1/secrets?watch=true", nil)
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+w.token("agent:etl", nil))
		resp, err := client.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { resp.Body.Close() })
		lines := bufio.NewReader(resp.Body)
		return func() (time.Duration, bool) {
			line, err := lines.ReadBytes('\n')
			now := time.Now().UnixNano()
			var event struct{ Object struct{ Sent int64 } }
			ok := err == nil && json.Unmarshal(line, &event) == nil
			return time.Duration(now - event.Object.Sent), ok
		}
	}
	through, beside := watch(w.address), watch(bare)
	got := map[bool][]time.Duration{}
	type event struct {
		gateway bool
		took    time.Duration
	}
	arrived := make(chan event)
	for _, source := range []struct {
		gateway bool
		next    func() (time.Duration, bool)
	}{{true, through}, {false, beside}} {
		go func() {
			for took, ok := source.next(); ok; took, ok = source.next() { // until the benchmark closes it
				arrived <- event{source.gateway, took}
			}
		}()
	}
	for b.Loop() {
		events <- struct{}{} // either of the two watches takes it
		e := <-arrived
		got[e.gateway] = append(got[e.gateway], e.took)
	}
	if len(got[true]) == 0 || len(got[false]) == 0 {
		return
	}
	report(b, "gateway", got[true])
	report(b, "bare", got[false])
	b.ReportMetric(float64((quantile(got[true], 0.99) - quantile(got[false], 0.99)).Microseconds()), "added-p99-µs")
}
