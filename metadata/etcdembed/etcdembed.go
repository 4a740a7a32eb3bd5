// Package etcdembed runs a single-node etcd inside the process, on a folder of its own, reachable by local clients only.
//
// Invariants: one process at a time holds a folder; every write is fsynced; clients connect through a unix socket that
// only the same user can open, so no port is taken and no other local user can touch the metadata.
package etcdembed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Outcomes on which callers act differently. Test with errors.Is.
var (
	// ErrInUse: another process runs on the folder. Stop it or use another folder.
	ErrInUse = errors.New("etcdembed: folder in use by another process")
	// ErrNotWritable: the folder cannot be created or written. Mend its permissions or the disk.
	ErrNotWritable = errors.New("etcdembed: folder not writable")
)

const (
	// tickMs and electionMs are as small as a busy two-core machine bears: a lone node has nobody to lose an election to,
	// so they only bound how long a start waits (one to two election timeouts).
	tickMs     = 10
	electionMs = 50
	// quotaBytes is etcd's default, some million partitions; reaching it makes etcd read-only instead of unbounded.
	quotaBytes = 2 << 30
	// socketPathMax is what fits sockaddr_un on Linux (108) and macOS (104) with its final zero.
	socketPathMax = 100
	lockName      = "tidemill.lock"
	// finishedName marks a folder whose first start was completed.
	finishedName = "tidemill.ready"
	socketName   = "etcd.sock"
)

// A Server is a running etcd.
type Server struct {
	endpoints []string
	etcd      *embed.Etcd
	lock      *fileutil.LockedFile
	socketDir string // removed at Close when not empty
	close     sync.Once
	closing   atomic.Bool // etcd's words about its own end are not passed on
}

// Start runs etcd on dir, which is created if absent, and returns when it serves. log receives etcd's errors; nil
// discards them. When ctx ends first, Start stops what it started.
func Start(ctx context.Context, dir string, log *slog.Logger) (*Server, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{}
	if err := s.prepare(dir); err != nil {
		return nil, err
	}
	socket, err := s.socketPath(dir)
	if err == nil {
		err = setAsideUnfinished(dir)
	}
	if err != nil {
		s.release()
		return nil, err
	}
	s.etcd, err = embed.StartEtcd(configure(dir, socket, &forwarder{log: log, closing: &s.closing}))
	if err != nil {
		s.release()
		return nil, fmt.Errorf("start etcd in %s: %w", dir, err)
	}
	select {
	case <-s.etcd.Server.ReadyNotify():
	case err = <-s.etcd.Err():
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("start etcd in %s: %w", dir, err)
	}
	if err := markFinished(dir); err != nil {
		s.Close()
		return nil, err
	}
	s.endpoints = []string{"unix://" + socket}
	return s, nil
}

// Endpoints returns the addresses for clients.
func (s *Server) Endpoints() []string { return s.endpoints }

// Err yields an error when etcd can no longer serve; the process should end then.
func (s *Server) Err() <-chan error { return s.etcd.Err() }

// Close stops etcd and waits for it. It may be called more than once. Close clients first: they would only retry.
func (s *Server) Close() {
	s.close.Do(func() {
		s.closing.Store(true)
		if s.etcd != nil {
			// The raft node goes first: it ends the watch streams on which a graceful stop of the listeners waits for seconds.
			s.etcd.Server.HardStop()
			s.etcd.Close()
		}
		s.release()
	})
}

// prepare makes the folder and takes our own lock: etcd's own waits for seconds on a folder in use.
func (s *Server) prepare(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("%w: %w", ErrNotWritable, err)
	}
	lock, err := fileutil.TryLockFile(filepath.Join(dir, lockName), os.O_WRONLY|os.O_CREATE, 0o600)
	switch {
	case errors.Is(err, fileutil.ErrLocked):
		return fmt.Errorf("%w: %s", ErrInUse, dir)
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: %w", ErrNotWritable, err)
	case err != nil:
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	s.lock = lock
	return nil
}

// socketPath chooses a place for the socket: in dir, or in a private temporary folder when dir's path is too long.
func (s *Server) socketPath(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("socket in %s: %w", dir, err)
	}
	if p := filepath.Join(abs, socketName); len(p) <= socketPathMax {
		return p, nil
	}
	if s.socketDir, err = os.MkdirTemp("", "tidemill-"); err != nil {
		return "", fmt.Errorf("socket folder: %w", err)
	}
	return filepath.Join(s.socketDir, socketName), nil
}

func (s *Server) release() {
	if s.socketDir != "" {
		// A left-over empty folder in the temporary space harms nobody.
		_ = os.RemoveAll(s.socketDir)
	}
	// Closing the file releases the lock whatever Close returns.
	_ = s.lock.Close()
}

func configure(dir, socket string, log *forwarder) *embed.Config {
	at := url.URL{Scheme: "unix", Path: socket}
	// A lone member needs no peer listener; the address is only its name in the member list.
	peer := url.URL{Scheme: "http", Host: "localhost:2380"}
	c := embed.NewConfig()
	c.Name = "tidemill"
	c.Dir = dir
	c.ListenPeerUrls = nil
	c.AdvertisePeerUrls = []url.URL{peer}
	c.ListenClientUrls = []url.URL{at}
	c.AdvertiseClientUrls = []url.URL{at}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.TickMs = tickMs
	c.ElectionMs = electionMs
	c.QuotaBackendBytes = quotaBytes
	c.AutoCompactionMode = embed.CompactorModePeriodic
	c.AutoCompactionRetention = (10 * time.Minute).String()
	c.EnableGRPCGateway = false
	c.SnapshotCount = 10_000
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(log))
	return c
}

// setAsideUnfinished renames the data of a first start that was interrupted. etcd killed before its member list is on
// disk never elects a leader again, and nobody can have written to it because Start had not returned.
func setAsideUnfinished(dir string) error {
	member := filepath.Join(dir, "member")
	if _, err := os.Stat(filepath.Join(dir, finishedName)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(member); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	aside := fmt.Sprintf("%s.unfinished-%d", member, time.Now().UnixNano())
	if err := os.Rename(member, aside); err != nil {
		return fmt.Errorf("set aside an unfinished start: %w", err)
	}
	return nil
}

// markFinished records durably that the folder may hold data from now on.
func markFinished(dir string) error {
	path := filepath.Join(dir, finishedName)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("mark %s as started: %w", dir, err)
	}
	if err := errors.Join(f.Sync(), f.Close(), syncDir(dir)); err != nil {
		return fmt.Errorf("mark %s as started: %w", dir, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
