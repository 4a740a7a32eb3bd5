package storeurl_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/storeurl"
)

// TestFolderIsNear: what is wrapped around a folder for a broker still says that it is near.
func TestFolderIsNear(t *testing.T) {
	s, _, err := storeurl.Open(t.Context(), "file://"+t.TempDir(), storeurl.Options{Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if !objectstore.Near(s) {
		t.Error("a folder is read as if it were far away")
	}
}
