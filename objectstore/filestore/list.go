package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/objectstore"
)

// List implements objectstore.Store. It reads each folder once, when it gets there.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[objectstore.Info, error] {
	return func(yield func(objectstore.Info, error) bool) {
		w := walk{ctx: ctx, prefix: prefix, after: after, yield: yield}
		if err := w.folder(s.root, ""); err != nil && !errors.Is(err, errStop) {
			yield(objectstore.Info{}, fmt.Errorf("list %s: %w", prefix, err))
		}
	}
}

var errStop = errors.New("the caller has seen enough")

type walk struct {
	ctx           context.Context
	prefix, after string
	yield         func(objectstore.Info, error) bool
}

// A listed is a file or folder of the folder being walked. Keys below a folder begin with its key, which ends in "/";
// no other entry's keys do, so the order of these keys is the order of all keys below.
type listed struct {
	key   string
	entry fs.DirEntry
}

func (w *walk) folder(path, key string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	var wanted []listed
	for _, entry := range entries {
		if l, ok := w.wants(key, entry); ok {
			wanted = append(wanted, l)
		}
	}
	slices.SortFunc(wanted, func(a, b listed) int { return strings.Compare(a.key, b.key) })
	for _, l := range wanted {
		if l.entry.IsDir() {
			err = w.folder(filepath.Join(path, l.entry.Name()), l.key)
		} else {
			err = w.object(l)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// wants returns what an entry below key stands for if keys that are asked for can be there.
func (w *walk) wants(key string, entry fs.DirEntry) (listed, bool) {
	if entry.IsDir() {
		part, ok := unescapePart(entry.Name(), true)
		key += part + "/"
		ok = ok && (strings.HasPrefix(key, w.prefix) || strings.HasPrefix(w.prefix, key))
		return listed{key, entry}, ok && (key > w.after || strings.HasPrefix(w.after, key))
	}
	name, isObject := strings.CutSuffix(entry.Name(), objSuffix)
	part, ok := unescapePart(name, false)
	key += part
	return listed{key, entry}, ok && isObject && strings.HasPrefix(key, w.prefix) && key > w.after
}

func (w *walk) object(l listed) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	info, err := l.entry.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted since the folder was read
	}
	if err != nil {
		return err
	}
	if !w.yield(objectstore.Info{Key: l.key, Size: info.Size(), Modified: info.ModTime()}, nil) {
		return errStop
	}
	return nil
}
