// Package rawdriver finds the limits of a broker with as little of its own as possible: it replays batches that were encoded
// once and walks the headers of what it fetches. It speaks Produce 9 and Fetch 12.
//
// Invariants: batches are valid to any broker (CRC, offsets, counts, timestamps); every answer is checked: its correlation
// id, its error code, and that offsets go on where the last ended; a connection that fails ends the run with its error.
package rawdriver

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol/record"
)

// Versions that the driver speaks.
const (
	produceVersion = 9
	fetchVersion   = 12
)

// A Result is what a run did in its measured time. Latencies are of requests, in microseconds.
type Result struct {
	Seconds  float64
	Bytes    int64 // of batches, headers included
	Requests int64
	Records  int64

	Latency *hdrhistogram.Histogram `json:"-"` // an open loop's counts from the intended time of sending
	Delay   *hdrhistogram.Histogram `json:"-"` // of sending after the intended time; nil in a closed loop

	P50Micros, P99Micros, DelayP99Micros int64
}

// MBPerSecond is in 10^6 bytes.
func (r Result) MBPerSecond() float64 { return float64(r.Bytes) / 1e6 / r.Seconds }

// finish fills in what is computed from the histograms.
func (r *Result) finish() {
	r.P50Micros, r.P99Micros = r.Latency.ValueAtQuantile(50), r.Latency.ValueAtQuantile(99)
	if r.Delay != nil {
		r.DelayP99Micros = r.Delay.ValueAtQuantile(99)
	}
}

// newHistogram holds 1 us to 2 min with three digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 120_000_000, 3) }

// Batch makes a valid batch of records of recordBytes bytes of value that is at most about size bytes long.
func Batch(size, recordBytes int) record.Batch {
	return batchOf(size, recordBytes, func(int) []byte { return nil })
}

// KeyedBatch is a Batch whose records have the keys from first on. Keys have one length, and so have batches of one size.
func KeyedBatch(size, recordBytes, first int) record.Batch {
	return batchOf(size, recordBytes, func(i int) []byte { return fmt.Appendf(nil, "key-%012d", first+i) })
}

func batchOf(size, recordBytes int, key func(i int) []byte) record.Batch {
	var build record.Builder
	value := make([]byte, recordBytes)
	for i := range value { // does not compress to nothing, and is the same in every run
		value[i] = byte(i*i>>3 ^ i)
	}
	now := time.Now().UnixMilli()
	for k := key(0); build.Len() == 0 || build.Size()+recordBytes+len(k)+16 <= size; k = key(build.Len()) {
		build.Append(now, k, value)
	}
	return build.Build()
}

// roundTrip sends a request and returns its answer, on a connection without others in flight.
func roundTrip(nc net.Conn, req kmsg.Request) (kmsg.Response, error) {
	if _, err := nc.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(nc, size[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(nc, body); err != nil {
		return nil, err
	}
	resp := req.ResponseKind()
	skip := 4
	if resp.IsFlexible() && resp.Key() != int16(kmsg.ApiVersions) {
		skip = 5
	}
	if len(body) < skip {
		return nil, io.ErrUnexpectedEOF
	}
	return resp, resp.ReadFrom(body[skip:])
}

// dial connects and makes sure that the broker speaks the driver's versions.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	nc, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	req := kmsg.NewPtrApiVersionsRequest()
	resp, err := roundTrip(nc, req)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("ask %s for its versions: %w", addr, err)
	}
	want := map[int16]int16{int16(kmsg.Produce): produceVersion, int16(kmsg.Fetch): fetchVersion}
	for _, k := range resp.(*kmsg.ApiVersionsResponse).ApiKeys {
		if v, ok := want[k.ApiKey]; ok && v >= k.MinVersion && v <= k.MaxVersion {
			delete(want, k.ApiKey)
		}
	}
	if len(want) > 0 {
		nc.Close()
		return nil, fmt.Errorf("%s does not speak Produce %d and Fetch %d", addr, produceVersion, fetchVersion)
	}
	return nc, nil
}

// readFrame reads one answer into buf, growing it, and checks its correlation id. The answer is without size and id.
func readFrame(r *bufio.Reader, buf []byte, correlation uint32) (body, grown []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, buf, err
	}
	n := int(binary.BigEndian.Uint32(head[:])) - 4
	if got := binary.BigEndian.Uint32(head[4:]); got != correlation {
		return nil, buf, fmt.Errorf("answer %d where %d is due", got, correlation)
	}
	if n < 0 || n > 256<<20 {
		return nil, buf, fmt.Errorf("answer of %d bytes", n)
	}
	if n > cap(buf) {
		buf = make([]byte, n, n+n/4)
	}
	buf = buf[:n]
	_, err = io.ReadFull(r, buf)
	return buf, buf, err
}

// A cursor reads an answer's fields in order; after an overrun it reads zeros and short is set.
type cursor struct {
	b     []byte
	short bool
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.short, c.b = true, nil
		return make([]byte, max(min(n, 8), 0))
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) int16() int16 { return int16(binary.BigEndian.Uint16(c.take(2))) }
func (c *cursor) int32() int32 { return int32(binary.BigEndian.Uint32(c.take(4))) }
func (c *cursor) int64() int64 { return int64(binary.BigEndian.Uint64(c.take(8))) }

func (c *cursor) uvarint() int {
	v, n := binary.Uvarint(c.b)
	if n <= 0 || v > 1<<31 {
		c.short, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return int(v)
}

// tags skips tagged fields.
func (c *cursor) tags() {
	for range c.uvarint() {
		c.uvarint()
		c.take(c.uvarint())
		if c.short {
			return
		}
	}
}

var errShort = errors.New("answer is cut short")
