package broker

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
)

// A gate is a store whose Puts wait while it is shut, as those of a service that hangs.
type gate struct {
	objectstore.Store
	open atomic.Pointer[chan struct{}]
}

func newGate(below objectstore.Store) *gate {
	g := &gate{Store: below}
	g.shut()()
	return g
}

// shut makes Puts wait until the returned function is called.
func (g *gate) shut() (reopen func()) {
	opened := make(chan struct{})
	g.open.Store(&opened)
	return sync.OnceFunc(func() { close(opened) })
}

func (g *gate) Put(ctx context.Context, key string, body []byte) error {
	select {
	case <-*g.open.Load():
		return g.Store.Put(ctx, key, body)
	case <-ctx.Done():
		return fmt.Errorf("put %s: %w: %w", key, objectstore.ErrAmbiguous, ctx.Err())
	}
}

func (g *gate) Close() error { return g.Store.(io.Closer).Close() }

// A flood is producers without mercy: each writes the same frames as fast as its connection takes them.
type flood struct {
	conns   []*rawClient
	written atomic.Int64 // frames that connections took
	offsets []int64      // of acknowledged batches
	bad     []protocol.ErrorCode
	mu      sync.Mutex
	running sync.WaitGroup
}

func startFlood(t *testing.T, address, topic string, producers, frames, size int) *flood {
	f := &flood{}
	batch := batchOf(strings.Repeat("x", size))
	for range producers {
		c := dial(t, address)
		f.conns = append(f.conns, c)
		req := produceRequest(11, topic, 0, batch)
		req.TimeoutMillis = 120_000
		frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID("flood")).AppendRequest(nil, req, 1)
		f.running.Go(func() {
			for range frames {
				if _, err := c.Conn.Write(frame); err != nil {
					t.Errorf("write: %v", err)
					return
				}
				f.written.Add(1)
			}
		})
		f.running.Go(func() { f.readAnswers(t, c, req, frames) })
	}
	return f
}

func (f *flood) readAnswers(t *testing.T, c *rawClient, req *kmsg.ProduceRequest, frames int) {
	for range frames {
		_, body, err := c.receive()
		if err != nil {
			t.Errorf("read: %v", err)
			return
		}
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		if err := resp.ReadFrom(body[1:]); err != nil {
			t.Errorf("decode: %v", err)
			return
		}
		p := resp.Topics[0].Partitions[0]
		f.mu.Lock()
		if p.ErrorCode != 0 {
			f.bad = append(f.bad, protocol.ErrorCode(p.ErrorCode))
		} else {
			f.offsets = append(f.offsets, p.BaseOffset)
		}
		f.mu.Unlock()
	}
}

// check waits for all answers: none is an error, no offset is given twice.
func (f *flood) check(t *testing.T, want int) {
	t.Helper()
	f.running.Wait()
	if len(f.bad) > 0 {
		t.Errorf("%d batches were refused, the first with %v", len(f.bad), f.bad[0])
	}
	slices.Sort(f.offsets)
	if n := len(slices.Compact(f.offsets)); n != want {
		t.Errorf("%d batches at %d offsets, want %d", len(f.offsets), n, want)
	}
}

// TestStalledStorage holds decision 3 and D11: while nothing can be stored producers wait on their sockets within the
// budget, everybody else is served, and afterwards work goes on by itself.
func TestStalledStorage(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a log to count as stalled: skipped with -short")
	}
	const producers, frames, size = 4, 120, 256 << 10
	var g *gate
	b := startBrokerOn(t, func(below objectstore.Store) objectstore.Store {
		g = newGate(below)
		return g
	}, "--memory", "64MiB", "--kafka", "group.initial.rebalance.delay.ms=0")
	c := dial(t, b.kafka)
	id := c.createTopic("t", 1)
	wantCode(t, "before", c.produce("t", 0, batchOf("old")).ErrorCode, protocol.CodeNone)
	beat := joinAlone(t, c)
	before := heapBytes()

	reopen := g.shut()
	defer reopen()
	hasty := dial(t, b.kafka)
	asked := time.Now()
	req := produceRequest(11, "t", 0, batchOf("hasty"))
	req.TimeoutMillis = 1500
	wantCode(t, "hasty", ask[*kmsg.ProduceResponse](hasty, req).Topics[0].Partitions[0].ErrorCode, protocol.CodeRequestTimedOut)
	if took := time.Since(asked); took < 1500*time.Millisecond {
		t.Errorf("a request with 1.5 s was answered after %v", took)
	}
	f := startFlood(t, b.kafka, "t", producers, frames, size)
	waitFor(t, "readiness to end", func() bool { return b.httpStatus("/readyz") == http.StatusServiceUnavailable })
	f.awaitPlateau(t)
	if n := f.written.Load(); n == producers*frames {
		t.Error("all frames were taken: nothing holds producers back")
	}
	if used := b.metric(`tidemill_server_budget_used_bytes{kind="produce"}`); used > 64<<20*produceShare/100 {
		t.Errorf("%.0f bytes of produces in memory, more than the budget", used)
	}
	grown := heapBytes() - before
	t.Logf("%d of %d frames taken, heap grew by %d KiB", f.written.Load(), producers*frames, grown>>10)
	if grown > 64<<20/2 {
		t.Errorf("the heap grew by %d bytes: more than a half of --memory", grown)
	}
	checkServed(t, c, id, beat)

	reopen()
	f.check(t, producers*frames)
	waitFor(t, "readiness to return", func() bool { return b.httpStatus("/readyz") == http.StatusOK })
	if p := c.produce("t", 0, batchOf("new")); p.ErrorCode != 0 || p.BaseOffset != producers*frames+2 {
		t.Errorf("code %d at offset %d, want offset %d: old, hasty and every batch of the flood before it", p.ErrorCode, p.BaseOffset, producers*frames+2)
	}
	wantCode(t, "hasty again", ask[*kmsg.ProduceResponse](hasty, req).Topics[0].Partitions[0].ErrorCode, protocol.CodeNone)
}

// awaitPlateau returns when no connection has taken a frame for half a second.
func (f *flood) awaitPlateau(t *testing.T) {
	t.Helper()
	last, since := f.written.Load(), time.Now()
	waitFor(t, "sockets to fill", func() bool {
		if n := f.written.Load(); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > 500*time.Millisecond
	})
}

// checkServed asks what needs no storage, on a connection of its own.
func checkServed(t *testing.T, c *rawClient, id protocol.TopicID, beat *kmsg.HeartbeatRequest) {
	t.Helper()
	md := kmsg.NewPtrMetadataRequest()
	md.Version = 9
	if resp := ask[*kmsg.MetadataResponse](c, md); len(resp.Topics) == 0 {
		t.Error("metadata names no topics")
	}
	wantCode(t, "heartbeat", ask[*kmsg.HeartbeatResponse](c, beat).ErrorCode, protocol.CodeNone)
	p := ask[*kmsg.FetchResponse](c, fetchRequest(13, "", id, 0, 0)).Topics[0].Partitions[0]
	wantCode(t, "fetch", p.ErrorCode, protocol.CodeNone)
	if p.HighWatermark != 1 || len(p.RecordBatches) == 0 {
		t.Errorf("fetched %d bytes below high watermark %d, want what was stored before, and 1", len(p.RecordBatches), p.HighWatermark)
	}
}

// joinAlone makes c the only member of a group and returns its heartbeat.
func joinAlone(t *testing.T, c *rawClient) *kmsg.HeartbeatRequest {
	t.Helper()
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.Version, find.CoordinatorKeys = 4, []string{"g"}
	ask[*kmsg.FindCoordinatorResponse](c, find)
	join := kmsg.NewPtrJoinGroupRequest()
	join.Version, join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 3, "g", "consumer", 60_000, 60_000
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name = "range"
	join.Protocols = append(join.Protocols, protocol)
	var joined *kmsg.JoinGroupResponse
	waitFor(t, "a group to be joined", func() bool {
		joined = ask[*kmsg.JoinGroupResponse](c, join)
		return joined.ErrorCode == 0
	})
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.Generation, sync.MemberID = 3, "g", joined.Generation, joined.MemberID
	if resp := ask[*kmsg.SyncGroupResponse](c, sync); resp.ErrorCode != 0 {
		t.Fatalf("sync: code %d", resp.ErrorCode)
	}
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Version, beat.Group, beat.Generation, beat.MemberID = 3, "g", joined.Generation, joined.MemberID
	return beat
}

func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func (b *testBroker) httpStatus(path string) int {
	b.t.Helper()
	resp, err := http.Get("http://" + b.http + path)
	if err != nil {
		b.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// metric returns the value of a series by its name and labels.
func (b *testBroker) metric(series string) float64 {
	b.t.Helper()
	resp, err := http.Get("http://" + b.http + "/metrics")
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			var v float64
			if _, err := fmt.Sscan(rest, &v); err != nil {
				b.t.Fatal(err)
			}
			return v
		}
	}
	b.t.Fatalf("no series %s", series)
	return 0
}
