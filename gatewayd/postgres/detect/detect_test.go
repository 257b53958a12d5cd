package detect

import (
	"strings"
	"testing"
)

func TestValues(t *testing.T) {
	for _, c := range []struct {
		looks    func(string) bool
		yes, not []string
	}{
		{isEmail, []string{"a@b.co", "x+y@sub.example.org", "ü@example.org"}, []string{"a@b", "Ada <a@b.co>", "@b.co", "a b@c.de", "a@b.co, c@d.co", strings.Repeat("a", 300) + "@b.co"}},
		{isPhone, []string{"+31612345678", "+49 30 1234567", "0031612345678", "+1 (415) 555-2671"}, []string{"0612345678", "1700000000", "+", "+1", "00", "2026-11-25", "+31612345678 or so, ask at the desk"}},
		{isIBAN, []string{"NL91ABNA0417164300", "GB29 NWBK 6016 1331 9268 19"}, []string{"NL92ABNA0417164300", "NL91", "91ABNA0417164300"}},
		{isCard, []string{"4111111111111111", "4111 1111 1111 1111", "3400-000000-00009"}, []string{"4111111111111112", "1700000000000", "0000000000000000", "91827391827391827"}},
		{isNational, []string{"123-45-6789", "AB123456C", "12345678Z", "123.456.789-09"}, []string{"000-45-6789", "12345678A", "666-12-3456", "2026-11-25", "12-345-6789", "123456789"}},
		{isSecret, []string{"AKIAIOSFODNN7EXAMPLE", "$2b$12$" + strings.Repeat("a", 53), "-----BEGIN RSA PRIVATE KEY-----\nMII", "q7Zk0Vn2bXw9LrT4yHs6JdPf1GmCaUe8"},
			[]string{"91827391-8273-9182-7391-827391827391", "d41d8cd98f00b204e9800998ecf8427e", "https://example.org/a/long/path/to/Some1", "hello world", "AKIA", strings.Repeat("aB1", 20)}},
		{isNetwork, []string{"10.0.0.1", "::1", "10.0.0.0/8", "08:00:2b:01:02:03"}, []string{"1.2.3", "host", "1.2.3.4.5"}},
		{isCounted, []string{"111222333", "44051401359", "811218-9876", "93.05.18-223.61"}, []string{"123456789", "20261125", "2026-11-25", "44051401358", "1700000000"}},
		{isPosition, []string{"52.3702,4.8952", "(52.3702, 4.8952)", "-33.8688 151.2093"}, []string{"1.2, 3.4", "52.3702", "192.0.2.1, 10.0.0.1"}},
		{isStreet, []string{"1 Elm Road", "Dorpsstraat 12a", "Hauptstr. 5", "12 rue de la Paix", "Calle Mayor 3", "Via Roma 10"}, []string{"Elm", "straight 5", "Road to nowhere", "via email"}},
		{isPostcode, []string{"1234 AB", "SW1A 1AA", "K1A 0B1", "00-950", "12345-6789"}, []string{"12345", "A1", "2026-11"}},
		{isNamed, []string{"Ada Lovelace", "de Vries, Pieter", "Dr. Ngozi Okafor"}, []string{"Chair", "In progress", "JAN", "North Sea", "Road Works"}},
		{mentions, []string{"please call +31 6 1234 5678 today", "mail to a@b.co first", "his ssn is 123-45-6789, he said", "card 4111 1111 1111 1111 was declined"}, []string{"nothing here", "order 2026-11-25 10:00 is late", "see https://example.org/a", "a@b.co"}},
		{personal, []string{"Ada", "O'Neil", "Jan de Vries", "Zoë", "Nguyễn Văn An"}, []string{"Chair 12", "SKU-1", "a@b.co", ""}},
	} {
		for _, s := range c.yes {
			if !c.looks(s) {
				t.Errorf("%q is not found", s)
			}
		}
		for _, s := range c.not {
			if c.looks(s) {
				t.Errorf("%q is taken for one", s)
			}
		}
	}
}

// A name alone is not enough where the values say otherwise, nor are few values without a name.
func TestNamesAndValues(t *testing.T) {
	for _, c := range []struct {
		table, name, typ string
		samples          []string
		want             Kind
	}{
		{"users", "email", "text", nil, Email}, {"users", "email", "text", []string{"weekly", "never"}, ""}, {"users", "email", "bool", []string{"true"}, ""}, {"users", "email_count", "int4", []string{"3"}, ""},
		{"x", "contact", "text", []string{"a@b.co", "c@d.co", "none"}, Email}, {"x", "contact", "text", []string{"a@b.co"}, ""}, {"products", "name", "text", []string{"Chair"}, ""}, {"customers", "name", "text", []string{"Ada Lovelace"}, Name},
		{"customers", "name", "text", []string{"4711"}, ""}, {"x", "born", "date", nil, Birth}, {"x", "birth_date", "date", []string{"1990-01-01"}, Birth}, {"x", "hired", "date", []string{"1990-01-01"}, ""},
		{"hosts", "address", "text", []string{"10.0.0.1", "10.0.0.2"}, ""}, {"shops", "address", "text", []string{"1 Elm Road"}, Address}, {"x", "n", "int8", []string{"4111111111111111", "4012888888881881"}, ""},
		{"klanten", "achternaam", "text", []string{"de Vries"}, Name}, {"medewerkers", "naam", "text", []string{"Ada"}, Name}, {"personen", "geburtsdatum", "date", nil, Birth}, {"visits", "diagnosis", "text", []string{"flu"}, Health},
		{"rides", "lat", "float8", []string{"52.37"}, Place}, {"x", "c7", "text", []string{"Anna Bakker", "Piet Jansen", "Maria Smit", "Johan Visser"}, Name}, {"x", "month", "text", []string{"May", "June", "July", "August"}, ""},
		{"tickets", "body", "text", []string{"call +31612345678 please", "it is broken"}, ""}, {"tickets", "body", "text", []string{"call +31612345678 please", "it is broken", "mail a@b.co about it", "ok now"}, Text},
		{"x", "ssn", "varchar", []string{"918-00-1", "918-00-2"}, National}, {"x", "apiKey", "text", []string{"k"}, Secret}, {"x", "token_type", "text", []string{"Bearer"}, ""}, {"x", "Ünïcode", "text", []string{"a"}, ""},
	} {
		f, ok := Judge(Column{c.table, c.name, c.typ, c.samples})
		if f.Kind != c.want || ok != (c.want != "") {
			t.Errorf("%s.%s %s: %q, want %q", c.table, c.name, c.typ, f.Kind, c.want)
		}
		for _, s := range c.samples {
			if len(s) > 3 && strings.Contains(f.Reason, s) {
				t.Errorf("%s repeats a value", f.Reason)
			}
		}
	}
}

func FuzzJudge(f *testing.F) {
	f.Add("users", "email", "text", "a@b.co")
	f.Add("t", "phone", "int8", "+31612345678")
	f.Fuzz(func(t *testing.T, table, name, typ, value string) {
		found, ok := Judge(Column{table, name, typ, []string{value, value + "1"}})
		if ok && (found.Kind == "" || len(found.Kind.Masks()) == 0 || found.Reason == "") {
			t.Errorf("%+v", found)
		}
	})
}
