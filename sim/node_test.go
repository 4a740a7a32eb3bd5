package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

var (
	simCluster = wal.Cluster{ID: "simulated-cluster-0001", Generation: 2}
	quiet      = slog.New(slog.DiscardHandler)
)

// broker is a broker's id, under which one process follows another. A process that is taken for dead may run on beside its successor.
type broker struct {
	w    *world
	id   int32
	now  *node
	past []*node
}

// node is one process of a broker, with one life: the real Set, Writer and Seal, and of package broker what ties them to agreed state.
type node struct {
	*process
	broker *broker
	serial uint64
	meta   *agreed
	bucket *store

	// Set by start, before ready.
	life   wal.Life
	set    *partition.Set
	writer *wal.Writer
	// claimsOpen: the last claims failed, and what was opened for them is to be dropped, or is ours.
	claimsOpen atomic.Bool

	// Owned by the world.
	ready   bool
	image   *metadata.Image
	rev     int64
	waiters []waiter
	// watching: a new image is on its way.
	watching bool
	work     map[string]*job
	// proof is when the last read of agreed state began that found the life OPEN.
	proof  time.Duration
	office office
}

type waiter struct {
	rev  int64
	done func()
}

// job is something a node does over and over, once at a time.
type job struct{ running, again bool }

func partition0(i int32) protocol.PartitionID {
	return protocol.PartitionID{Topic: protocol.TopicID{1}, Partition: i}
}

// boot starts a process of the broker.
func (b *broker) boot() {
	w := b.w
	w.lives++
	n := &node{
		process: newProcess(w, fmt.Sprintf("%d.%d", b.id, w.lives)), broker: b, serial: w.lives, work: map[string]*job{},
		image: w.image(), rev: w.etcd.rev, proof: -time.Hour,
	}
	n.office.sealed, n.office.pursued = map[wal.Life]bool{}, map[wal.Life]bool{}
	n.bucket = &store{p: n.process}
	n.reconnected = func() {
		if n.watching {
			n.after(w.between(time.Millisecond, time.Second), n.look)
		}
	}
	n.meta = &agreed{p: n.process, caughtUp: n.catchUpTo}
	if b.now != nil {
		b.past = append(b.past, b.now)
	}
	b.now = n
	w.living = nil
	w.trace("boot", "%s", n.name)
	source := rand.NewPCG(w.rng.Uint64(), 1)
	n.spawn("start", func(ctx context.Context) error { return n.start(ctx, source) }, func(err error) {
		if err != nil {
			w.trace("start failed", "%s: %v", n.name, err)
			n.fall(time.Second)
			return
		}
		n.serve()
	})
}

// start is what a broker does before it serves.
func (n *node) start(ctx context.Context, source rand.Source) error {
	var nonce [8]byte
	binary.BigEndian.PutUint64(nonce[:], n.serial)
	life, err := n.meta.OpenLife(ctx, n.broker.id, nonce)
	if err != nil {
		return err
	}
	n.life = life
	if err := n.open(source); err != nil {
		return err
	}
	if err := n.endPreviousLives(ctx); err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		err := n.claimOnce(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil || attempt == 10 {
			return err
		}
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
	}
	return n.meta.Register(ctx, life)
}

// open makes the set and the writer of the life.
func (n *node) open(source rand.Source) error {
	c := &n.w.cfg
	set, err := partition.NewSet(partition.Options{
		Life: n.life, Store: n.bucket, Manifests: n.meta, Logger: quiet, Faults: c.mistakes.partition,
		TailBytes: c.tailBytes, CheckpointInterval: c.checkpoint, DeleteDelay: c.deleteDelay, SweepInterval: c.sweep, TidyInterval: c.tidy,
		Policy: func(protocol.TopicID) *partition.Policy { return &c.policy },
		Upkeep: func() partition.Upkeep {
			u := partition.DefaultUpkeep()
			u.InitialDelay, u.RetentionInterval, u.CompactionBackoff = 3*time.Second, 2*time.Second, 2*time.Second
			return u
		},
	})
	if err != nil {
		return err
	}
	n.set = set
	n.writer = wal.NewWriter(n.life, n.bucket, sink{n}, wal.Options{
		Cluster: simCluster, Window: c.window, SlotBytes: c.slotBytes, FlushInterval: c.interval, Logger: quiet, Random: source,
	})
	set.UseWAL(n.writer)
	n.spawn("writer", n.writer.Run, func(error) {})
	return nil
}

// serve begins the work of a broker that owns what it can.
func (n *node) serve() {
	n.ready = true
	n.w.living = nil
	n.w.trace("serves", "%s as %s", n.name, n.life)
	n.meta.opened = func(l wal.Life, began time.Duration) {
		if l == n.life {
			n.post("proof", func() { n.proof = max(n.proof, began) })
		}
	}
	n.spawn("run", n.set.Run, func(error) {})
	n.spawn("keep", n.set.Keep, func(error) {})
	n.react()
	n.tick()
}

// sink tells the set what became durable, and the world that the life was fenced.
type sink struct{ n *node }

func (s sink) Committed(slot *wal.Slot) { s.n.set.Committed(slot) }

func (s sink) Fenced(err error) {
	s.n.set.Fenced(err)
	s.n.post("fenced", func() {
		s.n.w.trace("fenced", "%s: %v", s.n.name, err)
		s.n.fall(s.n.w.between(0, 5*time.Second))
	})
}

// fall ends the process after a while, and another follows.
func (n *node) fall(after time.Duration) {
	n.after(after, n.die)
}

func (n *node) die() {
	if n.dead {
		return
	}
	n.w.trace("crash", "%s", n.name)
	n.crash()
	n.w.after(n.w.between(time.Second, 8*time.Second), func() { n.w.etcd.expire(n.process) })
	if n.broker.now == n {
		n.w.after(n.w.between(10*time.Millisecond, 6*time.Second), func() {
			if n.broker.now == n {
				n.broker.boot()
			}
		})
	}
}

// catchUpTo calls done when the image is as new as rev.
func (n *node) catchUpTo(rev int64, done func()) {
	if n.rev >= rev {
		done()
		return
	}
	n.waiters = append(n.waiters, waiter{rev, done})
}

// look takes over the present image.
func (n *node) look() {
	if n.cut {
		return // it looks when that is over
	}
	n.watching = false
	n.image, n.rev = n.w.image(), n.w.etcd.rev
	waiting := n.waiters
	n.waiters = nil
	for _, x := range waiting {
		n.catchUpTo(x.rev, x.done)
	}
	if n.ready {
		n.react()
	}
}

// changed lets every process hear of a change: soon, or, when its watch is lost, when it lists again.
func (w *world) changed() {
	for n := range w.processes() {
		if n.dead || n.watching {
			continue
		}
		n.watching = true
		d := w.between(time.Millisecond, 40*time.Millisecond)
		if w.faulty(w.cfg.watchLost) {
			w.trace("watch lost", "%s", n.name)
			d = w.between(time.Second, 20*time.Second)
		}
		n.after(d, n.look)
	}
}

// image is the agreed state as readers see it.
func (w *world) image() *metadata.Image {
	if w.seen != nil && w.seen.Revision == w.etcd.rev {
		return w.seen
	}
	i := &metadata.Image{Revision: w.etcd.rev, Brokers: map[int32]metadata.Broker{}, TopicsByID: map[protocol.TopicID]*metadata.Topic{}}
	for _, b := range w.brokers {
		if life, ok := w.etcd.keys[brokerKey(b.id)].value.(wal.Life); ok {
			i.Brokers[b.id] = metadata.Broker{Life: life}
		}
	}
	if c := w.etcd.keys[controllerKey]; c.value != nil {
		i.Controller = metadata.Controller{Life: c.value.(wal.Life), Rev: c.rev}
	}
	t := &metadata.Topic{Name: "t", ID: partition0(0).Topic}
	for _, st := range w.etcd.partitions() {
		target, _ := w.etcd.keys[intentKey(st.ID)].value.(wal.Life)
		t.Partitions = append(t.Partitions, metadata.Partition{Owner: st.Owner, LeaderEpoch: st.LeaderEpoch, Rev: st.Rev, Target: target})
	}
	if len(t.Partitions) > 0 {
		i.TopicsByID[t.ID] = t
	}
	w.seen = i
	return i
}

// do runs a job unless it runs already; then it runs once more.
func (n *node) do(what string, f func(ctx context.Context, img *metadata.Image) error) {
	j := n.work[what]
	if j == nil {
		j = &job{}
		n.work[what] = j
	}
	if j.running {
		j.again = true
		return
	}
	j.running = true
	img := n.image
	n.spawn(what, func(ctx context.Context) error { return f(ctx, img) }, func(err error) {
		j.running = false
		switch {
		case err != nil:
			n.w.trace(what+" failed", "%s: %v", n.name, err)
			n.after(500*time.Millisecond, n.react)
		case j.again:
			n.after(0, n.react)
		}
		j.again = false
	})
}
