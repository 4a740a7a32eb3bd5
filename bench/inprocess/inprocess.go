// Package inprocess measures a whole broker over loopback: go test -bench . ./inprocess. The client shares the process, so its
// cost is in the figures; it is for profiles and for comparing two trees, package scenario for all else.
package inprocess
