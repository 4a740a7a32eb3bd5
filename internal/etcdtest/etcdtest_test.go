package etcdtest

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestServer: what was written stays when the process is killed and started again.
func TestServer(t *testing.T) {
	s := Start(t)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{s.Address}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Put(t.Context(), "key", "value"); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	s.Resume()
	s.Restart()
	got, err := client.Get(t.Context(), "key")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "value" {
		t.Errorf("got %v, error %v", got, err)
	}
}
