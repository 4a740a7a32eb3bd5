package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/wal"
)

// recovery reads a recovery object, twice if it is damaged. Errors: ErrNotFound or trouble.
func (c *checker) readRecovery(ctx context.Context, key string, life wal.Life) (r wal.Recovery, bad, err error) {
	for range 2 {
		b, err := c.get(ctx, key)
		if err != nil {
			return r, nil, err
		}
		r, bad = wal.DecodeRecovery(b)
		if bad == nil && (r.Life != life || r.Cluster.ID != c.image.Cluster.ID) {
			bad = fmt.Errorf("it is of life %s of cluster %q", r.Life, r.Cluster.ID)
		}
		if bad == nil {
			return r, nil, nil
		}
	}
	return r, bad, nil
}

// loadRecovery reads the decision about a sealed log (S5) and holds it against metadata (S6).
func (w *logWalk) loadRecovery(ctx context.Context) error {
	if !w.sealed() || w.st.RecoveryKey == "" {
		return nil // open, or closed by its owner with everything in manifests (W8)
	}
	key := w.st.RecoveryKey
	w.objects.refer(key)
	w.objects.finished(key)
	r, bad, err := w.readRecovery(ctx, key, w.st.Life)
	switch {
	case errors.Is(err, objectstore.ErrNotFound):
		w.problem(Missing, key, "the decision about the log of life %s is missing", w.st.Life)
		return nil
	case err != nil:
		return err
	case bad != nil:
		w.problem(Damaged, key, "%v", bad)
		return nil
	case r.N != w.st.N || r.Digest != w.st.Digest:
		w.problem(Mismatch, key, "it ends the log at %d behind digest %x, metadata at %d behind %x", r.N, r.Digest, w.st.N, w.st.Digest)
		return nil
	}
	w.recovery = true
	for i := range r.Chunks {
		if r.Chunks[i].Seq >= w.st.Trim {
			w.recovered = r.Chunks[i:]
			break
		}
	}
	return nil
}

// compareRecovered holds the chunks of a slot against those that the recovery object lists for it; nil is the end of the log.
func (w *logWalk) compareRecovered(s *storedSlot) {
	if !w.recovery {
		return
	}
	for len(w.recovered) > 0 && w.recovered[0].Seq < w.pos {
		w.recovered = w.recovered[1:] // of slots that could not be read
	}
	n := 0
	for n < len(w.recovered) && w.recovered[n].Seq == w.pos {
		n++
	}
	of := w.recovered[:n]
	w.recovered = w.recovered[n:]
	var want []wal.Chunk
	if s != nil {
		want = s.chunks
	}
	same := len(of) == len(want)
	for i := 0; same && i < n; i++ {
		same = of[i].Chunk == want[i] && int64(of[i].ObjectLen) == s.size
	}
	if !same {
		w.problem(Mismatch, w.st.RecoveryKey, "it lists %d chunks of slot %d, which holds %d, or not those", n, w.pos, len(want))
		w.recovery = false
	}
}
