package detect

import (
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
