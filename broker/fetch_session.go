package broker

import (
	"container/list"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// sessionIdle is how long a session must be unused before another may take its slot, as in Kafka.
const sessionIdle = 2 * time.Minute

// sessionPartitionsMax bounds the partitions of all sessions together (D11). Kafka bounds only the number of sessions.
const sessionPartitionsMax = 250_000

// Session epochs that mean something else than a count (KIP-227).
const (
	finalEpoch   = -1 // no session, and close the one named
	initialEpoch = 0  // a full request that asks for a new session
)

// fetchSessions is the cache of incremental fetch sessions (F8). A session is used by one request at a time in practice;
// its lock makes it safe when a client does not keep to that.
type fetchSessions struct {
	mu struct {
		sync.Mutex
		byID map[int32]*fetchSession
		used *list.List // of *fetchSession, least recently used first
		// partitions is those of all sessions, at most sessionPartitionsMax.
		partitions int
	}
}

// A fetchSession remembers the partitions that a consumer asks for and what it was told about each.
type fetchSession struct {
	id      int32
	byTopic bool // topics have ids (v13+)

	mu struct {
		sync.Mutex
		epoch int32
		// order is the partitions in serving order; those that returned data move to its end.
		order *list.List // of *fetchTarget
		index map[targetKey]*list.Element
	}

	// owned by fetchSessions.mu
	at       *list.Element
	lastUsed time.Time
	counted  int // of fetchSessions.mu.partitions
}

// targetKey names a partition as the request did: by id or by name.
type targetKey struct {
	id        protocol.TopicID
	name      string
	partition int32
}

// A fetchTarget is one partition that a request wants to read. A session's is replaced, never changed: the request before may still read
// it, on another connection.
type fetchTarget struct {
	targetKey
	offset      int64
	maxBytes    int32
	leaderEpoch int32
	lastEpoch   int32 // last fetched epoch, -1 for none

	told *toldMarks // nil without a session
}

// toldMarks are what a session's client was last told of a partition; a full answer tells all. The session's lock guards them.
type toldMarks struct{ highWatermark, logStart int64 }

func newFetchTarget(key targetKey, p *kmsg.FetchRequestTopicPartition) *fetchTarget {
	return &fetchTarget{
		targetKey: key, offset: p.FetchOffset, maxBytes: p.PartitionMaxBytes,
		leaderEpoch: p.CurrentLeaderEpoch, lastEpoch: p.LastFetchedEpoch,
	}
}

// changed reports whether an incremental answer has to hold the partition, and notes what it says (KIP-227).
func (t *toldMarks) changed(p *protocol.FetchPartition) bool {
	tell := len(p.Batches) > 0 || p.HighWatermark != t.highWatermark || p.LogStartOffset != t.logStart ||
		p.ErrorCode != protocol.CodeNone || p.DivergingEpoch.Epoch >= 0
	t.highWatermark, t.logStart = p.HighWatermark, p.LogStartOffset
	if p.ErrorCode != protocol.CodeNone {
		t.highWatermark = -1 // so that the recovery is told too
	}
	return tell
}

// A fetchPlan is what one request reads, in order.
type fetchPlan struct {
	targets     []*fetchTarget
	session     *fetchSession // nil without one
	incremental bool
	code        protocol.ErrorCode // refuses the whole request
}

// targetsOf lists the partitions of a request, each once.
func targetsOf(req *kmsg.FetchRequest) []*fetchTarget {
	type ref struct {
		id protocol.TopicID
		numbered
	}
	var out []*fetchTarget
	names, seen := topicNumbers{}, make(map[ref]bool)
	for i := range req.Topics {
		t := &req.Topics[i]
		topic := names.of(t.Topic)
		for j := range t.Partitions {
			key := ref{t.TopicID, numbered{topic, t.Partitions[j].Partition}}
			if !seen[key] {
				seen[key] = true
				out = append(out, newFetchTarget(targetKey{t.TopicID, t.Topic, key.partition}, &t.Partitions[j]))
			}
		}
	}
	return out
}

// plan says what a request reads, and opens, advances or closes its session. slots bounds the sessions.
func (s *fetchSessions) plan(req *kmsg.FetchRequest, slots int, now time.Time) fetchPlan {
	if req.Version < 7 {
		return fetchPlan{targets: targetsOf(req)}
	}
	if req.SessionEpoch == initialEpoch || req.SessionEpoch == finalEpoch {
		s.remove(req.SessionID)
		p := fetchPlan{targets: targetsOf(req)}
		if req.SessionEpoch == initialEpoch {
			p.session = s.open(p.targets, req.Version >= 13, slots, now)
		}
		return p
	}
	session := s.touch(req.SessionID, now)
	if session == nil {
		return fetchPlan{code: protocol.CodeFetchSessionIDNotFound}
	}
	targets, code := session.advance(req)
	if code != protocol.CodeNone {
		return fetchPlan{code: code}
	}
	s.resize(session, len(targets))
	if len(targets) == 0 {
		s.remove(session.id)
		return fetchPlan{}
	}
	return fetchPlan{targets: targets, session: session, incremental: true}
}

// open makes a session if there is a slot, or one that was idle for long enough.
func (s *fetchSessions) open(targets []*fetchTarget, byTopic bool, slots int, now time.Time) *fetchSession {
	f := &fetchSession{byTopic: byTopic, lastUsed: now}
	f.mu.epoch, f.mu.order, f.mu.index = 1, list.New(), make(map[targetKey]*list.Element, len(targets))
	name, kept := "", ""
	for _, t := range targets {
		if len(t.name) > topicNameMax {
			return nil // no such topic will ever be
		}
		if t.name != name {
			name, kept = t.name, strings.Clone(t.name)
		}
		t.name = kept
		f.keep(t)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.byID == nil {
		s.mu.byID, s.mu.used = map[int32]*fetchSession{}, list.New()
	}
	if len(s.mu.byID) >= slots {
		oldest := s.mu.used.Front()
		if oldest == nil || now.Sub(oldest.Value.(*fetchSession).lastUsed) < sessionIdle {
			return nil
		}
		s.dropLocked(oldest.Value.(*fetchSession))
	}
	if s.mu.partitions+len(targets) > sessionPartitionsMax {
		return nil
	}
	s.mu.partitions, f.counted = s.mu.partitions+len(targets), len(targets)
	for f.id == 0 || s.mu.byID[f.id] != nil {
		f.id = rand.Int32()
	}
	s.mu.byID[f.id] = f
	f.at = s.mu.used.PushBack(f)
	return f
}

// touch finds a session and marks it as used.
func (s *fetchSessions) touch(id int32, now time.Time) *fetchSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.mu.byID[id]
	if f != nil {
		f.lastUsed = now
		s.mu.used.MoveToBack(f.at)
	}
	return f
}

func (s *fetchSessions) remove(id int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.mu.byID[id]; f != nil {
		s.dropLocked(f)
	}
}

// resize notes how many partitions a session has now. One for which there is no room ends with this request.
func (s *fetchSessions) resize(f *fetchSession, partitions int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.byID[f.id] != f {
		return
	}
	s.mu.partitions, f.counted = s.mu.partitions+partitions-f.counted, partitions
	if s.mu.partitions > sessionPartitionsMax {
		s.dropLocked(f)
	}
}

func (s *fetchSessions) dropLocked(f *fetchSession) {
	s.mu.partitions -= f.counted
	delete(s.mu.byID, f.id)
	s.mu.used.Remove(f.at)
}

// keep adds a target behind the others. Its name must outlive the request. The caller holds mu, or is the only one to know
// the session.
func (f *fetchSession) keep(t *fetchTarget) {
	t.told = &toldMarks{-1, -1}
	f.mu.index[t.targetKey] = f.mu.order.PushBack(t)
}

// namesTooLong reports whether a request names what cannot be a topic. Each partition costs as much as its topic's name, so
// that a session has no long ones (D10).
func namesTooLong(req *kmsg.FetchRequest) bool {
	return slices.ContainsFunc(req.Topics, func(t kmsg.FetchRequestTopic) bool { return len(t.Topic) > topicNameMax }) ||
		slices.ContainsFunc(req.ForgottenTopics, func(t kmsg.FetchRequestForgottenTopic) bool { return len(t.Topic) > topicNameMax })
}

// advance applies an incremental request and returns all partitions of the session, in serving order.
func (f *fetchSession) advance(req *kmsg.FetchRequest) ([]*fetchTarget, protocol.ErrorCode) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if req.SessionEpoch != f.mu.epoch {
		return nil, protocol.CodeInvalidFetchSessionEpoch
	}
	if f.byTopic != (req.Version >= 13) {
		return nil, protocol.CodeFetchSessionTopicIDError
	}
	if namesTooLong(req) {
		return nil, protocol.CodeInvalidRequest
	}
	if f.mu.epoch++; f.mu.epoch <= 0 {
		f.mu.epoch = 1
	}
	for i := range req.Topics {
		t := &req.Topics[i]
		name := strings.Clone(t.Topic)
		for j := range t.Partitions {
			p := &t.Partitions[j]
			key := targetKey{t.TopicID, name, p.Partition}
			e, ok := f.mu.index[key]
			if !ok {
				f.keep(newFetchTarget(key, p))
				continue
			}
			was := e.Value.(*fetchTarget)
			now := newFetchTarget(was.targetKey, p)
			now.told, e.Value = was.told, now
		}
	}
	for _, t := range req.ForgottenTopics {
		for _, p := range t.Partitions {
			key := targetKey{t.TopicID, t.Topic, p}
			if e, ok := f.mu.index[key]; ok {
				f.mu.order.Remove(e)
				delete(f.mu.index, key)
			}
		}
	}
	targets := make([]*fetchTarget, 0, f.mu.order.Len())
	for e := f.mu.order.Front(); e != nil; e = e.Next() {
		targets = append(targets, e.Value.(*fetchTarget))
	}
	return targets, protocol.CodeNone
}

// told notes what an answer says about each partition and returns the partitions that it has to hold.
func (f *fetchSession) told(targets []*fetchTarget, parts []protocol.FetchPartition, incremental bool) []bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	tell := make([]bool, len(targets))
	for i, t := range targets {
		tell[i] = t.told.changed(&parts[i]) || !incremental
		if len(parts[i].Batches) == 0 {
			continue
		}
		if e, ok := f.mu.index[t.targetKey]; ok {
			f.mu.order.MoveToBack(e) // so that no partition starves behind another
		}
	}
	return tell
}
