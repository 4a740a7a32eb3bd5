package partition

import (
	"os"
	"testing"

	"github.com/tidemill/tidemill/internal/memory"
)

// TestMain lets every test see who reads memory that was given back.
func TestMain(m *testing.M) {
	memory.Poison()
	os.Exit(m.Run())
}
