package partition

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/tidemill/tidemill/protocol/record"
)

// TestF7ControlBatchesAreData: a control batch takes an offset and is read like any other; the client leaves it out.
func TestF7ControlBatchesAreData(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	l.try(plain(1, 1))
	marker := plain(1, 2)
	marker[22] |= byte(record.AttrControl)
	binary.BigEndian.PutUint32(marker[17:], crc32.Checksum(marker[21:], crc32.MakeTable(crc32.Castagnoli)))
	l.Append(AppendInput{Batch: marker, Origin: OriginCoordinator, LogAppendTime: -1}, func(r AppendResult, err error) {
		if err != nil || r.BaseOffset != 1 {
			t.Errorf("control batch at offset %d, %v, want 1", r.BaseOffset, err)
		}
	})
	n.commit()
	r, err := l.Read(context.Background(), ReadInput{Offset: 1, MaxBytes: 1 << 20, AtLeastOne: true, Isolation: ReadUncommitted})
	if err != nil || len(r.Batches) != 1 {
		t.Fatalf("read %d runs of batches, %v, want 1", len(r.Batches), err)
	}
	if b, _, err := record.Next(r.Batches[0]); err != nil || !b.IsControl() || b.BaseOffset() != 1 {
		t.Errorf("read a batch at %d, control %v, %v, want the control batch at 1", b.BaseOffset(), b.IsControl(), err)
	}
}
