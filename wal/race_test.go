//go:build race

package wal

// raceEnabled: the race detector slows simulations down tenfold.
const raceEnabled = true
