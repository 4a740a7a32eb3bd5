package broker

import (
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
)

// arrivals wakes who waits for partitions that others hand over.
type arrivals struct {
	mu sync.Mutex
	c  chan struct{}
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
	if p.patience.IsZero() {
		p.patience = time.Now().Add(rumourMax)
	}
	id := protocol.PartitionID{Topic: t.ID, Partition: index}
	for {
		arrived, changed := p.b.arrivals.next(), p.b.meta.Changed()
		if l, ok := p.b.logs.Get(id); ok {
			return l
		}
		until := p.patience
		now, ok := p.b.meta.Image().TopicsByID[t.ID]
		if ok && int(index) < len(now.Partitions) && now.Partitions[index].Owner == p.b.life {
			until = p.patience.Add(arrivalMax - rumourMax)
		}
		wait := time.NewTimer(time.Until(until))
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
