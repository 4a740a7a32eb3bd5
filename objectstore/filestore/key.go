package filestore

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Keys become paths: "/" separates folders, the file gets objSuffix. Escaping makes the mapping one to one, also where
// case does not count: lower-case letters, digits, "_", "-" and inner dots stay, every other byte becomes %xx, and so
// does the dot of a folder's name ending in objSuffix, so that no folder is named like an object. "%" is an empty part.
const (
	objSuffix = ".obj"
	emptyPart = "%"
	nameMax   = 255 // of one file name, in bytes, on the file systems in use
	hexDigits = "0123456789abcdef"
)

var errKey = errors.New("not usable as an object key")

// file returns the path of key's file.
func (s *Store) file(key string) (string, error) {
	rel, err := keyToPath(key)
	if err != nil {
		return "", err
	}
	return filepath.Join(s.root, filepath.FromSlash(rel)), nil
}

// keyToPath returns key's slash-separated path below the root.
func keyToPath(key string) (string, error) {
	if key == "" {
		return "", fmt.Errorf("%q: %w: empty", key, errKey)
	}
	var b strings.Builder
	b.Grow(len(key) + len(objSuffix))
	for rest, more := key, true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		begin := b.Len()
		escapePart(&b, part, more)
		if more {
			b.WriteByte('/')
		} else {
			b.WriteString(objSuffix)
		}
		if b.Len()-begin > nameMax {
			return "", fmt.Errorf("%q: %w: a part is too long for a file name", key, errKey)
		}
	}
	return b.String(), nil
}

func escapePart(b *strings.Builder, part string, folder bool) {
	if part == "" {
		b.WriteString(emptyPart)
		return
	}
	objDot := -1
	if folder && strings.HasSuffix(part, objSuffix) {
		objDot = len(part) - len(objSuffix)
	}
	for i := range len(part) {
		c := part[i]
		plain := c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' && i > 0 && i != objDot
		if plain {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
}

// unescapePart returns the part of a key that a file or folder name stands for, without objSuffix; false for a name
// that escapePart does not make.
func unescapePart(name string, folder bool) (string, bool) {
	if name == emptyPart {
		return "", true
	}
	var part strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] != '%' {
			part.WriteByte(name[i])
			continue
		}
		if i+2 >= len(name) {
			return "", false
		}
		high, low := strings.IndexByte(hexDigits, name[i+1]), strings.IndexByte(hexDigits, name[i+2])
		if high < 0 || low < 0 {
			return "", false
		}
		part.WriteByte(byte(high<<4 | low))
		i += 2
	}
	// One name for one key: what would be written otherwise was not written by us.
	var again strings.Builder
	escapePart(&again, part.String(), folder)
	return part.String(), again.String() == name
}
