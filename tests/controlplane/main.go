// Command controlplane is every Kubernetes program of a cell in one binary, so that
// the cells of a lab share its text in memory; it is called by subcommand or by link name.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubeapiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kubecontrollermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kubeproxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	kubescheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// Only one command is constructed per process: their flags and feature gates are
// global and would meet otherwise.
var commands = map[string]func() *cobra.Command{
	"coredns":                 newCoreDNSCommand,
	"etcd":                    newEtcdCommand,
	"kube-apiserver":          kubeapiserver.NewAPIServerCommand,
	"kube-controller-manager": kubecontrollermanager.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return kubescheduler.NewSchedulerCommand() },
	"kube-proxy":              kubeproxy.NewProxyCommand,
	"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
}

func main() {
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	if commands[name] == nil && len(args) > 0 {
		name, args = args[0], args[1:]
	}
	construct := commands[name]
	if construct == nil {
		fmt.Fprintf(os.Stderr, "controlplane: %q is not one of: %s\n", name, strings.Join(names(), ", "))
		os.Exit(2)
	}
	// The constructors and coredns read os.Args themselves.
	os.Args = append([]string{name}, args...)
	os.Exit(cli.Run(construct()))
}

func names() []string {
	known := make([]string, 0, len(commands))
	for name := range commands {
		known = append(known, name)
	}
	sort.Strings(known)
	return known
}
