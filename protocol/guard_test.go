package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// eachVersion runs f for every served key and version.
func eachVersion(t *testing.T, f func(t *testing.T, key Key, version int16)) {
	for _, a := range APIs() {
		for v := a.Min; v <= a.Max; v++ {
			t.Run(fmt.Sprintf("%s/v%d", a.Name, v), func(t *testing.T) { f(t, a.Key, v) })
		}
	}
}

// randomize fills a kmsg structure; unknown tags included.
func randomize(r *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if tags, ok := v.Addr().Interface().(*kmsg.Tags); ok {
			for range r.IntN(3) {
				tags.Set(100+r.Uint32N(1000), make([]byte, r.IntN(5)))
			}
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "Version" {
				randomize(r, v.Field(i))
			}
		}
	case reflect.Pointer:
		if r.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			randomize(r, v.Elem())
		}
	case reflect.Slice:
		n := r.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			randomize(r, v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			randomize(r, v.Index(i))
		}
	case reflect.String:
		v.SetString(string(make([]byte, r.IntN(200))))
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.Uint64()) >> (64 - v.Type().Bits()))
	case reflect.Uint8:
		v.SetUint(uint64(r.Uint32N(256)))
	default:
		panic(v.Kind())
	}
}

func randomRequest(r *rand.Rand, key Key, version int16) []byte {
	req := kmsg.RequestForKey(int16(key))
	randomize(r, reflect.ValueOf(req).Elem())
	req.SetVersion(version)
	return req.AppendTo(nil)
}

func TestGuardReadsWhatClientsWrite(t *testing.T) {
	eachVersion(t, func(t *testing.T, key Key, version int16) {
		r := rand.New(rand.NewPCG(1, uint64(key)))
		for range 20 {
			body := randomRequest(r, key, version)
			s, err := skim(int16(key), version, body)
			if err != nil {
				t.Fatalf("guard: %v for %x", err, body)
			}
			if len(s.src) != 0 {
				t.Fatalf("guard left %d of %d bytes of %x", len(s.src), len(body), body)
			}
			// A7: what follows the body is ignored.
			if _, err := Decode(int16(key), version, append(body, 1, 2, 3)); err != nil {
				t.Fatalf("decode with trailing bytes: %v", err)
			}
			// A body cut anywhere is refused.
			if n := r.IntN(len(body) + 1); n < len(body) && Guard(int16(key), version, body[:n]) == nil {
				t.Fatalf("guard accepted %d of %d bytes", n, len(body))
			}
		}
	})
}

// allocated returns the bytes that decoding body allocates. The race detector and others may add some.
func allocated(key, version int16, body []byte) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	_ = req.(kmsg.UnsafeReadFrom).UnsafeReadFrom(body)
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// allocMax is the guard's promise with room for size classes, which round up by at most an eighth and a page. Under the race
// detector, append(a, make(...)...) takes its memory twice.
func allocMax(n int) uint64 { return (uint64(16*n+1<<20)*5/4 + 64<<10) * raceFactor }

func TestGuardBoundsMutatedBodies(t *testing.T) {
	eachVersion(t, func(t *testing.T, key Key, version int16) {
		r := rand.New(rand.NewPCG(2, uint64(key)))
		for range 10 {
			body := randomRequest(r, key, version)
			for range 1 + r.IntN(4) {
				if i := r.IntN(len(body) + 1); i < len(body) {
					body[i] = []byte{0, 1, 0x7f, 0x80, 0xff, byte(r.Uint32())}[r.IntN(6)]
				}
			}
			if Guard(int16(key), version, body) != nil {
				continue
			}
			if n := allocated(int16(key), version, body); n > allocMax(len(body)) {
				t.Fatalf("decoding %d bytes allocates %d: %x", len(body), n, body)
			}
		}
	})
}

// denseBodies returns one body for each array of the structure, in which that array has n of its smallest elements.
func denseBodies(s *structure, flexible bool, n int) [][]byte {
	var out [][]byte
	count := func(n int) []byte {
		if flexible {
			return binary.AppendUvarint(nil, uint64(n)+1)
		}
		return binary.BigEndian.AppendUint32(nil, uint32(n))
	}
	var before []byte
	for _, f := range s.fields {
		if f.kind == kindArray {
			smallest := make([]byte, n*f.elem.min)
			out = append(out, append(append([]byte(nil), before...), append(count(n), smallest...)...))
			for _, inner := range denseBodies(f.elem, flexible, n) {
				out = append(out, append(append(append([]byte(nil), before...), count(1)...), inner...))
			}
		}
		switch {
		case f.kind == kindFixed:
			before = append(before, make([]byte, f.size)...)
		case flexible, f.kind == kindNullable:
			before = append(before, 0)
		case f.kind == kindString:
			before = append(before, 0, 0)
		default:
			before = append(before, 0, 0, 0, 0)
		}
	}
	for i := range out {
		out[i] = append(out[i], make([]byte, 64)...)
	}
	return out
}

// The densest arrays are either refused or cheap to decode.
func TestGuardBoundsDenseArrays(t *testing.T) {
	eachVersion(t, func(t *testing.T, key Key, version int16) {
		i := findAPI(int16(key))
		for _, body := range denseBodies(plans[i][version-apis[i].Min], version >= apis[i].flexible, 60_000) {
			if Guard(int16(key), version, body) != nil {
				continue
			}
			if n := allocated(int16(key), version, body); n > allocMax(len(body)) {
				t.Errorf("decoding %d bytes allocates %d", len(body), n)
			}
		}
	})
}

func TestGuardRefuses(t *testing.T) {
	produceArray := append([]byte{0xff, 0xff, 0, 1, 0, 0, 0, 0}, 0, 0x7f, 0xff, 0xf0)
	produceArray = append(produceArray, make([]byte, 8<<20)...)
	manyTags := []byte{1, 1, 33}
	for range 33 {
		manyTags = append(manyTags, 5, 0)
	}
	// Fetch v16 with nothing in it but tag 1, a structure of 12 bytes and 2^28 tags of its own.
	nestedTags := append(make([]byte, 4+4+4+1+4+4), 1, 1, 1, 1, 1, 17)
	nestedTags = append(append(nestedTags, make([]byte, 12)...), 0x80, 0x80, 0x80, 0x80, 0x01)
	tests := []struct {
		name         string
		key          Key
		version      int16
		body         []byte
		want         error
		stepsAtMost  int
		decodesWorse bool
	}{
		{"ApiVersions of 7 bytes with 2^28 tags", KeyAPIVersions, 3, []byte{1, 1, 0x80, 0x80, 0x80, 0x80, 0x01}, ErrMalformed, 10, false},
		{"Fetch of 44 bytes with 2^28 tags within a tag", KeyFetch, 16, nestedTags, ErrMalformed, 20, false},
		{"8 MiB Produce of one array", KeyProduce, 3, produceArray, ErrMalformed, 10, true},
		{"33 tags", KeyAPIVersions, 3, manyTags, ErrMalformed, 10, false},
		{"varint of 33 bits", KeyAPIVersions, 3, []byte{0xff, 0xff, 0xff, 0xff, 0x1f}, ErrMalformed, 10, false},
		{"empty body", KeyMetadata, 1, nil, ErrMalformed, 10, false},
		{"version above", KeyProduce, 12, nil, ErrUnsupported, 0, false},
		{"version below", KeyProduce, 2, nil, ErrUnsupported, 0, false},
		{"unknown key", 4, 0, nil, ErrUnsupported, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := skim(int16(tt.key), tt.version, tt.body)
			if !errors.Is(err, tt.want) || s.steps > tt.stepsAtMost {
				t.Fatalf("got %v after %d steps, want %v within %d", err, s.steps, tt.want, tt.stepsAtMost)
			}
			if _, err := Decode(int16(tt.key), tt.version, tt.body); !errors.Is(err, tt.want) {
				t.Errorf("Decode: got %v, want %v", err, tt.want)
			}
			if n := uint64(len(tt.body)); tt.decodesWorse && allocated(int16(tt.key), tt.version, tt.body) < 30*n {
				t.Error("kmsg became harmless: is this guard still needed?")
			}
		})
	}
}

// Kafka reads a negative count as null.
func TestGuardNullArray(t *testing.T) {
	body := binary.BigEndian.AppendUint32(nil, uint32(0xfffffffe)) // -2
	req, err := Decode(int16(KeyMetadata), 1, body)
	if err != nil {
		t.Fatal(err)
	}
	if topics := req.(*kmsg.MetadataRequest).Topics; topics != nil {
		t.Errorf("array of length -2: got %v, want null (A7)", topics)
	}
}

func FuzzGuard(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 3))
	for _, a := range APIs() {
		for v := a.Min; v <= a.Max; v++ {
			f.Add(int16(a.Key), v, randomRequest(r, a.Key, v))
		}
	}
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		s, err := skim(key, version, body)
		// Every step but the failing one reads a byte.
		if s.steps > len(body)+1 {
			t.Fatalf("%d steps for %d bytes", s.steps, len(body))
		}
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnsupported) {
				t.Fatalf("unclassified error %v", err)
			}
			return
		}
		if n := allocated(key, version, body); n > allocMax(len(body)) {
			t.Fatalf("decoding %d bytes allocates %d", len(body), n)
		}
	})
}

func BenchmarkGuard(b *testing.B) {
	body := randomRequest(rand.New(rand.NewPCG(4, 4)), KeyFetch, 12)
	b.ReportAllocs()
	for b.Loop() {
		if err := Guard(int16(KeyFetch), 12, body); err != nil {
			b.Fatal(err)
		}
	}
}
