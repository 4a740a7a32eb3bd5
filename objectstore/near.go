package objectstore

// A NearStore is a Store whose reads cost the processor's time more than waiting, such as a folder, which the system caches and reads ahead
// of. To cache it once more, or read ahead of its user in other threads, costs more than it wins: what one core loads another one sends.
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
