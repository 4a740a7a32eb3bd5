// Package bench measures a whole broker over loopback: go test -bench . ./bench. The client shares the process, so its
// cost is in the figures; compare runs of one machine with each other, not with other brokers.
package bench
