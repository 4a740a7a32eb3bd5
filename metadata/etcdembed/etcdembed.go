// Package etcdembed runs a single-node etcd inside the process, on a folder of its own, reachable by local clients only.
package etcdembed
