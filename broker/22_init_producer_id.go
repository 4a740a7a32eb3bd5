package broker

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/singleflight"

	"github.com/tidemill/tidemill/protocol"
)

// InitProducerId: v0-5
//
// Idempotent producers get a fresh id each time, whatever id they bring (P10). A transactional id is refused.
func init() { handle(protocol.KeyInitProducerID, (*Broker).initProducerID) }

func (b *Broker) initProducerID(c *call, req *kmsg.InitProducerIDRequest) {
	resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	if req.TransactionalID != nil {
		resp.ErrorCode = int16(protocol.CodeUnsupportedVersion)
		if *req.TransactionalID == "" {
			resp.ErrorCode = int16(protocol.CodeInvalidRequest) // T2
		}
		c.reply(resp)
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, adminTimeout)
	defer cancel()
	id, err := b.producerIDs.next(ctx)
	if err != nil {
		resp.ErrorCode = int16(protocol.CodeCoordinatorNotAvailable) // retriable, and nothing was promised
	} else {
		resp.ProducerID, resp.ProducerEpoch = id, 0
	}
	c.reply(resp)
}

// producerIDBlock is how many ids are taken from etcd at a time, as in Kafka.
const producerIDBlock = 1000

// producerIDs hands out ids from blocks that no other broker has. The block after the present one is fetched early, so
// that producers can start while etcd is away.
type producerIDs struct {
	allocate func(ctx context.Context, n int) (first int64, err error)
	fetch    singleflight.Group
	mu       struct {
		sync.Mutex
		block, spare idBlock
	}
}

// idBlock is the ids in [at, end).
type idBlock struct{ at, end int64 }

// next returns an id that was never returned before.
func (p *producerIDs) next(ctx context.Context) (int64, error) {
	for {
		id, ok, low := p.take()
		if ok {
			if low {
				p.fetch.DoChan("", p.addBlock)
			}
			return id, nil
		}
		select {
		case r := <-p.fetch.DoChan("", p.addBlock):
			if r.Err != nil {
				return 0, r.Err
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// take returns an id if there is one, and whether the spare block is missing.
func (p *producerIDs) take() (id int64, ok, low bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.block.at == p.mu.block.end {
		p.mu.block, p.mu.spare = p.mu.spare, idBlock{}
	}
	low = p.mu.spare == idBlock{}
	if p.mu.block.at == p.mu.block.end {
		return 0, false, low
	}
	p.mu.block.at++
	return p.mu.block.at - 1, true, low
}

func (p *producerIDs) addBlock() (any, error) {
	first, err := p.allocate(context.Background(), producerIDBlock) // bounded by the metadata store's own deadline
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := idBlock{first, first + producerIDBlock}
	if p.mu.block.at == p.mu.block.end {
		p.mu.block = fresh
	} else {
		p.mu.spare = fresh
	}
	return nil, nil
}
