package metadata

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// keys builds the names of docs/formats/metadata.md. It is the prefix "/tidemill/<name>/".
type keys string

func (k keys) cluster() string { return string(k) + "cluster" }
func (k keys) pids() string    { return string(k) + "pid" }

func (k keys) brokers() string         { return string(k) + "b/" }
func (k keys) broker(id int32) string  { return k.brokers() + strconv.Itoa(int(id)) }
func (k keys) epoch(id int32) string   { return k.epochs() + strconv.Itoa(int(id)) }
func (k keys) epochs() string          { return string(k) + "epoch/" }
func (k keys) allLives() string        { return string(k) + "w/" }
func (k keys) lives(id int32) string   { return string(k) + "w/" + strconv.Itoa(int(id)) + "/" }
func (k keys) state(l wal.Life) string { return string(k) + "w/" + l.String() + "/state" }
func (k keys) trim(l wal.Life) string  { return string(k) + "w/" + l.String() + "/trim" }

func (k keys) topics() string                   { return string(k) + "t/" }
func (k keys) topic(id protocol.TopicID) string { return k.topics() + id.String() }

// name is the key that makes topic names unique: names that differ in '.' and '_' only share it (M3).
func (k keys) name(topic string) string {
	return string(k) + "n/" + strings.ReplaceAll(topic, ".", "_")
}

func (k keys) allParts() string                        { return string(k) + "p/" }
func (k keys) parts(id protocol.TopicID) string        { return k.allParts() + id.String() + "/" }
func (k keys) part(id protocol.PartitionID) string     { return k.allParts() + id.String() }
func (k keys) allManifests() string                    { return string(k) + "m/" }
func (k keys) manifests(id protocol.TopicID) string    { return k.allManifests() + id.String() + "/" }
func (k keys) manifest(id protocol.PartitionID) string { return k.allManifests() + id.String() }

func (k keys) intents() string                       { return string(k) + "r/" }
func (k keys) intentsOf(id protocol.TopicID) string  { return k.intents() + id.String() + "/" }
func (k keys) intent(id protocol.PartitionID) string { return k.intents() + id.String() }
func (k keys) controller() string                    { return string(k) + "controller" }

func (k keys) pins() string                       { return string(k) + "pin/" }
func (k keys) pinsOf(id protocol.TopicID) string  { return k.pins() + id.String() + "/" }
func (k keys) pin(id protocol.PartitionID) string { return k.pins() + id.String() }
func (k keys) drains() string                     { return string(k) + "drain/" }
func (k keys) drain(broker int32) string          { return k.drains() + strconv.Itoa(int(broker)) }

func (k keys) loads() string            { return string(k) + "load/" }
func (k keys) load(broker int32) string { return k.loads() + strconv.Itoa(int(broker)) }

func (k keys) configs() string { return string(k) + "c/broker/" }
func (k keys) config(broker int32) string {
	if broker == DefaultBroker {
		return k.configs() + "default"
	}
	return k.configs() + strconv.Itoa(int(broker))
}

// parseConfigTarget parses the last part of a config key.
func parseConfigTarget(s string) (int32, error) {
	if s == "default" {
		return DefaultBroker, nil
	}
	return parseBroker(s)
}

func parseBroker(s string) (int32, error) {
	id, err := strconv.ParseInt(s, 10, 32)
	if err != nil || id < 0 {
		return 0, fmt.Errorf("broker id %q: want a number from 0", s)
	}
	return int32(id), nil
}

// parsePartition parses what protocol.PartitionID.String returns.
func parsePartition(s string) (protocol.PartitionID, error) {
	topic, part, ok := strings.Cut(s, "/")
	id, err := protocol.ParseTopicID(topic)
	if err != nil {
		return protocol.PartitionID{}, err
	}
	n, err := strconv.ParseInt(part, 10, 32)
	if !ok || err != nil || n < 0 {
		return protocol.PartitionID{}, fmt.Errorf("partition id %q: want <topic id>/<index>", s)
	}
	return protocol.PartitionID{Topic: id, Partition: int32(n)}, nil
}
