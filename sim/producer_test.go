package sim

import (
	"encoding/binary"
	"errors"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
)

// produceTimeout is when a producer gives an attempt up.
const produceTimeout = 4 * time.Second

// remembered is how many batches of a producer a broker remembers, and so how many Kafka's producers have, at most, from the oldest that was
// not answered on: one that is sent again later than that is refused, rightly.
const remembered = 5

var errNoLeader = errors.New("simulated: not the leader")

// producer is an idempotent producer of one partition. What it sends to one broker arrives in order, and so do the answers. After anything but an acknowledgement
// it waits until all attempts are over and sends again what is not acknowledged, in order, to whom it then takes for the leader.
type producer struct {
	w       *world
	id      int64
	part    protocol.PartitionID
	left    int
	seq     int32
	made    int // batches so far
	unacked []*batchSent
	sent    int // of unacked, in this round
	flying  int
	failed  bool
	target  *node
	// arrival is when the last attempt reaches each node, and back when its last answer comes.
	arrival, back map[*node]time.Duration
	// known: something was acknowledged. Until then one batch is sent at a time: a log that knows nothing of a producer takes any
	// sequence number, in Kafka too.
	known bool
}

// batchSent is a batch of a producer.
type batchSent struct {
	number  int // among those of its producer
	id      batchID
	name    string
	records int32
	keys    []string
	bytes   record.Batch
}

// batchID names a batch by its producer and first sequence number.
type batchID struct {
	producer int64
	seq      int32
}

func (p *producer) next() *batchSent {
	b := &batchSent{number: p.made, id: batchID{p.id, p.seq}, name: strconv.Itoa(int(p.id)) + " " + strconv.Itoa(int(p.seq)), records: 1 + p.w.rng.Int32N(3)}
	var rb record.Builder
	for range b.records {
		b.keys = append(b.keys, string('a'+rune(p.w.rng.IntN(4))))
		rb.Append(time.Now().UnixMilli(), []byte(b.keys[len(b.keys)-1]), make([]byte, p.w.rng.IntN(60)))
	}
	b.bytes = rb.Build()
	be := binary.BigEndian
	be.PutUint64(b.bytes[43:], uint64(p.id))
	be.PutUint16(b.bytes[51:], 0)
	be.PutUint32(b.bytes[53:], uint32(p.seq))
	be.PutUint32(b.bytes[17:], crc32c.Sum(b.bytes[record.CoveredFrom:]))
	p.seq += b.records
	p.made++
	return b
}

func (p *producer) done() bool { return p.left == 0 && len(p.unacked) == 0 }

// pump sends what may be sent.
func (p *producer) pump() {
	if p.failed {
		if p.flying == 0 {
			p.failed, p.sent, p.target = false, 0, nil
			p.w.after(p.w.between(20*time.Millisecond, 400*time.Millisecond), p.pump)
		}
		return
	}
	for p.flying < p.pipeline() && (p.sent < len(p.unacked) || p.left > 0) {
		if p.target == nil {
			p.target = p.w.leader(p.part)
		}
		if p.target == nil {
			p.w.after(200*time.Millisecond, p.pump)
			return
		}
		if p.sent == len(p.unacked) {
			if len(p.unacked) > 0 && p.made-p.unacked[0].number >= remembered {
				return
			}
			p.unacked = append(p.unacked, p.next())
			p.left--
		}
		p.sent++
		p.send(p.unacked[p.sent-1], p.target)
	}
}

func (p *producer) pipeline() int {
	if !p.known {
		return 1
	}
	return p.w.cfg.pipeline
}

// send is one attempt.
func (p *producer) send(b *batchSent, n *node) {
	w := p.w
	p.flying++
	over := new(bool)
	answer := func(err error, current bool) {
		if *over {
			return
		}
		*over = true
		p.flying--
		p.judge(b, err, current)
	}
	at := max(w.now()+w.delay(), p.arrival[n]+1)
	p.arrival[n] = at
	n.after(at-w.now(), func() {
		n.produce(p.part, b, func(err error, current bool) {
			p.back[n] = max(w.now()+w.delay(), p.back[n]+1)
			w.push(event{at: p.back[n], over: over, run: func() { answer(err, current) }})
		})
	})
	w.push(event{at: w.now() + produceTimeout, over: over, run: func() { answer(errNoLeader, false) }})
}

// judge takes the answer to an attempt. current: it came from who owns the partition in agreed state.
func (p *producer) judge(b *batchSent, err error, current bool) {
	i := slices.Index(p.unacked, b)
	switch {
	case err == nil && i >= 0:
		p.unacked, p.known = slices.Delete(p.unacked, i, i+1), true
		if i < p.sent {
			p.sent--
		}
		pace := p.w.cfg.pace
		if p.w.calm { // what is left is to show that the cluster is well
			pace = min(pace, 20*time.Millisecond)
		}
		p.w.after(p.w.between(0, pace), p.pump)
		return
	case err == nil:
		p.w.violate("answer", "batch %v was acknowledged twice to one producer", b.id)
	case errors.Is(err, partition.ErrOutOfOrderSequence) && current && i == 0:
		p.w.violate("producer", "the owner of %d has forgotten what came before batch %v: %v", p.part.Partition, b.id, err)
	}
	p.failed = true
	p.pump()
}

// produce is a produce request at a node.
func (n *node) produce(id protocol.PartitionID, b *batchSent, reply func(err error, current bool)) {
	var l *partition.Log
	open := n.ready
	if open {
		l, open = n.set.Get(id)
	}
	if !open {
		reply(errNoLeader, false)
		return
	}
	l.Append(partition.AppendInput{Batch: slices.Clone(b.bytes), LogAppendTime: -1}, func(res partition.AppendResult, err error) {
		n.post("answers "+b.name, func() {
			if err == nil {
				n.w.truth.acknowledged(n, id, b, res)
			}
			reply(err, n.owns(id, l.State().LeaderEpoch))
		})
	})
	n.writer.Nudge()
	n.w.stirred.Store(true)
}

// owns reports whether agreed state names the node as the owner, at an epoch.
func (n *node) owns(id protocol.PartitionID, epoch int32) bool {
	v, ok := n.w.etcd.keys[partKey(id)].value.(partValue)
	return ok && v.owner == n.life && v.epoch == epoch
}

// leader is who some broker takes for the leader, or anybody.
func (w *world) leader(id protocol.PartitionID) *node {
	n, ok := pick(w, w.alive())
	if !ok || w.faulty(.1) {
		return n
	}
	if t := n.image.TopicsByID[id.Topic]; t != nil {
		return w.nodeOf(t.Partitions[id.Partition].Owner.Broker)
	}
	return nil
}

// nodeOf is whom clients reach under a broker's address: its process, or sometimes an earlier one that runs on.
func (w *world) nodeOf(id int32) *node {
	b := w.brokers[id]
	if len(b.past) > 0 && w.faulty(.1) {
		if n, ok := pick(w, b.past); ok && !n.dead {
			return n
		}
	}
	if b.now == nil || b.now.dead {
		return nil
	}
	return b.now
}

// alive are the processes that serve, paused or not.
func (w *world) alive() []*node {
	if w.living == nil {
		w.living = make([]*node, 0, 8)
		for n := range w.processes() {
			if n.ready && !n.dead {
				w.living = append(w.living, n)
			}
		}
	}
	return w.living
}

// processes are all that were started.
func (w *world) processes() iter.Seq[*node] {
	return func(yield func(*node) bool) {
		for _, b := range w.brokers {
			for _, n := range b.past {
				if !yield(n) {
					return
				}
			}
			if b.now != nil && !yield(b.now) {
				return
			}
		}
	}
}
