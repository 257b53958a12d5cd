//go:build tools

// Package kube names the programs that internal/peers builds of this module, so that go.mod holds what they need.
package kube

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
