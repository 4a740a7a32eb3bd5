package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/tidemill/tidemill/e2e/harness"
)

const (
	offsetsTopic = "__consumer_offsets"
	// Each commit is of every partition of this topic: some 600 of them fill a segment of 1 MiB.
	bookedTopic      = "booked"
	bookedPartitions = 20
	bookedRounds     = 150
	keepForADay      = 24 * time.Hour
	byTheBroker      = -1 * time.Millisecond // an offset expires when offsets.retention.minutes says so
)

// TestConsumerOffsetsCompaction lets many groups commit until the topic of their offsets is compacted many times over. What is
// committed is still there after a kill, what was deleted or has expired is not, and has left tombstones.
func TestConsumerOffsetsCompaction(t *testing.T) {
	broker := harness.NewBroker(t, eager(harness.Settings{
		"offsets.topic.num.partitions": "1", "offsets.topic.segment.bytes": "1048576",
		"offsets.retention.minutes": "1", "offsets.retention.check.interval.ms": "500",
	}))
	b := newBookings(t, broker)
	// What nobody uses expires in a minute. A live member's does not, nor what was asked to be kept longer (OffsetCommit 2 to 4).
	b.join("live")
	b.commit(byTheBroker, 1, "forgotten-0", "forgotten-1")
	b.commit(time.Second, 1, "brief")
	b.commit(keepForADay, 1, "partly")
	kept, deleted := groupNames("kept", 10), groupNames("deleted", 4)
	b.load(bookedRounds, slices.Concat(kept, deleted)...)
	b.delete(deleted...)
	b.deleteOffset("partly", 3)
	b.waitGone("brief")
	b.load(bookedRounds, kept...)

	waitStored(t, b.client, offsetsTopic, 0, "the offsets are compacted", func(s *stored) error {
		if s.start != 0 || s.removed() < s.end/2 {
			return fmt.Errorf("%d records are left from %d to %d", len(s.records), s.start, s.end)
		}
		return nil
	})
	b.check()
	broker.Kill9()
	broker.Start()
	b.check()

	b.waitGone("forgotten-0", "forgotten-1")
	b.checkTombstones()
	b.waitVanish("late", kept)
	b.check()
	broker.Kill9()
	broker.Start()
	b.check()
	left := mustRead(t, b.client, offsetsTopic, 0)
	t.Logf("%d records are left of %d", len(left.records), left.end)
}

func groupNames(kind string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", kind, i)
	}
	return names
}

// bookings are what groups have committed: the offset of each partition, by group.
type bookings struct {
	t         *testing.T
	client    *kgo.Client
	keeper    *kgo.Client // speaks an OffsetCommit that says how long to keep
	admin     *kadm.Client
	committed map[string]map[int32]int64
	gone      map[string]bool // groups
	lost      []string        // keys of the topic whose offsets are gone
	round     int64
	begun     time.Time // before the first commit
}

func newBookings(t *testing.T, broker *harness.Broker) *bookings {
	t.Helper()
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(int16(kmsg.OffsetCommit), 4)
	client := broker.Client()
	b := &bookings{t: t, client: client, keeper: broker.Client(kgo.MaxVersions(versions)), admin: kadm.NewClient(client),
		committed: map[string]map[int32]int64{}, gone: map[string]bool{}, begun: time.Now()}
	ctx, cancel := context.WithTimeout(t.Context(), lookLimit)
	defer cancel()
	if _, err := b.admin.CreateTopic(ctx, bookedPartitions, 1, nil, bookedTopic); err != nil {
		t.Fatal(err)
	}
	return b
}

// join adds a group of one live member that commits once. It is the client's own heartbeats that keep it alive from then on.
func (b *bookings) join(group string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), lookLimit)
	defer cancel()
	if err := b.client.ProduceSync(ctx, &kgo.Record{Topic: bookedTopic, Partition: 0}).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
	member, err := kgo.NewClient(append(b.client.Opts(), kgo.ConsumerGroup(group), kgo.ConsumeTopics(bookedTopic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(member.Close)
	records := member.PollFetches(ctx).Records()
	if err := member.CommitRecords(ctx, records...); err != nil || len(records) != 1 {
		b.t.Fatalf("%d records read and committed, error %v", len(records), err)
	}
	b.committed[group] = map[int32]int64{records[0].Partition: 1}
}

// put commits an offset for every partition of the topic.
func (b *bookings) put(keep time.Duration, offset int64, group string) error {
	ctx, cancel := context.WithTimeout(b.t.Context(), lookLimit)
	defer cancel()
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic = bookedTopic
	for partition := range int32(bookedPartitions) {
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.Metadata = partition, offset, kmsg.StringPtr(note(group, offset))
		topic.Partitions = append(topic.Partitions, p)
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Topics, req.RetentionTimeMillis = group, []kmsg.OffsetCommitRequestTopic{topic}, keep.Milliseconds()
	resp, err := req.RequestWith(ctx, b.keeper)
	if err != nil {
		return err
	}
	for _, p := range resp.Topics[0].Partitions {
		err = errors.Join(err, kerr.ErrorForCode(p.ErrorCode))
	}
	return err
}

// note is the metadata of a commit.
func note(group string, offset int64) string {
	return fmt.Sprintf("%s has read up to offset %d", group, offset)
}

// commit commits once for each of some groups.
func (b *bookings) commit(keep time.Duration, offset int64, groups ...string) {
	b.t.Helper()
	for _, group := range groups {
		if err := b.put(keep, offset, group); err != nil {
			b.t.Fatalf("%s: %v", group, err)
		}
		b.book(group, offset)
	}
}

func (b *bookings) book(group string, offset int64) {
	b.committed[group] = map[int32]int64{}
	for partition := range int32(bookedPartitions) {
		b.committed[group][partition] = offset
	}
}

// load lets groups commit for many rounds, all groups at the same time.
func (b *bookings) load(rounds int64, groups ...string) {
	b.t.Helper()
	from := b.round
	b.round += rounds
	errs := make([]error, len(groups))
	var running sync.WaitGroup
	for i, group := range groups {
		running.Go(func() {
			for n := from; n < b.round && errs[i] == nil; n++ {
				errs[i] = b.put(keepForADay, n, group)
			}
		})
	}
	running.Wait()
	if err := errors.Join(errs...); err != nil {
		b.t.Fatal(err)
	}
	for _, group := range groups {
		b.book(group, b.round-1)
	}
}

// lose moves a group's partitions from what is there to what is not.
func (b *bookings) lose(group string, partitions ...int32) {
	for _, partition := range partitions {
		delete(b.committed[group], partition)
		b.lost = append(b.lost, offsetKey(group, partition))
	}
	if len(b.committed[group]) == 0 {
		delete(b.committed, group)
		b.gone[group] = true
	}
}

func (b *bookings) loseAll(group string) {
	for partition := range int32(bookedPartitions) {
		if _, ok := b.committed[group][partition]; ok {
			b.lose(group, partition)
		}
	}
}

// offsetKey is the key of a commit in the topic.
func offsetKey(group string, partition int32) string {
	key := kmsg.OffsetCommitKey{Version: 1, Group: group, Topic: bookedTopic, Partition: partition}
	return string(key.AppendTo(nil))
}

func (b *bookings) delete(groups ...string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), lookLimit)
	defer cancel()
	resp, err := b.admin.DeleteGroups(ctx, groups...)
	if err := errors.Join(err, resp.Error()); err != nil {
		b.t.Fatal(err)
	}
	for _, group := range groups {
		b.loseAll(group)
	}
}

// deleteOffset deletes what a group has committed for one partition.
func (b *bookings) deleteOffset(group string, partition int32) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), lookLimit)
	defer cancel()
	resp, err := b.admin.DeleteOffsets(ctx, group, kadm.TopicsSet{bookedTopic: {partition: {}}})
	if err := errors.Join(err, resp.Error()); err != nil {
		b.t.Fatal(err)
	}
	b.lose(group, partition)
}

// fetch asks for what a group has committed.
func (b *bookings) fetch(group string) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(b.t.Context(), lookLimit)
	defer cancel()
	resp, err := b.admin.FetchOffsets(ctx, group)
	if err != nil {
		return nil, err
	}
	got := map[int32]int64{}
	for _, o := range resp.Sorted() {
		if o.Err != nil {
			return nil, o.Err
		}
		if o.At < 0 {
			continue
		}
		got[o.Partition] = o.At
		if want := note(group, o.At); o.Topic != bookedTopic || group != "live" && o.Metadata != want {
			return nil, fmt.Errorf("%s has committed %s with metadata %q, want %s and %q", group, o.Topic, o.Metadata, bookedTopic, want)
		}
	}
	return got, nil
}

// waitGone waits until all offsets of groups have expired.
func (b *bookings) waitGone(groups ...string) {
	b.t.Helper()
	for _, group := range groups {
		harness.Eventually(b.t, cleanLimit, group+" expires", func() error {
			got, err := b.fetch(group)
			if err == nil && len(got) != 0 {
				err = fmt.Errorf("%d offsets are left", len(got))
			}
			return err
		})
		b.loseAll(group)
	}
}

// check checks that every offset is as it was committed, and that gone groups are gone.
func (b *bookings) check() {
	b.t.Helper()
	for group, want := range b.committed {
		var got map[int32]int64
		harness.Eventually(b.t, cleanLimit, "offsets of "+group+" are fetched", func() (err error) { // connections may be gone
			got, err = b.fetch(group)
			return err
		})
		if len(got) == 0 && strings.HasPrefix(group, "forgotten-") && time.Since(b.begun) > time.Minute {
			continue // waitGone sees to it that they do expire
		}
		if diff := cmp.Diff(want, got); diff != "" {
			b.t.Errorf("offsets of %s (-want +got)\n%s", group, diff)
		}
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), lookLimit)
	defer cancel()
	listed, err := b.admin.ListGroups(ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	for group := range b.gone {
		if got, err := b.fetch(group); err != nil || len(got) != 0 {
			b.t.Errorf("%s is gone and has offsets %v, error %v", group, got, err)
		}
		if _, ok := listed[group]; ok {
			b.t.Errorf("%s is gone and listed", group)
		}
	}
}

// checkTombstones checks that the last word of what is gone is a null value: delete.retention.ms, a day, keeps it readable.
func (b *bookings) checkTombstones() {
	b.t.Helper()
	report := limited(b.t)
	s := mustRead(b.t, b.client, offsetsTopic, 0)
	for _, key := range b.lost {
		if r := s.last[key]; r == nil {
			report("no tombstone of %q", key)
		} else if r.Value != nil {
			report("the last record of %q has value %q", key, r.Value)
		}
	}
}

// waitVanish deletes a group and lets others commit until nothing of it is in the topic, not even tombstones: with a short
// delete.retention.ms, the cleaner takes these away when it comes by for the second time.
func (b *bookings) waitVanish(group string, others []string) {
	b.t.Helper()
	b.commit(keepForADay, 1, group)
	ctx, cancel := context.WithTimeout(b.t.Context(), lookLimit)
	defer cancel()
	short := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "delete.retention.ms", Value: kadm.StringPtr("1")}}
	resp, err := b.admin.AlterTopicConfigs(ctx, short, offsetsTopic)
	if err != nil || resp[0].Err != nil {
		b.t.Fatal(err, resp)
	}
	b.delete(group)
	waitStored(b.t, b.client, offsetsTopic, 0, group+" vanishes", func(s *stored) error {
		n := 0
		for key := range s.last {
			if strings.Contains(key, group) {
				n++
			}
		}
		if n > 0 {
			b.load(bookedRounds/10, others...)
			return fmt.Errorf("%d of its keys are in the topic", n)
		}
		return nil
	})
}
