// Client is a program of client-go, as a controller is one: it speaks what its typed client speaks, and watches through an informer.
//
//	client list NAMESPACE secrets|pods     prints the objects, one JSON line each
//	client inform NAMESPACE secrets|pods N prints the first N events of an informer
//	client exec NAMESPACE POD ARGV...      runs a command over WebSocket
//	client requestinfo                     reads lines METHOD URL and prints what the API server's RequestInfo makes of each, in JSON
//
// It takes the cluster from KUBECONFIG and the wire format from $CLIENT_CONTENT_TYPE.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == "requestinfo" {
		return requestInfo(os.Stdin, os.Stdout)
	}
	if len(args) < 3 {
		return errors.New("usage: client list|inform|exec NAMESPACE WHAT …")
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	config.ContentType = os.Getenv("CLIENT_CONTENT_TYPE")
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	switch args[0] {
	case "list":
		return list(ctx, set, args[1], args[2])
	case "inform":
		n, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		return inform(ctx, set, args[1], args[2], n)
	case "exec":
		return execute(ctx, config, set, args[1], args[2], args[3:])
	}
	return fmt.Errorf("%q is no command", args[0])
}

func list(ctx context.Context, set *kubernetes.Clientset, namespace, resource string) error {
	out := json.NewEncoder(os.Stdout)
	if resource == "secrets" {
		all, err := set.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, one := range all.Items {
			if err := out.Encode(one); err != nil {
				return err
			}
		}
		return nil
	}
	all, err := set.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, one := range all.Items {
		if err := out.Encode(one); err != nil {
			return err
		}
	}
	return nil
}

func inform(ctx context.Context, set *kubernetes.Clientset, namespace, resource string, n int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	factory := informers.NewSharedInformerFactoryWithOptions(set, 0, informers.WithNamespace(namespace))
	informer := factory.Core().V1().Pods().Informer()
	if resource == "secrets" {
		informer = factory.Core().V1().Secrets().Informer()
	}
	events := make(chan any)
	say := func(object any) {
		select {
		case events <- object:
		case <-ctx.Done():
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: say, UpdateFunc: func(_, object any) { say(object) }, DeleteFunc: say,
	}); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	out := json.NewEncoder(os.Stdout)
	for ; n > 0; n-- {
		select {
		case event := <-events:
			if err := out.Encode(event); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func execute(ctx context.Context, config *rest.Config, set *kubernetes.Clientset, namespace, pod string, argv []string) error {
	request := set.CoreV1().RESTClient().Get().Namespace(namespace).Resource("pods").Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: argv, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	executor, err := remotecommand.NewWebSocketExecutor(config, "GET", request.URL().String())
	if err != nil {
		return err
	}
	return executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: os.Stdout, Stderr: os.Stderr})
}

// requestInfo answers each line with one of JSON; with null when there is no answer.
func requestInfo(in io.Reader, out io.Writer) error {
	factory := request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	answers := json.NewEncoder(out)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		method, target, _ := strings.Cut(lines.Text(), " ")
		var info *request.RequestInfo
		if r, err := http.NewRequest(method, "http://127.0.0.1"+target, nil); err == nil {
			info, _ = factory.NewRequestInfo(r) // an error comes with what was read before it
		}
		if err := answers.Encode(info); err != nil {
			return err
		}
	}
	return lines.Err()
}
