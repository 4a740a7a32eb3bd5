package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memoryJournal is a journal whose commits the test lets through.
type memoryJournal struct {
	mu      sync.Mutex
	records []Record // committed
	waiting []func(error)
	batches int
	held    bool  // appends wait for release
	err     error // of Replay
	block   chan struct{}
}

func (j *memoryJournal) Append(_ int32, records []Record, _ time.Time, done func(int64, error)) {
	commit := func(err error) {
		j.mu.Lock()
		base := int64(len(j.records))
		if err == nil {
			j.records = append(j.records, records...)
		}
		j.mu.Unlock()
		done(base, err)
	}
	j.mu.Lock()
	j.batches++
	if j.held {
		j.waiting = append(j.waiting, commit)
		j.mu.Unlock()
		return
	}
	j.mu.Unlock()
	commit(nil)
}

func (j *memoryJournal) Replay(ctx context.Context, _ int32, from int64, fn func(int64, Record) error) (int64, error) {
	j.mu.Lock()
	records, err, block := slices.Clone(j.records), j.err, j.block
	j.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if err != nil {
		return 0, err
	}
	for i := from; i < int64(len(records)); i++ {
		if err := fn(i, records[i]); err != nil {
			return 0, err
		}
	}
	return int64(len(records)), nil
}

func (j *memoryJournal) hold(held bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.held = held
}

// release ends the waiting appends with err.
func (j *memoryJournal) release(err error) {
	j.mu.Lock()
	waiting := j.waiting
	j.waiting = nil
	j.mu.Unlock()
	for _, commit := range waiting {
		commit(err)
	}
}

// words is a machine that keeps a list of words; "wait" inputs are kept until it is dropped.
type words struct {
	list    []string
	parked  []Reply
	timers  Timers[string]
	applied int
}

func (m *words) Apply(r Record) error {
	if string(r.Key) == "bad" {
		return errors.New("bad record")
	}
	m.applied++
	m.list = append(m.list, string(r.Key))
	return nil
}
func (m *words) Loaded(time.Time, *Output)   {}
func (m *words) NextTick() (time.Time, bool) { return m.timers.Next() }
func (m *words) Tick(now time.Time, out *Output) {
	for word, due := m.timers.Pop(now); due; word, due = m.timers.Pop(now) {
		m.add(word, out)
	}
}

func (m *words) Records(yield func(Record) bool) {
	for _, w := range m.list {
		if !yield(Record{Key: []byte(w), Value: []byte("x")}) {
			return
		}
	}
}

func (m *words) Drop(out *Output) {
	for _, r := range m.parked {
		out.Reply(r)
	}
}

func (m *words) add(word string, out *Output) {
	m.list = append(m.list, word)
	out.Append(Record{Key: []byte(word), Value: []byte("x")})
}

// fixture is a runtime in a synctest bubble, with shard 0 loaded.
type fixture struct {
	t       *testing.T
	journal *memoryJournal
	runtime *Runtime[*words]
	mu      sync.Mutex
	log     []string
	dropped []error
}

// inBubble runs fn with a running runtime whose time is virtual.
func inBubble(t *testing.T, o Options, fn func(f *fixture)) {
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{t: t, journal: &memoryJournal{}}
		o.Dropped = func(_ int32, err error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.dropped = append(f.dropped, err)
		}
		f.runtime = New(f.journal, func(int32) *words { return &words{} }, o)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.runtime.Run(ctx) }()
		f.runtime.Load(0, Snapshot{})
		synctest.Wait()
		fn(f)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func (f *fixture) note(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, s)
}

func (f *fixture) reply(name string) Reply {
	return func(err error) { f.note(fmt.Sprintf("%s: %v", name, err)) }
}

// want compares what was answered since the last call.
func (f *fixture) want(lines ...string) {
	f.t.Helper()
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.log, lines) {
		f.t.Errorf("answers:\n%s\nwant:\n%s", strings.Join(f.log, "\n"), strings.Join(lines, "\n"))
	}
	f.log = nil
}

func (f *fixture) add(word string) {
	f.runtime.Submit(0, func(m *words, _ time.Time, out *Output) {
		m.add(word, out)
		out.Reply(f.reply("add " + word))
	}, f.reply("refused "+word))
}

func (f *fixture) read() {
	f.runtime.Submit(0, func(m *words, _ time.Time, out *Output) {
		out.Reply(f.reply("read " + strings.Join(m.list, ",")))
	}, f.reply("refused read"))
}

func TestRepliesWaitForTheCommit(t *testing.T) {
	inBubble(t, Options{}, func(f *fixture) {
		f.add("a")
		f.read()
		f.want("add a: <nil>", "read a: <nil>")
		f.journal.hold(true)
		f.add("b")
		f.read() // sees b, so it may not be answered before b is committed
		f.want()
		f.journal.release(nil)
		f.want("add b: <nil>", "read a,b: <nil>")
	})
}

func TestQueuedOutputsShareABatch(t *testing.T) {
	inBubble(t, Options{Workers: 1, BatchBytesMax: 10 * (recordOverhead + 2)}, func(f *fixture) {
		gate := make(chan struct{})
		f.runtime.Submit(0, func(*words, time.Time, *Output) { <-gate }, nil)
		synctest.Wait() // the worker holds the gate alone: all 25 queue behind it
		for range 25 {
			f.add("w")
		}
		close(gate)
		synctest.Wait()
		if f.journal.batches != 3 || len(f.log) != 25 {
			t.Errorf("%d batches, %d answers; want 3, 25", f.journal.batches, len(f.log))
		}
	})
}

func TestAllowSplit(t *testing.T) {
	tests := map[string]struct {
		split bool
		want  int
	}{"whole": {want: 1}, "split": {split: true, want: 10}}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{BatchBytesMax: recordOverhead + 2}, func(f *fixture) {
				f.runtime.Submit(0, func(m *words, _ time.Time, out *Output) {
					for range 10 {
						m.add("w", out)
					}
					if tt.split {
						out.AllowSplit()
					}
					out.Reply(f.reply("all"))
				}, nil)
				f.want("all: <nil>")
				if f.journal.batches != tt.want {
					t.Errorf("%d batches, want %d", f.journal.batches, tt.want)
				}
			})
		})
	}
}

func TestFailedAppendDropsTheShard(t *testing.T) {
	tests := map[string]struct{ err, answer error }{
		"fenced": {fmt.Errorf("append: %w", ErrFenced), ErrNotCoordinator},
		"failed": {errors.New("disk on fire"), ErrUnavailable},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(f *fixture) {
				f.runtime.Submit(0, func(m *words, _ time.Time, _ *Output) {
					m.parked = append(m.parked, f.reply("parked"))
				}, nil)
				f.journal.hold(true)
				f.add("a")
				f.read()
				f.want()
				f.journal.release(tt.err)
				f.want(fmt.Sprintf("add a: %v", tt.answer), fmt.Sprintf("read a: %v", tt.answer), fmt.Sprintf("parked: %v", tt.answer))
				if len(f.dropped) != 1 || !errors.Is(f.dropped[0], tt.err) {
					t.Errorf("dropped: %v", f.dropped)
				}
				f.add("b")
				f.want(fmt.Sprintf("refused b: %v", ErrNotCoordinator))
				f.journal.hold(false)
				f.runtime.Load(0, Snapshot{})
				synctest.Wait()
				f.read()
				f.want("read : <nil>")
			})
		})
	}
}

// The batch was written, yet its append answered an error: the state after the load has it.
func TestFailedAppendThatWasApplied(t *testing.T) {
	inBubble(t, Options{}, func(f *fixture) {
		f.journal.hold(true)
		f.add("a")
		synctest.Wait()
		f.journal.mu.Lock()
		f.journal.records = append(f.journal.records, Record{Key: []byte("a"), Value: []byte("x")})
		f.journal.mu.Unlock()
		f.journal.release(errors.New("no answer"))
		f.want(fmt.Sprintf("add a: %v", ErrUnavailable))
		f.runtime.Load(0, Snapshot{})
		synctest.Wait()
		f.read()
		f.want("read a: <nil>")
	})
}

func TestUnloadAnswersAll(t *testing.T) {
	inBubble(t, Options{}, func(f *fixture) {
		f.runtime.Submit(0, func(m *words, _ time.Time, _ *Output) {
			m.parked = append(m.parked, f.reply("parked"))
		}, nil)
		f.journal.hold(true)
		f.add("a")
		synctest.Wait()
		f.runtime.Unload(0)
		f.runtime.Load(0, Snapshot{}) // begins when the old machine is gone
		f.want(fmt.Sprintf("add a: %v", ErrNotCoordinator), fmt.Sprintf("parked: %v", ErrNotCoordinator))
		f.journal.release(nil) // too late for the machine that asked
		f.read()
		f.want("read : <nil>")
		if len(f.dropped) != 0 {
			t.Errorf("Dropped called: %v", f.dropped)
		}
	})
}

func TestLoading(t *testing.T) {
	inBubble(t, Options{}, func(f *fixture) {
		f.runtime.Unload(0)
		synctest.Wait()
		f.journal.block = make(chan struct{})
		f.runtime.Load(0, Snapshot{})
		f.read()
		f.want(fmt.Sprintf("refused read: %v", ErrLoading))
		close(f.journal.block)
		synctest.Wait()
		f.read()
		f.want("read : <nil>")
	})
}

func TestUnloadWhileLoading(t *testing.T) {
	inBubble(t, Options{}, func(f *fixture) {
		f.runtime.Unload(0)
		synctest.Wait()
		f.journal.block = make(chan struct{})
		f.runtime.Load(0, Snapshot{})
		synctest.Wait()
		f.runtime.Unload(0)
		f.read()
		f.want(fmt.Sprintf("refused read: %v", ErrNotCoordinator))
		if got := f.runtime.Shards(); len(got) != 0 {
			t.Errorf("shards %v", got)
		}
	})
}

func TestFailedLoadIsTriedAgain(t *testing.T) {
	inBubble(t, Options{}, func(f *fixture) {
		f.runtime.Unload(0)
		synctest.Wait()
		f.journal.err = errors.New("bucket is away")
		f.runtime.Load(0, Snapshot{})
		f.read()
		f.want(fmt.Sprintf("refused read: %v", ErrLoading))
		f.journal.mu.Lock()
		f.journal.err = nil
		f.journal.mu.Unlock()
		<-time.After(replayRetryMin + time.Millisecond)
		f.read()
		f.want("read : <nil>")
	})
}

func TestTimers(t *testing.T) {
	inBubble(t, Options{}, func(f *fixture) {
		f.runtime.Submit(0, func(m *words, now time.Time, _ *Output) {
			m.timers.Set("late", now.Add(2*time.Second))
			m.timers.Set("early", now.Add(time.Second))
			m.timers.Set("never", now.Add(time.Second))
			m.timers.Cancel("never")
		}, nil)
		<-time.After(1500 * time.Millisecond)
		f.read()
		f.want("read early: <nil>")
		<-time.After(time.Second)
		f.read()
		f.want("read early,late: <nil>")
	})
}

func TestCommitTimeout(t *testing.T) {
	inBubble(t, Options{CommitTimeout: time.Second}, func(f *fixture) {
		f.journal.hold(true)
		f.add("a")
		<-time.After(999 * time.Millisecond)
		f.want()
		<-time.After(2 * time.Millisecond)
		f.want(fmt.Sprintf("add a: %v", ErrUnavailable))
		f.journal.release(nil)
		f.read()
		f.want("read a: <nil>")
	})
}

func TestSnapshot(t *testing.T) {
	inBubble(t, Options{}, func(f *fixture) {
		f.add("a")
		f.add("b")
		f.want("add a: <nil>", "add b: <nil>")
		f.journal.hold(true)
		f.add("c")
		got := make(chan Snapshot, 1)
		go func() {
			s, err := f.runtime.Snapshot(f.t.Context(), 0)
			if err != nil {
				t.Errorf("Snapshot: %v", err)
			}
			got <- s
		}()
		f.want()
		if len(got) != 0 {
			t.Fatal("a snapshot shows what is not committed")
		}
		f.journal.release(nil)
		f.want("add c: <nil>")
		s := <-got
		if s.Offset != 3 {
			t.Errorf("offset %d, want 3", s.Offset)
		}
		f.journal.hold(false)
		f.add("d")
		f.want("add d: <nil>")
		f.runtime.Unload(0)
		f.runtime.Load(0, s)
		synctest.Wait()
		f.runtime.Submit(0, func(m *words, _ time.Time, _ *Output) {
			f.note(fmt.Sprint(m.list, m.applied))
		}, nil)
		f.want("[a b c d] 4")
	})
}

func TestSnapshotOfUnknownShard(t *testing.T) {
	inBubble(t, Options{}, func(f *fixture) {
		if _, err := f.runtime.Snapshot(f.t.Context(), 7); !errors.Is(err, ErrNotCoordinator) {
			t.Errorf("got %v, want %v", err, ErrNotCoordinator)
		}
	})
}
