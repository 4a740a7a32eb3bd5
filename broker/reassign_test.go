package broker

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/controller"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// assign asks for a reassignment of partitions of a topic and returns the codes.
func assign(c *rawClient, topic string, partitions int32, replicas []int32, mayResize bool) []string {
	c.t.Helper()
	req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	req.Version, req.AllowReplicationFactorChange = 1, mayResize
	in := kmsg.AlterPartitionAssignmentsRequestTopic{Topic: topic}
	for p := range partitions {
		in.Partitions = append(in.Partitions, kmsg.AlterPartitionAssignmentsRequestTopicPartition{Partition: p, Replicas: replicas})
	}
	req.Topics = append(req.Topics, in)
	resp := ask[*kmsg.AlterPartitionAssignmentsResponse](c, req)
	wantCode(c.t, "reassign", resp.ErrorCode, protocol.CodeNone)
	var outcomes []string
	for _, p := range resp.Topics[0].Partitions {
		outcome := protocol.ErrorCode(p.ErrorCode).String()
		if p.ErrorMessage != nil {
			outcome += ": " + *p.ErrorMessage
		}
		outcomes = append(outcomes, outcome)
	}
	return slices.Compact(outcomes)
}

// elect asks for an election in partitions of a topic, or in all of the cluster, and returns the codes by partition.
func elect(c *rawClient, kind int8, topic string, partitions ...int32) map[int32]protocol.ErrorCode {
	c.t.Helper()
	req := kmsg.NewPtrElectLeadersRequest()
	req.Version, req.ElectionType, req.TimeoutMillis = 2, kind, 20_000
	if topic != "" {
		req.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: topic, Partitions: partitions}}
	}
	out := map[int32]protocol.ErrorCode{}
	for _, t := range ask[*kmsg.ElectLeadersResponse](c, req).Topics {
		for _, p := range t.Partitions {
			out[p.Partition] = protocol.ErrorCode(p.ErrorCode)
		}
	}
	return out
}

// leaders says who leads each partition of a topic, with its replicas.
func leaders(c *rawClient, topic string) []string {
	c.t.Helper()
	var out []string
	for _, p := range ask[*kmsg.MetadataResponse](c, metadataRequest(12, topic)).Topics[0].Partitions {
		out = append(out, fmt.Sprintf("%d of %v", p.Leader, p.Replicas))
	}
	return slices.Compact(out)
}

// TestM13ReassignmentsMovePartitions: the first broker of an assignment gets the partition and keeps it; when it is away others do, and a preferred
// election brings it back.
func TestM13ReassignmentsMovePartitions(t *testing.T) {
	etcd := startEtcd(t)
	shared := []string{"--cluster", etcd.url(), "--bucket", "file://" + t.TempDir(), "--kafka", "default.replication.factor=2"}
	one := startBroker(t, append(shared, "--broker-id", "1")...)
	two := startBroker(t, append(shared, "--broker-id", "2")...)
	c := dial(t, one.kafka)
	c.awaitBrokers(2)
	const n = 4
	c.createTopic("t", n)
	if got := assign(c, "t", n, []int32{2, 1}, true); !slices.Equal(got, []string{"NONE"}) {
		t.Fatalf("reassigned: %v", got)
	}
	waitFor(t, "the partitions to be on broker 2", func() bool { return slices.Equal(leaders(c, "t"), []string{"2 of [2 1]"}) })
	if moves := controller.Plan(controller.StateOf(one.broker.meta.Image()), controller.Options{}); len(moves) != 0 {
		t.Errorf("balance would take them back: %v", moves)
	}
	waitFor(t, "broker 2 to serve them", func() bool { return dial(t, two.kafka).produce("t", n-1, batchOf("a")).ErrorCode == 0 })
	for _, tt := range []struct {
		name      string
		replicas  []int32
		mayResize bool
		want      string
	}{
		{"nothing to cancel", nil, true, "NO_REASSIGNMENT_IN_PROGRESS"},
		{"fewer", []int32{1}, false, "INVALID_REPLICATION_FACTOR: The replication factor is changed from 2 to 1"},
		{"the same", []int32{2, 1}, false, "NONE"},
	} {
		if got := assign(c, "t", n, tt.replicas, tt.mayResize); !slices.Equal(got, []string{tt.want}) {
			t.Errorf("%s: %v, want %s", tt.name, got, tt.want)
		}
	}
	needless := map[int32]protocol.ErrorCode{0: protocol.CodeElectionNotNeeded, 3: protocol.CodeElectionNotNeeded}
	if diff := cmp.Diff(needless, elect(c, preferredElection, "t", 0, 3)); diff != "" {
		t.Errorf("preferred election at home (-want +got):\n%s", diff)
	}

	two.shutdown()
	waitFor(t, "broker 1 to have everything", func() bool { return slices.Equal(leaders(c, "t"), []string{"1 of [1]"}) })
	if got := elect(c, preferredElection, "t", 0); got[0] != protocol.CodePreferredLeaderNotAvailable {
		t.Errorf("preferred election while it is away: %v", got)
	}
	two.start()
	waitFor(t, "broker 2 to be back", func() bool { return slices.Equal(leaders(c, "t"), []string{"1 of [2 1]"}) })
	if diff := cmp.Diff(needless, elect(c, uncleanElection, "t", 0, 3)); diff != "" {
		t.Errorf("unclean election of those that are led (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[int32]protocol.ErrorCode{0: 0, 1: 0, 2: 0, 3: 0}, elect(c, preferredElection, "")); diff != "" {
		t.Errorf("preferred election of all (-want +got):\n%s", diff)
	}
	if got := leaders(c, "t"); !slices.Equal(got, []string{"2 of [2 1]"}) {
		t.Errorf("after the election: %v", got)
	}
	if got := elect(c, preferredElection, ""); len(got) != 0 {
		t.Errorf("again: %v", got)
	}
}

// TestM13AssignedWhenCreated: partitions that are created with an assignment are where it says, stay there, and show it.
func TestM13AssignedWhenCreated(t *testing.T) {
	etcd := startEtcd(t)
	shared := []string{"--cluster", etcd.url(), "--bucket", "file://" + t.TempDir()}
	one := startBroker(t, append(shared, "--broker-id", "1")...)
	two := startBroker(t, append(shared, "--broker-id", "2")...)
	c := dial(t, one.kafka)
	c.awaitBrokers(2)
	spec := createSpec("t", -1)
	spec.ReplicationFactor = -1
	for p := range int32(3) {
		spec.ReplicaAssignment = append(spec.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: p, Replicas: []int32{2, 1}})
	}
	made := ask[*kmsg.CreateTopicsResponse](c, createRequest(7, spec)).Topics[0]
	if made.ErrorCode != 0 || made.NumPartitions != 3 || made.ReplicationFactor != 2 {
		t.Fatalf("created: %+v", made)
	}
	home := []string{"2 of [2 1]"}
	if got := leaders(c, "t"); !slices.Equal(got, home) {
		t.Errorf("led by %v", got)
	}
	more := growRequest("t", 5)
	more.Topics[0].Assignment = []kmsg.CreatePartitionsRequestTopicAssignment{{Replicas: []int32{2, 1}}, {Replicas: []int32{2, 1}}}
	wantCode(t, "grow", ask[*kmsg.CreatePartitionsResponse](c, more).Topics[0].ErrorCode, protocol.CodeNone)
	if got := leaders(c, "t"); !slices.Equal(got, home) {
		t.Errorf("led by %v after more were added", got)
	}
	if moves := controller.Plan(controller.StateOf(one.broker.meta.Image()), controller.Options{}); len(moves) != 0 {
		t.Errorf("balance would take them away: %v", moves)
	}
	uneven := growRequest("t", 6)
	uneven.Topics[0].Assignment = []kmsg.CreatePartitionsRequestTopicAssignment{{Replicas: []int32{2}}}
	wantCode(t, "grow by a list of another length", ask[*kmsg.CreatePartitionsResponse](c, uneven).Topics[0].ErrorCode, protocol.CodeInvalidReplicaAssignment)
	waitFor(t, "broker 2 to serve them", func() bool { return dial(t, two.kafka).produce("t", 4, batchOf("a")).ErrorCode == 0 })
	v := one.broker.view()
	if life, ok := v.taker([]int32{9, 2}); !ok || life != two.broker.life {
		t.Errorf("of a stranger and broker 2 %v takes partitions", life)
	}
	if _, ok := v.taker([]int32{9}); ok {
		t.Error("a stranger takes partitions")
	}
	for name, tt := range map[string]struct {
		replicas []int32
		factor   int
		brokers  map[int32]metadata.Broker
		refused  bool
	}{
		"as many as others have":      {[]int32{2, 1}, 2, v.img.Brokers, false},
		"more":                        {[]int32{2, 1}, 1, v.img.Brokers, true},
		"of a broker that drains":     {[]int32{2}, 0, map[int32]metadata.Broker{2: {Life: two.broker.life, BrokerInfo: metadata.BrokerInfo{Draining: true}}}, true},
		"of this one, without lease":  {[]int32{1}, 0, nil, false},
		"of this one while it drains": {[]int32{1}, 0, map[int32]metadata.Broker{1: {Life: one.broker.life, BrokerInfo: metadata.BrokerInfo{Draining: true}}}, true},
	} {
		img := *v.img
		img.Brokers = tt.brokers
		w := &view{img: &img, life: v.life, self: v.self, brokers: v.brokers}
		if refused := w.checkNewReplicas(0, tt.replicas, tt.factor); (refused != nil) != tt.refused {
			t.Errorf("%s: %+v", name, refused)
		}
	}
}

// TestM13ElectWithoutOwner: of a partition whose owner is dead, elections say that nobody can lead it.
func TestM13ElectWithoutOwner(t *testing.T) {
	etcd := startEtcd(t)
	openPreviousLife(t, etcd) // of broker 7, which is not registered
	b := startBroker(t, "--cluster", etcd.url(), "--bucket", "file://"+t.TempDir(), "--broker-id", "8")
	v := b.broker.view()
	topic := *v.img.Topics["t"] // as it was before the controller did anything for it
	topic.Partitions = slices.Clone(topic.Partitions)
	topic.Partitions[0] = metadata.Partition{Owner: wal.Life{Broker: 7, Epoch: 1}}
	id := protocol.PartitionID{Topic: topic.ID}
	for kind, want := range map[int8]protocol.ErrorCode{preferredElection: protocol.CodePreferredLeaderNotAvailable, uncleanElection: protocol.CodeEligibleLeadersNotAvailable} {
		e := election{kind: kind}
		if _, refused := e.elect(v, &topic, id); refused == nil || refused.code != want {
			t.Errorf("type %d: %v, want %v", kind, refused, want)
		}
	}
}

// TestM13StrangersAreNamedWithinBounds: an answer is not many times as long as what was asked (D10).
func TestM13StrangersAreNamedWithinBounds(t *testing.T) {
	e := election{}
	long := string(make([]byte, 32<<10))
	if got := e.unknown(long, "No such topic as "); len(got.message) > 100 {
		t.Errorf("a long name is answered with %d bytes", len(got.message))
	}
	if got := e.unknown("t", "No such topic as "); got.message != "No such topic as t" {
		t.Errorf("got %q", got.message)
	}
	e.strangers = newPartitionsMax
	if got := e.unknown("t", "No such topic as "); got != unnamed {
		t.Errorf("got %q after many", got.message)
	}
}

// TestM13ListsWhatIsUnderWay: an intent shows as a replica that is added and one that is removed.
func TestM13ListsWhatIsUnderWay(t *testing.T) {
	from, to := wal.Life{Broker: 1, Epoch: 3}, wal.Life{Broker: 2, Epoch: 1}
	for _, tt := range []struct {
		p    metadata.Partition
		want string
	}{
		{metadata.Partition{Owner: from, Target: to}, "[2 1] +[2] -[1]"},
		{metadata.Partition{Owner: from, Target: wal.Life{Broker: 1, Epoch: 4}}, "[1] +[] -[]"},
	} {
		got := underWay(5, tt.p)
		if s := fmt.Sprintf("%v +%v -%v", got.Replicas, got.AddingReplicas, got.RemovingReplicas); s != tt.want || got.Partition != 5 {
			t.Errorf("%+v: %s, want %s", tt.p, s, tt.want)
		}
	}
	if onItsWay(metadata.Partition{Owner: from, Target: from}) || onItsWay(metadata.Partition{Owner: from}) {
		t.Error("a partition that stays is on its way")
	}
}

// TestM13TooManyAtOnce: more than 10,000 partitions in one request are refused as a whole, and cost little.
func TestM13TooManyAtOnce(t *testing.T) {
	b := startBroker(t)
	req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	one := kmsg.AlterPartitionAssignmentsRequestTopicPartition{Replicas: []int32{1}}
	req.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: "t",
		Partitions: slices.Repeat([]kmsg.AlterPartitionAssignmentsRequestTopicPartition{one}, newPartitionsMax+1)}}
	resp := ask[*kmsg.AlterPartitionAssignmentsResponse](dial(t, b.kafka), req)
	wantCode(t, "too many", resp.ErrorCode, protocol.CodePolicyViolation)
	if len(resp.Topics) != 0 {
		t.Errorf("%d topics", len(resp.Topics))
	}
}
