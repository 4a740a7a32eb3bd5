package sim

import (
	"os"
	"runtime"
	"runtime/debug"
	"testing"
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(300) // runs leave little behind, and what fits the processor's caches is faster
	// Mostly one goroutine of a run can go on. With two processors it is passed to and fro, which costs half as much again, so many
	// seeds are run by several processes: see TestSimulation.
	runtime.GOMAXPROCS(1)
	os.Exit(m.Run())
}
