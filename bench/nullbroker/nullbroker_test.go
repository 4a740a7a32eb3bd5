package nullbroker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/bench/kgodriver"
	"github.com/tidemill/tidemill/bench/nullbroker"
	"github.com/tidemill/tidemill/bench/rawdriver"
)

// start runs a broker until the test ends and returns its address.
func start(t *testing.T, o nullbroker.Options) string {
	t.Helper()
	b, err := nullbroker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// TestRawDriver holds the null broker and the raw driver to each other: every answer's offsets are checked by the driver.
func TestRawDriver(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprint("plain=", plain), func(t *testing.T) {
			addr := start(t, nullbroker.Options{ArenaBytes: 16 << 20, Plain: plain})
			for _, topic := range []string{"first", "second"} { // frames come into the same memory as the names before
				p := rawdriver.Produce{
					Addr: addr, Topic: topic, Partitions: 4, Conns: 2, Depth: 5, PartsPerRequest: 2, BatchBytes: 16 << 10, RecordBytes: 1000, Requests: 50,
				}
				r, err := p.Run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if r.Requests != 100 || r.Records < 200*15 || r.Bytes < 200*15_000 {
					t.Errorf("produced %d requests, %d records, %d bytes", r.Requests, r.Records, r.Bytes)
				}
			}
			f := rawdriver.Fetch{Addr: addr, Topic: "first", Partitions: 4, Conns: 4, MaxBytes: 100 << 10, For: 50 * time.Millisecond}
			r, err := f.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if r.Records == 0 {
				t.Error("fetched nothing")
			}
		})
	}
}

// TestReadOnce reads a partition to its end, not faster than it may, and asks for single batches.
func TestReadOnce(t *testing.T) {
	addr := start(t, nullbroker.Options{ArenaBytes: 16 << 20})
	p := rawdriver.Produce{
		Addr: addr, Topic: "once", Partitions: 1, Conns: 1, Depth: 4, PartsPerRequest: 1, BatchBytes: 1100, RecordBytes: 1000, Requests: 1000, Keyed: true,
	}
	wrote, err := p.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := rawdriver.Fetch{Addr: addr, Topic: "once", Partitions: 1, Conns: 1, MaxBytes: 32 << 10, Once: true, MBPerSecond: 10}
	r, err := f.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Records != wrote.Records || r.Bytes != wrote.Bytes {
		t.Errorf("read %d records, %d bytes, want %d, %d", r.Records, r.Bytes, wrote.Records, wrote.Bytes)
	}
	if r.MBPerSecond() > 11 {
		t.Errorf("read at %.1f MB/s", r.MBPerSecond())
	}
	reader := rawdriver.Reader{Addr: addr, Topic: "once"}
	defer reader.Close()
	for _, offset := range []int64{0, 500, wrote.Records - 1} {
		if err := reader.Await(t.Context(), 0, offset); err != nil {
			t.Error(err)
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := reader.Await(short, 0, wrote.Records); err == nil {
		t.Error("there is a batch behind the end")
	}
}

// TestOpenLoop checks that an open loop sends what its rate and time say, however fast the broker is.
func TestOpenLoop(t *testing.T) {
	addr := start(t, nullbroker.Options{ArenaBytes: 16 << 20})
	p := rawdriver.Produce{
		Addr: addr, Topic: "open", Partitions: 2, Conns: 2, Depth: 100, PartsPerRequest: 1, BatchBytes: 1100, RecordBytes: 1000,
		Rate: 400, For: 250 * time.Millisecond,
	}
	r, err := p.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Requests != 100 || r.Delay.TotalCount() != 100 || r.Latency.TotalCount() != 100 {
		t.Errorf("sent %d requests, %d delays and %d latencies; want 100 of each", r.Requests, r.Delay.TotalCount(), r.Latency.TotalCount())
	}
}

// TestEmptyTopic: there is nothing to measure.
func TestEmptyTopic(t *testing.T) {
	addr := start(t, nullbroker.Options{ArenaBytes: 16 << 20})
	if err := rawdriver.CreateTopic(t.Context(), addr, "empty", 1); err != nil {
		t.Fatal(err)
	}
	_, err := rawdriver.Fetch{Addr: addr, Topic: "empty", Partitions: 1, Conns: 1, MaxBytes: 1 << 20, For: time.Second}.Run(t.Context())
	if !errors.Is(err, rawdriver.ErrNothing) {
		t.Errorf("got error %v, want %v", err, rawdriver.ErrNothing)
	}
}

// TestFranz runs the load of applications against the null broker.
func TestFranz(t *testing.T) {
	addr := start(t, nullbroker.Options{ArenaBytes: 64 << 20})
	r, err := kgodriver.Load{
		Addr: addr, Topic: "load", Partitions: 3, Producers: 2, Consumers: 2, RecordBytes: 100, MBPerSecond: .5, BatchBytes: 16 << 10,
		WarmUp: 100 * time.Millisecond, For: 400 * time.Millisecond,
	}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// How late the driver was depends on the machine; what it sent and saw does not.
	if r.Records != 2500 || r.Bytes != 250_000 || r.Failed+r.Lost+r.Duplicated+r.Reordered != 0 {
		t.Errorf("report %+v, want 2500 records, none of them lost", r)
	}
	if r.Ack.P50 <= 0 || r.Ack.P99 < r.Ack.P50 || r.EndToEnd.P50 <= 0 {
		t.Errorf("report %+v: latencies make no sense", r)
	}
}

// TestRing writes more than the ring holds: what is read must be whole and newer.
func TestRing(t *testing.T) {
	addr := start(t, nullbroker.Options{ArenaBytes: 8 << 20})
	open := func(opts ...kgo.Opt) *kgo.Client {
		client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation())...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		return client
	}
	client := open(kgo.DefaultProduceTopic("ring"), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	for i := range 200 {
		value := bytes.Repeat([]byte{byte(i)}, 100_000)
		if err := client.ProduceSync(t.Context(), &kgo.Record{Value: value}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	client = open(kgo.ConsumeTopics("ring"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	last := int64(-1)
	for last < 199 {
		fetches := client.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if last < 0 && r.Offset < 100 || last >= 0 && r.Offset != last+1 {
				t.Errorf("offset %d after %d", r.Offset, last)
			}
			if !bytes.Equal(r.Value, bytes.Repeat([]byte{byte(r.Offset)}, 100_000)) {
				t.Errorf("offset %d holds other bytes", r.Offset)
			}
			last = r.Offset
		})
	}
}

// TestCorrupt checks that the CRC is looked at.
func TestCorrupt(t *testing.T) {
	b := rawdriver.Batch(2000, 100)
	b[len(b)-1] ^= 1
	addr := start(t, nullbroker.Options{ArenaBytes: 8 << 20})
	_, err := rawdriver.Produce{
		Addr: addr, Topic: "corrupt", Partitions: 1, Conns: 1, Depth: 1, PartsPerRequest: 1, Requests: 1, Batch: b,
	}.Run(t.Context())
	if err == nil {
		t.Error("a corrupt batch was stored")
	}
}
