package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemill/tidemill/internal/memory"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/faultstore"
	"github.com/tidemill/tidemill/objectstore/memstore"
)

// memRegistry is a Registry of one life in memory. fail, if set, is asked before and after each transaction.
type memRegistry struct {
	mu    sync.Mutex
	state StreamState
	fail  func(applied bool) error
}

func newMemRegistry() *memRegistry {
	return &memRegistry{state: StreamState{Life: simLife, Phase: PhaseOpen, Rev: 1}}
}

func (r *memRegistry) txn(f func() error) (StreamState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		if err := r.fail(false); err != nil {
			return StreamState{}, err
		}
	}
	err := f()
	if r.fail != nil {
		err = errors.Join(err, r.fail(true))
	}
	if err != nil {
		return StreamState{}, err
	}
	return r.state, nil
}

func (r *memRegistry) move(s StreamState, ok bool) error {
	if ok {
		s.Rev++
		r.state = s
	}
	return nil
}

func (r *memRegistry) Load(context.Context, Life) (StreamState, error) {
	return r.txn(func() error { return nil })
}

func (r *memRegistry) BeginSeal(_ context.Context, _ Life, rev int64, sealer string) (StreamState, error) {
	return r.txn(func() error { return r.move(r.state.BeginSeal(rev, sealer)) })
}

func (r *memRegistry) FinishSeal(_ context.Context, _ Life, n int64, d Digest, key string) (StreamState, error) {
	return r.txn(func() error { return r.move(r.state.FinishSeal(n, d, key)) })
}

func (r *memRegistry) Trim(_ context.Context, _ Life, rev, t int64) error {
	_, err := r.txn(func() error {
		if err := r.state.CheckTrim(rev, t); err != nil {
			return err
		}
		r.state.Trim = t
		return nil
	})
	return err
}

func sealOptions(name string) SealOptions {
	return SealOptions{Cluster: simCluster, Name: name, Logger: slog.New(slog.DiscardHandler)}
}

// storeLog stores a log of n slots with an offset each and returns its last digest.
func storeLog(t *testing.T, store objectstore.Store, n int) Digest {
	t.Helper()
	e := newSlotEncoder(simCluster, simLife, memory.NewPool(0))
	for i := range int64(n) {
		object, _, h := e.data(i, []Entry{{Partition: testPartition(1, 0), BaseOffset: i, LastOffset: i, Data: fmt.Appendf(nil, "batch %d", i)}})
		if err := store.Put(t.Context(), SlotKey(simLife, h.Seq), object.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	return e.prev
}

func TestSeal(t *testing.T) {
	broken := errors.New("registry is away")
	limit := func(n int, applied bool) func(bool) error {
		return func(after bool) error {
			if after == applied && n > 0 {
				n--
				return broken
			}
			return nil
		}
	}
	for _, c := range []struct {
		name     string
		slots    int
		rules    []faultstore.Rule
		registry func(bool) error
	}{
		{"empty log", 0, nil, nil},
		{"log", 30, nil, nil},
		{"store loses requests", 30, []faultstore.Rule{{Fault: faultstore.Lost, Chance: .5}}, nil},
		{"store loses answers", 30, []faultstore.Rule{{Fault: faultstore.LostReply, Chance: .5}}, nil},
		{"store applies late", 30, []faultstore.Rule{{Fault: faultstore.Late, Chance: .5, Delay: time.Second}}, nil},
		{"store conflicts with itself", 3, []faultstore.Rule{{Op: faultstore.Put, Fault: faultstore.Twice}}, nil},
		{"first read of a slot is cut off", 3, []faultstore.Rule{{Op: faultstore.Get, Match: isSlot(1), Fault: faultstore.Truncate, Limit: 1}}, nil},
		{"first read of the recovery is damaged", 3, []faultstore.Rule{
			{Op: faultstore.Get, Match: func(k string) bool { return k == RecoveryKey(simLife) }, Fault: faultstore.Flip, Limit: 1},
		}, nil},
		{"reads over a slow link", 3, []faultstore.Rule{{Op: faultstore.Get, Latency: time.Minute}}, nil},
		{"requests hang", 3, []faultstore.Rule{{Latency: time.Hour, Limit: 8}}, nil},
		{"registry loses requests", 3, nil, limit(5, false)},
		{"registry loses answers", 3, nil, limit(5, true)},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem, registry := memstore.New(), newMemRegistry()
				registry.fail = c.registry
				digest := storeLog(t, mem, c.slots)
				store := faultstore.New(mem, 1, c.rules...)
				rec, err := Seal(t.Context(), store, registry, simLife, sealOptions("a"))
				if err != nil {
					t.Fatal(err)
				}
				if rec.N != int64(c.slots) || rec.Digest != digest || len(rec.Chunks) != c.slots {
					t.Errorf("recovered %d slots with %d chunks, want %d", rec.N, len(rec.Chunks), c.slots)
				}
				store.Release()
				store.Wait()
				checkSealed(t, mem, registry, rec)
			})
		})
	}
}

// checkSealed verifies what a finished seal left behind, and that a second sealer sees the same.
func checkSealed(t *testing.T, store objectstore.Store, registry *memRegistry, rec Recovery) {
	t.Helper()
	st := registry.state
	if st.Phase != PhaseSealed || st.N != rec.N || st.Digest != rec.Digest || st.RecoveryKey != RecoveryKey(simLife) {
		t.Errorf("registry holds %+v", st)
	}
	object, err := store.Get(t.Context(), SlotKey(simLife, rec.N))
	if err != nil {
		t.Fatal(err)
	}
	if h, _, err := DecodeSlot(object); err != nil || !h.Kind.Ends() || h.Prev != rec.Digest {
		t.Errorf("slot %d: %+v, %v", rec.N, h, err)
	}
	again, err := Seal(t.Context(), store, registry, simLife, sealOptions("b"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(rec, again); d != "" {
		t.Errorf("a second sealer sees another log: %s", d)
	}
}

// TestSealOfALivingLife: the writer is fenced, what it acknowledged is recovered, and sealers agree.
func TestSealOfALivingLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{SlotBytes: 2, FlushInterval: time.Millisecond}, faultstore.Rule{Latency: time.Millisecond, Jitter: 20 * time.Millisecond})
		registry := newMemRegistry()
		results := make(chan Recovery, 2)
		for _, name := range []string{"a", "b"} {
			go func() {
				<-time.After(100 * time.Millisecond)
				rec, err := Seal(t.Context(), r.faults, registry, simLife, sealOptions(name))
				if err != nil {
					t.Error(err)
				}
				results <- rec
			}()
		}
		// Slower than the window allows: a writer that always has all slots in flight could outrun a sealer.
		for r.append(3) == nil {
			<-time.After(40 * time.Millisecond)
		}
		a, b := <-results, <-results
		if d := cmp.Diff(a, b); d != "" {
			t.Errorf("sealers disagree: %s", d)
		}
		if slots, fenced := r.sink.count(); slots == 0 || int64(slots) > a.N || fenced != 1 {
			t.Errorf("%d slots were committed, %d recovered, fenced %d times", slots, a.N, fenced)
		}
		r.end()
		checkSealed(t, r.mem, registry, a)
	})
}

func TestSealOfAClosedLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, registry := newRig(t, Options{SlotBytes: 1}), newMemRegistry()
		r.mustAppend(6)
		if err := r.w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.end()
		n, digest := r.w.End()
		finished := newMemRegistry()
		if _, err := finished.FinishSeal(t.Context(), simLife, n, digest, ""); err != nil {
			t.Fatal(err)
		}
		for trim, chunks := range map[int64]int{0: 6, 4: 2, 6: 0} {
			finished.state.Trim = trim
			rec, err := Seal(t.Context(), r.mem, finished, simLife, sealOptions("a"))
			if err != nil || rec.N != 6 || rec.Digest != digest || rec.Trim != trim || len(rec.Chunks) != chunks {
				t.Errorf("trim %d: recovered %+v, %v", trim, rec, err)
			}
		}
		// A crash between CLOSE and the registry: the walk finds CLOSE.
		rec, err := Seal(t.Context(), r.mem, registry, simLife, sealOptions("a"))
		if err != nil || rec.N != 6 || len(rec.Chunks) != 6 {
			t.Fatalf("recovered %+v, %v", rec, err)
		}
		checkSealed(t, r.mem, registry, rec)
	})
}

// TestSealFromTrim: slots below trim may be gone.
func TestSealFromTrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, registry := memstore.New(), newMemRegistry()
		digest := storeLog(t, mem, 10)
		if err := registry.Trim(t.Context(), simLife, 1, 8); err != nil {
			t.Fatal(err)
		}
		for s := range registry.state.Deletable() {
			mem.Delete(t.Context(), SlotKey(simLife, s))
		}
		rec, err := Seal(t.Context(), mem, registry, simLife, sealOptions("a"))
		if err != nil || rec.N != 10 || rec.Trim != 8 || len(rec.Chunks) != 2 || rec.Digest != digest {
			t.Fatalf("recovered %+v, %v", rec, err)
		}
		registry.state.Trim = 9
		if rec, err := Seal(t.Context(), mem, registry, simLife, sealOptions("b")); err != nil || rec.Trim != 9 || len(rec.Chunks) != 1 {
			t.Errorf("recovered %+v, %v", rec, err)
		}
	})
}

// TestSealStopsLoudly: damage is never taken for the end of the log.
func TestSealStopsLoudly(t *testing.T) {
	ctx := context.Background()
	replace := func(s objectstore.Store, seq int64, change func([]byte) []byte) {
		key := SlotKey(simLife, seq)
		object, _ := s.Get(ctx, key)
		object = bytes.Clone(object)
		s.Delete(ctx, key)
		if object = change(object); object != nil {
			s.Put(ctx, key, object)
		}
	}
	lose := func([]byte) []byte { return nil }
	other := func(c Cluster, l Life, seq int64) []byte {
		b, _ := encodeEnd(Header{Cluster: c, Life: l, Seq: seq, Kind: KindSeal})
		return b
	}
	for _, c := range []struct {
		name  string
		spoil func(objectstore.Store)
	}{
		{"body damaged", func(s objectstore.Store) { replace(s, 5, func(b []byte) []byte { b[514] ^= 1; return b }) }},
		{"slot cut off", func(s objectstore.Store) { replace(s, 5, func(b []byte) []byte { return b[:520] }) }},
		{"slot empty", func(s objectstore.Store) { replace(s, 19, func([]byte) []byte { return []byte{} }) }},
		{"slot of another number", func(s objectstore.Store) {
			replace(s, 5, func([]byte) []byte { b, _ := s.Get(ctx, SlotKey(simLife, 4)); return b })
		}},
		{"slot of another life", func(s objectstore.Store) {
			replace(s, 5, func([]byte) []byte { return other(simCluster, Life{Broker: 7}, 5) })
		}},
		{"slot of another cluster", func(s objectstore.Store) {
			replace(s, 5, func([]byte) []byte { return other(Cluster{ID: "x"}, simLife, 5) })
		}},
		{"chain broken", func(s objectstore.Store) {
			replace(s, 5, func([]byte) []byte {
				e := newSlotEncoder(simCluster, simLife, memory.NewPool(0))
				b, _, _ := e.data(5, []Entry{{Data: []byte("not what followed slot 4")}})
				return b.Bytes()
			})
		}},
		{"first of many lost", func(s objectstore.Store) { replace(s, 0, lose) }},
		{"slot lost in the middle", func(s objectstore.Store) { replace(s, 10, lose) }},
		{"slot lost before a close", func(s objectstore.Store) {
			replace(s, 18, lose)
			s.Put(ctx, SlotKey(simLife, 20), other(simCluster, simLife, 20))
		}},
		{"recovery of another life", func(s objectstore.Store) {
			s.Put(ctx, RecoveryKey(simLife), (&Recovery{Cluster: simCluster}).Encode())
		}},
		{"recovery damaged", func(s objectstore.Store) { s.Put(ctx, RecoveryKey(simLife), []byte("TIDERCVR")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem, registry := memstore.New(), newMemRegistry()
				storeLog(t, mem, 20)
				c.spoil(mem)
				rec, err := Seal(t.Context(), mem, registry, simLife, sealOptions("a"))
				if !errors.Is(err, ErrQuarantine) {
					t.Errorf("got %+v, %v", rec, err)
				}
				if registry.state.Phase != PhaseSealing {
					t.Errorf("the stream is in phase %d", registry.state.Phase)
				}
			})
		})
	}
}

// TestSealedLogStopsLoudly: a sealed stream whose objects do not fit is not adopted.
func TestSealedLogStopsLoudly(t *testing.T) {
	for _, c := range []struct {
		name  string
		state StreamState
		store func(objectstore.Store)
	}{
		{"recovery missing", StreamState{N: 3, RecoveryKey: RecoveryKey(simLife)}, nil},
		{"recovery ends elsewhere", StreamState{N: 3, RecoveryKey: RecoveryKey(simLife)}, func(s objectstore.Store) {
			s.Put(context.Background(), RecoveryKey(simLife), (&Recovery{Cluster: simCluster, Life: simLife, N: 2}).Encode())
		}},
		{"closed log is short", StreamState{N: 4}, nil},
		{"closed log has another digest", StreamState{N: 3}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem := memstore.New()
				storeLog(t, mem, 3)
				if c.store != nil {
					c.store(mem)
				}
				c.state.Life, c.state.Phase = simLife, PhaseSealed
				if rec, err := Seal(t.Context(), mem, &memRegistry{state: c.state}, simLife, sealOptions("a")); !errors.Is(err, ErrQuarantine) {
					t.Errorf("got %+v, %v", rec, err)
				}
			})
		})
	}
}

func TestSealEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		store := faultstore.New(memstore.New(), 1, faultstore.Rule{Fault: faultstore.Lost})
		if _, err := Seal(ctx, store, newMemRegistry(), simLife, sealOptions("a")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("seal on a dead store: %v", err)
		}
	})
}

func TestStreamTransitions(t *testing.T) {
	open := StreamState{Life: simLife, Phase: PhaseOpen, Rev: 5, Trim: 3}
	sealing, ok := open.BeginSeal(5, "a")
	if !ok || sealing.Phase != PhaseSealing {
		t.Fatalf("begin: %+v", sealing)
	}
	sealed, ok := sealing.FinishSeal(9, Digest{1}, "key")
	if !ok || sealed.Phase != PhaseSealed || sealed.N != 9 {
		t.Fatalf("finish: %+v", sealed)
	}
	for name, refused := range map[string]func() bool{
		"begin at an old revision":     func() bool { _, ok := open.BeginSeal(4, "a"); return ok },
		"begin twice":                  func() bool { _, ok := sealing.BeginSeal(5, "b"); return ok },
		"finish by a sealer when open": func() bool { _, ok := open.FinishSeal(9, Digest{}, "key"); return ok },
		"close while being sealed":     func() bool { _, ok := sealing.FinishSeal(9, Digest{}, ""); return ok },
		"finish twice":                 func() bool { _, ok := sealed.FinishSeal(8, Digest{}, "key"); return ok },
		"trim while being sealed":      func() bool { return sealing.CheckTrim(5, 4) == nil },
		"trim at an old revision":      func() bool { return open.CheckTrim(4, 4) == nil },
		"trim over the end":            func() bool { return sealed.CheckTrim(5, 10) == nil },
		"trim back":                    func() bool { return open.CheckTrim(5, 2) == nil },
	} {
		if refused() {
			t.Errorf("%s was allowed", name)
		}
	}
	if err := errors.Join(open.CheckTrim(5, 4), sealed.CheckTrim(5, 9)); err != nil {
		t.Error(err)
	}
	sealed.Trim = 10
	if got := sealed.Deletable(); got != 9 {
		t.Errorf("slots below %d may be deleted, but the seal is 9 (G3)", got)
	}
}
