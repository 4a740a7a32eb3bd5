package group

import "sync/atomic"

// What the fixed parts of a member, of an id that was handed out and of an offer take, about.
const (
	memberOverhead  = 512
	pendingOverhead = 512
	offerOverhead   = 64
)

// A tally counts the bytes of the members of a shard, of those it waits for and of what they offer, and bounds those of all shards
// together (D11): a join that waits has left its request behind, and a group that never gets stable is written nowhere.
type tally struct {
	all *atomic.Int64 // of all shards; nil for one alone
	max int64         // 0 means no bound
	own int64
	// live is set when own is part of all, which is after the replay.
	live bool
}

// memberBytes is about what a member takes. Its group's names are counted with each, for it may be the only one.
func memberBytes(group, protocolType string, mb *member) int64 {
	n := memberOverhead + len(group) + len(protocolType) + len(mb.id) + len(mb.client.ID) + len(mb.client.Host)
	if mb.instance != nil {
		n += len(*mb.instance)
	}
	for _, o := range mb.protocols {
		n += offerOverhead + len(o.name) + len(o.metadata)
	}
	return int64(n)
}

// pendingBytes is about what an id takes that was handed out.
func pendingBytes(group, id string) int64 { return int64(pendingOverhead + len(group) + len(id)) }

func (t *tally) add(n int64) {
	t.own += n
	if t.live && t.all != nil {
		t.all.Add(n)
	}
}

// begin and end say from when to when the shard counts among all.
func (t *tally) begin() {
	t.live = true
	if t.all != nil {
		t.all.Add(t.own)
	}
}

func (t *tally) end() {
	if t.live && t.all != nil {
		t.all.Add(-t.own)
	}
	t.live = false
}

// room reports whether n more bytes may be held.
func (t *tally) room(n int64) bool {
	return n <= 0 || t.max == 0 || t.all == nil || t.all.Load()+n <= t.max
}
