package audit

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
)

// keyed is a batch of one record of each key; a value of "" is a tombstone.
func keyed(value string, keys ...string) record.Batch {
	var rb record.Builder
	for i, k := range keys {
		var v []byte
		if value != "" {
			v = []byte(value)
		}
		rb.Append(1_700_000_000_000+int64(i), []byte(k), v)
	}
	return rb.Build()
}

// TestAfterUpkeep audits logs that were compacted, merged, cut by retention, and whose replaced objects were deleted.
func TestAfterUpkeep(t *testing.T) { synctest.Test(t, testAfterUpkeep) }

func testAfterUpkeep(t *testing.T) {
	w := newWorld(t, 2)
	policy := partition.DefaultPolicy()
	policy.Compact, policy.Delete, policy.SegmentBytes, policy.MinCleanableRatio = true, false, 400, 0
	n := w.start(1, 1, func(o *partition.Options) {
		o.Policy = func(protocol.TopicID) *partition.Policy { return &policy }
		o.DeleteDelay, o.SweepInterval = time.Millisecond, 20*time.Millisecond
		o.Now = time.Now
	})
	n.create(0)
	n.create(1)
	for round := range 12 {
		v := fmt.Sprint("value-", round)
		n.write(0, keyed(v, "a", "b", "c"), keyed(v, fmt.Sprint("own-", round)), keyed("", "b"))
		n.write(1, keyed(v, "x"))
		n.checkpoint()
	}
	if worked, err := n.set.Compact(t.Context()); err != nil || !worked {
		t.Fatalf("compaction: %v, %v", worked, err)
	}
	n.checkpoint()
	sparse := func() (parts int) {
		st := w.meta.states[pid(0)]
		i := &Inspector{Store: w.store, Metadata: w.meta}
		m, bad, err := i.head(t.Context(), &st)
		if bad != nil || err != nil {
			t.Fatal(bad, err)
		}
		for _, p := range m.Parts {
			if p.Sparse {
				parts++
			}
		}
		return parts
	}
	if r := w.check(w.store); !r.OK || sparse() == 0 {
		t.Fatalf("%d sparse parts: %v", sparse(), r.Problems)
	}
	for range 12 {
		n.write(0, keyed("later", "d"))
		n.write(1, keyed("later", "y"))
		n.checkpoint()
	}
	if err := n.set.Merge(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.checkpoint()
	if r := w.check(w.store); !r.OK {
		t.Fatal(r.Problems)
	}
	before := len(w.keys(""))
	ctx, stop := context.WithCancel(t.Context())
	kept := make(chan error, 1)
	go func() { kept <- n.set.Keep(ctx) }()
	for range 100 {
		if r := w.check(w.store); !r.OK { // while objects go
			t.Fatal(r.Problems)
		}
		<-time.After(time.Second)
	}
	stop()
	<-kept
	if after := len(w.keys("")); after > before/2 {
		t.Errorf("%d of %d objects are left: nothing was deleted", after, before)
	}
	if r := w.check(w.store); !r.OK {
		t.Fatal(r.Problems)
	}
	n.close()
	for _, key := range w.keys(partition.SegmentPrefix) {
		body := w.get(key)
		for pos := 0; pos < len(body); pos += 5 {
			bad := slices.Clone(body)
			bad[pos] ^= 1 << (pos % 8)
			if r := w.check(w.with(map[string][]byte{key: bad})); !slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Key == key }) {
				t.Fatalf("%s: byte %d: not found: %v", key, pos, r.Problems)
			}
		}
	}
}
