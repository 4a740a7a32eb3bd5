package rawdriver

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/protocol/record"
)

// Fetch describes a run of consumers. Each connection reads one partition from its first offset to its end, again and again, so
// that a broker serves what it has in memory; or once.
type Fetch struct {
	Addr, Topic string
	Partitions  int
	Conns       int
	MaxBytes    int // of an answer
	For         time.Duration
	Once        bool    // to the end instead of a time
	MBPerSecond float64 // at most, over all connections; 0: as fast as answers come
}

// Run fetches until the time is over.
func (f Fetch) Run(ctx context.Context) (Result, error) {
	group, ctx := errgroup.WithContext(ctx)
	consumers := make([]*consumer, f.Conns)
	for i := range consumers {
		nc, err := dial(ctx, f.Addr)
		if err != nil {
			return Result{}, err
		}
		defer nc.Close()
		consumers[i] = newConsumer(f, int32(i%f.Partitions), nc)
		if err := consumers[i].bounds(); err != nil {
			return Result{}, err
		}
	}
	stop := context.AfterFunc(ctx, func() {
		for _, c := range consumers {
			c.nc.Close()
		}
	})
	defer stop()
	begun := time.Now()
	for _, c := range consumers {
		group.Go(func() error { return c.run(begun) })
	}
	if err := group.Wait(); err != nil {
		return Result{}, err
	}
	all := Result{Seconds: time.Since(begun).Seconds(), Latency: newHistogram()}
	for _, c := range consumers {
		all.Requests += c.requests
		all.Bytes += c.bytes
		all.Records += c.records
		all.Latency.Merge(c.latency)
	}
	all.finish()
	return all, nil
}

type consumer struct {
	Fetch
	partition int32
	nc        net.Conn
	frame     []byte
	offsetAt  int // in frame

	first, end, next         int64
	requests, bytes, records int64
	latency                  *hdrhistogram.Histogram
}

func newConsumer(f Fetch, partition int32, nc net.Conn) *consumer {
	c := &consumer{Fetch: f, partition: partition, nc: nc, latency: newHistogram()}
	const marker = 0x1122334455667788
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.SessionEpoch, req.MaxWaitMillis = fetchVersion, -1, -1, 500
	req.MinBytes, req.MaxBytes = 1, int32(f.MaxBytes)
	t, p := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	t.Topic, p.Partition, p.FetchOffset, p.PartitionMaxBytes = f.Topic, partition, marker, int32(f.MaxBytes)
	p.CurrentLeaderEpoch = -1
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	c.frame = kmsg.NewRequestFormatter(kmsg.FormatterClientID("raw")).AppendRequest(nil, req, 0)
	for binary.BigEndian.Uint64(c.frame[c.offsetAt:]) != marker {
		c.offsetAt++
	}
	return c
}

// bounds asks where the partition begins and ends.
func (c *consumer) bounds() error {
	for _, at := range []struct {
		timestamp int64
		to        *int64
	}{{-2, &c.first}, {-1, &c.end}} {
		req := kmsg.NewPtrListOffsetsRequest()
		req.Version, req.ReplicaID = 6, -1
		t, p := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
		t.Topic, p.Partition, p.Timestamp, p.CurrentLeaderEpoch = c.Topic, c.partition, at.timestamp, -1
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
		resp, err := roundTrip(c.nc, req)
		if err != nil {
			return fmt.Errorf("list offsets: %w", err)
		}
		got := resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
		if got.ErrorCode != 0 {
			return fmt.Errorf("list offsets: error code %d", got.ErrorCode)
		}
		*at.to = got.Offset
	}
	if c.first == c.end {
		return ErrNothing
	}
	return nil
}

func (c *consumer) run(begun time.Time) error {
	r := bufio.NewReaderSize(c.nc, 256<<10)
	var body, buf []byte
	c.next = c.first
	for correlation := uint32(0); ; correlation++ {
		c.pace(begun)
		sent := time.Now()
		if !c.Once && c.requests > 0 && sent.Sub(begun) > c.For {
			return nil
		}
		_, err := c.nc.Write(c.ask(correlation, c.next))
		if err == nil {
			if body, buf, err = readFrame(r, buf, correlation); err == nil {
				err = c.check(body)
			}
		}
		if err != nil {
			return fmt.Errorf("fetch at offset %d: %w", c.next, err)
		}
		c.requests++
		record1(c.latency, time.Since(sent))
		if c.next < c.end {
			continue
		}
		if c.Once {
			return nil
		}
		c.next = c.first
	}
}

// ask returns the request for what lies from offset on.
func (c *consumer) ask(correlation uint32, offset int64) []byte {
	binary.BigEndian.PutUint32(c.frame[8:], correlation)
	binary.BigEndian.PutUint64(c.frame[c.offsetAt:], uint64(offset))
	return c.frame
}

// pace waits while the connection is ahead of its share of the rate.
func (c *consumer) pace(begun time.Time) {
	if c.MBPerSecond == 0 {
		return
	}
	due := time.Duration(float64(c.bytes) * float64(c.Conns) / (c.MBPerSecond * 1e6) * float64(time.Second))
	if wait := time.Until(begun.Add(due)); wait > 0 {
		<-time.After(wait)
	}
}

// check reads a Fetch answer of version 12 with one partition and walks its batches.
func (c *consumer) check(body []byte) error {
	in := cursor{b: body}
	in.tags()
	in.int32() // throttle time
	if code := in.int16(); code != 0 {
		return fmt.Errorf("error code %d", code)
	}
	in.int32() // session
	for range in.uvarint() - 1 {
		in.take(in.uvarint() - 1)
		for range in.uvarint() - 1 {
			in.int32()
			if code := in.int16(); code != 0 {
				return fmt.Errorf("partition %d: error code %d", c.partition, code)
			}
			in.take(24) // high watermark, last stable offset, log start
			for range in.uvarint() - 1 {
				in.take(16)
				in.tags()
			}
			in.int32() // preferred replica
			if err := c.walk(in.take(max(in.uvarint()-1, 0))); err != nil {
				return err
			}
			in.tags()
		}
		in.tags()
	}
	if in.short {
		return errShort
	}
	return nil
}

// walk goes from batch to batch; the last may be cut short.
func (c *consumer) walk(b []byte) error {
	for len(b) >= record.HeaderSize {
		batch := record.Batch(b)
		size := 12 + int(binary.BigEndian.Uint32(b[8:]))
		if size < record.HeaderSize || size > len(b) {
			return nil
		}
		if base := batch.BaseOffset(); base != c.next {
			return fmt.Errorf("a batch at offset %d where %d is due", base, c.next)
		}
		c.next = batch.LastOffset() + 1
		c.bytes += int64(size)
		c.records += int64(batch.NumRecords())
		b = b[size:]
	}
	return nil
}
