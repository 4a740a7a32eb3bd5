package controller

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// loadedCluster is a cluster whose partitions, all of one topic, cost what it says, and whose brokers measure that with a delay.
type loadedCluster struct {
	brokers  int
	owners   []int32
	epochs   []int32
	revs     []int64 // of the ownership records
	rev      int64
	measured map[int32]int64 // by broker: what it says it has measured
	loads    []Load
}

// newLoaded has n brokers from 1 on, to which the partitions go in turn.
func newLoaded(n int, loads ...Load) *loadedCluster {
	c := &loadedCluster{brokers: n, rev: 1, measured: map[int32]int64{}, loads: loads}
	for i := range loads {
		c.owners, c.epochs, c.revs = append(c.owners, int32(i%n)+1), append(c.epochs, 0), append(c.revs, 1)
	}
	for id := range n {
		c.measured[int32(id)+1] = 1
	}
	return c
}

var loadedTopic = protocol.TopicID{1}

func (c *loadedCluster) image() *metadata.Image {
	topic := &metadata.Topic{Name: "t", ID: loadedTopic}
	brokers := map[int32]metadata.Broker{}
	for id := int32(1); id <= int32(c.brokers); id++ {
		brokers[id] = metadata.Broker{Life: lifeOf(id)}
	}
	for i, owner := range c.owners {
		topic.Partitions = append(topic.Partitions, metadata.Partition{Owner: lifeOf(owner), LeaderEpoch: c.epochs[i], Rev: c.revs[i]})
	}
	return &metadata.Image{
		Controller: metadata.Controller{Life: lifeOf(1), Rev: 1}, Revision: c.rev, Brokers: brokers,
		Topics: map[string]*metadata.Topic{"t": topic}, TopicsByID: map[protocol.TopicID]*metadata.Topic{topic.ID: topic},
	}
}

// told is what the brokers say: each lists what it has measured, and some of what it has not.
func (c *loadedCluster) told() map[int32]metadata.BrokerLoads {
	out := map[int32]metadata.BrokerLoads{}
	for id, rev := range c.measured {
		l := metadata.BrokerLoads{Life: lifeOf(id), Measured: rev}
		for i, owner := range c.owners {
			if owner == id && c.revs[i] <= rev {
				l.Partitions = append(l.Partitions, metadata.PartitionLoad{ID: idOf(i), Load: metadata.Load(c.loads[i])})
				l.Total.BytesPerSecond += c.loads[i].BytesPerSecond
				l.Total.RequestsPerSecond += c.loads[i].RequestsPerSecond
			}
		}
		out[id] = l
	}
	return out
}

func idOf(i int) protocol.PartitionID {
	return protocol.PartitionID{Topic: loadedTopic, Partition: int32(i)}
}

// move carries a move out.
func (c *loadedCluster) move(id protocol.PartitionID, to wal.Life) {
	i := id.Partition
	c.rev++
	c.owners[i], c.revs[i] = to.Broker, c.rev
	c.epochs[i]++
}

func filled(b *LoadBook, img *metadata.Image) []Partition {
	s := StateOf(img)
	b.Fill(&s)
	out := make([]Partition, len(s.Partitions))
	for _, p := range s.Partitions {
		out[p.ID.Partition] = p
	}
	return out
}

// TestLoadBook: whose word counts for what.
func TestLoadBook(t *testing.T) {
	hot, cold := Load{5e6, 50}, Load{1e3, 1}
	c := newLoaded(2, hot, cold, cold, cold)
	var b LoadBook
	check := func(what string, want ...Load) {
		t.Helper()
		for i, p := range filled(&b, c.image()) {
			if p.Load != want[i] {
				t.Errorf("%s: partition %d has %+v, want %+v", what, i, p.Load, want[i])
			}
		}
	}
	check("nobody was asked", Load{}, Load{}, Load{}, Load{})
	b.Learn(c.image(), c.told())
	check("as measured", hot, cold, cold, cold)

	before := c.told()
	c.move(idOf(0), lifeOf(2))
	check("a move, before the next look", hot, cold, cold, cold)
	lie := before[1]
	lie.Partitions = []metadata.PartitionLoad{{ID: idOf(0), Load: metadata.Load{BytesPerSecond: 9e9}}, {ID: protocol.PartitionID{Topic: loadedTopic, Partition: 99}}, {}}
	b.Learn(c.image(), map[int32]metadata.BrokerLoads{1: lie, 2: before[2]})
	ps := filled(&b, c.image())
	if ps[0].Load != hot || !ps[0].Recent || ps[1].Recent {
		t.Errorf("what moved has what its last owner measured: %+v", ps)
	}
	c.loads[0] = Load{7e6, 70}
	c.measured[2] = c.rev
	b.Learn(c.image(), c.told())
	check("the new owner has measured it", c.loads[0], cold, cold, cold)
	if ps := filled(&b, c.image()); ps[0].Recent {
		t.Errorf("measured, and recent still: %+v", ps[0])
	}

	b.Learn(c.image(), nil)
	check("a broker says nothing for a while", c.loads[0], cold, cold, cold)
	other := c.told()
	l := other[2]
	l.Life.Epoch++
	other[2] = l
	b.Learn(c.image(), other)
	check("another life of it speaks", c.loads[0], cold, cold, cold)

	short := c.told()
	l = short[2]
	l.Total, l.Partitions = metadata.Load{BytesPerSecond: 9e6, RequestsPerSecond: 90}, []metadata.PartitionLoad{{ID: idOf(0), Load: metadata.Load(c.loads[0])}}
	short[2] = l
	b.Learn(c.image(), short)
	check("what is not listed shares what is left", c.loads[0], Load{1e6, 10}, cold, Load{1e6, 10})

	var fresh LoadBook
	stale := c.told() // the last owner lists it still
	c.move(idOf(0), lifeOf(1))
	fresh.Learn(c.image(), stale)
	b.Learn(c.image(), c.told())
	check("who saw the move knows", c.loads[0], cold, cold, cold)
	b = fresh
	check("who did not goes by count alone", Load{}, Load{}, Load{}, Load{})
	young := c.told()
	l = young[1]
	l.Partitions = append(l.Partitions, metadata.PartitionLoad{ID: idOf(0), Load: metadata.Load(hot)})
	young[1] = l
	fresh.Learn(c.image(), young)
	b = fresh
	check("some seconds of the new owner are better than nothing", hot, cold, cold, cold)

	var silent LoadBook
	c = newLoaded(2, hot, hot, hot, hot)
	silent.Learn(c.image(), map[int32]metadata.BrokerLoads{1: c.told()[1]})
	if silent.unknown != 2 {
		t.Errorf("of a broker that says nothing %d loads are unknown, want those of its 2 partitions", silent.unknown)
	}
	b = silent
	check("a broker has said nothing yet: by count alone", Load{}, Load{}, Load{}, Load{})
}

// TestNoToAndFro: plans by loads that are told late come to an end, and move no partition again for what a move of it has done.
func TestNoToAndFro(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		n := rapid.IntRange(2, 5).Draw(rt, "brokers")
		var mean []Load
		for range n * (20 + r.IntN(20)) {
			mean = append(mean, Load{0.5e6 + r.Float64()*4.5e6, 50 + r.Float64()*450})
		}
		for i := range mean { // broker 1 has the hot ones
			if i%n == 0 {
				mean[i] = Load{mean[i].BytesPerSecond * 3, mean[i].RequestsPerSecond * 3}
			}
		}
		c := newLoaded(n, mean...)
		var b LoadBook
		const late, ticks = 4, 50 // ticks of 30 s; loads of a new owner are known after 2 min
		var revs []int64
		last, moves := 0, map[protocol.PartitionID]int{}
		for tick := range ticks {
			revs = append(revs, c.rev)
			for id := range c.measured {
				c.measured[id] = revs[max(0, tick-late)]
			}
			b.Learn(c.image(), c.told())
			s := StateOf(c.image())
			b.Fill(&s)
			for _, m := range Plan(s, Options{MovesMax: 3}) {
				c.move(m.ID, m.To)
				moves[m.ID]++
				last = tick
			}
		}
		if len(moves) == 0 {
			rt.Fatal("nothing moves")
		}
		if last > ticks-20 {
			rt.Fatalf("there are moves after %d of %d ticks", last, ticks)
		}
		for id, n := range moves {
			if n > 2 { // for the load, and for the count
				rt.Fatalf("%v moved %d times", id, n)
			}
		}
	})
}

// officed is a loaded cluster as the controller of broker 1 sees it. Intents are carried out at once.
type officed struct {
	*world
	*loadedCluster
	asked func(ctx context.Context) error // nil: loads are known at once
	hot   int                             // the first partitions are hot on the one broker and on the other in turn, by every look
	looks int
	moves []time.Duration // since the start
	byID  map[protocol.PartitionID]int
}

func (o *officed) Image() *metadata.Image {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.image()
}

func (o *officed) Loads(ctx context.Context) (map[int32]metadata.BrokerLoads, error) {
	if o.asked != nil {
		if err := o.asked(ctx); err != nil {
			return nil, err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.looks++
	for i := range o.hot {
		o.loads[i] = Load{}
		if int(o.owners[i]) == o.looks%2+1 {
			o.loads[i] = Load{5e6, 10}
		}
	}
	for id := range o.measured {
		o.measured[id] = o.rev
	}
	return o.told(), nil
}

func (o *officed) Assign(_ context.Context, _ metadata.Controller, intents []metadata.Intent) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, in := range intents {
		o.move(in.ID, in.To)
		o.moves = append(o.moves, time.Since(o.began))
		if o.byID == nil {
			o.byID = map[protocol.PartitionID]int{}
		}
		o.byID[in.ID]++
	}
	return len(intents), nil
}

// govern lets broker 1's controller work for some time of the bubble's.
func (o *officed) govern(t *testing.T, d, every, rest time.Duration) {
	t.Helper()
	c := New(Config{
		Self: lifeOf(1), Cluster: o, LeaseTTL: testTTL, LoadsEvery: every, RestFor: rest, Logger: slog.New(slog.DiscardHandler),
		Campaign: func(context.Context) (metadata.Controller, bool, error) { return metadata.Controller{}, false, nil },
		Sweep:    func(context.Context) error { return nil },
		Refuses:  func(context.Context, metadata.BrokerInfo) bool { return true },
		LogEnd:   func(context.Context, wal.Life, int64) (int64, error) { return 7, nil },
		Seal: func(_ context.Context, l wal.Life) error {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.sealed[l] = time.Since(o.began)
			return nil
		},
	})
	runFor(t.Context(), t, c, d)
}

// TestRest: a new controller moves nothing for loads at first, then what is hot, and nothing twice before it has rested, however loads swing.
func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &officed{world: newWorld(2), loadedCluster: newLoaded(2, make([]Load, 80)...), hot: 8} // so many that the counts stay even
		const rest = 10 * time.Minute
		o.govern(t, 3*rest, 0, 0)
		if len(o.moves) == 0 {
			t.Fatal("nothing moved")
		}
		if o.moves[0] < rest {
			t.Errorf("the first move came after %v", o.moves[0])
		}
		for id, n := range o.byID {
			if n > 2 { // in the two rests that are left
				t.Errorf("%v moved %d times in %v", id, n, 2*rest)
			}
		}
		if want := int(3 * rest / loadsEvery); o.looks > want+1 || o.looks < want-1 {
			t.Errorf("loads were read %d times in %v, want %d", o.looks, 3*rest, want)
		}
	})
}

// TestLoadsHoldNothingUp: while loads cannot be read, dead brokers' partitions are taken over, and the counts are evened out.
func TestLoadsHoldNothingUp(t *testing.T) {
	for name, asked := range map[string]func(context.Context) error{
		"they fail":         func(context.Context) error { return errors.New("etcd is away") },
		"they never arrive": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &officed{world: newWorld(2), loadedCluster: newLoaded(2, make([]Load, 8)...), asked: asked}
				for i := range 4 {
					o.owners[2*i] = 9 // not registered
				}
				o.govern(t, time.Minute, time.Second, time.Second)
				has := map[int32]int{}
				for _, owner := range o.owners {
					has[owner]++
				}
				if has[1] != 4 || has[2] != 4 || slices.Max(o.moves) > 30*time.Second {
					t.Errorf("partitions by broker: %v, moved at %v", has, o.moves)
				}
			})
		})
	}
}
