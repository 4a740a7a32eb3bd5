package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// A Tool is a server that a module below internal/tools pins.
type Tool struct {
	Name    string // of the binary
	Package string // its main package
	Module  string // that has the package
	Folder  string // of the pinning go.mod, below internal/tools; "" for internal/tools itself
}

// Etcd and MinIO are the agreed state and the object store of a real cluster.
var (
	Etcd  = Tool{Name: "etcd", Package: "go.etcd.io/etcd/server/v3", Module: "go.etcd.io/etcd/server/v3", Folder: "etcd"}
	MinIO = Tool{Name: "minio", Package: "github.com/minio/minio", Module: "github.com/minio/minio"}
)

// Build returns the path of the tool's binary, building it if it is not in the user's cache. A file lock makes other processes
// wait for the first one's. The working folder must be in the repository.
func (tool Tool) Build() (binary string, err error) {
	tools, err := toolsFolder()
	if err != nil {
		return "", err
	}
	tools = filepath.Join(tools, tool.Folder)
	version, err := pinned(filepath.Join(tools, "go.mod"), tool.Module)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, "tidemill-tools")
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return "", err
	}
	binary = filepath.Join(folder, tool.Name+"-"+version)
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	unlock, err := lock(binary + ".lock")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	partial := binary + ".partial"
	cmd := exec.Command("go", "build", "-o", partial, tool.Package)
	cmd.Dir = tools
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly -buildvcs=false", "GOWORK=off")
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", tool.Package, err, output)
	}
	return binary, os.Rename(partial, binary) // so that a name always stands for a whole binary
}

// toolsFolder finds internal/tools from the working folder, which is somewhere in the repository.
func toolsFolder() (string, error) {
	at, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for folder := at; ; folder = filepath.Dir(folder) {
		tools := filepath.Join(folder, "internal", "tools")
		if _, err := os.Stat(filepath.Join(tools, "go.mod")); err == nil {
			return tools, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if folder == filepath.Dir(folder) {
			return "", fmt.Errorf("no internal/tools above %s", at)
		}
	}
}

// pinned returns the version of a module in a go.mod file.
func pinned(file, module string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) >= 2 && fields[0] == module && strings.HasPrefix(fields[1], "v") {
			return fields[1], nil
		}
	}
	return "", fmt.Errorf("%s does not require %s", file, module)
}

func lock(file string) (unlock func() error, err error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", file, err), f.Close())
	}
	return f.Close, nil // which unlocks
}
