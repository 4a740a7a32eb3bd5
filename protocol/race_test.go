//go:build race

package protocol

// raceFactor is how much more memory the race detector takes.
const raceFactor = 2
