package coordinator

import (
	"testing"
	"testing/synctest"
	"time"
)

func (j *memoryJournal) Stalled() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.stalled
}

func (j *memoryJournal) stall(stalled bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stalled = stalled
}

// TestWritesAreRefusedWhileStalled: what would only wait is not written, or it piles up. What is there is still answered.
func TestWritesAreRefusedWhileStalled(t *testing.T) {
	inBubble(t, Options{}, func(f *fixture) {
		write := func(word string) {
			f.runtime.SubmitWrite(0, func(m *words, _ time.Time, out *Output) {
				m.add(word, out)
				out.Reply(f.reply("write " + word))
			}, f.reply("refused "+word))
		}
		write("a")
		f.want("write a: <nil>")
		f.journal.stall(true)
		write("b")
		f.read()
		f.want("refused b: "+ErrUnavailable.Error(), "read a: <nil>")
		f.journal.stall(false)
		write("c")
		f.read()
		f.want("write c: <nil>", "read a,c: <nil>")
		if f.journal.batches != 2 {
			t.Errorf("%d batches were appended, want 2", f.journal.batches)
		}
		f.runtime.Unload(0)
		synctest.Wait()
		f.journal.stall(true)
		write("d")
		f.want("refused d: " + ErrNotCoordinator.Error()) // the caller has to look elsewhere, stalled or not
	})
}
