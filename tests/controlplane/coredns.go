package main

import (
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/ready"
	"github.com/spf13/cobra"
)

// newCoreDNSCommand is CoreDNS with the plugins a cell's DNS needs; its own flag
// parser reads os.Args (-conf, -quiet).
func newCoreDNSCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "coredns",
		DisableFlagParsing: true,
		Run:                func(*cobra.Command, []string) { coremain.Run() },
	}
}
