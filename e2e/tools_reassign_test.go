package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/e2e/harness"
)

// TestToolsReassign moves partitions of a cluster with Kafka's own tools, which are to see in its answers what they see in Kafka's.
func TestToolsReassign(t *testing.T) {
	c := harness.NewCluster(t, harness.ClusterOptions{})
	r := &reassigning{t: t, cluster: c, tools: harness.StartTools(t, toolHeap), admin: kadm.NewClient(c.Client())}
	if _, err := r.admin.CreateTopic(t.Context(), 6, 3, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	node := c.Controller()
	id := r.id(node)
	rest := slices.DeleteFunc([]int32{1, 2, 3}, func(other int32) bool { return other == id })
	plan := fmt.Sprintf(`{"version":1,"partitions":[{"topic":"orders","partition":0,"replicas":[%d,%d,%d]},{"topic":"orders","partition":1,"replicas":[%[1]d]}]}`,
		id, rest[1], rest[0])

	r.says("kafka-reassign-partitions", plan, "Successfully started partition reassignments for orders-0,orders-1\n", "--execute")
	harness.Eventually(t, time.Minute, "the partitions to move", func() error { return r.ledBy(id, 0, 1) })
	r.says("kafka-reassign-partitions", plan, "Reassignment of partition orders-0 is completed.\nReassignment of partition orders-1 is completed.\n", "--verify")
	r.says("kafka-reassign-partitions", "", "No partition reassignments found.\n", "--list")
	replicas := fmt.Sprintf("Leader: %d\tReplicas: %[1]d,%d,%d\t", id, rest[1], rest[0])
	r.says("kafka-topics", "", replicas, "--describe", "--topic", "orders")
	r.says("kafka-leader-election", "", "Valid replica already elected for partitions orders-0\n", "--election-type", "preferred", "--topic", "orders", "--partition", "0")
	r.says("kafka-leader-election", "", "Valid replica already elected for partitions orders-0\n", "--election-type", "unclean", "--topic", "orders", "--partition", "0")

	r.says("kafka-topics", "", "Created topic placed.\n", "--create", "--topic", "placed", "--replica-assignment", fmt.Sprintf("%d:%d,%[2]d:%[1]d", id, rest[1]))
	r.says("kafka-topics", "", fmt.Sprintf("Partition: 0\tLeader: %d\tReplicas: %[1]d,%d\t", id, rest[1]), "--describe", "--topic", "placed")
	r.says("kafka-topics", "", fmt.Sprintf("Partition: 1\tLeader: %d\tReplicas: %[1]d,%d\t", rest[1], id), "--describe", "--topic", "placed")
	r.says("kafka-topics", "", "", "--delete", "--topic", "placed")

	r.cancelsWhatWaits(rest[0])

	// The broker goes and comes back, with its id: what was assigned to it comes back when it is told to.
	node.Terminate()
	harness.Eventually(t, time.Minute, "the others to have them", func() error {
		if r.ledBy(id, 0, 1) == nil {
			return fmt.Errorf("broker %d leads", id)
		}
		return nil
	})
	r.says("kafka-leader-election", "", "The preferred leader was not available.", "--election-type", "preferred", "--topic", "orders", "--partition", "0")
	node.Start()
	c.AwaitBrokers(3)
	if again := r.id(node); again != id {
		t.Fatalf("the broker that comes back to its address has id %d, not %d", again, id)
	}
	r.says("kafka-leader-election", "", "Successfully completed leader election (PREFERRED) for partitions orders-0, orders-1\n", "--election-type", "preferred", "--all-topic-partitions")
	if err := r.ledBy(id, 0, 1); err != nil {
		t.Error(err)
	}
}

type reassigning struct {
	t       *testing.T
	cluster *harness.Cluster
	tools   *harness.Tools
	admin   *kadm.Client
}

// says runs a tool and looks for words in its answer.
func (r *reassigning) says(tool, plan, want string, args ...string) {
	r.t.Helper()
	var at []string
	for _, n := range r.cluster.Running() {
		at = append(at, n.Addr)
	}
	args = append([]string{"--bootstrap-server", strings.Join(at, ",")}, args...)
	if plan != "" {
		args = append(args, "--reassignment-json-file", harness.WriteFile(r.t, "plan.json", plan))
	}
	got := r.tools.Call(callLimit, commands[tool], "", args...)
	if !strings.Contains(got.Stdout+got.Stderr, want) {
		r.t.Errorf("%s %v: no %q in status %d\n%s--\n%s", tool, args[2:], want, got.Status, got.Stdout, got.Stderr)
	}
}

// id is that of a node's broker.
func (r *reassigning) id(n *harness.Node) int32 {
	r.t.Helper()
	m, err := n.Metadata(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, b := range m.Brokers {
		if fmt.Sprintf("%s:%d", b.Host, b.Port) == n.Addr {
			return b.NodeID
		}
	}
	r.t.Fatalf("%s is not among %v", n.Name, m.Brokers)
	return -1
}

// ledBy reports partitions that a broker does not lead.
func (r *reassigning) ledBy(id int32, partitions ...int32) error {
	m, err := r.admin.Metadata(r.t.Context(), "orders")
	if err != nil {
		return err
	}
	for _, p := range partitions {
		if leader := m.Topics["orders"].Partitions[p].Leader; leader != id {
			return fmt.Errorf("orders-%d is led by %d, not by %d", p, leader, id)
		}
	}
	return nil
}

// cancelsWhatWaits sends a partition away whose owner is frozen: until it wakes up, or its log is ended, the reassignment is listed,
// and can be cancelled.
func (r *reassigning) cancelsWhatWaits(frozen int32) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	var owner, other *harness.Node
	for _, n := range r.cluster.Running() {
		if r.id(n) == frozen {
			owner = n
		} else {
			other = n
		}
	}
	to := r.id(other)
	at := other.Pinned().SeedBrokers()[0] // nobody else is asked: one does not answer
	r.assign(ctx, at, []int32{frozen}, nil)
	harness.Eventually(r.t, time.Minute, "the partition to be where its broker freezes", func() error { return r.ledBy(frozen, 2) })

	owner.Stop()
	r.assign(ctx, at, []int32{to}, nil)
	resp, err := kmsg.NewPtrListPartitionReassignmentsRequest().RequestWith(ctx, at)
	if err != nil {
		r.t.Error(err)
	} else if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		r.t.Errorf("listed %+v", resp.Topics)
	} else {
		p := resp.Topics[0].Partitions[0]
		got := fmt.Sprintf("%d %v +%v -%v", p.Partition, p.Replicas, p.AddingReplicas, p.RemovingReplicas)
		if want := fmt.Sprintf("2 [%d %d] +[%[1]d] -[%d]", to, frozen, frozen); got != want {
			r.t.Errorf("listed %s, want %s", got, want)
		}
	}
	r.assign(ctx, at, nil, nil)
	r.assign(ctx, at, nil, kerr.NoReassignmentInProgress)
	owner.Continue()
	harness.Eventually(r.t, time.Minute, "the partition to stay", func() error { return r.ledBy(frozen, 2) })
}

// assign asks one broker to assign the third partition, and wants an answer.
func (r *reassigning) assign(ctx context.Context, at *kgo.Broker, replicas []int32, want error) {
	r.t.Helper()
	req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	req.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{
		Topic: "orders", Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Partition: 2, Replicas: replicas}},
	}}
	resp, err := req.RequestWith(ctx, at)
	if err != nil {
		r.t.Fatal(err)
	}
	if got := kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode); !errors.Is(got, want) {
		r.t.Errorf("orders-2 to %v: %v, want %v", replicas, got, want)
	}
}
