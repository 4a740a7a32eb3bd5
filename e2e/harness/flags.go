package harness

import (
	"path/filepath"
	"testing"

	"github.com/tidemill/tidemill/internal/proctest"
)

// NewBrokerWithFlags is NewBroker for what only the broker under test has: its own flags.
func NewBrokerWithFlags(t testing.TB, settings Settings, flags ...string) *Broker {
	t.Helper()
	b := &Broker{t: t, Addr: proctest.FreeAddress(t), HTTP: proctest.FreeAddress(t)}
	b.argv = append([]string{
		binary(t), "--listen", b.Addr, "--advertise", b.Addr, "--http", b.HTTP, "--data-dir", filepath.Join(t.TempDir(), "data"),
	}, flags...)
	for _, name := range settings.names() {
		b.argv = append(b.argv, "--kafka", name+"="+settings[name])
	}
	b.Start()
	return b
}

// Begin starts a stopped broker and does not wait until it is ready.
func (b *Broker) Begin() *Process {
	b.t.Helper()
	b.process = Start(b.t, "broker", b.argv...)
	return b.process
}

// Exited reports whether the broker's process has ended.
func (b *Broker) Exited() bool {
	select {
	case <-b.process.Exited():
		return true
	default:
		return false
	}
}
