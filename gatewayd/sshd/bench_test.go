package sshd

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// The figures that docs/ssh.md gives, with OpenSSH on both ends. What is compared
// runs in turns, and the median of the paired ratios counts, since other programs
// share the machine. The gateway runs in this process, which also reads what ssh prints.

const (
	bulkSize   = 128 << 20
	bulkRounds = 5
)

// road is one way to the host.
type road struct {
	name string
	args []string // of ssh, with the destination
}

// direct logs in to the world's host without a gateway.
func (w *world) direct() []string {
	return []string{
		"-F", "none", "-i", w.file("direct", pemOf("target")), "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "Port=" + w.portOfHost(), "-o", "User=" + w.host.User,
	}
}

func (w *world) directRoad() road { return road{"direct", append(w.direct(), "127.0.0.1")} }

// jumpRoad is what ssh makes of ProxyJump: a forwarding on a host in between, which is the same sshd here.
func (w *world) jumpRoad() road {
	hop := "ssh " + strings.Join(w.direct(), " ") + " -W %h:%p 127.0.0.1"
	return road{"jump", append(w.direct(), "-o", "ProxyCommand="+hop, "127.0.0.1")}
}

func (w *world) road(name string) road {
	return road{name, append(w.sshOptions("etl"), "127.0.0.1")}
}

// bulk is the throughput of a command that prints size bytes, in MB/s from the first byte on.
func bulk(b *testing.B, r road, cipher, command string, size int64) float64 {
	b.Helper()
	var args []string
	if cipher != "" {
		args = append(args, "-c", cipher)
	}
	cmd := exec.CommandContext(b.Context(), "ssh", append(append(args, r.args...), command)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 256<<10)
	n, err := out.Read(buf)
	began := time.Now()
	total := int64(n)
	for err == nil {
		n, err = out.Read(buf)
		total += int64(n)
	}
	took := time.Since(began)
	if werr := cmd.Wait(); werr != nil || err != io.EOF || total != size {
		b.Fatalf("%s: %d of %d bytes, %v, %v: %s", r.name, total, size, err, werr, &errs)
	}
	return float64(size) / took.Seconds() / 1e6
}

// logText is size bytes of a text such as servers log.
func logText(size int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "2026-11-25T07:%02d:%02dZ web-%d INFO GET /orders/%d status=200 bytes=%d took=%dms agent=\"curl/8.5\" trace=%08x\n", i/60%60, i%60, i%7, i*7919%100000, i*131%65536, i%250, uint32(i)*2654435761)
	}
	return b.Bytes()[:size]
}

// BenchmarkBulk prints how fast a large text comes through, as a ratio: through a
// gateway that decides and does not record, of direct and of ProxyJump; one that
// records all, of one that does not; one that masks too, of one that records.
func BenchmarkBulk(b *testing.B) {
	text := logText(bulkSize)
	const rules = "\n  allow:\n    - {exec: [cat]}\n" // until the file's name is known
	off := newWorld(b, setting{rules: rules, outputCap: -1})
	on := newWorld(b, setting{rules: rules, outputCap: 2 * bulkSize})
	masked := newWorld(b, setting{rules: rules, outputCap: 2 * bulkSize, connection: `
  mask:
    - {pattern: 'tok_[a-z0-9]{20}', with: redact}
    - {detect: card, with: redact}
    - {detect: email, with: redact}
`})
	file := filepath.Join(off.host.Dir, "text")
	must(b, os.WriteFile(file, text, 0o644))
	command := "cat " + file
	for _, w := range []*world{off, on, masked} {
		w.review("\n  allow:\n    - {exec: [cat, " + file + "]}\n")
		w.release()
	}
	roads := []road{off.directRoad(), off.jumpRoad(), off.road("off"), on.road("recorded"), masked.road("masked")}
	for _, cipher := range []string{"", "aes128-gcm@openssh.com"} {
		name := cipher
		if name == "" {
			name = "default-cipher"
		}
		b.Run(name, func(b *testing.B) {
			speed := map[string][]float64{}
			var cpu []float64
			for round := range max(b.N, bulkRounds) {
				for i := range roads {
					r := roads[(i+round)%len(roads)]
					before := processorTime(b)
					speed[r.name] = append(speed[r.name], bulk(b, r, cipher, command, bulkSize))
					for _, w := range []*world{off, on, masked} { // what is left to do at a session's end is not the next one's
						w.eventually("the session has ended", func() bool { return len(w.gateway.Status().Sessions) == 0 })
					}
					if r.name == "off" {
						cpu = append(cpu, (processorTime(b)-before).Seconds()*float64(1<<30)/bulkSize)
					}
				}
			}
			for _, pair := range [][2]string{{"off", "direct"}, {"off", "jump"}, {"recorded", "off"}, {"masked", "recorded"}} {
				b.ReportMetric(ratio(speed[pair[0]], speed[pair[1]]), pair[0]+"/"+pair[1])
			}
			b.ReportMetric(median(speed["direct"]), "direct-MB/s")
			b.ReportMetric(median(cpu), "gateway-s/GiB")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// ratio is the median of the paired ratios.
func ratio(a, b []float64) float64 {
	var list []float64
	for i := range a {
		list = append(list, a[i]/b[i])
	}
	return median(list)
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

// BenchmarkNewSession prints the processor time that the gateway takes for a
// session with one command: the login of the client, that at the host, the
// decision, the recording with its signature, and the end.
func BenchmarkNewSession(b *testing.B) {
	w := newWorld(b, setting{rules: "\n  allow:\n    - {exec: [echo, hello]}\n"})
	const sessions = 20
	script := w.file("sessions", fmt.Sprintf("for i in $(seq %d); do ssh \"$@\" || exit 1; done\n", sessions))
	var cpu []float64
	for range max(b.N, bulkRounds) {
		before := processorTime(b)
		a := w.run("sh", "", append(append([]string{script}, w.sshOptions("etl")...), "127.0.0.1", "echo hello")...)
		if a.code != 0 || strings.Count(a.out, "hello\n") != sessions {
			b.Fatalf("%+v", a)
		}
		w.eventually("the sessions have ended", func() bool { return len(w.gateway.Status().Sessions) == 0 })
		cpu = append(cpu, float64((processorTime(b)-before).Microseconds())/1000/sessions)
	}
	b.ReportMetric(median(cpu), "gateway-ms/session")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkIdleSession prints the memory that a session takes which has run a
// command and now waits, its connection to the host open.
func BenchmarkIdleSession(b *testing.B) {
	const sessions = 40
	w := newWorld(b, setting{rules: "\n  allow:\n    - {exec: [echo, hello]}\n", host: peers.SSHOptions{Settings: []string{"MaxStartups 500"}}})
	sockets, err := os.MkdirTemp("", "m") // whose names must be short
	must(b, err)
	defer os.RemoveAll(sockets)
	options := w.sshOptions("etl") // once: it writes the file that running clients read
	open := func(n int) {
		for i := range n {
			cmd := exec.CommandContext(b.Context(), "ssh", append(slices.Clone(options), "-o", "ControlMaster=yes", "-o", "ControlPersist=no", "-o", fmt.Sprintf("ControlPath=%s/%d-%d", sockets, n, i), "-N", "127.0.0.1")...)
			cmd.Stderr = w.log
			must(b, cmd.Start())
			b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		}
		for i := range n {
			path := fmt.Sprintf("%s/%d-%d", sockets, n, i)
			w.eventually("the client is logged in", func() bool { _, err := os.Stat(path); return err == nil })
			if a := w.run("ssh", "", "-F", "none", "-o", "ControlPath="+path, "127.0.0.1", "echo hello"); a.out != "hello\n" {
				b.Fatalf("%+v", a)
			}
		}
	}
	open(5) // what is made once
	before := resident(b)
	open(sessions)
	b.ReportMetric(float64(resident(b)-before)/1024/sessions, "kB/session")
	b.ReportMetric(0, "ns/op")
}

// resident is the memory that the process holds, in bytes, without what it could give back.
func resident(b *testing.B) int64 {
	b.Helper()
	time.Sleep(2 * time.Second) // what the sessions needed to begin with is let go of
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil { // not on Linux: what the runtime says
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.Sys - m.HeapReleased)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		var kB int64
		if n, _ := fmt.Sscanf(lines.Text(), "RssAnon: %d kB", &kB); n == 1 {
			return kB << 10
		}
	}
	b.Fatal("no RssAnon in /proc/self/status")
	return 0
}
