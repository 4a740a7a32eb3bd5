package group

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/tidemill/tidemill/coordinator"
	"github.com/tidemill/tidemill/protocol"
)

// topics is a fixed TopicResolver.
type topics map[string]struct {
	id         protocol.TopicID
	partitions int32
}

func (t topics) TopicByName(name string) (protocol.TopicID, int32, bool) {
	e, ok := t[name]
	return e.id, e.partitions, ok
}

func (t topics) TopicByID(id protocol.TopicID) (string, int32, bool) {
	for name, e := range t {
		if e.id == id {
			return name, e.partitions, true
		}
	}
	return "", 0, false
}

func (t topics) add(name string, id byte, partitions int32) {
	e := t[name]
	e.id, e.partitions = protocol.TopicID{id}, partitions
	t[name] = e
}

// bench is a machine with its surroundings: a clock that is moved by hand and a journal that commits at once.
type bench struct {
	t       rapid.TB
	now     time.Time
	limits  Limits
	topics  topics
	machine *machine
	journal []coordinator.Record
	nextID  int
	drop    error // what replies are told instead of nil
}

func newBench(t rapid.TB) *bench {
	b := &bench{t: t, now: time.UnixMilli(1_000_000), limits: DefaultLimits(), topics: topics{}}
	b.limits.InitialRebalanceDelay = 0
	b.topics.add("t", 1, 4)
	b.topics.add("u", 2, 4)
	b.machine = b.load()
	b.step(func(m *machine) { m.Loaded(b.now, m.out) })
	return b
}

func (b *bench) load() *machine {
	m := newMachine(func() Limits { return b.limits }, func() TopicResolver { return b.topics })
	for _, r := range b.journal {
		if err := m.Apply(r); err != nil {
			b.t.Fatalf("Apply: %v", err)
		}
	}
	return m
}

// step gives the machine one input, takes in what it wrote, and sends its replies.
func (b *bench) step(input func(m *machine)) {
	var out coordinator.Output
	b.machine.begin(b.now, &out)
	input(b.machine)
	b.settle(&out)
}

func (b *bench) settle(out *coordinator.Output) {
	b.journal = append(b.journal, out.Records()...)
	for _, reply := range out.Replies() {
		reply(b.drop)
	}
	b.checkInvariants()
}

// tick fires what is due now.
func (b *bench) tick() {
	for {
		at, ok := b.machine.NextTick()
		if !ok || at.After(b.now) {
			return
		}
		var out coordinator.Output
		b.machine.Tick(b.now, &out)
		b.settle(&out)
	}
}

// advance moves the clock, stopping wherever a timer fires.
func (b *bench) advance(d time.Duration) {
	end := b.now.Add(d)
	for {
		at, ok := b.machine.NextTick()
		if !ok || at.After(end) {
			break
		}
		if at.After(b.now) {
			b.now = at
		}
		b.tick()
	}
	b.now = end
}

// restart drops the machine, whose waiters are told NOT_COORDINATOR, and replays the journal.
func (b *bench) restart() {
	var out coordinator.Output
	b.machine.Drop(&out)
	b.drop = coordinator.ErrNotCoordinator
	for _, reply := range out.Replies() {
		reply(b.drop)
	}
	b.drop = nil
	b.machine = b.load()
	out = coordinator.Output{}
	b.machine.Loaded(b.now, &out)
	b.settle(&out)
}

// checkInvariants checks the counts of every group, and that a replay gives the records that the machine stands for.
func (b *bench) checkInvariants() {
	b.t.Helper()
	held, waiting := int64(0), 0
	for id, g := range b.machine.groups {
		joining, unsynced, n := 0, 0, 0
		g.each(func(mb *member) {
			n++
			held += memberBytes(id, g.protocolType, mb)
			if mb.join != nil {
				joining++
				if g.state != statePreparing {
					b.t.Errorf("group %s: join of %s waits in %s", id, mb.id, g.state)
				}
			}
			if mb.owesSync {
				unsynced++
				if g.state != stateCompleting && g.state != stateStable {
					b.t.Errorf("group %s: %s owes a sync in %s", id, mb.id, g.state)
				}
			}
			if mb.sync != nil && g.state != stateCompleting {
				b.t.Errorf("group %s: sync of %s waits in %s", id, mb.id, g.state)
			}
		})
		waiting += len(g.pending)
		for member := range g.pending {
			held += pendingBytes(id, member)
		}
		if joining != g.joining || unsynced != g.unsynced || n != len(g.members) {
			b.t.Errorf("group %s: counts %d, %d, %d; want %d, %d, %d", id, g.joining, g.unsynced, len(g.members), joining, unsynced, n)
		}
		if (g.state == stateEmpty) != (n == 0) && g.state != statePreparing {
			b.t.Errorf("group %s: %s with %d members", id, g.state, n)
		}
		if n > 0 && g.members[g.leader] == nil {
			b.t.Errorf("group %s: leader %q is no member", id, g.leader)
		}
	}
	if diff := cmp.Diff(dump(b.machine), dump(b.load())); diff != "" {
		b.t.Errorf("replay differs (-live +replayed):\n%s", diff)
	}
	if got := b.machine.tally.own; got != held {
		b.t.Errorf("%d bytes are counted, %d are held", got, held)
	}
	if got := b.machine.handedOut.Len(); got != waiting {
		b.t.Errorf("%d ids are handed out, groups wait for %d", got, waiting)
	}
}

// dump returns the state as the records that stand for it.
func dump(m *machine) []string {
	var out []string
	for r := range m.Records {
		out = append(out, fmt.Sprintf("%q=%q", r.Key, r.Value))
	}
	return out
}

// pending collects the answers to one request.
type pending[T any] struct {
	b    *bench
	resp *T
}

func (p *pending[T]) reply(resp *T) {
	if p.resp != nil {
		p.b.t.Errorf("%T answered twice", resp)
	}
	p.resp = resp
}

// get returns the answer, which must be there.
func (p *pending[T]) get() *T {
	p.b.t.Helper()
	if p.resp == nil {
		var zero T
		p.b.t.Fatalf("%T: no answer", zero)
	}
	return p.resp
}

// joinSpec are the fields of a join that tests vary; the rest is filled in.
type joinSpec struct {
	group, member, typ, client string
	instance                   *string
	version                    int16
	session, rebalance         time.Duration
	protocols                  []string // "name" or "name=metadata"
}

func (s joinSpec) request() *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version = s.version
	req.Group, req.MemberID, req.InstanceID, req.ProtocolType = s.group, s.member, s.instance, s.typ
	req.SessionTimeoutMillis = int32(s.session.Milliseconds())
	req.RebalanceTimeoutMillis = int32(s.rebalance.Milliseconds())
	for _, p := range s.protocols {
		name, metadata, _ := strings.Cut(p, "=")
		req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: name, Metadata: []byte(metadata)})
	}
	return req
}

func (s joinSpec) withDefaults() joinSpec {
	if s.group == "" {
		s.group = "g"
	}
	if s.typ == "" {
		s.typ = "consumer"
	}
	if s.client == "" {
		s.client = "c"
	}
	if s.session == 0 {
		s.session = 10 * time.Second
	}
	if s.rebalance == 0 {
		s.rebalance = 60 * time.Second
	}
	if s.protocols == nil {
		s.protocols = []string{"range"}
	}
	return s
}

// join sends a join; version 0 in the spec means 9.
func (b *bench) join(s joinSpec) *pending[kmsg.JoinGroupResponse] {
	s = s.withDefaults()
	if s.version == 0 {
		s.version = 9
	}
	p := &pending[kmsg.JoinGroupResponse]{b: b}
	b.nextID++
	client := Client{ID: s.client, Host: "/127.0.0.1"}
	b.step(func(m *machine) { m.joinGroup(newJoin(s.request(), client, fmt.Sprint(b.nextID), p.reply)) })
	b.tick()
	return p
}

// joinDynamic goes through MEMBER_ID_REQUIRED and returns the id with the second join.
func (b *bench) joinDynamic(s joinSpec) (string, *pending[kmsg.JoinGroupResponse]) {
	b.t.Helper()
	resp := b.join(s).get()
	if resp.ErrorCode != int16(protocol.CodeMemberIDRequired) {
		b.t.Fatalf("first join: code %d, want MEMBER_ID_REQUIRED", resp.ErrorCode)
	}
	s.member = resp.MemberID
	return resp.MemberID, b.join(s)
}

func (b *bench) sync(member string, generation int32, assignment map[string]string) *pending[kmsg.SyncGroupResponse] {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 3, "g", member, generation
	for _, id := range slices.Sorted(maps.Keys(assignment)) {
		req.GroupAssignment = append(req.GroupAssignment,
			kmsg.SyncGroupRequestGroupAssignment{MemberID: id, MemberAssignment: []byte(assignment[id])})
	}
	return b.syncRequest(req)
}

func (b *bench) syncRequest(req *kmsg.SyncGroupRequest) *pending[kmsg.SyncGroupResponse] {
	p := &pending[kmsg.SyncGroupResponse]{b: b}
	b.step(func(m *machine) { m.syncGroup(req, &syncWaiter{version: req.Version, reply: p.reply}) })
	b.tick()
	return p
}

func (b *bench) heartbeat(member string, generation int32, instance *string) protocol.ErrorCode {
	var code protocol.ErrorCode
	req := &kmsg.HeartbeatRequest{Group: "g", MemberID: member, Generation: generation, InstanceID: instance}
	b.step(func(m *machine) { code = m.heartbeat(req) })
	return code
}

func (b *bench) leave(leaving ...kmsg.LeaveGroupRequestMember) []kmsg.LeaveGroupResponseMember {
	var out []kmsg.LeaveGroupResponseMember
	b.step(func(m *machine) { out = m.leaveGroup("g", leaving) })
	b.tick()
	return out
}

// coordinator returns a Coordinator's front for what does not need a runtime.
func (b *bench) front() *Coordinator {
	return &Coordinator{o: Options{Shards: func() int32 { return 1 }, Topics: func() TopicResolver { return b.topics }}}
}

func (b *bench) commitRequest(req *kmsg.OffsetCommitRequest) *kmsg.OffsetCommitResponse {
	in, known := b.front().lookUpCommit(req)
	if known {
		b.step(func(m *machine) { m.commitOffsets(in) })
	}
	return in.resp
}

// commit commits one offset of partition 0 of topic t and returns its code.
func (b *bench) commit(member string, generation int32, at int64) protocol.ErrorCode {
	resp := b.commitRequest(commitOf("g", member, generation, "t", 0, at))
	return protocol.ErrorCode(resp.Topics[0].Partitions[0].ErrorCode)
}

func commitOf(group, member string, generation int32, topic string, partition int32, at int64) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 9, group, member, generation
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset = partition, at
	req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	return req
}

// fetch returns the committed offset of a partition.
func (b *bench) fetch(group, topic string, partition int32) int64 {
	req := &kmsg.OffsetFetchRequestGroup{
		Group: group, Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: topic, Partitions: []int32{partition}}},
	}
	var resp kmsg.OffsetFetchResponseGroup
	b.step(func(m *machine) { resp = m.fetchOffsets(req, false, toldOffsets{}) })
	return resp.Topics[0].Partitions[0].Offset
}

func (b *bench) state() string {
	return b.machine.describe("g", 5).State
}

func wantCode[T int16 | protocol.ErrorCode](t rapid.TB, what string, got T, want protocol.ErrorCode) {
	t.Helper()
	if protocol.ErrorCode(got) != want {
		t.Errorf("%s: code %d, want %d", what, got, want)
	}
}

func ptr(s string) *string { return &s }
