package main

import "testing"

func TestMemoryLimit(t *testing.T) {
	for budget, want := range map[int64]int64{64 << 20: 64<<20/5*4 + 64<<20, 1 << 30: 1<<30 - 40<<20, 4 << 30: 4<<30 - 40<<20} {
		if got := memoryLimit(budget); got != want {
			t.Errorf("budget %d: limit %d, want %d", budget, got, want)
		}
	}
}
