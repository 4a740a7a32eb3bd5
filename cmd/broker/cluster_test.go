package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/broker"
	"github.com/tidemill/tidemill/internal/etcdtest"
	"github.com/tidemill/tidemill/internal/proctest"
)

// TestClusterInit: init may be repeated, changes nothing unasked, and tells what differs.
func TestClusterInit(t *testing.T) {
	etcd := etcdtest.Start(t)
	bucket := "file://" + filepath.Join(t.TempDir(), "bucket")
	other := "file://" + filepath.Join(t.TempDir(), "other")
	for _, s := range []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string
	}{
		{name: "no bucket", code: exitUsage, stderr: "broker cluster init needs --bucket"},
		{name: "bad bucket", args: []string{"--bucket", "s3://b?regoin=x"}, code: exitFailure, stderr: `the bucket (set by flag --bucket) cannot be the cluster's: object store URL: unknown setting ?regoin= (did you mean "region"?)`},
		{name: "an id for all", args: []string{"--bucket", bucket, "--kafka", "broker.id=1"}, code: exitFailure, stderr: "this cannot be the same for all brokers"},
		{name: "first", args: []string{"--bucket", bucket, "--kafka", "num.partitions=4"}, stdout: "is set up\n  bucket: " + bucket + "\n  kafka.num.partitions: 4\n"},
		{name: "again", args: []string{"--bucket", bucket, "--kafka", "num.partitions=4"}, stdout: "is set up already, with these settings\n"},
		{name: "again without the bucket", args: []string{"--kafka", "num.partitions=4"}, stdout: "is set up already, with these settings\n"},
		{name: "other defaults", args: []string{"--bucket", bucket, "--kafka", "num.partitions=8"}, code: exitFailure, stderr: "  kafka.num.partitions: stored 4, given 8\n  give what is stored, or change it: --replace-defaults\n"},
		{name: "another bucket", args: []string{"--bucket", other, "--replace-defaults"}, code: exitFailure, stderr: "  bucket: stored " + bucket + ", given " + other + "\n  kafka.num.partitions: stored 4, given none\n  the bucket of a cluster never changes"},
		{name: "new defaults", args: []string{"--replace-defaults", "--kafka", "num.partitions=8"}, stdout: "has new defaults\n  bucket: " + bucket + "\n  kafka.num.partitions: 8\n"},
		{name: "the new again", args: []string{"--kafka", "num.partitions=8"}, stdout: "is set up already, with these settings\n"},
	} {
		got := command(t, "", append([]string{"cluster", "init", "--cluster", etcd.URL()}, s.args...)...)
		if got.code != s.code || !strings.Contains(got.stdout, s.stdout) || !strings.Contains(got.stderr, s.stderr) || (s.code == 0) != (got.stderr == "") {
			t.Errorf("%s: got %+v", s.name, got)
		}
	}
	if _, err := os.Stat(strings.TrimPrefix(other, "file://")); err == nil {
		t.Error("a bucket that was refused was made")
	}
	got := command(t, "", "cluster", "init", "--cluster", "etcd://"+etcd.Address+"/second", "--bucket", bucket)
	if got.code != exitFailure || !strings.Contains(got.stderr, "bucket of another cluster") {
		t.Errorf("the bucket of another cluster: got %+v", got)
	}
}

// TestBrokerOfACluster: with TLS and a password, a broker needs only to be told where etcd is, and reads the rest there.
func TestBrokerOfACluster(t *testing.T) {
	etcd := etcdtest.StartSecure(t)
	bucket := "file://" + filepath.Join(t.TempDir(), "bucket")
	access := []string{
		"--cluster", etcd.URL(), "--etcd-ca-file", etcd.CA, "--etcd-cert-file", etcd.Cert, "--etcd-key-file", etcd.Key,
		"--etcd-username", etcd.User, "--etcd-password", etcd.Password,
	}
	serving := append([]string{"--listen", proctest.FreeAddress(t), "--http", "127.0.0.1:0", "--log-level", "error"}, access...)
	serve := func(more ...string) (stderr string) {
		var out bytes.Buffer
		code := run(t.Context(), &environment{args: append(serving, more...), stdout: io.Discard, stderr: &out, workDir: t.TempDir(), serve: broker.Run})
		if code != exitFailure {
			t.Errorf("a broker with %v exited with %d", more, code)
		}
		return out.String()
	}
	if got := serve(); !strings.Contains(got, "has no settings in etcd, and no bucket is given") || !strings.Contains(got, "broker cluster init --cluster "+etcd.URL()) {
		t.Errorf("before init: %s", got)
	}
	if got := command(t, "", append([]string{"cluster", "init", "--bucket", bucket, "--kafka", "num.partitions=4"}, access...)...); got.code != exitOK {
		t.Fatalf("init: %+v", got)
	}
	if got := serve("--bucket", "file:///elsewhere"); !strings.Contains(got, "bucket (set by flag --bucket): file:///elsewhere is not the bucket of the cluster") {
		t.Errorf("another bucket: %s", got)
	}
	address := runCluster(t, serving...)
	for _, verb := range [][]string{{"topic", "create", "t"}, {"topic", "describe", "t"}} {
		got := command(t, "", append(verb, "--bootstrap", address)...)
		if got.code != exitOK || verb[1] == "describe" && !strings.Contains(got.stdout, "\n3 ") {
			t.Errorf("%v: got %+v, want 4 partitions", verb, got)
		}
	}
	if got := command(t, "", append([]string{"fsck"}, access...)...); got.code != exitOK {
		t.Errorf("fsck: %+v", got)
	}
}

// runCluster runs a broker in this process until the test ends and returns its address.
func runCluster(t *testing.T, args ...string) (address string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	banner, exited := make(chan string, 1), make(chan int, 1)
	var stderr bytes.Buffer
	dir := t.TempDir()
	go func() {
		exited <- run(ctx, &environment{
			args: args, stdout: writeFunc(func(p []byte) { banner <- string(p) }), stderr: &stderr, workDir: dir, serve: broker.Run,
		})
	}()
	t.Cleanup(func() {
		stop()
		if written, err := os.ReadDir(dir); len(written) > 0 || err != nil {
			t.Errorf("a broker of a cluster writes no files, so its container's file system may be read-only: got %v, %v", written, err)
		}
		if code := <-exited; code != exitOK {
			t.Errorf("the broker exited with %d: %s", code, stderr.String())
		}
	})
	select {
	case text := <-banner:
		_, rest, _ := strings.Cut(text, "bootstrap.servers=")
		address, _, _ = strings.Cut(rest, ")")
	case code := <-exited:
		exited <- code
		t.Fatalf("the broker did not start: exit code %d, %s", code, stderr.String())
	case <-time.After(time.Minute):
		t.Fatal("the broker did not start in a minute")
	}
	return address
}
