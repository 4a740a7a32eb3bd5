package workload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/verify"
)

const (
	// commitEvery is how often a member commits how far it is.
	commitEvery = 200 * time.Millisecond
	// sessionTimeout is short, so that a group is whole again soon after a member lost its connection.
	sessionTimeout = 10 * time.Second
)

// A member reads its share of a group's partitions and commits.
type member struct {
	w      *Workload
	name   string
	client *kgo.Client

	mu struct {
		sync.Mutex
		assigned time.Duration // when partitions came last, which is before their offsets were asked for
		places   map[int32]*place
		sessions int32
	}
}

// A place is where a member is in a partition.
type place struct {
	session   int32
	position  int64
	committed int64
}

func newMember(w *Workload, number int) (*member, error) {
	m := &member{w: w, name: fmt.Sprintf("member-%d", number)}
	m.mu.places = map[int32]*place{}
	gone := func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { m.lose(lost) }
	client, err := kgo.NewClient(w.o.clientOptions(
		kgo.ConsumerGroup(w.o.Group), kgo.ConsumeTopics(w.o.Topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(), kgo.SessionTimeout(sessionTimeout), kgo.FetchMaxWait(500*time.Millisecond),
		// A partition does not go to another member between a poll and its commit.
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.mu.assigned = w.rec.now()
		}),
		kgo.OnPartitionsRevoked(gone), kgo.OnPartitionsLost(gone),
		kgo.AdjustFetchOffsetsFn(func(_ context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
			m.begin(offsets[w.o.Topic])
			return offsets, nil
		}),
	)...)
	m.client = client
	return m, err
}

// begin notes where the group was in partitions that the member got: there it goes on.
func (m *member) begin(offsets map[int32]kgo.Offset) {
	m.mu.Lock()
	defer m.mu.Unlock()
	span := verify.Span{Begin: m.mu.assigned, End: m.w.rec.now()}
	m.mu.sessions++
	for partition, offset := range offsets {
		committed := max(offset.EpochOffset().Offset, -1) // below it are names of the start
		m.mu.places[partition] = &place{session: m.mu.sessions, position: max(committed, 0), committed: committed}
		m.w.rec.note(func(h *verify.History) {
			h.Committed = append(h.Committed, verify.Committed{
				Span: span, Group: m.w.o.Group, Client: m.name, Partition: partition, Offset: committed,
			})
		})
	}
}

func (m *member) lose(lost map[string][]int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, partition := range lost[m.w.o.Topic] {
		delete(m.mu.places, partition)
	}
}

// run reads and commits until ctx ends.
func (m *member) run(ctx context.Context) {
	defer m.client.CloseAllowingRebalance()
	last := time.Now()
	for ctx.Err() == nil {
		begin := m.w.rec.now()
		polling, cancel := context.WithTimeout(ctx, pollTimeout)
		fetches := m.client.PollFetches(polling)
		cancel()
		span := verify.Span{Begin: begin, End: m.w.rec.now()}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if p.Topic == m.w.o.Topic {
				m.note(span, p.FetchPartition)
			}
		})
		if time.Since(last) >= commitEvery {
			m.commit(ctx)
			last = time.Now()
		}
		m.client.AllowRebalance()
	}
}

func (m *member) note(span verify.Span, p kgo.FetchPartition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if text := readError(p.Err); text != "" {
		m.w.o.Log.Warn("read", "consumer", m.name, "partition", p.Partition, "error", p.Err)
	}
	at := m.mu.places[p.Partition]
	if at == nil || len(p.Records) == 0 {
		return
	}
	poll := verify.Poll{
		Span: span, Consumer: m.name, Group: m.w.o.Group, Session: at.session, Partition: p.Partition,
		Position: at.position, Records: m.w.records(p.Records),
	}
	at.position = p.Records[len(p.Records)-1].Offset + 1
	m.w.rec.note(func(h *verify.History) { h.Polls = append(h.Polls, poll) })
}

// commit commits how far the member is where that is further than before.
func (m *member) commit(ctx context.Context) {
	offsets := m.progress()
	if len(offsets) == 0 {
		return
	}
	begin := m.w.rec.now()
	all := map[string]map[int32]kgo.EpochOffset{m.w.o.Topic: offsets}
	m.client.CommitOffsetsSync(ctx, all, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		span := verify.Span{Begin: begin, End: m.w.rec.now()}
		answers := map[int32]error{}
		if err == nil {
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					answers[p.Partition] = kerr.ErrorForCode(p.ErrorCode)
				}
			}
		}
		for partition, offset := range offsets {
			answer, ok := answers[partition]
			if !ok {
				answer = errors.Join(errors.New("no answer"), err)
			}
			m.answered(span, partition, offset.Offset, ok, answer)
		}
	})
}

func (m *member) progress() map[int32]kgo.EpochOffset {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[int32]kgo.EpochOffset{}
	for partition, at := range m.mu.places {
		if at.position > max(at.committed, 0) {
			out[partition] = kgo.EpochOffset{Epoch: -1, Offset: at.position}
		}
	}
	return out
}

// answered notes what came of a commit.
func (m *member) answered(span verify.Span, partition int32, offset int64, answered bool, err error) {
	c := verify.Commit{Span: span, Group: m.w.o.Group, Member: m.name, Partition: partition, Offset: offset, Outcome: verify.Unknown}
	switch {
	case err == nil:
		c.Outcome = verify.Acknowledged
		m.mu.Lock()
		if at := m.mu.places[partition]; at != nil {
			at.committed = max(at.committed, offset)
		}
		m.w.raise(partition, offset)
		m.mu.Unlock()
	case answered && errors.Is(err, kerr.IllegalGeneration), answered && errors.Is(err, kerr.UnknownMemberID):
		c.Outcome = verify.Failed
	}
	if err != nil {
		c.Error = err.Error()
	}
	m.w.rec.note(func(h *verify.History) { h.Commits = append(h.Commits, c) })
}
