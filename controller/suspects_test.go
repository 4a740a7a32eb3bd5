package controller

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

const testTTL = 10 * time.Second

// world is agreed state, the brokers' addresses and their logs.
type world struct {
	mu      sync.Mutex
	img     *metadata.Image
	sealed  map[wal.Life]time.Duration // since the start
	refuses map[int32]bool
	growing map[int32]bool
	slots   int64         // of an ended log
	planned time.Duration // when something was assigned first
	silent  bool
	began   time.Time
}

func lifeOf(id int32) wal.Life { return wal.Life{Broker: id, Epoch: 1} }

// newWorld has brokers 1 to n; broker 1 is the controller, and each of the others owns a partition.
func newWorld(n int32) *world {
	w := &world{sealed: map[wal.Life]time.Duration{}, refuses: map[int32]bool{}, growing: map[int32]bool{}, began: time.Now()}
	topic := &metadata.Topic{Name: "t", ID: protocol.TopicID{1}}
	brokers := map[int32]metadata.Broker{}
	for id := int32(1); id <= n; id++ {
		brokers[id] = metadata.Broker{BrokerInfo: metadata.BrokerInfo{Host: "h", Port: id}, Life: lifeOf(id)}
		topic.Partitions = append(topic.Partitions, metadata.Partition{Owner: lifeOf(id)})
	}
	w.img = &metadata.Image{
		Controller: metadata.Controller{Life: lifeOf(1), Rev: 1}, Brokers: brokers,
		Topics: map[string]*metadata.Topic{"t": topic}, TopicsByID: map[protocol.TopicID]*metadata.Topic{topic.ID: topic},
	}
	return w
}

// lose ends the leases of brokers.
func (w *world) lose(ids ...int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	img := *w.img
	img.Brokers = maps.Clone(img.Brokers)
	for _, id := range ids {
		delete(img.Brokers, id)
	}
	w.img = &img
}

// disown takes a broker's partition away.
func (w *world) disown(id int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	img, topic := *w.img, *w.img.Topics["t"]
	topic.Partitions = slices.DeleteFunc(slices.Clone(topic.Partitions), func(p metadata.Partition) bool { return p.Owner == lifeOf(id) })
	img.Topics = map[string]*metadata.Topic{"t": &topic}
	img.TopicsByID = map[protocol.TopicID]*metadata.Topic{topic.ID: &topic}
	w.img = &img
}

func (w *world) back(ids ...int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	img := *w.img
	img.Brokers = maps.Clone(img.Brokers)
	for _, id := range ids {
		img.Brokers[id] = metadata.Broker{BrokerInfo: metadata.BrokerInfo{Host: "h", Port: id}, Life: lifeOf(id)}
	}
	w.img = &img
}

func (w *world) Image() *metadata.Image {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.img
}
func (w *world) Changed() <-chan struct{} { return nil }

func (w *world) Load(_ context.Context, l wal.Life) (wal.StreamState, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	st := wal.StreamState{Life: l, Phase: wal.PhaseOpen}
	if _, ended := w.sealed[l]; ended {
		st.Phase, st.N = wal.PhaseSealed, w.slots
	}
	return st, nil
}

func (w *world) Loads(context.Context) (map[int32]metadata.BrokerLoads, error) {
	return nil, nil
}

func (w *world) Assign(context.Context, metadata.Controller, []metadata.Intent) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.planned == 0 {
		w.planned = time.Since(w.began)
	}
	return 0, nil
}

func (w *world) Silence() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.silent {
		return time.Minute
	}
	return 0
}

func (w *world) set(m map[int32]bool, ids ...int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		m[id] = true
	}
}

func (w *world) hush(silent bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent = silent
}

func (w *world) elect(id int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	img := *w.img
	img.Controller.Life = lifeOf(id)
	w.img = &img
}

// run lets broker 1's controller work for some time of the bubble's, and returns when each life was ended.
func (w *world) run(ctx context.Context, t *testing.T, d time.Duration) map[int32]time.Duration {
	t.Helper()
	c := New(Config{
		Self: lifeOf(1), Cluster: w, LeaseTTL: testTTL, Logger: slog.New(slog.DiscardHandler),
		Campaign: func(context.Context) (metadata.Controller, bool, error) { return metadata.Controller{}, false, nil },
		Sweep:    func(context.Context) error { return nil },
		Refuses: func(_ context.Context, at metadata.BrokerInfo) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.refuses[at.Port]
		},
		LogEnd: func(_ context.Context, l wal.Life, _ int64) (int64, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.growing[l.Broker] {
				return int64(time.Since(w.began) / time.Millisecond), nil
			}
			return 7, nil
		},
		Seal: func(_ context.Context, l wal.Life) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.sealed[l] = time.Since(w.began)
			return nil
		},
	})
	runFor(ctx, t, c, d)
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[int32]time.Duration{}
	for l, at := range w.sealed {
		out[l.Broker] = at
	}
	return out
}

// TestSuspects: what it takes to end a broker's log (S1).
func TestSuspects(t *testing.T) {
	for _, tc := range []struct {
		name  string
		begin func(w *world)
		check func(t *testing.T, ended map[int32]time.Duration)
	}{
		{"nobody is ended while all are registered", func(*world) {}, func(t *testing.T, ended map[int32]time.Duration) {
			if len(ended) > 0 {
				t.Errorf("ended %v", ended)
			}
		}},
		{"those whose processes are gone, together and at once", func(w *world) { w.lose(2, 3, 4); w.set(w.refuses, 2, 3, 4) },
			func(t *testing.T, ended map[int32]time.Duration) {
				if len(ended) != 3 || slices.Max(slices.Collect(maps.Values(ended))) > 4*time.Second {
					t.Errorf("ended %v", ended)
				}
			}},
		{"on the word of leases alone one in their time, after a grace", func(w *world) { w.lose(2, 3, 4) },
			func(t *testing.T, ended map[int32]time.Duration) {
				at := slices.Sorted(maps.Values(ended))
				for i := range at {
					if at[i] < testTTL || i > 0 && at[i]-at[i-1] < testTTL {
						t.Errorf("ended %v", ended)
					}
				}
				if len(at) != 3 {
					t.Errorf("ended %v in a minute", ended)
				}
			}},
		{"one that owns nothing, too, and no other for it", func(w *world) {
			w.disown(2)
			w.lose(2)
			w.set(w.refuses, 2)
		}, func(t *testing.T, ended map[int32]time.Duration) {
			if _, it := ended[2]; !it || len(ended) != 1 {
				t.Errorf("ended %v", ended)
			}
		}},
		{"one that owns nothing does not hold up one that does", func(w *world) {
			w.disown(2)
			w.lose(2, 3)
		}, func(t *testing.T, ended map[int32]time.Duration) {
			if len(ended) != 2 || max(ended[2], ended[3])-min(ended[2], ended[3]) > testTTL/2 {
				t.Errorf("ended %v", ended)
			}
		}},
		{"nobody who owns nothing and comes back", func(w *world) {
			w.disown(2)
			w.lose(2)
			w.set(w.refuses, 2)
			go func() { <-time.After(watchFor / 2); w.back(2) }()
		}, func(t *testing.T, ended map[int32]time.Duration) {
			if len(ended) > 0 {
				t.Errorf("ended %v", ended)
			}
		}},
		{"never one whose log grows", func(w *world) { w.lose(2); w.set(w.refuses, 2); w.set(w.growing, 2) },
			func(t *testing.T, ended map[int32]time.Duration) {
				if len(ended) > 0 {
					t.Errorf("ended %v", ended)
				}
			}},
		{"on the word of a lease not before its last slot is no proof any more", func(w *world) {
			w.lose(2)
			w.set(w.growing, 2)
			go func() {
				<-time.After(2 * testTTL)
				w.mu.Lock()
				defer w.mu.Unlock()
				delete(w.growing, 2)
			}()
		}, func(t *testing.T, ended map[int32]time.Duration) {
			if at := ended[2]; at < 2*testTTL+StillFor || at > 2*testTTL+StillFor+5*time.Second {
				t.Errorf("ended %v", ended)
			}
		}},
		{"nobody who comes back", func(w *world) {
			w.lose(2, 3)
			go func() { <-time.After(testTTL / 2); w.back(2, 3) }()
		}, func(t *testing.T, ended map[int32]time.Duration) {
			if len(ended) > 0 {
				t.Errorf("ended %v", ended)
			}
		}},
		{"nobody until etcd has been well for two leases", func(w *world) {
			w.lose(2)
			w.set(w.refuses, 2)
			w.hush(true)
			go func() {
				<-time.After(5 * time.Second)
				w.hush(false)
			}()
		}, func(t *testing.T, ended map[int32]time.Duration) {
			if at := ended[2]; at < 4*time.Second+2*testTTL || at > 10*time.Second+2*testTTL {
				t.Errorf("ended %v", ended)
			}
		}},
		{"nobody by who is not the controller", func(w *world) {
			w.lose(2, 3)
			w.set(w.refuses, 2, 3)
			w.elect(4)
		}, func(t *testing.T, ended map[int32]time.Duration) {
			if len(ended) > 0 {
				t.Errorf("ended %v", ended)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(4)
				// The controller has seen where everybody is before anything happens.
				go func() {
					<-time.After(100 * time.Millisecond)
					tc.begin(w)
				}()
				tc.check(t, w.run(t.Context(), t, time.Minute))
			})
		})
	}
}

// TestGrownWhileItWasEnded: when a log has grown between the last look at it and its end, its broker may take the last slot for a proof that it
// leads: others get its partitions when that is none any more.
func TestGrownWhileItWasEnded(t *testing.T) {
	for _, tc := range []struct {
		name         string
		slots        int64
		gone         bool
		atLeast, max time.Duration
	}{
		{"not grown", 8, false, 0, 2 * time.Second},
		{"grown", 9, false, StillFor, StillFor + 2*time.Second},
		{"grown, and its process is gone", 9, true, 0, 2 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(2)
				w.slots = tc.slots
				go func() {
					<-time.After(100 * time.Millisecond)
					w.lose(2)
					if tc.gone {
						w.set(w.refuses, 2)
					}
				}()
				ended := w.run(t.Context(), t, time.Minute)
				if wait := w.planned - ended[2]; ended[2] == 0 || w.planned == 0 || wait < tc.atLeast || wait > tc.max {
					t.Errorf("ended after %v, its partitions are planned for after %v", ended[2], w.planned)
				}
			})
		})
	}
}

// runFor lets a controller work for some time of the bubble's.
func runFor(ctx context.Context, t *testing.T, c *Controller, d time.Duration) {
	t.Helper()
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	<-time.After(d)
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// TestAddressesAreForgotten: of brokers that came and went the addresses are kept while they own something, and of a few others.
func TestAddressesAreForgotten(t *testing.T) {
	w := newWorld(3)
	var s suspects
	s.init(nil)
	s.note(w.Image(), 0)
	w.lose(3)
	for i := range uint64(1000) {
		s.addresses[wal.Life{Broker: 4, Epoch: i}] = metadata.BrokerInfo{}
		s.note(w.Image(), 0)
	}
	if n := len(s.addresses); n > 2*2+strangersMax {
		t.Errorf("%d addresses", n)
	}
	if s.addresses[lifeOf(3)].Port != 3 || s.addresses[lifeOf(2)].Port != 2 {
		t.Errorf("those of owners are gone: %v", s.addresses)
	}
}
