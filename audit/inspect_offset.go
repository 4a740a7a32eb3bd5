package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

// place is where an offset is stored.
type place struct {
	partition.Extent
	key  string
	life wal.Life
	// what is "chunk" or "block"; tail: it is in no manifest yet.
	what string
	tail bool
}

// Offset prints where TOPIC/PARTITION@OFFSET is stored, who wrote it there, and who led when it came.
func (i *Inspector) Offset(ctx context.Context, out io.Writer, name string) error {
	of, digits, ok := strings.Cut(name, "@")
	offset, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || offset < 0 {
		return fmt.Errorf("%w: %q is not TOPIC/PARTITION@OFFSET", ErrName, name)
	}
	st, err := i.partitionOf(ctx, of)
	if err != nil {
		return err
	}
	m, bad, err := i.head(ctx, &st)
	if err != nil {
		return err
	}
	p := newPage(out)
	p.title("%s@%d", i.name(st.ID), offset)
	if bad != nil {
		p.field("manifest", "%s at %d", st.Manifest.Key, st.Manifest.Pos)
		return p.end(st.Manifest.Key, bad)
	}
	epochs, bad := epochsOf(&st, m)
	if epoch, exact := epochAt(epochs, offset); exact {
		at := slices.IndexFunc(epochs, func(e metadata.EpochStart) bool { return e.Epoch == epoch })
		p.field("leader epoch", "%d, from offset %d on", epoch, epochs[at].Start)
		p.field("led by", "life %s", epochs[at].Life)
	}
	if m != nil && offset < m.LogStart {
		p.field("log start", "%d: the offset was deleted", m.LogStart)
	}
	x, err := i.find(ctx, &st, m, offset)
	switch {
	case errors.Is(err, ErrAbsent):
		return errors.Join(p.end("", nil), err)
	case errors.Is(err, ErrDamaged):
		return p.end(of, err)
	case err != nil:
		return err
	}
	p.field("written by", "life %s", x.life)
	p.field("object", "%s", x.key)
	if x.tail {
		p.field("manifest", "none yet: it is in the untrimmed log of the owner")
	}
	p.field(x.what, "offsets %s at %d, %s", offsets(x.Base, x.Last), x.Pos, bytesOf(int64(x.Len)))
	if err := i.batch(ctx, p, &x, offset); err != nil {
		bad = err
	}
	return p.end(x.key, bad)
}

// find says where an offset is stored: in a part, in an extent of the manifest, or in the log of the owner behind them.
func (i *Inspector) find(ctx context.Context, st *metadata.PartitionState, m *partition.Manifest, offset int64) (place, error) {
	if m == nil || offset >= m.EndOffset {
		return i.findInLog(ctx, st, offset)
	}
	for n := range m.Extents {
		if e := &m.Extents[n]; e.Base <= offset && offset <= e.Last {
			life := m.Lives[e.Life]
			return place{*e, wal.SlotKey(life, e.Seq), life, "chunk", false}, nil
		}
	}
	for n := range m.Parts {
		q := &m.Parts[n]
		if offset < q.Base || offset > q.Last {
			continue
		}
		life := m.Lives[q.Life]
		key := partition.SegmentKey(life, q.Seq)
		data := make([]byte, q.Len)
		bad, err := i.reader().sum(ctx, key, data, int64(q.Pos), q.CRC)
		if err != nil && !tells(err) {
			return place{}, err
		}
		if err == nil {
			err = bad
		}
		var x partition.Index
		if err == nil {
			x, err = q.DecodeIndex(st.ID, data)
		}
		if err != nil {
			return place{}, fmt.Errorf("%w: index at %d of %s: %w", ErrDamaged, q.Pos, key, err)
		}
		for _, e := range x.Extents {
			if offset <= e.Last {
				return place{e, key, life, "block", false}, nil
			}
		}
	}
	return place{}, fmt.Errorf("%w: no object holds offset %d, the data begins behind it", ErrAbsent, offset)
}

// findInLog looks for an offset in the untrimmed log of the partition's owner.
func (i *Inspector) findInLog(ctx context.Context, st *metadata.PartitionState, offset int64) (place, error) {
	owner, err := i.Metadata.Load(ctx, st.Owner)
	if err != nil {
		return place{}, fmt.Errorf("life %s: %w", st.Owner, err)
	}
	for seq := owner.Trim; owner.Phase != wal.PhaseSealed || seq < owner.N; seq++ {
		key := wal.SlotKey(owner.Life, seq)
		s, bad, err := i.reader().slot(ctx, key, false)
		switch {
		case errors.Is(err, objectstore.ErrNotFound) && owner.Phase != wal.PhaseSealed:
			return place{}, beyondEnd(offset)
		case err != nil && tells(err), bad != nil:
			return place{}, fmt.Errorf("%w: %s: %w", ErrDamaged, key, errors.Join(err, bad))
		case err != nil:
			return place{}, err
		case s.header.Kind.Ends():
			return place{}, beyondEnd(offset)
		}
		for _, c := range s.chunks {
			if c.Partition == st.ID && c.BaseOffset <= offset && offset <= c.LastOffset {
				e := partition.Extent{
					Base: c.BaseOffset, Last: c.LastOffset, MaxTimestamp: c.MaxTimestamp, Pos: c.Pos, Len: c.Len, CRC: c.CRC, Seq: seq,
				}
				return place{e, key, owner.Life, "chunk", true}, nil
			}
		}
	}
	return place{}, beyondEnd(offset)
}

func beyondEnd(offset int64) error {
	return fmt.Errorf("%w: offset %d is behind the end", ErrAbsent, offset)
}

// batch prints the batch that holds an offset, or says that compaction has taken it. The error says what is wrong.
func (i *Inspector) batch(ctx context.Context, p page, x *place, offset int64) error {
	data := make([]byte, x.Len)
	bad, err := i.reader().sum(ctx, x.key, data, int64(x.Pos), x.CRC)
	if err != nil {
		return err
	}
	for rest := data; len(rest) > 0; {
		b, more, err := record.Next(rest)
		if err != nil || b == nil {
			return errors.Join(bad, fmt.Errorf("no whole batch in the last %d bytes", len(rest)))
		}
		if b.LastOffset() < offset {
			rest = more
			continue
		}
		if b.BaseOffset() > offset {
			p.field("batch", "none: compaction has removed it; the next one begins at offset %d", b.BaseOffset())
			return bad
		}
		printBatch(p, b, int64(x.Pos)+int64(len(data)-len(rest)))
		return errors.Join(bad, record.CheckCRC(b))
	}
	return errors.Join(bad, errors.New("no batch holds the offset"))
}

func printBatch(p page, b record.Batch, pos int64) {
	ok := "checksum ok"
	if record.CheckCRC(b) != nil {
		ok = "CHECKSUM WRONG"
	}
	p.field("batch", "offsets %s at %d, %s, %d records, %s", offsets(b.BaseOffset(), b.LastOffset()), pos, bytesOf(int64(len(b))), b.NumRecords(), ok)
	p.field("batch epoch", "%d", b.PartitionLeaderEpoch())
	p.field("codec", "%s", codecName(b.Codec()))
	if b.ProducerID() >= 0 {
		p.field("producer", "%d, epoch %d, sequence %d-%d", b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(), b.LastSequence())
	}
	horizon, compacted := b.DeleteHorizon()
	switch {
	case compacted:
		p.field("timestamps", "up to %s; tombstones go after %s", moment(b.MaxTimestamp()), moment(horizon))
	default:
		p.field("timestamps", "%s to %s", moment(b.BaseTimestamp()), moment(b.MaxTimestamp()))
	}
	var flags []string
	for name, set := range map[string]bool{"control": b.IsControl(), "transactional": b.IsTransactional(), "log append time": b.IsLogAppendTime()} {
		if set {
			flags = append(flags, name)
		}
	}
	if slices.Sort(flags); len(flags) > 0 {
		p.field("flags", "%s", strings.Join(flags, ", "))
	}
}

func codecName(c record.Codec) string {
	names := []string{"none", "gzip", "snappy", "lz4", "zstd"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("unknown (%d)", c)
}
