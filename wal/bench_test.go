package wal

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/memory"
	"github.com/tidemill/tidemill/objectstore"
)

// waker is a Sink that counts committed bytes of chunks.
type waker struct {
	bytes atomic.Int64
	wake  chan struct{}
}

func (w *waker) Committed(s *Slot) {
	for i := range s.Chunks {
		w.bytes.Add(int64(s.Chunks[i].Len))
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *waker) Fenced(error) {}

// nullStore takes everything and keeps nothing, so that only the writer is measured.
type nullStore struct{ objectstore.Store }

func (nullStore) Put(context.Context, string, []byte) error { return nil }

func benchWriter(b *testing.B) (*Writer, *waker) {
	b.Helper()
	sink := &waker{wake: make(chan struct{}, 1)}
	w := NewWriter(simLife, nullStore{}, sink, Options{Cluster: simCluster})
	go w.Run(b.Context())
	return w, sink
}

// BenchmarkWriterLatency is one batch from Append to commit on an idle log.
func BenchmarkWriterLatency(b *testing.B) {
	w, sink := benchWriter(b)
	data := make([]byte, 16<<10)
	b.ReportAllocs()
	for i := range int64(b.N) {
		if err := w.Append(Entry{Partition: testPartition(1, 0), BaseOffset: i, LastOffset: i, Data: data}); err != nil {
			b.Fatal(err)
		}
		w.Nudge()
		<-sink.wake
	}
}

// BenchmarkWriterThroughput is a full log: batches over 100 partitions, cut by slot size.
func BenchmarkWriterThroughput(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			w, sink := benchWriter(b)
			data := make([]byte, size)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			before := cpuTime()
			for i := range int64(b.N) {
				if err := w.Append(Entry{Partition: testPartition(1, int32(i%100)), BaseOffset: i, LastOffset: i, Data: data}); err != nil {
					b.Fatal(err)
				}
				if open, _ := w.Backlog(); open < 16<<20 {
					continue
				}
				for open, _ := w.Backlog(); open > 8<<20; open, _ = w.Backlog() {
					<-sink.wake
				}
			}
			w.Nudge()
			for sink.bytes.Load() < int64(b.N)*int64(size) {
				<-sink.wake
			}
			b.ReportMetric((cpuTime()-before).Seconds()/(float64(b.N)*float64(size)/1e9), "cpu-s/GB")
		})
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDecodeSlot is a sealer's or reader's verification of a full slot.
func BenchmarkDecodeSlot(b *testing.B) {
	e := newSlotEncoder(simCluster, simLife, memory.NewPool(0))
	entries := make([]Entry, 128)
	for i := range entries {
		entries[i] = Entry{Partition: testPartition(1, int32(i)), Data: make([]byte, 64<<10)}
	}
	slot, _, _ := e.data(0, entries)
	object := slot.Bytes()
	b.ReportAllocs()
	b.SetBytes(int64(len(object)))
	for b.Loop() {
		if _, _, err := DecodeSlot(object); err != nil {
			b.Fatal(err)
		}
	}
}
