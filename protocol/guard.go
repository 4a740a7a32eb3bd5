package protocol

import (
	"encoding/binary"
	"fmt"
)

const (
	// tagsMax bounds the tagged fields of one structure; Kafka itself has at most five anywhere.
	tagsMax = 32
	// memTagMap is what kmsg's map of unknown tags takes for up to 8 tags, and memTag for each one more.
	memTagMap = 320
	memTag    = 128
	// memFactor and memFree bound what decoding may allocate to memFactor times the body plus memFree. The densest honest
	// body (Metadata v9 with topic names of one letter: 3 bytes, 48 in memory) needs the factor; small bodies need the rest.
	memFactor = 16
	memFree   = 1 << 20
)

// Guard checks that a request body can be decoded at a cost linear in its size: every claimed count fits the bytes that
// remain, tagged fields are few, and what kmsg would allocate stays within 16 times the body plus 1 MiB (D10). It takes one pass and
// allocates nothing. Bytes after the body are ignored, as Kafka does (A7). Errors are ErrUnsupported and ErrMalformed.
func Guard(key, version int16, body []byte) error {
	_, err := Measure(key, version, body)
	return err
}

// Measure is Guard, and returns how many bytes of memory the decoded request takes at most beside the body.
func Measure(key, version int16, body []byte) (int, error) {
	s, err := skim(key, version, body)
	if err != nil {
		return 0, err
	}
	return memFactor*len(body) + memFree - s.memLeft, nil
}

// skim returns the skimmer at the end of the body, so that tests can see what was read and counted.
func skim(key, version int16, body []byte) (skimmer, error) {
	i := findAPI(key)
	if i < 0 || version < apis[i].Min || version > apis[i].Max {
		return skimmer{}, fmt.Errorf("%s v%d: %w", Key(key), version, ErrUnsupported)
	}
	s := skimmer{src: body, flexible: version >= apis[i].flexible, memLeft: memFactor*len(body) + memFree}
	s.structure(plans[i][version-apis[i].Min])
	if s.err != nil {
		return s, fmt.Errorf("%s v%d: %w", Key(key), version, s.err)
	}
	return s, nil
}

// A skimmer walks over a body without keeping anything. Once err is set, reads return zeros.
type skimmer struct {
	src      []byte
	flexible bool
	// memLeft is what the decoder may still allocate.
	memLeft int
	// steps counts structures, fields and tags visited, for the tests of linear cost.
	steps int
	err   error
}

func (s *skimmer) fail(what string) {
	if s.err == nil {
		s.err = fmt.Errorf("%s: %w", what, ErrMalformed)
	}
	s.src = nil
}

func (s *skimmer) span(n int) []byte {
	if n < 0 || n > len(s.src) {
		s.fail("length exceeds the body")
		return nil
	}
	b := s.src[:n]
	s.src = s.src[n:]
	return b
}

func (s *skimmer) uint16() uint16 {
	if b := s.span(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (s *skimmer) int32() int32 {
	if b := s.span(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

// uvarint reads at most 5 bytes and 32 bits, as kmsg does.
func (s *skimmer) uvarint() uint32 {
	var x uint32
	for i := range 5 {
		if i >= len(s.src) {
			break
		}
		b := s.src[i]
		if i == 4 && b > 0x0f {
			break
		}
		x |= uint32(b&0x7f) << (7 * i)
		if b < 0x80 {
			s.src = s.src[i+1:]
			return x
		}
	}
	s.fail("varint")
	return 0
}

// length reads a length or count; a null is 0.
func (s *skimmer) length(classic int) int {
	var n int
	switch {
	case s.flexible:
		n = int(s.uvarint()) - 1
	case classic == 2:
		n = int(int16(s.uint16()))
	default:
		n = int(s.int32())
	}
	return max(n, 0)
}

func (s *skimmer) alloc(n int) {
	s.memLeft -= n
	if s.memLeft < 0 {
		s.fail("more parts than the body's size allows")
	}
}

func (s *skimmer) structure(t *structure) {
	for i := range t.fields {
		if s.err != nil {
			return
		}
		s.field(&t.fields[i])
	}
	if s.flexible && !t.bare && s.err == nil {
		s.tags(t.tag1)
	}
}

// field recurses as deep as the schema nests, never as deep as the body says.
func (s *skimmer) field(f *field) {
	s.steps++
	switch f.kind {
	case kindFixed:
		s.span(f.size)
	case kindString:
		s.span(s.length(2))
	case kindBytes:
		s.span(s.length(4))
	case kindNullable:
		if b := s.span(1); b != nil && int8(b[0]) >= 0 {
			s.alloc(f.elem.mem)
			s.structure(f.elem)
		}
	case kindArray:
		s.array(f.elem)
	}
}

func (s *skimmer) array(elem *structure) {
	n := s.length(4)
	if n > len(s.src)/elem.min {
		s.fail("count exceeds the body")
		return
	}
	s.alloc(n * elem.mem)
	if elem.bare && elem.fields[0].kind == kindFixed {
		s.span(n * elem.min)
		return
	}
	for range n {
		if s.err != nil {
			return
		}
		s.structure(elem)
	}
}

// tags skims tagged fields. kmsg reads a structure in tag 1 with its tags, whatever their claimed count.
func (s *skimmer) tags(tag1 *structure) {
	n := s.uvarint()
	if n == 0 {
		return
	}
	if n > tagsMax {
		s.fail("too many tagged fields")
		return
	}
	s.alloc(memTagMap + int(n)*memTag)
	for range n {
		if s.err != nil {
			return
		}
		s.steps++
		tag := s.uvarint()
		value := s.span(int(s.uvarint()))
		if tag != 1 || tag1 == nil || s.err != nil {
			continue
		}
		rest := s.src
		s.src = value
		s.structure(tag1)
		if s.err == nil {
			s.src = rest
		}
	}
}
