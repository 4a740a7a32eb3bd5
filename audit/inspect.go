package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// Outcomes of an inspection. Test with errors.Is.
var (
	// ErrName: the argument names nothing that could be inspected.
	ErrName = errors.New("audit: not a name")
	// ErrAbsent: there is no such object, topic, partition or offset.
	ErrAbsent = errors.New("audit: not there")
	// ErrDamaged: the object was printed as far as it can be read.
	ErrDamaged = errors.New("audit: damaged")
)

// An Inspector prints stored objects for people: times in UTC, sizes in bytes with units. It reads what it prints, and checks it.
type Inspector struct {
	Store objectstore.Store
	// Metadata gives topics their names, and finds partitions. Slots, segments and manifest objects can be inspected without.
	Metadata Metadata
}

func (i *Inspector) reader() reader { return reader{i.Store} }

// name returns "<topic>/<partition>".
func (i *Inspector) name(id protocol.PartitionID) string {
	if i.Metadata == nil {
		return id.String()
	}
	return fmt.Sprintf("%s/%d", topicName(i.Metadata.Image(), id.Topic), id.Partition)
}

// page collects aligned output: fields of a name and a value, and tables.
type page struct{ w *tabwriter.Writer }

func newPage(out io.Writer) page { return page{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)} }

func (p page) title(format string, args ...any) { fmt.Fprintf(p.w, format+"\n", args...) }

func (p page) field(name, format string, args ...any) {
	fmt.Fprintf(p.w, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
}

// table begins a table; its rows follow.
func (p page) table(columns ...string) {
	_ = p.w.Flush() // columns align within a table only; a writer that fails does so again at the end
	fmt.Fprintf(p.w, "\n%s\n", strings.Join(columns, "\t"))
}

func (p page) row(cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(p.w, "\t")
		}
		fmt.Fprint(p.w, c)
	}
	fmt.Fprintln(p.w)
}

// end writes what is left, and says in its error what was wrong.
func (p page) end(key string, bad error) error {
	if bad != nil {
		_ = p.w.Flush()
		fmt.Fprintf(p.w, "\nDAMAGED: %v\n", bad)
	}
	if err := p.w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	if bad != nil {
		return fmt.Errorf("%w: %s", ErrDamaged, key)
	}
	return nil
}

// state is what a table says of a piece that was checked.
func state(bad error) string {
	if bad == nil {
		return "ok"
	}
	return "DAMAGED"
}

// moment prints a timestamp in ms.
func moment(ms int64) string {
	if ms < 0 {
		return "-"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}

func bytesOf(n int64) string { return fmt.Sprintf("%d B", n) }

func offsets(base, last int64) string { return fmt.Sprintf("%d-%d", base, last) }

// objectError words a failure to read an object.
func objectError(key string, err error) error {
	if errors.Is(err, objectstore.ErrNotFound) {
		return fmt.Errorf("%w: no object %s", ErrAbsent, key)
	}
	return err
}

// slotKey takes a slot's key, or "<broker>/<incarnation>/<seq>".
func slotKey(name string) (string, error) {
	if k, _, _ := parseKey(name); k == kindSlot {
		return name, nil
	}
	i := strings.LastIndexByte(name, '/')
	life, err := wal.ParseLife(name[:max(i, 0)])
	seq, err2 := strconv.ParseInt(name[i+1:], 10, 64)
	if err != nil || err2 != nil || seq < 0 {
		return "", fmt.Errorf("%w: %q is no key of a slot, nor LIFE/SEQ such as 1/0000000000000001-0102030405060708/42", ErrName, name)
	}
	return wal.SlotKey(life, seq), nil
}

// partitionOf takes "<topic>/<partition>", by the topic's name or id.
func (i *Inspector) partitionOf(ctx context.Context, name string) (metadata.PartitionState, error) {
	at := strings.LastIndexByte(name, '/')
	n, err := strconv.ParseInt(name[at+1:], 10, 32)
	if at <= 0 || err != nil || n < 0 {
		return metadata.PartitionState{}, fmt.Errorf("%w: %q is not TOPIC/PARTITION", ErrName, name)
	}
	t, err := i.topic(name[:at])
	if err != nil {
		return metadata.PartitionState{}, err
	}
	st, err := i.Metadata.Partition(ctx, protocol.PartitionID{Topic: t.ID, Partition: int32(n)})
	if errors.Is(err, metadata.ErrUnknownTopic) || errors.Is(err, metadata.ErrUnknownPartition) {
		return st, fmt.Errorf("%w: topic %s has no partition %d", ErrAbsent, t.Name, n)
	}
	return st, err
}

func (i *Inspector) topic(name string) (*metadata.Topic, error) {
	image := i.Metadata.Image()
	if t := image.Topics[name]; t != nil {
		return t, nil
	}
	if id, err := protocol.ParseTopicID(name); err == nil && image.TopicsByID[id] != nil {
		return image.TopicsByID[id], nil
	}
	return nil, fmt.Errorf("%w: no topic %q", ErrAbsent, name)
}

// Slot prints a slot, given by its key or as LIFE/SEQ.
func (i *Inspector) Slot(ctx context.Context, out io.Writer, name string) error {
	key, err := slotKey(name)
	if err != nil {
		return err
	}
	b, err := i.reader().get(ctx, key)
	if err != nil {
		return objectError(key, err)
	}
	p := newPage(out)
	p.title("slot %s", key)
	p.field("size", "%s", bytesOf(int64(len(b))))
	h, bad := wal.DecodeHeader(b)
	if bad != nil {
		return p.end(key, bad)
	}
	_, life, seq := parseKey(key)
	p.field("kind", "%v", h.Kind)
	p.field("life", "%s", h.Life)
	p.field("number", "%d", h.Seq)
	p.field("cluster", "%s, generation %d", h.Cluster.ID, h.Cluster.Generation)
	p.field("previous", "%x", h.Prev)
	p.field("digest", "%x", h.Digest)
	if h.Author != "" {
		p.field("author", "%s", h.Author)
	}
	if h.Life != life || h.Seq != seq {
		return p.end(key, errors.New("its key names another slot"))
	}
	if h.Kind.Ends() {
		_, _, bad := wal.DecodeSlot(b)
		return p.end(key, bad)
	}
	if end := uint64(h.DirPos) + uint64(h.DirLen); end != uint64(len(b)) {
		return p.end(key, fmt.Errorf("it has %d bytes, its header says %d", len(b), end))
	}
	_, chunks, bad := wal.DecodeDirectory(b[:wal.HeaderLen], b[h.DirPos:])
	i.chunks(p, chunks, b, &bad)
	return p.end(key, bad)
}

// chunks prints a directory. bad becomes what is wrong with the first damaged chunk, unless it is set.
func (i *Inspector) chunks(p page, chunks []wal.Chunk, object []byte, bad *error) {
	if len(chunks) == 0 {
		return
	}
	p.table("PARTITION", "EPOCH", "OFFSETS", "NEWEST", "POSITION", "LENGTH", "CRC32C", "PREVIOUS SLOT", "STATE")
	for n := range chunks {
		c := &chunks[n]
		previous := "-"
		if c.PrevSlot >= 0 {
			previous = strconv.FormatInt(c.PrevSlot, 10)
		}
		err := c.Check(object[c.Pos : c.Pos+c.Len])
		if err != nil && *bad == nil {
			*bad = err
		}
		p.row(i.name(c.Partition), c.LeaderEpoch, offsets(c.BaseOffset, c.LastOffset), moment(c.MaxTimestamp), c.Pos,
			bytesOf(int64(c.Len)), fmt.Sprintf("%08x", c.CRC), previous, state(err))
	}
}

// Segment prints a segment, given by its key.
func (i *Inspector) Segment(ctx context.Context, out io.Writer, key string) error {
	k, life, seq := parseKey(key)
	if k != kindSegment {
		return fmt.Errorf("%w: %q is no key of a segment", ErrName, key)
	}
	s, bad, err := i.reader().readSegment(ctx, key)
	if err != nil && !errors.Is(err, objectstore.ErrRange) {
		return objectError(key, err)
	}
	if bad == nil {
		bad = err
	}
	p := newPage(out)
	p.title("segment %s", key)
	h := &s.header
	if h.Size == 0 {
		return p.end(key, bad)
	}
	p.field("size", "%s", bytesOf(h.Size))
	p.field("life", "%s", h.Life)
	p.field("number", "%d", h.Seq)
	p.field("parts", "%d, indexes from %d on", h.Parts, h.IndexPos)
	if bad == nil && (h.Life != life || h.Seq != seq) {
		bad = errors.New("its key names another segment")
	}
	if bad == nil {
		bad = s.tiles()
	}
	p.table("PARTITION", "OFFSETS", "BLOCKS", "SPARSE", "INDEX AT")
	for _, x := range s.indexes {
		p.row(i.name(x.Partition), offsets(x.Extents[0].Base, x.Extents[len(x.Extents)-1].Last), len(x.Extents), x.Sparse, x.pos)
	}
	p.table("PARTITION", "OFFSETS", "NEWEST", "POSITION", "LENGTH", "CRC32C", "BATCHES", "STATE")
	for _, x := range s.indexes {
		for n := range x.Extents {
			batches, err := i.block(ctx, p, key, x.Partition, &x.Extents[n])
			if err != nil {
				return err
			}
			if batches != nil && bad == nil {
				bad = batches
			}
		}
	}
	return p.end(key, bad)
}

// block prints a block's row and returns what is wrong with it.
func (i *Inspector) block(ctx context.Context, p page, key string, id protocol.PartitionID, e *partition.Extent) (bad, err error) {
	n, w, err := i.reader().readRun(ctx, key, &batchRun{Extent: *e, sum: true})
	if err != nil {
		return nil, objectError(key, err)
	}
	if w != nil {
		bad = fmt.Errorf("block of %s at %d: %s", i.name(id), e.Pos, w.message)
	}
	p.row(i.name(id), offsets(e.Base, e.Last), moment(e.MaxTimestamp), e.Pos, bytesOf(int64(e.Len)), fmt.Sprintf("%08x", e.CRC), n, state(bad))
	return bad, nil
}
