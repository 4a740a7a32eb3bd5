package metadata

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/memstore"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

func TestCheckGuard(t *testing.T) {
	golden, err := os.ReadFile("testdata/cluster.json")
	if err != nil {
		t.Fatal(err)
	}
	const id = "AAECAwQFBgcICQoLDA0ODw"
	for name, tc := range map[string]struct {
		body, cluster string
		want          []error
	}{
		"as written":           {body: string(golden), cluster: id},
		"absent":               {cluster: id, want: []error{objectstore.ErrNotFound}},
		"foreign":              {body: string(golden), cluster: "x", want: []error{ErrGuard, ErrForeignBucket}},
		"no JSON":              {body: "{", cluster: id, want: []error{ErrGuard}},
		"a name in other case": {body: strings.Replace(string(golden), "format", "Format", 1), cluster: id, want: []error{ErrGuard}},
	} {
		s := memstore.New()
		if tc.body != "" {
			if err := s.Put(t.Context(), GuardKey, []byte(tc.body)); err != nil {
				t.Fatal(err)
			}
		}
		err := CheckGuard(t.Context(), s, tc.cluster)
		if len(tc.want) == 0 && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range tc.want {
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
	}
}

func TestAllLives(t *testing.T) {
	s := open(t)
	a := newLife(t, s)
	b := must[wal.Life](t)(s.OpenLife(t.Context(), 22))
	st := must[wal.StreamState](t)(s.Load(t.Context(), a))
	if err := s.Trim(t.Context(), a, st.Rev, 7); err != nil {
		t.Fatal(err)
	}
	seal(t, s, b, 3)
	all := must[[]wal.StreamState](t)(s.AllLives(t.Context()))
	if len(all) != 2 {
		t.Fatalf("got %+v", all)
	}
	for _, got := range all {
		if want := must[wal.StreamState](t)(s.Load(t.Context(), got.Life)); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestPartition(t *testing.T) {
	s := open(t)
	l := newLife(t, s)
	topic := create(t, s, "a", 2, l)
	id := protocol.PartitionID{Topic: topic.ID, Partition: 1}
	p := ManifestPointer{Version: 1, Key: "manifest/1", Pos: 64, Len: 10, CRC: 3, EndOffset: 4}
	if err := s.CommitManifests(t.Context(), l, []ManifestUpdate{{ID: id, Pointer: p}}); err != nil {
		t.Fatal(err)
	}
	got := must[PartitionState](t)(s.Partition(t.Context(), id))
	if got.ID != id || got.Owner != l || got.Manifest == nil || *got.Manifest != p || got.ManifestRev == 0 || got.Rev == 0 {
		t.Errorf("got %+v", got)
	}
	if first := must[PartitionState](t)(s.Partition(t.Context(), protocol.PartitionID{Topic: topic.ID})); first.Manifest != nil {
		t.Errorf("got %+v", first)
	}
	if _, err := s.Partition(t.Context(), protocol.PartitionID{Topic: topic.ID, Partition: 2}); !errors.Is(err, ErrUnknownPartition) {
		t.Errorf("a partition too many: %v", err)
	}
	if _, err := s.Partition(t.Context(), protocol.PartitionID{Topic: protocol.TopicID{9}}); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("no such topic: %v", err)
	}
}
