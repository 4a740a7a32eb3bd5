package sim

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// agreed is the agreed state as one process sees it: metadata.Store, transaction by transaction. What is read first and what is compared
// is the same there; where one is changed the other has to follow.
type agreed struct {
	p   *process
	ops atomic.Int64
	// opened, if set, is told when a read of a life's state began that found it OPEN; any goroutine calls it.
	opened func(l wal.Life, began time.Duration)
	// caughtUp, if set, lets the world call done when the image of the process is as new as a revision.
	caughtUp func(rev int64, done func())
}

var (
	_ partition.ManifestStore = (*agreed)(nil)
	_ wal.Registry            = (*agreed)(nil)
)

// partValue is a partition's ownership record.
type partValue struct {
	owner   wal.Life
	epoch   int32
	start   int64
	history []metadata.EpochStart
}

// lifeKeys are the names of a life's keys. They are asked for at every turn, and lives of one name come in many runs.
type lifeKeys struct{ name, state, trim string }

var namedLives sync.Map // of wal.Life to *lifeKeys

func keysOf(l wal.Life) *lifeKeys {
	if k, ok := namedLives.Load(l); ok {
		return k.(*lifeKeys)
	}
	name := l.String()
	k, _ := namedLives.LoadOrStore(l, &lifeKeys{name, "w/" + name + "/state", "w/" + name + "/trim"})
	return k.(*lifeKeys)
}

func stateKey(l wal.Life) string                 { return keysOf(l).state }
func trimKey(l wal.Life) string                  { return keysOf(l).trim }
func epochKey(id int32) string                   { return "epoch/" + strconv.Itoa(int(id)) }
func brokerKey(id int32) string                  { return "b/" + strconv.Itoa(int(id)) }
func partKey(id protocol.PartitionID) string     { return "p/" + strconv.Itoa(int(id.Partition)) }
func manifestKey(id protocol.PartitionID) string { return "m/" + strconv.Itoa(int(id.Partition)) }
func intentKey(id protocol.PartitionID) string   { return "r/" + strconv.Itoa(int(id.Partition)) }
func gets(l wal.Life) []string                   { return []string{stateKey(l), trimKey(l)} }

const controllerKey = "controller"

func (c *agreed) op() string {
	return c.p.name + "-" + strconv.FormatInt(c.ops.Add(1), 10)
}

func (c *agreed) bound(ctx context.Context) context.Context { return c.p.limit(ctx, etcdTimeout) }

func (c *agreed) read(ctx context.Context, what string, keys ...string) (answer, error) {
	a, _, err := c.commit(ctx, write{what: what, gets: keys})
	return a, err
}

func streamOf(l wal.Life, state, trim kv) (wal.StreamState, error) {
	st, ok := state.value.(wal.StreamState)
	if !ok {
		return wal.StreamState{}, fmt.Errorf("%s: %w", l, metadata.ErrUnknownLife)
	}
	st.Rev = state.rev
	st.Trim, _ = trim.value.(int64)
	return st, nil
}

// Load implements wal.Registry.
func (c *agreed) Load(ctx context.Context, l wal.Life) (wal.StreamState, error) {
	ctx = c.bound(ctx)
	began := c.p.w.passed()
	a, err := c.read(ctx, "load "+keysOf(l).name, gets(l)...)
	if err != nil {
		return wal.StreamState{}, err
	}
	st, err := streamOf(l, a.kvs[0], a.kvs[1])
	if err == nil && st.Phase == wal.PhaseOpen && c.opened != nil {
		c.opened(l, began)
	}
	return st, err
}

// seen waits until the image of the process is as new as a revision, as metadata.Store does after what it wrote.
func (c *agreed) seen(ctx context.Context, rev int64) {
	if c.caughtUp != nil {
		_ = c.p.ask(ctx, "catch up", func(done func()) { c.caughtUp(rev, done) })
	}
}

// BeginSeal implements wal.Registry (S2).
func (c *agreed) BeginSeal(ctx context.Context, l wal.Life, rev int64, sealer string) (wal.StreamState, error) {
	ctx = c.bound(ctx)
	now, err := c.Load(ctx, l)
	if err != nil {
		return now, err
	}
	next, moved := now.BeginSeal(rev, sealer)
	if !moved {
		return now, nil
	}
	return c.move(ctx, now, next)
}

// FinishSeal implements wal.Registry (S6, W8).
func (c *agreed) FinishSeal(ctx context.Context, l wal.Life, n int64, digest [32]byte, recoveryKey string) (wal.StreamState, error) {
	ctx = c.bound(ctx)
	now, err := c.Load(ctx, l)
	if err != nil {
		return now, err
	}
	next, moved := now.FinishSeal(n, digest, recoveryKey)
	switch {
	case moved:
		return c.move(ctx, now, next)
	case now.Phase == wal.PhaseOpen:
		return now, fmt.Errorf("finish the seal of %s: %w", l, metadata.ErrStale)
	}
	return now, nil
}

func (c *agreed) move(ctx context.Context, was, to wal.StreamState) (wal.StreamState, error) {
	key := stateKey(was.Life)
	to.Trim, to.Rev = 0, 0
	a, _, err := c.commit(ctx, write{
		what: "phase " + strconv.Itoa(int(to.Phase)) + " of " + keysOf(was.Life).name, when: []comparison{{key, was.Rev}},
		then: []change{{key: key, kv: kv{value: to, op: c.op()}}}, gets: gets(was.Life),
	})
	if err != nil {
		return wal.StreamState{}, err
	}
	return streamOf(was.Life, a.kvs[0], a.kvs[1])
}

// Trim implements wal.Registry (G1).
func (c *agreed) Trim(ctx context.Context, l wal.Life, rev, t int64) error {
	ctx = c.bound(ctx)
	for {
		a, err := c.read(ctx, "read trim of "+keysOf(l).name, gets(l)...)
		if err != nil {
			return err
		}
		now, err := streamOf(l, a.kvs[0], a.kvs[1])
		if err != nil {
			return err
		}
		if err := now.CheckTrim(rev, t); err != nil {
			return fmt.Errorf("%w: %w", metadata.ErrStale, err)
		}
		if t == now.Trim {
			return nil
		}
		_, ok, err := c.commit(ctx, write{
			what: "trim " + keysOf(l).name, when: []comparison{{stateKey(l), rev}, {trimKey(l), a.kvs[1].rev}},
			then: []change{{key: trimKey(l), kv: kv{value: t, op: c.op()}}},
		})
		if err != nil || ok {
			return err
		}
	}
}

// OpenLife creates a new life of a broker (W1).
func (c *agreed) OpenLife(ctx context.Context, broker int32, nonce [8]byte) (wal.Life, error) {
	ctx = c.bound(ctx)
	for {
		a, err := c.read(ctx, "read epoch", epochKey(broker))
		if err != nil {
			return wal.Life{}, err
		}
		last, _ := a.kvs[0].value.(uint64)
		life, op := wal.Life{Broker: broker, Epoch: last + 1, Nonce: nonce}, c.op()
		_, ok, err := c.commit(ctx, write{
			what: "open " + life.String(), when: []comparison{{epochKey(broker), a.kvs[0].rev}, {stateKey(life), 0}},
			then: []change{
				{key: epochKey(broker), kv: kv{value: life.Epoch, op: op}},
				{key: stateKey(life), kv: kv{value: wal.StreamState{Life: life, Phase: wal.PhaseOpen}, op: op}},
				{key: trimKey(life), kv: kv{value: int64(0), op: op}},
			},
			gets: []string{stateKey(life)}, op: op,
		})
		if err != nil || ok {
			return life, err
		}
	}
}

// Lives returns all lives of a broker, oldest first.
func (c *agreed) Lives(ctx context.Context, broker int32) ([]wal.StreamState, error) {
	var lives []wal.StreamState
	err := c.list(ctx, "lives", func(e *etcd) {
		lives = nil
		for key, v := range e.keys {
			if st, ok := v.value.(wal.StreamState); ok && st.Life.Broker == broker && strings.HasSuffix(key, "/state") {
				st, _ = streamOf(st.Life, v, e.keys[trimKey(st.Life)])
				lives = append(lives, st)
			}
		}
	})
	slices.SortFunc(lives, func(a, b wal.StreamState) int { return cmp.Compare(a.Life.Epoch, b.Life.Epoch) })
	return lives, err
}

// list reads many keys at one revision.
func (c *agreed) list(ctx context.Context, what string, look func(e *etcd)) error {
	ctx = c.bound(ctx)
	var out error
	err := c.p.ask(ctx, "list "+what, func(done func()) {
		c.p.w.etcd.attempt(c.p, &write{what: what}, func(_ answer, err error) {
			if out = err; err == nil {
				look(c.p.w.etcd)
			}
			done()
		})
	})
	if err == nil {
		err = out
	}
	if err != nil {
		return fmt.Errorf("list %s: %w: %w", what, metadata.ErrUnavailable, err)
	}
	return nil
}

// Partitions lists the ownership records of all partitions, as of one revision.
func (c *agreed) Partitions(ctx context.Context) ([]metadata.PartitionState, error) {
	var out []metadata.PartitionState
	err := c.list(ctx, "partitions", func(e *etcd) { out = e.partitions() })
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (e *etcd) partitions() []metadata.PartitionState {
	var out []metadata.PartitionState
	for i := range int32(e.w.cfg.partitions) {
		if st, ok := stateOf(partition0(i), e.keys[partKey(partition0(i))], e.keys[manifestKey(partition0(i))]); ok {
			out = append(out, st)
		}
	}
	return out
}

// stateOf is a partition's record and its manifest head.
func stateOf(id protocol.PartitionID, part, manifest kv) (metadata.PartitionState, bool) {
	v, ok := part.value.(partValue)
	if !ok {
		return metadata.PartitionState{}, false
	}
	st := metadata.PartitionState{ID: id, Owner: v.owner, LeaderEpoch: v.epoch, Start: v.start, History: v.history, Rev: part.rev}
	if p, ok := manifest.value.(metadata.ManifestPointer); ok {
		st.Manifest, st.ManifestRev = &p, manifest.rev
	}
	return st, true
}

// States reads some partitions.
func (c *agreed) States(ctx context.Context, ids []protocol.PartitionID) ([]metadata.PartitionState, error) {
	ctx = c.bound(ctx)
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b protocol.PartitionID) int { return cmp.Compare(a.Partition, b.Partition) })
	var keys []string
	for _, id := range ids {
		keys = append(keys, partKey(id), manifestKey(id))
	}
	a, err := c.read(ctx, "states", keys...)
	if err != nil {
		return nil, err
	}
	var out []metadata.PartitionState
	for i, id := range ids {
		if st, ok := stateOf(id, a.kvs[2*i], a.kvs[2*i+1]); ok {
			out = append(out, st)
		}
	}
	return out, nil
}
