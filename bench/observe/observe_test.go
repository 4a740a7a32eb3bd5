package observe

import (
	"os"
	"testing"
	"time"
)

// TestProcess burns time until it shows.
func TestProcess(t *testing.T) {
	before, err := Process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for deadline, n := time.Now().Add(time.Minute), 0; ; n++ {
		after, err := Process(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if after.CPU() >= before.CPU()+5*tick {
			if after.RSS <= 0 || after.PeakRSS < after.RSS {
				t.Errorf("usage %+v", after)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no CPU time after %d looks: %+v", n, after)
		}
	}
}
