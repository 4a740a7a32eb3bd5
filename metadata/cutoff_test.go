package metadata

import (
	"context"
	"errors"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/tidemill/tidemill/internal/proctest"
	"github.com/tidemill/tidemill/wal"
)

func freeURL(t *testing.T) url.URL {
	t.Helper()
	return url.URL{Scheme: "http", Host: proctest.FreeAddress(t)}
}

// member starts a member of an etcd that serves each of the clients' URLs.
func member(t *testing.T, name, initial string, peer url.URL, clients ...url.URL) *embed.Etcd {
	t.Helper()
	c := embed.NewConfig()
	c.Name, c.Dir, c.InitialCluster, c.UnsafeNoFsync = name, t.TempDir(), initial, true
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.ListenClientUrls, c.AdvertiseClientUrls = clients, clients
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func endMember(e *embed.Etcd) {
	e.Server.HardStop()
	e.Close()
}

// cutOffMember starts a member of etcd that is cut off from its peers, which it knows, and answers clients still.
func cutOffMember(t *testing.T) string {
	t.Helper()
	peer, gone, client := freeURL(t), freeURL(t), freeURL(t)
	initial := "a=" + peer.String() + ",b=" + gone.String()
	a := member(t, "a", initial, peer, client)
	t.Cleanup(func() { endMember(a) })
	b := member(t, "b", initial, gone, freeURL(t))
	<-a.Server.ReadyNotify()
	<-b.Server.ReadyNotify()
	endMember(b)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for a.Server.Leader() != 0 {
		<-tick.C
	}
	return client.Host
}

// listsKV is an etcd that answers, behind a member whose watches are refused. It counts lists.
type listsKV struct {
	kvAPI
	lists atomic.Int32
	many  chan struct{} // is closed at the sixth
}

func (l *listsKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if len(opts) == 0 && l.lists.Add(1) == 6 {
		close(l.many)
	}
	return l.kvAPI.Get(ctx, key, opts...)
}

// TestMemberCutOff: what is asked of a member of etcd that is cut off from the others is asked of another.
func TestMemberCutOff(t *testing.T) {
	cut := cutOffMember(t)
	t.Run("calls", func(t *testing.T) {
		peer, one, two := freeURL(t), freeURL(t), freeURL(t) // the second is for the other member that is well
		well := member(t, "w", "w="+peer.String(), peer, one, two)
		defer endMember(well)
		<-well.Server.ReadyNotify()
		s := openWith(t, func(c *Config) {
			c.Endpoints, c.Timeout, c.LeaseTTL = []string{cut, one.Host, two.Host}, defaultTimeout, time.Minute
		})
		l := newLife(t, s)
		reg := must[*Registration](t)(s.Register(t.Context(), l, BrokerInfo{Host: "h"}))
		for range 12 {
			if _, err := s.AllocateProducerIDs(t.Context(), 1); err != nil {
				t.Error(err)
			}
			if err := s.list(t.Context(), newState(s.keys)); err != nil {
				t.Error(err)
			}
		}
		if err := reg.Unregister(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("watches", func(t *testing.T) {
		below := open(t)
		kv := &listsKV{kvAPI: below.kv, many: make(chan struct{})}
		begun := time.Now()
		openWith(t, func(c *Config) {
			c.Endpoints, c.wrapKV = []string{cut}, func(kvAPI) kvAPI { return kv }
		})
		<-kv.many
		if took := time.Since(begun); took < time.Second {
			t.Errorf("six lists within %v", took)
		}
	})
}

// hangingKV is a member of etcd that gets requests and answers none, once for each that is armed.
type hangingKV struct {
	kvAPI
	armed atomic.Int32
}

func (h *hangingKV) hangs(ctx context.Context) bool {
	if h.armed.Add(-1) < 0 {
		return false
	}
	if sent, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok {
		sent.Store(true)
	}
	<-ctx.Done()
	return true
}

func (h *hangingKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if h.hangs(ctx) {
		return nil, ctx.Err()
	}
	return h.kvAPI.Get(ctx, key, opts...)
}

func (h *hangingKV) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	if h.hangs(ctx) {
		return clientv3.OpResponse{}, ctx.Err()
	}
	return h.kvAPI.Do(ctx, op)
}

func openHanging(t *testing.T, timeout time.Duration) (*Store, *hangingKV) {
	t.Helper()
	h := &hangingKV{}
	s := openWith(t, func(c *Config) {
		c.Timeout, c.wrapKV = timeout, func(kv kvAPI) kvAPI { h.kvAPI = kv; return h }
	})
	return s, h
}

// TestMemberHangs: a request that hangs is made again while there is time.
func TestMemberHangs(t *testing.T) {
	s, h := openHanging(t, 8*time.Second)
	h.armed.Store(1)
	if err := s.list(t.Context(), newState(s.keys)); err != nil {
		t.Error(err)
	}
	h.armed.Store(1)
	newLife(t, s)
	if h.armed.Load() > 0 {
		t.Error("nothing hung")
	}
}

// TestSilentRead: a read that got no answer leaves nothing in doubt, and a write does.
func TestSilentRead(t *testing.T) {
	s, h := openHanging(t, 2*time.Second)
	l := newLife(t, s)
	to := must[wal.Life](t)(s.OpenLife(t.Context(), 2))
	topic := create(t, s, "t", 1, l)
	h.armed.Store(1 << 20)
	_, err := s.Load(t.Context(), l)
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a read: %v", err)
	}
	err = s.Move(t.Context(), l, []Move{moveOf(topic, 0, l, to)})[0]
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("a move before its first write: %v", err)
	}
	bounded, cancel := s.bound(t.Context())
	defer cancel()
	_, _, err = s.commit(bounded, write{what: "write", then: []clientv3.Op{clientv3.OpPut(s.keys.cluster(), "x")}})
	if !errors.Is(err, ErrUnknownOutcome) || errors.Is(err, ErrUnavailable) {
		t.Errorf("a write: %v", err)
	}
}

// latePages answers reads of a list, once it is told to, later than a half of what a call has.
type latePages struct {
	kvAPI
	by atomic.Int64
}

func (l *latePages) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	select {
	case <-time.After(time.Duration(l.by.Load())):
		return l.kvAPI.Get(ctx, key, opts...)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestLatePages: over a slow link a page of a list takes long from any member, and comes in the end.
func TestLatePages(t *testing.T) {
	t.Parallel()
	const timeout = 600 * time.Millisecond
	l := &latePages{}
	s := openWith(t, func(c *Config) {
		c.Timeout, c.wrapKV = timeout, func(below kvAPI) kvAPI { l.kvAPI = below; return l }
	})
	l.by.Store(int64(timeout * 6 / 10))
	var err error
	for range 5 { // a busy machine may add to it
		if err = s.list(t.Context(), newState(s.keys)); err == nil {
			return
		}
	}
	t.Errorf("the list never came: %v", err)
}
