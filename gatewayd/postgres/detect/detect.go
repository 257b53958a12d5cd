// Package detect guesses what personal or secret data a column holds, by its
// name, its type and sample values. It says what made it think so and never
// repeats a value. It is for proposals that people look at: what it misses is
// not masked, so nothing enforces what it says.
package detect

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Kind is what a column may hold.
type Kind string

const (
	Email    Kind = "e-mail address"
	Phone    Kind = "phone number"
	IBAN     Kind = "IBAN"
	Card     Kind = "card number"
	National Kind = "national id"
	Name     Kind = "name of a person"
	Address  Kind = "postal address"
	Birth    Kind = "date of birth"
	Secret   Kind = "secret"
	Network  Kind = "network address"
	Pay      Kind = "pay"
	Place    Kind = "position of a person"
	Health   Kind = "health data"
	Trait    Kind = "belief, origin or orientation"
	Text     Kind = "text with personal data in it"
)

// Masks are the masks that fit a kind, the best one first. One of them has a form for every type.
func (k Kind) Masks() []string {
	switch k {
	case Email:
		return []string{"email", "redact", "null"}
	case Phone:
		return []string{"last(2)", "redact", "null"}
	case IBAN, Card:
		return []string{"last4", "redact", "null"}
	case Name:
		return []string{"first", "redact", "null"}
	case Birth:
		return []string{"year", "redact", "null"}
	}
	return []string{"redact", "null"}
}

// Column is what is known of one column.
type Column struct {
	Table, Name string
	Type        string   // base type: "text", "int8", "jsonb"
	Samples     []string // values other than NULL, as text
}

// Finding is what a column probably holds.
type Finding struct {
	Kind   Kind
	Reason string // in words, without a value
}

// Judge says what a column of a plain type probably holds.
func Judge(c Column) (Finding, bool) {
	if !holds(c.Type) {
		return Finding{}, false
	}
	named, hint := byName(c)
	values := distinct(c.Samples)
	if k, share, n := byValue(c.Type, values, named); n > 0 {
		reason := fmt.Sprintf("%d of %d sampled values look like one", share, n)
		if k == named {
			reason = "the name says so, and " + reason
		}
		return Finding{k, reason}, true
	}
	if named == "" || !plausible(named, c.Type, hint, values) {
		return Finding{}, false
	}
	if len(values) == 0 {
		return Finding{named, "the name says so; there was no value to look at"}, true
	}
	return Finding{named, fmt.Sprintf("the name says so, and the %d sampled values do not contradict", len(values))}, true
}

// holds says whether columns of a type hold any of the kinds.
func holds(typ string) bool {
	switch typ {
	case "text", "varchar", "bpchar", "citext", "name", "int4", "int8", "numeric", "float4", "float8", "money", "date", "timestamp", "timestamptz", "bytea", "uuid", "inet", "cidr", "point", "_text", "_varchar":
		return true
	}
	return false
}

func textual(typ string) bool {
	return slices.Contains([]string{"text", "varchar", "bpchar", "citext", "name", "_text", "_varchar"}, typ)
}

// distinct are the values without repetition and without empty ones.
func distinct(samples []string) []string {
	values := slices.Clone(samples)
	for i := range values {
		values[i] = strings.TrimSpace(values[i])
	}
	slices.Sort(values)
	return slices.DeleteFunc(slices.Compact(values), func(s string) bool { return s == "" })
}

var wordBreak = regexp.MustCompile(`([a-z0-9])([A-Z])`)

// words takes a name like customerEmail or billing_addr1 apart.
func words(name string) []string {
	name = strings.ToLower(wordBreak.ReplaceAllString(name, "${1}_$2"))
	return strings.FieldsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && r < 0x80 })
}

// about are words that make a column one about such data: how many, when, whether, of which kind.
var about = set("count number_of at on is has verified verification confirmed valid enabled status type kind format template subject id ids hint policy length expires expiry expired expiration version attempts changed updated created sent opted opt provider domain label title column table key_id algorithm limit days")

// people are words of tables whose rows are people.
var people = set(`user users customer customers client clients person persons people employee employees staff member members patient patients contact contacts student students teacher teachers guest guests subscriber subscribers applicant applicants candidate candidates lead leads author authors driver drivers tenant tenants owner owners cardholder cardholders profile profiles passenger passengers donor donors beneficiary beneficiaries
	resident residents household households parent parents child children nurse nurses doctor doctors physician physicians worker workers volunteer volunteers attendee attendees recipient recipients
	klant klanten gebruiker gebruikers medewerker medewerkers persoon personen lid leden deelnemer deelnemers bewoner bewoners huurder huurders leerling leerlingen docent docenten
	kunde kunden benutzer nutzer mitarbeiter personen mitglied mitglieder patienten mieter schueler lehrer utilisateur utilisateurs personne personnes employe employes salarie salaries membre membres eleve eleves
	usuario usuarios cliente clientes empleado empleados persona personas paciente pacientes alumno alumnos usuarios pessoa pessoas funcionario funcionarios utente utenti clienti dipendente dipendenti persone pazienti
	kund kunder anvandare medlem medlemmar klient klienci osoba osoby pracownik pracownicy uzytkownik`)

// towns are words that tell where somebody lives, where the table is about people.
var towns = set("city town village plaats stad gemeente ort stadt ville commune ciudad localidad municipio cidade citta comune miasto county")

// names are words that mean name, and say so of a person where the table is about people.
var names = set("name naam nom nombre nome namn navn imie nazwa")

func set(list string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(list) {
		m[w] = true
	}
	return m
}

// phrases are names, as words joined by spaces, that say what a column holds. A
// phrase in the name is enough, wherever it stands.
var phrases = []struct {
	kind Kind
	list []string
}{
	{Secret, []string{"password", "passwd", "passphrase", "pwd", "secret", "api key", "apikey", "private key", "access token", "refresh token", "auth token", "bearer token", "session token", "reset token", "token", "otp", "totp", "mfa seed", "recovery code", "credentials", "signing key", "encryption key", "client secret", "webhook secret", "pin code", "pin",
		"wachtwoord", "passwort", "kennwort", "mot de passe", "contrasena", "clave", "senha", "geheim", "losenord", "haslo", "seed phrase", "private pem", "ssh key", "security answer", "pincode"}},
	{Email, []string{"email", "e mail", "mail address", "emails",
		"mail", "emailadres", "mailadres", "courriel", "correo", "correo electronico", "e mailadresse", "emailadresse", "epost", "contact mail"}},
	{Phone, []string{"phone", "mobile", "telephone", "tel", "cell", "fax", "msisdn", "whatsapp", "phones",
		"telefoon", "telefoonnummer", "mobiel", "gsm", "telefon", "telefonnummer", "handy", "handynummer", "mobil", "telephone", "portable", "telefono", "movil", "celular", "telefone", "telemovel", "cellulare", "komorka", "contact number", "contact no", "mobile no", "phone no", "handphone", "landline", "rufnummer"}},
	{IBAN, []string{"iban", "bank account", "account no", "account number", "routing number", "sort code",
		"rekeningnummer", "bankrekening", "bankrekeningnummer", "kontonummer", "konto", "compte bancaire", "rib", "cuenta bancaria", "conta bancaria", "conto corrente", "bank account number", "swift", "bic", "bban", "clabe"}},
	{Card, []string{"card number", "card no", "credit card", "creditcard", "pan", "cardnumber", "cc number", "cvv", "cvc",
		"kaartnummer", "kreditkarte", "kartennummer", "carte bancaire", "numero de carte", "tarjeta", "numero tarjeta", "cartao", "card pan", "primary account number", "creditcardnummer"}},
	{National, []string{"ssn", "social security", "sin", "bsn", "nino", "national id", "national insurance", "passport", "tax id", "tin", "taxpayer", "steuer id", "personnummer", "cpf", "nif", "dni", "pesel", "nir", "codice fiscale", "fiscal code", "aadhaar", "id card", "driver license", "drivers license", "driving licence", "license number", "insurance number", "medical record", "mrn",
		"burgerservicenummer", "sofinummer", "rijksregisternummer", "paspoort", "paspoortnummer", "rijbewijs", "rijbewijsnummer", "sozialversicherungsnummer", "steuernummer", "steueridentifikationsnummer", "ausweisnummer", "reisepass", "numero de securite sociale", "securite sociale", "numero secu", "passeport", "permis de conduire", "pasaporte", "cedula", "curp", "rfc", "rut", "nie", "documento", "rg", "passaporte", "passaporto", "cf", "codicefiscale", "personnr", "fodselsnummer", "cpr", "hetu", "identity number", "identity card", "national number", "citizen id", "social insurance", "health insurance number", "nhs number", "medicare number", "ein", "itin", "visa number", "licence plate", "license plate", "kenteken", "kennzeichen", "plate number", "vin"}},
	{Birth, []string{"birth", "dob", "birthday", "birthdate", "date of birth", "born",
		"geboortedatum", "geboren", "geburtsdatum", "geburtstag", "date de naissance", "naissance", "fecha de nacimiento", "nacimiento", "data de nascimento", "nascimento", "data di nascita", "nascita", "data urodzenia", "fodelsedatum", "year of birth", "yob", "birth year", "geboortejaar", "geburtsjahr"}},
	{Name, []string{"first name", "last name", "firstname", "lastname", "surname", "given name", "family name", "middle name", "maiden name", "full name", "fullname", "display name", "contact name", "customer name", "client name", "employee name", "patient name", "person name", "cardholder name", "account holder", "legal name", "recipient name", "vorname", "nachname", "prenom", "apellido", "forename", "holder name", "guest name", "owner name", "emergency contact",
		"voornaam", "achternaam", "tussenvoegsel", "roepnaam", "familienaam", "volledige naam", "naam klant", "familienname", "prenoms", "nom de famille", "nom complet", "nombres", "apellidos", "sobrenome", "apelido", "nome completo", "cognome", "nazwisko", "imie", "fornamn", "efternamn", "fornavn", "etternavn", "nick name", "nickname", "initials", "voorletters", "signatory", "signed by", "next of kin", "emergency contact name", "mother name", "father name", "spouse", "spouse name", "partner name", "partner", "contact person", "contactpersoon", "ansprechpartner", "beneficiary", "payee", "payer", "passenger", "attendee", "patient", "guardian", "ordered by name", "sender name", "receiver name", "to name", "from name", "addressee"}},
	{Address, []string{"street", "address", "addr", "address line", "postcode", "postal code", "zip", "zipcode", "zip code", "house number", "po box", "strasse", "plz", "apartment",
		"straat", "straatnaam", "huisnummer", "adres", "woonadres", "postadres", "woonplaats", "hausnummer", "adresse", "anschrift", "wohnort", "postleitzahl", "rue", "code postal", "calle", "direccion", "domicilio", "codigo postal", "rua", "endereco", "cep", "morada", "via", "indirizzo", "cap", "ulica", "kod pocztowy", "gata", "postnummer", "home town", "hometown", "residence", "place of birth", "birthplace", "birth place", "geboorteplaats", "geburtsort", "lieu de naissance", "suburb", "eircode", "pincode area", "shipping to", "ship to", "bill to", "line1", "line2", "what3words"}},
	{Network, []string{"ip", "ip address", "ip addr", "remote addr", "client ip", "mac address", "mac", "last login ip",
		"ip adres", "ipv", "last ip", "source ip", "src ip", "user agent fingerprint", "device fingerprint", "device id", "imei", "imsi", "advertising id", "idfa", "gaid"}},
	{Pay, []string{"salary", "wage", "wages", "income", "compensation", "net pay", "gross pay", "bonus",
		"salaris", "loon", "gehalt", "lohn", "einkommen", "inkomen", "salaire", "revenu", "sueldo", "salario", "ordenado", "renda", "stipendio", "reddito", "pay", "hourly rate", "day rate", "base pay", "annual pay", "net worth", "credit score", "commission", "remuneration", "pension", "pensioen"}},
	{Place, []string{"latitude", "longitude", "lat", "lng", "lon", "long", "coordinates", "coords", "geo", "gps", "geolocation", "geopoint", "last location", "home location", "breedtegraad", "lengtegraad", "breitengrad", "laengengrad"}},
	{Health, []string{"diagnosis", "diagnoses", "diagnose", "diagnosi", "diagnostic", "icd", "icd code", "medication", "medications", "medicatie", "medicine", "medikament", "medicament", "allergy", "allergies", "allergie", "allergien", "blood type", "blood group", "bloedgroep", "blutgruppe", "symptoms", "symptomen", "symptome", "treatment", "behandeling", "behandlung", "prescription", "dosage", "disability", "handicap", "vaccination", "vaccine", "test result", "lab result", "anamnesis", "anamnese", "illness", "ziekte", "krankheit", "maladie", "enfermedad", "klachten", "aandoening", "medical", "medical history", "medical notes", "health", "complaint text", "body mass index", "bmi", "pregnant", "pregnancy", "therapy"}},
	{Trait, []string{"religion", "religie", "konfession", "religione", "ethnicity", "ethnic", "race", "etniciteit", "sexual orientation", "orientation", "sexuality", "political party", "political affiliation", "political view", "trade union", "union membership", "criminal record", "convictions", "strafblad"}},
}

// byName says what a column's name says. hint is the phrase that did.
func byName(c Column) (Kind, string) {
	w := words(c.Name)
	if n := len(w); n > 1 && (w[n-1] == "on" || w[n-1] == "at") && (w[n-2] == "born" || w[n-2] == "birth") {
		w = w[:n-1]
	}
	name := " " + strings.Join(w, " ") + " "
	if len(w) == 0 || about[w[len(w)-1]] && !slices.Contains([]string{"national id", "tax id", "steuer id"}, strings.Join(w[max(0, len(w)-2):], " ")) || about[w[0]] && w[0] != "table" && w[0] != "id" {
		return "", ""
	}
	best, hint := Kind(""), ""
	for _, p := range phrases {
		for _, phrase := range p.list {
			if strings.Contains(name, " "+phrase+" ") && len(phrase) > len(hint) {
				best, hint = p.kind, phrase
			}
		}
	}
	if best != "" {
		return best, hint
	}
	last := w[len(w)-1]
	if names[last] && len(w) == 1 && slices.ContainsFunc(words(c.Table), func(t string) bool { return people[t] }) {
		return Name, "name"
	}
	if towns[last] && slices.ContainsFunc(words(c.Table), func(t string) bool { return people[t] }) {
		return Address, last
	}
	return "", ""
}

// plausible says whether type and values agree with what the name says.
func plausible(k Kind, typ, hint string, values []string) bool {
	number := slices.Contains([]string{"int4", "int8", "numeric"}, typ)
	share := func(f func(string) bool) bool { return len(values) == 0 || count(values, f)*10 >= len(values)*6 }
	digits := func(least, most int) func(string) bool {
		return func(s string) bool { n := len(onlyDigits(s)); return n >= least && n <= most }
	}
	switch k {
	case Email:
		return textual(typ) && share(func(s string) bool { return strings.Contains(s, "@") })
	case Phone:
		return (textual(typ) || typ == "int8" || typ == "numeric") && share(digits(6, 15))
	case IBAN:
		return (textual(typ) || number) && share(digits(5, 34))
	case Card:
		if hint == "cvv" || hint == "cvc" {
			return (textual(typ) || number) && share(digits(3, 4))
		}
		return (textual(typ) || typ == "int8" || typ == "numeric") && share(digits(12, 19))
	case National:
		return (textual(typ) || number) && share(digits(4, 20))
	case Name:
		return textual(typ) && share(personal)
	case Address:
		return textual(typ) && !share0(values, func(s string) bool { return isNetwork(s) || strings.Contains(s, "@") || strings.HasPrefix(s, "0x") })
	case Birth:
		return typ == "date" || typ == "timestamp" || typ == "timestamptz" || textual(typ) && share(digits(4, 8))
	case Secret:
		return (textual(typ) || typ == "bytea" || typ == "uuid" || hint == "pin" || hint == "pin code") && (hint != "token" || share(func(s string) bool { return len(s) >= 16 }))
	case Network:
		return typ == "inet" || typ == "cidr" || textual(typ) && share(isNetwork)
	case Place:
		return typ == "point" || number || slices.Contains([]string{"float4", "float8"}, typ) || textual(typ) && share(isPosition)
	case Health, Trait:
		return textual(typ) || number
	case Pay:
		return number || slices.Contains([]string{"money", "float4", "float8"}, typ)
	}
	return false
}

func share0(values []string, f func(string) bool) bool {
	return len(values) > 0 && count(values, f)*10 >= len(values)*6
}

func count(values []string, f func(string) bool) int {
	n := 0
	for _, v := range values {
		if f(v) {
			n++
		}
	}
	return n
}

// byValue says what most values look like, how many of them, and of how many. n is 0 for nothing.
func byValue(typ string, values []string, named Kind) (k Kind, matched, n int) {
	if len(values) == 0 {
		return "", 0, 0
	}
	for _, d := range detectors {
		if !slices.Contains(d.types, typ) && !(textual(typ) && d.text) {
			continue
		}
		need, least := d.share, d.least
		if d.kind == named {
			need, least = min(need, 50), 1
		}
		if m := count(values, d.looks); len(values) >= least && m*100 >= len(values)*need && m > 0 {
			return d.kind, m, len(values)
		}
	}
	return "", 0, 0
}

// Members are the paths of JSON documents, without array indexes, whose
// values probably are personal or secret, with the reason of each.
func Members(table string, documents []any) map[string]Finding {
	values := map[string][]string{}
	for _, d := range documents {
		walk(d, "", 0, values)
	}
	found := map[string]Finding{}
	for path, samples := range values {
		name := path[strings.LastIndexByte(path, '.')+1:]
		if f, ok := Judge(Column{Table: table, Name: name, Type: "text", Samples: samples}); ok {
			found[path] = f
		}
	}
	return found
}

var plainMember = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func walk(v any, path string, depth int, values map[string][]string) {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if !plainMember.MatchString(name) || depth >= 8 {
				continue
			}
			at := name
			if path != "" {
				at = path + "." + name
			}
			walk(member, at, depth+1, values)
		}
	case []any:
		for _, item := range v {
			walk(item, path, depth, values)
		}
	case string:
		if path != "" {
			values[path] = append(values[path], v)
		}
	case float64:
		if path != "" {
			values[path] = append(values[path], fmt.Sprint(v))
		}
	}
}
