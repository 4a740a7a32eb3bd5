package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// attemptsMax bounds how often a partition is looked at whose head moves meanwhile.
const attemptsMax = 5

// checkPartitions reads all partitions of all topics. Their heads are read after the logs: see the comment of the package.
func (c *checker) checkPartitions(ctx context.Context) error {
	states, err := c.opts.Metadata.Partitions(ctx)
	if err != nil {
		return err
	}
	c.image = c.opts.Metadata.Image()
	c.report.Partitions = int64(len(states))
	for _, st := range states {
		c.heads[st.ID] = st
	}
	for _, t := range c.image.TopicsByID {
		for i := range t.Partitions {
			id := protocol.PartitionID{Topic: t.ID, Partition: int32(i)}
			if _, ok := c.heads[id]; ok {
				continue
			}
			// The image may be newer than the list, or older: ask.
			st, err := c.opts.Metadata.Partition(ctx, id)
			switch {
			case err == nil:
				c.heads[id] = st
				states = append(states, st)
			case errors.Is(err, metadata.ErrUnknownPartition):
				c.report.add(c.problemOf(id, Ownership, "", "the topic has a partition without an owner"))
			case !errors.Is(err, metadata.ErrUnknownTopic):
				return err
			}
		}
	}
	c.checkTails()
	return each(ctx, c.opts.Concurrency, states, c.checkPartition)
}

// problemOf makes a problem of a partition.
func (c *checker) problemOf(id protocol.PartitionID, class Class, key, format string, args ...any) Problem {
	return Problem{Class: class, Key: key, Topic: topicName(c.image, id.Topic), Partition: &id.Partition, Message: fmt.Sprintf(format, args...)}
}

// checkTails holds the logs against the manifests: what is below a trim is in manifests (G1), so the first chunk behind it begins at or
// below the manifest's end, and the chunk that goes on from there begins exactly there. A partition that has left a sealed life took all
// of its records along (O2).
func (c *checker) checkTails() {
	for life, t := range c.tails {
		for id, run := range t.runs {
			head, exists := c.heads[id]
			if !exists || t.broken {
				continue // deleted, or reported already
			}
			var end int64
			if head.Manifest != nil {
				end = head.Manifest.EndOffset
			}
			key := wal.SlotKey(life, run.slot)
			report := func(class Class, format string, args ...any) {
				p := c.problemOf(id, class, key, format, args...)
				last := run.next - 1
				p.First, p.Last = &run.bases[0], &last
				c.report.add(p)
			}
			_, begins := slices.BinarySearch(run.bases, end)
			switch {
			case end < run.bases[0]:
				report(Offsets, "the manifest ends at %d, but the log goes on from %d", end, run.bases[0])
			case end < run.next && !begins:
				report(Offsets, "the manifest ends at %d, within a chunk", end)
			case end < run.next && head.Owner != life && c.lives[life].Phase == wal.PhaseSealed:
				report(Offsets, "the manifest ends at %d, though the log of an earlier owner ended at %d", end, run.next)
			}
			c.checkTailEpochs(&head, life, run, report)
		}
	}
}

// checkTailEpochs holds the leader epochs of a log against the partition's history (O1): those of records that it still knows.
func (c *checker) checkTailEpochs(head *metadata.PartitionState, life wal.Life, run *tailRun, report func(Class, string, ...any)) {
	history, err := epochsOf(head, nil)
	if err != nil || len(history) == 0 || run.bases[0] < history[0].Start {
		return // reported with the partition, or older than the history
	}
	for _, epoch := range []int32{run.first, run.epoch} {
		if !slices.ContainsFunc(history, func(e metadata.EpochStart) bool { return e.Epoch == epoch && e.Life == life }) {
			report(Epochs, "life %s wrote with leader epoch %d, which it never had", life, epoch)
			return
		}
	}
}

// attempt is one look at a partition.
type attempt struct {
	*checker
	st       metadata.PartitionState
	m        *partition.Manifest
	epochs   []metadata.EpochStart
	problems []Problem
	parts    []checkedPart
}

// checkedPart is a part whose blocks were read.
type checkedPart struct {
	key  string
	pos  uint32
	well bool
}

func (a *attempt) problem(class Class, key, format string, args ...any) {
	a.problems = append(a.problems, a.problemOf(a.st.ID, class, key, format, args...))
}

// at reports a problem of a range of offsets.
func (a *attempt) at(first, last int64, class Class, key, format string, args ...any) {
	p := a.problemOf(a.st.ID, class, key, format, args...)
	p.First, p.Last = &first, &last
	a.problems = append(a.problems, p)
}

// checkPartition looks at a partition until its problems are sure, or it is gone.
func (c *checker) checkPartition(ctx context.Context, st metadata.PartitionState) error {
	for i := 1; ; i++ {
		a := &attempt{checker: c, st: st}
		if err := a.run(ctx); err != nil {
			return fmt.Errorf("partition %v: %w", st.ID, err)
		}
		sure := len(a.problems) == 0 || i == attemptsMax
		if !sure {
			now, err := c.opts.Metadata.Partition(ctx, st.ID)
			if errors.Is(err, metadata.ErrUnknownTopic) || errors.Is(err, metadata.ErrUnknownPartition) {
				return nil // deleted meanwhile
			}
			if err != nil {
				return err
			}
			sure = now.Rev == st.Rev && now.ManifestRev == st.ManifestRev
			st = now
		}
		for _, p := range a.parts {
			if p.well || sure {
				c.objects.partDone(p.key, p.pos, p.well)
			}
		}
		if sure {
			c.report.add(a.problems...)
			return nil
		}
	}
}

func (a *attempt) run(ctx context.Context) error {
	if _, known, err := a.life(ctx, a.st.Owner); err != nil {
		return err
	} else if !known {
		a.problem(Ownership, "", "its owner %s is no life that metadata knows", a.st.Owner)
	}
	if a.st.Manifest != nil {
		if err := a.loadManifest(ctx); err != nil || a.m == nil {
			return err
		}
	}
	var end int64
	if a.m != nil {
		end = a.m.EndOffset
	}
	if end < a.st.Start {
		a.problem(Offsets, "", "leader epoch %d begins at %d, but the manifest ends at %d", a.st.LeaderEpoch, a.st.Start, end)
	}
	var err error
	if a.epochs, err = epochsOf(&a.st, a.m); err != nil {
		a.problem(Epochs, "", "%v", err)
	}
	if a.m == nil {
		return nil
	}
	for i := range a.m.Parts {
		if err := a.checkPart(ctx, &a.m.Parts[i]); err != nil {
			return err
		}
	}
	for i := range a.m.Extents {
		if err := a.checkSlotExtent(ctx, &a.m.Extents[i]); err != nil {
			return err
		}
	}
	return nil
}

// loadManifest reads the manifest that the head points at, and compares them.
func (a *attempt) loadManifest(ctx context.Context) error {
	p := a.st.Manifest
	size := a.objects.refer(p.Key)
	if k, _, _ := parseKey(p.Key); k != kindManifest || p.Pos < partition.ManifestHeaderLen || p.Len <= 0 || size >= 0 && p.Pos+int64(p.Len) > size {
		a.problem(Mismatch, p.Key, "the head points at %d bytes at %d of an object of %d", p.Len, p.Pos, size)
		return nil
	}
	data := make([]byte, p.Len)
	bad, err := a.sum(ctx, p.Key, data, p.Pos, p.CRC)
	if class, message, ok := absence(err); ok {
		a.problem(class, p.Key, "manifest %d: %s", p.Version, message)
		return nil
	}
	if err != nil {
		return err
	}
	var m *partition.Manifest
	if bad == nil {
		m, bad = partition.DecodeManifest(data)
	}
	switch {
	case bad != nil:
		a.problem(Damaged, p.Key, "manifest %d: %v", p.Version, bad)
	case m.Partition != a.st.ID || m.Version != p.Version || m.EndOffset != p.EndOffset:
		a.problem(Mismatch, p.Key, "it holds manifest %d of %v up to %d, the head says %d up to %d", m.Version, m.Partition, m.EndOffset, p.Version, p.EndOffset)
	default:
		a.m = m
	}
	return nil
}
