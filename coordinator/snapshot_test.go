package coordinator

import (
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func decodeAll(blob []byte) ([]Record, error) {
	var records []Record
	err := decodeSnapshot(blob, func(r Record) error {
		records = append(records, r)
		return nil
	})
	return records, err
}

func TestSnapshotGolden(t *testing.T) {
	blob := encodeSnapshot(slices.Values([]Record{{Key: []byte("k"), Value: []byte("vv")}, {Key: []byte{}, Value: []byte{}}}))
	want := "TMCS\x01\x01k\x02vv\x00\x00"
	if got := string(blob[:len(blob)-4]); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	const path = "../docs/formats/coordinator.md"
	if doc, err := os.ReadFile(path); err != nil || !strings.Contains(string(doc), "\n"+hex.Dump(blob)) {
		t.Errorf("%s does not show\n%s(%v)", path, hex.Dump(blob), err)
	}
	for i := range blob {
		bad := slices.Clone(blob)
		bad[i] ^= 1
		if _, err := decodeAll(bad); err == nil {
			t.Errorf("byte %d flipped: no error", i)
		}
	}
	for n := 1; n < len(blob); n++ {
		if _, err := decodeAll(blob[:n]); err == nil {
			t.Errorf("cut at %d: no error", n)
		}
	}
}

func FuzzSnapshot(f *testing.F) {
	f.Add([]byte{})
	f.Add(encodeSnapshot(slices.Values([]Record{{Key: []byte("k"), Value: []byte("v")}})))
	f.Add([]byte("TMCS\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, blob []byte) {
		records, err := decodeAll(blob)
		if err != nil || len(blob) == 0 {
			return
		}
		again, err := decodeAll(encodeSnapshot(slices.Values(records)))
		if diff := cmp.Diff(records, again); diff != "" || err != nil {
			t.Errorf("round trip: %v\n%s", err, diff)
		}
	})
}

// Timers against a list that is sorted each time.
func TestTimersModel(t *testing.T) {
	type entry struct {
		key   int
		at    int64
		order int
	}
	rapid.Check(t, func(t *rapid.T) {
		var timers Timers[int]
		var model []entry
		start := time.Unix(0, 0)
		drop := func(key int) { model = slices.DeleteFunc(model, func(e entry) bool { return e.key == key }) }
		for step := range rapid.IntRange(1, 60).Draw(t, "steps") {
			key := rapid.IntRange(0, 8).Draw(t, "key")
			at := rapid.Int64Range(0, 5).Draw(t, "at")
			switch rapid.IntRange(0, 3).Draw(t, "op") {
			case 0, 1:
				timers.Set(key, start.Add(time.Duration(at)))
				drop(key)
				model = append(model, entry{key, at, step})
			case 2:
				timers.Cancel(key)
				drop(key)
			case 3:
				slices.SortFunc(model, func(a, b entry) int {
					if a.at != b.at {
						return int(a.at - b.at)
					}
					return a.order - b.order
				})
				got, ok := timers.Pop(start.Add(time.Duration(at)))
				if want := len(model) > 0 && model[0].at <= at; ok != want || ok && got != model[0].key {
					t.Fatalf("Pop = %d, %t; model %v at %d", got, ok, model, at)
				}
				if ok {
					drop(got)
				}
			}
			if timers.Len() != len(model) {
				t.Fatalf("Len = %d, want %d", timers.Len(), len(model))
			}
		}
	})
}
