package sim

import (
	"os"
	"runtime/debug"
	"testing"
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(300) // runs leave little behind, and what fits the processor's caches is faster
	os.Exit(m.Run())
}
