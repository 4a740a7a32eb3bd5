package faultstore_test

import (
	"testing"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/faultstore"
	"github.com/tidemill/tidemill/objectstore/memstore"
	"github.com/tidemill/tidemill/objectstore/storetest"
)

func TestContractWithoutFaults(t *testing.T) {
	storetest.Run(t, func(*testing.T) objectstore.Store { return faultstore.New(memstore.New(), 1) })
}
