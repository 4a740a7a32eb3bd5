package broker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/controller"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// freshFor is how old a proof may be that this life's log has not been ended, for answers that promise to be the newest: the end of a
// log, a committed offset. It is less than the lease after which others may end it, and than the time in which its log must not have grown
// then, as a slot is a proof too; and more than twice the time between two refreshes of the lease, so that a broker which is well has a
// proof without asking for one.
const freshFor = controller.StillFor - time.Second

// askTimeout bounds the question to etcd by a broker that has no proof.
const askTimeout = 2 * time.Second

// fresh reports whether this life was OPEN lately: a slot of its own, put since, became its, or etcd said so. A broker that was paused, or
// is cut off, is not fresh, as another may lead by now; what it has committed it may still serve, since that never changes. It does not
// block: without a proof it asks for one, and the client comes again.
func (b *Broker) fresh() bool {
	proof := b.wal.ProvenAt()
	for _, t := range []time.Time{b.meta.OpenAt(), b.proof.at()} {
		if t.After(proof) {
			proof = t
		}
	}
	if time.Since(proof) < freshFor {
		return true
	}
	if b.proof.asking.CompareAndSwap(false, true) {
		b.background.Go(b.askProof)
	}
	return false
}

// proofAsked is a proof that was asked for.
type proofAsked struct {
	asking atomic.Bool
	last   atomic.Pointer[time.Time]
}

func (p *proofAsked) at() time.Time {
	if t := p.last.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

// askProof asks etcd for the state of this life.
func (b *Broker) askProof() {
	defer b.proof.asking.Store(false)
	ctx, cancel := context.WithTimeout(b.ctx, askTimeout)
	defer cancel()
	begun := time.Now()
	if st, err := b.meta.Load(ctx, b.life); err == nil && st.Phase == wal.PhaseOpen {
		b.proof.last.Store(&begun)
	}
}

// freshShard is fresh for a shard of the group coordinator.
func (b *Broker) freshShard(shard int32) bool {
	l, ok := b.offsetsLog(shard)
	return ok && b.fresh() && l.Settled()
}

// checkFresh is fresh for what is asked of a partition's leader, who may be giving the partition away.
func (b *Broker) checkFresh(l *partition.Log) protocol.ErrorCode {
	if b.fresh() && l.Settled() {
		return protocol.CodeNone
	}
	return protocol.CodeNotLeaderOrFollower
}
