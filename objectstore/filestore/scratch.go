package filestore

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	// scratchName holds the temporary files. No key maps to it, because a leading dot is escaped.
	scratchName = ".tmp"
	lockSuffix  = ".lock"
)

// A scratch is one process's folder of temporary files, beside a lock file that tells others it is alive.
type scratch struct {
	folder string
	lock   *os.File
}

// openScratch makes a new folder in parent and removes those whose processes have ended.
func openScratch(parent string) (*scratch, error) {
	if err := os.Mkdir(parent, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	s := &scratch{folder: filepath.Join(parent, rand.Text())}
	// The lock is taken before it gets its name, and the folder comes after it: a cleaner never meets either unlocked.
	lock, err := os.CreateTemp(parent, "new-*")
	if err != nil {
		return nil, err
	}
	s.lock = lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock: %w", err), lock.Close(), os.Remove(lock.Name()))
	}
	if err := os.Rename(lock.Name(), s.folder+lockSuffix); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if err := os.Mkdir(s.folder, 0o777); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if err := sweep(parent); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// sweep removes the folders of ended processes. Losing a race for one to another process is fine.
func sweep(parent string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		folder, isLock := strings.CutSuffix(filepath.Join(parent, entry.Name()), lockSuffix)
		if !isLock {
			continue
		}
		if err := sweepOne(folder); err != nil && !absent(err) {
			return fmt.Errorf("remove what a crash left: %w", err)
		}
	}
	return nil
}

func sweepOne(folder string) error {
	lock, err := os.Open(folder + lockSuffix)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil // alive
		}
		return err
	}
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	return os.Remove(folder + lockSuffix)
}

func (s *scratch) close() error {
	if s.lock == nil {
		return nil
	}
	err := errors.Join(os.RemoveAll(s.folder), os.Remove(s.folder+lockSuffix), s.lock.Close())
	s.lock = nil
	return err
}
