package metadata

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// SetDrain marks a broker as one that an operator wants empty, or takes the mark back. It is of the id: it outlives the broker's lives,
// and may be there before the broker.
func (s *Store) SetDrain(ctx context.Context, broker int32, drain bool) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	key := s.keys.drain(broker)
	what := fmt.Sprintf("set the drain mark of broker %d to %v", broker, drain)
	op := clientv3.OpDelete(key)
	if drain {
		op = clientv3.OpPut(key, encode(newHeader(newOp())))
	}
	// It depends on nothing, and done twice is as good as once.
	if _, _, err := s.commit(ctx, write{what: what, then: []clientv3.Op{op}}); err != nil {
		return err
	}
	s.until(ctx, func(i *Image) bool { return i.Drains[broker] == drain })
	return nil
}
