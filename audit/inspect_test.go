package audit

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

var update = flag.Bool("update", false, "write the golden file")

// inspected runs one inspection and returns what it printed and its error.
func inspected(w *world, what, name string) (string, error) {
	i := &Inspector{Store: w.store, Metadata: w.meta}
	var out strings.Builder
	err := map[string]func() error{
		"slot":     func() error { return i.Slot(context.Background(), &out, name) },
		"segment":  func() error { return i.Segment(context.Background(), &out, name) },
		"manifest": func() error { return i.Manifest(context.Background(), &out, name) },
		"topic":    func() error { return i.Topic(context.Background(), &out, name) },
		"offset":   func() error { return i.Offset(context.Background(), &out, name) },
	}[what]()
	return out.String(), err
}

// TestInspect compares what people see with testdata/inspect.txt; go test ./audit -run TestInspect -update writes that.
func TestInspect(t *testing.T) {
	o := buildNamed(t)
	var all strings.Builder
	for _, x := range [][2]string{
		{"slot", o.tail}, {"slot", "1/0000000000000003-ab01030000000000/1"}, {"slot", o.seal}, {"segment", o.segment},
		{"manifest", "orders/0"}, {"manifest", o.manifest}, {"topic", "orders"},
		{"offset", "orders/0@4"}, {"offset", "orders/0@9"}, {"offset", "orders/0@11"}, {"offset", "orders/0@99"}, {"offset", "orders/2@5"},
	} {
		text, err := inspected(o.world, x[0], x[1])
		fmt.Fprintf(&all, "$ broker inspect %s %s\n%s", x[0], x[1], text)
		if err != nil {
			fmt.Fprintf(&all, "error: %v\n", err)
		}
		fmt.Fprintln(&all)
	}
	const golden = "testdata/inspect.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(all.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), all.String()); diff != "" {
		t.Error(diff)
	}
}

func TestInspectRefusals(t *testing.T) {
	w := build(t)
	for _, tc := range []struct {
		what, name string
		want       error
	}{
		{"slot", "nonsense", ErrName},
		{"slot", "1/x/3", ErrName},
		{"slot", "1/0000000000000001-ab01010000000000/-3", ErrName},
		{"slot", "1/0000000000000001-ab01010000000000/300", ErrAbsent},
		{"segment", "wal/x", ErrName},
		{"segment", "segment/1/0000000000000001-ab01010000000000/00000000000000000300", ErrAbsent},
		{"manifest", "nonsense", ErrName},
		{"manifest", "orders/-1", ErrName},
		{"manifest", "orders/7", ErrAbsent},
		{"manifest", "manifest/1/0000000000000001-ab01010000000000/00000000000000000300", ErrAbsent},
		{"topic", "nope", ErrAbsent},
		{"offset", "orders/0", ErrName},
		{"offset", "orders/0@x", ErrName},
		{"offset", "orders/0@1000", ErrAbsent},
		{"offset", "orders/2@1000", ErrAbsent},
	} {
		if _, err := inspected(w, tc.what, tc.name); !errors.Is(err, tc.want) {
			t.Errorf("%s %s: %v, want %v", tc.what, tc.name, err, tc.want)
		}
	}
}

// TestInspectDamage flips a bit in each part of the objects: what is wrong is said, and nothing panics.
func TestInspectDamage(t *testing.T) {
	o := buildNamed(t)
	for _, x := range []struct{ what, key, name string }{
		{"slot", o.tail, o.tail}, {"slot", o.seal, o.seal}, {"segment", o.segment, o.segment}, {"manifest", o.manifest, o.manifest},
	} {
		body := o.get(x.key)
		for pos := 0; pos < len(body); pos += 3 {
			bad := slices.Clone(body)
			bad[pos] ^= 1 << (pos % 8)
			w := *o.world
			w.store = o.with(map[string][]byte{x.key: bad})
			text, err := inspected(&w, x.what, x.name)
			if !errors.Is(err, ErrDamaged) || !strings.Contains(text, "DAMAGED: ") {
				t.Errorf("%s, byte %d: %v\n%s", x.key, pos, err, text)
				break
			}
		}
		for n := 0; n < len(body); n += 11 {
			w := *o.world
			w.store = o.with(map[string][]byte{x.key: body[:n]})
			if text, err := inspected(&w, x.what, x.name); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s cut to %d bytes: %v\n%s", x.key, n, err, text)
				break
			}
		}
	}
	// Of two chunks only the damaged one is marked.
	life := wal.Life{Broker: 9, Epoch: 1}
	w := newWorld(t, 1)
	n := w.start(life.Broker, life.Epoch)
	entry := func(p int32, b record.Batch) wal.Entry {
		return wal.Entry{Partition: pid(p), LastOffset: b.LastOffset(), MaxTimestamp: b.MaxTimestamp(), Data: b}
	}
	if err := n.w.Append(entry(0, batch(-1, -1, 1, 'x')), entry(1, batch(-1, -1, 1, 'y'))); err != nil {
		t.Fatal(err)
	}
	if err := n.w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := wal.SlotKey(n.life, 0)
	body := w.get(key)
	body[wal.HeaderLen+70] ^= 1
	w.store = w.with(map[string][]byte{key: body})
	text, err := inspected(w, "slot", key)
	if !errors.Is(err, ErrDamaged) || strings.Count(text, "  DAMAGED") != 1 || strings.Count(text, "  ok") != 1 {
		t.Errorf("%v\n%s", err, text)
	}
}

// TestInspectOffsetDamage: damage on the way to an offset is said, also when the batch can be read.
func TestInspectOffsetDamage(t *testing.T) {
	o := buildNamed(t)
	for _, key := range []string{o.manifest, o.segment, o.tail} {
		body := o.get(key)
		body[len(body)-5] ^= 1
		w := *o.world
		w.store = o.with(map[string][]byte{key: body})
		name := map[string]string{o.manifest: "orders/1@0", o.segment: "orders/1@0", o.tail: "orders/0@10"}[key]
		if text, err := inspected(&w, "offset", name); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v\n%s", key, err, text)
		}
	}
}

func TestInspectCompacted(t *testing.T) {
	w, _ := crafted(t, true, nothing, []record.Batch{at(1, 0, batch(-1, -1, 2, 'x'), horizon)}, []record.Batch{emptied(6, 9, 1)})
	for offset, want := range map[int64]string{0: "compaction has removed it; the next one begins at offset 1", 1: "tombstones go after", 7: "0 records"} {
		text, err := inspected(w, "offset", fmt.Sprintf("orders/0@%d", offset))
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("offset %d: %v\n%s", offset, err, text)
		}
	}
}
