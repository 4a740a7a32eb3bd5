// Package wal makes record batches durable: batches of many partitions share slots, slots form one log per broker
// life, and a dead life's log is ended by a seal.
//
// A slot is a write-once register: absent, data, or an end (a Seal, or the owner's CLOSE). Nothing is assumed of the
// store but atomic create-if-absent and reads of one key that see it: no listing, no clock, no bound on how long a
// request takes, requests may be applied late or twice, processes may pause for ever. Package wal/model checks the
// rules below exhaustively for small bounds. Comments and tests cite them by name.
//
// # The writer
//
//   - W1 Each start of a process is a new life with a new nonce: its keys are nobody else's, ever.
//   - W2 A slot's bytes are fixed before the first attempt and never change. Its offsets are issued nowhere else, and
//     no slot is skipped.
//   - W3 At most K slots are unresolved: a slot is sent only if it is less than K behind the first unresolved one.
//   - W4 A PUT is done, ours by reading what is there, foreign, or unknown. What is unknown is sent again, the same
//     bytes under the same key.
//   - W5 A slot is committed when it and all before it are resolved as ours. Only committed data is acknowledged, read,
//     counted, or used to answer a producer.
//   - W6 A foreign object in a slot fences the life: it stops, and what is above the last committed slot is answered
//     "not leader". What was acknowledged stays so.
//   - W7 A slot that stays unresolved is tried for ever, and the log counts as stalled: what is admitted meanwhile is
//     bounded by a budget (docs/decisions/0003).
//   - W8 A life that stops writes CLOSE behind its last slot and marks its log as sealed: the next start has no scan.
//
// # The sealer
//
//   - S1 Suspicion that a life is dead is no part of safety.
//   - S2 One transaction moves the log from OPEN to SEALING and reads its trim. Who finds SEALING joins, who finds
//     SEALED adopts. SEALING is never undone.
//   - S3 From the trim on, slots are judged in order: data is added to the log if its identity, checksums and the digest
//     of the slot before are right; an end ends the walk; absent: S4. Anything else needs a person and is never a hole.
//   - S4 An absent slot is claimed by creating a Seal in it. If something is there by now, it is judged (S3). Any Seal
//     counts, whoever wrote it. A slot MaxWindow or more behind an absent one cannot be (W3): the log has lost an object,
//     which is reported and never claimed.
//   - S5 The recovery object, created if absent, is the decision; who finds one adopts it. A claim alone decides
//     nothing: a sealer that slept through S6 and G2 would win one on a deleted slot.
//   - S6 One transaction moves SEALING to SEALED with the end; who loses adopts.
//   - S7 Ownership of partitions moves only after SEALED.
//
// # Trim and deletion
//
//   - G1 Trim rises in a transaction that compares the phase: while OPEN, or SEALED and not over the end; and only when
//     every record below it is in accepted manifests.
//   - G2 Only slots below the trim may be deleted, and, once SEALED, those above the end.
//   - G3 A Seal or CLOSE is never deleted: a late PUT would succeed in its place.
//   - G4 Slots that a late duplicate creates below the trim, or that lie above an end, are garbage and never read.
//   - G5 Deletion names exact keys.
//
// # Why it is safe
//
//   - L1 While SEALING no trim rises, so no slot at or above it is deleted. Every sealer walks from there in order, slots
//     are write-once, and a Seal is created only where all before is data: all sealers find the same end.
//   - L2 An acknowledged slot and all before it hold data of the life, so no Seal is among them: the end is above it.
//   - L3 The slot at the end holds an end for ever (G3), so the writer never resolves it as its own and commits nothing
//     at or above it.
//
// Ownership of partitions is agreed in metadata: O1, an append to a partition goes into the log of the life that its
// record names; O2, the record changes owner by a transaction of the owner or after the owner's log is SEALED.
package wal
