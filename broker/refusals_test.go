package broker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/tidemill/tidemill/config"
	"github.com/tidemill/tidemill/internal/miniotest"
	"github.com/tidemill/tidemill/internal/proctest"
)

// A startRefusal is what a start that cannot be must say: the setting, where it was set, what is wrong and how to mend it.
type startRefusal struct {
	key, source string
	what, mend  string // parts
}

// checkRefused starts a broker, which must end by itself with a message.
func checkRefused(t *testing.T, want startRefusal, args ...string) {
	t.Helper()
	cfg, err := config.Load(config.Input{
		Args: args, Env: []string{"BROKER_LISTEN=" + proctest.FreeAddress(t), "BROKER_HTTP=" + proctest.FreeAddress(t), "BROKER_BUCKET=file://" + t.TempDir()},
		ReadFile: os.ReadFile, WorkDir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var banner lockedBuffer
	err = Run(ctx, cfg, "test", &banner, slog.New(slog.DiscardHandler))
	p, ok := errors.AsType[*config.Problem](err)
	if !ok {
		t.Fatalf("the broker ended with %v, want a problem of %s", err, want.key)
	}
	t.Log(err)
	if p.Key != want.key || p.Source != want.source || !strings.Contains(p.What, want.what) || !strings.Contains(p.Mend, want.mend) {
		t.Errorf("the broker ended with\n%v\nwant %+v", err, want)
	}
	if banner.String() != "" {
		t.Errorf("a broker that does not run printed its banner:\n%s", banner.String())
	}
}

func TestRefusePortInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	taken := ln.Addr().String()
	t.Run("kafka", func(t *testing.T) {
		checkRefused(t, startRefusal{"listen", "flag --listen", "cannot listen on " + taken, "choose another: --listen"}, "--listen", taken)
	})
	t.Run("http", func(t *testing.T) {
		checkRefused(t, startRefusal{"http", "flag --http", "cannot listen on " + taken, "choose another: --http"}, "--http", taken)
	})
}

func TestRefuseDataFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("below a file", func(t *testing.T) {
		checkRefused(t, startRefusal{"data-dir", "flag --data-dir", file, "make the folder writable"}, "--data-dir", filepath.Join(file, "data"))
	})
	t.Run("bucket below a file", func(t *testing.T) {
		checkRefused(t, startRefusal{"bucket", "flag --bucket", file, "make the folder"}, "--bucket", "file://"+file+"/data")
	})
	t.Run("of a live broker", func(t *testing.T) {
		b := startBroker(t)
		checkRefused(t, startRefusal{"data-dir", "flag --data-dir", "in use by another process", "stop the broker"}, "--data-dir", b.dir)
	})
}

func TestRefuseBucketOfAnotherCluster(t *testing.T) {
	bucket := "file://" + t.TempDir()
	b := startBroker(t, "--bucket", bucket)
	b.shutdown()
	checkRefused(t, startRefusal{"bucket", "flag --bucket", "bucket of another cluster", "this cluster's bucket"}, "--bucket", bucket)
	b.start() // the owner is not disturbed
}

func TestRefuseBucketOnMinIO(t *testing.T) {
	m := miniotest.Start(t)
	t.Setenv("AWS_ACCESS_KEY_ID", m.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", m.SecretKey)
	t.Run("missing", func(t *testing.T) {
		checkRefused(t, startRefusal{"bucket", "flag --bucket", "no such bucket", "create the bucket"}, "--bucket", "s3://nobodys?endpoint="+m.Endpoint)
	})
	t.Run("wrong secret", func(t *testing.T) {
		t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
		checkRefused(t, startRefusal{"bucket", "flag --bucket", "does not know the access key or its secret", "AWS_SECRET_ACCESS_KEY"}, "--bucket", minioURL(m, ""))
	})
	t.Run("nothing there", func(t *testing.T) {
		checkRefused(t, startRefusal{"bucket", "flag --bucket", "does not answer", "can be reached"}, "--bucket", "s3://b?endpoint=http://"+proctest.FreeAddress(t))
	})
}

// minioURL is what --bucket takes.
func minioURL(m *miniotest.Server, prefix string) string {
	return "s3://" + m.Bucket + "/" + prefix + "?endpoint=" + m.Endpoint
}

func TestRefuseStoreWithoutCreateIfAbsent(t *testing.T) {
	server := &http.Server{Handler: &overwritingS3{}, ReadHeaderTimeout: time.Minute}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	t.Setenv("AWS_ACCESS_KEY_ID", "any")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "any")
	checkRefused(t, startRefusal{"bucket", "flag --bucket", "create-if-absent is not atomic", "If-None-Match"}, "--bucket", "s3://b?endpoint=http://"+ln.Addr().String())
}

// overwritingS3 is an S3 service that does not know If-None-Match, as older ones: every PUT wins.
type overwritingS3 struct{ objects sync.Map }

func (s *overwritingS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	stored, found := s.objects.Load(r.URL.Path)
	switch {
	case err != nil:
		w.WriteHeader(http.StatusBadRequest)
	case r.Method == http.MethodPut:
		s.objects.Store(r.URL.Path, body)
	case r.Method == http.MethodDelete:
		s.objects.Delete(r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPost:
		io.WriteString(w, `<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></DeleteResult>`)
	case r.URL.Query().Has("list-type"):
		io.WriteString(w, `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><KeyCount>0</KeyCount></ListBucketResult>`)
	case found:
		w.Write(stored.([]byte))
	default:
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `<Error><Code>NoSuchKey</Code></Error>`)
	}
}

func TestRefuseEtcd(t *testing.T) {
	t.Run("unreachable", func(t *testing.T) {
		address := proctest.FreeAddress(t)
		checkRefused(t, startRefusal{"cluster", "flag --cluster", "etcd at " + address + " does not answer", "check that etcd runs"}, "--cluster", "etcd://"+address+"/test")
	})
	t.Run("too old", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server, served := grpc.NewServer(), make(chan error, 1)
		etcdserverpb.RegisterMaintenanceServer(server, oldEtcd{})
		go func() { served <- server.Serve(ln) }()
		t.Cleanup(func() {
			server.Stop()
			<-served
		})
		checkRefused(t, startRefusal{"cluster", "flag --cluster", "version 3.4.30", "upgrade etcd"}, "--cluster", "etcd://"+ln.Addr().String()+"/test")
	})
}

// oldEtcd answers only the question of its version.
type oldEtcd struct {
	etcdserverpb.UnimplementedMaintenanceServer
}

func (oldEtcd) Status(context.Context, *etcdserverpb.StatusRequest) (*etcdserverpb.StatusResponse, error) {
	return &etcdserverpb.StatusResponse{Header: &etcdserverpb.ResponseHeader{}, Version: "3.4.30"}, nil
}

func TestRefuseBrokerIDInUse(t *testing.T) {
	etcd := startEtcd(t)
	shared := []string{"--cluster", etcd.url(), "--bucket", "file://" + t.TempDir(), "--broker-id", "7"}
	b := startBroker(t, shared...)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	checkRefused(t, startRefusal{"broker-id", "flag --broker-id", "broker 7 already runs at " + b.kafka, "--broker-id"}, shared...)
	if p := c.produce("t", 0, batchOf("a")); p.ErrorCode != 0 {
		t.Errorf("the live broker answers with code %d after the attempt", p.ErrorCode)
	}
}
