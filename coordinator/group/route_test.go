package group

import "testing"

// The values were computed apart from this code, by the definition of Java's String.hashCode.
func TestShardOf(t *testing.T) {
	tests := map[string]int32{
		"": 0, "hello": 22, "connect-cluster": 13, "grüße": 23, "😀 group": 6,
		"polygenelubricants": 0, // its hash is the smallest int, which has no absolute value
	}
	for group, want := range tests {
		if got := ShardOf(group, 50); got != want {
			t.Errorf("ShardOf(%q) = %d, want %d", group, got, want)
		}
	}
}
