package partition

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/faultstore"
	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

// cold makes a log whose data is in the store only.
func cold(t testing.TB, fill func(n *node, l *Log), change ...func(*Options)) *node {
	w := newWorld(t)
	n := w.start()
	fill(n, n.create(0))
	return w.reopen(n.kill(), change...)
}

func TestF2Sizes(t *testing.T) {
	for _, where := range []string{"tail", "store"} {
		t.Run(where, func(t *testing.T) {
			n := newWorld(t).start()
			l := n.create(0)
			for i := range 6 {
				l.try(sized(1000, byte(i)))
				if i%2 == 1 {
					n.commit()
				}
			}
			if where == "store" {
				l = n.world.reopen(n.kill()).log(0)
			}
			size := len(sized(1000, 0))
			for _, tc := range []struct {
				name       string
				max        int
				atLeastOne bool
				want       int
			}{
				{"nothing fits", size - 1, false, 0},
				{"at least one", size - 1, true, 1},
				{"at least one of zero bytes", 0, true, 1},
				{"one fits exactly", size, false, 1},
				{"never a partial batch", 2*size - 1, false, 1},
				{"a chunk and a half", 3 * size, true, 3},
				{"all", 100 * size, true, 6},
			} {
				r, err := l.Read(context.Background(), ReadInput{Offset: 0, MaxBytes: tc.max, AtLeastOne: tc.atLeastOne})
				if err != nil || r.Bytes != tc.want*size || len(bytes.Join(r.Batches, nil)) != r.Bytes {
					t.Errorf("%s: %d bytes, %v, want %d batches", tc.name, r.Bytes, err, tc.want)
				}
			}
		})
	}
}

func TestF3Offsets(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	l.try(plain(5, 0))
	l.try(plain(5, 0))
	n.commit()
	l.try(plain(5, 0)) // not committed
	for _, tc := range []struct {
		offset int64
		want   []int64
		err    error
	}{
		{-1, nil, ErrOffsetOutOfRange},
		{0, []int64{0, 5}, nil},
		{4, []int64{0, 5}, nil},
		{5, []int64{5}, nil},
		{9, []int64{5}, nil},
		{10, nil, nil},
		{12, nil, nil},
		{15, nil, nil},
		{16, nil, ErrOffsetOutOfRange},
	} {
		r, err := l.Read(context.Background(), ReadInput{Offset: tc.offset, MaxBytes: 1 << 20})
		if !errors.Is(err, tc.err) || r.HighWatermark != 10 {
			t.Errorf("offset %d: %v, high watermark %d", tc.offset, err, r.HighWatermark)
		}
		var got []int64
		for buf := bytes.Join(r.Batches, nil); len(buf) > 0; {
			b, rest, err := record.Next(buf)
			if err != nil {
				t.Fatal(err)
			}
			got, buf = append(got, b.BaseOffset()), rest
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("offset %d: %s", tc.offset, d)
		}
	}
}

func TestC10BatchesComeBackAsTheyWere(t *testing.T) {
	want := producerBatch(3, 1, 0, 7, 123)
	want.SetPartitionLeaderEpoch(0)
	n := cold(t, func(n *node, l *Log) { l.try(slices.Clone(want)); n.commit() })
	r, err := n.log(0).Read(context.Background(), ReadInput{MaxBytes: 1 << 20})
	if err != nil || !bytes.Equal(bytes.Join(r.Batches, nil), want) {
		t.Errorf("got %x, %v", r.Batches, err)
	}
}

// bigChunk is one slot with a chunk of about 5 MiB whose batches cross pieces.
func bigChunk(n *node, l *Log) {
	for i := range 17 {
		l.try(sized(300<<10+i, byte(i)))
	}
	n.commit()
}

func TestReadChunkLargerThanAPiece(t *testing.T) {
	n := cold(t, bigChunk)
	for _, maxBytes := range []int{1, 700 << 10, 64 << 20} {
		if got := n.log(0).offsets(t, 0, maxBytes); len(got) != 17 {
			t.Errorf("max bytes %d: %v", maxBytes, got)
		}
	}
	if got := n.log(0).offsets(t, 11, 1<<20); len(got) != 6 || got[0] != 11 {
		t.Errorf("from the middle: %v", got)
	}
}

func TestReadsAreAtMostOnePiece(t *testing.T) {
	n := cold(t, bigChunk)
	largest := 0
	var mu sync.Mutex
	n.set.opts.Store = spy{n.store, func(_ string, p []byte, _ int64) {
		mu.Lock()
		defer mu.Unlock()
		largest = max(largest, len(p))
	}}
	n.log(0).offsets(t, 0, 64<<20)
	if largest == 0 || largest > pieceMax {
		t.Errorf("largest read is %d bytes", largest)
	}
}

type spy struct {
	objectstore.Store
	read func(key string, p []byte, off int64)
}

func (s spy) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	s.read(key, p, off)
	return s.Store.ReadAt(ctx, key, p, off)
}

func TestMissIsLoadedOnceAndOutlivesItsRequest(t *testing.T) {
	n := cold(t, func(n *node, l *Log) { l.try(plain(1, 0)); n.commit() })
	entered, proceed := make(chan struct{}, 10), make(chan struct{})
	n.set.opts.Store = spy{n.store, func(string, []byte, int64) { entered <- struct{}{}; <-proceed }}
	l := n.log(0)
	ctx, cancel := context.WithCancel(context.Background())
	first := make(chan error)
	go func() {
		_, err := l.Read(ctx, ReadInput{MaxBytes: 1000})
		first <- err
	}()
	<-entered
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled request: %v", err)
	}
	second := make(chan int)
	go func() {
		r, err := l.Read(context.Background(), ReadInput{MaxBytes: 1000})
		if err != nil {
			t.Error(err)
		}
		second <- r.Bytes
	}()
	close(proceed)
	if <-second == 0 {
		t.Error("no data")
	}
	if len(entered) != 0 {
		t.Error("loaded twice")
	}
}

func TestManyTinyExtentsAreLoadedTogether(t *testing.T) {
	const parallel = 8
	n := cold(t, func(n *node, l *Log) {
		for range 40 {
			l.try(plain(1, 0))
			n.commit()
		}
	}, func(o *Options) { o.Loads = parallel })
	var mu sync.Mutex
	var together sync.WaitGroup
	together.Add(parallel)
	calls := 0
	n.set.opts.Store = spy{n.store, func(string, []byte, int64) {
		mu.Lock()
		calls++
		first := calls <= parallel
		mu.Unlock()
		if first { // the first ones only go on when all of them are there
			together.Done()
			together.Wait()
		}
	}}
	if got := n.log(0).offsets(t, 0, 1<<20); len(got) != 40 {
		t.Errorf("%d batches", len(got))
	}
}

func TestCacheKeepsItsBudget(t *testing.T) {
	n := cold(t, func(n *node, l *Log) {
		for range 30 {
			l.try(sized(10000, 1))
			n.commit()
		}
	}, func(o *Options) { o.CacheBytes = 50000 })
	n.log(0).offsets(t, 0, 1000)
	if size := n.set.cache.size(); size > 50000 || size < 30000 {
		t.Errorf("cache holds %d bytes of 50000", size)
	}
	_ = n.set.cache.close(context.Background())
	if _, err := n.log(0).Read(context.Background(), ReadInput{MaxBytes: 10, AtLeastOne: true}); !errors.Is(err, errCacheClosed) {
		t.Errorf("read after close: %v", err)
	}
}

func TestTailKeepsItsBudget(t *testing.T) {
	tail := tailCache{budget: 100}
	for seq := range int64(10) {
		tail.add(&wal.Slot{Seq: seq, Object: wal.NewObject(make([]byte, 30))})
	}
	for seq := range int64(11) {
		if got, want := tail.get(seq) != nil, seq >= 7 && seq < 10; got != want {
			t.Errorf("slot %d kept: %v, want %v", seq, got, want)
		}
	}
	if tail.size() != 90 {
		t.Errorf("%d bytes", tail.size())
	}
}

func TestStorageTrouble(t *testing.T) {
	n := cold(t, func(n *node, l *Log) {
		for range 3 {
			l.try(plain(1, 0))
			n.commit()
		}
	})
	l := n.log(0)
	if _, err := l.Read(context.Background(), ReadInput{Offset: 0, MaxBytes: 1, AtLeastOne: true}); err != nil {
		t.Fatal(err)
	}
	n.store.SetRules(faultstore.Rule{Fault: faultstore.Lost})
	r, err := l.Read(context.Background(), ReadInput{Offset: 0, MaxBytes: 1 << 20})
	if err != nil || r.Bytes == 0 {
		t.Errorf("trouble behind what is cached: %d bytes, %v", r.Bytes, err)
	}
	if _, err := l.Read(context.Background(), ReadInput{Offset: 1, MaxBytes: 1 << 20}); !errors.Is(err, ErrStorage) {
		t.Errorf("trouble: %v", err)
	}
	n.store.SetRules()
	if got := l.offsets(t, 0, 1<<20); len(got) != 3 {
		t.Errorf("after it: %v", got)
	}
}

// damage flips bytes of slots on their way, the first times reads of each range.
func damage(n *node, times int, at func(key string, off int64, p []byte) int) {
	var mu sync.Mutex
	seen := map[string]int{}
	n.set.opts.Store = flipper{n.store, func(key string, off int64, p []byte) {
		mu.Lock()
		defer mu.Unlock()
		id := fmt.Sprint(key, off)
		if i := at(key, off, p); i >= 0 && seen[id] < times {
			seen[id]++
			p[i] ^= 0x40
		}
	}}
}

type flipper struct {
	objectstore.Store
	flip func(key string, off int64, p []byte)
}

func (s flipper) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	err := s.Store.ReadAt(ctx, key, p, off)
	s.flip(key, off, p)
	return err
}

func TestDamage(t *testing.T) {
	small := func(n *node, l *Log) {
		for range 3 {
			for range 3 {
				l.try(plain(1, 0))
			}
			n.commit()
		}
	}
	size := len(plain(1, 0))
	second := wal.SlotKey(wal.Life{Broker: 7, Epoch: 1, Nonce: [8]byte{1}}, 1)
	for _, tc := range []struct {
		name  string
		times int
		pos   int
		want  map[int64]bool // offset -> readable
	}{
		{"once on the way", 1, 2*size - 1, map[int64]bool{0: true, 3: true, 4: true, 5: true, 6: true}},
		{"records of the middle batch", 9, 2*size - 1, map[int64]bool{0: true, 3: true, 4: false, 6: true}},
		{"length of the first batch", 9, 10, map[int64]bool{0: true, 3: false, 4: false, 5: false, 6: true}},
		{"base offset of the last batch", 9, 2*size + 7, map[int64]bool{3: true, 4: true, 5: false, 6: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for offset, readable := range tc.want {
				n := cold(t, small)
				damage(n, tc.times, func(key string, _ int64, _ []byte) int {
					if key == second {
						return tc.pos
					}
					return -1
				})
				r, err := n.log(0).Read(context.Background(), ReadInput{Offset: offset, MaxBytes: 1, AtLeastOne: true})
				if readable && (err != nil || r.Bytes != size) || !readable && !errors.Is(err, ErrCorrupt) {
					t.Errorf("offset %d: %d bytes, %v, want readable %v", offset, r.Bytes, err, readable)
				}
			}
		})
	}
}

func TestDamageInAPieceIsReadAgain(t *testing.T) {
	for _, tc := range []struct {
		times int
		want  error
	}{{1, nil}, {9, ErrCorrupt}} {
		n := cold(t, bigChunk)
		damage(n, tc.times, func(_ string, off int64, p []byte) int {
			if off > 2<<20 && off < 3<<20 {
				return 1000
			}
			return -1
		})
		var err error
		for offset := int64(0); offset < 17 && err == nil; offset++ {
			_, err = n.log(0).Read(context.Background(), ReadInput{Offset: offset, MaxBytes: 1, AtLeastOne: true})
		}
		if !errors.Is(err, tc.want) {
			t.Errorf("damaged %d times: %v, want %v", tc.times, err, tc.want)
		}
	}
}

func TestF1Waiter(t *testing.T) {
	woken := func(w *Waiter) bool {
		select {
		case <-w.C():
			return true
		default:
			return false
		}
	}
	n := newWorld(t).start()
	a, b := n.create(0), n.create(1)
	size := len(plain(1, 0))
	w := NewWaiter(2 * size)
	a.Watch(w, 0)
	b.Watch(w, 0)
	a.try(plain(1, 0))
	if n.commit(); woken(w) {
		t.Error("woken by half of the bytes")
	}
	b.try(plain(1, 0))
	if n.commit(); !woken(w) {
		t.Error("not woken by enough bytes over two logs")
	}
	w.Close()
	if len(a.watches)+len(b.watches) != 0 {
		t.Error("watches are left")
	}

	late := NewWaiter(1)
	defer late.Close()
	a.try(plain(1, 0))
	n.commit() // between the caller's read up to 1 and its Watch
	if a.Watch(late, 1); !woken(late) {
		t.Error("lost wake-up: bytes committed before Watch do not count")
	}
	idle := NewWaiter(1)
	defer idle.Close()
	if a.Watch(idle, 2); woken(idle) {
		t.Error("woken by nothing")
	}
}

func TestF1WaitersLeaveInAnyOrder(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	var waiters []*Waiter
	for range 5 {
		w := NewWaiter(1)
		l.Watch(w, 0)
		waiters = append(waiters, w)
	}
	for _, i := range []int{1, 4, 0} {
		waiters[i].Close()
	}
	l.try(plain(1, 0))
	n.commit()
	for i, w := range waiters {
		if got, want := len(w.c) == 1, i == 2 || i == 3; got != want {
			t.Errorf("waiter %d woken: %v", i, got)
		}
		if i == 2 || i == 3 {
			w.Close()
		}
	}
}

// TestReadAhead: who goes through old data finds it loaded, more of it the longer they go on; who jumps about is not read ahead of, and
// neither is anybody when memory is too short for it.
func TestReadAhead(t *testing.T) {
	fill := func(n *node, l *Log) {
		for i := range 24 {
			l.try(sized(700<<10, byte(i))) // each a block
		}
		n.commit()
		n.checkpointed(t)
	}
	ahead := func(n *node) (blocks int) {
		n.set.cache.loads.Wait()
		n.set.cache.mu.Lock()
		defer n.set.cache.mu.Unlock()
		for _, b := range n.set.cache.blocks {
			if b.ahead {
				blocks++
			}
		}
		return blocks
	}
	read := func(n *node, offset int64) {
		t.Helper()
		r, err := n.log(0).Read(context.Background(), ReadInput{Offset: offset, MaxBytes: 1, AtLeastOne: true})
		if err != nil || r.Bytes == 0 {
			t.Fatalf("read at %d: %d bytes, %v", offset, r.Bytes, err)
		}
		r.Release()
	}
	n := cold(t, fill, func(o *Options) { o.CacheBytes = 64 << 20 })
	for i, want := range []int{0, 1, 2, 4, 8} {
		if read(n, int64(i)); ahead(n) != want {
			t.Errorf("after %d reads in a row %d blocks are read ahead, want %d", i+1, ahead(n), want)
		}
	}
	n = cold(t, fill, func(o *Options) { o.CacheBytes = 64 << 20 })
	for _, offset := range []int64{0, 7, 3, 20, 11} {
		if read(n, offset); ahead(n) != 0 {
			t.Errorf("a jump to %d reads %d blocks ahead", offset, ahead(n))
		}
	}
	n = cold(t, fill, func(o *Options) { o.CacheBytes = 2 << 20 })
	for i := range int64(12) {
		read(n, i)
		n.set.cache.loads.Wait() // else a reader may be faster than what is read ahead, and use all of it
	}
	if got := n.set.cache.ahead.Load(); got > 1 {
		t.Errorf("%d blocks are read ahead into a cache of two", got)
	}
}
