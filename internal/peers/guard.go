package peers

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// watchdog is what a guarded program is started through. The shell starts a small reader in the background and then
// becomes the program, so that the program keeps the pid the parent knows. The reader waits on a pipe (file 3) whose other end only the
// parent holds. A line on it means "the program was stopped in good order"; the end of the pipe means that the parent is gone,
// however it went: then the reader ends the program and removes its folder. Waiting a little for the program is bounded,
// because it may stay a zombie where nothing reaps orphans.
//
// Linux could do the first half with PR_SET_PDEATHSIG, but that follows a thread, not the process,
// is dropped on a change of user, and nobody would remove the folder.
const watchdog = `(
	if read -r line <&3; then exit 0; fi
	kill -s "$GUARD_SIGNAL" $$
	n=0
	while kill -0 $$ && [ $n -lt 30 ]; do n=$((n+1)); sleep 0.1; done
	if [ -n "$GUARD_REMOVE" ]; then rm -rf "$GUARD_REMOVE"; fi
) >/dev/null 2>&1 &
exec 3<&-
unset GUARD_SIGNAL GUARD_REMOVE
exec "$@"`

// Process is a running program that ends with the process that started it.
type Process struct {
	Pid  int
	name string

	process   *os.Process
	keepalive *os.File      // held open for as long as this process lives; written to once, by wait
	done      chan struct{} // closed when the program has been reaped
	err       error         // set before done is closed
}

// Guard starts cmd so that it cannot outlive this process. When this process dies, however it dies, the program is sent the
// signal ("TERM", "INT", "QUIT") and the folder remove, unless empty, is deleted. The program is in a
// process group of its own: an interrupt typed at the terminal reaches it only through its parent. Standard
// output and error of cmd must be files or nil.
func Guard(cmd *exec.Cmd, signal, remove string) (*Process, error) {
	for _, stream := range []io.Writer{cmd.Stdout, cmd.Stderr} {
		if _, isFile := stream.(*os.File); stream != nil && !isFile {
			return nil, fmt.Errorf("start %s: standard output and error must be files: a pipe would end with this process", cmd.Path)
		}
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	name := cmd.Path
	cmd.Args = append([]string{"sh", "-c", watchdog, "guard", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	cmd.Env = append(cmd.Environ(), "GUARD_SIGNAL="+signal, "GUARD_REMOVE="+remove)
	cmd.ExtraFiles = []*os.File{read}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		write.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{Pid: cmd.Process.Pid, name: name, process: cmd.Process, keepalive: write, done: make(chan struct{})}
	go p.wait(cmd)
	return p, nil
}

// wait reaps the program, tells the reader to go, and closes done.
func (p *Process) wait(cmd *exec.Cmd) {
	err := cmd.Wait()
	_, _ = io.WriteString(p.keepalive, "done\n") // fails only when the reader is gone already
	p.keepalive.Close()
	if err == nil {
		err = fmt.Errorf("%s exited with status 0", p.name)
	} else {
		err = fmt.Errorf("%s: %w", p.name, err)
	}
	p.err = err
	close(p.done)
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the program ended, and is nil while it runs.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Signal sends a signal to the program, which must still be running.
func (p *Process) Signal(s syscall.Signal) error {
	if err := p.Err(); err != nil {
		return err
	}
	return p.process.Signal(s)
}

// Stop sends each signal in turn, waits up to grace after each, and ends with SIGKILL. It returns when the program is gone.
func (p *Process) Stop(grace time.Duration, signals ...syscall.Signal) {
	for _, s := range append(signals, syscall.SIGKILL) {
		if p.Signal(s) != nil {
			break
		}
		timer := time.NewTimer(grace)
		select {
		case <-p.done:
		case <-timer.C:
		}
		timer.Stop()
	}
	<-p.done
}

// awaitReady waits until ready says yes, the program ends or ctx does. log is added to the error.
func (p *Process) awaitReady(ctx context.Context, ready func(context.Context) error, log func() string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // a look at a program that has ended may wait for ever for whoever has its port now
		select {
		case <-p.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if p.Err() != nil {
			return fmt.Errorf("it ended before it was ready: %w\n%s", p.err, strings.TrimSpace(log()))
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			if p.Err() == nil {
				return fmt.Errorf("it was not ready in time: %w (%v)\n%s", context.Cause(ctx), err, strings.TrimSpace(log()))
			}
		case <-tick.C:
		}
	}
}
