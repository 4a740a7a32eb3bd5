package partition

// Faults are mistakes that simulations must find. Production code never sets them.
type Faults struct {
	// MoveUndrained hands partitions over while slots with their records are on their way.
	MoveUndrained bool
	// AppendWhileMoving admits appends while a partition is handed over.
	AppendWhileMoving bool
	// ForgetProducers opens partitions without what is known of their producers.
	ForgetProducers bool
	// SameEpoch opens partitions that others owned without raising the leader epoch.
	SameEpoch bool
	// SweepBlind leaves out of sweeps what the manifests of partitions refer to that have a log here, whoever owns them.
	SweepBlind bool
}
