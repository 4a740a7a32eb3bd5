package e2e

import (
	"testing"

	"github.com/tidemill/tidemill/internal/ledger"
)

// acked is the number of acknowledgements in the books.
func acked(books *ledger.Ledger) int {
	n, _, _ := books.Counts()
	return n
}

// compareBooks reports what the final log contradicts. Values of the topics named may be there only one time.
func compareBooks(t *testing.T, books *ledger.Ledger, final map[ledger.Place]string, once ...string) {
	t.Helper()
	report := limited(t)
	for _, contradiction := range books.Contradictions(final, once...) {
		report("%s", contradiction)
	}
}

// limited reports the first few errors and counts the others, so that a broken broker leaves a readable log.
func limited(t *testing.T) func(format string, args ...any) {
	const shown = 20
	n := 0
	t.Cleanup(func() {
		if n > shown {
			t.Errorf("and %d more", n-shown)
		}
	})
	return func(format string, args ...any) {
		t.Helper()
		if n++; n <= shown {
			t.Errorf(format, args...)
		}
	}
}
