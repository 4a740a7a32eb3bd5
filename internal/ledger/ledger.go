// Package ledger records what clients of a broker were told, and says where its log contradicts that.
package ledger

import (
	"fmt"
	"maps"
	"slices"
	"sync"
)

// A Place is one offset of one partition.
type Place struct {
	Topic     string
	Partition int32
	Offset    int64
}

func (p Place) String() string { return fmt.Sprintf("%s/%d@%d", p.Topic, p.Partition, p.Offset) }

// A Ledger is safe for concurrent use. Values name records: a producer sends no value twice to a topic.
type Ledger struct {
	mu struct {
		sync.Mutex
		acked map[Place]string // value that was acknowledged to live at a place
		seen  map[Place]string // value that a consumer saw at a place
		wrong []string         // what must not happen
		// unknown counts records whose producer does not know whether they were stored.
		unknown int
	}
}

// New returns an empty Ledger.
func New() *Ledger {
	l := &Ledger{}
	l.mu.acked, l.mu.seen = map[Place]string{}, map[Place]string{}
	return l
}

// Ack notes an acknowledgement. No two values may be acknowledged at one place.
func (l *Ledger) Ack(p Place, value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.mu.acked[p]; ok {
		l.mu.wrong = append(l.mu.wrong, fmt.Sprintf("%v was acknowledged for %q and for %q", p, old, value))
	}
	l.mu.acked[p] = value
}

// See notes what a consumer read. A place never changes its value, also not for a consumer that reads it again.
func (l *Ledger) See(p Place, value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.mu.seen[p]; ok && old != value {
		l.mu.wrong = append(l.mu.wrong, fmt.Sprintf("%v was read as %q and as %q", p, old, value))
	}
	l.mu.seen[p] = value
}

// Fail notes something that must not happen.
func (l *Ledger) Fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.wrong = append(l.mu.wrong, fmt.Sprintf(format, args...))
}

// Lose notes a record whose producer does not know whether it was stored.
func (l *Ledger) Lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.unknown++
}

// Acked returns what is acknowledged so far.
func (l *Ledger) Acked() map[Place]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.mu.acked)
}

// Counts returns how many records are acknowledged, seen, and of unknown outcome so far.
func (l *Ledger) Counts() (acked, seen, unknown int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.acked), len(l.mu.seen), l.mu.unknown
}

// Contradictions compares the ledger with the log as it is in the end: all that was acknowledged or read is there, at its
// offset, and no value of the topics named is there twice.
func (l *Ledger) Contradictions(final map[Place]string, once ...string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	errs := slices.Clone(l.mu.wrong)
	add := func(format string, args ...any) { errs = append(errs, fmt.Sprintf(format, args...)) }
	for p, value := range l.mu.acked {
		if got, ok := final[p]; !ok {
			add("acknowledged %q at %v is missing", value, p)
		} else if got != value {
			add("acknowledged %q at %v, which now holds %q", value, p, got)
		}
	}
	for p, value := range l.mu.seen {
		if got := final[p]; got != value {
			add("a consumer read %q at %v, which now holds %q", value, p, got)
		}
	}
	first := map[string]Place{}
	for p, value := range final {
		if other, ok := first[p.Topic+value]; ok && slices.Contains(once, p.Topic) {
			add("%q is there twice: at %v and %v", value, p, other)
		}
		first[p.Topic+value] = p
	}
	return errs
}
