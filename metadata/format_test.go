package metadata

import (
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// examples are the lines of docs/formats/metadata.md: a key, a space, its value.
func examples() []string {
	k, h := keys("/tidemill/demo/"), newHeader("00112233aabbccdd")
	life := wal.Life{Broker: 1, Epoch: 7, Nonce: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}
	topic := protocol.TopicID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	part := protocol.PartitionID{Topic: topic, Partition: 3}
	history := []EpochStart{{0, 0, life}, {1, 42, life}}
	const created = 1764547200000
	return []string{
		k.cluster() + " " + encode(clusterValue{h, "AAECAwQFBgcICQoLDA0ODw", created, 1}),
		k.broker(1) + " " + encode(brokerValue{h, life.String(), "127.0.0.1", 9092, "a", true}),
		k.controller() + " " + encode(controllerValue{h, life.String()}),
		k.intent(part) + " " + encode(intentValue{h, life.String()}),
		k.pin(part) + " " + encode(pinValue{h, []int32{2, 1}}),
		k.drain(1) + " " + encode(h),
		k.load(1) + " " + encodeLoads(h.Op, BrokerLoads{life, 9000, Load{1.5e6, 250}, []PartitionLoad{{part, Load{1.2e6, 200}}}}),
		k.epoch(1) + " " + encode(idValue{counterValue{h, 7}, "127.0.0.1:9092"}),
		k.state(life) + " " + encode(stateValue{h, "SEALED", "1/0000000000000008-1112131415161718", 42, strings.Repeat("ab", 32), "recovery/1"}),
		k.trim(life) + " " + encode(counterValue{h, 40}),
		k.topic(topic) + " " + encode(topicValue{h, "orders.eu", 4, 3, false, map[string]string{"cleanup.policy": "compact"}, created}),
		k.name("orders.eu") + " " + encode(nameValue{h, "orders.eu", topic.String()}),
		k.part(part) + " " + encodePart(h.Op, life, 1, 42, history),
		k.manifest(part) + " " + encodeManifest(h.Op, ManifestPointer{5, "manifest/1", 512, 2048, 3735928559, 42}),
		k.config(DefaultBroker) + " " + encode(configValue{h, map[string]string{"num.partitions": "4"}}),
		k.pids() + " " + encode(counterValue{h, 2000}),
	}
}

func TestFormatsAreAsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/formats/metadata.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range examples() {
		if !strings.Contains(string(doc), "\n"+line+"\n") {
			t.Errorf("not in docs/formats/metadata.md:\n%s", line)
		}
	}
	doc, err = os.ReadFile("../docs/formats/cluster.md")
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("testdata/cluster.json")
	if err != nil || !strings.Contains(string(doc), string(golden)) {
		t.Errorf("docs/formats/cluster.md does not show %s (%v)", golden, err)
	}
}

func TestNewerVersionIsRefused(t *testing.T) {
	if _, err := decode[topicValue]("k", []byte(`{"v":2,"name":"x"}`)); err == nil {
		t.Error("a value of a newer version was read")
	}
}

// FuzzState feeds any value to any kind of key: errors are fine, panics are not, and an Image can always be built.
func FuzzState(f *testing.F) {
	for _, line := range examples() {
		key, value, _ := strings.Cut(line, " ")
		f.Add(key, []byte(value))
	}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		var head struct {
			Partitions int64 `json:"partitions"`
		}
		if json.Unmarshal(value, &head) == nil && head.Partitions > 1<<16 {
			t.Skip("etcd's content is trusted for size")
		}
		s := newState("/tidemill/demo/")
		_ = s.apply(key, value, 1)
		s.image(nil)
	})
}

// TestManifestHeadsAreSmall: however long a partition's history, etcd holds less than 1 KiB of it (D5).
func TestManifestHeadsAreSmall(t *testing.T) {
	life := wal.Life{Broker: math.MaxInt32, Epoch: math.MaxUint64, Nonce: [8]byte{255, 255, 255, 255, 255, 255, 255, 255}}
	key := "manifest/" + life.String() + "/99999999999999999999"
	head := encodeManifest(newOp(), ManifestPointer{math.MaxInt64, key, math.MaxInt64, math.MaxInt32, math.MaxUint32, math.MaxInt64})
	if len(head) > 1024 {
		t.Errorf("the largest manifest head has %d bytes", len(head))
	}
}
