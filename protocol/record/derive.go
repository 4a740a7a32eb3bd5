package record

import "encoding/binary"

// AttrDeleteHorizon says that the base timestamp is also the time, in ms, from which a cleaner may remove the batch's
// tombstones, or the transaction marker that it is (C4, C6). Record timestamps are relative to it as to any other base.
const AttrDeleteHorizon int16 = 0x40

// DeleteHorizon returns the time, in ms, from which the tombstones of b may go, and whether one was set.
func (b Batch) DeleteHorizon() (ms int64, ok bool) {
	return b.BaseTimestamp(), b.Attributes()&AttrDeleteHorizon != 0
}

// A Derivation is what a batch made of some records of another one has of its own. Timestamps are in ms.
type Derivation struct {
	Attributes    int16
	BaseTimestamp int64
	MaxTimestamp  int64
	NumRecords    int32
}

// Derive completes out, which has HeaderSize bytes of room and then the records that the derivation tells of: it writes the
// header of from with what d changes, the length and the CRC. Offsets, leader epoch and producer are those of from.
func Derive(out, from Batch, d Derivation) {
	copy(out, from[:HeaderSize])
	binary.BigEndian.PutUint32(out[8:], uint32(len(out)-lengthOverhead))
	binary.BigEndian.PutUint16(out[21:], uint16(d.Attributes))
	binary.BigEndian.PutUint64(out[27:], uint64(d.BaseTimestamp))
	binary.BigEndian.PutUint64(out[35:], uint64(d.MaxTimestamp))
	binary.BigEndian.PutUint32(out[57:], uint32(d.NumRecords))
	out.setCRC()
}
