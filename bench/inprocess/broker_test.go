package inprocess

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/broker"
	"github.com/tidemill/tidemill/config"
	"github.com/tidemill/tidemill/internal/proctest"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
)

// depth is how many produces a connection keeps in flight, as Java producers do by default.
const depth = 5

// BenchmarkProduce sends batches over one connection and waits for durable acknowledgements from a folder.
func BenchmarkProduce(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 64 << 10, 1000 << 10} {
		b.Run(fmt.Sprintf("batch=%dKiB", size>>10), func(b *testing.B) {
			addr := start(b)
			createTopic(b, addr)
			frame := produceFrame(batch(size))
			conn := connect(b, addr)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			before := cpuSeconds(b)
			b.ResetTimer()
			pipeline(b, conn, frame, b.N)
			b.StopTimer()
			b.ReportMetric((cpuSeconds(b)-before)/(float64(size)*float64(b.N)/1e9), "cpu-s/GB")
		})
	}
}

// BenchmarkTailFetch reads what was just written, 1 MiB at a time.
func BenchmarkTailFetch(b *testing.B) {
	addr := start(b)
	createTopic(b, addr)
	conn := connect(b, addr)
	const size, batches = 64 << 10, 64
	pipeline(b, conn, produceFrame(batch(size)), batches)
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.SessionEpoch, req.MaxBytes, req.MinBytes = 12, -1, -1, 1<<20, 1
	topic, p := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	topic.Topic, p.PartitionMaxBytes, p.CurrentLeaderEpoch = "bench", 1<<20, -1
	topic.Partitions = append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
	var bytes int64
	before := cpuSeconds(b)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := conn.Write(frame); err != nil {
			b.Fatal(err)
		}
		bytes += skipResponse(b, conn)
	}
	b.StopTimer()
	b.SetBytes(bytes / int64(b.N))
	b.ReportMetric((cpuSeconds(b)-before)/(float64(bytes)/1e9), "cpu-s/GB")
}

// start runs a broker on a folder until the benchmark ends.
func start(b *testing.B) (addr string) {
	b.Helper()
	addr, ops := proctest.FreeAddress(b), proctest.FreeAddress(b)
	cfg, err := config.Load(config.Input{
		Args:     []string{"--data-dir", b.TempDir(), "--listen", addr, "--http", ops},
		ReadFile: os.ReadFile, WorkDir: b.TempDir(),
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- broker.Run(ctx, cfg, "bench", io.Discard, slog.New(slog.DiscardHandler)) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; {
		resp, err := http.Get("http://" + ops + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return addr
			}
		}
		if time.Now().After(deadline) {
			b.Fatalf("the broker is not ready: %v", err)
		}
	}
}

func connect(b *testing.B, addr string) net.Conn {
	b.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return conn
}

func createTopic(b *testing.B, addr string) {
	b.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version = 5
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "bench", 1, 1
	req.Topics = append(req.Topics, topic)
	conn := connect(b, addr)
	if _, err := conn.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)); err != nil {
		b.Fatal(err)
	}
	skipResponse(b, conn)
}

// batch makes a batch of 1 KiB records that is about size bytes long.
func batch(size int) record.Batch {
	var build record.Builder
	for build.Size()+1000 <= size || build.Len() == 0 {
		build.Append(time.Now().UnixMilli(), nil, make([]byte, 990))
	}
	return build.Build()
}

func produceFrame(batch []byte) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 9, -1, 30_000
	topic, p := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	topic.Topic, p.Records = "bench", batch
	topic.Partitions = append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	return kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
}

// pipeline sends the frame n times, depth at a time, and waits for all answers.
func pipeline(b *testing.B, conn net.Conn, frame []byte, n int) {
	b.Helper()
	window := make(chan struct{}, depth)
	failed := make(chan error, 1)
	go func() {
		for range n {
			window <- struct{}{}
			if _, err := conn.Write(frame); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	for range n {
		checkProduced(b, conn)
		<-window
	}
	if err := <-failed; err != nil {
		b.Fatal(err)
	}
}

// checkProduced reads a Produce answer and fails on an error code.
func checkProduced(b *testing.B, conn net.Conn) {
	b.Helper()
	body := readResponse(b, conn)
	resp := kmsg.NewPtrProduceResponse()
	resp.Version = 9
	if err := resp.ReadFrom(body[5:]); err != nil {
		b.Fatal(err)
	}
	if code := protocol.ErrorCode(resp.Topics[0].Partitions[0].ErrorCode); code != protocol.CodeNone {
		b.Fatalf("produce: %v", code)
	}
}

func readResponse(b *testing.B, conn net.Conn) []byte {
	b.Helper()
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		b.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(conn, body); err != nil {
		b.Fatal(err)
	}
	return body
}

// skipResponse reads a response and returns its size.
func skipResponse(b *testing.B, conn net.Conn) int64 {
	b.Helper()
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		b.Fatal(err)
	}
	n, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(size[:])))
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// cpuSeconds is what this process has used, user and system.
func cpuSeconds(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime)
}
