// Command localcluster runs etcd, MinIO and three brokers on loopback until Ctrl-C: make cluster.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/tidemill/tidemill/internal/localcluster"
)

func main() {
	folder := flag.String("folder", "cluster-data", "`folder` of data and logs")
	program := flag.String("broker", "bin/broker", "the broker's `binary`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends this without waiting
	if err := localcluster.Run(ctx, localcluster.Standard(*folder, *program, os.Stdout)); err != nil {
		fmt.Fprintf(os.Stderr, "make cluster: %v\n", err)
		os.Exit(1)
	}
}
