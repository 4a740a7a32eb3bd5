package broker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
)

// Produce: v3-11 (0-11 are advertised, see the protocol package)
//
// Batches are checked, sequenced and handed to the write-ahead log in the order of the connection; the answer waits until
// all of them are durable, whatever acks says, while later produces are already read. acks=0 is never answered (A8).
func init() { handle(protocol.KeyProduce, (*Broker).produce) }

// adminClientID is whom Kafka lets write to internal topics.
const adminClientID = "__admin_client"

// unsaidTimeout is how long produces with acks of 0 and 1 wait at least: Kafka minds the timeout of a request for acks=-1 only, and clients
// set short ones that mean nothing there (A8).
const unsaidTimeout = 30 * time.Second

// A produceCall is one Produce request on its way. The last of its appends to end answers it, or its timer.
type produceCall struct {
	b       *Broker
	c       *call
	v       *view
	acks    int16
	unnamed bool   // a batch is of a transaction and the request names none: nothing is taken (3.2 rule 1)
	release func() // gives the request's frame back
	// waiting is since when the request waits for partitions that are on their way to this broker; zero: it has not waited.
	waiting time.Time
	timer   *time.Timer

	// mu guards what appends that end and the timer share. Until the first append is started the request's goroutine has it
	// all to itself; timer is set before that goroutine counts itself out of pending, so whoever counts last sees it.
	mu struct {
		sync.Mutex
		resp     *kmsg.ProduceResponse
		answered bool
		failed   bool // something was refused
	}
	pending atomic.Int32 // appends that have not ended, and the request itself
}

func (b *Broker) produce(c *call, req *kmsg.ProduceRequest) {
	p := &produceCall{b: b, c: c, v: b.view(), acks: req.Acks, unnamed: req.TransactionID == nil && hasTransactional(req), release: c.detach()}
	p.pending.Store(1)
	p.mu.resp = req.ResponseKind().(*kmsg.ProduceResponse)
	last := lastOccurrences(req)
	for i := range req.Topics {
		t := &req.Topics[i]
		out := kmsg.NewProduceResponseTopic()
		out.Topic = t.Topic
		for j := range t.Partitions {
			if last != nil && !last.is(i, j, t.Partitions[j].Partition) {
				continue
			}
			q := kmsg.NewProduceResponseTopicPartition()
			q.Partition, q.BaseOffset, q.LogAppendTime, q.LogStartOffset = t.Partitions[j].Partition, -1, -1, -1
			out.Partitions = append(out.Partitions, q)
		}
		p.mu.resp.Topics = append(p.mu.resp.Topics, out)
	}
	if id := c.conn.ID(); b.windows.Enter(id) {
		context.AfterFunc(c.ctx, func() { b.windows.Forget(id) })
	}
	p.appendAll(req, last)
	b.wal.Nudge()
	p.arm(time.Duration(req.TimeoutMillis) * time.Millisecond)
	p.end()
}

// place is where a partition stands in a request.
type place struct{ topic, partition int }

// lastOccurrences finds partitions that a request names more than once: the last one counts, as in Kafka. It returns nil
// for the common request with one partition.
func lastOccurrences(req *kmsg.ProduceRequest) *occurrences {
	if len(req.Topics) == 0 || len(req.Topics) == 1 && len(req.Topics[0].Partitions) == 1 {
		return nil
	}
	names, last := topicNumbers{}, &occurrences{at: make(map[numbered]place)}
	for i, t := range req.Topics {
		n := names.of(t.Topic)
		last.topics = append(last.topics, n)
		for j, p := range t.Partitions {
			last.at[numbered{n, p.Partition}] = place{i, j}
		}
	}
	return last
}

// numbered is a partition of a topic that a request's topicNumbers have numbered.
type numbered struct {
	topic     int
	partition int32
}

// occurrences says where a request names each partition for the last time.
type occurrences struct {
	topics []int // numbers of the request's topics
	at     map[numbered]place
}

// is reports whether that is at topic i and partition j of the request.
func (o *occurrences) is(i, j int, partition int32) bool {
	return o.at[numbered{o.topics[i], partition}] == place{i, j}
}

// appendAll starts the append of every partition that is answered for.
func (p *produceCall) appendAll(req *kmsg.ProduceRequest, last *occurrences) {
	for i := range req.Topics {
		t := &req.Topics[i]
		topic := p.v.img.Topics[t.Topic]
		at := 0
		for j := range t.Partitions {
			in := &t.Partitions[j]
			if last != nil && !last.is(i, j, in.Partition) {
				continue
			}
			out := &p.mu.resp.Topics[i].Partitions[at]
			at++
			if refused := p.append(req, topic, in, out); refused != nil {
				p.mu.Lock()
				refused.answer(out)
				p.tellLeaderLocked(topic, refused.code, out)
				p.mu.failed = true
				p.mu.Unlock()
			}
		}
	}
}

// append checks and sequences one partition's batch.
func (p *produceCall) append(req *kmsg.ProduceRequest, t *metadata.Topic, in *kmsg.ProduceRequestTopicPartition,
	out *kmsg.ProduceResponseTopicPartition,
) *produceRefusal {
	if p.unnamed {
		return &produceRefusal{code: protocol.CodeTransactionalIDAuthorizationFailed}
	}
	if req.Acks < -1 || req.Acks > 1 {
		return &produceRefusal{code: protocol.CodeInvalidRequiredAcks}
	}
	if t == nil {
		return &produceRefusal{code: protocol.CodeUnknownTopicOrPartition}
	}
	l, code := p.b.ownedLog(p.v, t, in.Partition)
	if code == protocol.CodeNotLeaderOrFollower {
		if l = p.awaitArrival(t, in.Partition); l != nil {
			code = protocol.CodeNone
		}
	}
	if code != protocol.CodeNone {
		return &produceRefusal{code: code}
	}
	checked, refused := checkProduced(in.Records, produceRules{
		topic: t.Name, partition: in.Partition, version: req.Version, config: p.v.logConfig(t), now: time.Now().UnixMilli(),
		internal: t.Internal && p.c.clientID() != adminClientID,
	})
	if refused != nil {
		if refused.byLog {
			refused.logStart = l.State().LogStart
		}
		return refused
	}
	p.pending.Add(1)
	input := partition.AppendInput{Batch: checked.batch, Origin: partition.OriginClient, LogAppendTime: checked.logAppendTime}
	if &checked.batch[0] == &in.Records[0] { // not compressed anew: it lies in the request's frame
		input.Block = p.c.request.Block()
	}
	l.Append(input,
		func(r partition.AppendResult, err error) { p.appended(t, out, r, err) })
	return nil
}

// appended takes the outcome of one append. It is called from the write-ahead log's goroutine.
func (p *produceCall) appended(t *metadata.Topic, out *kmsg.ProduceResponseTopicPartition, r partition.AppendResult, err error) {
	p.mu.Lock()
	if !p.mu.answered {
		out.ErrorCode = int16(codeOf(err))
		out.BaseOffset, out.LogAppendTime, out.LogStartOffset = r.BaseOffset, r.LogAppendTime, r.LogStart
		p.mu.failed = p.mu.failed || err != nil
		if err != nil {
			p.tellLeaderLocked(t, codeOf(err), out)
		}
	}
	p.mu.Unlock()
	p.end()
}

// end counts one end; the last one answers the request, if its timer has not, and gives the frame back.
func (p *produceCall) end() {
	if p.pending.Add(-1) > 0 {
		return
	}
	if p.timer != nil {
		p.timer.Stop()
	}
	p.b.windows.Leave(p.c.conn.ID())
	p.answer()
	p.release()
}

// arm starts the request's timer. What is not durable by then has an unknown outcome: it stays in the log's hands, and so
// do the request's bytes (3.2).
func (p *produceCall) arm(d time.Duration) {
	if p.pending.Load() == 1 {
		return // every append has ended already
	}
	if p.acks != -1 {
		d = max(d, unsaidTimeout)
	}
	p.timer = time.AfterFunc(max(d, time.Millisecond), p.expire)
}

// expire answers for what is not durable yet. That is no failure: it closes no connection.
func (p *produceCall) expire() {
	p.mu.Lock()
	if !p.mu.answered {
		for i := range p.mu.resp.Topics {
			for j := range p.mu.resp.Topics[i].Partitions {
				q := &p.mu.resp.Topics[i].Partitions[j]
				if q.ErrorCode == 0 && q.BaseOffset < 0 {
					q.ErrorCode = int16(protocol.CodeRequestTimedOut)
				}
			}
		}
	}
	p.mu.Unlock()
	p.answer()
}

// answer sends the response, once.
func (p *produceCall) answer() {
	p.mu.Lock()
	if p.mu.answered {
		p.mu.Unlock()
		return
	}
	p.mu.answered = true
	failed, resp := p.mu.failed, p.mu.resp
	p.mu.Unlock()
	switch {
	case p.acks != 0:
		p.c.reply(resp)
	case failed:
		p.c.hangUp() // A8
	default:
		p.c.silent()
	}
}
