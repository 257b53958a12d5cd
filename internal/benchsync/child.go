package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/policies/syncer"
	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// figures are what one step cost.
type figures struct {
	Wall  time.Duration `json:"wall"`
	CPU   time.Duration `json:"cpu"`   // user and system, of all threads and of programs that it ran
	Peak  int64         `json:"peak"`  // bytes resident, since the process began
	Pause time.Duration `json:"pause"` // longest wait of a running session for an answer
	Note  string        `json:"note,omitempty"`
	Error string        `json:"error,omitempty"`
}

// answer does what each line of standard input asks for, and says what it cost.
func answer(steps map[string]func() (figures, error)) error {
	in := bufio.NewScanner(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		step, profile, _ := strings.Cut(in.Text(), " ")
		if steps[step] == nil {
			return fmt.Errorf("no step %q", step)
		}
		f, err := measured(profile, steps[step])
		if err != nil {
			f.Error = err.Error()
		}
		if err := out.Encode(f); err != nil {
			return err
		}
	}
	return in.Err()
}

// measured runs a step, with a CPU profile into the file that is named.
func measured(profile string, step func() (figures, error)) (figures, error) {
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return figures{}, err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return figures{}, err
		}
		defer pprof.StopCPUProfile()
	}
	began, used := time.Now(), processorTime()
	f, err := step()
	f.Wall, f.CPU = time.Since(began), processorTime()-used
	f.Peak = peak()
	if profile != "" {
		h, herr := os.Create(profile + ".heap")
		if herr != nil {
			return f, herr
		}
		defer h.Close()
		runtime.GC()
		if herr := pprof.WriteHeapProfile(h); herr != nil {
			return f, herr
		}
	}
	return f, err
}

func processorTime() time.Duration {
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}

// peak is the most memory that this process ever had, 0 where the system does not tell.
func peak() int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.ParseInt(fields[0], 10, 64)
	return kib << 10
}

// syncChild is sync without its wait between two rounds.
func syncChild(dir string) error {
	syncer.TuneMemory()
	remote, state := filepath.Join(dir, "access.git"), filepath.Join(dir, "state")
	ctx := context.Background()
	var s *syncer.Syncer
	return answer(map[string]func() (figures, error){
		"clone": func() (figures, error) {
			if err := os.MkdirAll(state, 0o700); err != nil {
				return figures{}, err
			}
			m, err := gitrepo.Open(filepath.Join(state, "mirror.git"), remote, gitrepo.Options{Timeout: 10 * time.Minute})
			if err != nil {
				return figures{}, err
			}
			_, err = m.Fetch(ctx, "main", "")
			return figures{}, err
		},
		"round": func() (figures, error) {
			if s == nil {
				var err error
				s, err = syncer.New(syncer.Options{
					Remote: remote, StateDir: state, Out: release.Folder(filepath.Join(dir, "release")), Signer: accesstest.Signer("release"), TrustRoot: pin(),
				})
				if err != nil {
					return figures{}, err
				}
			}
			result, err := s.Once(ctx)
			if err == nil && (!result.Published || len(result.Problems) > 0) {
				err = fmt.Errorf("published %v, problems %v", result.Published, result.Problems)
			}
			return figures{Note: fmt.Sprintf("release %d", result.Sequence)}, err
		},
	})
}

// gatewayChild loads releases as gatewayd does, with a session that goes on meanwhile.
func gatewayChild(dir, review string, full bool) error {
	work, err := os.MkdirTemp(dir, "gateway-")
	if err != nil {
		return err
	}
	mark, err := release.OpenHighWater(filepath.Join(work, "mark"))
	if err != nil {
		return err
	}
	g, err := newGateway(work)
	if err != nil {
		return err
	}
	opener := release.Opener{Dir: filepath.Join(dir, "release"), Trust: release.Trust{RootDigest: pin()}, HighWater: mark, Full: full}
	var current *release.Release
	var running *session
	load := func() (figures, error) {
		if running != nil {
			running.longest.Store(0)
		}
		opened, err := opener.Open(context.Background(), current, time.Now())
		if err == nil {
			err = mark.Advance(opened)
		}
		if err != nil {
			return figures{}, err
		}
		current = opened
		g.Swap(opened)
		f := figures{Note: fmt.Sprintf("release %d", opened.Envelope.Sequence)}
		if running != nil {
			time.Sleep(100 * time.Millisecond) // what the garbage collector still has to do counts as well
			f.Pause = time.Duration(running.longest.Load())
		}
		return f, nil
	}
	return answer(map[string]func() (figures, error){
		"load": load,
		"session": func() (figures, error) {
			running, err = begin(g, current, review)
			return figures{}, err
		},
		"idle": func() (figures, error) {
			running.longest.Store(0)
			time.Sleep(time.Second)
			return figures{Pause: time.Duration(running.longest.Load())}, nil
		},
		"collect": func() (figures, error) {
			running.longest.Store(0)
			runtime.GC()
			return figures{Pause: time.Duration(running.longest.Load())}, nil
		},
	})
}

func newGateway(dir string) (*gatewayd.Gateway, error) {
	journal, err := record.Open(record.Options{
		Dir: filepath.Join(dir, "recordings"), Gateway: "gw1", Durability: "process",
		Sign: func(m []byte) ([]byte, error) {
			return reviews.Sign(accesstest.Signer("gw1"), reviews.NamespaceCheckpoint, m)
		},
	})
	if err != nil {
		return nil, err
	}
	credentials, err := credential.NewStore(nil)
	if err != nil {
		return nil, err
	}
	return gatewayd.New(gatewayd.Config{
		Name: "gw1", Fingerprint: gatewayKey(), Journal: journal, Credentials: credentials,
		Summaries: func(record.Summary) {}, Log: slog.New(slog.DiscardHandler),
	})
}

func gatewayKey() string { return ssh.FingerprintSHA256(accesstest.Signer("gw1").PublicKey()) }

// session is one that runs a statement every millisecond.
type session struct {
	longest atomic.Int64 // nanoseconds that one took
}

func begin(g *gatewayd.Gateway, r *release.Release, review string) (*session, error) {
	name, _, _ := strings.Cut(review, "/")
	c := r.Connections[name]
	if c == nil || c.Review(review) == nil {
		return nil, fmt.Errorf("the release has no review %s", review)
	}
	now := time.Now()
	token, err := identity.Mint(accesstest.Signer(subject), identity.Claims{
		Principal: subject, Connection: name, Review: review, ReviewSHA256: c.Review(review).SHA256,
		Gateway: gatewayKey(), Issued: now, Expires: now.Add(time.Minute),
	})
	if err != nil {
		return nil, err
	}
	running, err := g.Begin(context.Background(), gatewayd.Attempt{Protocol: "postgres", Remote: "127.0.0.1:9", User: subject, Target: name, Token: token})
	if err != nil {
		return nil, err
	}
	classify := func(text string) gatewayd.Understood {
		effect := policies.Effect{Verb: "select", Object: table, Columns: []string{"id", "status"}}
		return gatewayd.Understood{Command: policies.Command{Protocol: "postgres", Statement: text, Effects: []policies.Effect{effect}}, Recorded: text}
	}
	s := &session{}
	go func() {
		for {
			began := time.Now()
			if _, err := running.Plan(gatewayd.Statement{Text: statement}, classify); err != nil {
				fmt.Fprintln(os.Stderr, "the running session:", err)
				os.Exit(1)
			}
			time.Sleep(time.Millisecond)
			// With the sleep, in which a stopped world would go unnoticed.
			if took := int64(time.Since(began) - time.Millisecond); took > s.longest.Load() {
				s.longest.Store(took)
			}
		}
	}()
	return s, nil
}
