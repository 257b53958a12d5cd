package postgres

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
	"github.com/sallyport-dev/sallyport/internal/peers"
)

// BenchmarkPgbench runs pgbench -S with 8 clients against the target and through
// the gateway, in turns, and prints the median of the paired ratios. Statements are
// decided and recorded, as in production with durability: process; there is no TLS
// on either way, so that the two differ by the gateway alone. The processor time that
// the gateway takes for a query says more than the ratio where other programs run.
func BenchmarkPgbench(b *testing.B) {
	target, err := peers.Postgres(b.Context(), peers.PostgresOptions{}) // the shared one logs each statement
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { target.Stop() })
	pgbench := filepath.Join(target.Bin, "pgbench")
	if _, err := os.Stat(pgbench); err != nil {
		b.Fatalf("%v: install postgresql, whose server package has pgbench", err)
	}
	w := newWorld(b, variant{target: target, rows: 1 << 40, plain: true})
	w.exec(`create table app.pgbench_accounts (aid int primary key, bid int, abalance int, filler char(84));
		insert into app.pgbench_accounts select i, 1, 0, '' from generate_series(1, 100000) i; analyze; grant all on app.pgbench_accounts to ` + w.role)
	script := filepath.Join(b.TempDir(), "select.sql")
	if err := os.WriteFile(script, []byte("\\set aid random(1, 100000)\nSELECT abalance FROM app.pgbench_accounts WHERE aid = :aid;\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	gatewayHost, gatewayPort, _ := net.SplitHostPort(w.address)
	direct := []string{"PGHOST=" + target.Host, fmt.Sprintf("PGPORT=%d", target.Port), "PGUSER=" + w.role, "PGDATABASE=" + w.database, "PGPASSWORD=" + w.secret}
	for _, mode := range []string{"simple", "extended", "prepared"} {
		b.Run(mode, func(b *testing.B) {
			var ratios, cpu []float64
			through := 0.0
			for range max(b.N, 3) {
				gateway := []string{"PGHOST=" + gatewayHost, "PGPORT=" + gatewayPort, "PGUSER=agent:etl", "PGDATABASE=orders-db", "PGPASSWORD=" + w.token()}
				one, _ := tps(b, 3, pgbench, script, mode, direct)
				before := processorTime(b)
				two, transactions := tps(b, 3, pgbench, script, mode, gateway)
				cpu = append(cpu, float64((processorTime(b)-before).Microseconds())/transactions)
				ratios, through = append(ratios, two/one), max(through, two)
			}
			slices.Sort(ratios)
			slices.Sort(cpu)
			b.ReportMetric(ratios[len(ratios)/2], "of-direct")
			b.ReportMetric(through, "tps")
			b.ReportMetric(cpu[len(cpu)/2], "gateway-µs/query")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkSplice runs single-row lookups straight against the target, in turns as
// an analyst writes them and as the gateway sends them on, and prints the median
// of the paired ratios: what masking costs the target.
func BenchmarkSplice(b *testing.B) {
	target, err := peers.Postgres(b.Context(), peers.PostgresOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { target.Stop() })
	pgbench := filepath.Join(target.Bin, "pgbench")
	w := newWorld(b, variant{target: target})
	w.exec(`create table app.people (id int primary key, name text, email text, country text);
		insert into app.people select i, 'name ' || i, i || '@example.com', 'nl' from generate_series(1, 100000) i; analyze; grant all on app.people to ` + w.role)
	catalog, err := sqlguard.ParseCatalog([]byte(w.one("set search_path = pg_catalog; " + sqlguard.PullQuery)))
	if err != nil {
		b.Fatal(err)
	}
	identities, err := sqlguard.ParseIdentities([]byte(w.one(sqlguard.IdentityQuery)))
	if err != nil {
		b.Fatal(err)
	}
	guard, err := sqlguard.New(catalog, sqlguard.Options{Masks: []sqlguard.Mask{{Column: "app.people.email", With: "redact"}}, Identities: identities})
	if err != nil {
		b.Fatal(err)
	}
	direct := []string{"PGHOST=" + target.Host, fmt.Sprintf("PGPORT=%d", target.Port), "PGUSER=" + w.role, "PGDATABASE=" + w.database, "PGPASSWORD=" + w.secret}
	const constant = "424242"
	for name, text := range map[string]string{
		"unreached": "select name, country from app.people where id = " + constant,
		"reached":   "select name, email from app.people where id = " + constant,
		"fenced":    "select upper(name), email from app.people where id = " + constant,
	} {
		st := guard.Understand(text, sqlguard.Scope{SearchPath: []string{"app"}})
		if st.Command.Refusal != nil || st.Rewritten == text {
			b.Fatalf("%s: %v", text, st.Command.Refusal)
		}
		scripts := map[string]string{text: "", st.Rewritten: ""}
		for sql := range scripts {
			scripts[sql] = filepath.Join(b.TempDir(), "script.sql")
			if err := os.WriteFile(scripts[sql], []byte("\\set id random(1, 100000)\n"+strings.ReplaceAll(sql, constant, ":id")+";\n"), 0o600); err != nil {
				b.Fatal(err)
			}
		}
		for _, mode := range []string{"simple", "extended", "prepared"} {
			b.Run(name+"/"+mode, func(b *testing.B) {
				var ratios []float64
				for range max(b.N, 9) { // short ones, which what else runs on the machine meets alike
					plain, _ := tps(b, 1, pgbench, scripts[text], mode, direct)
					spliced, _ := tps(b, 1, pgbench, scripts[st.Rewritten], mode, direct)
					ratios = append(ratios, spliced/plain)
				}
				slices.Sort(ratios)
				b.ReportMetric(ratios[len(ratios)/2], "of-direct")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

var (
	tpsLine          = regexp.MustCompile(`tps = ([0-9.]+)`)
	transactionsLine = regexp.MustCompile(`transactions actually processed: ([0-9]+)`)
)

// tps runs a script with 8 clients for some seconds.
func tps(b *testing.B, seconds int, pgbench, script, mode string, env []string) (perSecond, transactions float64) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, pgbench, "-n", "-c", "8", "-j", "2", "-T", strconv.Itoa(seconds), "-M", mode, "-f", script)
	cmd.Env = append(append(peers.CleanEnv(os.Environ(), b.TempDir()), "PGSSLMODE=disable"), env...)
	out, err := cmd.CombinedOutput()
	number := func(line *regexp.Regexp) float64 {
		m := line.FindSubmatch(out)
		if err != nil || m == nil {
			b.Fatalf("%v\n%s", err, out)
		}
		n, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	return number(tpsLine), number(transactionsLine)
}

// processorTime is what this process, in which the gateway runs, has used so far.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
