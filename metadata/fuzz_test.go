package metadata

import (
	"encoding/json"
	"testing"
)

// FuzzClusterObject: a bucket's cluster.json is this cluster's, or the bucket is refused.
func FuzzClusterObject(f *testing.F) {
	const id = "c4yJuXC9wwbGSEJOxVzW0A"
	f.Add([]byte(`{"format":"tidemill-cluster","version":1,"cluster_id":"` + id + `"}`))
	f.Add([]byte(`{"format":"tidemill-cluster","version":2,"cluster_id":"` + id + `"}`))
	f.Add([]byte(`{"format":"tidemill-cluster","version":1,"cluster_id":""}`))
	f.Add([]byte(`[]`))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		if checkGuard(body, id) != nil {
			return
		}
		var g guardObject
		if err := json.Unmarshal(body, &g); err != nil || g.ClusterID != id || g.Version != 1 {
			t.Errorf("%q passes as cluster %s: %+v, %v", body, id, g, err)
		}
	})
}
