package wal

import (
	"fmt"
	"hash/fnv"
	"strconv"
)

// SlotKey names slot seq of life l: "wal/<hh>/<broker>/<incarnation>/<seq:020d>". hh spreads brokers over key prefixes,
// because object stores scale request rates by prefix.
func SlotKey(l Life, seq int64) string {
	return fmt.Sprintf("%s%020d", slotPrefix(l), seq)
}

func slotPrefix(l Life) string {
	id := strconv.FormatInt(int64(l.Broker), 10)
	h := fnv.New32a()
	h.Write([]byte(id))
	return fmt.Sprintf("wal/%02x/%s/%s/", byte(h.Sum32()), id, l.Incarnation())
}

// RecoveryKey names the recovery object of life l: "recovery/<broker>/<incarnation>" (S5).
func RecoveryKey(l Life) string { return "recovery/" + l.String() }
