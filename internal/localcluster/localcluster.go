// Package localcluster runs a whole cluster as processes on loopback, for people who try or develop it: etcd, MinIO and three
// brokers, with everything they keep in one folder.
//
// Invariants: nothing listens beyond loopback; a second run on the folder goes on with its data; brokers are stopped before what
// they need, and no process outlives Run.
package localcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/tidemill/tidemill/internal/process"
)

// Broker is where one broker listens.
type Broker struct {
	Kafka, HTTP string // host:port
}

// Options say where everything is. All addresses are host:port.
type Options struct {
	Folder  string // of data and logs; made if absent
	Program string // the broker's binary
	Brokers []Broker
	// Etcd is for clients, EtcdPeer for etcd itself.
	Etcd, EtcdPeer string
	S3, Console    string
	Out            io.Writer
}

// Standard returns the options of a cluster on the ports that people expect.
func Standard(folder, program string, out io.Writer) Options {
	return Options{
		Folder: folder, Program: program, Out: out,
		Brokers: []Broker{
			{"127.0.0.1:9092", "127.0.0.1:9644"}, {"127.0.0.1:9093", "127.0.0.1:9645"}, {"127.0.0.1:9094", "127.0.0.1:9646"},
		},
		Etcd: "127.0.0.1:2379", EtcdPeer: "127.0.0.1:2380", S3: "127.0.0.1:9000", Console: "127.0.0.1:9001",
	}
}

// cluster is one run.
type cluster struct {
	Options
	// parts are in the order of their start.
	parts []*part
	// ended gets each part whose process has ended. It has room for all.
	ended chan *part
}

// A part is one process of the cluster.
type part struct {
	*process.Process
	name string
	log  *os.File
}

// Run starts the cluster, prints where it is, and runs it until ctx ends. A broker that ends meanwhile is reported and the rest
// goes on; without etcd, MinIO or any broker the cluster is over, which is an error.
func Run(ctx context.Context, o Options) error {
	c := &cluster{Options: o, ended: make(chan *part, len(o.Brokers)+2)}
	folder, err := filepath.Abs(o.Folder)
	if err != nil {
		return err
	}
	c.Folder = folder
	if err := c.portsFree(); err != nil {
		return err
	}
	err = c.start(ctx)
	if err == nil {
		c.tell()
		err = c.watch(ctx)
	}
	if ctx.Err() != nil {
		err = nil // of a start that Ctrl-C cut short
	}
	return errors.Join(err, c.stop())
}

// portsFree makes sure that nobody else listens where a part is to.
func (c *cluster) portsFree() error {
	type use struct{ address, by string }
	uses := []use{{c.Etcd, "etcd"}, {c.EtcdPeer, "etcd's peers"}, {c.S3, "MinIO"}, {c.Console, "MinIO's console"}}
	for i, b := range c.Brokers {
		uses = append(uses, use{b.Kafka, fmt.Sprintf("broker %d", i+1)}, use{b.HTTP, fmt.Sprintf("metrics of broker %d", i+1)})
	}
	for _, u := range uses {
		l, err := net.Listen("tcp", u.address)
		if err != nil {
			return fmt.Errorf("%s, which %s needs, is in use: %w\n  stop what has it: another make cluster, make run, or a Kafka, etcd or MinIO of yours",
				u.address, u.by, err)
		}
		l.Close()
	}
	return nil
}

// watch returns when ctx ends, or when too little of the cluster is left.
func (c *cluster) watch(ctx context.Context) error {
	for left := len(c.Brokers); ; {
		select {
		case <-ctx.Done():
			return nil
		case p := <-c.ended:
			if !p.isBroker() {
				return p.end()
			}
			if left--; left == 0 {
				return fmt.Errorf("no broker is left: %w", p.end())
			}
			fmt.Fprintf(c.Out, "%v\n  %d of %d brokers are left; Ctrl-C ends them, and the next run starts all\n", p.end(), left, len(c.Brokers))
		}
	}
}

// tell prints where everything is.
func (c *cluster) tell() {
	fmt.Fprintf(c.Out, `
Tidemill, %d brokers
  kafka    bootstrap.servers=%s
`, len(c.Brokers), c.bootstrap())
	for i, b := range c.Brokers {
		fmt.Fprintf(c.Out, "  broker %d http://%s/metrics, %s\n", i+1, b.HTTP, zone(i))
	}
	fmt.Fprintf(c.Out, `  etcd     %s
  S3       http://%s, bucket %s; console http://%s (%s / %s)
  data     %s, logs in %s

  Try, in another terminal:
    broker topic create hello --partitions 6 --bootstrap %[9]s
    echo world | broker produce --topic hello --bootstrap %[9]s
    broker consume --topic hello --from-beginning --max-messages 1 --bootstrap %[9]s

  Ctrl-C stops all; the next run goes on with the same data.

`, c.url(), c.S3, bucketName, c.Console, accessKey, secretKey, c.Folder, filepath.Join(c.Folder, "logs"), c.Brokers[0].Kafka)
}
