package jsonmask

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

const (
	canary   = "canary-7f3a"
	canary64 = "Y2FuYXJ5LTdmM2E="
)

var secretJSON = `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"x","managedFields":[{"manager":"` + canary + `"}],"annotations":{"kubectl.kubernetes.io/last-applied-configuration":` +
	quoted(`{"apiVersion":"v1","data":{"a":"`+canary64+`"},"kind":"Secret","stringData":{"b":"`+canary+`"}}`) + `}},"data":{"a":"` + canary64 + `","b\u0062":"` + canary64 + `","n":null},"type":"Opaque"}`

func quoted(s string) string { return quote([]byte(s)) }

// Whatever way a Secret comes, nothing of its values is in what leaves, in whatever pieces it came.
func TestNoWayShowsASecret(t *testing.T) {
	list := `{"kind":"SecretList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[` + strings.ReplaceAll(secretJSON, `"kind":"Secret",`, ``) + `,` + secretJSON + `]}`
	for name, c := range map[string]struct {
		resource, text string
	}{
		"get":                           {"secrets", secretJSON},
		"list":                          {"secrets", list},
		"list, sorted members":          {"secrets", `{"apiVersion":"v1","items":[{"data":{"a":"` + canary64 + `"}}],"kind":"SecretList","metadata":{}}`},
		"watch":                         {"secrets", `{"type":"ADDED","object":` + secretJSON + `}`},
		"watch, object first":           {"secrets", `{"object":` + secretJSON + `,"type":"ADDED"}`},
		"table":                         {"secrets", `{"kind":"Table","columnDefinitions":[],"rows":[{"cells":["x","Opaque",1],"object":` + secretJSON + `}]}`},
		"table, watched":                {"secrets", `{"type":"ADDED","object":{"kind":"Table","rows":[{"cells":[],"object":` + secretJSON + `}]}}`},
		"metadata only":                 {"secrets", `{"kind":"PartialObjectMetadata","metadata":` + secretJSON[strings.Index(secretJSON, `{"name"`):strings.Index(secretJSON, `,"data":{"a":"`+canary64+`","b`)] + `}`},
		"within another object":         {"things.example.com", `{"kind":"Thing","spec":{"template":` + secretJSON + `}}`},
		"kind after data":               {"things.example.com", `{"spec":{"data":{"a":"` + canary64 + `"},"kind":"Secret"}}`},
		"kind with escapes":             {"things.example.com", `{"spec":{"data":{"a":"` + canary64 + `"},"\u006bind":"Secret"}}`},
		"data with escapes":             {"secrets", `{"d\u0061ta":{"a":"` + canary64 + `"}}`},
		"data that is text":             {"secrets", `{"stringData":{"a":"` + canary + `"}}`},
		"data that is an object":        {"secrets", `{"data":{"a":{"b":"` + canary64 + `"}}}`},
		"data that is a list":           {"secrets", `{"data":["` + canary64 + `"]}`},
		"a list of any kind":            {"", `{"kind":"List","items":[` + secretJSON + `]}`},
		"lists in lists":                {"", `{"kind":"List","items":[{"kind":"List","items":[` + secretJSON + `]}]}`},
		"JSON in a string":              {"configmaps", `{"kind":"ConfigMap","data":{"release":` + quoted(secretJSON) + `}}`},
		"JSON after blanks in a string": {"configmaps", `{"data":{"release":` + quoted(" \n\t\r\n "+secretJSON) + `}}`},
		"JSON in strings in strings":    {"configmaps", `{"data":{"release":` + nested(9, secretJSON) + `}}`},
		"JSON in JSON in a string":      {"configmaps", `{"data":{"release":` + quoted(`{"x":`+quoted(secretJSON)+`}`) + `}}`},
		"annotation of another kind":    {"things.example.com", `{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":` + quoted(list) + `}}}`},
		"annotation that is no JSON":    {"secrets", `{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"data: ` + canary + `"}}}`},
		"data twice":                    {"secrets", `{"data":{"a":"` + canary64 + `"},"data":{"a":"` + canary64 + `"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			if !json.Valid([]byte(c.text)) {
				t.Fatal("the case is not JSON")
			}
			rules := New(c.resource, nil)
			out, _, err := rules.Document([]byte(c.text))
			check(t, out, err)
			for _, reader := range []io.Reader{strings.NewReader(c.text), iotest.OneByteReader(strings.NewReader(c.text)), iotest.DataErrReader(strings.NewReader("\n" + c.text + " \n"))} {
				var all bytes.Buffer
				_, err := rules.NewReader(reader).CopyTo(func(b []byte, _ int) error { all.Write(b); return nil })
				check(t, all.Bytes(), err)
				if !sameJSON(all.Bytes(), out) {
					t.Errorf("in pieces it is %s, at once %s", &all, out)
				}
			}
			events := rules.NewReader(iotest.HalfReader(strings.NewReader(c.text + "\n" + c.text)))
			for range 2 {
				event, _, err := events.Next()
				check(t, event, err)
			}
			if _, _, err := events.Next(); err != io.EOF {
				t.Errorf("after the last: %v", err)
			}
		})
	}
}

func check(t *testing.T, out []byte, err error) {
	t.Helper()
	switch {
	case err != nil:
		t.Fatal(err)
	case bytes.Contains(out, []byte(canary)) || bytes.Contains(out, []byte(canary64)):
		t.Errorf("it shows the secret: %s", out)
	case !json.Valid(out):
		t.Errorf("it is no JSON any more: %s", out)
	}
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// What is not masked is the same to the byte.
func TestLeavesTheRestAsItIs(t *testing.T) {
	for _, text := range []string{
		`{"kind":"Pod","spec":{"volumes":[{"secret":{"secretName":"x"}}],"n":1.50e-3,"u":"\u00e9\/"},"data":{"a":"b"}}`,
		` { "kind" : "ConfigMap" , "data" : { "a" : "{not json, Secret" } } `,
		`{"kind":"Event","involvedObject":{"kind":"Secret","name":"x"}}`,
		`{"kind":"Status","status":"Failure","code":404}`, `{}`, `{"items":[]}`, `{"items":null}`, `[]`, `"x"`, `12`, `null`,
	} {
		rules := New("configmaps", nil)
		out, _, err := rules.Document([]byte(text))
		if err != nil || string(out) != text {
			t.Errorf("%s: %s, %v", text, out, err)
		}
	}
}

func TestMasksPaths(t *testing.T) {
	rules := New("deployments.apps", []Mask{
		{Path: []string{"spec", "template", "spec", "containers", "*", "env", "*", "value"}},
		{Path: []string{"spec", "gone"}, Null: true},
		{Path: []string{"spec", "*", "token"}},
		{Path: []string{"data", "tls.key"}},
	})
	for text, want := range map[string]string{
		`{"spec":{"template":{"spec":{"containers":[{"env":[{"name":"A","value":"x"},{"name":"B"}]}]},"token":"t"},"gone":{"a":[1]},"other":{"token":7}}}`: `{"spec":{"template":{"spec":{"containers":[{"env":[{"name":"A","value":"` + Mark + `"},{"name":"B"}]}]},"token":"` + Mark + `"},"gone":null,"other":{"token":"` + Mark + `"}}}`,
		`{"items":[{"data":{"tls.key":"k","tls.crt":"c"},"metadata":{"managedFields":[{"x":1}]}}]}`:                                                        `{"items":[{"data":{"tls.key":"` + Mark + `","tls.crt":"c"},"metadata":{"managedFields":[]}}]}`,
	} {
		out, _, err := rules.Document([]byte(text))
		if err != nil || string(out) != want {
			t.Errorf("%s: %s, %v", text, out, err)
		}
	}
}

// What patterns find in strings is hidden without breaking the text around it.
func TestLooksThroughStrings(t *testing.T) {
	rules := New("configmaps", nil)
	rules.Text = func(s string) string { return strings.ReplaceAll(s, canary, `"`) }
	out, _, err := rules.Document([]byte(`{"a":"x ` + canary + ` y","b":["` + strings.Replace(canary, "c", `\u0063`, 1) + `"],"` + lastApplied + `":"{\"c\":\"` + canary + `\"}"}`))
	check(t, out, err)
	if want := `{"a":"x \" y","b":["\""],"` + lastApplied + `":"{\"c\":\"\\\"\"}"}`; string(out) != want {
		t.Errorf("%s, want %s", out, want)
	}
}

func TestRefusesWhatIsNotJSON(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 600) + "1" + strings.Repeat("}", 600)
	for _, text := range []string{
		"", "{", "}", "]", `{"a"`, `{"a":}`, `{"a":1,}`, `{a:1}`, `{"a":1}}`, `{"a":1}{`, `[1,]`, `{"items":[1,]}`, `{"items":[{"a":1}`, `{"items":[{]}`, `"abc`, `"abc\"`,
		"k8s\x00\x0a\x0c", "\xa3", "apiVersion: v1", "tru", deep, `{"items":[` + deep + `]}`,
	} {
		if out, _, err := New("secrets", nil).Document([]byte(text)); err == nil {
			t.Errorf("%.40q is read as %.40q", text, out)
		}
		if _, err := New("secrets", nil).NewReader(strings.NewReader(text)).CopyTo(func([]byte, int) error { return nil }); err == nil {
			t.Errorf("%.40q is copied", text)
		}
	}
	broken := errors.New("broken")
	if _, err := New("secrets", nil).NewReader(iotest.ErrReader(broken)).CopyTo(nil); !errors.Is(err, broken) {
		t.Errorf("%v, want the stream's own error", err)
	}
}

func TestBoundsMemory(t *testing.T) {
	endless := io.MultiReader(strings.NewReader(`{"items":[{"a":"`), repeat{'x'})
	if _, err := New("secrets", nil).NewReader(endless).CopyTo(func([]byte, int) error { return nil }); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v, want %v", err, ErrTooLarge)
	}
	one := fmt.Sprintf(`{"metadata":{"name":"%s"}}`, strings.Repeat("x", 1000))
	many := io.MultiReader(strings.NewReader(`{"items":[`+one), io.LimitReader(&cycle{text: "," + one}, 1024*int64(len(one)+1)), strings.NewReader("]}"))
	d := New("secrets", nil).NewReader(many)
	items, err := d.CopyTo(func([]byte, int) error { return nil })
	if err != nil || items != 1025 || cap(d.buf) > 256<<10 {
		t.Errorf("%d items, %v, with %d bytes of memory", items, err, cap(d.buf))
	}
}

type repeat struct{ b byte }

func (r repeat) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r.b
	}
	return len(p), nil
}

type cycle struct {
	text string
	at   int
}

func (c *cycle) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = c.text[c.at]
		c.at = (c.at + 1) % len(c.text)
	}
	return len(p), nil
}

// reference masks by decoding everything.
func reference(v any, root bool) any {
	switch v := v.(type) {
	case map[string]any:
		for k, one := range v {
			switch {
			case root && (k == "data" || k == "stringData"):
				mark := MarkBase64
				if k == "stringData" {
					mark = Mark
				}
				switch values := one.(type) {
				case map[string]any:
					for name, value := range values {
						if value != nil {
							values[name] = mark
						}
					}
				case []any:
					for i, value := range values {
						if value != nil {
							values[i] = mark
						}
					}
				}
			case root && k == "metadata":
				if m, is := one.(map[string]any); is && m["managedFields"] != nil {
					m["managedFields"] = []any{}
				}
			case root && k == "items":
				if list, is := one.([]any); is {
					for _, item := range list {
						reference(item, true)
					}
				}
			}
		}
	}
	return v
}

// The walk over the text and a decoder agree, on what is JSON at all and on what is left of it.
func FuzzAgainstDecoder(f *testing.F) {
	for _, s := range []string{secretJSON, `{"items":[{"data":{"a":"b"}}]}`, `{"data":{"a":"\\"}}`, `[]`, `{"metadata":{"managedFields":[1]},"data":null}`, `{"data":[1,null]}`, `{"a":[{},[],""]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		out, _, err := New("secrets", nil).Document(text)
		var streamed bytes.Buffer
		_, copyErr := New("secrets", nil).NewReader(bytes.NewReader(text)).CopyTo(func(b []byte, _ int) error { streamed.Write(b); return nil })
		var decoded any
		if json.Unmarshal(text, &decoded) != nil {
			return // it may be let through, where no client can read it either
		}
		if bytes.Contains(text, []byte("kind")) || bytes.Contains(text, []byte("kubectl")) || bytes.Contains(text, []byte("Secret")) || bytes.Contains(text, []byte("rows")) || bytes.Contains(text, []byte("object")) || bytes.ContainsRune(text, '\\') {
			return // the reference knows nothing of these
		}
		if err != nil || copyErr != nil {
			t.Fatalf("%s: %v, %v", text, err, copyErr)
		}
		var got any
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%s became %s: %v", text, out, err)
		}
		if want := reference(decoded, true); !duplicates(text) && !reflect.DeepEqual(got, want) {
			t.Errorf("%s became %s", text, out)
		}
		if !sameJSON(streamed.Bytes(), out) {
			t.Errorf("%s: at once %s, in pieces %s", text, out, &streamed)
		}
	})
}

// duplicates reports whether a member is there twice, whose order a decoder forgets.
func duplicates(text []byte) bool {
	d := json.NewDecoder(bytes.NewReader(text))
	type frame struct {
		names map[string]bool
		key   bool
	}
	var stack []frame
	for {
		token, err := d.Token()
		if err != nil {
			return false
		}
		top := len(stack) - 1
		if name, is := token.(string); is && top >= 0 && stack[top].names != nil && stack[top].key {
			if stack[top].names[name] {
				return true
			}
			stack[top].names[name], stack[top].key = true, false
			continue
		}
		switch token {
		case json.Delim('{'):
			stack = append(stack, frame{names: map[string]bool{}, key: true})
			continue
		case json.Delim('['):
			stack = append(stack, frame{})
			continue
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:top]
			top--
		}
		if top >= 0 {
			stack[top].key = true
		}
	}
}

func BenchmarkSecretList(b *testing.B) {
	one := fmt.Sprintf(`{"metadata":{"name":"s","namespace":"n","annotations":{"kubectl.kubernetes.io/last-applied-configuration":%s}},"data":{"a":"%s"},"type":"Opaque"}`,
		quoted(`{"apiVersion":"v1","kind":"Secret","data":{"a":"`+strings.Repeat("QUFB", 400)+`"}}`), strings.Repeat("QUFB", 1500))
	bench(b, "secrets", `{"kind":"SecretList","items":[`+one+strings.Repeat(","+one, 999)+`]}`)
}

func BenchmarkPodList(b *testing.B) {
	one := `{"metadata":{"name":"web-6d4b75cb6d-hwwlz","namespace":"default","uid":"6a9c1c1e-6a6b-4a1e-9b61-0d7e4a4d5c11","labels":{"app":"web","pod-template-hash":"6d4b75cb6d"}},"spec":{"containers":[{"name":"web","image":"registry.example/web:1.2.3","env":[{"name":"A","value":"b"},{"name":"C","valueFrom":{"secretKeyRef":{"name":"x","key":"y"}}}],"resources":{"limits":{"cpu":"1","memory":"1Gi"}},"volumeMounts":[{"name":"t","mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}]}],"volumes":[{"name":"t","secret":{"secretName":"x"}}],"tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}]},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True","lastTransitionTime":"2026-11-24T10:00:00Z"}],"podIP":"10.0.0.1"}}`
	bench(b, "pods", `{"kind":"PodList","items":[`+one+strings.Repeat(","+one, 9999)+`]}`)
}

func bench(b *testing.B, resource, text string) {
	rules := New(resource, nil)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rules.NewReader(strings.NewReader(text)).CopyTo(func([]byte, int) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// nested is a text in a string of an object, again and again.
func nested(times int, text string) string {
	for range times {
		text = `{"x":` + quoted(text) + `}`
	}
	return quoted(text)
}
