package objectstore

// A NearStore is a Store whose reads cost the processor's time and hardly any waiting, such as a folder, which the system caches and reads
// ahead of. To read ahead of its user once more, and by other threads than his, moves bytes from one core's cache to another's for nothing.
type NearStore interface {
	Store
	// Near reports whether the store is one: a wrapper answers for what it wraps.
	Near() bool
}

// Near reports whether s is a NearStore.
func Near(s Store) bool {
	n, ok := s.(NearStore)
	return ok && n.Near()
}
