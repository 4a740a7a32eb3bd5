package metadata

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func partRecords(t *testing.T, s *Store) int64 {
	t.Helper()
	return must[*clientv3.GetResponse](t)(s.client.Get(t.Context(), s.keys.allParts(), clientv3.WithPrefix(), clientv3.WithCountOnly())).Count
}

// TestLostCreationLeavesNothing: somebody else creates the name while the partitions of a topic are written.
func TestLostCreationLeavesNothing(t *testing.T) {
	other, kv := open(t), &betweenKV{}
	s := openWith(t, func(c *Config) { c.wrapKV = func(below kvAPI) kvAPI { kv.kvAPI = below; return kv } })
	l := newLife(t, other)
	kv.second = func() { create(t, other, "t", 3, l) }
	r := s.CreateTopics(t.Context(), []TopicSpec{{Name: "t", Partitions: 250, ReplicationFactor: 1}}, allOwnedBy(l))
	if !errors.Is(r[0].Err, ErrTopicExists) {
		t.Fatalf("got %v, want ErrTopicExists", r[0].Err)
	}
	if n := partRecords(t, s); n != 3 {
		t.Errorf("%d partition records for a topic of 3", n)
	}
}

// slowKV is an etcd that takes its time for transactions.
type slowKV struct {
	kvAPI
	takes atomic.Int64
}

func (s *slowKV) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	<-time.After(time.Duration(s.takes.Load()))
	return s.kvAPI.Do(ctx, op)
}

// TestSlowDeletion: the records of a large topic take an etcd that is slow longer than any one call may.
func TestSlowDeletion(t *testing.T) {
	kv := &slowKV{}
	s := openWith(t, func(c *Config) {
		c.Timeout, c.wrapKV = 4*time.Second, func(below kvAPI) kvAPI { kv.kvAPI = below; return kv }
	})
	topic := create(t, s, "t", 1500, newLife(t, s))
	kv.takes.Store(int64(200 * time.Millisecond))
	if err := s.DeleteTopic(t.Context(), topic.ID); err != nil {
		t.Fatal(err)
	}
	if n := partRecords(t, s); n != 0 {
		t.Errorf("%d of 1500 records remain", n)
	}
}
