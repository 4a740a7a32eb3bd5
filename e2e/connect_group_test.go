package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/e2e/harness"
)

// A connectCluster is a broker and workers of one group.
type connectCluster struct {
	broker  *harness.Broker
	client  *kgo.Client
	admin   *kadm.Client
	workers []*worker
	log     *statusLog
}

// newConnectCluster starts a broker and n workers. A worker that left is missed for two seconds before others take over.
func newConnectCluster(t *testing.T, n int) *connectCluster {
	t.Helper()
	broker := harness.NewBroker(t, harness.Settings{"group.initial.rebalance.delay.ms": "0"})
	client := broker.Client()
	c := &connectCluster{broker: broker, client: client, admin: kadm.NewClient(client)}
	for range n {
		w := newWorker(t, broker,
			"session.timeout.ms=15000", "heartbeat.interval.ms=1000", // more than the default: only a killed worker may be missed
			"consumer.session.timeout.ms=15000") // a sink stands still until its lost task is missed
		w.launch()
		c.workers = append(c.workers, w)
	}
	for _, w := range c.workers {
		w.waitReady()
	}
	c.log = &statusLog{t: t, admin: c.admin, seen: map[int32]int64{}, client: broker.Client(
		kgo.ConsumeTopics(statusTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(100*time.Millisecond))}
	return c
}

// A placement says which worker runs each connector ("name") and task ("name/0").
type placement map[string]string

// settle waits until the group is exactly the given workers, speaks the incremental cooperative protocol, every connector
// and task of work is assigned to one of them and none of them is idle, and the workers' statuses agree.
func (c *connectCluster) settle(t *testing.T, work map[string]int, live ...*worker) placement {
	t.Helper()
	var p placement
	harness.Eventually(t, workerLimit, fmt.Sprintf("%d workers share the work", len(live)), func() (err error) {
		if p, err = c.placement(live); err != nil {
			return err
		}
		want := map[string]bool{}
		for name, tasks := range work {
			want[name] = true
			for i := range tasks {
				want[fmt.Sprintf("%s/%d", name, i)] = true
			}
		}
		if got := slices.Sorted(maps.Keys(p)); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
			return fmt.Errorf("assigned are %v, want %v", got, slices.Sorted(maps.Keys(want)))
		}
		for name := range work {
			status, err := live[0].status(name)
			if err != nil {
				return err
			}
			ok := status.Connector.State == running && status.Connector.WorkerID == p[name]
			for _, s := range status.Tasks {
				ok = ok && s.State == running && s.WorkerID == p[fmt.Sprintf("%s/%d", name, s.ID)]
			}
			if !ok || len(status.Tasks) != work[name] {
				return fmt.Errorf("%s: status %+v, placed %v", name, status, p)
			}
		}
		return nil
	})
	return p
}

// placement reads the workers' group; an error says why it is not at rest.
func (c *connectCluster) placement(live []*worker) (placement, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{workerGroup}
	resp, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return nil, err
	}
	g := resp.Groups[0]
	if g.ErrorCode != 0 || g.State != "Stable" || len(g.Members) != len(live) {
		return nil, fmt.Errorf("group is %s with %d members, error %d", g.State, len(g.Members), g.ErrorCode)
	}
	if g.ProtocolType != "connect" || g.Protocol != "sessioned" {
		return nil, fmt.Errorf("group speaks %q of type %q, want sessioned of type connect", g.Protocol, g.ProtocolType)
	}
	p := placement{}
	for _, m := range g.Members {
		var meta kmsg.ConnectMemberMetadata
		if err := meta.ReadFrom(m.ProtocolMetadata); err != nil {
			return nil, fmt.Errorf("metadata of %s: %w", m.MemberID, err)
		}
		id := strings.TrimSuffix(strings.TrimPrefix(meta.URL, "http://"), "/")
		if !slices.ContainsFunc(live, func(w *worker) bool { return w.id() == id }) {
			return nil, fmt.Errorf("%s is a member", id)
		}
		if err := p.add(id, meta.CurrentAssignment, m.MemberAssignment); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// add takes in what one worker runs. In the incremental protocol (version 1 and later) that is what it had when it joined
// and what the rebalance added; the rebalance is over when nothing is revoked and nothing waits for a lost worker.
func (p placement) add(worker string, had, got []byte) error {
	before, err := readConnectAssignment(had)
	if err != nil {
		return fmt.Errorf("what %s had: %w", worker, err)
	}
	now, err := readConnectAssignment(got)
	if err != nil {
		return fmt.Errorf("what %s got: %w", worker, err)
	}
	all := append(before.assigned, now.assigned...)
	if now.version < 1 || now.code != 0 || now.delay != 0 || len(now.revoked) > 0 || len(all) == 0 {
		return fmt.Errorf("%s had %+v and got %+v", worker, before, now)
	}
	for _, of := range all {
		if other, ok := p[of]; ok {
			return fmt.Errorf("%s is assigned to both %s and %s", of, other, worker)
		}
		p[of] = worker
	}
	return nil
}

// A connectAssignment is what the workers' leader told one of them.
type connectAssignment struct {
	version, code     int16
	assigned, revoked []string
	delay             int32 // milliseconds until the leader gives away what a lost worker had
}

// readConnectAssignment reads Connect's own format; kmsg knows it too, but with task numbers of 16 bits.
func readConnectAssignment(raw []byte) (a connectAssignment, err error) {
	if len(raw) == 0 { // a worker that had nothing yet
		return a, nil
	}
	b := kbin.Reader{Src: raw}
	a.version, a.code = b.Int16(), b.Int16()
	b.NullableString() // leader
	b.NullableString() // its URL
	b.Int64()          // offset of its configuration
	a.assigned = connectTasks(&b)
	a.revoked = connectTasks(&b)
	a.delay = b.Int32()
	return a, b.Complete()
}

// connectTasks reads a list of connectors and tasks; -1 is the connector itself.
func connectTasks(b *kbin.Reader) (all []string) {
	for range b.ArrayLen() {
		name := b.String()
		for range b.ArrayLen() {
			if task := b.Int32(); task < 0 {
				all = append(all, name)
			} else {
				all = append(all, fmt.Sprintf("%s/%d", name, task))
			}
		}
	}
	return all
}

// createTopic creates a topic of the cluster's.
func (c *connectCluster) createTopic(t *testing.T, name string, partitions int32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := c.admin.CreateTopic(ctx, partitions, 1, nil, name); err != nil {
		t.Fatal(err)
	}
}

// waitEnd waits until partition 0 of a topic holds exactly n records.
func (c *connectCluster) waitEnd(t *testing.T, topic string, n int64) {
	t.Helper()
	harness.Eventually(t, pipelineLimit, fmt.Sprintf("%s holds %d records", topic, n), func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		ends, err := c.admin.ListEndOffsets(ctx, topic)
		if err != nil {
			return err
		}
		if end := ends[topic][0]; end.Err != nil || end.Offset != n {
			return fmt.Errorf("end offset %d, error %v", end.Offset, end.Err)
		}
		return nil
	})
}

// produce writes records and waits until they are acknowledged. Its client is new, and so knows no topic that was deleted.
func (c *connectCluster) produce(t *testing.T, records ...*kgo.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := c.broker.Client()
	defer client.Close()
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// read reads the first n records of partition 0 of a topic.
func (c *connectCluster) read(t *testing.T, topic string, n int) []*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := c.broker.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	var records []*kgo.Record
	for len(records) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("read %s: %v", topic, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

// committed returns nil if a sink has committed that offset for partition 0 of a topic; -1 is for none.
func (c *connectCluster) committed(sink, topic string, want int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	offsets, err := c.admin.FetchOffsets(ctx, "connect-"+sink)
	if err != nil {
		return err
	}
	got := int64(-1)
	if o, ok := offsets.Lookup(topic, 0); ok {
		got = o.At
	}
	if got != want {
		return fmt.Errorf("%s is committed at %d, waiting for %d", topic, got, want)
	}
	return nil
}

// assigned returns nil if partition 0 of the topic is all that a sink's tasks read.
func (c *connectCluster) assigned(sink, topic string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	members, err := c.members(ctx, "connect-"+sink)
	if err != nil {
		return err
	}
	if got := slices.Concat(members...); !slices.Equal(got, []string{topic + "-0"}) {
		return fmt.Errorf("%v are assigned", got)
	}
	return nil
}

// members is what each member of a consumer group is assigned, as topic-partition.
func (c *connectCluster) members(ctx context.Context, group string) (members [][]string, err error) {
	groups, err := c.admin.DescribeGroups(ctx, group)
	if err != nil {
		return nil, err
	}
	for _, m := range groups[group].Members {
		var assigned []string
		if consumer, ok := m.Assigned.AsConsumer(); ok {
			for _, topic := range consumer.Topics {
				for _, partition := range topic.Partitions {
					assigned = append(assigned, fmt.Sprintf("%s-%d", topic.Topic, partition))
				}
			}
		}
		members = append(members, assigned)
	}
	return members, nil
}

// A statusLog reads what the workers wrote into their status topic.
type statusLog struct {
	t       *testing.T
	admin   *kadm.Client
	client  *kgo.Client
	seen    map[int32]int64 // next offset by partition
	changes []statusChange
}

// A statusChange is one new state of a connector ("name") or task ("name/0").
type statusChange struct {
	of       string
	State    string
	WorkerID string `json:"worker_id"`
}

// read takes in everything written so far and returns the number of changes, a mark for since.
func (l *statusLog) read(t *testing.T) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ends, err := l.admin.ListEndOffsets(ctx, statusTopic)
	if err != nil {
		t.Fatal(err)
	}
	behind := func() bool {
		for partition, end := range ends[statusTopic] {
			if l.seen[partition] < end.Offset {
				return true
			}
		}
		return false
	}
	for behind() {
		fetches := l.client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("read %s: %v", statusTopic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			l.seen[r.Partition] = r.Offset + 1
			if change, ok := parseStatus(t, r); ok {
				l.changes = append(l.changes, change)
			}
		})
	}
	return len(l.changes)
}

// parseStatus reads status-connector-<name> and status-task-<name>-<n>. Tombstones and the names of used topics are no changes.
func parseStatus(t *testing.T, r *kgo.Record) (change statusChange, ok bool) {
	t.Helper()
	key := string(r.Key)
	if name, found := strings.CutPrefix(key, "status-connector-"); found {
		change.of = name
	} else if task, found := strings.CutPrefix(key, "status-task-"); found {
		at := strings.LastIndexByte(task, '-')
		change.of = task[:at] + "/" + task[at+1:]
	}
	if change.of == "" || r.Value == nil {
		return change, false
	}
	if err := json.Unmarshal(r.Value, &change); err != nil {
		t.Fatalf("status %s: %v", key, err)
	}
	return change, true
}

// since returns the states that one connector or task went through after a mark.
func (l *statusLog) since(t *testing.T, mark int, of string) []string {
	t.Helper()
	l.read(t)
	var states []string
	for _, change := range l.changes[mark:] {
		if change.of == of {
			states = append(states, change.State)
		}
	}
	return states
}
