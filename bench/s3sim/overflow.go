package s3sim

import (
	"os"
	"sync"
)

// overflow is a file without a name for what memory has no room for. What is deleted keeps its place until the process ends.
type overflow struct {
	mu   sync.Mutex
	file *os.File
	end  int64
}

// add writes body and returns where.
func (o *overflow) add(body []byte) (pos int64, err error) {
	if pos, err = o.reserve(int64(len(body))); err != nil {
		return 0, err
	}
	_, err = o.file.WriteAt(body, pos)
	return pos, err
}

func (o *overflow) reserve(n int64) (pos int64, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file == nil {
		file, err := os.CreateTemp("", "s3sim-")
		if err != nil {
			return 0, err
		}
		if err := os.Remove(file.Name()); err != nil {
			return 0, err
		}
		o.file = file
	}
	pos = o.end
	o.end += n
	return pos, nil
}

func (o *overflow) read(p []byte, pos int64) error {
	_, err := o.file.ReadAt(p, pos)
	return err
}
