package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// inSession makes a request one of a session's, for the partitions that it names.
func inSession(req *kmsg.FetchRequest, id, epoch int32) *kmsg.FetchRequest {
	req.SessionID, req.SessionEpoch = id, epoch
	return req
}

// nothing is an incremental request that changes nothing.
func nothing(version int16, topic string, id, epoch int32) *kmsg.FetchRequest {
	req := fetchAll(version, topic)
	req.Topics = []kmsg.FetchRequestTopic{}
	return inSession(req, id, epoch)
}

// answered lists the partitions of an answer as "topic-partition", with the end of the topic's name.
func answered(resp *kmsg.FetchResponse) []string {
	out := []string{}
	for _, t := range resp.Topics {
		name := t.Topic[strings.LastIndexByte(t.Topic, '-')+1:]
		for _, p := range t.Partitions {
			out = append(out, fmt.Sprintf("%s-%d", name, p.Partition))
		}
	}
	return out
}

func checkSession(t *testing.T, c *Client, what string, req *kmsg.FetchRequest, code protocol.ErrorCode, want ...string) *kmsg.FetchResponse {
	t.Helper()
	resp := Ask[*kmsg.FetchResponse](c, req)
	WantCode(t, what, resp.ErrorCode, code)
	if got := answered(resp); !slices.Equal(got, want) {
		t.Errorf("%s: answered for %v, want %v", what, got, want)
	}
	return resp
}

// atEnd moves every partition of a request to an offset.
func atEnd(req *kmsg.FetchRequest, offset int64) *kmsg.FetchRequest {
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			req.Topics[i].Partitions[j].FetchOffset = offset
		}
	}
	return req
}

func TestF8Incremental(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 3)
	first := checkSession(t, c, "a full request", inSession(fetchAll(12, n("t"), 0, 1, 2), 0, 0), 0, "t-0", "t-1", "t-2")
	id := first.SessionID
	if id == 0 {
		t.Fatal("no session was made")
	}
	if again := checkSession(t, c, "nothing new", nothing(12, n("t"), id, 1), 0); again.SessionID != id {
		t.Errorf("the session is %d, want %d", again.SessionID, id)
	}
	c.Produce(n("t"), 1, BatchOf("a"))
	checkSession(t, c, "new records", nothing(12, n("t"), id, 2), 0, "t-1")
	checkSession(t, c, "the same records again", nothing(12, n("t"), id, 3), 0, "t-1")
	checkSession(t, c, "the partition moved on", inSession(atEnd(fetchAll(12, n("t"), 1), 1), id, 4), 0)
	c.Produce(n("t"), 2, BatchOf("a", "b"))
	moved := inSession(atEnd(fetchAll(12, n("t"), 2), 2), id, 5)
	checkSession(t, c, "a new high watermark alone", moved, 0, "t-2")
	checkSession(t, c, "told once", nothing(12, n("t"), id, 6), 0)
	DeletedRecords(c, n("t"), 2, 1)
	checkSession(t, c, "a new log start alone", nothing(12, n("t"), id, 7), 0, "t-2")
	checkSession(t, c, "told once", nothing(12, n("t"), id, 8), 0)

	bad := checkSession(t, c, "an error", inSession(atEnd(fetchAll(12, n("t"), 0), 99), id, 9), 0, "t-0")
	WantCode(t, "the partition", bad.Topics[0].Partitions[0].ErrorCode, protocol.CodeOffsetOutOfRange)
	checkSession(t, c, "an error is told each time", nothing(12, n("t"), id, 10), 0, "t-0")
	checkSession(t, c, "the recovery from it", inSession(fetchAll(12, n("t"), 0), id, 11), 0, "t-0")
	checkSession(t, c, "is told once", nothing(12, n("t"), id, 12), 0)

	forget := nothing(12, n("t"), id, 13)
	forget.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{Topic: n("t"), Partitions: []int32{0}}}
	checkSession(t, c, "a forgotten partition", forget, 0)
	c.Produce(n("t"), 0, BatchOf("a"))
	checkSession(t, c, "is not told", nothing(12, n("t"), id, 14), 0)
	checkSession(t, c, "is added again", inSession(fetchAll(12, n("t"), 0), id, 15), 0, "t-0")
	checkSession(t, c, "unknown topics are told too", inSession(fetchAll(12, n("nope"), 0), id, 16), 0, "t-0", "nope-0")
}

func TestF8Epoch(t *testing.T) {
	c, n := begin(t)
	topic := c.CreateTopic(n("t"), 2)
	open := func() int32 {
		return Ask[*kmsg.FetchResponse](c, inSession(fetchAll(12, n("t"), 0), 0, 0)).SessionID
	}
	t.Run("F8 a wrong epoch leaves the session usable", func(t *testing.T) {
		id := open()
		for _, epoch := range []int32{2, 7, -2} {
			resp := checkSession(t, c, fmt.Sprintf("epoch %d", epoch), nothing(12, n("t"), id, epoch), protocol.CodeInvalidFetchSessionEpoch)
			if resp.SessionID != 0 {
				t.Errorf("session %d beside an error", resp.SessionID)
			}
		}
		checkSession(t, c, "right epoch", nothing(12, n("t"), id, 1), 0)
		checkSession(t, c, "the one before", nothing(12, n("t"), id, 1), protocol.CodeInvalidFetchSessionEpoch)
		checkSession(t, c, "right epoch", nothing(12, n("t"), id, 2), 0)
	})
	t.Run("F8 unknown ids", func(t *testing.T) {
		checkSession(t, c, "epoch 1", nothing(12, n("t"), 12345, 1), protocol.CodeFetchSessionIDNotFound)
		checkSession(t, c, "id 0, epoch 1", nothing(12, n("t"), 0, 1), protocol.CodeFetchSessionIDNotFound)
		checkSession(t, c, "id 0, epoch -2", nothing(12, n("t"), 0, -2), protocol.CodeFetchSessionIDNotFound)
		if resp := checkSession(t, c, "epoch -1", inSession(fetchAll(12, n("t"), 0), 12345, -1), 0, "t-0"); resp.SessionID != 0 {
			t.Errorf("epoch -1 made session %d", resp.SessionID)
		}
		if resp := checkSession(t, c, "epoch 0", inSession(fetchAll(12, n("t"), 0), 12345, 0), 0, "t-0"); resp.SessionID == 0 {
			t.Error("epoch 0 made no session")
		}
	})
	t.Run("F8 close", func(t *testing.T) {
		id := open()
		if resp := checkSession(t, c, "close", inSession(fetchAll(12, n("t"), 0), id, -1), 0, "t-0"); resp.SessionID != 0 {
			t.Errorf("session %d after its close", resp.SessionID)
		}
		checkSession(t, c, "closed", nothing(12, n("t"), id, 1), protocol.CodeFetchSessionIDNotFound)
	})
	t.Run("F8 epoch 0 with an id replaces the session", func(t *testing.T) {
		id := open()
		resp := checkSession(t, c, "replace", inSession(fetchAll(12, n("t"), 1), id, 0), 0, "t-1")
		if resp.SessionID == 0 || resp.SessionID == id {
			t.Errorf("session %d after %d", resp.SessionID, id)
		}
		checkSession(t, c, "old", nothing(12, n("t"), id, 1), protocol.CodeFetchSessionIDNotFound)
	})
	t.Run("F8 a session with no partitions", func(t *testing.T) {
		if resp := checkSession(t, c, "open", nothing(12, n("t"), 0, 0), 0); resp.SessionID == 0 {
			t.Error("no session was made")
		}
	})
	t.Run("F8 a session that lost its last partition is closed", func(t *testing.T) {
		id := open()
		forget := nothing(12, n("t"), id, 1)
		forget.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{Topic: n("t"), Partitions: []int32{0}}}
		if resp := checkSession(t, c, "forget", forget, 0); resp.SessionID != 0 {
			t.Errorf("session %d", resp.SessionID)
		}
		checkSession(t, c, "gone", nothing(12, n("t"), id, 2), protocol.CodeFetchSessionIDNotFound)
	})
	t.Run("F8 topic ids and names do not mix", func(t *testing.T) {
		id := open()
		checkSession(t, c, "ids in a session of names", nothing(13, n("t"), id, 1), protocol.CodeFetchSessionTopicIDError)
		byID := Ask[*kmsg.FetchResponse](c, inSession(FetchRequest(13, "", topic, 0, 0), 0, 0)).SessionID
		checkSession(t, c, "names in a session of ids", nothing(12, n("t"), byID, 1), protocol.CodeFetchSessionTopicIDError)
	})
	t.Run("F8 versions before sessions", func(t *testing.T) {
		checkSession(t, c, "v6", inSession(fetchAll(6, n("t"), 0, 1), 0, 0), 0, "t-0", "t-1")
	})
}

// TestF8Turn: a partition that returned data goes to the end of the order, so that others get their turn.
func TestF8Turn(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 3)
	for p := range int32(3) {
		c.Produce(n("t"), p, BatchOf("a"))
	}
	small := func(req *kmsg.FetchRequest) *kmsg.FetchRequest { req.MaxBytes = 1; return req }
	withData := func(resp *kmsg.FetchResponse) []int32 {
		var out []int32
		for _, topic := range resp.Topics {
			for _, p := range topic.Partitions {
				if len(p.RecordBatches) > 0 {
					out = append(out, p.Partition)
				}
			}
		}
		return out
	}
	resp := Ask[*kmsg.FetchResponse](c, small(inSession(fetchAll(12, n("t"), 0, 1, 2), 0, 0)))
	var turns []int32
	turns = append(turns, withData(resp)...)
	for epoch := range int32(5) {
		turns = append(turns, withData(Ask[*kmsg.FetchResponse](c, small(nothing(12, n("t"), resp.SessionID, epoch+1))))...)
	}
	if !slices.Equal(turns, []int32{0, 1, 2, 0, 1, 2}) && !slices.Equal(turns, []int32{0, 0, 1, 2, 0, 1}) {
		t.Errorf("partitions had their turns in order %v", turns)
	}
}
