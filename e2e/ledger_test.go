package e2e

import (
	"fmt"
	"sync"
	"testing"
)

// A place is one offset of one partition.
type place struct {
	topic     string
	partition int32
	offset    int64
}

func (p place) String() string { return fmt.Sprintf("%s/%d@%d", p.topic, p.partition, p.offset) }

// A ledger records what clients were told and compares it with what the broker holds in the end. It is safe for
// concurrent use.
type ledger struct {
	mu struct {
		sync.Mutex
		acked map[place]string // value that was acknowledged to live at a place
		seen  map[place]string // value that a consumer saw at a place
		wrong []string         // contradictions met along the way
	}
}

func newLedger() *ledger {
	l := &ledger{}
	l.mu.acked, l.mu.seen = map[place]string{}, map[place]string{}
	return l
}

// ack notes that a producer got an acknowledgement. No two values may be acknowledged at one place.
func (l *ledger) ack(p place, value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.mu.acked[p]; ok {
		l.mu.wrong = append(l.mu.wrong, fmt.Sprintf("%v was acknowledged for %q and for %q", p, old, value))
	}
	l.mu.acked[p] = value
}

// see notes what a consumer read. A place never changes its value, also not for a consumer that reads it again.
func (l *ledger) see(p place, value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.mu.seen[p]; ok && old != value {
		l.mu.wrong = append(l.mu.wrong, fmt.Sprintf("%v was read as %q and as %q", p, old, value))
	}
	l.mu.seen[p] = value
}

// fail notes something that must not happen.
func (l *ledger) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.wrong = append(l.mu.wrong, fmt.Sprintf(format, args...))
}

// ackedCount is the number of acknowledgements so far.
func (l *ledger) ackedCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.acked)
}

// compare holds the ledger against the final log. Values of topics named in once may be there only one time.
func (l *ledger) compare(t *testing.T, final map[place]string, once map[string]bool) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	report := limited(t)
	for _, w := range l.mu.wrong {
		report("%s", w)
	}
	for p, value := range l.mu.acked {
		if got, ok := final[p]; !ok {
			report("acknowledged %q at %v is missing", value, p)
		} else if got != value {
			report("acknowledged %q at %v, which now holds %q", value, p, got)
		}
	}
	for p, value := range l.mu.seen {
		if got := final[p]; got != value {
			report("a consumer read %q at %v, which now holds %q", value, p, got)
		}
	}
	first := map[string]place{}
	for p, value := range final {
		if other, ok := first[p.topic+value]; ok && once[p.topic] {
			report("%q is there twice: at %v and %v", value, p, other)
		}
		first[p.topic+value] = p
	}
}

// limited reports the first few errors and counts the others, so that a broken broker leaves a readable log.
func limited(t *testing.T) func(format string, args ...any) {
	const shown = 20
	n := 0
	t.Cleanup(func() {
		if n > shown {
			t.Errorf("and %d more", n-shown)
		}
	})
	return func(format string, args ...any) {
		t.Helper()
		if n++; n <= shown {
			t.Errorf(format, args...)
		}
	}
}
