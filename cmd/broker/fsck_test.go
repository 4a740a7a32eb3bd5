package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/audit"
	"github.com/tidemill/tidemill/broker"
)

// A folderBroker is a broker in this process on a folder that outlives it.
type folderBroker struct {
	t       *testing.T
	dir     string
	address string
	stop    context.CancelFunc
	exited  chan int
}

// shortDir returns a folder whose path is short enough for a unix socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tm") //nolint:usetesting // short: a unix socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func runOn(t *testing.T, dir string) *folderBroker {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	b := &folderBroker{t: t, dir: dir, stop: stop, exited: make(chan int, 1)}
	banner := make(chan string, 1)
	go func() {
		b.exited <- run(ctx, &environment{
			args: []string{"--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", dir, "--log-level", "error",
				"--kafka", "log.initial.task.delay.ms=0", "--kafka", "log.cleaner.backoff.ms=100"},
			stdout: writeFunc(func(p []byte) { banner <- string(p) }), stderr: io.Discard, workDir: dir, serve: broker.Run,
		})
	}()
	t.Cleanup(b.end)
	select {
	case text := <-banner:
		_, rest, _ := strings.Cut(text, "bootstrap.servers=")
		b.address, _, _ = strings.Cut(rest, ")")
	case code := <-b.exited:
		b.exited <- code
		t.Fatalf("the broker did not start: exit code %d", code)
	case <-time.After(time.Minute):
		t.Fatal("the broker did not start in a minute")
	}
	return b
}

// end stops the broker. It may be called twice.
func (b *folderBroker) end() {
	b.stop()
	code := <-b.exited
	b.exited <- code
	if code != exitOK {
		b.t.Errorf("the broker exited with %d", code)
	}
}

func (b *folderBroker) client(opts ...kgo.Opt) *kgo.Client {
	b.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.address)}, opts...)...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(cl.Close)
	return cl
}

// write produces n records to partition 0 of a topic, each in a batch of its own.
func (b *folderBroker) write(topic string, n int) {
	b.t.Helper()
	cl := b.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i := range n {
		if err := cl.ProduceSync(b.t.Context(), &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "%d", i)}).FirstErr(); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *folderBroker) create(topics ...string) {
	b.t.Helper()
	r, err := kadm.NewClient(b.client()).CreateTopics(b.t.Context(), 3, 1, nil, topics...)
	if err == nil {
		err = r.Error()
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// segmented makes a compacted topic and writes to it until its records are in a segment, as compaction wants them.
func (b *folderBroker) segmented(topic string) {
	b.t.Helper()
	value := func(s string) *string { return &s }
	configs := map[string]*string{"cleanup.policy": value("compact"), "internal.segment.bytes": value("300"), "min.cleanable.dirty.ratio": value("0.01")}
	r, err := kadm.NewClient(b.client()).CreateTopics(b.t.Context(), 1, 1, configs, topic)
	if err == nil {
		err = r.Error()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	cl := b.client()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if err := cl.ProduceSync(b.t.Context(), &kgo.Record{Topic: topic, Key: []byte("k"), Value: []byte("v")}).FirstErr(); err != nil {
			b.t.Fatal(err)
		}
		if files, _ := filepath.Glob(filepath.Join(b.dir, "bucket", "segment/1/*/*.obj")); len(files) > 0 {
			return
		}
	}
	b.t.Fatal("no segment in a minute")
}

// fsckJSON runs fsck and returns its exit code and report.
func fsckJSON(t *testing.T, dir string, more ...string) (int, audit.Report) {
	t.Helper()
	got := command(t, "", append([]string{"fsck", "--json", "--data-dir", dir}, more...)...)
	var r audit.Report
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	return got.code, r
}

// TestFsckBesideALiveBroker checks a cluster again and again while records come and topics come and go.
func TestFsckBesideALiveBroker(t *testing.T) {
	dir := shortDir(t)
	b := runOn(t, dir)
	b.create("a", "b")
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for i := range 8 {
		cl := b.client(kgo.ProducerLinger(0))
		running.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_ = cl.ProduceSync(ctx, &kgo.Record{Topic: string("ab"[i%2]), Value: fmt.Appendf(nil, "%d-%d", i, n)})
			}
		})
	}
	admin := kadm.NewClient(b.client())
	running.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			name := fmt.Sprint("passing-", n)
			_, _ = admin.CreateTopic(ctx, 2, 1, nil, name)
			_, _ = admin.DeleteTopic(ctx, name)
		}
	})
	var last audit.Report
	little := func() bool { return last.Objects < 100 || last.Batches < 100 || last.Partitions < 6 }
	begun := time.Now()
	for time.Since(begun) < 5*time.Second || little() && time.Since(begun) < time.Minute {
		code, r := fsckJSON(t, dir)
		if code != exitOK || !r.OK {
			t.Fatalf("exit code %d: %v", code, r.Problems)
		}
		last = r
	}
	if little() {
		t.Errorf("the last report is of little: %+v", last)
	}
	t.Logf("%d objects, %d parts, %d batches, leaks %d", last.Objects, last.Parts, last.Batches, len(last.Leaks))
}

// tree lists all files below a folder with their times and sizes.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintln(&b, path, info.Size(), info.ModTime(), info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestFsckExitStatus(t *testing.T) {
	dir := shortDir(t)
	b := runOn(t, dir)
	b.create("a")
	b.write("a", 20)
	b.end()
	b = runOn(t, dir)
	b.write("a", 5)
	b.segmented("keyed")
	b.end()
	bucket := filepath.Join(dir, "bucket")
	before := tree(t, bucket)
	code, r := fsckJSON(t, dir)
	if code != exitOK || !r.OK || r.Lives != 2 || r.Partitions != 4 || r.Batches < 25 {
		t.Fatalf("exit code %d: %+v", code, r)
	}
	got := command(t, "", "fsck", "--no-data", "--data-dir", dir)
	if got.code != exitOK || !strings.Contains(got.stdout, "data not read") || !strings.HasSuffix(got.stdout, "\nclean\n") {
		t.Errorf("got %+v", got)
	}
	if after := tree(t, bucket); after != before {
		t.Errorf("fsck touched the bucket:\n%s\nwas\n%s", after, before)
	}
	for _, pattern := range []string{"wal/*/1/*/*.obj", "segment/1/*/*.obj", "manifest/1/*/*.obj", "cluster.json.obj"} {
		files, err := filepath.Glob(filepath.Join(bucket, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files %s: %v", pattern, err)
		}
		file := files[len(files)-1]
		key := strings.TrimSuffix(strings.TrimPrefix(file, bucket+"/"), ".obj")
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(body)
		bad[len(bad)/2] ^= 4
		replace(t, file, bad)
		code, r := fsckJSON(t, dir)
		if code != exitFailure || r.OK || len(r.Problems) == 0 || r.Problems[0].Key != key {
			t.Errorf("%s: exit code %d: %+v", key, code, r.Problems)
		}
		got := command(t, "", "fsck", "--data-dir", dir)
		if got.code != exitFailure || !strings.Contains(got.stdout, key) || !strings.HasPrefix(got.stderr, "broker: fsck found problems: ") {
			t.Errorf("%s: %+v", key, got)
		}
		replace(t, file, body)
	}
}

func replace(t *testing.T, file string, body []byte) {
	t.Helper()
	if err := os.WriteFile(file, body, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestFsckThatCannotRun(t *testing.T) {
	empty, dir, foreign := shortDir(t), shortDir(t), shortDir(t)
	for _, d := range []string{dir, foreign} {
		runOn(t, d).end()
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--data-dir", empty}, "fsck could not run: etcdembed: no data in the folder"},
		{[]string{"--data-dir", dir, "--bucket", "file://" + empty + "/none"}, "bucket unavailable"},
		{[]string{"--data-dir", dir, "--bucket", "file://" + foreign + "/bucket"}, "bucket of another cluster"},
		{[]string{"--cluster", "etcd://127.0.0.1:1/x", "--bucket", "file://" + dir + "/bucket"}, "etcd unreachable"},
		{[]string{"--data-dir", dir, "--jsn"}, "unknown flag --jsn"},
		{[]string{"--data-dir", dir, "extra"}, `unexpected argument "extra"`},
		{[]string{"--data-dir", dir, "--listen", "nowhere"}, `"nowhere" is not host:port`},
	} {
		got := command(t, "", append([]string{"fsck"}, tc.args...)...)
		if got.code != exitNotRun || !strings.Contains(got.stderr, tc.want) || got.stdout != "" {
			t.Errorf("%v: got %+v, want %q", tc.args, got, tc.want)
		}
	}
	if files, err := os.ReadDir(empty); err != nil || len(files) != 0 {
		t.Errorf("a folder without a cluster holds %v, %v now", files, err)
	}
	if got := command(t, "", "fsck", "--help"); got.code != exitOK || !strings.Contains(got.stdout, "Exit status") {
		t.Errorf("got %+v", got)
	}
}
