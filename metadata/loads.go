package metadata

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// Load is what something costs a broker.
type Load struct {
	BytesPerSecond    float64
	RequestsPerSecond float64
}

// PartitionLoad is what one partition costs its owner.
type PartitionLoad struct {
	ID protocol.PartitionID
	Load
}

// BrokerLoads is what a broker has measured of the partitions that it owns, smoothed by itself.
type BrokerLoads struct {
	Life wal.Life
	// Measured is a revision of the image: partitions whose ownership records are newer had not been measured for long enough.
	Measured int64
	// Total is of all partitions, also of those that are not listed.
	Total Load
	// Partitions are those with the most load, at most LoadsMax.
	Partitions []PartitionLoad
}

// LoadsMax bounds the partitions that a broker tells the loads of, so that its value stays below 192 KiB whatever they are: etcd takes
// requests of 1.5 MiB, and a controller reads the values of all brokers. What the others carry is in the total.
const LoadsMax = 2048

// loadFields are those of a partition's entry: index, bytes per second, requests per second.
const loadFields = 3

// loadValue holds loads as whole numbers per second, by topic id.
type loadValue struct {
	header
	Life     string               `json:"life"`
	Measured int64                `json:"measured"`
	Bytes    int64                `json:"bytes"`
	Requests int64                `json:"requests"`
	Topics   map[string][][]int64 `json:"topics,omitempty"`
}

// encodeLoads leaves out the partitions beyond LoadsMax.
func encodeLoads(op string, l BrokerLoads) string {
	v := loadValue{
		header: newHeader(op), Life: l.Life.String(), Measured: l.Measured, Bytes: int64(l.Total.BytesPerSecond), Requests: int64(l.Total.RequestsPerSecond),
	}
	for _, p := range l.Partitions[:min(LoadsMax, len(l.Partitions))] {
		if v.Topics == nil {
			v.Topics = map[string][][]int64{}
		}
		topic := p.ID.Topic.String()
		v.Topics[topic] = append(v.Topics[topic], []int64{int64(p.ID.Partition), int64(p.BytesPerSecond), int64(p.RequestsPerSecond)})
	}
	return encode(v)
}

// loadMax is the largest load that is understood: up to there a float64 holds every whole number, and no broker carries as much.
const loadMax = 1 << 53

// decodeLoads refuses what no encodeLoads writes. The partitions are in the order of their topics' ids.
func decodeLoads(key string, raw []byte) (BrokerLoads, error) {
	v, err := decode[loadValue](key, raw)
	if err != nil {
		return BrokerLoads{}, err
	}
	l, err := v.loads()
	if err != nil {
		return BrokerLoads{}, fmt.Errorf("value of %s: %w", key, err)
	}
	return l, nil
}

func (v *loadValue) loads() (BrokerLoads, error) {
	life, err := wal.ParseLife(v.Life)
	if err != nil {
		return BrokerLoads{}, err
	}
	if min(v.Measured, v.Bytes, v.Requests) < 0 || max(v.Bytes, v.Requests) > loadMax {
		return BrokerLoads{}, fmt.Errorf("measured %d, %d bytes, %d requests", v.Measured, v.Bytes, v.Requests)
	}
	l := BrokerLoads{Life: life, Measured: v.Measured, Total: Load{float64(v.Bytes), float64(v.Requests)}}
	for _, name := range slices.Sorted(maps.Keys(v.Topics)) {
		topic, err := protocol.ParseTopicID(name)
		if err != nil {
			return BrokerLoads{}, err
		}
		if len(v.Topics[name]) == 0 {
			return BrokerLoads{}, fmt.Errorf("topic %s without partitions", name)
		}
		seen := map[int64]bool{}
		for _, e := range v.Topics[name] {
			if len(e) != loadFields || seen[e[0]] || e[0] != int64(int32(e[0])) || min(e[0], e[1], e[2]) < 0 || max(e[1], e[2]) > loadMax {
				return BrokerLoads{}, fmt.Errorf("load %v of topic %s", e, name)
			}
			seen[e[0]] = true
			id := protocol.PartitionID{Topic: topic, Partition: int32(e[0])}
			l.Partitions = append(l.Partitions, PartitionLoad{id, Load{float64(e[1]), float64(e[2])}})
		}
	}
	if len(l.Partitions) > LoadsMax {
		return BrokerLoads{}, fmt.Errorf("the loads of %d partitions", len(l.Partitions))
	}
	return l, nil
}

// PublishLoads puts what the broker has measured under its liveness lease, in place of what it published before. Partitions beyond
// LoadsMax are left out. ErrStale: the lease was lost, or another life has the broker's id. It does not wait for anybody to see it.
func (r *Registration) PublishLoads(ctx context.Context, l BrokerLoads) error {
	s := r.store
	ctx, cancel := s.bound(ctx)
	defer cancel()
	l.Life = r.life
	key, live, op, lease := s.keys.load(r.life.Broker), s.keys.broker(r.life.Broker), newOp(), r.leaseID()
	what := "publish the loads of " + r.life.String()
	_, ok, err := s.commit(ctx, write{
		what:   what,
		when:   []clientv3.Cmp{clientv3.Compare(clientv3.LeaseValue(live), "=", lease)},
		then:   []clientv3.Op{clientv3.OpPut(key, encodeLoads(op, l), clientv3.WithLease(lease))},
		orElse: []clientv3.Op{clientv3.OpGet(key)},
		mine:   func(t *clientv3.TxnResponse) bool { return opAt(t, 0, op) },
	})
	if errors.Is(err, rpctypes.ErrLeaseNotFound) || err == nil && !ok {
		return fmt.Errorf("%s: %w", what, ErrStale)
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.mu.loadsLease = lease
	r.mu.Unlock()
	return nil
}

// LoadsShown reports whether what PublishLoads put last is under the present lease. It went with the lease when that was lost.
func (r *Registration) LoadsShown() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.loadsLease == r.mu.lease
}

// loadsAtOnce bounds an answer to 3 MiB.
const loadsAtOnce = 16

// Loads returns what the registered brokers have published, by broker id; those who have published nothing, or what is not understood,
// are left out. While nobody writes to etcd it is not asked: the answer is that of before, some seconds old at most.
func (s *Store) Loads(ctx context.Context) (map[int32]BrokerLoads, error) {
	img := s.Image()
	if last := s.loads.Load(); last != nil && s.unwrittenSince(last.revision) && sameLives(img.Brokers, last.of) {
		return last.brokers, nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	found := &readLoads{of: img.Brokers, brokers: map[int32]BrokerLoads{}}
	for some := range slices.Chunk(slices.Sorted(maps.Keys(img.Brokers)), loadsAtOnce) {
		gets := make([]clientv3.Op, 0, len(some))
		for _, id := range some {
			gets = append(gets, clientv3.OpGet(s.keys.load(id)))
		}
		r, err := s.read(ctx, "read the loads of brokers", gets...)
		if err != nil {
			return nil, err
		}
		if found.revision == 0 {
			found.revision = r.Header.Revision
		}
		for i, id := range some {
			kv := kvAt(r, i)
			if kv == nil {
				continue
			}
			l, err := decodeLoads(string(kv.Key), kv.Value)
			if err != nil {
				s.notUnderstood(string(kv.Key), kv.ModRevision, err)
				continue
			}
			if l.Life == img.Brokers[id].Life {
				found.brokers[id] = l
			}
		}
	}
	s.loads.Store(found)
	return found.brokers, nil
}

// readLoads is what Loads read, at a revision at the earliest, of the brokers of an image that may have been older.
type readLoads struct {
	revision int64
	of       map[int32]Broker
	brokers  map[int32]BrokerLoads
}

// sameLives reports whether the same lives are registered.
func sameLives(a, b map[int32]Broker) bool {
	return maps.EqualFunc(a, b, func(x, y Broker) bool { return x.Life == y.Life })
}

// unwrittenSince reports whether etcd was still at a revision when a lease was refreshed last.
func (s *Store) unwrittenSince(revision int64) bool {
	r := s.refreshed.Load()
	return r != nil && r.revision <= revision
}
