package broker

import (
	"maps"
	"sync"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
)

const (
	// arrivalMax is how long a produce waits for a partition that is ours by metadata and is being opened: less than a client's pause
	// before it tries again.
	arrivalMax = 200 * time.Millisecond
	// rumourMax is how long it waits when metadata says nothing: the client may have been sent here by an owner whose change has not come
	// yet.
	rumourMax = 25 * time.Millisecond
	// leftMax is how long nobody waits for a partition that this life has given away: who asks for it does not know that yet. Later it may
	// have come back.
	leftMax = time.Second
)

// arrivals wakes who waits for partitions that others hand over.
type arrivals struct {
	mu   sync.Mutex
	c    chan struct{}
	left map[protocol.PartitionID]time.Time // what this life has given away, and when; entries older than leftMax say nothing
}

// gaveAway notes partitions that are others' since now, and wakes who waits for them.
func (a *arrivals) gaveAway(ids []protocol.PartitionID, now time.Time) {
	a.mu.Lock()
	maps.DeleteFunc(a.left, func(_ protocol.PartitionID, at time.Time) bool { return now.Sub(at) >= leftMax })
	for _, id := range ids {
		if a.left == nil {
			a.left = map[protocol.PartitionID]time.Time{}
		}
		a.left[id] = now
	}
	a.mu.Unlock()
	a.tell()
}

// worth is how long a produce waits for a partition that is not open here.
func (a *arrivals) worth(id protocol.PartitionID, ours bool, now time.Time) time.Duration {
	if ours {
		return arrivalMax
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, left := a.left[id]; left && now.Sub(at) < leftMax {
		return 0
	}
	return rumourMax
}

// next is closed when something has arrived.
func (a *arrivals) next() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.c == nil {
		a.c = make(chan struct{})
	}
	return a.c
}

func (a *arrivals) tell() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.c != nil {
		close(a.c)
		a.c = nil
	}
}

// awaitArrival waits a little for a partition that may be on its way to this broker, and returns its log, or nil. A request waits once,
// however many partitions it names.
func (p *produceCall) awaitArrival(t *metadata.Topic, index int32) *partition.Log {
	if p.b.cfg.Cluster.Embedded() {
		return nil // there is nobody whom it could come from
	}
	if p.waiting.IsZero() {
		p.waiting = time.Now()
	}
	id := protocol.PartitionID{Topic: t.ID, Partition: index}
	for {
		arrived, changed := p.b.arrivals.next(), p.b.meta.Changed()
		if l, ok := p.b.logs.Get(id); ok {
			return l
		}
		now, ok := p.b.meta.Image().TopicsByID[t.ID]
		ours := ok && int(index) < len(now.Partitions) && now.Partitions[index].Owner == p.b.life
		left := time.Until(p.waiting.Add(p.b.arrivals.worth(id, ours, time.Now())))
		if left <= 0 {
			return nil
		}
		wait := time.NewTimer(left)
		select {
		case <-arrived:
		case <-changed:
		case <-wait.C:
			return nil
		case <-p.c.ctx.Done():
			wait.Stop()
			return nil
		}
		wait.Stop()
	}
}
