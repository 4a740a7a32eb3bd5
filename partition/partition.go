// Package partition is one partition on its owner: it sequences record batches, remembers producers, serves reads and long polls, and
// rewrites it into segments, keeps it as its policy wants, and writes manifests from which a later owner opens it.
//
// A [Set] holds the logs of one broker life. Batches go from [Log.Append] to the write-ahead log in the critical section that
// assigns their offsets, so offset order is log order. What the write-ahead log reports as committed, slot by slot, moves high
// watermarks, answers producers and wakes long polls.
//
// Invariants:
//   - The high watermark only moves in [Set.Committed], by whole chunks; nothing above it is read, answered or put in a manifest (W5).
//   - A chunk continues its partition exactly where the chunk before ended. One that does not stops the partition.
//   - A manifest describes one partition at one committed moment: its producers, extents and end offset agree.
//   - Trim passes a slot only when every record in it is in a manifest that metadata has accepted (G1).
//   - Parts and the extents behind them cover a log without holes. A rewrite conserves the sum of its batches' hashes.
//   - An object is doomed only when no manifest that metadata may hold refers to it, and none can come to.
//
// Lock order: Set.rewrites and then Set.ckpt (tokens, held across I/O), then Set.mu, then Log.mu, then any of tailCache.mu, blockCache.mu, dirtyList.mu,
// lifeTable.mu, objectTable.mu. No I/O, channel wait or callback happens under a lock, except the memory-only WAL.Append under Log.mu.
package partition
