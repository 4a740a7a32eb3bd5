package wal

import (
	"encoding/hex"
	"hash/fnv"
	"strconv"
)

// SlotKey names slot seq of life l: "wal/<hh>/<broker>/<incarnation>/<seq:020d>". hh spreads brokers over key prefixes,
// because object stores scale request rates by prefix.
func SlotKey(l Life, seq int64) string {
	id := strconv.FormatInt(int64(l.Broker), 10)
	h := fnv.New32a()
	h.Write([]byte(id))
	b := make([]byte, 0, 96)
	b = append(b, "wal/"...)
	b = hex.AppendEncode(b, []byte{byte(h.Sum32())})
	b = append(b, '/')
	b = append(b, id...)
	b = append(b, '/')
	b = l.appendIncarnation(b)
	return string(AppendSeq(append(b, '/'), seq))
}

// AppendSeq appends a number as keys have it, in 20 digits.
func AppendSeq(b []byte, seq int64) []byte {
	digits := strconv.FormatInt(seq, 10)
	b = append(b, "00000000000000000000"[min(20, len(digits)):]...)
	return append(b, digits...)
}

// RecoveryKey names the recovery object of life l: "recovery/<broker>/<incarnation>" (S5).
func RecoveryKey(l Life) string { return "recovery/" + l.String() }
