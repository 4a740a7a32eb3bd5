package group

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemill/tidemill/coordinator"
	"github.com/tidemill/tidemill/protocol"
)

func TestOffsetRecordGolden(t *testing.T) {
	tests := map[string]struct {
		offset offset
		value  string
	}{
		"plain": {
			offset{at: 5, epoch: 2, metadata: "m", commit: 7, expire: -1, topic: protocol.TopicID{0xab}},
			"\x00\x04" + "\x00\x00\x00\x00\x00\x00\x00\x05" + "\x00\x00\x00\x02" + "\x02m" + "\x00\x00\x00\x00\x00\x00\x00\x07" +
				"\x01\x00\x10\xab\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		},
		"expiring": {
			offset{at: 5, epoch: -1, metadata: "m", commit: 7, expire: 9},
			"\x00\x01" + "\x00\x00\x00\x00\x00\x00\x00\x05" + "\x00\x01m" + "\x00\x00\x00\x00\x00\x00\x00\x07" + "\x00\x00\x00\x00\x00\x00\x00\x09",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := offsetRecord("g", "t", 3, tt.offset)
			if want := "\x00\x01\x00\x01g\x00\x01t\x00\x00\x00\x03"; string(r.Key) != want {
				t.Errorf("key %q, want %q", r.Key, want)
			}
			if string(r.Value) != tt.value {
				t.Errorf("value %q, want %q", r.Value, tt.value)
			}
			m := newMachine(DefaultLimits, nil)
			if err := m.Apply(r); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.offset, m.groups["g"].offsets["t"][3], cmp.AllowUnexported(offset{})); diff != "" {
				t.Errorf("replayed (-want +got):\n%s", diff)
			}
		})
	}
}

// Records of older Kafka versions are read; those of other group types are left alone.
func TestApplyOldAndForeignRecords(t *testing.T) {
	m := newMachine(DefaultLimits, nil)
	old := coordinator.Record{
		Key:   []byte("\x00\x00\x00\x01g\x00\x01t\x00\x00\x00\x03"),
		Value: []byte("\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x05" + "\x00\x01m" + "\x00\x00\x00\x00\x00\x00\x00\x07"),
	}
	foreign := coordinator.Record{Key: []byte("\x00\x03\x00\x01h"), Value: []byte("\x00\x00\x00\x00\x00\x01")}
	for _, r := range []coordinator.Record{old, foreign} {
		if err := m.Apply(r); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.groups["g"].offsets["t"][3]; got.at != 5 || got.epoch != -1 || got.expire != -1 {
		t.Errorf("offset %+v", got)
	}
	if len(m.groups) != 1 {
		t.Errorf("%d groups, want 1", len(m.groups))
	}
}

func FuzzApply(f *testing.F) {
	b := newBench(f)
	b.stableStatic()
	b.commit("", -1, 1)
	for _, r := range b.journal {
		f.Add(r.Key, r.Value)
		f.Add(r.Key, []byte(nil))
		if len(r.Value) > 0 {
			f.Add(r.Key, r.Value[:len(r.Value)/2])
		}
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		m := newMachine(DefaultLimits, func() TopicResolver { return topics{} })
		if len(value) == 0 {
			value = nil
		}
		if m.Apply(coordinator.Record{Key: key, Value: value}) != nil {
			return
		}
		// What was read can be served, and is written so that it reads the same.
		var out coordinator.Output
		m.Loaded(b.now, &out)
		again := newMachine(DefaultLimits, nil)
		for r := range m.Records {
			if err := again.Apply(r); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(dump(m), dump(again)); diff != "" {
			t.Errorf("round trip:\n%s", diff)
		}
		for id := range m.groups {
			m.describe(id, 5)
		}
		m.Drop(&out)
	})
}

func FuzzSubscription(f *testing.F) {
	f.Add([]byte(subscription("a", "b")))
	f.Add([]byte("\x00\x00\x7f\xff\xff\xff"))
	f.Add([]byte("\x00\x01\x00\x00\x00\x01\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		topics := map[string]bool{}
		if !parseSubscription(b, topics) {
			return
		}
		for topic := range topics {
			if !bytes.Contains(b, []byte(topic)) {
				t.Errorf("topic %q is not in the metadata", topic)
			}
		}
	})
}
