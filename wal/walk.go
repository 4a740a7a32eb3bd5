package wal

import (
	"context"
	"errors"

	"github.com/tidemill/tidemill/objectstore"
)

// slotReader reads whole slot objects.
type slotReader interface {
	// get returns slot seq, perhaps as it was some time ago: if it was present it is the same now, if it was absent it
	// may be there.
	get(ctx context.Context, seq int64) ([]byte, error)
	// fresh returns slot seq as it is after the call, and forgets what was read ahead.
	fresh(ctx context.Context, seq int64) ([]byte, error)
}

// foundSlot is a slot that was read and verified, or not there.
type foundSlot struct {
	absent bool
	header Header
	chunks []Chunk
	length uint32
}

// walk finds the end of the log, or makes it (S3, S4). It judges slots one after the other, from trim.
func (s *sealer) walk(ctx context.Context, trim int64) (Recovery, error) {
	rec := Recovery{Cluster: s.opts.Cluster, Life: s.life, Trim: trim, N: trim, Sealer: s.opts.Name}
	read := s.reads.get
	for {
		found, err := s.slot(ctx, rec.N, read)
		if err != nil {
			return Recovery{}, err
		}
		read = s.reads.get
		if found.absent {
			won, next, err := s.hole(ctx, &rec)
			if won || err != nil {
				return rec, err
			}
			rec.N, read = next, s.reads.fresh
			continue
		}
		if err := s.chain(&rec, &found.header); err != nil {
			return Recovery{}, err
		}
		if found.header.Kind.Ends() {
			return rec, nil
		}
		rec.add(&found)
	}
}

// hole deals with an absent slot: it claims it, and won says that the log ends there. Else the walk goes on at next.
func (s *sealer) hole(ctx context.Context, rec *Recovery) (won bool, next int64, err error) {
	beyond, err := s.beyond(ctx, rec.N)
	if err != nil {
		return false, 0, err
	}
	if s.faults.skipHoles && beyond.next > rec.N {
		return false, beyond.next, nil
	}
	if beyond.impossible {
		// Absent below a slot that proves it was there: either we are late and it was trimmed, or it is lost.
		again, err := s.slot(ctx, rec.N, s.reads.fresh)
		if err != nil || !again.absent {
			return false, rec.N, err
		}
		return false, 0, s.lost(ctx, rec.N)
	}
	won, err = s.claim(ctx, rec)
	return won, rec.N, err
}

// claim tries to put a Seal into the absent slot rec.N (S4). false: something is there now.
func (s *sealer) claim(ctx context.Context, rec *Recovery) (won bool, err error) {
	seal, _ := encodeEnd(Header{
		Cluster: s.opts.Cluster, Life: s.life, Seq: rec.N, Kind: KindSeal, Prev: rec.Digest, Author: s.opts.Name,
	})
	key := SlotKey(s.life, rec.N)
	err = s.retry(ctx, "claim", func() (bool, error) {
		err := s.store.Put(ctx, key, seal)
		if errors.Is(err, objectstore.ErrConflict) {
			return true, nil
		}
		won = err == nil
		return won, err
	})
	return won, err
}

// ahead is what lies behind an absent slot.
type ahead struct {
	// next is the first slot behind that is there, or 0.
	next int64
	// impossible: by W3 or S4 the absent slot must have been there when one behind it was written.
	impossible bool
}

// beyond looks behind an absent slot. The window of a writer reaches MaxWindow-1 slots behind its first unresolved one
// and holds no end: more than that means that the absent slot was there once.
func (s *sealer) beyond(ctx context.Context, pos int64) (ahead, error) {
	var a ahead
	for i := int64(1); i <= MaxWindow; i++ {
		object, err := s.bytes(ctx, pos+i, s.reads.get)
		if err != nil {
			return a, err
		}
		if object == nil {
			continue
		}
		if a.next == 0 {
			a.next = pos + i
		}
		h, err := DecodeHeader(object)
		a.impossible = a.impossible || i == MaxWindow || err == nil && h.Kind.Ends()
	}
	return a, nil
}

// lost explains a slot that was there and is not: trimmed after we began, or gone.
func (s *sealer) lost(ctx context.Context, pos int64) error {
	return s.retry(ctx, "look for lost slot", func() (bool, error) {
		st, err := s.registry.Load(ctx, s.life)
		switch {
		case err != nil:
			return false, err
		case st.Phase == PhaseSealed:
			return true, errMoved
		}
		return true, s.quarantine(pos, "the slot is missing, but later ones exist")
	})
}

// chain checks that a slot follows what was walked so far.
func (s *sealer) chain(rec *Recovery, h *Header) error {
	switch {
	case rec.N == rec.Trim && rec.N > 0:
		// The predecessor was trimmed: its digest is what the first one says. Only an end may not know it either.
		rec.Digest = h.Prev
	case h.Prev != rec.Digest && !s.faults.skipHoles:
		return s.quarantine(rec.N, "%v follows digest %x, want %x", h.Kind, h.Prev, rec.Digest)
	}
	return nil
}

// add appends a data slot to the recovery.
func (r *Recovery) add(f *foundSlot) {
	for _, c := range f.chunks {
		r.Chunks = append(r.Chunks, RecoveredChunk{Seq: r.N, ObjectLen: f.length, Chunk: c})
	}
	r.Digest = f.header.Digest
	r.N++
}

// trimmed leaves out what a trim covers.
func (r Recovery) trimmed(trim int64) Recovery {
	i := 0
	for i < len(r.Chunks) && r.Chunks[i].Seq < trim {
		i++
	}
	r.Chunks = r.Chunks[i:]
	r.Trim = max(r.Trim, min(trim, r.N))
	return r
}

// walkClosed reads the log of a life that closed itself and left no recovery object (W8).
func (s *sealer) walkClosed(ctx context.Context, st StreamState) (Recovery, error) {
	if st.Trim >= st.N {
		return Recovery{Cluster: s.opts.Cluster, Life: s.life, Trim: st.N, N: st.N, Digest: st.Digest}, nil
	}
	rec := Recovery{Cluster: s.opts.Cluster, Life: s.life, Trim: st.Trim, N: st.Trim}
	for rec.N < st.N {
		found, err := s.slot(ctx, rec.N, s.reads.get)
		if err == nil && found.absent {
			found, err = s.slot(ctx, rec.N, s.reads.fresh)
		}
		if err == nil && found.absent {
			err = s.trimmedMeanwhile(ctx, rec.N)
		}
		if err == nil {
			err = s.chain(&rec, &found.header)
		}
		if err != nil {
			return Recovery{}, err
		}
		if found.header.Kind != KindData {
			return Recovery{}, s.quarantine(rec.N, "a %v lies below the end %d", found.header.Kind, st.N)
		}
		rec.add(&found)
	}
	if rec.Digest != st.Digest {
		return Recovery{}, s.quarantine(st.N-1, "digest is %x, the registry holds %x", rec.Digest, st.Digest)
	}
	return rec, nil
}

// trimmedMeanwhile explains an absent slot of a sealed log: errMoved if trim covers it now.
func (s *sealer) trimmedMeanwhile(ctx context.Context, pos int64) error {
	return s.retry(ctx, "look for lost slot", func() (bool, error) {
		st, err := s.registry.Load(ctx, s.life)
		switch {
		case err != nil:
			return false, err
		case st.Trim > pos:
			return true, errMoved
		}
		return true, s.quarantine(pos, "the slot is missing in a log that is sealed at %d", st.N)
	})
}

// slot reads and verifies slot pos. A damaged object is read a second time before it is quarantined.
func (s *sealer) slot(ctx context.Context, pos int64, read readSlot) (foundSlot, error) {
	var bad error
	for range 2 {
		object, err := s.bytes(ctx, pos, read)
		if err != nil {
			return foundSlot{}, err
		}
		if object == nil {
			return foundSlot{absent: true}, nil
		}
		h, chunks, err := DecodeSlot(object)
		if err == nil {
			err = s.identify(&h, pos)
		}
		if err == nil {
			return foundSlot{header: h, chunks: chunks, length: uint32(len(object))}, nil
		}
		bad, read = err, s.reads.fresh
	}
	return foundSlot{}, s.quarantine(pos, "%v", bad)
}

type readSlot = func(ctx context.Context, seq int64) ([]byte, error)

// bytes reads slot pos until the store answers; nil when it is absent.
func (s *sealer) bytes(ctx context.Context, pos int64, read readSlot) (object []byte, err error) {
	err = s.retry(ctx, "read slot", func() (bool, error) {
		var err error
		object, err = read(ctx, pos)
		if errors.Is(err, objectstore.ErrNotFound) {
			object, err = nil, nil
		}
		return err == nil, err
	})
	return object, err
}

// identify checks that an intact slot is the one its key names.
func (s *sealer) identify(h *Header, pos int64) error {
	if h.Life != s.life || h.Seq != pos || h.Cluster.ID != s.opts.Cluster.ID {
		return corruptf("slot is number %d of life %s of cluster %q", h.Seq, h.Life, h.Cluster.ID)
	}
	return nil
}
