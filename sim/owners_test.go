package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/wal"
)

// batch is how many partitions a transaction takes: few, so that calls with some end in part.
const batch = 2

// Claim moves partitions of one sealed life to an open one (O2b, S7), in batches.
func (c *agreed) Claim(ctx context.Context, to wal.Life, claims []metadata.Claim) error {
	var last int64
	for some := range slices.Chunk(claims, batch) {
		rev, err := c.claimSome(ctx, to, some)
		if err != nil {
			return err
		}
		last = rev
	}
	ctx = c.bound(ctx)
	c.seen(ctx, last)
	return nil
}

func (c *agreed) claimSome(ctx context.Context, to wal.Life, claims []metadata.Claim) (int64, error) {
	ctx = c.bound(ctx)
	old, op := claims[0].OldLife, c.op()
	what := fmt.Sprintf("claim %d of %s for %s", len(claims), keysOf(old).name, keysOf(to).name)
	a, err := c.read(ctx, "read for "+what, append(gets(old), gets(to)...)...)
	if err != nil {
		return 0, err
	}
	from, err := streamOf(old, a.kvs[0], a.kvs[1])
	if err != nil {
		return 0, err
	}
	into, err := streamOf(to, a.kvs[2], a.kvs[3])
	switch {
	case err != nil:
		return 0, err
	case from.Phase != wal.PhaseSealed && !c.p.w.cfg.mistakes.unsealed:
		return 0, fmt.Errorf("%s: %w: it is not SEALED (S7)", what, metadata.ErrStale)
	case into.Phase != wal.PhaseOpen:
		return 0, fmt.Errorf("%s: %w", what, metadata.ErrFenced)
	}
	t := write{what: what, when: []comparison{{stateKey(old), from.Rev}, {stateKey(to), into.Rev}}, gets: []string{partKey(claims[0].ID)}, op: op}
	for _, x := range claims {
		t.when = append(t.when, comparison{partKey(x.ID), x.Rev}, comparison{manifestKey(x.ID), x.ManifestRev})
		t.then = append(t.then, change{key: partKey(x.ID), kv: kv{value: partValue{to, x.LeaderEpoch, x.Start, x.History}, op: op}}, change{key: intentKey(x.ID)})
		if x.Manifest != nil {
			t.then = append(t.then, change{key: manifestKey(x.ID), kv: kv{value: *x.Manifest, op: op}})
		}
	}
	r, ok, err := c.commit(ctx, t)
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w", what, metadata.ErrStale)
	}
	return r.rev, err
}

// CommitManifests replaces manifest heads of partitions that life owns, in batches.
func (c *agreed) CommitManifests(ctx context.Context, life wal.Life, updates []metadata.ManifestUpdate) error {
	for some := range slices.Chunk(updates, batch) {
		if err := c.commitSome(ctx, life, some); err != nil {
			return err
		}
	}
	return nil
}

func (c *agreed) commitSome(ctx context.Context, life wal.Life, updates []metadata.ManifestUpdate) error {
	ctx = c.bound(ctx)
	what, op := strconv.Itoa(len(updates))+" manifests of "+keysOf(life).name, c.op()
	var keys []string
	for _, u := range updates {
		keys = append(keys, partKey(u.ID), manifestKey(u.ID))
	}
	a, err := c.read(ctx, "read for "+what, keys...)
	if err != nil {
		return err
	}
	t := write{what: what, op: op}
	for i, u := range updates {
		done, err := manifestDone(life, u, a.kvs[2*i], a.kvs[2*i+1])
		if err != nil {
			return err
		}
		if done {
			continue
		}
		t.when = append(t.when, comparison{partKey(u.ID), a.kvs[2*i].rev}, comparison{manifestKey(u.ID), a.kvs[2*i+1].rev})
		t.then = append(t.then, change{key: manifestKey(u.ID), kv: kv{value: u.Pointer, op: op}})
		t.gets = []string{manifestKey(u.ID)}
	}
	if len(t.then) == 0 {
		return nil
	}
	_, ok, err := c.commit(ctx, t)
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w", what, metadata.ErrStale)
	}
	return err
}

// manifestDone judges one update: already made, to be made (false), or stale.
func manifestDone(life wal.Life, u metadata.ManifestUpdate, part, manifest kv) (bool, error) {
	p, ok := part.value.(partValue)
	if !ok {
		return false, metadata.ErrUnknownTopic
	}
	if p.owner != life {
		return false, fmt.Errorf("manifest of %d: %w: its owner is %s", u.ID.Partition, metadata.ErrStale, p.owner)
	}
	now, _ := manifest.value.(metadata.ManifestPointer)
	if now == u.Pointer {
		return true, nil
	}
	if now.Version != u.PrevVersion {
		return false, fmt.Errorf("manifest of %d: %w: version is %d, not %d", u.ID.Partition, metadata.ErrStale, now.Version, u.PrevVersion)
	}
	return false, nil
}

// Move gives partitions to other open lives (O2a), in batches.
func (c *agreed) Move(ctx context.Context, from wal.Life, moves []metadata.Move) (outcomes []error) {
	var last int64
	for some := range slices.Chunk(moves, batch) {
		rev, err := c.moveSome(ctx, from, some)
		last = max(last, rev)
		if refused := errors.Is(err, metadata.ErrStale) || errors.Is(err, metadata.ErrUnknownTopic); !refused || len(some) == 1 {
			outcomes = append(outcomes, slices.Repeat([]error{err}, len(some))...)
			continue
		}
		for one := range slices.Chunk(some, 1) { // what refuses one does not refuse its neighbours
			rev, err := c.moveSome(ctx, from, one)
			outcomes, last = append(outcomes, err), max(last, rev)
		}
	}
	ctx = c.bound(ctx)
	c.seen(ctx, last)
	return outcomes
}

func (c *agreed) moveSome(ctx context.Context, from wal.Life, moves []metadata.Move) (int64, error) {
	ctx = c.bound(ctx)
	what, op := fmt.Sprintf("move %d of %s, to %s", len(moves), from, moves[0].To), c.op()
	lives, known := []wal.Life{from}, map[wal.Life]bool{from: true}
	var keys []string
	for _, m := range moves {
		keys = append(keys, partKey(m.ID), manifestKey(m.ID), intentKey(m.ID))
		if !known[m.To] {
			known[m.To] = true
			lives = append(lives, m.To)
		}
	}
	for _, l := range lives {
		keys = append(keys, stateKey(l))
	}
	a, err := c.read(ctx, "read for "+what, keys...)
	if err != nil {
		return 0, err
	}
	t := write{what: what, gets: []string{partKey(moves[0].ID)}, op: op}
	for i, l := range lives {
		st, err := streamOf(l, a.kvs[3*len(moves)+i], kv{})
		if err == nil && st.Phase != wal.PhaseOpen {
			err = fmt.Errorf("life %s is not OPEN: %w", l, metadata.ErrStale)
		}
		if err != nil {
			return 0, err
		}
		t.when = append(t.when, comparison{stateKey(l), st.Rev})
	}
	for i, m := range moves {
		part, manifest, intent := a.kvs[3*i], a.kvs[3*i+1], a.kvs[3*i+2]
		if v, ok := part.value.(partValue); ok && v.epoch+1 != m.LeaderEpoch {
			return 0, fmt.Errorf("%s to epoch %d: %w: it is at epoch %d", what, m.LeaderEpoch, metadata.ErrStale, v.epoch)
		}
		u := metadata.ManifestUpdate{ID: m.ID, Pointer: m.Manifest, PrevVersion: m.PrevVersion}
		if _, err := manifestDone(from, u, part, manifest); err != nil {
			return 0, err
		}
		t.when = append(t.when, comparison{partKey(m.ID), part.rev}, comparison{manifestKey(m.ID), manifest.rev})
		t.then = append(t.then,
			change{key: partKey(m.ID), kv: kv{value: partValue{m.To, m.LeaderEpoch, m.Start, m.History}, op: op}},
			change{key: manifestKey(m.ID), kv: kv{value: m.Manifest, op: op}})
		if intent.value == any(m.To) { // another one is the new owner's
			t.then = append(t.then, change{key: intentKey(m.ID), ifRev: intent.rev})
		}
	}
	r, ok, err := c.commit(ctx, t)
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w", what, metadata.ErrStale)
	}
	return r.rev, err
}

// Register puts the liveness key under the process's lease if the life is OPEN.
func (c *agreed) Register(ctx context.Context, life wal.Life) error {
	ctx = c.bound(ctx)
	key, op := brokerKey(life.Broker), c.op()
	for {
		a, err := c.read(ctx, "read for registration", append(gets(life), key)...)
		if err != nil {
			return err
		}
		st, err := streamOf(life, a.kvs[0], a.kvs[1])
		if err != nil {
			return err
		}
		other, _ := a.kvs[2].value.(wal.Life)
		if st.Phase != wal.PhaseOpen || other.Epoch > life.Epoch {
			return fmt.Errorf("register %s: %w", life, metadata.ErrFenced)
		}
		_, ok, err := c.commit(ctx, write{
			what: "register " + life.String(), when: []comparison{{stateKey(life), st.Rev}, {key, a.kvs[2].rev}},
			then: []change{{key: key, kv: kv{value: life, op: op, lease: c.p}}}, gets: []string{key}, op: op,
		})
		if err != nil || ok {
			return err
		}
	}
}

// Campaign makes the life the controller if there is none.
func (c *agreed) Campaign(ctx context.Context, life wal.Life) (metadata.Controller, error) {
	ctx = c.bound(ctx)
	op := c.op()
	a, _, err := c.commit(ctx, write{
		what: "campaign of " + life.String(), when: []comparison{{controllerKey, 0}},
		then: []change{{key: controllerKey, kv: kv{value: life, op: op, lease: c.p}}}, gets: []string{controllerKey}, op: op,
	})
	if err != nil {
		return metadata.Controller{}, err
	}
	holder, _ := a.kvs[0].value.(wal.Life)
	return metadata.Controller{Life: holder, Rev: a.kvs[0].rev}, nil
}

// Assign writes intents if by is the controller and nothing has changed since they were planned.
func (c *agreed) Assign(ctx context.Context, by metadata.Controller, intents []metadata.Intent) (int, error) {
	ctx = c.bound(ctx)
	op := c.op()
	t := write{what: fmt.Sprintf("assign %d by %s", len(intents), by.Life), when: []comparison{{controllerKey, by.Rev}}, gets: []string{controllerKey}}
	for _, in := range intents {
		t.when = append(t.when, comparison{partKey(in.ID), in.PartRev})
		x := change{key: intentKey(in.ID)}
		if in.To != (wal.Life{}) {
			x.kv = kv{value: in.To, op: op}
		}
		t.then = append(t.then, x)
	}
	a, ok, err := c.commit(ctx, t)
	switch {
	case err != nil:
		return 0, err
	case ok:
		return len(intents), nil
	case a.kvs[0].rev != by.Rev:
		return 0, fmt.Errorf("%s: %w", t.what, metadata.ErrStale)
	}
	return 0, nil
}
