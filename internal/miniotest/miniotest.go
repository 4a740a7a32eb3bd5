// Package miniotest runs a real S3 service, MinIO, on loopback for tests.
package miniotest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tidemill/tidemill/internal/process"
	"github.com/tidemill/tidemill/internal/proctest"
)

// A Server is a running MinIO with one empty bucket, which its Stop, Restart and Pause keep.
type Server struct {
	*proctest.Server
	Endpoint  string // http://127.0.0.1:<port>
	AccessKey string
	SecretKey string
	Bucket    string
}

// Start builds MinIO if this machine has not yet, and starts it. The test's cleanup stops it.
func Start(t testing.TB) *Server {
	t.Helper()
	binary := proctest.Build(t, process.MinIO)
	address, data := proctest.FreeAddress(t), t.TempDir()
	s := &Server{Endpoint: "http://" + address, AccessKey: "tidemill", SecretKey: "tidemill-secret", Bucket: "tidemill-test"}
	// A folder of the data folder is a bucket.
	if err := os.Mkdir(filepath.Join(data, s.Bucket), 0o777); err != nil {
		t.Fatalf("make bucket: %v", err)
	}
	s.Server = proctest.Start(t, process.Command{
		Name: "minio",
		Argv: []string{binary, "server", "--quiet", "--address", address, "--console-address", "127.0.0.1:0", data},
		Env: []string{
			"MINIO_ROOT_USER=" + s.AccessKey, "MINIO_ROOT_PASSWORD=" + s.SecretKey, "MINIO_BROWSER=off", "MINIO_UPDATE=off",
			"MINIO_CALLHOME_ENABLE=off", "MINIO_CI_CD=1", "HOME=" + data, "MINIO_CONFIG_DIR=" + filepath.Join(data, ".config"),
		},
		Health: s.Endpoint + "/minio/health/cluster", // live is said before requests are served
	})
	return s
}
