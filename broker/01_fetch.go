package broker

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/server"
)

// Fetch: v4-16
//
// One byte budget and one deadline for all partitions (F1, F2). What is not there yet is waited for once, over all
// partitions, and woken by commits. Batches go to the socket from where they are cached.
func init() { handle(protocol.KeyFetch, (*Broker).fetch) }

func (b *Broker) fetch(c *call, req *kmsg.FetchRequest) {
	v := b.view()
	now := time.Now()
	plan := b.sessions.plan(req, v.settings.FetchSessions, now)
	resp := &protocol.FetchResponse{ErrorCode: plan.code}
	release := func() {}
	if plan.code == protocol.CodeNone {
		f := &fetching{
			b: b, c: c, v: v, req: req, plan: plan,
			deadline: now.Add(time.Duration(req.MaxWaitMillis) * time.Millisecond), patience: b.storePatience,
		}
		f.reserving = f.reserve
		f.run(c.ctx)
		f.admit(c.ctx)
		f.respond(resp)
		release = f.finish
	}
	c.done(server.Response{Buffers: resp.Encode(c.header.CorrelationID, c.header.Version), Release: release})
}

// fetching is one Fetch request being served.
type fetching struct {
	b         *Broker
	c         *call
	v         *view
	req       *kmsg.FetchRequest
	plan      fetchPlan
	deadline  time.Time
	reserving func(int) int // f.reserve
	// patience is how long all that is read from the store may still take together.
	patience time.Duration

	logs  []*partition.Log // of the targets that can be read, else nil
	parts []protocol.FetchPartition
	// results hold the memory of the parts' batches.
	results  []partition.ReadResult
	bytes    int
	admitted int  // of bytes, by the budget of answers
	reserved int  // for what is read from the store, until all is read
	lowered  bool // the last reservation was for less than asked
	spent    bool // the byte budget has no room for what comes next
	stop     bool // something has to be said at once: an error or a diverging epoch
}

// run reads, and once more after a wait when there is less than the client wants and nothing else to say (F1).
func (f *fetching) run(ctx context.Context) {
	maxBytes := min(int(f.req.MaxBytes), f.v.settings.FetchMaxBytes)
	minBytes := min(int(f.req.MinBytes), maxBytes)
	f.read(ctx, maxBytes)
	wait := time.Until(f.deadline)
	if f.c.decoded != nil && len(f.plan.targets) > parkedTargets {
		wait = min(wait, decodedWait)
	}
	if f.stop || wait <= 0 || len(f.plan.targets) == 0 || f.bytes >= minBytes {
		return
	}
	f.letGo()
	f.wait(ctx, minBytes-f.bytes, wait)
	f.read(ctx, maxBytes)
}

// letGo gives the request's frame back before a long wait: thousands of parked consumers must not use up what admits other
// requests. The names of a session's targets are copies already.
func (f *fetching) letGo() {
	if f.plan.session == nil {
		name, kept := "", ""
		for _, t := range f.plan.targets {
			if t.name != name {
				name, kept = t.name, strings.Clone(t.name)
			}
			t.name = kept
		}
	}
	f.req.Topics, f.req.ForgottenTopics = nil, nil
	f.req.Rack, f.req.ClusterID = "", nil // they lie in the frame and would keep it
	f.req.UnknownTags, f.req.ReplicaState.UnknownTags = kmsg.Tags{}, kmsg.Tags{}
	if len(f.plan.targets) <= parkedTargets {
		f.c.letGo()
		return
	}
	f.c.request.GiveBack()
}

// wait parks until enough is committed, the deadline or the end of ctx, with nothing of what was read in hand. A wake-up may
// come early, when a chunk was counted of which a part was read already; then the client gets that little.
func (f *fetching) wait(ctx context.Context, minBytes int, d time.Duration) {
	w := partition.NewWaiter(minBytes)
	defer w.Close()
	for i, l := range f.logs {
		if l != nil {
			l.Watch(w, nextOffset(f.plan.targets[i].offset, f.parts[i].Batches))
		}
	}
	f.drop()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-w.C():
	case <-timer.C:
	case <-ctx.Done():
	}
}

// release lets go of what was read.
func (f *fetching) release() {
	for i := range f.results {
		f.results[i].Release()
	}
	f.results = nil
}

// read fills parts from the logs, each partition in order from what is left of the budget (F2). Data that the store does not give in time
// is left out, and goes on to be loaded for the next fetch: what others have in memory must not wait for it.
func (f *fetching) read(ctx context.Context, budget int) {
	loading, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	begun := time.Now()
	defer func() {
		f.patience -= time.Since(begun)
		f.keepReserved(0)
	}()
	f.logs = make([]*partition.Log, len(f.plan.targets))
	f.parts = make([]protocol.FetchPartition, len(f.plan.targets))
	f.release()
	f.bytes, f.spent, f.stop = 0, false, false
	for i, t := range f.plan.targets {
		p := &f.parts[i]
		*p = protocol.NewFetchPartition(t.partition)
		p.ErrorCode = f.readOne(ctx, loading, i, p, budget-f.bytes)
		if p.ErrorCode != protocol.CodeNone || p.DivergingEpoch.Epoch >= 0 {
			f.stop = true
		}
		for _, batch := range p.Batches {
			f.bytes += len(batch)
		}
	}
}

func (f *fetching) readOne(ctx, loading context.Context, i int, p *protocol.FetchPartition, left int) protocol.ErrorCode {
	t := f.plan.targets[i]
	topic, code := f.topicOf(t)
	if code != protocol.CodeNone {
		p.AbortedTransactions = []protocol.AbortedTransaction{} // F6
		return code
	}
	if f.req.MaxBytes < 0 || t.maxBytes < 0 || f.req.IsolationLevel < 0 || f.req.IsolationLevel > 1 {
		return protocol.CodeUnknownServerError // as Kafka answers what makes no sense (3.13)
	}
	if f.req.ReplicaID >= 0 {
		return protocol.CodeReplicaNotAvailable // there are no followers
	}
	l, code := f.b.ownedLog(f.v, topic, t.partition)
	if code == protocol.CodeNone {
		code = checkEpoch(t.leaderEpoch, l.State().LeaderEpoch)
	}
	if code != protocol.CodeNone {
		f.tellLeader(p, topic, code)
		return code
	}
	if code, diverges := f.checkLastEpoch(l, t, p); code != protocol.CodeNone || diverges {
		f.tellLeader(p, topic, code)
		return code
	}
	isolation := partition.Isolation(f.req.IsolationLevel)
	in := partition.ReadInput{
		Offset: t.offset, MaxBytes: min(int(t.maxBytes), max(left, 0)), AtLeastOne: f.bytes == 0, Isolation: isolation,
		Reserve: f.reserving,
	}
	reserved := f.reserved
	f.lowered = false
	if f.spent || ctx.Err() != nil {
		in.MaxBytes, in.AtLeastOne = 0, false
	}
	r, err := l.Read(loading, in)
	f.keepReserved(min(f.reserved, reserved+r.Bytes))
	code = f.codeOf(loading, err)
	if f.mayBeElsewhere(l, t.offset, r.State, code) {
		code = protocol.CodeNotLeaderOrFollower
	}
	if code != protocol.CodeNone {
		f.tellLeader(p, topic, code)
		return code
	}
	// As in Kafka, where a part of the batch takes what is left. To go on would load a block of each partition behind and send none.
	f.spent = f.spent || err == nil && !f.lowered && f.bytes > 0 && len(r.Batches) == 0 && t.offset < r.HighWatermark && left <= int(t.maxBytes)
	f.logs[i] = l
	f.results = append(f.results, r)
	p.Batches = r.Batches
	p.HighWatermark, p.LastStableOffset, p.LogStartOffset = r.HighWatermark, r.LastStable, r.LogStart // F5
	if isolation == partition.ReadCommitted {
		p.AbortedTransactions = []protocol.AbortedTransaction{} // F6
	}
	return protocol.CodeNone
}

// mayBeElsewhere reports whether what a client asks for may be with another leader that this broker does not know of. A log that has ended
// gets no more records, and wakes who waits for them at once; and who is not sure to lead must not say that an offset is behind the end:
// a client without a leader epoch would give up its position.
func (f *fetching) mayBeElsewhere(l *partition.Log, offset int64, s partition.State, code protocol.ErrorCode) bool {
	switch code {
	case protocol.CodeNone:
		return offset >= s.HighWatermark && l.Ended()
	case protocol.CodeOffsetOutOfRange:
		return offset > s.EndOffset && f.b.checkFresh(l) != protocol.CodeNone
	}
	return false
}

// tellLeader says who leads to a client that asked the wrong broker or believes in an older epoch (A9, KIP-951).
func (f *fetching) tellLeader(p *protocol.FetchPartition, t *metadata.Topic, code protocol.ErrorCode) {
	if f.req.Version < 16 || code != protocol.CodeNotLeaderOrFollower && code != protocol.CodeFencedLeaderEpoch {
		return
	}
	if id, epoch, ok := f.b.view().currentLeader(t, p.Partition); ok { // it may have moved since the request came
		p.CurrentLeader = protocol.LeaderEpoch{LeaderID: id, LeaderEpoch: epoch}
	}
}

// topicOf finds the topic of a target, whose partition must exist.
func (f *fetching) topicOf(t *fetchTarget) (*metadata.Topic, protocol.ErrorCode) {
	if f.req.Version >= 13 && t.id.IsZero() {
		return nil, protocol.CodeUnknownTopicID // no name comes with it (F13)
	}
	topic, code := f.v.topicByRef(t.id, t.name)
	if code == protocol.CodeNone && (t.partition < 0 || int(t.partition) >= len(topic.Partitions)) {
		code = protocol.CodeUnknownTopicOrPartition
	}
	return topic, code
}

// codeOf maps a failed read to a code that consumers survive (F4). A read that was cut short, with its ctx, has found nothing.
func (f *fetching) codeOf(ctx context.Context, err error) protocol.ErrorCode {
	if err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return protocol.CodeNone
	}
	switch code := codeOf(err); code {
	case protocol.CodeOffsetOutOfRange, protocol.CodeUnknownTopicOrPartition, protocol.CodeNotLeaderOrFollower,
		protocol.CodeCorruptMessage, protocol.CodeUnknownServerError:
		return code
	}
	return protocol.CodeKafkaStorageError // any other kills a Java consumer
}

// checkLastEpoch compares the epoch of the last record that the client has with the log's history (F11). Logs are never
// truncated, so only a client of another log diverges, or one that knows a newer leader than this broker does.
func (f *fetching) checkLastEpoch(l *partition.Log, t *fetchTarget, p *protocol.FetchPartition) (protocol.ErrorCode, bool) {
	if t.lastEpoch < 0 || f.req.Version < 12 {
		return protocol.CodeNone, false
	}
	epoch, end := l.EndOffsetForEpoch(t.lastEpoch)
	unknown, diverges := epoch < 0 || end < 0, epoch < t.lastEpoch || end < t.offset
	if unknown || diverges {
		if code := f.b.checkFresh(l); code != protocol.CodeNone {
			return code, false
		}
	}
	switch {
	case unknown:
		return protocol.CodeOffsetOutOfRange, false
	case diverges:
		p.DivergingEpoch = protocol.EpochEnd{Epoch: epoch, EndOffset: end}
		return protocol.CodeNone, true
	}
	return protocol.CodeNone, false
}

// respond turns what was read into the answer: all partitions, or those that changed within a session.
func (f *fetching) respond(resp *protocol.FetchResponse) {
	tell := make([]bool, len(f.parts))
	for i := range tell {
		tell[i] = true
	}
	if s := f.plan.session; s != nil {
		resp.SessionID = s.id
		tell = s.told(f.plan.targets, f.parts, f.plan.incremental)
	}
	leaders := map[int32]bool{}
	for i, t := range f.plan.targets {
		if !tell[i] {
			continue
		}
		if n := len(resp.Topics); n == 0 || resp.Topics[n-1].Name != t.name || resp.Topics[n-1].ID != t.id {
			resp.Topics = append(resp.Topics, protocol.FetchTopic{Name: t.name, ID: t.id})
		}
		last := &resp.Topics[len(resp.Topics)-1]
		last.Partitions = append(last.Partitions, f.parts[i])
		if id := f.parts[i].CurrentLeader.LeaderID; id >= 0 {
			leaders[id] = true
		}
	}
	for _, broker := range f.b.view().brokers {
		if leaders[broker.id] {
			resp.NodeEndpoints = append(resp.NodeEndpoints, protocol.NodeEndpoint{NodeID: broker.id, Host: broker.Host, Port: broker.Port, Rack: broker.Rack})
		}
	}
}

// nextOffset is the offset after the batches that were read from offset on.
func nextOffset(offset int64, batches [][]byte) int64 {
	for _, chunk := range batches {
		for len(chunk) > 0 {
			batch, rest, err := record.Next(chunk)
			if err != nil || batch == nil {
				return offset
			}
			offset, chunk = batch.LastOffset()+1, rest
		}
	}
	return offset
}
