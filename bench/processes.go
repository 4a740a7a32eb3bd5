package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/tidemill/tidemill/bench/nullbroker"
	"github.com/tidemill/tidemill/bench/rawdriver"
	"github.com/tidemill/tidemill/bench/readloop"
	"github.com/tidemill/tidemill/bench/s3sim"
)

func runNull(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("nullbroker", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:9092", "address for Kafka clients")
	arena := flags.Int("arena-mb", 64, "memory for batches")
	partitions := flags.Int("partitions", 1, "of a topic that was not created before it is asked for")
	plain := flags.Bool("plain", false, "read each frame into memory of its own")
	_ = flags.Parse(args) // it exits on errors
	b, err := nullbroker.New(nullbroker.Options{ArenaBytes: *arena << 20, Partitions: int32(*partitions), Plain: *plain})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	return b.Serve(ctx, ln)
}

func runSim(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("s3", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:9000", "address of the endpoint")
	name := flags.String("profile", "fast", "latency: fast, std, slow or express")
	seed := flags.Uint64("seed", 1, "of the latencies")
	keep := flags.Int64("keep-mb", 8192, "of large bodies in memory, the oldest beyond go to a temporary file; 0: all")
	_ = flags.Parse(args) // it exits on errors
	profile, err := s3sim.ProfileByName(*name)
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr:              *listen,
		Handler:           s3sim.New(s3sim.Options{Profile: profile, Seed: *seed, KeepBytes: *keep << 20}),
		ReadHeaderTimeout: time.Minute,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func runReadLoop(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("readloop", flag.ExitOnError)
	dir := flags.String("dir", "", "folder")
	addr := flags.String("to", "", "address of whoever takes the bytes")
	_ = flags.Parse(args) // it exits on errors
	r, err := readloop.Run(ctx, *dir, *addr)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// runEtcd runs an etcd on loopback until ctx ends.
func runEtcd(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("etcd", flag.ExitOnError)
	dir := flags.String("dir", "", "folder")
	listen := flags.String("listen", "127.0.0.1:2379", "address for clients")
	metrics := flags.String("metrics", "127.0.0.1:2381", "address of metrics")
	_ = flags.Parse(args) // it exits on errors
	c := embed.NewConfig()
	c.Dir, c.LogLevel = *dir, "error"
	at := func(addr string) []url.URL { return []url.URL{{Scheme: "http", Host: addr}} }
	c.ListenClientUrls, c.AdvertiseClientUrls, c.ListenMetricsUrls = at(*listen), at(*listen), at(*metrics)
	// A lone node never talks to a peer.
	c.ListenPeerUrls = at("127.0.0.1:0")
	c.AdvertisePeerUrls = at("127.0.0.1:0")
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	e, err := embed.StartEtcd(c)
	if err != nil {
		return err
	}
	defer e.Close()
	select {
	case <-ctx.Done():
		return nil
	case err := <-e.Err():
		return err
	}
}

func runRaw(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("say raw produce or raw fetch")
	}
	flags := flag.NewFlagSet("raw "+args[0], flag.ExitOnError)
	addr := flags.String("bootstrap", "127.0.0.1:9092", "address of the broker")
	topic := flags.String("topic", "raw", "created if absent")
	partitions := flags.Int("partitions", 4, "of the topic")
	conns := flags.Int("conns", 4, "connections")
	duration := flags.Duration("for", 5*time.Second, "how long")
	depth := flags.Int("depth", 8, "produce: requests in flight on each connection")
	parts := flags.Int("parts", 1, "produce: partitions in a request")
	batch := flags.Int("batch", 64<<10, "produce: bytes of a batch")
	recordBytes := flags.Int("record", 1000, "produce: bytes of a record's value")
	rate := flags.Float64("rate", 0, "produce: requests per second, 0: as fast as answers allow")
	requests := flags.Int("requests", 0, "produce: requests of each connection, instead of a time")
	keyed := flags.Bool("keyed", false, "produce: records have keys, which come again after as many batches as may be in flight")
	once := flags.Bool("once", false, "fetch: to the end, instead of a time")
	most := flags.Float64("mbps", 0, "fetch: MB/s at most, 0: as fast as answers come")
	maxBytes := flags.Int("max-bytes", 1<<20, "fetch: bytes of an answer")
	_ = flags.Parse(args[1:]) // it exits on errors
	var result rawdriver.Result
	var err error
	switch args[0] {
	case "produce":
		result, err = rawdriver.Produce{
			Addr: *addr, Topic: *topic, Partitions: *partitions, Conns: *conns, Depth: *depth, PartsPerRequest: *parts,
			BatchBytes: *batch, RecordBytes: *recordBytes, Rate: *rate, For: *duration, Requests: *requests, Keyed: *keyed,
		}.Run(ctx)
	case "fetch":
		result, err = rawdriver.Fetch{
			Addr: *addr, Topic: *topic, Partitions: *partitions, Conns: *conns, MaxBytes: *maxBytes, For: *duration,
			Once: *once, MBPerSecond: *most,
		}.Run(ctx)
	default:
		err = fmt.Errorf("%q is neither produce nor fetch", args[0])
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}
