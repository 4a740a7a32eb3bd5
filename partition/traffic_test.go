package partition

import (
	"errors"
	"testing"

	"github.com/tidemill/tidemill/protocol/record"
)

// TestTraffic: a log counts what is appended and what is read, once each, whatever comes of it; a log that has ended counts nothing.
func TestTraffic(t *testing.T) {
	n := newWorld(t).start()
	l, other := n.create(0), n.create(1)
	count := func() Traffic {
		for _, x := range n.set.Traffic(nil) {
			if x.ID == l.id {
				return x
			}
		}
		t.Fatal("the log counts nothing")
		return Traffic{}
	}
	want := Traffic{ID: l.id}
	check := func(after string, bytes, requests int) {
		t.Helper()
		want.Bytes, want.Requests = want.Bytes+int64(bytes), want.Requests+int64(requests)
		if got := count(); got != want {
			t.Fatalf("after %s: %+v, want %+v", after, got, want)
		}
	}
	check("nothing", 0, 0)
	batch := sized(500, 'a')
	l.try(append(record.Batch(nil), batch...))
	l.try(append(record.Batch(nil), batch...))
	check("two appends", 2*len(batch), 2)
	n.commit()
	check("their commit", 0, 0)
	read := func(offset int64, maxBytes int) (ReadResult, error) {
		r, err := l.Read(t.Context(), ReadInput{Offset: offset, MaxBytes: maxBytes})
		r.Release()
		return r, err
	}
	if r, err := read(0, 1<<20); err != nil || r.Bytes != 2*len(batch) {
		t.Fatalf("read %d bytes, %v", r.Bytes, err)
	}
	check("a read of both", 2*len(batch), 1)
	if r, err := read(0, 1); err != nil || r.Bytes != 0 {
		t.Fatalf("read %d bytes, %v", r.Bytes, err)
	}
	check("a read that has no room", 0, 1)
	if _, err := read(99, 1); !errors.Is(err, ErrOffsetOutOfRange) {
		t.Fatal(err)
	}
	check("a read out of range", 0, 1)
	first, refused := producerBatch(7, 0, 0, 1, 1), producerBatch(7, 0, 5, 1, 1)
	l.try(first)
	l.try(refused).want(t, "a sequence out of order", -1, ErrOutOfOrderSequence)
	check("an append and one that is refused", len(first)+len(refused), 2)
	if got := n.set.Traffic(nil); len(got) != 2 {
		t.Errorf("%d logs count, want 2", len(got))
	}
	if got := other.traffic.requests.Load(); got != 0 {
		t.Errorf("another log counts %d requests", got)
	}
	n.commit()
	n.set.Fenced(errors.New("over"))
	l.try(append(record.Batch(nil), batch...))
	check("the end", 0, 0)
}
