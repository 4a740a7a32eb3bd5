package broker

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/objectstore/memstore"
	"github.com/tidemill/tidemill/wal"
)

// TestUnreadableRecoveryIsLeftOut: of ended lives, those whose recovery is missing, damaged or of something else are left out and named; the
// partitions of the others can be taken over.
func TestUnreadableRecoveryIsLeftOut(t *testing.T) {
	store := memstore.New()
	b := &Broker{store: store}
	life := func(id int32) wal.Life { return wal.Life{Broker: id, Epoch: 1} }
	put := func(id int32, body []byte) {
		if err := store.Put(t.Context(), wal.RecoveryKey(life(id)), body); err != nil {
			t.Fatal(err)
		}
	}
	whole := func(id int32) []byte {
		return (&wal.Recovery{Life: life(id), N: 3, Digest: wal.Digest{byte(id)}}).Encode()
	}
	put(1, whole(1))
	flipped := whole(2)
	flipped[len(flipped)/2]++
	put(2, flipped)
	put(3, whole(3))
	ended := endedLives{}
	for id := range int32(6) {
		ended[life(id)] = wal.StreamState{Phase: wal.PhaseSealed, N: 3, Digest: wal.Digest{byte(id)}, RecoveryKey: wal.RecoveryKey(life(id))}
	}
	other := ended[life(3)]
	other.Digest = wal.Digest{99}
	ended[life(3)] = other
	ended[life(4)] = wal.StreamState{Phase: wal.PhaseSealed, N: 3, Trim: 3, RecoveryKey: wal.RecoveryKey(life(4))} // needed no more
	ended[life(5)] = wal.StreamState{Phase: wal.PhaseSealed, N: 3}                                                 // closed itself (W8)
	recoveries, err := b.loadRecoveries(t.Context(), ended)
	if err == nil {
		t.Fatal("no error")
	}
	for id := range int32(6) {
		_, left := ended[life(id)]
		_, read := recoveries[life(id)]
		bad := id == 0 || id == 2 || id == 3
		if left == bad || read != (id == 1) || strings.Contains(err.Error(), life(id).String()) != bad {
			t.Errorf("life %d: left %v, read %v, in %v", id, left, read, slices.Collect(maps.Keys(recoveries)))
		}
	}
}
