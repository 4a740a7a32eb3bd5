package metadata

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// someLoads are those of n partitions, each of a topic of its own, as large as they can be written.
func someLoads(n int) BrokerLoads {
	most := Load{loadMax, loadMax}
	l := BrokerLoads{Life: wal.Life{Broker: math.MaxInt32, Epoch: math.MaxUint64}, Measured: math.MaxInt64, Total: most}
	for i := range n {
		var topic protocol.TopicID
		binary.BigEndian.PutUint64(topic[:], uint64(i))
		l.Partitions = append(l.Partitions, PartitionLoad{protocol.PartitionID{Topic: topic, Partition: math.MaxInt32}, most})
	}
	return l
}

// TestLoadsAreSmall: whatever a broker owns, etcd holds less than 192 KiB of loads of it, and reads back what was written.
func TestLoadsAreSmall(t *testing.T) {
	all := someLoads(LoadsMax + 1)
	raw := encodeLoads(newOp(), all)
	if len(raw) > 192<<10 {
		t.Errorf("the largest value has %d bytes", len(raw))
	}
	got, err := decodeLoads("k", []byte(raw))
	all.Partitions = all.Partitions[:LoadsMax]
	slices.SortFunc(got.Partitions, func(a, b PartitionLoad) int { return bytes.Compare(a.ID.Topic[:], b.ID.Topic[:]) })
	if err != nil || !reflect.DeepEqual(got, all) {
		t.Errorf("read back %d partitions of %v, %v", len(got.Partitions), got.Life, err)
	}
}

func TestBadLoadsAreRefused(t *testing.T) {
	const good = `{"v":1,"life":"1/0000000000000007-0102030405060708","measured":9,"bytes":5,"requests":6,"topics":{"AAECAwQFBgcICQoLDA0ODw":[[3,1,2],[4,0,1]]}}`
	if l, err := decodeLoads("k", []byte(good)); err != nil || len(l.Partitions) != 2 || l.Partitions[1].RequestsPerSecond != 1 {
		t.Fatalf("%+v, %v", l, err)
	}
	for what, change := range map[string][2]string{
		"a newer version":            {`"v":1`, `"v":2`},
		"no life":                    {`"life":"1/0000000000000007-0102030405060708",`, ``},
		"a negative revision":        {`"measured":9`, `"measured":-9`},
		"negative bytes":             {`"bytes":5`, `"bytes":-5`},
		"negative requests":          {`"requests":6`, `"requests":-6`},
		"fractions":                  {`"requests":6`, `"requests":6.5`},
		"no topic id":                {`AAECAwQFBgcICQoLDA0ODw`, `orders`},
		"a topic without partitions": {`[[3,1,2],[4,0,1]]`, `[]`},
		"an entry too short":         {`[3,1,2]`, `[3,1]`},
		"an entry too long":          {`[3,1,2]`, `[3,1,2,4]`},
		"a partition twice":          {`[3,1,2]`, `[4,1,2]`},
		"a negative index":           {`[3,1,2]`, `[-3,1,2]`},
		"an index out of range":      {`[3,1,2]`, `[2147483648,1,2]`},
		"a negative load":            {`[3,1,2]`, `[3,1,-2]`},
		"a load beyond all brokers":  {`[3,1,2]`, `[3,1,9007199254740993]`},
		"a total beyond all brokers": {`"bytes":5`, `"bytes":9007199254740993`},
		"half a value":               {`]}}`, ``},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if l, err := decodeLoads("k", []byte(bad)); err == nil || bad == good {
			t.Errorf("%s: %s is read as %+v", what, bad, l)
		}
	}
}

// FuzzLoads: any value is refused, or is the same after it was written and read again.
func FuzzLoads(f *testing.F) {
	for _, line := range examples() {
		_, value, _ := strings.Cut(line, " ")
		f.Add([]byte(value))
	}
	f.Add([]byte(encodeLoads("", someLoads(3))))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := decodeLoads("k", raw)
		if err != nil {
			return
		}
		again, err := decodeLoads("k", []byte(encodeLoads("", l)))
		if err != nil || !reflect.DeepEqual(l, again) {
			t.Errorf("%q is read as %+v, then %+v, %v", raw, l, again, err)
		}
	})
}

// TestLoads: a broker's loads are there for all to read while its lease is, are those of the life that has the lease, and wake nobody.
func TestLoads(t *testing.T) {
	s := openWith(t, func(c *Config) { c.LeaseTTL = 5 * time.Second })
	one, two := newLife(t, s), must[wal.Life](t)(s.OpenLife(t.Context(), 2))
	topic := create(t, s, "t", 2, one)
	r1 := must[*Registration](t)(s.Register(t.Context(), one, BrokerInfo{Host: "a", Port: 1}))
	r2 := must[*Registration](t)(s.Register(t.Context(), two, BrokerInfo{Host: "b", Port: 2}))
	read := func() map[int32]BrokerLoads {
		t.Helper()
		return must[map[int32]BrokerLoads](t)(s.Loads(t.Context()))
	}
	if got := read(); len(got) != 0 || r1.LoadsShown() {
		t.Fatalf("before anybody published: %+v", got)
	}
	eventually(t, "the registrations to be shown, and nothing else to be due", func() bool { return len(s.nudge) == 0 })
	wait := s.Image()
	loads := BrokerLoads{Measured: 7, Total: Load{2000, 20}, Partitions: []PartitionLoad{{protocol.PartitionID{Topic: topic.ID, Partition: 1}, Load{1500, 10}}}}
	for _, r := range []*Registration{r1, r2} {
		if err := r.PublishLoads(t.Context(), loads); err != nil || !r.LoadsShown() {
			t.Fatalf("publish: %v", err)
		}
	}
	want := map[int32]BrokerLoads{1: loads, 2: loads}
	for id, l := range map[int32]wal.Life{1: one, 2: two} {
		x := want[id]
		x.Life = l
		want[id] = x
	}
	eventually(t, "the loads", func() bool { return reflect.DeepEqual(read(), want) })
	select {
	case <-wait.Changed():
		t.Error("loads have replaced the image")
	default:
	}
	// Who deletes an intent that is not there waits for a revision at which nothing but a load was written.
	begun := time.Now()
	if err := s.Reassign(t.Context(), []Reassignment{{ID: protocol.PartitionID{Topic: topic.ID}, Was: topic.Partitions[0]}}); errors.Join(err...) != nil || time.Since(begun) > 30*time.Second {
		t.Errorf("a write that changes nothing took %v, %v", time.Since(begun), err)
	}
	// The lease ends: the key goes with it, and what the old lease is good for is refused.
	lease := r2.leaseID()
	must[*clientv3.LeaseRevokeResponse](t)(s.client.Revoke(t.Context(), lease))
	eventually(t, "the loads to go with the lease", func() bool { return maps.Equal(boolsOf(read()), map[int32]bool{1: true}) })
	eventually(t, "the broker to be registered again", func() bool { return r2.leaseID() != lease })
	if r2.LoadsShown() {
		t.Error("loads of a lease that ended are taken for shown")
	}
	now := r2.leaseID()
	r2.mu.Lock()
	r2.mu.lease = lease
	r2.mu.Unlock()
	if err := r2.PublishLoads(t.Context(), loads); !errors.Is(err, ErrStale) {
		t.Errorf("publish under a lease that ended: %v", err)
	}
	r2.mu.Lock()
	r2.mu.lease = now
	r2.mu.Unlock()
	// A value that is not understood, and one of another life, are nobody's.
	key := s.keys.load(1)
	for _, value := range []string{"x", encodeLoads("", BrokerLoads{Life: two})} {
		put := must[*clientv3.PutResponse](t)(s.client.Put(t.Context(), key, value))
		eventually(t, "the value to be read", func() bool { read(); return s.loads.Load().revision >= put.Header.Revision })
		if got := read(); len(got) != 0 {
			t.Errorf("%s is read as %+v", value, got)
		}
	}
	// A life whose lease goes on after another has the broker's id overwrites nothing.
	r3 := must[*Registration](t)(s.Register(t.Context(), newLife(t, s), BrokerInfo{Host: "a", Port: 1}))
	if err := r1.PublishLoads(t.Context(), loads); !errors.Is(err, ErrStale) {
		t.Errorf("publish by an earlier life: %v", err)
	}
	for _, r := range []*Registration{r1, r2, r3} {
		if err := r.Unregister(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func boolsOf(l map[int32]BrokerLoads) map[int32]bool {
	out := map[int32]bool{}
	for id := range l {
		out[id] = true
	}
	return out
}

// TestLoadsAreReadWhenWritten: etcd is asked for loads only when something was written to it.
func TestLoadsAreReadWhenWritten(t *testing.T) {
	var kv *countedKV
	s := openWith(t, func(c *Config) {
		c.LeaseTTL = 5 * time.Second
		c.wrapKV = func(below kvAPI) kvAPI { kv = &countedKV{kvAPI: below}; return kv }
	})
	l := newLife(t, s)
	reg := must[*Registration](t)(s.Register(t.Context(), l, BrokerInfo{Host: "h", Port: 1}))
	eventually(t, "the registration to be read", func() bool {
		before := kv.asked.Load()
		must[map[int32]BrokerLoads](t)(s.Loads(t.Context()))
		return kv.asked.Load() == before
	})
	if err := reg.PublishLoads(t.Context(), BrokerLoads{Total: Load{1, 1}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new loads", func() bool { return must[map[int32]BrokerLoads](t)(s.Loads(t.Context()))[1].Total == Load{1, 1} })
	if err := reg.Unregister(t.Context()); err != nil {
		t.Error(err)
	}
}
