package broker

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// silentManifests is etcd as partitions see it that goes silent when a move was applied.
type silentManifests struct {
	partition.ManifestStore
	armed, silent atomic.Bool
}

var errSilent = fmt.Errorf("%w: the test", metadata.ErrUnavailable)

func (s *silentManifests) Move(ctx context.Context, from wal.Life, moves []metadata.Move) []error {
	out := make([]error, len(moves))
	if s.silent.Load() {
		for i := range out {
			out[i] = errSilent
		}
		return out
	}
	if !s.armed.CompareAndSwap(true, false) {
		return s.ManifestStore.Move(ctx, from, moves)
	}
	s.ManifestStore.Move(ctx, from, moves)
	s.silent.Store(true)
	for i := range out {
		out[i] = fmt.Errorf("%w: the test", metadata.ErrUnknownOutcome)
	}
	return out
}

func (s *silentManifests) States(ctx context.Context, ids []protocol.PartitionID) ([]metadata.PartitionState, error) {
	if s.silent.Load() {
		return nil, errSilent
	}
	return s.ManifestStore.States(ctx, ids)
}

func (s *silentManifests) Partitions(ctx context.Context) ([]metadata.PartitionState, error) {
	if s.silent.Load() {
		return nil, errSilent
	}
	return s.ManifestStore.Partitions(ctx)
}

func (s *silentManifests) CommitManifests(ctx context.Context, life wal.Life, updates []metadata.ManifestUpdate) error {
	if s.silent.Load() {
		return errSilent
	}
	return s.ManifestStore.CommitManifests(ctx, life, updates)
}

// startSilenced starts two brokers, of which the first may come to hear nothing of etcd.
func startSilenced(t *testing.T) (from, to *testBroker, s *silentManifests) {
	t.Helper()
	etcd, s := startEtcd(t), &silentManifests{}
	shared := []string{"--cluster", etcd.url(), "--bucket", "file://" + t.TempDir()}
	from = prepareBroker(t, nil, append(shared, "--broker-id", "1")...)
	from.wrapM = func(below partition.ManifestStore) partition.ManifestStore { s.ManifestStore = below; return s }
	from.start()
	return from, startBroker(t, append(shared, "--broker-id", "2")...), s
}

// loseMove moves a partition so that its old owner does not know it. It returns who tells what metadata say of it.
func (s *silentManifests) loseMove(t *testing.T, from, to *testBroker, id protocol.PartitionID) (now func() metadata.Partition) {
	t.Helper()
	s.armed.Store(true)
	now = func() metadata.Partition { return from.broker.meta.Image().TopicsByID[id.Topic].Partitions[0] }
	if err := to.broker.meta.Reassign(t.Context(), []metadata.Reassignment{{ID: id, To: to.broker.life, Was: now()}})[0]; err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the new owner to serve it", func() bool { _, open := to.broker.logs.Get(id); return open })
	waitFor(t, "the old one not to know", func() bool { l, open := from.broker.logs.Get(id); return open && l.Ended() })
	return now
}

// TestMoveOfUnknownOutcome: a partition of __consumer_offsets moves, and its old owner is not told. While that does not know it coordinates no
// group; and when the partition comes back before it knows, it serves it again.
func TestMoveOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	from, to, s := startSilenced(t)
	c := dial(t, from.kafka)
	c.awaitBrokers(2)
	const group = "g0"
	c.createAt("u", 1, 1) // and nothing is balanced
	c.createAt(offsetsTopic, 1, 1)
	commitAt(t, kadm.NewClient(from.client()), 1)
	id := protocol.PartitionID{Topic: topicID(t, from, offsetsTopic)}
	heartbeat := func() protocol.ErrorCode { // of a stranger
		beat := kmsg.NewPtrHeartbeatRequest()
		beat.Version, beat.Group, beat.MemberID = 3, group, "nobody"
		return protocol.ErrorCode(ask[*kmsg.HeartbeatResponse](c, beat).ErrorCode)
	}
	if got := heartbeat(); got != protocol.CodeUnknownMemberID {
		t.Fatalf("a stranger's heartbeat is answered %v", got)
	}

	now := s.loseMove(t, from, to, id)
	waitFor(t, "its coordinator to end", func() bool { return heartbeat() == protocol.CodeNotCoordinator })

	if err := to.broker.handOver(t.Context(), []partition.Transfer{{ID: id, To: from.broker.life}}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "it to be back", func() bool { return now().Owner == from.broker.life })
	s.silent.Store(false)
	waitFor(t, "it to be served", func() bool {
		l, open := from.broker.logs.Get(id)
		return open && !l.Ended() && l.State().LeaderEpoch == now().LeaderEpoch && heartbeat() == protocol.CodeUnknownMemberID
	})
}

// refusedMoves refuses moves as an etcd that does not answer, and counts them.
type refusedMoves struct {
	partition.ManifestStore
	refuses atomic.Bool
	asked   atomic.Int32
}

func (r *refusedMoves) Move(ctx context.Context, from wal.Life, moves []metadata.Move) []error {
	if !r.refuses.Load() {
		return r.ManifestStore.Move(ctx, from, moves)
	}
	r.asked.Add(1)
	return slices.Repeat([]error{errSilent}, len(moves))
}

// TestNoHandOverIntoSilence: while etcd is silent no hand-over is begun, for appends wait for the end of each.
func TestNoHandOverIntoSilence(t *testing.T) {
	t.Parallel()
	etcd, m := startEtcd(t), &refusedMoves{}
	m.refuses.Store(true)
	shared := []string{"--cluster", etcd.url(), "--bucket", "file://" + t.TempDir()}
	from := prepareBroker(t, nil, append(shared, "--broker-id", "1")...)
	from.wrapM = func(below partition.ManifestStore) partition.ManifestStore { m.ManifestStore = below; return m }
	from.start()
	to := startBroker(t, append(shared, "--broker-id", "2")...)
	c := dial(t, from.kafka)
	c.awaitBrokers(2)
	c.createAt("t", 1, 1)
	id := protocol.PartitionID{Topic: topicID(t, from, "t")}
	was := from.broker.meta.Image().TopicsByID[id.Topic].Partitions[0]
	if err := from.broker.meta.Reassign(t.Context(), []metadata.Reassignment{{ID: id, To: to.broker.life, Was: was}})[0]; err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the move to be tried again", func() bool { return m.asked.Load() > 1 })
	etcd.stop()
	waitFor(t, "silence", func() bool { return from.broker.meta.Silence() > handOverSilence+ownershipRetry })
	before := m.asked.Load()
	<-time.After(4 * ownershipRetry)
	if now := m.asked.Load(); now != before {
		t.Errorf("%d hand-overs were begun", now-before)
	}
	wantCode(t, "produce", c.produce("t", 0, batchOf("a")).ErrorCode, protocol.CodeNone)
	m.refuses.Store(false)
	etcd.start()
	waitFor(t, "the new owner to serve it", func() bool { _, open := to.broker.logs.Get(id); return open })
}

// TestFetchWhileAMoveIsUnknown: the old owner of a partition serves what it has, and sends away who asks for more: its long polls would end
// at once, with nothing, and a position that only the new owner has is not out of range.
func TestFetchWhileAMoveIsUnknown(t *testing.T) {
	t.Parallel()
	from, to, s := startSilenced(t)
	c := dial(t, from.kafka)
	c.awaitBrokers(2)
	c.createAt("u", 1, 1) // and nothing is balanced
	c.createAt("t", 1, 1)
	wantCode(t, "before", c.produce("t", 0, batchOf("a")).ErrorCode, protocol.CodeNone)
	now := s.loseMove(t, from, to, protocol.PartitionID{Topic: topicID(t, from, "t")})
	wantCode(t, "after", dial(t, to.kafka).produce("t", 0, batchOf("b", "c")).ErrorCode, protocol.CodeNone)

	for _, tc := range []struct {
		name      string
		version   int16
		offset    int64
		lastEpoch int32
		want      protocol.ErrorCode
	}{
		{"what it has", 12, 0, -1, protocol.CodeNone},
		{"a long poll", 12, 1, -1, protocol.CodeNotLeaderOrFollower},
		{"the end of the new owner", 10, 3, -1, protocol.CodeNotLeaderOrFollower},
		{"an epoch of the new owner", 12, 3, now().LeaderEpoch, protocol.CodeNotLeaderOrFollower},
		{"behind its end, of its own epoch", 12, 2, now().LeaderEpoch - 1, protocol.CodeNotLeaderOrFollower},
		{"before the start", 12, -5, -1, protocol.CodeOffsetOutOfRange},
	} {
		req := fetchRequest(tc.version, "t", protocol.TopicID{}, 0, tc.offset)
		req.MinBytes, req.MaxWaitMillis = 1, 5000
		req.Topics[0].Partitions[0].LastFetchedEpoch = tc.lastEpoch
		p := fetched(c, req)
		wantCode(t, tc.name, p.ErrorCode, tc.want)
		if p.DivergingEpoch.Epoch >= 0 || len(p.RecordBatches) > 0 != (tc.want == protocol.CodeNone) {
			t.Errorf("%s: diverges at %d/%d, %d bytes", tc.name, p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset, len(p.RecordBatches))
		}
	}
}
