package metadata

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// EnsureCluster returns the cluster's identity, which the first caller creates.
func (s *Store) EnsureCluster(ctx context.Context) (Cluster, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var id [16]byte
	rand.Read(id[:]) // crypto/rand.Read never fails
	key := s.keys.cluster()
	r, _, err := s.commit(ctx, write{
		what: "create cluster " + s.config.Name,
		when: []clientv3.Cmp{revIs(key, 0)},
		then: []clientv3.Op{
			clientv3.OpPut(key, encode(clusterValue{
				header: newHeader(newOp()), ID: base64.RawURLEncoding.EncodeToString(id[:]), Created: time.Now().UnixMilli(), Generation: 1,
			})),
			clientv3.OpGet(key),
		},
		orElse: []clientv3.Op{clientv3.OpGet(key)},
	})
	if err != nil {
		return Cluster{}, err
	}
	kv := kvAt(r, len(r.Responses)-1)
	v, err := decode[clusterValue](key, kv.Value)
	if err != nil {
		return Cluster{}, err
	}
	s.seen(ctx, kv.ModRevision)
	return Cluster{ID: v.ID, Generation: v.Generation}, nil
}

// AllocateProducerIDs reserves n producer ids that nobody else gets and returns the first. A lost answer may cost a block.
func (s *Store) AllocateProducerIDs(ctx context.Context, n int) (int64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	key := s.keys.pids()
	what := fmt.Sprintf("allocate %d producer ids", n)
	for {
		r, err := s.read(ctx, what, clientv3.OpGet(key))
		if err != nil {
			return 0, err
		}
		var next int64
		if kv := kvAt(r, 0); kv != nil {
			v, err := decode[counterValue](key, kv.Value)
			if err != nil {
				return 0, err
			}
			next = v.Value
		}
		op := newOp()
		_, ok, err := s.commit(ctx, write{
			what:   what,
			when:   []clientv3.Cmp{revIs(key, revAt(r, 0))},
			then:   []clientv3.Op{clientv3.OpPut(key, encode(counterValue{newHeader(op), next + int64(n)}))},
			orElse: []clientv3.Op{clientv3.OpGet(key)},
			mine:   func(r *clientv3.TxnResponse) bool { return opAt(r, 0, op) },
		})
		if err != nil || ok {
			return next, err
		}
	}
}
