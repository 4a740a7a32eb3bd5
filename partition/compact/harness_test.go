package compact

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/tidemill/tidemill/protocol/record"
)

// A failer is a test, or rapid's.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// null is the key or value of a testRecord that has none.
const null = "\x00null"

type testRecord struct {
	offset, time int64
	key, value   string
	headers      []record.Header
	attributes   byte
}

// kv is a record with a time of its own offset's making.
func kv(offset int64, key, value string) testRecord {
	return testRecord{offset: offset, time: 1000 + offset, key: key, value: value}
}

// A testBatch says what build makes. Its last offset is that of its last record unless last is set.
type testBatch struct {
	base, last int64
	attributes int16
	baseTime   int64
	pid        int64
	epoch      int16
	seq        int32
	records    []testRecord
}

// plain is a batch without a producer.
func plain(records ...testRecord) testBatch {
	return testBatch{base: records[0].offset, pid: -1, epoch: -1, seq: -1, records: records}
}

func (x testBatch) with(attributes int16) testBatch {
	x.attributes |= attributes
	return x
}

func (x testBatch) by(pid int64) testBatch {
	x.pid, x.epoch, x.seq = pid, 3, 40
	return x
}

// marker is the control batch that ends a transaction.
func marker(offset, pid int64, kind uint16) testBatch {
	key := binary.BigEndian.AppendUint16([]byte{0, 0}, kind)
	x := plain(kv(offset, string(key), "\x00\x00\x00\x00\x00\x00")).by(pid).with(record.AttrControl | record.AttrTransactional)
	x.seq = -1
	return x
}

// build encodes a batch without help of the code under test.
func (x testBatch) build(t failer) record.Batch {
	t.Helper()
	var data []byte
	maxTime := int64(-1)
	last := x.last
	for _, r := range x.records {
		body := []byte{r.attributes}
		body = binary.AppendVarint(body, r.time-x.baseTime)
		body = binary.AppendVarint(body, r.offset-x.base)
		body = appendString(body, r.key)
		body = appendString(body, r.value)
		body = binary.AppendVarint(body, int64(len(r.headers)))
		for _, h := range r.headers {
			body = appendString(body, h.Key)
			if h.Value == nil {
				body = appendString(body, null)
			} else {
				body = appendString(body, string(h.Value))
			}
		}
		data = binary.AppendVarint(data, int64(len(body)))
		data = append(data, body...)
		maxTime = max(maxTime, r.time)
		last = max(last, r.offset)
	}
	h := make(record.Batch, record.HeaderSize)
	binary.BigEndian.PutUint32(h[12:], 7)
	h[16] = 2
	binary.BigEndian.PutUint32(h[23:], uint32(last-x.base))
	binary.BigEndian.PutUint64(h[43:], uint64(x.pid))
	binary.BigEndian.PutUint16(h[51:], uint16(x.epoch))
	binary.BigEndian.PutUint32(h[53:], uint32(x.seq))
	h.SetBaseOffset(x.base)
	if x.attributes&record.AttrLogAppendTime != 0 {
		maxTime = 77_777
	}
	out := append(make(record.Batch, record.HeaderSize), data...)
	record.Derive(out, h, record.Derivation{
		Attributes:    x.attributes &^ record.AttrCodec,
		BaseTimestamp: x.baseTime,
		MaxTimestamp:  maxTime,
		NumRecords:    int32(len(x.records)),
	})
	codec := record.Codec(x.attributes & record.AttrCodec)
	if codec == record.None || len(x.records) == 0 {
		return out
	}
	packed, err := record.Recompress(out, codec, levels[codec], record.StoredLimits)
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func appendString(dst []byte, s string) []byte {
	if s == null {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(s))), s...)
}

func buildAll(t failer, specs ...testBatch) []record.Batch {
	t.Helper()
	var out []record.Batch
	for _, x := range specs {
		out = append(out, x.build(t))
	}
	return out
}

// read returns the records of b, after it checked everything that a reader relies on.
func read(t failer, b record.Batch) []testRecord {
	t.Helper()
	if err := record.CheckCRC(b); err != nil {
		t.Fatal(err)
	}
	if again, rest, err := record.Next(b); err != nil || len(again) != len(b) || len(rest) > 0 {
		t.Fatalf("batch of %d bytes is read as %d and %d more, %v", len(b), len(again), len(rest), err)
	}
	out, err := readRecords(b, record.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func readRecords(b record.Batch, limits record.Limits) ([]testRecord, error) {
	var out []testRecord
	if b.NumRecords() == 0 {
		return nil, nil // Records unpacks, also nothing
	}
	for r, err := range record.Records(b, limits) {
		if err != nil {
			return nil, err
		}
		x := testRecord{offset: r.Offset, time: r.Timestamp, key: orNull(r.Key), value: orNull(r.Value)}
		for _, h := range r.Headers {
			x.headers = append(x.headers, record.Header{Key: h.Key, Value: bytes.Clone(h.Value)})
		}
		out = append(out, x)
	}
	return out, nil
}

func orNull(b []byte) string {
	if b == nil {
		return null
	}
	return string(b)
}

// mapOf returns a map of the log from an offset on.
func mapOf(t failer, log []record.Batch, from int64, aborted ...AbortedTxn) *KeyMap {
	t.Helper()
	m := NewKeyMap(1 << 20)
	m.Reset(aborted...)
	for _, b := range log {
		if full, err := m.AddBatch(b, from, record.Limits{}); full || err != nil {
			t.Fatalf("AddBatch: full %v, %v", full, err)
		}
	}
	return m
}

// clean runs the round over the log. It returns what is left, and what became of each batch.
func clean(t failer, r *Round, log []record.Batch) ([]record.Batch, []Outcome) {
	t.Helper()
	var out []record.Batch
	var whats []Outcome
	for i, b := range log {
		was := bytes.Clone(b)
		c, what, err := r.Clean(b)
		if err != nil {
			t.Fatalf("batch %d: %v", i, err)
		}
		if !bytes.Equal(was, b) {
			t.Fatalf("batch %d was changed in its place", i)
		}
		if what != Dropped {
			out = append(out, c)
		}
		if (what == Kept) != (len(c) == len(b) && &c[0] == &b[0]) || (what == Dropped) != (c == nil) {
			t.Fatalf("batch %d is said to be %d: %d bytes of %d", i, what, len(c), len(b))
		}
		whats = append(whats, what)
	}
	return out, whats
}

var outcomes = [...]string{Kept: "kept", Rewritten: "rewritten", Emptied: "emptied", Dropped: "dropped"}

// describe renders what clean returned, a line per batch: outcome, first and last offset, horizon, records.
func describe(t failer, log []record.Batch, whats []Outcome) string {
	t.Helper()
	var out strings.Builder
	for _, what := range whats {
		out.WriteString(outcomes[what])
		if what != Dropped {
			b := log[0]
			log = log[1:]
			fmt.Fprintf(&out, " %d-%d", b.BaseOffset(), b.LastOffset())
			if at, ok := b.DeleteHorizon(); ok {
				fmt.Fprintf(&out, " until %d", at)
			}
			out.WriteString(":")
			for _, r := range read(t, b) {
				fmt.Fprintf(&out, " %d", r.offset)
			}
		}
		out.WriteString("\n")
	}
	return out.String()
}
