//go:build race

package server

// raceFactor is how much more memory the race detector takes.
const raceFactor = 2
