package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// step is one scene. play returns an error when the scene cannot go on, and asserts what it shows otherwise.
type step struct {
	title string
	play  func(*demo) error
}

// story is the whole road, in order.
var story = []step{
	{"An agent without a review is refused, and told how to ask", (*demo).refused},
	{"alice, who answers for the agent, asks", (*demo).request},
	{"A bad edit: check refuses it and says where", (*demo).badEdit},
	{"The mended one passes, and its examples are run", (*demo).mendedEdit},
	{"A reviewer signs; who asked cannot", (*demo).sign},
	{"Merge, release, enforced", (*demo).merge},
	{"The agent reads customers: emails and ssn are masked", (*demo).read},
	{"In an error message and in a temporary table they are masked too", (*demo).readSideways},
	{"drop table is denied, and the transaction around it rolls back", (*demo).drop},
	{"The target's password is nowhere but with the gateway", (*demo).credential},
	{"The review is removed on main while a query runs: cut", (*demo).cut},
	{"The same gate before an ssh host: one command line, one file, and a masked token", (*demo).sshHost},
	{"What happened can be replayed", (*demo).replay},
	{"It is in git, in a commit that the gateway signed", (*demo).audit},
	{"verify passes; one byte of the recording is flipped; verify names it", (*demo).verify},
}

// again is played before --keep leaves everything running: what was removed is asked for anew.
var again = step{"For --keep: the review is asked for, signed and merged again", (*demo).grantAgain}

const reviewFile = "reviews/orders-db/etl.yaml"

// connect is how etl runs a client: through `sallyport connect`, which signs each connection with etl's key.
func (d *demo) connect(client ...string) []string {
	return append([]string{"sallyport", "connect", "orders-db", "--as", "agent:etl", "--repo", d.remote, "--"}, client...)
}

func (d *demo) refused() error {
	r := d.run(d.etl, d.connect("psql", "-c", "select name, email from app.customers")...)
	d.assert(r.code != 0 && r.stdout == "", "nothing came back")
	d.assert(strings.Contains(r.stderr, "no review lets agent:etl use orders-db"), "it says why")
	d.assert(strings.Contains(r.stderr, "sallyport request orders-db --as agent:etl --repo "+d.remote), "it says what to type")
	d.assert(regexp.MustCompile(`denial d-[0-9a-f]{8}`).MatchString(r.stderr), "it names the denial, to ask about")
	return nil
}

func (d *demo) request() error {
	d.run(d.alice, "git", "clone", "--quiet", d.remote, ".")
	r := d.run(d.alice, "sallyport", "request", "orders-db", "--as", "agent:etl", "--requester", "user:alice",
		"--allow", "select:app.customers,app.orders", "--allow", "update:app.orders:status",
		"--ticket", "OPS-812", "--reason", "nightly order export")
	d.assert(r.code == 0, "the request is on a branch of its own, to be opened as a pull request")
	d.run(d.alice, "git", "switch", "--quiet", "request/orders-db/etl")
	d.run(d.alice, "cat", reviewFile)
	return nil
}

func (d *demo) badEdit() error {
	if err := d.add(d.alice, reviewFile, "  limits: {sesion: 30m}", "  validity:"); err != nil {
		return err
	}
	d.run(d.alice, "git", "commit", "--quiet", "--all", "--message", "Limit the session")
	r := d.run(d.alice, "sallyport", "check")
	d.assert(r.code == 1, "check refuses")
	d.assert(regexp.MustCompile(`reviews/orders-db/etl\.yaml:\d+:\d+: `).MatchString(r.all()), "with file, line and column")
	d.assert(strings.Contains(r.all(), `did you mean "session"`), "and says what to do")
	return nil
}

func (d *demo) mendedEdit() error {
	if err := d.edit(d.alice, reviewFile, "limits: {sesion: 30m}", "limits: {session: 30m}"); err != nil {
		return err
	}
	d.run(d.alice, "git", "commit", "--quiet", "--all", "--message", "Spell session")
	r := d.run(d.alice, "sallyport", "check")
	d.assert(r.code == 0, "check passes; the approval is still missing, as it should on a pull request")
	r = d.run(d.alice, "sallyport", "test")
	d.assert(r.code == 0, "the examples of the review do what it says they do")
	r = d.run(d.alice, "git", "push", "--quiet", "origin", "HEAD")
	d.assert(r.code == 0, "pushed")
	return nil
}

func (d *demo) sign() error {
	r := d.run(d.alice, "sallyport", "sign", reviewFile, "--as", "user:alice")
	d.assert(r.code == 1 && strings.Contains(r.stderr, "is the requester"), "alice asked, so alice's word does not count")
	d.run(d.bob, "git", "fetch", "--quiet")
	d.run(d.bob, "git", "switch", "--quiet", "request/orders-db/etl")
	r = d.run(d.bob, "sallyport", "sign", reviewFile, "--as", "user:bob")
	d.assert(r.code == 0, "bob read in plain words what it grants, and signed the committed bytes")
	return nil
}

func (d *demo) merge() error {
	d.run(d.bob, "git", "switch", "--quiet", "main")
	d.run(d.bob, "git", "merge", "--quiet", "--no-ff", "--message", "Merge request/orders-db/etl", "request/orders-db/etl")
	enforced, err := d.pushMain()
	d.report.Figures.MergeToEnforced = milliseconds(enforced)
	d.assert(err == nil && enforced < time.Second+pollOfGit, "merged on main → enforced by the gateway: %d ms", enforced.Milliseconds())
	return err
}

// pollOfGit is how often sync asks the remote here. A change is seen after at most that long; from then on it has a second.
const pollOfGit = 200 * time.Millisecond

// pushMain pushes bob's main and waits until the gateway has loaded exactly that commit. It returns how long that took
// from the moment in which the remote's main moved.
func (d *demo) pushMain() (time.Duration, error) {
	if r := d.run(d.bob, "git", "push", "--quiet", "origin", "main"); r.code != 0 {
		return 0, errors.New("the push failed")
	}
	commit := strings.TrimSpace(d.quiet(d.bob, "", "git", "rev-parse", "HEAD").stdout)
	loaded := func() bool { s, err := d.status(); return err == nil && s.Release != nil && s.Release.Commit == commit }
	err := d.await("the gateway has loaded commit "+commit, 15*time.Second, loaded)
	return time.Since(modified(filepath.Join(d.remote, "refs", "heads", "main"))), err
}

// modified is when a file was last written; now, when there is none.
func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Now()
	}
	return info.ModTime()
}

func (d *demo) read() error {
	r := d.run(d.etl, d.connect("psql", "-c", "select id, name, email, ssn from app.customers order by id")...)
	d.assert(r.code == 0 && strings.Contains(r.stdout, "(3 rows)"), "three customers came back")
	d.assert(clear(r.all()) == "" && strings.Contains(r.stdout, "Ada") && strings.Contains(r.stdout, "1120"),
		"names are there, emails are masked, of ssn the last four digits are left")

	d.note("A pasted token works with any client. It lives five minutes at most, and for this one gateway.")
	r = d.shell(d.etl, fmt.Sprintf(`export PGPASSWORD=$(sallyport token orders-db --as agent:etl --repo %s --for 1m)
psql "host=127.0.0.1 port=%s user=agent:etl dbname=orders-db/etl sslmode=require" \
  -c "update app.orders set status = 'packed' where id = 2" \
  -c "select o.id, o.status, c.email from app.orders o join app.customers c on c.id = o.customer order by 1"`,
		d.remote, strings.TrimPrefix(d.listen, "127.0.0.1:")))
	d.assert(r.code == 0 && strings.Contains(r.stdout, "UPDATE 1") && strings.Contains(r.stdout, "packed"), "the allowed column can be updated")
	d.assert(clear(r.all()) == "", "the join is masked too")
	return nil
}

// clear returns the first value in the text that should have been masked.
func clear(text string) string {
	for _, value := range inTheClear {
		if strings.Contains(text, value) {
			return value
		}
	}
	return ""
}

func (d *demo) readSideways() error {
	r := d.runWith(d.etl, `select ssn::int from app.customers;
create temp table mine as select * from app.customers where email like '%@%';
select * from mine order by id;
`, d.connect("psql")...)
	d.assert(strings.Contains(r.stderr, "invalid input syntax") || strings.Contains(r.stderr, "22P02"), "the cast failed, as it would without the gateway")
	d.assert(strings.Contains(r.stdout, "SELECT 3") && strings.Contains(r.stdout, "(3 rows)"), "the temporary table holds three rows")
	d.assert(clear(r.all()) == "", "neither shows a value in the clear")
	return nil
}

func (d *demo) drop() error {
	r := d.runWith(d.etl, `begin;
update app.orders set status = 'shipped' where id = 1;
drop table app.orders;
commit;
`, d.connect("psql", "-v", "VERBOSITY=verbose")...)
	d.assert(strings.Contains(r.stderr, "42501") && strings.Contains(r.stderr, "drop"), "drop table is denied (42501) with the reason")
	d.assert(strings.Contains(r.stdout, "ROLLBACK"), "commit says the truth: ROLLBACK")
	rows, err := d.server.Query(d.ctx, "shop", "select status from app.orders where id = 1")
	if err != nil {
		return err
	}
	d.assert(len(rows) == 1 && rows[0][0] == "new", "in PostgreSQL itself the table is there and order 1 is still %q", "new")
	d.assert(!strings.Contains(strings.ToLower(d.server.Log()), "drop table"), "PostgreSQL's log shows that the statement never reached it")
	return nil
}

func (d *demo) credential() error {
	d.note("Searched for the password: all that etl was ever shown, recordings, journal, logs, releases, state, and every object of the access repo.")
	found, searched, err := d.filesWith(d.secret)
	if err != nil {
		return err
	}
	d.report.Figures.SecretsSearched = searched
	d.print(fmt.Sprintf("%d files searched", searched))
	d.assert(len(found) == 0, "not in any of them")
	d.assert(!strings.Contains(d.etlSaw.String(), d.secret), "not in anything that etl was shown")
	objects := d.quiet(d.bob, "", "sh", "-c", `git -C "$0" cat-file --batch-all-objects --batch`, d.remote)
	d.assert(objects.code == 0 && !strings.Contains(objects.stdout, d.secret), "not in any object of the access repo")
	r := d.run(d.etl, "psql", fmt.Sprintf("host=127.0.0.1 port=%d user=gateway dbname=shop", d.server.Port), "-w", "-c", "select 1")
	d.assert(r.code != 0, "without it the target refuses etl")
	return nil
}

// filesWith lists the files beneath the work folder that contain the text, besides the one file that gatewayd reads it from.
func (d *demo) filesWith(text string) (found []string, searched int, err error) {
	err = filepath.WalkDir(d.work, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || path == d.path("keys", "shop.password") || filepath.Dir(path) == d.path("bin") {
			return err
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil // a file that a daemon has just renamed
		}
		searched++
		if strings.Contains(string(content), text) {
			found = append(found, path)
		}
		return err
	})
	return found, searched, err
}

func (d *demo) cut() error {
	const running = "select count(*) from pg_stat_activity where usename = 'gateway' and state = 'active' and query like '%pg_sleep%'"
	ended := d.begin(d.etl, d.connect("psql", "-v", "VERBOSITY=verbose", "-c", "select pg_sleep(50), count(*) from app.orders")...)
	if err := d.await("the query runs at the target", 15*time.Second, func() bool { return d.count(running) == 1 }); err != nil {
		return err
	}
	d.print("(it runs at the target)")
	s, err := d.status()
	if err != nil || len(s.Sessions) != 1 {
		return fmt.Errorf("the gateway should have one session: %w", err)
	}
	d.session = s.Sessions[0].ID

	d.run(d.bob, "git", "rm", "--quiet", "-r", "reviews/orders-db")
	d.run(d.bob, "git", "commit", "--quiet", "--message", "Take the access of agent:etl away")
	if _, err := d.pushMain(); err != nil {
		return err
	}
	removed, published := modified(filepath.Join(d.remote, "refs", "heads", "main")), modified(d.path("release", "release.json"))
	r := <-ended
	idle := time.Now()
	const connected = "select count(*) from pg_stat_activity where usename = 'gateway'"
	if err := d.await("the target runs nothing any more", 10*time.Second, func() bool { return d.count(connected) == 0 }); err != nil {
		return err
	}
	f := &d.report.Figures
	f.CutToIdle = milliseconds(time.Since(idle))
	f.RemovalToRelease = milliseconds(published.Sub(removed))
	f.RemovalToCut, f.ReleaseToCut = milliseconds(r.ended.Sub(removed)), milliseconds(r.ended.Sub(published))
	d.prompt(d.etl, "fg", "")
	d.print(r.all())
	d.assert(r.code != 0 && strings.Contains(r.stderr, "57P01"), "the session was cut (57P01) with the reason")
	d.assert(f.RemovalToCut < milliseconds(time.Second+pollOfGit), "removed on main → cut: %.0f ms, of which %.0f ms until the release", f.RemovalToCut, f.RemovalToRelease)
	d.assert(d.count(connected) == 0, "the query is gone at the target too")
	return nil
}

// count runs a query of one number as the superuser; -1 when it fails, which nothing awaited ever equals.
func (d *demo) count(query string) int {
	rows, err := d.server.Query(d.ctx, "shop", query)
	n := -1
	if err == nil && len(rows) == 1 {
		if _, err := fmt.Sscan(rows[0][0], &n); err != nil {
			return -1
		}
	}
	return n
}

func (d *demo) replay() error {
	r := d.run(d.bob, "sallyport", "sessions", "--recordings", d.path("recordings"))
	d.assert(r.code == 0 && strings.Contains(r.stdout, d.session), "the session that was cut is listed")
	r = d.run(d.bob, "sallyport", "replay", d.session, "--recordings", d.path("recordings"), "--speed", "0")
	d.assert(r.code == 0 && strings.Contains(r.stdout, "pg_sleep"), "it replays, statement by statement")
	return nil
}

func (d *demo) audit() error {
	committed := func() bool { s, err := d.status(); return err == nil && s.Audit.Waiting == 0 }
	if err := d.await("all summaries are committed", 15*time.Second, committed); err != nil {
		return err
	}
	key, err := os.ReadFile(d.path("keys", "gateway.pub"))
	if err != nil {
		return err
	}
	signers := filepath.Join(d.bob.home, "allowed_signers")
	if err := os.WriteFile(signers, []byte(`gw1 namespaces="git" `+string(key)), 0o644); err != nil {
		return err
	}
	d.run(d.bob, "git", "fetch", "--quiet", "origin", "audit")
	r := d.run(d.bob, "git", "-c", "gpg.ssh.allowedSignersFile="+signers, "log", "--show-signature", "--max-count=1", "--stat", "FETCH_HEAD")
	d.assert(strings.Contains(r.all(), `Good "git" signature for gw1`), "git itself finds the gateway's signature good")
	summary := d.quiet(d.bob, "", "sh", "-c", `git show "FETCH_HEAD:$(git ls-tree -r --name-only FETCH_HEAD | grep "$0")"`, d.session)
	d.prompt(d.bob, "git show FETCH_HEAD:summaries/…/"+d.session+".json", "")
	d.print(summary.all())
	d.assert(strings.Contains(summary.stdout, `"orders-db/etl"`) && strings.Contains(summary.stdout, `"user:bob"`), "the summary names the review and who approved it")
	d.assert(clear(summary.stdout) == "" && !strings.Contains(summary.stdout, "pg_sleep"), "it holds no statement and no value")
	return nil
}

func (d *demo) verify() error {
	check := []string{"sallyport", "verify", "--recordings", d.path("recordings")}
	r := d.run(d.bob, check...)
	d.assert(r.code == 0, "every recording is whole, signed, and the one that git knows")
	matches, err := filepath.Glob(d.path("recordings", "recordings", "*", "*", "*", d.session+".jsonl"))
	if err != nil || len(matches) != 1 {
		return fmt.Errorf("found %d recordings of session %s, want one: %w", len(matches), d.session, err)
	}
	whole, err := os.ReadFile(matches[0])
	if err != nil {
		return err
	}
	flipped := append([]byte(nil), whole...)
	flipped[len(flipped)/2] ^= 1
	d.note("Somebody flips one bit of byte %d of %s.", len(flipped)/2, filepath.Base(matches[0]))
	if err := os.WriteFile(matches[0], flipped, 0o600); err != nil {
		return err
	}
	r = d.run(d.bob, check...)
	d.assert(r.code == 1 && strings.Contains(r.all(), d.session), "verify fails and names the session")
	return os.WriteFile(matches[0], whole, 0o600)
}

func (d *demo) grantAgain() error {
	d.run(d.alice, "git", "switch", "--quiet", "main")
	d.run(d.alice, "git", "pull", "--quiet")
	d.run(d.alice, "sallyport", "request", "orders-db", "--as", "agent:etl", "--requester", "user:alice", "--name", "etl-again",
		"--allow", "select:app.customers,app.orders", "--reason", "a look around")
	d.run(d.bob, "git", "fetch", "--quiet")
	d.run(d.bob, "git", "switch", "--quiet", "request/orders-db/etl-again")
	d.run(d.bob, "sallyport", "sign", "reviews/orders-db/etl-again.yaml", "--as", "user:bob")
	d.run(d.bob, "git", "switch", "--quiet", "main")
	d.run(d.bob, "git", "merge", "--quiet", "--no-ff", "--message", "Merge request/orders-db/etl-again", "request/orders-db/etl-again")
	_, err := d.pushMain()
	d.assert(err == nil, "the access is back, under a new review")
	return err
}

// waitForInterrupt is the end of --keep.
func (d *demo) waitForInterrupt() {
	environment := "SSH_AUTH_SOCK=" + d.etl.agent.Socket
	d.note("It is running. In another terminal, as the agent:")
	d.print(fmt.Sprintf(`%s %s connect orders-db --as agent:etl --repo %s -- %s`, environment, d.path("bin", "sallyport"), d.remote, d.psql.Path))
	d.note("or with a pasted token, which lives five minutes:")
	d.print(fmt.Sprintf(`export PGPASSWORD=$(%s %s token orders-db --as agent:etl --repo %s)
%s "host=127.0.0.1 port=%s user=agent:etl dbname=orders-db sslmode=require"`,
		environment, d.path("bin", "sallyport"), d.remote, d.psql.Path, strings.TrimPrefix(d.listen, "127.0.0.1:")))
	d.note("The access repo, as bob: %s (SSH_AUTH_SOCK=%s). Everything ends and is removed when you interrupt this (Ctrl-C).", d.bob.clone, d.bob.agent.Socket)
	<-d.ctx.Done()
}
