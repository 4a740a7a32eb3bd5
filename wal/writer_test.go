package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/faultstore"
	"github.com/tidemill/tidemill/objectstore/memstore"
)

// recorder is a Sink.
type recorder struct {
	mu     sync.Mutex
	slots  []*Slot
	fenced []error
}

func (r *recorder) Committed(s *Slot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Object.Retain()
	r.slots = append(r.slots, s)
}

func (r *recorder) Fenced(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fenced = append(r.fenced, err)
}

func (r *recorder) count() (slots, fenced int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.slots), len(r.fenced)
}

// rig is a running writer over a faulty store.
type rig struct {
	t      *testing.T
	mem    *memstore.Store
	faults *faultstore.Store
	sink   *recorder
	w      *Writer
	stop   context.CancelFunc
	ran    chan error
	next   int64
}

func newRig(t *testing.T, o Options, rules ...faultstore.Rule) *rig {
	t.Helper()
	mem := memstore.New()
	r := &rig{t: t, mem: mem, faults: faultstore.New(mem, 1, rules...), sink: &recorder{}, ran: make(chan error, 1)}
	o.Cluster, o.Logger = simCluster, slog.New(slog.DiscardHandler)
	r.w = NewWriter(simLife, r.faults, r.sink, o)
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	go func() { r.ran <- r.w.Run(ctx) }()
	return r
}

// end stops the writer as a crash does and verifies everything that is stored.
func (r *rig) end() {
	r.t.Helper()
	r.stop()
	<-r.ran
	r.faults.Release()
	r.faults.Wait()
	prev, next := Digest{}, int64(0)
	for i, s := range r.sink.slots {
		stored, err := r.mem.Get(context.Background(), s.Key)
		if err != nil || !bytes.Equal(stored, s.Object.Bytes()) {
			r.t.Errorf("slot %d: what is stored is not what was committed: %v", s.Seq, err)
			continue
		}
		h, chunks, err := DecodeSlot(stored)
		if err != nil || h.Seq != int64(i) || h.Prev != prev {
			r.t.Fatalf("slot %d is number %d: %v", i, h.Seq, err)
		}
		prev = h.Digest
		if len(chunks) != 1 || chunks[0].BaseOffset != next {
			r.t.Errorf("slot %d: %+v, want one chunk from offset %d", i, chunks, next)
		}
		next = chunks[0].LastOffset + 1
	}
}

// append appends n entries of one byte to one partition, as one request.
func (r *rig) append(n int) error {
	entries := make([]Entry, n)
	for i := range entries {
		entries[i] = Entry{Partition: testPartition(1, 0), BaseOffset: r.next, LastOffset: r.next, Data: []byte{byte(r.next)}}
		r.next++
	}
	defer r.w.Nudge()
	return r.w.Append(entries...)
}

func (r *rig) mustAppend(n int) {
	r.t.Helper()
	if err := r.append(n); err != nil {
		r.t.Fatal(err)
	}
}

// committed waits until n offsets are committed.
func (r *rig) committed(within time.Duration, n int64) {
	r.t.Helper()
	deadline := time.Now().Add(within)
	for {
		synctest.Wait()
		r.sink.mu.Lock()
		end := int64(0)
		if len(r.sink.slots) > 0 {
			chunks := r.sink.slots[len(r.sink.slots)-1].Chunks
			end = chunks[len(chunks)-1].LastOffset + 1
		}
		r.sink.mu.Unlock()
		if end >= n {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("after %v only %d of %d offsets are committed", within, end, n)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func isSlot(seq int64) func(string) bool {
	return func(key string) bool { return key == SlotKey(simLife, seq) }
}

func foreignSeal(seq int64) []byte {
	b, _ := encodeEnd(Header{Cluster: simCluster, Life: simLife, Seq: seq, Kind: KindSeal, Author: "other"})
	return b
}

// TestWriterSurvives: whatever the store does, everything is committed once, in order, with the bytes that are stored.
func TestWriterSurvives(t *testing.T) {
	put := func(f faultstore.Fault, limit int) faultstore.Rule {
		return faultstore.Rule{Op: faultstore.Put, Fault: f, Limit: limit}
	}
	some := func(f faultstore.Fault) faultstore.Rule {
		return faultstore.Rule{Op: faultstore.Put, Fault: f, Chance: .4, Delay: 3 * time.Second}
	}
	for _, c := range []struct {
		name  string
		rules []faultstore.Rule
	}{
		{"no fault", nil},
		{"slow", []faultstore.Rule{{Op: faultstore.Put, Latency: time.Millisecond, Jitter: 80 * time.Millisecond}}},
		{"attempts time out", []faultstore.Rule{{Op: faultstore.Put, Latency: time.Minute, Chance: .2}}},
		{"lost", []faultstore.Rule{put(faultstore.Lost, 20)}},
		{"applied but answered with an error", []faultstore.Rule{put(faultstore.LostReply, 20)}},
		{"applied late", []faultstore.Rule{some(faultstore.Late)}},
		{"conflict with itself", []faultstore.Rule{some(faultstore.Twice)}},
		{"conflict, and the read fails", []faultstore.Rule{some(faultstore.Twice), {Op: faultstore.ReadAt, Fault: faultstore.Lost, Chance: .7}}},
		{"conflict, and the read is damaged", []faultstore.Rule{some(faultstore.Twice), {Op: faultstore.ReadAt, Fault: faultstore.Flip, Chance: .5}}},
		{"conflict, and the read is short", []faultstore.Rule{some(faultstore.Twice), {Op: faultstore.ReadAt, Fault: faultstore.Truncate, Limit: 3}}},
		{"conflict with nothing", []faultstore.Rule{put(faultstore.Conflict, 5)}},
		{"denied", []faultstore.Rule{{Op: faultstore.Put, Fault: faultstore.Lost, Err: objectstore.ErrDenied, Limit: 7}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Options{SlotBytes: 3, FlushInterval: 5 * time.Millisecond}, c.rules...)
				for range 40 {
					r.mustAppend(2)
					<-time.After(3 * time.Millisecond)
				}
				r.committed(2*time.Minute, 80)
				r.end()
				if _, fenced := r.sink.count(); fenced != 0 {
					t.Errorf("fenced: %v", r.sink.fenced)
				}
			})
		})
	}
}

func TestWriterIsFenced(t *testing.T) {
	dead := []byte(strings.Repeat("no slot ", 100))
	for _, c := range []struct {
		name  string
		body  []byte
		rules []faultstore.Rule
	}{
		{"by a seal", foreignSeal(2), nil},
		{"by a seal, and the reads fail for a while", foreignSeal(2), []faultstore.Rule{{Op: faultstore.ReadAt, Fault: faultstore.Lost, Limit: 9}}},
		{"by an object that is no slot", dead, nil},
		{"by an object shorter than a header", dead[:100], nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Options{}, append(c.rules, faultstore.Rule{Op: faultstore.Put, Match: isSlot(2), Fault: faultstore.Taken, Body: c.body, Limit: 1})...)
				for i := range int64(2) {
					r.mustAppend(1)
					r.committed(time.Second, i+1)
				}
				r.mustAppend(1)
				err := <-r.ran
				r.ran <- err
				if !errors.Is(err, ErrFenced) {
					t.Errorf("run returned %v", err)
				}
				if err := r.append(1); !errors.Is(err, ErrFenced) {
					t.Errorf("append after the fence: %v", err)
				}
				if err := r.w.Close(t.Context()); !errors.Is(err, ErrFenced) {
					t.Errorf("close after the fence: %v", err)
				}
				if slots, fenced := r.sink.count(); slots != 2 || fenced != 1 || r.w.Committed() != 1 {
					t.Errorf("%d slots committed, fenced %d times, committed is %d", slots, fenced, r.w.Committed())
				}
				r.end()
			})
		})
	}
}

// TestWriterAcknowledgesPrefixes: slots behind an unresolved one wait, and no more than the window are sent (W3, W5).
func TestWriterAcknowledgesPrefixes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Window: 4, SlotBytes: 1}, faultstore.Rule{Op: faultstore.Put, Match: isSlot(1), Fault: faultstore.Lost, Limit: 8})
		r.mustAppend(10)
		synctest.Wait()
		if r.w.Committed() != 0 {
			t.Errorf("committed is %d while slot 1 is unresolved", r.w.Committed())
		}
		if _, err := r.mem.Get(t.Context(), SlotKey(simLife, 4)); err != nil {
			t.Errorf("the window is not used: %v", err)
		}
		if _, err := r.mem.Get(t.Context(), SlotKey(simLife, 5)); !errors.Is(err, objectstore.ErrNotFound) {
			t.Errorf("the window is overrun: %v", err)
		}
		r.committed(time.Minute, 10)
		r.end()
	})
}

func TestWriterStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{MaxOpenBytes: 100, Window: 1}, faultstore.Rule{Op: faultstore.Put, Fault: faultstore.Lost})
		r.mustAppend(1)
		<-time.After(4 * time.Second)
		if r.w.Stalled() {
			t.Error("stalled before its time")
		}
		<-time.After(2 * time.Second)
		if _, oldest := r.w.Backlog(); !r.w.Stalled() || oldest != 6*time.Second {
			t.Errorf("a slot is unresolved for %v, stalled is %v", oldest, r.w.Stalled())
		}
		r.mustAppend(101) // nothing is refused or dropped
		r.faults.SetRules()
		r.committed(3*time.Second, 102)
		if open, _ := r.w.Backlog(); r.w.Stalled() || open != 0 {
			t.Errorf("%d bytes are open, stalled is %v", open, r.w.Stalled())
		}
		r.faults.SetRules(faultstore.Rule{Op: faultstore.Put, Fault: faultstore.Lost})
		r.mustAppend(1)
		synctest.Wait()
		r.mustAppend(100)
		if r.w.Stalled() {
			t.Error("stalled within the budget of open bytes")
		}
		r.mustAppend(1)
		if !r.w.Stalled() {
			t.Error("not stalled over the budget of open bytes")
		}
		r.end()
	})
}

func TestWriterReportsTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, faultstore.Rule{Op: faultstore.Put, Fault: faultstore.Lost, Err: objectstore.ErrNoBucket})
		r.mustAppend(1)
		synctest.Wait()
		if err := r.w.Trouble(); !errors.Is(err, objectstore.ErrNoBucket) {
			t.Errorf("trouble is %v", err)
		}
		r.faults.SetRules()
		r.committed(2*time.Second, 1)
		if err := r.w.Trouble(); err != nil {
			t.Errorf("trouble is over, but: %v", err)
		}
		r.end()
	})
}

// TestWriterIsIdle: a log without appends makes no request and holds no timer.
func TestWriterIsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, faultstore.Rule{Latency: time.Nanosecond})
		r.mustAppend(1)
		r.committed(time.Second, 1)
		before := r.faults.Faulted()
		<-time.After(24 * time.Hour)
		if n := r.faults.Faulted() - before; n != 0 {
			t.Errorf("%d requests in an idle day", n)
		}
		r.end()
	})
}

func TestWriterFlushesWithoutNudge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		if err := r.w.Append(Entry{Data: []byte{1}}); err != nil {
			t.Fatal(err)
		}
		r.committed(150*time.Millisecond, 1)
		r.end()
	})
}

func TestWriterRefusesBrokenEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		for _, e := range []Entry{
			{}, {Data: []byte{1}, BaseOffset: -1}, {Data: []byte{1}, BaseOffset: 2, LastOffset: 1},
			{Data: []byte{1}, Partition: testPartition(1, -1)},
		} {
			if err := r.w.Append(e); err == nil {
				t.Errorf("%+v was taken", e)
			}
		}
		r.end()
	})
}

func TestWriterCloses(t *testing.T) {
	for _, c := range []struct {
		name    string
		entries int
		rules   []faultstore.Rule
	}{
		{"empty log", 0, nil},
		{"with a backlog", 50, nil},
		{"while the store fails", 50, []faultstore.Rule{{Op: faultstore.Put, Fault: faultstore.LostReply, Chance: .5}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Options{SlotBytes: 7, FlushInterval: time.Hour}, c.rules...)
				if c.entries > 0 {
					r.mustAppend(c.entries)
				}
				for range 2 {
					if err := r.w.Close(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				n, digest := r.w.End()
				slots, _ := r.sink.count()
				if n != int64(slots) || r.w.Committed() != n-1 {
					t.Errorf("the log ends at %d, %d slots were committed", n, slots)
				}
				object, err := r.mem.Get(t.Context(), SlotKey(simLife, n))
				if err != nil {
					t.Fatal(err)
				}
				if h, _, err := DecodeSlot(object); err != nil || h.Kind != KindClose || h.Prev != digest {
					t.Errorf("slot %d: %+v, %v", n, h, err)
				}
				if err := r.append(1); !errors.Is(err, ErrClosed) {
					t.Errorf("append after close: %v", err)
				}
				r.end()
			})
		})
	}
}

func TestWriterCloseIsFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, faultstore.Rule{Op: faultstore.Put, Match: isSlot(1), Fault: faultstore.Taken, Body: foreignSeal(1), Limit: 1})
		r.mustAppend(1)
		if err := r.w.Close(t.Context()); !errors.Is(err, ErrFenced) {
			t.Errorf("close into a foreign slot: %v", err)
		}
		if slots, fenced := r.sink.count(); slots != 1 || fenced != 1 {
			t.Errorf("%d slots, fenced %d times", slots, fenced)
		}
		r.end()
	})
}

func TestWriterCloseEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, faultstore.Rule{Op: faultstore.Put, Fault: faultstore.Lost})
		r.mustAppend(1)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := r.w.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close on a dead store: %v", err)
		}
		r.faults.SetRules()
		if err := r.w.Close(t.Context()); err != nil {
			t.Errorf("close on the mended store: %v", err)
		}
		r.end()
	})
}

func TestWriterMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		m, err := NewMetrics(registry)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewMetrics(registry); err == nil {
			t.Error("registered twice without an error")
		}
		r := newRig(t, Options{Metrics: m}, faultstore.Rule{Op: faultstore.Put, Fault: faultstore.Twice, Limit: 1})
		r.mustAppend(1)
		r.committed(time.Second, 1)
		got := map[string]float64{}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			v := f.GetMetric()[0]
			got[strings.TrimPrefix(f.GetName(), "tidemill_wal_")] = v.GetCounter().GetValue() + v.GetGauge().GetValue() +
				float64(v.GetHistogram().GetSampleCount())
		}
		for name, want := range map[string]float64{
			"slots_committed_total": 1, "put_attempts_total": 1, "put_conflicts_total": 1, "commit_seconds": 1,
			"window_slots": 0, "open_bytes": 0, "stalled": 0, "alarms_total": 0,
		} {
			if got[name] != want {
				t.Errorf("%s is %v, want %v", name, got[name], want)
			}
		}
		r.end()
	})
}

// TestWriterRace appends from many goroutines while slots are cut, for the race detector.
func TestWriterRace(t *testing.T) {
	sink := &recorder{}
	w := NewWriter(simLife, memstore.New(), sink, Options{Cluster: simCluster, SlotBytes: 1 << 10, Windows: &Windows{}})
	ran := make(chan error, 1)
	go func() { ran <- w.Run(t.Context()) }()
	var group sync.WaitGroup
	for p := range int32(8) {
		group.Go(func() {
			for i := range int64(500) {
				e := Entry{Partition: testPartition(1, p), BaseOffset: i, LastOffset: i, Data: fmt.Appendf(nil, "%d/%d;", p, i)}
				if err := w.Append(e); err != nil {
					t.Error(err)
				}
				w.Nudge()
				w.Stalled()
			}
		})
	}
	group.Wait()
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	next := map[int32]int64{}
	for _, s := range sink.slots {
		for _, c := range s.Chunks {
			if c.BaseOffset != next[c.Partition.Partition] {
				t.Fatalf("partition %s goes from %d to %d", c.Partition, next[c.Partition.Partition], c.BaseOffset)
			}
			next[c.Partition.Partition] = c.LastOffset + 1
		}
	}
	for p := range int32(8) {
		if next[p] != 500 {
			t.Errorf("partition %d ends at %d", p, next[p])
		}
	}
}
