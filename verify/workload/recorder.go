package workload

import (
	"sync"
	"time"

	"github.com/tidemill/tidemill/verify"
)

// A recorder takes down events of all clients. Times come from the monotonic clock of this process.
type recorder struct {
	begun time.Time
	mu    struct {
		sync.Mutex
		h verify.History
	}
}

func newRecorder(topic string, partitions int32) *recorder {
	r := &recorder{begun: time.Now()}
	r.mu.h.Topic, r.mu.h.Partitions = topic, partitions
	return r
}

func (r *recorder) now() time.Duration { return time.Since(r.begun) }

// note adds events to the history.
func (r *recorder) note(add func(h *verify.History)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add(&r.mu.h)
}

// with asks the history as it is now.
func with[T any](r *recorder, ask func(h *verify.History) T) T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return ask(&r.mu.h)
}

// finished returns the history, to which nothing is added any more.
func (r *recorder) finished() *verify.History {
	return with(r, func(h *verify.History) *verify.History { return h })
}
