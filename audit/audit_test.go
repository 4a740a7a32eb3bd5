package audit

import (
	"slices"
	"strings"
	"testing"
)

func TestCleanCluster(t *testing.T) {
	w := build(t)
	for _, skip := range []bool{false, true} {
		r := w.check(w.store, func(o *Options) { o.SkipData, o.Concurrency = skip, 8 })
		var text strings.Builder
		if err := r.WriteText(&text); err != nil {
			t.Fatal(err)
		}
		if !r.OK || r.Lives != 4 || r.Partitions != 3 || r.Parts < 4 || (r.Batches > 10) == skip {
			t.Errorf("skip %v: %+v", skip, *r)
		}
		t.Log(text.String())
		classes := map[string]bool{}
		for _, l := range r.Leaks {
			classes[l.Class] = true
		}
		if !classes[LeakTrimmed] || !classes[LeakManifest] || classes[LeakUnknown] || classes[LeakOrphan] {
			t.Errorf("leaks %v", r.Leaks)
		}
	}
}

// TestEveryFlippedBitIsFound flips a bit of every byte of every object, a few bytes apart, with another bit each time.
func TestEveryFlippedBitIsFound(t *testing.T) {
	w := build(t)
	for _, key := range w.keys("") {
		body := w.get(key)
		for pos := 0; pos < len(body); pos += 1 + len(body)/200 {
			bad := slices.Clone(body)
			bad[pos] ^= 1 << (pos % 8)
			r := w.check(w.with(map[string][]byte{key: bad}))
			if !slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Key == key }) || r.OK {
				t.Errorf("%s: bit %d of byte %d of %d: not found: %v", key, pos%8, pos, len(body), r.Problems)
				break
			}
		}
	}
}
