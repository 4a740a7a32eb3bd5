package memstore_test

import (
	"testing"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/memstore"
	"github.com/tidemill/tidemill/objectstore/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) objectstore.Store { return memstore.New() })
}
