package metadata

import (
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// valueVersion is the version of all values. A reader refuses a newer one instead of guessing.
const valueVersion = 1

// header starts every value. Op is the id of the write that put it there, to resolve ambiguous outcomes.
type header struct {
	V  int    `json:"v"`
	Op string `json:"op,omitempty"`
}

func (h header) version() int { return h.V }

type value interface{ version() int }

func newHeader(op string) header { return header{V: valueVersion, Op: op} }

type clusterValue struct {
	header
	ID         string `json:"id"`
	Created    int64  `json:"created_ms"`
	Generation uint64 `json:"generation"`
}

type brokerValue struct {
	header
	Life     string `json:"life"`
	Host     string `json:"host"`
	Port     int32  `json:"port"`
	Rack     string `json:"rack,omitempty"`
	Draining bool   `json:"draining,omitempty"`
}

type controllerValue struct {
	header
	Life string `json:"life"`
}

type intentValue struct {
	header
	To string `json:"to"`
}

type pinValue struct {
	header
	Replicas []int32 `json:"replicas"`
}

type stateValue struct {
	header
	Phase    string `json:"phase"`
	Sealer   string `json:"sealer,omitempty"`
	N        int64  `json:"n,omitempty"`
	Digest   string `json:"digest,omitempty"`
	Recovery string `json:"recovery,omitempty"`
}

type counterValue struct {
	header
	Value int64 `json:"value"`
}

// idValue is the last epoch of a broker id, and where the broker that has leased the id is reached; "" if it was given one.
type idValue struct {
	counterValue
	Address string `json:"address,omitempty"`
}

type topicValue struct {
	header
	Name       string            `json:"name"`
	Partitions int32             `json:"partitions"`
	Factor     int16             `json:"replication_factor"`
	Internal   bool              `json:"internal,omitempty"`
	Configs    map[string]string `json:"configs,omitempty"`
	Created    int64             `json:"created_ms"`
}

type nameValue struct {
	header
	Name string `json:"name"`
	ID   string `json:"id"`
}

type partValue struct {
	header
	Owner   string       `json:"owner"`
	Epoch   int32        `json:"leader_epoch"`
	Start   int64        `json:"start"`
	History []epochValue `json:"history,omitempty"`
}

type epochValue struct {
	Epoch int32  `json:"e"`
	Start int64  `json:"s"`
	Life  string `json:"l"`
}

type manifestValue struct {
	header
	Version int64  `json:"version"`
	Key     string `json:"key"`
	Pos     int64  `json:"pos"`
	Len     int32  `json:"len"`
	CRC     uint32 `json:"crc32c"`
	End     int64  `json:"end"`
}

type configValue struct {
	header
	Values map[string]string `json:"values,omitempty"`
}

// encode marshals one of the value types above, which cannot fail: they hold strings, numbers and maps of strings only.
func encode(v value) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func decode[V value](key string, raw []byte) (V, error) {
	var v V
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, fmt.Errorf("value of %s: %w", key, err)
	}
	if v.version() != valueVersion {
		return v, fmt.Errorf("value of %s: version %d, this release reads %d", key, v.version(), valueVersion)
	}
	return v, nil
}

var phaseNames = map[wal.Phase]string{wal.PhaseOpen: "OPEN", wal.PhaseSealing: "SEALING", wal.PhaseSealed: "SEALED"}

func (v stateValue) stream(l wal.Life) (wal.StreamState, error) {
	s := wal.StreamState{Life: l, Sealer: v.Sealer, N: v.N, RecoveryKey: v.Recovery}
	for phase, name := range phaseNames {
		if name == v.Phase {
			s.Phase = phase
		}
	}
	digest, err := hex.DecodeString(v.Digest)
	if s.Phase == 0 || err != nil || len(digest) != 0 && len(digest) != len(s.Digest) {
		return wal.StreamState{}, fmt.Errorf("state of life %s: phase %q, digest %q", l, v.Phase, v.Digest)
	}
	copy(s.Digest[:], digest)
	return s, nil
}

func encodePart(op string, owner wal.Life, epoch int32, start int64, history []EpochStart) string {
	v := partValue{header: newHeader(op), Owner: owner.String(), Epoch: epoch, Start: start}
	for _, h := range history {
		v.History = append(v.History, epochValue{h.Epoch, h.Start, h.Life.String()})
	}
	return encode(v)
}

func (v partValue) state(id protocol.PartitionID, rev int64) (PartitionState, error) {
	p := PartitionState{ID: id, LeaderEpoch: v.Epoch, Start: v.Start, Rev: rev}
	var err error
	if p.Owner, err = wal.ParseLife(v.Owner); err != nil {
		return p, fmt.Errorf("owner of %s: %w", id, err)
	}
	for _, h := range v.History {
		life, err := wal.ParseLife(h.Life)
		if err != nil {
			return p, fmt.Errorf("history of %s: %w", id, err)
		}
		p.History = append(p.History, EpochStart{h.Epoch, h.Start, life})
	}
	return p, nil
}

func encodeManifest(op string, p ManifestPointer) string {
	return encode(manifestValue{newHeader(op), p.Version, p.Key, p.Pos, p.Len, p.CRC, p.EndOffset})
}

func (v manifestValue) pointer() ManifestPointer {
	return ManifestPointer{Version: v.Version, Key: v.Key, Pos: v.Pos, Len: v.Len, CRC: v.CRC, EndOffset: v.End}
}
