package broker

import (
	"context"
	"time"
)

const (
	// answerSmall is the least that an answer is cut to when memory is short, unless one batch is larger.
	answerSmall = 64 << 10
	// answerPatience is how long an answer waits for memory before it is sent empty: less than clients wait for it.
	answerPatience = 10 * time.Second
	// readingParts is how many reads from the store there is room for at least, before they get smaller.
	readingParts = 2
	// storePatience is how long a fetch waits for old data, of all its partitions together.
	storePatience = 10 * time.Second
)

// admit makes room for what was read among the answers that clients have not taken yet: a client that does not read would
// else keep as much of the caches' memory from being used again as it asked for (D11). When there is little room the answer
// gets smaller; when there is none it waits, with nothing in hand, and in the end is empty, so that the client asks again.
func (f *fetching) admit(ctx context.Context) {
	for limit := f.bytes; f.bytes > 0; {
		if f.b.answers.TryAcquire(int64(f.bytes)) {
			f.admitted = f.bytes
			return
		}
		if limit <= answerSmall {
			break
		}
		limit = max(limit/4, answerSmall)
		f.read(ctx, limit)
	}
	if f.bytes == 0 {
		return
	}
	need := f.bytes
	f.letGo()
	f.drop()
	patient, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	if f.b.answers.Acquire(patient, int64(need)) != nil {
		return
	}
	f.admitted = need
	f.read(ctx, need)
}

// reserve makes room for what is to be read from the store, which lies in memory while the fetch waits for the rest, and returns how much may
// be read. It never waits: the first partition always gives a batch, and a little more. Others get what they ask for or nothing, as a block
// of which nothing fits would be loaded for nothing.
func (f *fetching) reserve(n int) int {
	budget, asked := f.b.reading, n
	n = min(n, int(budget.Size()/readingParts))
	for !budget.TryAcquire(int64(n)) {
		if f.lowered = true; f.bytes > 0 {
			return 0
		}
		if n <= answerSmall {
			return n
		}
		n = max(n/4, answerSmall)
	}
	f.reserved += n
	f.lowered = f.lowered || n < asked
	return n
}

// keepReserved gives back what is reserved beyond n.
func (f *fetching) keepReserved(n int) {
	if f.reserved > n {
		f.b.reading.Release(int64(f.reserved - n))
		f.reserved = n
	}
}

// drop lets go of what was read, and answers without it.
func (f *fetching) drop() {
	f.release()
	for i := range f.parts {
		f.parts[i].Batches = nil
	}
	f.bytes = 0
}

// finish gives back what the answer held.
func (f *fetching) finish() {
	f.release()
	if f.admitted > 0 {
		f.b.answers.Release(int64(f.admitted))
	}
}
