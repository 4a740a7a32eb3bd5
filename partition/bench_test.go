package partition

import (
	"context"
	"slices"
	"testing"

	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

// sinkWAL takes entries as the real one does, into a list that is reused.
type sinkWAL struct{ entries []wal.Entry }

func (w *sinkWAL) Append(entries ...wal.Entry) error {
	w.entries = append(w.entries, entries...)
	return nil
}

func appendBench(t testing.TB) (run func(), set *Set) {
	w := &sinkWAL{}
	s, err := NewSet(Options{Life: wal.Life{Broker: 1, Epoch: 1}, WAL: w, Logger: quiet, TailBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	l := s.Create(pid(0), 0)
	b := producerBatch(5, 0, 0, 1, 1)
	done := func(AppendResult, error) {}
	slot := &wal.Slot{Life: s.opts.Life, Object: wal.NewObject(nil), Chunks: make([]wal.Chunk, 1)}
	seq := int32(0)
	return func() {
		patchSequence(b, seq)
		seq++
		l.Append(AppendInput{Batch: b, LogAppendTime: -1}, done)
		e := w.entries[0]
		slot.Chunks[0] = wal.Chunk{Partition: e.Partition, BaseOffset: e.BaseOffset, LastOffset: e.LastOffset, Len: 1}
		s.Committed(slot)
		slot.Seq++
		w.entries = w.entries[:0]
	}, s
}

func patchSequence(b record.Batch, seq int32) {
	b[53], b[54], b[55], b[56] = byte(seq>>24), byte(seq>>16), byte(seq>>8), byte(seq)
}

func TestAppendAllocations(t *testing.T) {
	run, _ := appendBench(t)
	if n := testing.AllocsPerRun(2000, run); n > 2 {
		t.Errorf("%v allocations for an append and its commit, want at most 2", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	run, _ := appendBench(b)
	b.ReportAllocs()
	for b.Loop() {
		run()
	}
}

func BenchmarkReadTail(b *testing.B) {
	n := newWorld(b).start()
	l := n.create(0)
	for range 64 {
		l.try(sized(16<<10, 1))
		n.commit()
	}
	b.ReportAllocs()
	b.SetBytes(16 << 10)
	for i := int64(0); b.Loop(); i++ {
		if r, err := l.Read(context.Background(), ReadInput{Offset: i % 64, MaxBytes: 16 << 10, AtLeastOne: true}); err != nil || r.Bytes == 0 {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadOld(b *testing.B) {
	n := cold(b, func(n *node, l *Log) {
		for range 64 {
			l.try(slices.Clone(sized(16<<10, 1)))
			n.commit()
		}
	})
	l := n.log(0)
	b.ReportAllocs()
	b.SetBytes(64 * 16 << 10)
	for b.Loop() {
		if r, err := l.Read(context.Background(), ReadInput{MaxBytes: 64 << 20}); err != nil || r.Bytes < 64*16<<10 {
			b.Fatal(r.Bytes, err)
		}
	}
}
