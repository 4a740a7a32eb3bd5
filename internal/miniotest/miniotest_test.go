package miniotest

import (
	"net/http"
	"testing"
)

// TestServer: whatever is done to the server, it serves on the same address afterwards, or not at all.
func TestServer(t *testing.T) {
	s := Start(t)
	answers := func() bool {
		response, err := http.Get(s.Endpoint + "/minio/health/live")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	}
	s.Pause()
	s.Resume()
	if !answers() {
		t.Error("no answer after a pause")
	}
	s.Restart()
	if !answers() {
		t.Error("no answer after a restart")
	}
	s.Stop()
	s.Stop()
	if answers() {
		t.Error("a stopped server answers")
	}
}
