// Kubelet is the part of one that an API server talks to: exec, attach, port-forward and logs. There are no containers: a command runs as a
// process of this machine in the folder of the flag -dir, and a container's log is the file NAMESPACE_POD_CONTAINER.log there.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

func main() {
	dir := flag.String("dir", "", "the folder that commands run in, and of the logs")
	cert := flag.String("cert", "", "the certificate")
	key := flag.String("key", "", "its key")
	flag.Parse()
	if err := serve(*dir, *cert, *key); err != nil {
		log.Fatal(err)
	}
}

// serve listens on a port that the system chooses, and writes its number to the file port, which is how the starter knows that it listens.
func serve(dir, cert, key string) error {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}})
	if err != nil {
		return err
	}
	name := filepath.Join(dir, "port")
	port := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	if err := os.WriteFile(name+".new", []byte(port), 0o644); err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	node := node{dir: dir}
	mux := http.NewServeMux()
	for _, what := range []struct {
		path   string
		handle http.HandlerFunc
	}{
		{"/exec/{namespace}/{pod}/{container}", node.exec},
		{"/attach/{namespace}/{pod}/{container}", node.attach},
		{"/portForward/{namespace}/{pod}", node.portForward},
		{"GET /containerLogs/{namespace}/{pod}/{container}", node.logs},
	} {
		mux.HandleFunc(what.path, what.handle)
	}
	return http.Serve(listener, mux)
}

const (
	idle     = 10 * time.Minute
	creation = 10 * time.Second
)

type node struct{ dir string }

func (n node) exec(w http.ResponseWriter, r *http.Request) {
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	log.Printf("exec %s %q", r.PathValue("pod"), r.URL.Query()["command"])
	remotecommand.ServeExec(w, r, n, r.PathValue("pod"), "", r.PathValue("container"), r.URL.Query()["command"], options, idle, creation,
		remotecommand.SupportedStreamingProtocols)
}

// ExecInContainer implements remotecommand.Executor.
func (n node) ExecInContainer(ctx context.Context, _, _, _ string, argv []string, in io.Reader, out, errs io.WriteCloser, _ bool,
	_ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = n.dir
	if out != nil {
		cmd.Stdout = out
	}
	if errs != nil {
		cmd.Stderr = errs
	}
	if in != nil {
		// Not cmd.Stdin: Wait would wait for its end, which a client that has nothing more to say may never send.
		pipe, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			_, err := io.Copy(pipe, in)
			pipe.Close()
			if err != nil {
				cancel()
			}
		}()
	}
	err := cmd.Run()
	log.Printf("ended %q: %v", argv, err)
	var failed *exec.ExitError
	if errors.As(err, &failed) && failed.Exited() {
		return utilexec.CodeExitError{Err: err, Code: failed.ExitCode()}
	}
	return err
}

func (n node) attach(w http.ResponseWriter, r *http.Request) {
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	remotecommand.ServeAttach(w, r, n, r.PathValue("pod"), "", r.PathValue("container"), options, idle, creation,
		remotecommand.SupportedStreamingProtocols)
}

// AttachContainer implements remotecommand.Attacher: what is attached to says so and then what it is told.
func (n node) AttachContainer(_ context.Context, _, _, _ string, in io.Reader, out, _ io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize) error {
	if out == nil {
		return errors.New("nothing to say to nobody")
	}
	if _, err := io.WriteString(out, "attached\n"); err != nil || in == nil {
		return err
	}
	_, err := io.Copy(out, in)
	return err
}

func (n node) portForward(w http.ResponseWriter, r *http.Request) {
	options, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	portforward.ServePortForward(w, r, n, r.PathValue("pod"), "", options, idle, creation, portforward.SupportedProtocols)
}

// PortForward implements portforward.PortForwarder: a pod's port is one of this machine.
func (n node) PortForward(ctx context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer conn.Close()
	done := make(chan error, 2)
	go func() { _, err := io.Copy(conn, stream); done <- errors.Join(err, conn.(*net.TCPConn).CloseWrite()) }()
	go func() { _, err := io.Copy(stream, conn); done <- err }()
	err = <-done
	stream.Close()
	return err
}

// logs serves what a container said; with follow, also what it says until the client goes.
func (n node) logs(w http.ResponseWriter, r *http.Request) {
	name := strings.Join([]string{r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container")}, "_") + ".log"
	root, err := os.OpenRoot(n.dir)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer root.Close()
	file, err := root.Open(name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	defer file.Close()
	w.Header().Set("Content-Type", "text/plain")
	for {
		if _, err := io.Copy(w, file); err != nil || r.URL.Query().Get("follow") != "true" {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}
