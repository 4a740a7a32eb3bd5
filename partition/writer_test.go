package partition

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/wal"
)

// registry is a wal.Registry in memory.
type registry struct {
	mu sync.Mutex
	st wal.StreamState
}

func (r *registry) change(f func(*wal.StreamState)) (wal.StreamState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.st)
	return r.st, nil
}

func (r *registry) Load(context.Context, wal.Life) (wal.StreamState, error) {
	return r.change(func(*wal.StreamState) {})
}

func (r *registry) BeginSeal(_ context.Context, _ wal.Life, _ int64, sealer string) (wal.StreamState, error) {
	return r.change(func(st *wal.StreamState) { st.Phase, st.Sealer, st.Rev = wal.PhaseSealing, sealer, st.Rev+1 })
}

func (r *registry) FinishSeal(_ context.Context, _ wal.Life, n int64, digest [32]byte, key string) (wal.StreamState, error) {
	return r.change(func(st *wal.StreamState) {
		st.Phase, st.N, st.Digest, st.RecoveryKey, st.Rev = wal.PhaseSealed, n, digest, key, st.Rev+1
	})
}

func (r *registry) Trim(_ context.Context, _ wal.Life, _ int64, t int64) error {
	_, err := r.change(func(st *wal.StreamState) { st.Trim = t })
	return err
}

// TestRealWriter runs logs over the real write-ahead log, ends it as kill -9 does, seals it and opens what is left.
func TestRealWriter(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	cluster := wal.Cluster{ID: "abc"}
	writer := wal.NewWriter(n.life, w.store, n.set, wal.Options{Cluster: cluster, Logger: quiet, FlushInterval: time.Hour}) // Nudge alone cuts
	n.set.UseWAL(writer)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- writer.Run(ctx) }()

	const partitions, each = 3, 100
	var acked sync.WaitGroup
	for p := range int32(partitions) {
		n.create(p)
	}
	for i := range each {
		acked.Add(partitions)
		for p := range int32(partitions) {
			n.log(p).Append(AppendInput{Batch: producerBatch(9, 0, int32(i), 1, int64(i)), LogAppendTime: -1}, func(_ AppendResult, err error) {
				if err != nil {
					t.Error(err)
				}
				acked.Done()
			})
		}
		writer.Nudge()
		acked.Wait()
		if i == each/2 {
			if err := n.set.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("writer: %v", err)
	}
	reg := &registry{st: wal.StreamState{Life: n.life, Phase: wal.PhaseOpen, Rev: 1, Trim: w.meta.trims[n.life]}}
	r, err := wal.Seal(t.Context(), w.store, reg, n.life, wal.SealOptions{Cluster: cluster, Name: "test", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if r.Trim == 0 || r.N != int64(each) {
		t.Errorf("recovery of slots %d to %d", r.Trim, r.N)
	}
	n2 := w.reopen(map[wal.Life]wal.Recovery{n.life: r})
	for p := range int32(partitions) {
		l := n2.log(p)
		if got := l.offsets(t, 0, 4000); len(got) != each {
			t.Errorf("partition %d: %d batches, want %d", p, len(got), each)
		}
		l.try(producerBatch(9, 0, each-2, 1, 0)).want(t, "duplicate", each-2, nil)
	}
}
