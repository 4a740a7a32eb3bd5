package metadata

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// Pin says where an operator wants a partition. It is a record of its own, so that it stays when the partition has to go elsewhere.
type Pin struct {
	// Replicas are brokers, at least one, the preferred first. Data is in the object store: the others only show.
	Replicas []int32
	// Rev is etcd's revision of the record.
	Rev int64
}

// preferred is the pin's preferred broker, if there is a pin.
func (p *Pin) preferred() (broker int32, ok bool) {
	if p == nil {
		return 0, false
	}
	return p.Replicas[0], true
}

// PinChange says what a reassignment does to a partition's pin.
type PinChange int

// What becomes of a pin.
const (
	PinStays PinChange = iota
	PinIsSet
	PinIsRemoved
)

// Reassignment is an intent of an operator. Anybody may write it: it needs no office, and safety does not rest on it.
type Reassignment struct {
	ID protocol.PartitionID
	// To is where the partition is to go; zero, or its owner: it stays, and an intent is taken back.
	To wal.Life
	// Was is the partition as it was when this was decided.
	Was      Partition
	Pin      PinChange
	Replicas []int32 // of the new pin
}

// Cancelled is the reassignment that takes a partition's intent back, and the pin that came with it.
func Cancelled(id protocol.PartitionID, was Partition) Reassignment {
	r := Reassignment{ID: id, Was: was}
	if home, ok := was.Pin.preferred(); ok && home == was.Target.Broker {
		r.Pin = PinIsRemoved
	}
	return r
}

// reassignBatch reassignments take two comparisons and two writes each: 120 of etcd's 128.
const reassignBatch = 60

// Reassign writes intents of operators and their pins, and says how each ended; no partition may be in it twice. ErrStale: a
// partition of the batch is not as it was, or has another intent; the newest image tells.
func (s *Store) Reassign(ctx context.Context, list []Reassignment) []error {
	outcomes := make([]error, len(list))
	for done := 0; done < len(list); {
		n := min(reassignBatch, len(list)-done)
		err := s.reassignSome(ctx, list[done:done+n])
		for i := range n {
			outcomes[done+i] = err
		}
		done += n
	}
	return outcomes
}

func (s *Store) reassignSome(ctx context.Context, list []Reassignment) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	op := newOp()
	w := write{what: fmt.Sprintf("reassign %d partitions from %s", len(list), list[0].ID)}
	for _, r := range list {
		part, intent, pin := s.keys.part(r.ID), s.keys.intent(r.ID), s.keys.pin(r.ID)
		w.when = append(w.when, revIs(part, r.Was.Rev), revIs(intent, r.Was.TargetRev))
		w.orElse = append(w.orElse, clientv3.OpGet(part), clientv3.OpGet(intent))
		if r.To.IsZero() || r.To == r.Was.Owner {
			w.then = append(w.then, clientv3.OpDelete(intent))
		} else {
			w.then = append(w.then, clientv3.OpPut(intent, encode(intentValue{newHeader(op), r.To.String()})))
		}
		switch r.Pin {
		case PinIsSet:
			w.then = append(w.then, clientv3.OpPut(pin, encode(pinValue{newHeader(op), r.Replicas})))
		case PinIsRemoved:
			w.then = append(w.then, clientv3.OpDelete(pin))
		case PinStays:
		}
	}
	r, ok, err := s.commit(ctx, w)
	switch {
	case err != nil:
		return err
	case ok:
		s.seen(ctx, r.Header.Revision)
		return nil
	}
	// What has changed is shown to who tries again. An attempt of ours whose answer was lost is among it: trying again does no harm.
	var newest int64
	for i := range r.Responses {
		newest = max(newest, revAt(r, i))
	}
	s.seen(ctx, newest)
	return fmt.Errorf("%s: %w", w.what, ErrStale)
}
