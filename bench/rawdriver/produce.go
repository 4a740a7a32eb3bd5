package rawdriver

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/protocol/record"
)

// Produce describes a run of producers. Partitions must be a multiple of Conns × PartsPerRequest, or each offset is checked
// only for being given.
type Produce struct {
	Addr, Topic string
	Partitions  int // of the topic, which is created if absent

	Conns           int // connections
	Depth           int // requests in flight on each
	PartsPerRequest int // partitions, of one batch each, in a request
	BatchBytes      int
	RecordBytes     int
	Batch           record.Batch // sent instead of one made of BatchBytes and RecordBytes
	// Keyed gives each place in a connection's window a batch of its own whose records have keys, all different: so the keys of
	// a connection's partitions come again after Depth batches.
	Keyed bool

	Rate float64 // requests per second over all connections; 0: as fast as answers allow
	// For is how long to send, unless Requests is set. With a Rate what is late by then is sent too, for as long again at most.
	For      time.Duration
	Requests int // per connection
}

// Run sends until the time is over and waits for all answers.
func (p Produce) Run(ctx context.Context) (Result, error) {
	if err := CreateTopic(ctx, p.Addr, p.Topic, p.Partitions); err != nil {
		return Result{}, err
	}
	batch := p.Batch
	if batch == nil {
		batch = Batch(p.BatchBytes, p.RecordBytes)
	}
	if p.Keyed {
		batch = KeyedBatch(p.BatchBytes, p.RecordBytes, 0)
	}
	group, ctx := errgroup.WithContext(ctx)
	producers := make([]*producer, p.Conns)
	for i := range producers {
		nc, err := dial(ctx, p.Addr)
		if err != nil {
			return Result{}, err
		}
		defer nc.Close()
		producers[i] = newProducer(p, i, nc, batch)
	}
	stop := context.AfterFunc(ctx, func() {
		for _, pr := range producers {
			pr.nc.Close()
		}
	})
	defer stop()
	begun := time.Now()
	for _, pr := range producers {
		pr.begun = begun
		group.Go(pr.send)
		group.Go(pr.receive)
	}
	if err := group.Wait(); err != nil {
		return Result{}, err
	}
	all := Result{Seconds: time.Since(begun).Seconds(), Latency: newHistogram()}
	if p.Rate > 0 {
		all.Delay = newHistogram()
	}
	for _, pr := range producers {
		all.Requests += pr.acked
		all.Latency.Merge(pr.latency)
		if all.Delay != nil {
			all.Delay.Merge(pr.delay)
		}
	}
	batches := all.Requests * int64(p.PartsPerRequest)
	all.Bytes, all.Records = batches*int64(len(batch)), batches*int64(batch.NumRecords())
	all.finish()
	return all, nil
}

// A producer is one connection with a sender and a receiver.
type producer struct {
	Produce
	nc     net.Conn
	begun  time.Time
	every  time.Duration // between intended sends of this connection
	phase  time.Duration // of its first
	frames []byte        // Depth frames, one after the other, sent from in place
	size   int           // of a frame
	count  int64         // records of a batch

	mu    sync.Mutex
	moved sync.Cond // an answer came, the sender ended, or the receiver failed
	sent  int64
	acked int64
	done  bool // no more will be sent
	err   error
	sends []time.Time // of the request in each place: intended, in an open loop

	latency, delay *hdrhistogram.Histogram
	next           map[int32]int64 // offset due in each partition
	owned          bool            // nobody else writes to its partitions
}

func newProducer(p Produce, i int, nc net.Conn, batch record.Batch) *producer {
	pr := &producer{
		Produce: p, nc: nc, count: int64(batch.NumRecords()), sends: make([]time.Time, p.Depth),
		latency: newHistogram(), delay: newHistogram(), next: map[int32]int64{},
		owned: p.Partitions >= p.Conns*p.PartsPerRequest,
	}
	pr.moved.L = &pr.mu
	frame := p.request(i, batch)
	pr.size = len(frame)
	for place := range p.Depth {
		if p.Keyed {
			frame = p.request(i, KeyedBatch(p.BatchBytes, p.RecordBytes, (i*p.Depth+place)*int(pr.count)))
		}
		pr.frames = append(pr.frames, frame...)
	}
	if p.Rate > 0 {
		pr.every = time.Duration(float64(time.Second) * float64(p.Conns) / p.Rate)
		pr.phase = pr.every * time.Duration(i) / time.Duration(p.Conns)
	}
	return pr
}

// request is the frame that connection i sends.
func (p Produce) request(i int, batch record.Batch) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = produceVersion, -1, 60_000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = p.Topic
	for j := range p.PartsPerRequest {
		part := kmsg.NewProduceRequestTopicPartition()
		part.Partition, part.Records = int32((i*p.PartsPerRequest+j)%p.Partitions), batch
		t.Partitions = append(t.Partitions, part)
	}
	req.Topics = append(req.Topics, t)
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("raw")).AppendRequest(nil, req, 0)
}

// send writes frames while the window is open.
func (p *producer) send() error {
	defer func() { _ = p.end(nil) }() // what failed before was returned
	for {
		from, n, err := p.place()
		if n == 0 || err != nil {
			return err
		}
		at := int(from % int64(p.Depth))
		n = min(n, p.Depth-at)
		if from, n, err = p.due(from, n); n == 0 || err != nil {
			return err
		}
		now := time.Now()
		p.mu.Lock()
		for i := range n {
			p.sends[at+i] = now
			if p.every > 0 {
				intended := p.intended(from + int64(i))
				p.sends[at+i] = intended
				record1(p.delay, now.Sub(intended))
			}
			binary.BigEndian.PutUint32(p.frames[(at+i)*p.size+8:], uint32(from)+uint32(i))
		}
		p.sent = from + int64(n)
		p.moved.Broadcast()
		p.mu.Unlock()
		for i := range n { // a write for each request, as clients do: a broker that is sent more at once is spared work
			if _, err := p.nc.Write(p.frames[(at+i)*p.size : (at+i+1)*p.size]); err != nil {
				return p.end(err)
			}
		}
	}
}

func (p *producer) intended(i int64) time.Time {
	return p.begun.Add(p.phase + time.Duration(i)*p.every)
}

// place waits until requests may be sent and returns the first one's number and how many; none when the run is over.
func (p *producer) place() (from int64, n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.sent-p.acked >= int64(p.Depth) && p.err == nil {
		p.moved.Wait()
	}
	if p.err != nil {
		return 0, 0, p.err
	}
	n = p.Depth - int(p.sent-p.acked)
	if p.Requests > 0 {
		n = min(n, p.Requests-int(p.sent))
	} else if time.Since(p.begun) >= p.patience() {
		n = 0
	}
	return p.sent, n, nil
}

// patience is how long requests are sent. In an open loop due ends the run: what is late is sent, for as long again at most.
func (p *producer) patience() time.Duration {
	if p.every > 0 {
		return 2 * p.For
	}
	return p.For
}

// due waits until the first of n requests is to be sent and returns how many are due then. In a closed loop all are.
func (p *producer) due(from int64, n int) (int64, int, error) {
	if p.every == 0 {
		return from, n, nil
	}
	over := func(i int64) bool { return p.Requests == 0 && p.intended(i).Sub(p.begun) >= p.For }
	if over(from) {
		return from, 0, nil
	}
	if wait := time.Until(p.intended(from)); wait > 0 {
		<-time.After(wait)
	}
	k := 1
	for now := time.Now(); k < n && !p.intended(from+int64(k)).After(now) && !over(from+int64(k)); {
		k++
	}
	return from, k, nil
}

// end tells the other half that this one has ended.
func (p *producer) end(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = true
	if p.err == nil {
		p.err = err
	}
	p.moved.Broadcast()
	return p.err
}

// receive checks answers until the sender has ended and all are there.
func (p *producer) receive() error {
	r := bufio.NewReaderSize(p.nc, 64<<10)
	var buf []byte
	var body []byte
	for correlation := int64(0); ; {
		more, err := p.expect(correlation)
		if !more || err != nil {
			return err
		}
		n := int64(0)
		for { // one look at the clock and one at the lock for all answers that came together
			if body, buf, err = readFrame(r, buf, uint32(correlation+n)); err == nil {
				err = p.check(body)
			}
			if err != nil {
				p.nc.Close()
				return p.end(fmt.Errorf("produce: %w", err))
			}
			n++
			if r.Buffered() < 8 {
				break
			}
		}
		now := time.Now()
		p.mu.Lock()
		for i := range n {
			record1(p.latency, now.Sub(p.sends[(correlation+i)%int64(p.Depth)]))
		}
		p.acked += n
		p.moved.Broadcast()
		p.mu.Unlock()
		correlation += n
	}
}

// expect waits until an answer is due; false: none will be.
func (p *producer) expect(i int64) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.sent <= i && !p.done {
		p.moved.Wait()
	}
	return p.sent > i, p.err
}

// check reads a Produce answer of version 9.
func (p *producer) check(body []byte) error {
	c := cursor{b: body}
	c.tags()
	for range c.uvarint() - 1 {
		c.take(c.uvarint() - 1)
		for range c.uvarint() - 1 {
			partition, code, base := c.int32(), c.int16(), c.int64()
			c.take(16) // log append time, log start
			for range c.uvarint() - 1 {
				c.int32()
				c.take(c.uvarint() - 1)
				c.tags()
			}
			message := c.uvarint() - 1
			text := c.take(max(message, 0))
			c.tags()
			if code != 0 {
				return fmt.Errorf("partition %d: error code %d %s", partition, code, text)
			}
			if due, seen := p.next[partition]; base < 0 || seen && p.owned && base != due {
				return fmt.Errorf("partition %d: offset %d where %d is due", partition, base, due)
			}
			p.next[partition] = base + p.count
		}
		c.tags()
	}
	if c.short {
		return errShort
	}
	return nil
}

// record1 counts a duration in microseconds.
func record1(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d.Microseconds(), 1), 120_000_000)) // within the bounds it was made with
}

// ErrNothing means that a fetch run had nothing to read.
var ErrNothing = errors.New("the partitions are empty")
