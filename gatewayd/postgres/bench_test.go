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
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// BenchmarkPgbench runs pgbench -S with 8 clients against the target and through
// the gateway, in turns, and prints the median of the paired ratios. Statements are
// decided and recorded, as in production with durability: process; there is no TLS
// on either way, so that the two differ by the gateway alone.
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
	w := newWorld(b, variant{target: target, rows: 1 << 40})
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
			var ratios []float64
			through := 0.0
			for range max(b.N, 3) {
				gateway := []string{"PGHOST=" + gatewayHost, "PGPORT=" + gatewayPort, "PGUSER=agent:etl", "PGDATABASE=orders-db", "PGPASSWORD=" + w.token()}
				one := tps(b, pgbench, script, mode, direct)
				two := tps(b, pgbench, script, mode, gateway)
				ratios, through = append(ratios, two/one), max(through, two)
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "of-direct")
			b.ReportMetric(through, "tps")
			b.ReportMetric(0, "ns/op")
		})
	}
}

var tpsLine = regexp.MustCompile(`tps = ([0-9.]+)`)

func tps(b *testing.B, pgbench, script, mode string, env []string) float64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, pgbench, "-n", "-c", "8", "-j", "2", "-T", "3", "-M", mode, "-f", script)
	cmd.Env = append(append(peers.CleanEnv(os.Environ(), b.TempDir()), "PGSSLMODE=disable"), env...)
	out, err := cmd.CombinedOutput()
	m := tpsLine.FindSubmatch(out)
	if err != nil || m == nil {
		b.Fatalf("%v\n%s", err, out)
	}
	n, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}
