package outagetest

import (
	"fmt"
	"sync"
)

// A place is one offset of one partition.
type place struct {
	topic     string
	partition int32
	offset    int64
}

func (p place) String() string { return fmt.Sprintf("%s/%d@%d", p.topic, p.partition, p.offset) }

// books records what clients were told. They are safe for concurrent use.
type books struct {
	mu struct {
		sync.Mutex
		acked map[place]string // value that was acknowledged to live at a place
		seen  map[place]string // value that a consumer saw at a place
		wrong []string         // what must not happen
		// unknown counts records whose producer does not know whether they were stored.
		unknown int
	}
}

func newBooks() *books {
	b := &books{}
	b.mu.acked, b.mu.seen = map[place]string{}, map[place]string{}
	return b
}

// ack notes an acknowledgement. No two values may be acknowledged at one place.
func (b *books) ack(p place, value string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old, ok := b.mu.acked[p]; ok {
		b.mu.wrong = append(b.mu.wrong, fmt.Sprintf("%v was acknowledged for %q and for %q", p, old, value))
	}
	b.mu.acked[p] = value
}

// see notes what a consumer read. A place never changes its value, also not for a consumer that reads it again.
func (b *books) see(p place, value string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old, ok := b.mu.seen[p]; ok && old != value {
		b.mu.wrong = append(b.mu.wrong, fmt.Sprintf("%v was read as %q and as %q", p, old, value))
	}
	b.mu.seen[p] = value
}

// fail notes something that must not happen.
func (b *books) fail(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.wrong = append(b.mu.wrong, fmt.Sprintf(format, args...))
}

func (b *books) lose() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.unknown++
}

// copyAcked returns what is acknowledged so far.
func (b *books) copyAcked() map[place]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := make(map[place]string, len(b.mu.acked))
	for p, value := range b.mu.acked {
		c[p] = value
	}
	return c
}

// errors compares the books with the log as it is in the end: all that was acknowledged or read is there, at its offset,
// and no value is there twice.
func (b *books) errors(final map[place]string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	errs := b.mu.wrong
	add := func(format string, args ...any) { errs = append(errs, fmt.Sprintf(format, args...)) }
	for p, value := range b.mu.acked {
		if got, ok := final[p]; !ok {
			add("acknowledged %q at %v is missing", value, p)
		} else if got != value {
			add("acknowledged %q at %v, which now holds %q", value, p, got)
		}
	}
	for p, value := range b.mu.seen {
		if got := final[p]; got != value {
			add("a consumer read %q at %v, which now holds %q", value, p, got)
		}
	}
	first := map[string]place{}
	for p, value := range final {
		if other, ok := first[p.topic+value]; ok {
			add("%q is there twice: at %v and %v", value, p, other)
		}
		first[p.topic+value] = p
	}
	return errs
}
