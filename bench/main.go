// Command bench measures brokers that speak Kafka's protocol: this one, a null broker that does the least a broker can, and
// Apache Kafka. See docs/BENCHMARKS.md.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `bench measures brokers.

Usage: bench command [flags]      (bench command -h lists the flags)

Processes:
  nullbroker   the yardstick: a broker that does the least a broker can
  s3           an S3 server in memory with the latency of a real one; counters at /_stats
  etcd         an etcd whose calls are counted
Drivers, for any broker at -bootstrap host:port:
  raw          the raw driver: raw produce | raw fetch
  readloop     the yardstick of reading old data: reads files, sums them and sends them to -to
  load         franz-go clients in an open loop
Measurements:
  ratio        CPU per GB of the broker and of the null broker, side by side
  run          scenarios, all or by name; prints a table
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	commands := map[string]func(context.Context, []string) error{
		"nullbroker": runNull, "s3": runSim, "raw": runRaw, "readloop": runReadLoop, "etcd": runEtcd,
		"load": runLoad, "ratio": runRatio, "run": runScenarios,
	}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err := commands[os.Args[1]](ctx, os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "bench %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}
