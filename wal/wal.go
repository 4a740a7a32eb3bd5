package wal

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/internal/memory"
	"github.com/tidemill/tidemill/protocol"
)

// Life names one run of one broker process. Its log is the stream of slots 0, 1, 2, ... A life is never reused (W1).
type Life struct {
	Broker int32
	Epoch  uint64
	Nonce  [8]byte
}

// Incarnation returns "<epoch:016x>-<nonce>", the part of the name that changes at each start.
func (l Life) Incarnation() string {
	return string(l.appendIncarnation(make([]byte, 0, 64)))
}

func (l Life) appendIncarnation(b []byte) []byte {
	var epoch [8]byte
	binary.BigEndian.PutUint64(epoch[:], l.Epoch)
	b = hex.AppendEncode(b, epoch[:])
	b = append(b, '-')
	return hex.AppendEncode(b, l.Nonce[:])
}

// String returns "<broker>/<incarnation>".
func (l Life) String() string { return string(l.Append(make([]byte, 0, 64))) }

// Append appends what String returns.
func (l Life) Append(b []byte) []byte {
	b = strconv.AppendInt(b, int64(l.Broker), 10)
	return l.appendIncarnation(append(b, '/'))
}

// IsZero reports whether l names no life.
func (l Life) IsZero() bool { return l == Life{} }

// ParseLife parses what String returns.
func ParseLife(s string) (Life, error) {
	broker, inc, ok1 := strings.Cut(s, "/")
	epoch, nonce, ok2 := strings.Cut(inc, "-")
	id, err1 := strconv.ParseInt(broker, 10, 32)
	e, err2 := strconv.ParseUint(epoch, 16, 64)
	n, err3 := hex.DecodeString(nonce)
	if !ok1 || !ok2 || err1 != nil || err2 != nil || err3 != nil || len(n) != 8 {
		return Life{}, fmt.Errorf("life %q: want <broker>/<epoch>-<nonce>", s)
	}
	return Life{Broker: int32(id), Epoch: e, Nonce: [8]byte(n)}, nil
}

// An Entry is one record batch that its partition has sequenced: offsets and leader epoch are already stamped.
type Entry struct {
	Partition   protocol.PartitionID
	LeaderEpoch int32
	BaseOffset  int64
	LastOffset  int64
	// MaxTimestamp is the largest record timestamp of the batch, in ms.
	MaxTimestamp int64
	// Data is one whole v2 record batch. The writer reads it until the slot is cut and never changes it.
	Data []byte
	// Block is the memory that Data lies in, if it may stay there: the slot then holds the block, and what lies in it must
	// never change again. It is alive until the slot is cut. nil: Data is copied.
	Block *memory.Block
	// TailLen and TailCRC say that the CRC-32C of Data's last TailLen bytes is known to be TailCRC. 0: nothing is known.
	TailLen int
	TailCRC uint32
}

// stays reports whether the entry's bytes are stored from where they lie.
func (e *Entry) stays() bool { return e.Block != nil && len(e.Data) >= pieceMin }

// A Chunk is a directory entry: the run of batches of one partition inside a slot.
type Chunk struct {
	Partition    protocol.PartitionID
	LeaderEpoch  int32
	BaseOffset   int64
	LastOffset   int64
	MaxTimestamp int64
	// PrevSlot is the sequence number of the slot of this life that holds the partition's previous chunk, or -1.
	PrevSlot int64
	// Pos and Len locate the chunk's bytes in the object.
	Pos uint32
	Len uint32
	// CRC is the CRC32C of the chunk's bytes.
	CRC uint32
}

// A Slot is one committed slot, as its writer hands it on. It is immutable. Who reads Object after Committed returned
// retains it there.
type Slot struct {
	Life   Life
	Seq    int64
	Key    string
	Object *Object
	Chunks []Chunk
}

// A Sink learns what became durable. Its methods are called from one goroutine, in slot order, and must not block on I/O.
type Sink interface {
	// Committed is called once for each slot when it and all slots before it are durable and ours (W5).
	Committed(s *Slot)
	// Fenced is called once, when a slot turned out to be foreign (W6): nothing after the last Committed slot will be acknowledged.
	Fenced(err error)
}

// Phase is the state of a stream in the registry.
type Phase uint8

// Phases of a stream. It only ever moves forward.
const (
	PhaseOpen Phase = iota + 1
	PhaseSealing
	PhaseSealed
)

// StreamState is what the registry holds of one life's log.
type StreamState struct {
	Life  Life
	Phase Phase
	// Sealer names who moved the stream to SEALING.
	Sealer string
	// N is the sequence number of the closing Seal or Close, once sealed: slots below N are the log.
	N int64
	// Digest is that of slot N-1, zero when N is 0.
	Digest [32]byte
	// RecoveryKey names the recovery object; empty when the life closed itself with everything in manifests (W8).
	RecoveryKey string
	// Trim is T: slots below it are in committed manifests. A sealer walks from here.
	Trim int64
	// Rev is the registry's revision of the phase (not of Trim), for compare-and-set.
	Rev int64
}

// A Registry is the serializable store of stream states (etcd). Every method is one transaction and may fail with an
// unknown outcome: the caller reads the state again (by Load) before it decides anything.
type Registry interface {
	// Load reads state and trim in one transaction.
	Load(ctx context.Context, l Life) (StreamState, error)
	// BeginSeal moves OPEN at revision rev to SEALING (S2). It returns the state after the transaction, whoever won.
	BeginSeal(ctx context.Context, l Life, rev int64, sealer string) (StreamState, error)
	// FinishSeal moves SEALING to SEALED (S6, recoveryKey set), or OPEN to SEALED when the life closes itself (W8,
	// recoveryKey empty). A life that closes itself while it is being sealed leaves the finish to the sealer. It returns
	// the state after the transaction, whoever won. StreamState's methods are these transitions.
	FinishSeal(ctx context.Context, l Life, n int64, digest [32]byte, recoveryKey string) (StreamState, error)
	// Trim raises trim to t if the phase is unchanged since rev and is OPEN, or SEALED with t <= N (G1).
	Trim(ctx context.Context, l Life, rev int64, t int64) error
}
