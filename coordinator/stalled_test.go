package coordinator

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestWritesThatWaitAreBounded: when the journal takes long, as much is written as may wait, and no more. What is there is still answered,
// and once it is committed all goes on.
func TestWritesThatWaitAreBounded(t *testing.T) {
	inBubble(t, Options{WaitingMax: recordOverhead}, func(f *fixture) {
		write := func(word string) {
			f.runtime.SubmitWrite(0, func(m *words, _ time.Time, out *Output) {
				m.add(word, out)
				out.Reply(f.reply("write " + word))
			}, f.reply("refused "+word))
			synctest.Wait()
		}
		f.journal.hold(true)
		write("a")
		write("b")
		f.want("refused b: " + ErrUnavailable.Error())
		f.journal.hold(false)
		f.journal.release(nil)
		f.want("write a: <nil>")
		write("c")
		f.read()
		f.want("write c: <nil>", "read a,c: <nil>")
		if f.journal.batches != 2 {
			t.Errorf("%d batches were appended, want 2", f.journal.batches)
		}
		f.runtime.Unload(0)
		synctest.Wait()
		write("d")
		f.want("refused d: " + ErrNotCoordinator.Error())
	})
}
