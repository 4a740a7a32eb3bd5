package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tidemill/tidemill/objectstore"
)

// makeRoot creates root and its parents durably.
func (s *Store) makeRoot() error {
	missing := []string{}
	for folder := s.root; ; folder = filepath.Dir(folder) {
		info, err := os.Stat(folder)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("%w: %s is not a folder", objectstore.ErrNoBucket, folder)
		}
		if err == nil {
			break
		}
		if !absent(err) {
			return err
		}
		missing = append(missing, folder)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		if err := s.makeFolder(missing[i]); err != nil {
			return err
		}
	}
	return nil
}

// ensureFolder makes folder, which is root or below it, exist durably.
func (s *Store) ensureFolder(folder string) error {
	s.mu.Lock()
	_, known := s.folders[folder]
	s.mu.Unlock()
	if known {
		return nil
	}
	if folder == s.root {
		// The root is made at Open alone: one that has gone since was unmounted or removed, and a new one in its
		// place would hide that.
		if _, err := os.Stat(folder); err != nil {
			return classify(err)
		}
		return nil
	}
	if err := s.ensureFolder(filepath.Dir(folder)); err != nil {
		return err
	}
	if err := s.makeFolder(folder); err != nil {
		return classify(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.folders) >= foldersMax {
		clear(s.folders)
	}
	s.folders[folder] = struct{}{}
	return nil
}

// makeFolder creates one folder. It syncs the parent also when the folder exists: who made it may not have got there.
func (s *Store) makeFolder(folder string) error {
	if err := os.Mkdir(folder, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return s.syncFolder(filepath.Dir(folder))
}

// forget drops folder and all above it, so that the next Put makes them again.
func (s *Store) forget(folder string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; len(folder) > len(s.root); folder = filepath.Dir(folder) {
		delete(s.folders, folder)
	}
}

// syncFolder makes the names in folder durable.
func (s *Store) syncFolder(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return fmt.Errorf("%w: %w", objectstore.ErrAmbiguous, err)
	}
	defer f.Close()
	if err := s.sync(f); err != nil {
		return s.fail(err)
	}
	return nil
}
