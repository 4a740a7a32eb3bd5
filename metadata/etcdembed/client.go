package etcdembed

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrNoData means that no etcd ever ran on the folder.
var ErrNoData = errors.New("etcdembed: no data in the folder")

// Exists returns ErrNoData unless an etcd has run on dir. It creates nothing, as Start would.
func Exists(dir string) error {
	_, err := os.Stat(filepath.Join(dir, finishedName))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrNoData, dir)
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	return nil
}

// Endpoint returns the client address of the server that another process runs on dir. Where dir's path is too long for a socket the
// server has a private folder elsewhere, which nobody can find.
func Endpoint(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("socket in %s: %w", dir, err)
	}
	p := filepath.Join(abs, socketName)
	if len(p) > socketPathMax {
		return "", fmt.Errorf("the path of %s is too long for the socket of the etcd that runs on it", abs)
	}
	return "unix://" + p, nil
}
