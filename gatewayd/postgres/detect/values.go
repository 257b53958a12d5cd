package detect

import (
	_ "embed"
	"math"
	"math/big"
	"net/mail"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/nyaruka/phonenumbers"
)

// detector is what values of one kind look like. share is the percentage of
// the values that have to, and least how many there have to be; a name that says
// the same lowers both. Those that a checksum or a fixed prefix proves come first.
type detector struct {
	kind  Kind
	looks func(string) bool
	share int
	least int
	text  bool
	types []string // beside textual ones
}

var detectors = []detector{
	{Email, isEmail, 60, 2, true, nil},
	{IBAN, isIBAN, 60, 2, true, nil},
	{Card, isCard, 80, 5, true, []string{"int8", "numeric"}},
	{National, isNational, 80, 2, true, nil},
	{Secret, isSecret, 60, 2, true, nil},
	{Phone, isPhone, 70, 3, true, nil},
	{National, isCounted, 90, 6, true, []string{"int8", "int4", "numeric"}},
	{Place, isPosition, 80, 3, true, []string{"point"}},
	{Address, isStreet, 50, 3, true, nil},
	{Address, isPostcode, 80, 3, true, nil},
	{Name, isNamed, 60, 4, true, nil},
	{Text, mentions, 25, 3, true, nil},
}

func isEmail(s string) bool {
	if len(s) > 254 || strings.ContainsAny(s, " <>") {
		return false
	}
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s && strings.Contains(s[strings.LastIndexByte(s, '@'):], ".")
}

// isPhone takes international numbers only: without the country, any row of digits may be one.
func isPhone(s string) bool {
	if !strings.HasPrefix(s, "+") && !strings.HasPrefix(s, "00") || len(s) > 32 {
		return false
	}
	n, err := phonenumbers.Parse("+"+strings.TrimPrefix(strings.TrimPrefix(s, "+"), "00"), "")
	return err == nil && phonenumbers.IsPossibleNumber(n)
}

var ibanForm = regexp.MustCompile(`^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$`)

func isIBAN(s string) bool {
	s = strings.ToUpper(strings.ReplaceAll(s, " ", ""))
	if !ibanForm.MatchString(s) {
		return false
	}
	var digits strings.Builder
	for _, c := range s[4:] + s[:4] {
		if c >= 'A' {
			digits.WriteString(strconv.Itoa(int(c-'A') + 10))
		} else {
			digits.WriteRune(c)
		}
	}
	n, ok := new(big.Int).SetString(digits.String(), 10)
	return ok && new(big.Int).Mod(n, big.NewInt(97)).Int64() == 1
}

var cardForm = regexp.MustCompile(`^(3[0-9]{3}|[4-6][0-9]{3}|2[2-7][0-9]{2})[ -]?[0-9]{4,6}[ -]?[0-9]{4,5}[ -]?[0-9]{0,7}$`)

func isCard(s string) bool {
	d := onlyDigits(s)
	return cardForm.MatchString(s) && len(d) >= 13 && len(d) <= 19 && luhn(d)
}

func luhn(digits string) bool {
	sum := 0
	for i := range len(digits) {
		n := int(digits[len(digits)-1-i] - '0')
		if i%2 == 1 {
			if n *= 2; n > 9 {
				n -= 9
			}
		}
		sum += n
	}
	return sum%10 == 0
}

func onlyDigits(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}

var (
	ssnForm    = regexp.MustCompile(`^([0-8][0-9]{2})-([0-9]{2})-([0-9]{4})$`)
	ninoForm   = regexp.MustCompile(`^[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]$`)
	fiscalForm = regexp.MustCompile(`^[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z]$`)
	dniForm    = regexp.MustCompile(`^[0-9XYZ][0-9]{7}[A-Z]$`)
	cpfForm    = regexp.MustCompile(`^[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}$`)
)

// isNational takes forms that hardly anything else has. Bare rows of digits are left to the name.
func isNational(s string) bool {
	if m := ssnForm.FindStringSubmatch(s); m != nil {
		return m[1] != "000" && m[1] != "666" && m[2] != "00" && m[3] != "0000"
	}
	if dniForm.MatchString(s) {
		n, err := strconv.Atoi(strings.NewReplacer("X", "0", "Y", "1", "Z", "2").Replace(s[:1]) + s[1:8])
		return err == nil && "TRWAGMYFPDXBNJZSQVHLCKE"[n%23] == s[8]
	}
	return ninoForm.MatchString(s) || fiscalForm.MatchString(s) || cpfForm.MatchString(s)
}

// secretForms are prefixes and shapes that credentials are made with. They are few on
// purpose: the rules of gitleaks are for files of code, and as a module it brings a configuration
// library, a terminal and an archive reader along.
var secretForms = regexp.MustCompile(`^(` + strings.Join([]string{
	`A(KIA|SIA)[A-Z0-9]{16}`, `gh[pousr]_[A-Za-z0-9]{36,}`, `github_pat_[A-Za-z0-9_]{22,}`, `glpat-[A-Za-z0-9_-]{20,}`, `xox[abposr]-[A-Za-z0-9-]{10,}`,
	`[sr]k_(live|test)_[A-Za-z0-9]{16,}`, `whsec_[A-Za-z0-9]{16,}`, `SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}`, `AIza[A-Za-z0-9_-]{35}`, `npm_[A-Za-z0-9]{36}`, `sk-[A-Za-z0-9_-]{20,}`,
	`eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*`, `\$2[abxy]?\$[0-9]{2}\$[./A-Za-z0-9]{53}`, `\$(argon2(id|i|d)|scrypt|pbkdf2[a-z0-9-]*|5|6|7|y)\$.{8,}`,
	`(pbkdf2_sha256|SCRAM-SHA-256|bcrypt_sha256)\$.{8,}`, `\{(SSHA|SHA|CRYPT|BCRYPT)\}.{8,}`,
}, "|") + `)$`)

func isSecret(s string) bool {
	return secretForms.MatchString(s) || strings.HasPrefix(s, "-----BEGIN ") && strings.Contains(s, "PRIVATE KEY-----") || random(s)
}

// random says whether a text of 32 characters or more is too mixed for anything but a key: not a
// uuid or a digest, which hexadecimal digits alone make up.
func random(s string) bool {
	if len(s) < 32 || len(s) > 256 {
		return false
	}
	var seen [256]int
	upper, lower, digit := false, false, false
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'A' && c <= 'Z':
			upper = true
		case c >= 'a' && c <= 'z':
			lower = true
		case c >= '0' && c <= '9':
			digit = true
		case strings.IndexByte("+/=_-", c) < 0:
			return false
		}
		seen[c]++
	}
	bits := 0.0
	for _, n := range seen {
		if n > 0 {
			p := float64(n) / float64(len(s))
			bits -= p * math.Log2(p)
		}
	}
	return upper && lower && digit && bits > 4
}

var personForm = regexp.MustCompile(`^\p{L}[\p{L}\p{M}'’.-]*(,? \p{L}[\p{L}\p{M}'’.-]*){0,4}$`)

// personal says whether a value could be the name of a person.
func personal(s string) bool { return len(s) <= 80 && personForm.MatchString(s) }

var macForm = regexp.MustCompile(`^([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}$`)

func isNetwork(s string) bool {
	if macForm.MatchString(s) {
		return true
	}
	if _, err := netip.ParsePrefix(s); err == nil {
		return true
	}
	_, err := netip.ParseAddr(s)
	return err == nil
}

//go:embed names.txt
var firstNamesText string

// firstNames are first names that many people have, of some twenty languages.
var firstNames = set(firstNamesText)

var positionForm = regexp.MustCompile(`^\(?-?[0-9]{1,2}\.[0-9]{3,}[,; ] ?-?[0-9]{1,3}\.[0-9]{3,}\)?$`)

// isPosition takes a latitude and a longitude in one value.
func isPosition(s string) bool { return positionForm.MatchString(s) }

// streetForm is a word for a street beside a house number, in the languages that most addresses of Europe and America are written in.
var streetForm = regexp.MustCompile(`(?i)^([0-9]+[a-z]?,? .*\b(street|st|road|rd|avenue|ave|lane|ln|drive|dr|boulevard|blvd|court|close|terrace|way|square|parkway|rue|chemin|allée|allee|quai|place|impasse)\b.*|` +
	`.*((stra(ss|ß|at)e?|gasse|allee|platz|weg|laan|plein|gracht|kade|dijk|singel|steeg|dreef|gatan|vägen|gade|vej|gata|veien)\b|str\.)[^0-9]{0,4}[0-9]+.*|` +
	`(calle|c/|avenida|av\.|paseo|plaza|carrer|via|viale|piazza|corso|vicolo|rua|travessa|praça|ul\.|ulica|aleja|os\.)\s.*[0-9]+.*)$`)

func isStreet(s string) bool { return len(s) <= 120 && streetForm.MatchString(s) }

// postcodeForm are those with letters in them: rows of digits may be anything.
var postcodeForm = regexp.MustCompile(`^([0-9]{4} ?[A-Z]{2}|[A-Z]{1,2}[0-9][0-9A-Z]? [0-9][A-Z]{2}|[A-Z][0-9][A-Z] [0-9][A-Z][0-9]|[0-9]{2}-[0-9]{3}|[A-Z]{1,2}-[0-9]{4,5}|[0-9]{5}-[0-9]{4}|[0-9]{5}-[0-9]{3})$`)

func isPostcode(s string) bool { return postcodeForm.MatchString(s) }

var countedForm = regexp.MustCompile(`^[0-9]{2}[0-9. /-]{6,14}[0-9]$`)

// isCounted takes rows of digits with the checksum of a national number: one of the
// Netherlands, Poland, Brazil, Sweden, Belgium, France, Switzerland or Germany. One row in ten has one by chance, nine in ten do not.
func isCounted(s string) bool {
	if !countedForm.MatchString(s) {
		return false
	}
	d := onlyDigits(s)
	weigh := func(weights ...int) int {
		sum := 0
		for i, w := range weights {
			sum += w * int(d[i]-'0')
		}
		return sum
	}
	number := func(s string) int64 { n, _ := strconv.ParseInt(s, 10, 64); return n }
	switch len(d) {
	case 9:
		return weigh(9, 8, 7, 6, 5, 4, 3, 2, -1)%11 == 0
	case 10:
		return luhn(d) && number(d[2:4]) >= 1 && number(d[2:4]) <= 12
	case 11:
		pesel := weigh(1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)%10 == 0 && (number(d[2:4])%20+19)%20 < 12
		first := weigh(10, 9, 8, 7, 6, 5, 4, 3, 2) * 10 % 11 % 10
		second := weigh(11, 10, 9, 8, 7, 6, 5, 4, 3, 2) * 10 % 11 % 10
		belgian := number(d[9:]) == 97-number(d[:9])%97 || number(d[9:]) == 97-number("2"+d[:9])%97
		return pesel || first == int(d[9]-'0') && second == int(d[10]-'0') || belgian || steuer(d)
	case 12:
		return luhn(d[2:]) && number(d[4:6]) >= 1 && number(d[4:6]) <= 12
	case 13:
		return strings.HasPrefix(d, "756") && weigh(1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1)%10 == 0
	case 15:
		return (d[0] == '1' || d[0] == '2') && number(d[13:]) == 97-number(d[:13])%97
	}
	return false
}

// steuer checks the digit of a German tax number.
func steuer(d string) bool {
	product := 10
	for i := range 10 {
		sum := (int(d[i]-'0') + product) % 10
		if sum == 0 {
			sum = 10
		}
		product = sum * 2 % 11
	}
	return d[0] != '0' && (11-product)%10 == int(d[10]-'0')
}

var (
	titles    = set("mr mrs ms miss dr prof sir herr frau hr fr dhr mevr mw de heer mevrouw m mme mlle monsieur madame señor señora sr sra don doña sig dott")
	separates = regexp.MustCompile(`[\s,.;/]+`)
)

// isNamed says whether a value is formed like a name and has a first name among its words that many people have.
func isNamed(s string) bool {
	if !personal(s) || strings.ToUpper(s) == s && len(s) <= 4 {
		return false
	}
	for i, w := range separates.Split(strings.ToLower(s), 6) {
		if firstNames[w] && (i < 2 || strings.Contains(s, ",")) {
			return true
		}
		if i == 0 && titles[w] && strings.Contains(s, " ") {
			return true
		}
	}
	return false
}

var (
	mailWithin  = regexp.MustCompile(`[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}`)
	phoneWithin = regexp.MustCompile(`(\+|\b00)[1-9][0-9][0-9 ().-]{6,16}[0-9]`)
	digitWithin = regexp.MustCompile(`\b[0-9][0-9 -]{11,21}[0-9]\b`)
	ibanWithin  = regexp.MustCompile(`\b[A-Z]{2}[0-9]{2}[A-Z0-9]( ?[A-Z0-9]){10,29}\b`)
	ssnWithin   = regexp.MustCompile(`\b[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}\b`)
	localWithin = regexp.MustCompile(`\b0[1-9][0-9]{0,3}[ /-][0-9]{2,4}([ -]?[0-9]{2,4}){1,3}\b`)
)

// mentions says whether a longer text has an e-mail address, a phone, card, bank or social security number in it.
func mentions(s string) bool {
	return strings.Contains(s, " ") && !strings.HasPrefix(s, "http") && (mailWithin.MatchString(s) || phoneWithin.MatchString(s) || ssnWithin.MatchString(s) || localWithin.MatchString(s) ||
		anyOf(digitWithin.FindAllString(s, 5), isCard) || anyOf(ibanWithin.FindAllString(s, 5), isIBAN))
}

func anyOf(list []string, f func(string) bool) bool {
	for _, s := range list {
		if f(s) {
			return true
		}
	}
	return false
}
