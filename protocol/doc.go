// Package protocol turns frames into requests and responses into frames, and says which requests are served.
//
// Invariants: nothing is decoded before Guard has checked every claimed length against the bytes that remain (D10), so
// cost and memory are linear in the bytes received. The table of keys in api.go is the only list of what is served:
// ApiVersions, the README and the server all read it.
package protocol
