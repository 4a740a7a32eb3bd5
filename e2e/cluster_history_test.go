package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/verify"
)

func errorf(format string, args ...any) error { return fmt.Errorf(format, args...) }

// keepHistory writes a history where it outlives the test: broker verify --check reads it.
func keepHistory(t *testing.T, h *verify.History) string {
	t.Helper()
	file, err := os.CreateTemp("", "tidemill-history-*.jsonl")
	if err != nil {
		t.Error(err)
		return ""
	}
	if err := errors.Join(h.Write(file), file.Close()); err != nil {
		t.Error(err)
	}
	return file.Name()
}

// topicName makes a name of a topic from words.
func topicName(words string) string { return strings.ReplaceAll(words, " ", "-") }
