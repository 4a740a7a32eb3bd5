package audit

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/wal"
)

// kind is what an object is by its key.
type kind uint8

const (
	kindUnknown kind = iota
	kindSlot
	kindSegment
	kindManifest
	kindRecovery
	kindGuard
	kindProbe
)

const (
	recoveryPrefix = "recovery/"
	probePrefix    = "probe/"
)

// parseKey says what a key names.
func parseKey(key string) (k kind, life wal.Life, seq int64) {
	if pk, life, seq, ok := partition.ParseObjectKey(key); ok {
		switch pk {
		case partition.KindSlot:
			return kindSlot, life, seq
		case partition.KindSegment:
			return kindSegment, life, seq
		case partition.KindManifest:
			return kindManifest, life, seq
		}
	}
	switch {
	case key == metadata.GuardKey:
		return kindGuard, life, 0
	case strings.HasPrefix(key, probePrefix):
		return kindProbe, life, 0
	case strings.HasPrefix(key, recoveryPrefix):
		if life, err := wal.ParseLife(key[len(recoveryPrefix):]); err == nil && wal.RecoveryKey(life) == key {
			return kindRecovery, life, 0
		}
	}
	return kindUnknown, life, 0
}

// object is what the audit knows of one.
type object struct {
	key      string
	kind     kind
	life     wal.Life
	seq      int64
	size     int64
	modified time.Time
	// listed: it was there when the bucket was listed. Others are known because something refers to them.
	listed     bool
	referenced bool
	// done: all of it was looked at.
	done bool
	// parts are the positions of the indexes of a segment whose blocks were looked at: true when all was well.
	parts map[uint32]bool
}

// inventory is the objects by key.
type inventory struct {
	mu    sync.Mutex
	byKey map[string]*object
	// slots are the numbers of each life's listed slots, ascending.
	slots map[wal.Life][]int64
}

func (i *inventory) add(key string, size int64, modified time.Time) {
	k, life, seq := parseKey(key)
	i.byKey[key] = &object{key: key, kind: k, life: life, seq: seq, size: size, modified: modified, listed: true}
	if k == kindSlot {
		i.slots[life] = append(i.slots[life], seq)
	}
}

func (i *inventory) getLocked(key string) *object {
	o := i.byKey[key]
	if o == nil {
		o = &object{key: key}
		o.kind, o.life, o.seq = parseKey(key)
		i.byKey[key] = o
	}
	return o
}

// refer notes that something needs an object, and returns its size in the list, -1 if it was not there.
func (i *inventory) refer(key string) int64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	o := i.getLocked(key)
	o.referenced = true
	if !o.listed {
		return -1
	}
	return o.size
}

func (i *inventory) finished(key string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.getLocked(key).done = true
}

// size returns an object's size in the list, -1 if it was not there.
func (i *inventory) size(key string) int64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if o := i.byKey[key]; o != nil && o.listed {
		return o.size
	}
	return -1
}

// partDone notes that the blocks of the part whose index lies at pos were looked at.
func (i *inventory) partDone(key string, pos uint32, well bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	o := i.getLocked(key)
	if o.parts == nil {
		o.parts = map[uint32]bool{}
	}
	o.parts[pos] = well
}

// partSeen says whether partDone was called, and how.
func (i *inventory) partSeen(key string, pos uint32) (well, seen bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if o := i.byKey[key]; o != nil {
		well, seen = o.parts[pos]
	}
	return well, seen
}

// all returns the objects in the order of their keys.
func (i *inventory) all() []*object {
	out := make([]*object, 0, len(i.byKey))
	for _, o := range i.byKey {
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b *object) int { return cmp.Compare(a.key, b.key) })
	return out
}

// listObjects lists the bucket, once.
func (c *checker) listObjects(ctx context.Context) error {
	c.objects.byKey, c.objects.slots = map[string]*object{}, map[wal.Life][]int64{}
	for info, err := range c.store.List(ctx, "", "") {
		if err != nil {
			return err
		}
		c.objects.add(info.Key, info.Size, info.Modified)
		c.report.Objects++
		c.report.Bytes += info.Size
	}
	return nil
}

// classify finds the leaks among what nothing refers to.
func (c *checker) classify() {
	for _, o := range c.objects.all() {
		if !o.listed || o.referenced || o.kind == kindGuard {
			continue
		}
		if class := c.leakOf(o); class != "" {
			c.report.leak(class, o.key, o.size)
		}
	}
}

// leakOf returns the class of an object that nothing refers to, "" if it is needed all the same.
func (c *checker) leakOf(o *object) string {
	st, known := c.lives[o.life]
	pending := known && st.Phase != wal.PhaseSealed || c.opts.Now().Sub(o.modified) < c.opts.Grace
	switch o.kind {
	case kindSlot:
		return c.leakOfSlot(o, st, known, pending)
	case kindSegment, kindManifest, kindRecovery:
		classes := map[kind]string{kindSegment: LeakSegment, kindManifest: LeakManifest, kindRecovery: LeakRecovery}
		if pending {
			return LeakPending
		}
		return classes[o.kind]
	case kindProbe:
		return LeakProbe
	}
	return LeakUnknown
}

func (c *checker) leakOfSlot(o *object, st wal.StreamState, known, pending bool) string {
	switch {
	case !known && pending:
		return LeakPending
	case !known:
		return LeakLife
	case o.seq < st.Trim && (st.Phase != wal.PhaseSealed || o.seq < st.N):
		return LeakTrimmed
	case st.Phase == wal.PhaseSealed && o.seq > st.N:
		return LeakOrphan
	case st.Phase != wal.PhaseSealed && c.tails[o.life] != nil && o.seq > c.tails[o.life].end:
		return LeakPending
	}
	return ""
}
