package group

import (
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/coordinator"
	"github.com/tidemill/tidemill/protocol"
)

// ShardOf returns the partition of __consumer_offsets that holds the group: Java's String.hashCode over UTF-16 code
// units, made positive as Kafka does, modulo the number of partitions.
func ShardOf(group string, shards int32) int32 {
	var hash int32
	for _, r := range group {
		if r >= 0x10000 {
			r -= 0x10000
			hash = 31*hash + (0xd800 + r>>10)
			r = 0xdc00 + r&0x3ff
		}
		hash = 31*hash + r
	}
	if hash < 0 {
		hash = -hash
	}
	if hash < 0 { // the smallest int has no opposite
		hash = 0
	}
	return hash % shards
}

// shardOf is ShardOf for the topic as it is now.
func (c *Coordinator) shardOf(group string) int32 { return ShardOf(group, c.o.Shards()) }

// submit runs op on the machine that has the group.
func (c *Coordinator) submit(shard int32, op func(*machine), fail func(error)) {
	c.runtime.Submit(shard, begun(op), fail)
}

// submitWrite is submit for what a client may ask for again and again and is written each time.
func (c *Coordinator) submitWrite(shard int32, op func(*machine), fail func(error)) {
	c.runtime.SubmitWrite(shard, begun(op), fail)
}

func begun(op func(*machine)) func(*machine, time.Time, *coordinator.Output) {
	return func(m *machine, now time.Time, out *coordinator.Output) {
		m.begin(now, out)
		op(m)
	}
}

// replyAll is submit for requests with one answer: op fills it in, code puts an error into it, send sends it.
func (c *Coordinator) replyAll(shard int32, op func(*machine), code func(protocol.ErrorCode), send func()) {
	c.replyTo(c.submit, shard, op, code, send)
}

// replyTo is replyAll by submit or submitWrite.
func (c *Coordinator) replyTo(submit func(int32, func(*machine), func(error)), shard int32, op func(*machine), code func(protocol.ErrorCode), send func()) {
	fail := func(err error) {
		code(codeOf(err))
		send()
	}
	submit(shard, func(m *machine) {
		op(m)
		m.out.Reply(func(err error) {
			if err != nil {
				fail(err)
				return
			}
			send()
		})
	}, fail)
}

// A gather calls done when all parts of an answer are there. Parts write to places of their own, before part.
type gather struct {
	left atomic.Int32
	done func()
}

// newGather returns a gather of n parts.
func newGather(n int, done func()) *gather {
	g := &gather{done: done}
	g.left.Store(int32(n))
	return g
}

func (g *gather) part() {
	if g.left.Add(-1) == 0 {
		g.done()
	}
}

// byShard returns for each shard the indexes of the first occurrence of each group. Groups that are asked for again
// are answered once: their answers may be large.
func (c *Coordinator) byShard(n int, group func(i int) string) map[int32][]int {
	seen := make(map[string]bool, n)
	shards := make(map[int32][]int)
	for i := range n {
		id := group(i)
		if seen[id] {
			continue
		}
		seen[id] = true
		shard := c.shardOf(id)
		shards[shard] = append(shards[shard], i)
	}
	return shards
}

// newID returns a random UUID.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
