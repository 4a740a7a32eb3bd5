package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/tidemill/tidemill/config"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/metadata/etcdembed"
	"github.com/tidemill/tidemill/objectstore"
)

// problem is a reason not to start that a person can act on: what is wrong, where it was set, how to mend it.
func (b *Broker) problem(key, what, mend string) error {
	return &config.Problem{Key: key, Source: b.cfg.Source(key), What: what, Mend: mend}
}

// etcdDir is where the embedded etcd keeps its data.
func (b *Broker) etcdDir() string { return filepath.Join(b.cfg.DataDir, "etcd") }

func (b *Broker) embeddedProblem(err error) error {
	switch {
	case errors.Is(err, etcdembed.ErrInUse):
		return b.problem("data-dir", err.Error(), "stop the broker that runs on it, or choose another folder: --data-dir ./other")
	case errors.Is(err, etcdembed.ErrNotWritable):
		return b.problem("data-dir", err.Error(), "make the folder writable for this user, or choose another: --data-dir /var/lib/tidemill")
	}
	return fmt.Errorf("start the embedded etcd in %s: %w", b.etcdDir(), err)
}

func (b *Broker) clusterProblem(err error) error {
	endpoints := strings.Join(b.cfg.Cluster.Endpoints, ", ")
	switch {
	case errors.Is(err, metadata.ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
		return b.problem("cluster", fmt.Sprintf("etcd at %s does not answer: %v", endpoints, err),
			"check that etcd runs and can be reached from here: etcdctl --endpoints "+endpoints+" endpoint status; an etcd with TLS needs --etcd-ca-file")
	case errors.Is(err, metadata.ErrDenied):
		key := "cluster"
		if b.cfg.Etcd.Username != "" {
			key = "etcd-username"
		}
		return b.problem(key, err.Error(), "set --etcd-username and --etcd-password-file to a user whose role may read and write keys below /tidemill/"+b.cfg.Cluster.Name+"/")
	case errors.Is(err, metadata.ErrTooOld):
		return b.problem("cluster", err.Error(), "upgrade etcd to 3.5 or newer")
	}
	return fmt.Errorf("open metadata: %w", err)
}

// bucketProblem is why a bucket cannot be this cluster's log.
func (b *Broker) bucketProblem(err error) error {
	mend := "check that the bucket can be reached, read and written, or name another: --bucket s3://bucket/prefix or file:///path"
	switch {
	case errors.Is(err, metadata.ErrForeignBucket):
		mend = "point --bucket at this cluster's bucket, or --cluster and --data-dir at the cluster that owns it"
	case errors.Is(err, objectstore.ErrNotAtomic):
		mend = "use a store whose PUT with If-None-Match: * is atomic; without it two brokers could both believe that they own the log"
	case errors.Is(err, objectstore.ErrNoBucket):
		mend = "create the bucket or make the folder, or name another: --bucket s3://bucket/prefix?endpoint=...&region=... or file:///path"
	case errors.Is(err, objectstore.ErrDenied):
		mend = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, to a user who may list the bucket and get, put and delete its objects"
	}
	return b.problem("bucket", err.Error(), mend)
}

// closers are what to close at the end, last opened first.
type closers []closer

type closer struct {
	name  string
	close func() error
}

func (c *closers) add(name string, f func() error) { *c = append(*c, closer{name, f}) }

// close closes all once.
func (c *closers) close(log *slog.Logger) {
	for i := len(*c) - 1; i >= 0; i-- {
		if err := (*c)[i].close(); err != nil {
			log.Warn("closing", slog.String("part", (*c)[i].name), slog.Any("error", err))
		}
	}
	*c = nil
}

// banner tells a person what runs, where, and what to try.
func (b *Broker) banner(out io.Writer, version string, cluster metadata.Cluster, bucket, httpAddr string) {
	where := "etcd " + b.cfg.Cluster.String()
	if b.cfg.Cluster.Embedded() {
		where = "etcd embedded, in " + b.etcdDir()
	}
	address := fmt.Sprintf("%s:%d", b.info.Host, b.info.Port)
	fmt.Fprintf(out, `
Tidemill %s
  cluster   %s, broker %d
  kafka     %s (clients: bootstrap.servers=%s)
  http      http://%s/metrics
  metadata  %s
  data      %s

  Try, in another terminal:
    broker topic create hello --bootstrap %[4]s
    echo world | broker produce --topic hello --bootstrap %[4]s
    broker consume --topic hello --from-beginning --max-messages 1 --bootstrap %[4]s

`, version, cluster.ID, b.life.Broker, address, address, httpAddr, where, bucket)
}
