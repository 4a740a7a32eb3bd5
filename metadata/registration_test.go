package metadata

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestIdleLifeLearnsItsEnd seals a life that keeps its lease: it writes nothing, so no foreign slot tells it.
func TestIdleLifeLearnsItsEnd(t *testing.T) {
	s := openWith(t, func(c *Config) { c.LeaseTTL = time.Second })
	l := newLife(t, s)
	reg := must[*Registration](t)(s.Register(t.Context(), l, BrokerInfo{Host: "h", Port: 1}))
	seal(t, s, l, 0)
	select {
	case <-reg.Fenced():
	case <-time.After(10 * time.Second):
		t.Fatal("the life does not learn that it was sealed")
	}
	if err := reg.Unregister(t.Context()); err != nil {
		t.Errorf("unregister: %v", err)
	}
}

// countedKV counts what is asked of etcd.
type countedKV struct {
	kvAPI
	asked atomic.Int64
}

func (c *countedKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	c.asked.Add(1)
	return c.kvAPI.Get(ctx, key, opts...)
}

func (c *countedKV) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	c.asked.Add(1)
	return c.kvAPI.Do(ctx, op)
}

// TestIdleClusterIsNotRead: while nobody writes, a broker keeps its lease and reads nothing, however often it would list;
// what is written then is noticed by the revision alone, though no watch tells.
func TestIdleClusterIsNotRead(t *testing.T) {
	var kv *countedKV
	s := openWith(t, func(c *Config) {
		c.LeaseTTL, c.relistEvery = time.Second, 2*time.Second
		c.wrapKV = func(below kvAPI) kvAPI { kv = &countedKV{kvAPI: below}; return kv }
	})
	l := newLife(t, s)
	reg := must[*Registration](t)(s.Register(t.Context(), l, BrokerInfo{Host: "h", Port: 1}))
	refreshes := func(n int) {
		t.Helper()
		for range n {
			before := s.refreshed.Load()
			eventually(t, "the lease to be refreshed", func() bool { return s.refreshed.Load() != before })
		}
	}
	// The own writes of the beginning are read and listed once. The refreshes take longer than relistEvery.
	quiet := func() {
		t.Helper()
		eventually(t, "reads to end", func() bool {
			before := kv.asked.Load()
			refreshes(6)
			return kv.asked.Load() == before
		})
	}
	quiet()
	asked := kv.asked.Load()
	if s.Silence() > 5*time.Second {
		t.Errorf("etcd is said to be silent for %v", s.Silence())
	}
	must[*clientv3.PutResponse](t)(s.client.Put(t.Context(), "/elsewhere", "x"))
	eventually(t, "the life and the lists to be read again", func() bool { return kv.asked.Load() > asked+2 })
	quiet()
	if err := reg.Unregister(t.Context()); err != nil {
		t.Errorf("unregister: %v", err)
	}
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
