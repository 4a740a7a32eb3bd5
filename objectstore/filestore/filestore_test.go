package filestore_test

import (
	"testing"
	"time"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/filestore"
	"github.com/tidemill/tidemill/objectstore/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) objectstore.Store { return open(t, t.TempDir()) })
}

func open(t testing.TB, dir string) *filestore.Store {
	t.Helper()
	s, err := filestore.Open(dir)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func TestProbe(t *testing.T) {
	s := open(t, t.TempDir())
	started := time.Now()
	if err := objectstore.Probe(t.Context(), s); err != nil {
		t.Errorf("probe: %v", err)
	}
	t.Logf("took %v", time.Since(started))
}
