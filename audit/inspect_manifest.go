package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// Manifest prints all manifests of an object, given by its key, or the present one of TOPIC/PARTITION.
func (i *Inspector) Manifest(ctx context.Context, out io.Writer, name string) error {
	if k, life, seq := parseKey(name); k == kindManifest {
		return i.manifestObject(ctx, out, name, life, seq)
	}
	if i.Metadata == nil {
		return fmt.Errorf("%w: %q is no key of a manifest object, and without metadata no partition can be found", ErrName, name)
	}
	st, err := i.partitionOf(ctx, name)
	if err != nil {
		return err
	}
	p := newPage(out)
	m, bad, err := i.head(ctx, &st)
	if err != nil {
		return err
	}
	if st.Manifest == nil {
		p.title("manifest of %s: none yet", i.name(st.ID))
		return p.end("", nil)
	}
	p.title("manifest of %s", i.name(st.ID))
	p.field("object", "%s", st.Manifest.Key)
	p.field("position", "%d, %s", st.Manifest.Pos, bytesOf(int64(st.Manifest.Len)))
	if m != nil {
		i.manifest(p, m)
	}
	return p.end(st.Manifest.Key, bad)
}

// head reads the manifest of a partition; nil before the first one. What is wrong is in bad.
func (i *Inspector) head(ctx context.Context, st *metadata.PartitionState) (m *partition.Manifest, bad, err error) {
	h := st.Manifest
	if h == nil {
		return nil, nil, nil
	}
	data := make([]byte, h.Len)
	bad, err = i.reader().sum(ctx, h.Key, data, h.Pos, h.CRC)
	if _, message, ok := absence(err); ok {
		return nil, errors.New(message), nil
	}
	if err != nil || bad != nil {
		return nil, bad, err
	}
	m, bad = partition.DecodeManifest(data)
	if bad == nil && m.Partition != st.ID {
		bad = fmt.Errorf("it is of %v", m.Partition)
	}
	return m, bad, nil
}

func (i *Inspector) manifestObject(ctx context.Context, out io.Writer, key string, life wal.Life, seq int64) error {
	b, err := i.reader().get(ctx, key)
	if err != nil {
		return objectError(key, err)
	}
	p := newPage(out)
	p.title("manifest object %s", key)
	p.field("size", "%s", bytesOf(int64(len(b))))
	h, all, bad := decodeManifests(b)
	if bad == nil {
		p.field("life", "%s", h.Life)
		p.field("number", "%d", h.Seq)
		p.field("manifests", "%d", len(all))
		switch {
		case h.Life != life || h.Seq != seq:
			bad = errors.New("its key names another object")
		case h.Size != int64(len(b)):
			bad = fmt.Errorf("its header says %d bytes", h.Size)
		}
	}
	for _, m := range all {
		_ = p.w.Flush() // a writer that fails does so again at the end
		if m.bad != nil {
			p.title("\nmanifest at %d, %s: %v", m.pos, bytesOf(int64(m.len)), m.bad)
			bad = m.bad
			continue
		}
		p.title("\nmanifest of %s", i.name(m.Partition))
		p.field("position", "%d, %s, CRC32C %08x", m.pos, bytesOf(int64(m.len)), crc32c.Sum(b[m.pos:m.pos+m.len]))
		i.manifest(p, m.Manifest)
	}
	return p.end(key, bad)
}

func (i *Inspector) manifest(p page, m *partition.Manifest) {
	p.field("version", "%d", m.Version)
	p.field("log start", "%d", m.LogStart)
	p.field("end", "%d", m.EndOffset)
	p.field("compacted to", "%d", m.CompactedTo)
	if m.CoordinatorOffset >= 0 {
		p.field("coordinator", "%s as of offset %d", bytesOf(int64(len(m.Coordinator))), m.CoordinatorOffset)
	}
	p.table("LEADER EPOCH", "FROM", "LIFE")
	for _, e := range m.Epochs {
		p.row(e.Epoch, e.Start, m.Lives[e.Life])
	}
	if len(m.Producers) > 0 {
		p.table("PRODUCER", "EPOCH", "LAST SEQUENCE", "LAST OFFSET", "LAST WRITE")
	}
	for _, x := range m.Producers {
		last := x.Batches[len(x.Batches)-1]
		p.row(x.ID, x.Epoch, last.LastSeq, last.LastOffset, moment(x.LastWrite))
	}
	if len(m.Parts) > 0 {
		p.table("PART", "NEWEST", "BLOCKS", "BYTES", "SPARSE", "INDEX AT", "SEGMENT")
	}
	for _, x := range m.Parts {
		p.row(offsets(x.Base, x.Last), moment(x.MaxTimestamp), x.Count, bytesOf(x.Bytes), x.Sparse, fmt.Sprintf("%d+%d", x.Pos, x.Len),
			partition.SegmentKey(m.Lives[x.Life], x.Seq))
	}
	if len(m.Extents) > 0 {
		p.table("EXTENT", "NEWEST", "BYTES", "POSITION", "SLOT")
	}
	for _, x := range m.Extents {
		p.row(offsets(x.Base, x.Last), moment(x.MaxTimestamp), bytesOf(int64(x.Len)), x.Pos, wal.SlotKey(m.Lives[x.Life], x.Seq))
	}
	if len(m.Rolls) > 0 {
		p.table("ROLL FROM", "FIRST", "NEWEST", "BYTES")
	}
	for _, x := range m.Rolls {
		p.row(x.Base, moment(x.FirstTimestamp), moment(x.MaxTimestamp), bytesOf(x.Bytes))
	}
	if len(m.Aborted) > 0 {
		p.table("ABORTED", "OF PRODUCER")
	}
	for _, x := range m.Aborted {
		p.row(offsets(x.First, x.Last), x.ProducerID)
	}
}

// Topic prints a topic, given by its name or id: its settings, and where its partitions stand.
func (i *Inspector) Topic(ctx context.Context, out io.Writer, name string) error {
	t, err := i.topic(name)
	if err != nil {
		return err
	}
	p := newPage(out)
	p.title("topic %s", t.Name)
	p.field("id", "%s", t.ID)
	p.field("created", "%s", moment(t.Created.UnixMilli()))
	p.field("replication factor", "%d, as it was given", t.ReplicationFactor)
	for _, key := range slices.Sorted(maps.Keys(t.Configs)) {
		p.field(key, "%s", t.Configs[key])
	}
	p.table("PARTITION", "OWNER", "LEADER EPOCH", "SINCE", "MANIFEST", "LOG START", "END", "PARTS", "EXTENTS", "BYTES", "STATE")
	var wrong error
	for n := range t.Partitions {
		st, err := i.Metadata.Partition(ctx, protocol.PartitionID{Topic: t.ID, Partition: int32(n)})
		if errors.Is(err, metadata.ErrUnknownPartition) {
			p.row(n, "-", "-", "-", "-", "-", "-", "-", "-", "-", "MISSING")
			wrong = fmt.Errorf("partition %d has no owner", n)
			continue
		}
		if err != nil {
			return err
		}
		m, bad, err := i.head(ctx, &st)
		if err != nil {
			return err
		}
		if bad != nil {
			wrong = fmt.Errorf("manifest of partition %d in %s at %d: %w", n, st.Manifest.Key, st.Manifest.Pos, bad)
		}
		if m == nil {
			p.row(n, st.Owner, st.LeaderEpoch, st.Start, "-", "-", "-", "-", "-", "-", state(bad))
			continue
		}
		var size int64
		for k := range m.Parts {
			size += m.Parts[k].Bytes
		}
		for k := range m.Extents {
			size += int64(m.Extents[k].Len)
		}
		p.row(n, st.Owner, st.LeaderEpoch, st.Start, m.Version, m.LogStart, m.EndOffset, len(m.Parts), len(m.Extents), bytesOf(size), state(bad))
	}
	return p.end("topic "+t.Name, wrong)
}
