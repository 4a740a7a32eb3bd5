package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/e2e/harness"
)

// TestGroupSurvivesKill forms a group of a static and a dynamic member, kills the broker with -9, and finds generation,
// members, assignments and offsets as they were: nobody has to rejoin (G14, G17).
func TestGroupSurvivesKill(t *testing.T) {
	broker := harness.NewBroker(t, harness.Settings{"group.initial.rebalance.delay.ms": "1000"})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	client := broker.Client()
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(ctx, 1, 1, nil, "survival"); err != nil {
		t.Fatal(err)
	}

	dynamic := joinRequest(nil)
	resp := joinUntil(ctx, t, broker, dynamic) // MEMBER_ID_REQUIRED names the member (G1)
	dynamic.MemberID = resp.MemberID
	joined := make(chan *kmsg.JoinGroupResponse, 1)
	go func() {
		r, err := dynamic.RequestWith(ctx, broker.Client())
		if err != nil {
			t.Errorf("join: %v", err)
		}
		joined <- r
	}()
	instance := "static-1"
	static := joinUntil(ctx, t, broker, joinRequest(&instance))
	leader := <-joined
	if leader == nil || leader.Generation != static.Generation || leader.ErrorCode != 0 {
		t.Fatalf("members joined %+v and %+v, want one generation", leader, static)
	}
	members := map[string][]byte{leader.MemberID: []byte("to the dynamic one"), static.MemberID: []byte("to the static one")}
	syncGroup(ctx, t, broker, leader.LeaderID, static, members)
	commitAt(ctx, t, broker, 42, static)

	broker.Kill9()
	broker.Start()

	for id, want := range members {
		heartbeat := kmsg.NewPtrHeartbeatRequest()
		heartbeat.Group, heartbeat.Generation, heartbeat.MemberID = "survivors", static.Generation, id
		if id == static.MemberID {
			heartbeat.InstanceID = &instance
		}
		var beat *kmsg.HeartbeatResponse
		harness.Eventually(t, 20*time.Second, "the coordinator is loaded", func() (err error) {
			if beat, err = heartbeat.RequestWith(ctx, client); err == nil {
				err = kerr.ErrorForCode(beat.ErrorCode)
			}
			return err
		})
		sync := kmsg.NewPtrSyncGroupRequest()
		sync.Group, sync.Generation, sync.MemberID = "survivors", static.Generation, id
		sync.ProtocolType, sync.Protocol = kmsg.StringPtr("connect"), kmsg.StringPtr("sessioned")
		if id == static.MemberID {
			sync.InstanceID = &instance
		}
		got, err := sync.RequestWith(ctx, client)
		if err != nil || got.ErrorCode != 0 || string(got.MemberAssignment) != string(want) {
			t.Errorf("member %s has assignment %q, code %d, %v after the kill, want %q", id, got.MemberAssignment, got.ErrorCode, err, want)
		}
	}
	offsets, err := admin.FetchOffsets(ctx, "survivors")
	if err != nil {
		t.Fatal(err)
	}
	if o, ok := offsets.Lookup("survival", 0); !ok || o.At != 42 {
		t.Errorf("committed offset is %v after the kill, want 42", o.At)
	}
	rejoined := joinUntil(ctx, t, broker, joinRequest(&instance))
	if rejoined.Generation != static.Generation {
		t.Errorf("a static member that comes back is in generation %d, want %d as before (G14)", rejoined.Generation, static.Generation)
	}
}

func joinRequest(instance *string) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.ProtocolType, req.InstanceID = "survivors", "connect", instance
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 60_000, 60_000
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name, protocol.Metadata = "sessioned", []byte("opaque")
	req.Protocols = append(req.Protocols, protocol)
	return req
}

// joinUntil joins once the coordinator is there. MEMBER_ID_REQUIRED is an answer.
func joinUntil(ctx context.Context, t *testing.T, broker *harness.Broker, req *kmsg.JoinGroupRequest) *kmsg.JoinGroupResponse {
	t.Helper()
	client := broker.Client()
	var resp *kmsg.JoinGroupResponse
	harness.Eventually(t, 30*time.Second, "joining", func() (err error) {
		if resp, err = req.RequestWith(ctx, client); err != nil {
			return err
		}
		if resp.ErrorCode != 0 && resp.ErrorCode != kerr.MemberIDRequired.Code {
			return kerr.ErrorForCode(resp.ErrorCode)
		}
		return nil
	})
	return resp
}

// syncGroup sends the leader's assignments.
func syncGroup(ctx context.Context, t *testing.T, broker *harness.Broker, leader string, static *kmsg.JoinGroupResponse, members map[string][]byte) {
	t.Helper()
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.Generation, req.MemberID = "survivors", static.Generation, leader
	if leader == static.MemberID {
		req.InstanceID = kmsg.StringPtr("static-1")
	}
	req.ProtocolType, req.Protocol = kmsg.StringPtr("connect"), kmsg.StringPtr("sessioned")
	for id, assignment := range members {
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = id, assignment
		req.GroupAssignment = append(req.GroupAssignment, a)
	}
	resp, err := req.RequestWith(ctx, broker.Client())
	if err != nil || resp.ErrorCode != 0 {
		t.Fatalf("sync: code %d, %v", resp.ErrorCode, err)
	}
}

// commitAt commits an offset as a member.
func commitAt(ctx context.Context, t *testing.T, broker *harness.Broker, at int64, as *kmsg.JoinGroupResponse) {
	t.Helper()
	client := broker.Client()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation, req.MemberID = "survivors", as.Generation, as.MemberID
	instance := "static-1"
	req.InstanceID = &instance
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic = "survival"
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset = at
	topic.Partitions = append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	ids, err := kadm.NewClient(client).ListTopics(ctx, "survival")
	if err != nil {
		t.Fatal(err)
	}
	req.Topics[0].TopicID = ids["survival"].ID
	resp, err := req.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		t.Fatal(fmt.Errorf("commit: %w", err))
	}
}
