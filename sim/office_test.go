package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/tidemill/tidemill/controller"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/wal"
)

// office is a node's controller. Where partitions go is planned by the real code; when a life is taken for dead is drawn, since safety must
// not rest on that (S1): too early, by many at once, of lives that are well.
type office struct {
	// judged is the revision at which it was last asked whether the own log has ended.
	judged int64
	// sealed are lives whose logs have ended, pursued those that are being ended.
	sealed, pursued map[wal.Life]bool
}

// tick looks at the image now and then, as package controller does, and, as whoever refreshes a lease, whether the own log has ended.
func (n *node) tick() {
	n.govern()
	if n.office.judged != n.w.etcd.rev && n.w.chance(.3) {
		n.office.judged = n.w.etcd.rev
		n.after(0, func() { n.do("check", n.checkOpen) })
	}
	n.after(n.w.between(500*time.Millisecond, 2*time.Second), n.tick)
}

func (n *node) govern() {
	img := n.image
	switch {
	case img.Controller.Life == wal.Life{} && img.Brokers[n.broker.id].Life == n.life:
		n.do("campaign", func(ctx context.Context, _ *metadata.Image) error {
			_, err := n.meta.Campaign(ctx, n.life)
			return err
		})
	case img.Controller.Life == n.life:
		n.suspect(img)
		n.plan(img)
	}
}

// suspect ends the logs of owners that are not registered.
func (n *node) suspect(img *metadata.Image) {
	for _, t := range img.TopicsByID {
		for _, p := range t.Partitions {
			if img.Brokers[p.Owner.Broker].Life != p.Owner && n.w.chance(.3) {
				n.pursue(p.Owner)
			}
		}
	}
}

// pursue ends the log of a life, unless that is under way.
func (n *node) pursue(life wal.Life) {
	if n.office.pursued[life] || n.office.sealed[life] {
		return
	}
	n.office.pursued[life] = true
	n.w.trace("pursue", "%s by %s", life, n.name)
	n.spawn("seal "+life.String(), func(ctx context.Context) error { return n.seal(ctx, life) }, func(err error) {
		n.office.pursued[life] = false
		if err == nil {
			n.office.sealed[life] = true
			n.govern()
		}
	})
}

// chance seeds a sealer's pauses by who seals what, so that they are the same in every run.
func (n *node) chance(life wal.Life) rand.Source {
	return rand.NewPCG(n.serial, uint64(life.Broker)<<32|life.Epoch)
}

// plan writes what the real plan wants as intents, and sometimes what somebody wants who only likes to see partitions move.
func (n *node) plan(img *metadata.Image) {
	s := controller.StateOf(img)
	revs := map[int32]int64{}
	for i := range s.Partitions {
		p := &s.Partitions[i]
		p.Orphan = n.office.sealed[p.Owner]
		revs[p.ID.Partition] = img.TopicsByID[p.ID.Topic].Partitions[p.ID.Partition].Rev
	}
	var intents []metadata.Intent
	for _, m := range controller.Plan(s, controller.Options{MovesMax: -1}) {
		in := metadata.Intent{ID: m.ID, To: m.To, PartRev: revs[m.ID.Partition]}
		if m.To == m.From {
			in.To = wal.Life{}
		}
		intents = append(intents, in)
	}
	if len(intents) == 0 && len(s.Partitions) > 0 && !n.w.calm && n.w.chance(n.w.cfg.moves) {
		p, _ := pick(n.w, img.TopicsByID[partition0(0).Topic].Partitions)
		for i, q := range img.TopicsByID[partition0(0).Topic].Partitions {
			if to, ok := img.Brokers[int32(n.w.rng.IntN(len(n.w.brokers)))]; ok && (q == p || n.w.chance(.3)) && to.Life != q.Owner {
				intents = append(intents, metadata.Intent{ID: partition0(int32(i)), To: to.Life, PartRev: q.Rev})
			}
		}
	}
	if len(intents) == 0 {
		return
	}
	n.do("assign", func(ctx context.Context, _ *metadata.Image) error {
		_, err := n.meta.Assign(ctx, img.Controller, intents)
		return err
	})
}

// guessRecovery is what somebody who does not wait for the end of a log takes for one: the slots that are there now.
func (n *node) guessRecovery(ctx context.Context, st wal.StreamState) (wal.Recovery, error) {
	r := wal.Recovery{Cluster: simCluster, Life: st.Life, Trim: st.Trim, N: st.Trim}
	for {
		object, err := n.bucket.Get(ctx, wal.SlotKey(st.Life, r.N))
		if errors.Is(err, objectstore.ErrNotFound) {
			return r, nil
		}
		if err != nil {
			return r, err
		}
		h, chunks, err := wal.DecodeSlot(object)
		if err != nil || h.Kind != wal.KindData {
			return r, err
		}
		for _, c := range chunks {
			r.Chunks = append(r.Chunks, wal.RecoveredChunk{Seq: r.N, ObjectLen: uint32(len(object)), Chunk: c})
		}
		r.N, r.Digest = r.N+1, h.Digest
	}
}
