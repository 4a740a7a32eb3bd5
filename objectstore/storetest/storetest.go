// Package storetest is the contract of objectstore.Store as a test, for every driver and wrapper.
//
// Invariants: it needs only Store's promises, so a driver that passes may replace another; keys of one run are apart
// from those of any other, so that a store may be shared and need not be empty.
package storetest

import (
	"testing"

	"github.com/tidemill/tidemill/objectstore"
)

// Run tests the stores that open returns against the contract. open is called once for each subtest; it registers
// what must be closed with t.Cleanup, and its stores may share their objects.
func Run(t *testing.T, open func(t *testing.T) objectstore.Store) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.test(&env{T: t, store: open(t), prefix: freshPrefix()})
		})
	}
}
