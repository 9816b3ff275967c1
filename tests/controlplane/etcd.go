package main

import (
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
)

// newEtcdCommand is one etcd member with the flags the lab needs, by etcd's own names.
func newEtcdCommand() *cobra.Command {
	config := embed.NewConfig()
	// The zero that NewConfig leaves here logs every request as a slow one.
	config.WarningUnaryRequestDuration = 500 * time.Millisecond
	var client, advertised, peer string
	command := &cobra.Command{
		Use:           "etcd",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: false,
		RunE: func(*cobra.Command, []string) error {
			clientURL, err := url.Parse(client)
			if err != nil {
				return err
			}
			advertisedURL, err := url.Parse(advertised)
			if err != nil {
				return err
			}
			peerURL, err := url.Parse(peer)
			if err != nil {
				return err
			}
			config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*clientURL}, []url.URL{*advertisedURL}
			config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peerURL}, []url.URL{*peerURL}
			config.InitialCluster = config.InitialClusterFromName(config.Name)
			return serveEtcd(config)
		},
	}
	flags := command.Flags()
	flags.StringVar(&config.Dir, "data-dir", "", "directory of the data")
	flags.BoolVar(&config.UnsafeNoFsync, "unsafe-no-fsync", false, "do not wait for the disk")
	flags.StringVar(&config.LogLevel, "log-level", "warn", "debug, info, warn or error")
	flags.StringVar(&client, "listen-client-urls", "http://127.0.0.1:2379", "URL that clients use")
	flags.StringVar(&advertised, "advertise-client-urls", "http://127.0.0.1:2379", "URL that clients are told")
	flags.StringVar(&peer, "listen-peer-urls", "http://127.0.0.1:2380", "URL that peers would use")
	return command
}

func serveEtcd(config *embed.Config) error {
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer server.Close()
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err := <-server.Err():
		return err
	case <-end:
		return nil
	}
}
