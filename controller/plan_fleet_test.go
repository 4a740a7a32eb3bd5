package controller

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestVectorsAddExactly: loads are bounded to what float64 adds without rounding, so that plans do not depend on an order.
func TestVectorsAddExactly(t *testing.T) {
	loads := []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 0.1, math.MaxFloat64}
	for range 1000 {
		loads = append(loads, rand.ExpFloat64()*1e6)
	}
	var want vector
	for range 10 {
		var got vector
		for _, i := range rand.Perm(len(loads)) {
			p := Partition{Load: Load{loads[i], loads[i]}}
			got.plus(p.vector())
		}
		if want[count] != 0 && got != want {
			t.Fatalf("in another order: %v then %v", want, got)
		}
		want = got
	}
	if want[bytesPerSecond] < 2*loadMax || want[bytesPerSecond] > 3*loadMax {
		t.Errorf("sum %v, want two of %v and what 1000 ordinary loads come to", want[bytesPerSecond], loadMax)
	}
}
