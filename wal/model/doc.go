// Package model checks the write-ahead log protocol by visiting every reachable state of a small instance of it.
//
// One life's log is modelled with up to eight slot positions, one writer, one or two sealers, a compactor with its garbage
// collector, and a network that delays every PUT for as long as it likes and may deliver it twice. The search is
// breadth-first, so a counterexample is a shortest one. No clock, no LIST order and no bound on delay is assumed.
//
// # State
//
//   - the bucket: each slot is absent, Data of this life, or Seal; deleting makes it absent again;
//   - data PUTs and claims (PUT Seal) in flight; they survive the crash of whoever sent them;
//   - the writer: next slot, slots resolved as its own, and answers that have reached it but that it has not looked at;
//   - the registry: OPEN, SEALING or SEALED{n}, and the trim; each change of it is one transaction;
//   - the recovery object: absent or {n, slots of the log};
//   - each sealer: where it walks, what it kept, its claims in flight, and the answer to the last one.
//
// # Actions
//
//   - writer: send the next slot within the window K (W3); take a 200 as its own (W4), which acknowledges by prefix (W5) or,
//     in some variants, at once; after a 412 read the slot (W4); stop when it holds a Seal (W6); crash; give a slot up (variant 11);
//   - network: apply a PUT that is in flight (create-if-absent), or put another copy of a sent one in flight: this stands for
//     re-PUTs, hedges, requests applied twice and requests applied long after the sender gave up or died;
//   - sealer: begin or join (S2), read one slot (S3), claim the hole (S4), write or adopt the recovery object (S5), finish or
//     adopt (S6); crash, that is forget everything and be ready to begin anew;
//   - compactor: raise the trim by one over Data (G1); collector: delete a slot below the trim, or an orphan above n (G2).
//
// A process that pauses for ever needs no action of its own: every interleaving in which it takes no further step is visited.
// Reads of one slot happen at an instant, but what is done about them happens later, so every stale read is covered.
// A lost request needs no action either: it is one that stays in flight.
//
// # Invariants
//
//   - acknowledged slots are in the log once the stream is SEALED, and none above n is acknowledged later (L2, L3);
//   - every sealer arrives at the same n and the same slots (L1);
//   - the log has no holes: a slot of it that is not trimmed is readable; n is never below the trim;
//   - no batch is in the log twice (W2);
//   - availability: the writer never takes its own slot for a foreign one (variant 10).
//
// The rules are those of package wal. Every variant, right or wrong, is a test case with its number: 0 to 11 are what the
// protocol could have been, 12 to 15 what it is, 16 what S5 is for, F1 to F3 a later option (a seal that fills holes).
package model
