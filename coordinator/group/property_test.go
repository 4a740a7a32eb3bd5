package group

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/tidemill/tidemill/protocol"
)

// walk is a random history of a group: clients join, sync, commit, leave, go silent; the coordinator restarts.
type walk struct {
	*bench
	rt      *rapid.T
	clients []walker
	joins   []*pending[kmsg.JoinGroupResponse]
	syncs   []*pending[kmsg.SyncGroupResponse]
	seen    map[int32]*kmsg.JoinGroupResponse // an answer of each generation since the last restart
	newest  int32
	offset  int64 // the last that was accepted
	next    int64
}

type walker struct {
	name       string
	instance   *string
	id         string
	generation int32
	join       *pending[kmsg.JoinGroupResponse] // not yet looked at
}

// TestRandomHistories: whatever members do, nobody is answered twice or with what Java clients do not survive (G18), offsets never go back,
// and a silent group ends.
func TestRandomHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &walk{bench: newBench(rt), rt: rt, seen: map[int32]*kmsg.JoinGroupResponse{}, offset: -1}
		w.limits.InitialRebalanceDelay = time.Duration(rapid.IntRange(0, 3).Draw(rt, "delay")) * time.Second
		for i := range 4 {
			c := walker{name: fmt.Sprint("c", i)}
			if i == 3 {
				c.instance = ptr("i")
			}
			w.clients = append(w.clients, c)
		}
		for range rapid.IntRange(1, 80).Draw(rt, "steps") {
			w.act(&w.clients[rapid.IntRange(0, 3).Draw(rt, "client")])
			w.look()
		}
		w.advance(20 * time.Minute) // all are silent: every timeout passes
		w.look()
		for _, p := range w.joins {
			w.survived("JoinGroup", p.get().ErrorCode)
		}
		for _, p := range w.syncs {
			w.survived("SyncGroup", p.get().ErrorCode)
		}
		if s := w.state(); s != "Empty" && s != "Dead" {
			rt.Fatalf("silent group is %s", s)
		}
	})
}

// survives are the errors that the Java client lives on with, by request (G18). 69 is not one of them, but what Kafka answers from
// v9 on to a member of a group that is gone (G11).
var survives = map[string][]int16{
	"JoinGroup":    {0, 14, 15, 16, 23, 24, 25, 26, 27, 30, 35, 79, 81, 82},
	"SyncGroup":    {0, 15, 16, 22, 23, 25, 27, 30, 82},
	"Heartbeat":    {0, 15, 16, 22, 25, 27, 30, 82},
	"OffsetCommit": {0, 3, 7, 12, 14, 15, 16, 22, 25, 27, 28, 29, 30, 69, 82},
}

func (w *walk) survived(request string, code int16) {
	if !slices.Contains(survives[request], code) {
		w.rt.Errorf("G18 %s is answered %v", request, protocol.ErrorCode(code))
	}
}

func (w *walk) act(c *walker) {
	switch rapid.SampledFrom([]string{"join", "join", "join", "sync", "sync", "beat", "commit", "leave", "advance", "restart"}).Draw(w.rt, "act") {
	case "join":
		protocols := rapid.SampledFrom([][]string{{"range"}, {"range", "sticky"}, {"sticky", "range"}}).Draw(w.rt, "protocols")
		member := c.id
		if rapid.IntRange(0, 5).Draw(w.rt, "fresh") == 0 {
			member = ""
		}
		p := w.join(joinSpec{client: c.name, member: member, instance: c.instance, protocols: protocols,
			version: rapid.SampledFrom([]int16{3, 5, 8, 9}).Draw(w.rt, "version")})
		c.join = p
		w.joins = append(w.joins, p)
	case "sync":
		assignment := map[string]string{}
		for _, other := range w.clients {
			assignment[other.id] = other.name
		}
		w.syncs = append(w.syncs, w.sync(c.id, c.generation, assignment))
	case "beat":
		w.survived("Heartbeat", int16(w.heartbeat(c.id, c.generation, c.instance)))
	case "commit":
		w.next++
		member, generation := c.id, c.generation
		if rapid.Bool().Draw(w.rt, "simple") {
			member, generation = "", -1
		}
		code := w.commit(member, generation, w.next)
		w.survived("OffsetCommit", int16(code))
		if code == protocol.CodeNone {
			w.offset = w.next
		}
	case "leave":
		w.leave(kmsg.LeaveGroupRequestMember{MemberID: c.id})
	case "advance":
		w.advance(time.Duration(rapid.IntRange(1, 20).Draw(w.rt, "seconds")) * time.Second)
	case "restart":
		w.restart()
		// Generations that nobody was assigned in are forgotten.
		w.seen, w.newest = map[int32]*kmsg.JoinGroupResponse{}, 0
	}
	if got := w.fetch("g", "t", 0); got != w.offset {
		w.rt.Fatalf("offset %d, want %d", got, w.offset)
	}
}

// look takes in the answers that came: all members of a generation are told the same, and generations only rise.
func (w *walk) look() {
	g := w.machine.groups["g"]
	for i := range w.clients {
		c := &w.clients[i]
		if c.join == nil || c.join.resp == nil {
			continue
		}
		resp := c.join.resp
		c.join = nil
		if resp.ErrorCode == int16(protocol.CodeMemberIDRequired) {
			c.id = resp.MemberID
		}
		if resp.ErrorCode != 0 {
			continue
		}
		c.id, c.generation = resp.MemberID, resp.Generation
		if resp.Generation < w.newest {
			w.rt.Fatalf("generation %d after %d", resp.Generation, w.newest)
		}
		w.newest = resp.Generation
		if first := w.seen[resp.Generation]; first == nil {
			w.seen[resp.Generation] = resp
		} else if *first.Protocol != *resp.Protocol {
			w.rt.Fatalf("generation %d: protocols %s and %s", resp.Generation, *first.Protocol, *resp.Protocol)
		}
		if g != nil && resp.Generation > g.generation {
			w.rt.Fatalf("answered generation %d of %d", resp.Generation, g.generation)
		}
		ids := make([]string, 0, len(resp.Members))
		for _, mb := range resp.Members {
			ids = append(ids, mb.MemberID)
		}
		if len(ids) > 0 && !slices.Contains(ids, resp.MemberID) {
			w.rt.Fatalf("leader %s is not among %v", resp.MemberID, ids)
		}
	}
}
