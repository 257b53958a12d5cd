// Command benchsync measures what it takes to bring merged reviews to a gateway,
// beside stock opa and git on the same documents. `make bench-sync` runs it.
//
// Sync and gateway run as processes of their own, so that each has its own peak of memory.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 2 {
		var err error
		switch os.Args[1] {
		case "sync":
			err = syncChild(os.Args[2])
		case "gateway-release", "gateway-full":
			err = gatewayChild(os.Args[2], os.Args[3], os.Args[1] == "gateway-full")
		default:
			err = start()
		}
		exit(err)
	}
	exit(start())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchsync:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func start() error {
	b := &bench{}
	sizes := flag.String("reviews", "10000", "how many reviews, or several numbers with commas between")
	flag.IntVar(&b.connections, "connections", 0, "over how many connections they are spread (default: one for 500)")
	flag.IntVar(&b.batch, "batch", 1000, "how many of them one commit brings")
	flag.IntVar(&b.changed, "changed", 10, "how many change together afterwards")
	flag.StringVar(&b.opa, "opa", "", "stock opa (default: the one that the tests built into the user's cache)")
	flag.StringVar(&b.profiles, "profiles", "", "folder for CPU profiles of each step")
	flag.BoolVar(&b.alone, "alone", false, "without opa and git")
	gateways := flag.String("gateways", "release,full", "which verify settings of gatewayd, with commas between; \"\" for none")
	flag.Parse()
	for _, verify := range strings.FieldsFunc(*gateways, func(c rune) bool { return c == ',' }) {
		b.gateways = append(b.gateways, "gateway-"+verify)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for _, text := range strings.Split(*sizes, ",") {
		size, err := strconv.Atoi(text)
		if err != nil || size < b.changed || b.changed < 1 || b.batch < 1 {
			return fmt.Errorf("-reviews %s -changed %d -batch %d: these cannot be measured", text, b.changed, b.batch)
		}
		if err := b.measure(ctx, size); err != nil {
			return fmt.Errorf("%d reviews: %w", size, err)
		}
	}
	return nil
}

type bench struct {
	connections, batch, changed int
	opa, profiles               string
	alone                       bool
	gateways                    []string

	dir string
}

func (b *bench) measure(ctx context.Context, size int) (err error) {
	if b.dir, err = os.MkdirTemp("", "benchsync-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	connections := b.connections
	if connections == 0 {
		connections = (size + 499) / 500
	}
	r, err := makeRepo(ctx, filepath.Join(b.dir, "access.git"), size, connections, b.batch)
	if err != nil {
		return err
	}
	fmt.Printf("\n%d reviews of %d connections, %d commits; then %d change in one commit\n", size, connections, r.commits, b.changed)
	fmt.Printf("%-40s %9s %12s %9s %9s\n", "", "seconds", "processor s", "peak MiB", "pause ms")
	if err := b.ours(ctx, r); err != nil {
		return err
	}
	if b.alone {
		return nil
	}
	return b.theirs(ctx, r, size)
}

func (b *bench) row(what string, f figures) {
	pause := ""
	if f.Pause > 0 {
		pause = fmt.Sprintf("%.1f", float64(f.Pause.Microseconds())/1000)
	}
	fmt.Printf("%-40s %9.2f %12.2f %9d %9s\n", what, f.Wall.Seconds(), f.CPU.Seconds(), f.Peak>>20, pause)
}

// ours is the way from a merge to the gateway: cold, warm, and after a restart.
func (b *bench) ours(ctx context.Context, r *repo) error {
	sync, err := b.process(ctx, "sync", b.dir)
	if err != nil {
		return err
	}
	defer sync.stop()
	if err := b.steps(sync, "sync", "clone", "clone", "round", "cold, after the clone"); err != nil {
		return err
	}
	gateways := map[string]*child{}
	for _, kind := range b.gateways {
		g, err := b.process(ctx, kind, b.dir, r.reviewName(0))
		if err != nil {
			return err
		}
		defer g.stop()
		if err := b.steps(g, kind, "load", "cold", "session", "", "idle", "nothing happens", "collect", "garbage collection"); err != nil {
			return err
		}
		gateways[kind] = g
	}
	for i := range 3 {
		if err := r.change(ctx, 1+i*b.changed, b.changed, 2); err != nil {
			return err
		}
		if err := b.steps(sync, "sync", "round", fmt.Sprintf("%d changed", b.changed)); err != nil {
			return err
		}
		for _, kind := range b.gateways {
			if err := b.steps(gateways[kind], kind, "load", fmt.Sprintf("%d changed", b.changed)); err != nil {
				return err
			}
		}
	}
	for _, g := range gateways {
		g.stop()
	}
	sync.stop()
	if err := r.change(ctx, 1, b.changed, 3); err != nil {
		return err
	}
	if sync, err = b.process(ctx, "sync", b.dir); err != nil {
		return err
	}
	defer sync.stop()
	return b.steps(sync, "sync", "round", fmt.Sprintf("%d changed, just started", b.changed))
}

// steps takes pairs of a step and what the table calls it, "" for not at all.
func (b *bench) steps(c *child, who string, pairs ...string) error {
	for i := 0; i < len(pairs); i += 2 {
		profile := ""
		if b.profiles != "" && pairs[i+1] != "" {
			profile = filepath.Join(b.profiles, strings.NewReplacer(" ", "-", ",", "").Replace(who+"-"+pairs[i+1])+".prof")
		}
		f, err := c.do(pairs[i], profile)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", who, pairs[i], err)
		}
		if pairs[i+1] != "" {
			b.row(who+": "+pairs[i+1], f)
		}
	}
	return nil
}

// child is another process of this program.
type child struct {
	run *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (b *bench) process(ctx context.Context, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{run: exec.CommandContext(ctx, self, args...)}
	c.run.Stderr = os.Stderr
	if c.in, err = c.run.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.run.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	return c, c.run.Start()
}

func (c *child) do(step, profile string) (figures, error) {
	if _, err := fmt.Fprintln(c.in, strings.TrimSpace(step+" "+profile)); err != nil {
		return figures{}, err
	}
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		return figures{}, err
	}
	var f figures
	if err := json.Unmarshal(line, &f); err != nil {
		return f, err
	}
	if f.Error != "" {
		return f, errors.New(f.Error)
	}
	return f, nil
}

// stop ends the process; doing so twice does no harm.
func (c *child) stop() {
	c.in.Close()
	_ = c.run.Wait()
}

// theirs is what opa and git take for as many documents.
func (b *bench) theirs(ctx context.Context, r *repo, size int) error {
	clone, err := b.other(ctx, "", r.git.Env, r.git.Path, "clone", "--quiet", "--bare", "--no-local", r.dir, filepath.Join(b.dir, "clone.git"))
	if err != nil {
		return err
	}
	b.row("git clone --bare", clone)
	checkout, err := b.other(ctx, "", r.git.Env, r.git.Path, "clone", "--quiet", r.dir, filepath.Join(b.dir, "checkout"))
	if err != nil {
		return err
	}
	b.row("git clone with files", checkout)
	diff, err := b.other(ctx, r.dir, r.git.Env, r.git.Path, "diff-tree", "-r", "main^", "main")
	if err != nil {
		return err
	}
	b.row("git diff-tree of the change", diff)
	opa := b.opa
	if opa == "" {
		if opa, err = cachedOPA(); err != nil {
			fmt.Printf("%-40s %s\n", "opa build", err)
			return nil
		}
	}
	tree := filepath.Join(b.dir, "opa")
	if err := r.forOPA(tree, size); err != nil {
		return err
	}
	build, err := b.other(ctx, "", os.Environ(), opa, "build", "--bundle", "--output", filepath.Join(b.dir, "opa.tar.gz"), tree)
	if err != nil {
		return err
	}
	b.row("opa build, verifies no signature", build)
	return nil
}

func (b *bench) other(ctx context.Context, dir string, env []string, program string, args ...string) (figures, error) {
	run := exec.CommandContext(ctx, program, args...)
	run.Dir, run.Env, run.Stderr = dir, env, os.Stderr
	began := time.Now()
	if err := run.Run(); err != nil {
		return figures{}, fmt.Errorf("%s: %w", run, err)
	}
	f := figures{Wall: time.Since(began), CPU: run.ProcessState.UserTime() + run.ProcessState.SystemTime()}
	if u, ok := run.ProcessState.SysUsage().(*syscall.Rusage); ok {
		f.Peak = u.Maxrss << 10
	}
	return f, nil
}

// cachedOPA is the stock opa that the tests of package release built.
func cachedOPA() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(cache, "sallyport", "opa-v*", "opa"))
	if err != nil || len(found) == 0 {
		return "", errors.New("not there: go test ./policies/release -run StockOPA builds it, or give -opa")
	}
	return found[len(found)-1], nil
}
