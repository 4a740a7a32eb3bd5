// Package sim is a seeded simulation of a cluster: brokers that give partitions to each other, end each other's logs and take over what
// was left, while the bucket and etcd answer late, twice, falsely or not at all, and every process may stop for a while or for good, or
// be cut off from etcd just behind a move. It has no code but tests. One seed is one run, whatever the machine does; a run that breaks a rule names its seed.
//
// # What is real
//
//   - partition: the whole Set with its checkpoints, upkeep and sweeps: appends, HandOver, Adopt, Open and Claimed, reads.
//   - wal: Writer and Seal with all they start.
//   - controller: what a plan is.
//
// They run as they are, with their goroutines, in a synctest bubble with a clock of its own. Whatever they ask of the bucket or of etcd
// becomes an event of the world, which performs one event at a time and lets everybody run until all wait: see world and clock.
//
// # What is a model
//
//   - The bucket, and etcd as keys with revisions. The transactions of package metadata are written once more, each with the same reads
//     and comparisons: see agreed. Images come late, or very late where a watch was lost.
//   - What package broker does with partitions (keepOwnership, claim, the start, fencing, the proof of freshness): see node.
//   - When a controller takes a life for dead: that is drawn, since nothing may rest on it (S1).
//   - Clients: idempotent producers that send again, in order, whatever was not acknowledged; readers that follow leader epochs.
//
// # What must hold
//
// What is acknowledged is in every later log of its partition, once, at its offset, by one life (O1, O2), unless somebody deleted it, its
// topic keeps less, or a newer record has its key. A log start that was told does not go back, nor does a reader's high watermark. Leader
// epochs rise by one and are one life's; a batch that is sent again is not stored again; logs have no holes. No object is deleted that a
// manifest or a sealer needs (G1-G3), and what ended lives left that nothing needs goes (G4). No answer that promises freshness is older
// than its proof allows. Once the faults have ended everything is served and acknowledged. See truth.
//
// Mistakes, each of which must be found within a budget of seeds, show that the simulation looks where it hurts.
package sim
