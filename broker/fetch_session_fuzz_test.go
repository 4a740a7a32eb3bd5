package broker

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// FuzzFetchSession runs a history of fetches that two bytes each describe: what is counted is what sessions hold, slots are
// kept to, and an incremental fetch reads what its session names.
func FuzzFetchSession(f *testing.F) {
	f.Add([]byte{0, 1, 1, 2, 2, 3, 3, 4, 0x81, 0})
	f.Add([]byte{0, 9, 0, 9, 0, 9, 0, 9, 1, 0xff, 2, 0xff})
	f.Fuzz(func(t *testing.T, history []byte) {
		const slots = 3
		var s fetchSessions
		now := time.UnixMilli(0)
		ids, epochs := []int32{0}, map[int32]int32{}
		for i := 0; i+1 < len(history) && i < 400; i += 2 {
			how, what := history[i], history[i+1]
			req := fetchRequest([]int16{12, 13, 6}[how%3], "t", protocol.TopicID{1}, int32(what%5), 0)
			req.SessionID = ids[int(what)%len(ids)]
			req.SessionEpoch = []int32{initialEpoch, finalEpoch, epochs[req.SessionID], epochs[req.SessionID] + 1}[how>>2%4]
			if how&0x20 != 0 {
				forget := kmsg.FetchRequestForgottenTopic{Topic: "t", TopicID: req.Topics[0].TopicID, Partitions: []int32{int32(what % 5)}}
				req.Topics, req.ForgottenTopics = nil, []kmsg.FetchRequestForgottenTopic{forget}
			}
			if how&0x40 != 0 {
				now = now.Add(sessionIdle)
			}
			plan := s.plan(req, slots, now)
			if plan.session != nil {
				if plan.code != protocol.CodeNone || plan.incremental && len(plan.targets) != plan.session.mu.order.Len() {
					t.Fatalf("code %v, %d targets of %d", plan.code, len(plan.targets), plan.session.mu.order.Len())
				}
				ids = append(ids, plan.session.id)
				epochs[plan.session.id] = plan.session.mu.epoch
			}
			held := 0
			for _, session := range s.mu.byID {
				held += session.counted
				if session.mu.order.Len() != len(session.mu.index) {
					t.Fatalf("a session has %d partitions in order and %d by name", session.mu.order.Len(), len(session.mu.index))
				}
			}
			if held != s.mu.partitions || len(s.mu.byID) > slots || s.mu.used != nil && s.mu.used.Len() != len(s.mu.byID) {
				t.Fatalf("%d sessions with %d partitions, %d are counted", len(s.mu.byID), held, s.mu.partitions)
			}
		}
	})
}
