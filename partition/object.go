package partition

import (
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/wal"
)

// ObjectKind tells the objects apart that hold a partition's data.
type ObjectKind uint8

// The kinds of objects.
const (
	KindSlot ObjectKind = iota
	KindSegment
	KindManifest
)

// String returns the kind's name.
func (k ObjectKind) String() string {
	switch k {
	case KindSlot:
		return "slot"
	case KindSegment:
		return "segment"
	case KindManifest:
		return "manifest"
	}
	return "unknown"
}

// SegmentPrefix and ManifestPrefix begin the keys of all segments and manifest objects.
const (
	SegmentPrefix  = "segment/"
	ManifestPrefix = "manifest/"
)

// SegmentKey names a segment: "segment/<broker>/<incarnation>/<seq:020d>".
func SegmentKey(l wal.Life, seq int64) string {
	return keyUnder(SegmentPrefix, l, seq)
}

// ManifestKey names a manifest object: "manifest/<broker>/<incarnation>/<seq:020d>".
func ManifestKey(l wal.Life, seq int64) string {
	return keyUnder(ManifestPrefix, l, seq)
}

func keyUnder(prefix string, l wal.Life, seq int64) string {
	b := l.Append(append(make([]byte, 0, 96), prefix...))
	return string(wal.AppendSeq(append(b, '/'), seq))
}

// ParseObjectKey is the reverse of SegmentKey, ManifestKey and wal.SlotKey. ok is false for any other key.
func ParseObjectKey(key string) (kind ObjectKind, life wal.Life, seq int64, ok bool) {
	var rest string
	switch {
	case strings.HasPrefix(key, SegmentPrefix):
		kind, rest = KindSegment, strings.TrimPrefix(key, SegmentPrefix)
	case strings.HasPrefix(key, ManifestPrefix):
		kind, rest = KindManifest, strings.TrimPrefix(key, ManifestPrefix)
	case strings.HasPrefix(key, "wal/"):
		_, rest, _ = strings.Cut(strings.TrimPrefix(key, "wal/"), "/")
	default:
		return 0, wal.Life{}, 0, false
	}
	i := strings.LastIndexByte(rest, '/')
	if i < 0 {
		return 0, wal.Life{}, 0, false
	}
	life, err := wal.ParseLife(rest[:i])
	if err != nil {
		return 0, wal.Life{}, 0, false
	}
	seq, err = strconv.ParseInt(rest[i+1:], 10, 64)
	if err != nil || objectKey(kind, life, seq) != key {
		return 0, wal.Life{}, 0, false
	}
	return kind, life, seq, true
}

func objectKey(kind ObjectKind, l wal.Life, seq int64) string {
	switch kind {
	case KindSegment:
		return SegmentKey(l, seq)
	case KindManifest:
		return ManifestKey(l, seq)
	}
	return wal.SlotKey(l, seq)
}

// objectID names an object within a Set, without a pointer: life is a number of its lifeTable.
type objectID struct {
	kind ObjectKind
	life uint32
	seq  int64
}

func (s *Set) keyOf(id objectID) string { return objectKey(id.kind, s.lives.life(id.life), id.seq) }
